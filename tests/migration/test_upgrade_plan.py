"""`dispatcher migrate --check` says what each pending revision locks and reads, and changes nothing."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from uuid import UUID

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from dispatcher.config.urls import normal_database_url
from dispatcher.store.migration import revisions
from dispatcher.store.upgrade_plan import PlannedRevision, Work, _form, plan
from tests.migration.catalog import dump
from tests.migration.upgrades import fill
from tests.support.databases import Databases
from tests.support.environment import clean_environment


@pytest.fixture(scope="module")
def baseline(databases: Databases) -> Iterator[str]:
    """A database at the baseline, with rows in every state."""
    with databases.one() as url:
        fill(url)
        yield url


def planned(url: str) -> list[PlannedRevision]:
    engine = create_engine(normal_database_url(url), poolclass=NullPool)
    with engine.connect() as connection:
        return plan(connection)


def test_each_step_of_each_revision_is_listed_and_nothing_is_done(baseline: str) -> None:
    before = dump(baseline)

    found = planned(baseline)

    assert dump(baseline) == before
    assert [one.revision for one in found] == list(revisions()[1:])
    assert all(one.title.endswith(".") and one.steps for one in found)


def test_what_reads_or_writes_a_table_has_its_rows_and_a_time(baseline: str) -> None:
    steps = {(step.table, step.work): step for one in planned(baseline) for step in one.steps}
    mended = steps["lead_attempts", Work.PORTIONS]
    assert mended.lock == "ROW EXCLUSIVE"
    assert mended.size_bytes > 0
    assert mended.seconds > 0
    checked = steps["lead_attempts", Work.READ]
    assert checked.lock == "SHARE UPDATE EXCLUSIVE", "which blocks no writer"
    assert steps["leads", Work.CATALOG].seconds == 0


def test_no_step_holds_a_lock_against_writers_while_it_reads(baseline: str) -> None:
    blocking = {"SHARE", "SHARE ROW EXCLUSIVE", "EXCLUSIVE", "ACCESS EXCLUSIVE"}
    held = [
        (one.revision, step.table)
        for one in planned(baseline)
        for step in one.steps
        if step.work is not Work.CATALOG and step.lock in blocking
    ]
    assert held == []


_TRIGGER = (
    "CREATE TRIGGER {name} BEFORE UPDATE ON dispatcher.leads"
    " FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()"
)

SAMPLES = (
    "ALTER TABLE dispatcher.leads ADD COLUMN sample text",
    "ALTER TABLE dispatcher.leads VALIDATE CONSTRAINT sample",
    _TRIGGER.format(name="sample"),
    "DROP TRIGGER sample_to_drop ON dispatcher.leads",
    "DROP TRIGGER IF EXISTS sample_to_drop ON dispatcher.leads",
    "UPDATE dispatcher.leads SET last_error = 'x' WHERE false",
    "WITH one AS (SELECT id FROM dispatcher.leads WHERE id > :after LIMIT 0) DELETE FROM dispatcher.leads USING one",
    "CREATE OR REPLACE FUNCTION dispatcher.sample() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
    "GRANT SELECT ON dispatcher.leads TO current_user",
)
"""A statement of each form, where a transaction can hold it."""


@pytest.mark.parametrize("statement", SAMPLES)
def test_the_lock_that_is_told_is_the_one_that_postgres_takes(baseline: str, statement: str) -> None:
    engine = create_engine(normal_database_url(baseline), poolclass=NullPool)
    with engine.connect() as connection:
        connection.execute(text("ALTER TABLE dispatcher.leads ADD CONSTRAINT sample CHECK (true) NOT VALID"))
        connection.execute(text(_TRIGGER.format(name="sample_to_drop")))
        connection.commit()
        try:
            connection.execute(text(statement), {"after": UUID(int=0)} if ":after" in statement else {})
            modes = connection.execute(_HELD).scalars().all()
        finally:
            connection.rollback()
            connection.execute(text("ALTER TABLE dispatcher.leads DROP CONSTRAINT sample"))
            connection.execute(text("DROP TRIGGER sample_to_drop ON dispatcher.leads"))
            connection.commit()
    held = {re.sub("(?<=[a-z])(?=[A-Z])", " ", mode.removesuffix("Lock")).upper() for mode in modes}
    # What reads takes a lock that hinders no writer, and is not told.
    assert _form(statement)[0] == max(held - {"ACCESS SHARE", "ROW SHARE"}, key=_STRENGTH.index, default="")


_HELD = text("""
SELECT mode FROM pg_locks WHERE relation = CAST('dispatcher.leads' AS regclass) AND pid = pg_backend_pid()
""")

_STRENGTH = ("ROW EXCLUSIVE", "SHARE UPDATE EXCLUSIVE", "SHARE", "SHARE ROW EXCLUSIVE", "EXCLUSIVE", "ACCESS EXCLUSIVE")


def test_an_index_that_is_built_or_dropped_beside_writers_has_the_lock_of_the_manual() -> None:
    """No transaction can hold these: https://www.postgresql.org/docs/current/explicit-locking.html."""
    assert _form("CREATE UNIQUE INDEX CONCURRENTLY sample ON dispatcher.leads (id)")[0] == "SHARE UPDATE EXCLUSIVE"
    assert _form("DROP INDEX CONCURRENTLY dispatcher.sample")[0] == "SHARE UPDATE EXCLUSIVE"


def test_a_revision_that_writes_past_the_steps_is_stopped(baseline: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from alembic.script import ScriptDirectory

    real = ScriptDirectory.get_revision

    def with_a_write(self: ScriptDirectory, revision: str) -> object:
        script = real(self, revision)
        assert script is not None
        monkeypatch.setattr(
            script.module, "upgrade", lambda: __import__("alembic").op.execute("DELETE FROM dispatcher.leads")
        )
        return script

    monkeypatch.setattr(ScriptDirectory, "get_revision", with_a_write)
    with pytest.raises(Exception, match="read-only transaction"):
        planned(baseline)


def test_the_command_says_it_to_people_and_programs(baseline: str, database_url: str) -> None:
    def check(url: str, *more: str) -> str:
        command = [sys.executable, "-m", "dispatcher", "migrate", "--check", *more]
        environment = {**clean_environment(), "DATABASE_URL": url, "COLUMNS": "200"}
        return subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=60).stdout

    told = check(baseline)
    assert "lead_attempts: mends rows under ROW EXCLUSIVE; changes rows, some at a time, about" in told
    assert "waits longer than 0.3 s" in told
    listed = json.loads(check(baseline, "--json"))
    assert [one["revision"] for one in listed["items"]] == list(revisions()[1:])
    assert listed["longest_wait_seconds"] == 0.3
    assert "is up to date" in check(database_url)
