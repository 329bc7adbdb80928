"""The doctor on tables, indexes and vacuum: each state is made, told with its remedy, and no longer told after it."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

import psycopg
import pytest
from psycopg import Connection
from sqlalchemy import create_engine, text

from dispatcher.cli import doctor_upkeep
from dispatcher.cli.doctor import Check, Grade
from dispatcher.cli.doctor_upkeep import (
    judge_ages,
    judge_autovacuum,
    judge_bloat,
    judge_slots,
    judge_transactions,
    upkeep_checks,
)
from dispatcher.config.urls import normal_database_url
from dispatcher.store import upkeep
from dispatcher.store.rights import Part
from dispatcher.store.upkeep import LongTransaction, PreparedTransaction, ReplicationSlot, Space, TableUpkeep
from tests.support.databases import Databases
from tests.support.logins import Installation, installation
from tests.support.waiting import wait_until

ALWAYS_SAID: Final = {"Bloat", "Transactions"}

LEADS: Final = """
INSERT INTO dispatcher.leads (id, account, campaign_id, phone_number, state, due_at, payload_hash, allow_dupplicate)
SELECT gen_random_uuid(), 'default', 42, '+12025550' || 100 + n % 100, 'pending', now(), 'h', true
FROM generate_series(1, 3000) AS n
"""


@pytest.fixture
def server(database_url: str) -> Iterator[Connection[Any]]:
    """A session that may do everything."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection


def told(url: str) -> list[Check]:
    """What the doctor says to this login."""
    engine = create_engine(normal_database_url(url))
    try:
        with engine.connect() as connection:
            return list(upkeep_checks(connection))
    finally:
        engine.dispose()


def faults(url: str, name: str | None = None) -> list[Check]:
    """What is not in order."""
    return [check for check in told(url) if check.verdict is not Grade.GOOD and name in {None, check.name}]


def test_of_a_healthy_database_there_is_nothing_to_say(database_url: str, server: Connection[Any]) -> None:
    server.execute(LEADS)
    server.execute("ANALYZE")
    checks = told(database_url)

    assert {check.name for check in checks} == ALWAYS_SAID
    assert all(check.verdict is Grade.GOOD and not check.advice for check in checks)


@pytest.mark.parametrize("option", ["autovacuum_enabled", "toast.autovacuum_enabled"])
@pytest.mark.parametrize("value", ["off", "false", "0"])
def test_a_table_that_is_not_vacuumed_is_told(
    database_url: str, server: Connection[Any], option: str, value: str
) -> None:
    server.execute(f"ALTER TABLE dispatcher.leads SET ({option} = {value})")
    (check,) = faults(database_url)

    assert (check.name, check.verdict) == ("Autovacuum", Grade.BAD)
    assert option in check.found
    server.execute(check.advice)
    assert faults(database_url) == []


def test_a_server_without_autovacuum_is_told() -> None:
    checks = list(judge_autovacuum(["autovacuum", "track_counts"], []))

    assert [check.verdict for check in checks] == [Grade.BAD, Grade.BAD]
    assert "ALTER SYSTEM SET track_counts = on" in checks[1].advice


def test_an_index_whose_build_failed_is_told_and_rebuilt(database_url: str, server: Connection[Any]) -> None:
    server.execute("INSERT INTO dispatcher.channels (account, campaign_id) VALUES ('default', 1), ('default', 2)")
    with pytest.raises(psycopg.errors.UniqueViolation):
        server.execute("CREATE UNIQUE INDEX CONCURRENTLY one_each ON dispatcher.channels (account)")
    (check,) = faults(database_url)
    assert (check.name, check.verdict) == ("Index", Grade.BAD)
    assert "dispatcher.one_each on channels" in check.found

    with pytest.raises(psycopg.errors.UniqueViolation):
        server.execute(check.advice)
    left_over, *_ = [check for check in faults(database_url) if "_ccnew" in check.found]
    server.execute(left_over.advice)
    server.execute("DELETE FROM dispatcher.channels WHERE campaign_id = 2")
    server.execute(check.advice)

    assert faults(database_url) == []


