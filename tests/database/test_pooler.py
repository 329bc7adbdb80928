"""Behind a transaction-pooling proxy leads are submitted, delivered, looked up and swept: sessions change hands.

Skipped where there is no PgBouncer (Debian: `apt-get install pgbouncer`).
"""

import json
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner

from dispatcher.api import Dispatcher
from dispatcher.cli.commands import app
from dispatcher.config.settings import Settings
from dispatcher.config.urls import normal_database_url
from dispatcher.errors import StoreUnavailable
from dispatcher.intake.inbox_taking import Taking
from dispatcher.lookup import doubts
from dispatcher.store.blocks import NO_KEY
from dispatcher.store.database import Database
from dispatcher.store.migration import current, upgrade
from dispatcher.sweep import repairs
from tests.database.queue import Queue, accepted, phone, unknown
from tests.support.doubles import Bell
from tests.support.pooler import SERVER_SESSIONS, find_pgbouncer, pooled

PGBOUNCER = find_pgbouncer()
pytestmark = pytest.mark.skipif(PGBOUNCER is None, reason="no PgBouncer here (Debian: apt-get install pgbouncer)")


@pytest.fixture
def pooled_url(database_url: str, server_dir: Path) -> Iterator[str]:
    directory = Path(tempfile.mkdtemp(prefix="pgbouncer-", dir=server_dir))
    with pooled(str(PGBOUNCER), database_url, directory) as url:
        yield url


@pytest.fixture
def database(pooled_url: str) -> Iterator[Database]:
    with closing(Database(normal_database_url(pooled_url), pool_size=8, pooler=True)) as database:
        yield database


@pytest.fixture
def queue(database: Database) -> Queue:
    return Queue(database)


@pytest.fixture
def dispatcher(pooled_url: str, redis_url: str) -> Iterator[Dispatcher]:
    with closing(Dispatcher(Settings(database_url=pooled_url, redis_url=redis_url, pooler=True))) as dispatcher:
        yield dispatcher


def test_what_is_submitted_by_sql_is_taken(database: Database, queue: Queue) -> None:
    queue.run('SELECT dispatcher.submit_lead(\'{"phone_number": "+12025550101", "campaign_id": 42}\')')
    taking = Taking(database, Bell(), lambda: NO_KEY)
    assert taking.waits()
    taking.step()

    assert queue.states() == {"pending": 1}
    assert not taking.waits()


def test_many_workers_share_two_sessions_and_each_lead_is_claimed_once(dispatcher: Dispatcher, queue: Queue) -> None:
    for number in range(20):
        assert dispatcher.submit({"phone_number": phone(number), "campaign_id": 42}).created
    many = [{"phone_number": phone(number), "campaign_id": 42} for number in range(15, 60)]
    assert dispatcher.submit_many(many).duplicates == 5

    def work(worker: int) -> int:
        done = 0
        while opened := queue.claim(3).opened:
            queue.record(*(accepted(one, 10_000 * (worker + 1) + done + n) for n, one in enumerate(opened)))
            done += len(opened)
        return done

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(work, range(6))) == 60

    assert queue.states() == {"accepted": 60, "duplicate": 5}
    backends = (
        "SELECT count(*) AS n FROM pg_stat_activity WHERE datname = current_database() AND application_name <> ''"
    )
    assert 1 <= queue.rows(backends)[0].n <= SERVER_SESSIONS


def test_leases_end_and_leads_in_doubt_are_taken_for_a_look_up(queue: Queue) -> None:
    lost, doubtful = queue.claimed(1), queue.claimed(2)
    queue.record(unknown(doubtful))
    queue.run("UPDATE dispatcher.leads SET lease_until = now() - interval '1 s' WHERE id = :id", id=lost.lead_id)

    with queue.database.transaction() as connection:
        repairs.end_leases(connection, [lost.lead_id], settle_seconds=0.0)
        taken = doubts.take_due(connection, "default", most=9, hold_seconds=60.0)

    assert {one.lead_id for one in taken} == {lost.lead_id, doubtful.lead_id}


def test_a_pause_waits_for_claims_of_other_sessions(dispatcher: Dispatcher, queue: Queue) -> None:
    queue.put(1)
    dispatcher.pause(campaign_id=42, reason="a test", actor="a test")

    assert queue.claim().opened == ()
    dispatcher.resume(campaign_id=42, actor="a test")
    assert len(queue.claim().opened) == 1


def test_the_schema_can_be_migrated_through_it(pooled_url: str, database: Database) -> None:
    before, after = upgrade(normal_database_url(pooled_url), pooler=True)

    assert before == after
    with database.transaction() as connection:
        assert current(connection) == after


def test_without_the_setting_it_is_refused_and_the_doctor_says_which_one_is_missing(
    pooled_url: str, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(Database(normal_database_url(pooled_url))) as plain, pytest.raises(StoreUnavailable):
        Queue(plain).states()

    found = _doctor(monkeypatch, environment | {"DATABASE_URL": pooled_url})

    (postgres,) = found["Postgres"]
    assert postgres["verdict"] == "bad"
    assert "DISPATCHER_POOLER=true" in postgres["advice"]


def test_with_the_setting_the_doctor_asks_the_role_for_what_sessions_do_not_get(
    pooled_url: str, database_url: str, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {connection.info.dbname} SET synchronous_commit = off")

    found = _doctor(monkeypatch, environment | {"DATABASE_URL": pooled_url, "DISPATCHER_POOLER": "true"})

    assert found["Schema"][0]["verdict"] == "good"
    bad, doubtful = found["Session"]
    assert (bad["verdict"], doubtful["verdict"]) == ("bad", "doubtful")
    assert "synchronous_commit" in bad["advice"]
    assert "statement_timeout and lock_timeout" in doubtful["found"]


def _doctor(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> dict[str, list[dict[str, Any]]]:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    found: dict[str, list[dict[str, Any]]] = {}
    for check in json.loads(CliRunner().invoke(app, ["doctor", "--json"]).stdout)["items"]:
        found.setdefault(check["name"], []).append(check)
    return found