def test_an_index_that_is_being_built_is_no_fault(database_url: str, server: Connection[Any]) -> None:
    def build() -> None:
        with psycopg.connect(database_url, autocommit=True) as other:
            other.execute("CREATE INDEX CONCURRENTLY slow ON dispatcher.channels (served_at)")

    builder = threading.Thread(target=build)
    with psycopg.connect(database_url) as writer:
        writer.execute("INSERT INTO dispatcher.channels (account, campaign_id) VALUES ('default', 1)")
        builder.start()
        wait_until(
            lambda: server.execute("SELECT EXISTS (SELECT FROM pg_index WHERE NOT indisvalid)").fetchone() == (True,)
        )
        during = faults(database_url, "Index")
    builder.join()

    assert during == []
    assert faults(database_url) == []


def test_a_large_table_without_statistics_is_told(
    database_url: str, server: Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor_upkeep, "LARGE_BYTES", 64 * 1024)
    server.execute("ALTER TABLE dispatcher.leads SET (autovacuum_enabled = off)")
    server.execute(LEADS)
    (check,) = faults(database_url, "Statistics")
    assert "never analyzed" in check.found

    server.execute(check.advice)
    assert faults(database_url, "Statistics") == []


def test_statistics_of_what_the_table_was_before_are_told(
    database_url: str, server: Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor_upkeep, "LARGE_BYTES", 64 * 1024)
    monkeypatch.setattr(doctor_upkeep, "MANY_CHANGED_ROWS", 1000)
    server.execute("ALTER TABLE dispatcher.leads SET (autovacuum_enabled = off)")
    server.execute(LEADS)
    server.execute("ANALYZE dispatcher.leads")
    server.execute("UPDATE dispatcher.leads SET updated_at = now()")
    server.execute("SELECT pg_stat_force_next_flush()")
    (check,) = faults(database_url, "Statistics")
    assert "changed since it was analyzed" in check.found

    server.execute(check.advice)
    assert faults(database_url, "Statistics") == []


def test_dead_rows_that_nobody_removes_are_told(
    database_url: str, server: Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor_upkeep, "MANY_DEAD_ROWS", 1000)
    server.execute("ALTER TABLE dispatcher.leads SET (autovacuum_enabled = off)")
    server.execute(LEADS)
    server.execute("UPDATE dispatcher.leads SET updated_at = now()")
    server.execute("SELECT pg_stat_force_next_flush()")
    (check,) = faults(database_url, "Bloat")
    assert "dispatcher.leads has" in check.found
    assert "never vacuumed by itself" in check.found

    server.execute(check.advice.split(",")[0])
    assert faults(database_url, "Bloat") == []


@pytest.mark.parametrize(
    ("table", "verdict"),
    [
        (TableUpkeep("leads", 1000, 200_000, None, 1), Grade.DOUBTFUL),
        (TableUpkeep("leads", 5_000_000, 200_000, None, 1), Grade.GOOD),
        (TableUpkeep("leads", 10, 90_000, None, 1), Grade.GOOD),
    ],
)
def test_bloat_is_many_dead_rows_and_a_large_share(table: TableUpkeep, verdict: Grade) -> None:
    (check,) = judge_bloat([table])

    assert check.verdict is verdict


def test_tables_and_indexes_that_are_mostly_empty_are_told(
    database_url: str, server: Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor_upkeep, "MUCH_EMPTY_BYTES", 128 * 1024)
    server.execute("ALTER TABLE dispatcher.leads SET (autovacuum_enabled = off)")
    server.execute(LEADS)
    server.execute("VACUUM (ANALYZE) dispatcher.leads")
    assert faults(database_url, "Bloat") == []

    # What is left is spread, so that no page becomes free.
    server.execute(
        "DELETE FROM dispatcher.leads WHERE id NOT IN (SELECT id FROM dispatcher.leads ORDER BY id LIMIT 150)"
    )
    server.execute("VACUUM (ANALYZE) dispatcher.leads")
    found = {check.found.split()[0]: check for check in faults(database_url, "Bloat")}
    assert {"dispatcher.leads", "dispatcher.leads_due"} <= set(found)

    server.execute(found["dispatcher.leads"].advice.split(", with")[0])
    assert faults(database_url, "Bloat") == []


def test_an_index_is_rebuilt_while_it_is_used() -> None:
    (check,) = judge_bloat([], [Space("leads_due", True, 900 << 20, 100 << 20)])

    assert check.found == "dispatcher.leads_due has 900 MB and needs about 100 MB"
    assert check.advice == "REINDEX INDEX CONCURRENTLY dispatcher.leads_due"


def test_a_transaction_that_stays_open_is_told(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_upkeep, "LONG_SECONDS", 0.0)
    with psycopg.connect(database_url, application_name="a-report") as connection:
        connection.execute("SELECT 1")
        checks = faults(database_url, "Transaction")
        pid = connection.info.backend_pid

    (check,) = [one for one in checks if "a-report" in one.found]
    assert f"pg_terminate_backend({pid})" in check.advice


def test_a_long_transaction_is_named_with_its_cure() -> None:
    (check,) = judge_transactions([LongTransaction(7, "psql", "idle", 7200)])

    assert "pid 7" in check.found
    assert "pg_terminate_backend(7)" in check.advice


def test_a_prepared_transaction_is_named_with_its_cure() -> None:
    (check,) = judge_transactions([], [PreparedTransaction("o'clock", 7200)])

    assert "ROLLBACK PREPARED" in check.advice
    assert "'o''clock'" in check.advice


def test_a_slot_that_nobody_uses_is_told(
    database_url: str, server: Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor_upkeep, "KEPT_BYTES", -1)
    server.execute("SELECT pg_create_physical_replication_slot('left_by_a_test', true)")
    try:
        (check,) = [one for one in faults(database_url, "Replication") if "left_by_a_test" in one.found]
        server.execute(check.advice.split(",")[0])
    finally:
        server.execute(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = 'left_by_a_test'"
        )

    assert not [one for one in faults(database_url, "Replication") if "left_by_a_test" in one.found]


@pytest.mark.parametrize(
    ("slot", "advice"),
    [
        (ReplicationSlot("b", False, 20_000, 0), "SELECT pg_drop_replication_slot('b')"),
        (ReplicationSlot("b", True, 20_000, 5 << 40), ""),
        (ReplicationSlot("b", True, 2_000_000, 0), "hot_standby_feedback"),
        (ReplicationSlot(None, True, 2_000_000, 0), "hot_standby_feedback"),
        (ReplicationSlot("b", False, None, 2 << 30), "SELECT pg_drop_replication_slot('b')"),
        (ReplicationSlot("b", False, None, 1 << 20), ""),
    ],
)
def test_a_slot_is_a_fault_by_what_it_keeps(slot: ReplicationSlot, advice: str) -> None:
    checks = list(judge_slots([slot]))

    assert len(checks) == bool(advice)
    assert all(advice in check.advice for check in checks)


def test_the_age_of_the_oldest_row_is_read_and_judged(
    database_url: str, server: Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    server.execute("DO $$ BEGIN FOR turn IN 1 .. 300 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$")
    engine = create_engine(normal_database_url(database_url))
    with engine.connect() as connection:
        ages = upkeep.frozen_ages(connection)
        assert connection.execute(text("SELECT to_regclass(:name)"), {"name": ages[0].table}).scalar() is not None
    engine.dispose()
    assert list(judge_ages(ages)) == []

    monkeypatch.setattr(doctor_upkeep, "OLD_TRANSACTIONS", 299)
    (check,) = judge_ages([replace(age, may_reach=0) for age in ages if age.kind == "transaction"])
    assert (check.name, check.verdict) == ("Wraparound", Grade.DOUBTFUL)
    server.execute(check.advice.split(",")[0])

    (check,) = judge_ages([replace(ages[0], age=1_600_000_000)])
    assert check.verdict is Grade.BAD


@pytest.fixture(scope="module")
def installed(databases: Databases) -> Iterator[Installation]:
    """A database with roles and their logins."""
    with installation(databases) as made:
        yield made


@pytest.mark.parametrize("part", [Part.OPERATOR, Part.READER, Part.WORKER])
def test_a_role_that_does_not_see_others_says_so(
    databases: Databases, installed: Installation, part: Part, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor_upkeep, "LONG_SECONDS", 0.0)
    with databases.one(installed.template) as url, psycopg.connect(url) as hidden:
        hidden.execute("SELECT 1")
        login = installed.login(part)
        checks = told(installed.url(url, part))
        (check,) = [one for one in checks if one.name == "Transactions"]
        assert check.verdict is Grade.GOOD
        assert "cannot be judged" in check.found
        assert f'GRANT pg_read_all_stats TO "{login}"' in check.advice

        hidden.execute(check.advice.split(" shows")[0])
        hidden.commit()
        hidden.execute("SELECT 1")
        pid = hidden.info.backend_pid
        assert [one for one in told(installed.url(url, part)) if f"pid {pid}" in one.found]
        hidden.rollback()
        hidden.execute(f"REVOKE pg_read_all_stats FROM {login}")
        hidden.commit()
