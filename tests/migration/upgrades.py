"""Upgrading a filled database, from any folder of migrations, and what an upgrade must keep."""

import itertools
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from dispatcher.api import Dispatcher
from dispatcher.config.urls import normal_database_url
from dispatcher.store import migration
from tests.migration.flows import FLOWS, world_of
from tests.migration.interruptions import changes, statements_seen
from tests.support.databases import Databases

BASELINE: Final = "0001"
FILLED: Final = Path(__file__).with_name("filled.sql")
MENDED: Final = {"lead_attempts": ("ended_at", "finished_at")}
"""What revisions change on purpose in rows that exist: 0002 lets no attempt end before it started."""
_FILES: Final = """
SELECT relname::text, relfilenode::bigint FROM pg_class
WHERE relnamespace = CAST('dispatcher' AS regnamespace) AND relkind = 'r'
"""
HELD_UP_SECONDS: Final = 1.0
REPORT_SECONDS: Final = 3.0


def fill(url: str) -> None:
    """Build the database at the baseline, with rows in every state."""
    with psycopg.connect(url) as connection:
        connection.execute("CREATE SCHEMA dispatcher")
    upgrade_to(url, BASELINE)
    with psycopg.connect(url) as connection:
        connection.execute(FILLED.read_text(encoding="utf-8"))  # type: ignore[call-overload]


def upgrade_to(url: str, revision: str) -> None:
    """Upgrade to this revision and no further."""
    engine = create_engine(normal_database_url(url), poolclass=NullPool, connect_args={"prepare_threshold": None})
    with engine.connect() as connection:
        config = Config()
        config.set_main_option("script_location", str(migration.scripts()))
        config.attributes.update(connection=connection, tell=print)
        command.upgrade(config, revision)
    engine.dispose()


def rows_of(url: str) -> dict[str, list[Any]]:
    """Every row of every table, as JSON by column."""
    with psycopg.connect(url) as connection:
        tables = connection.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'dispatcher' AND tablename <> 'alembic_version'"
        ).fetchall()
        return {
            table: [row for (row,) in connection.execute(f"SELECT to_jsonb(t) FROM dispatcher.{table} AS t")]  # type: ignore[call-overload]
            for (table,) in tables
        }


def lost(before: Mapping[str, list[Any]], after: Mapping[str, list[Any]]) -> list[str]:
    """What the upgrade dropped or changed of the rows that were there, but for `MENDED`."""
    faults = []
    for table, rows in before.items():
        if table not in after:
            faults.append(f"table {table}")
            continue
        columns = sorted({column for row in rows for column in row} - set(MENDED.get(table, ())))
        kept = [{column: row.get(column, "gone") for column in columns} for row in after[table]]
        faults += [
            f"{table}: {row}"
            for row in ({column: row[column] for column in columns} for row in rows)
            if row not in kept
        ]
    return faults


def check_upgrade(databases: Databases, template: str) -> None:
    """Upgrade copies of the filled database with the migrations in force, and raise if anything suffers by it."""
    with databases.one(template) as url:
        before, files = rows_of(url), files_of(url)
        run: list[str] = []
        with statements_seen(lambda _, statement: run.append(statement)):
            migration.upgrade(normal_database_url(url))
        faults = lost(before, rows_of(url))
        assert not faults, f"the upgrade changed {faults[:3]}"
        written = [table for table, file in files_of(url).items() if files.get(table, file) != file]
        _check_repeatable(url)
        upgraded = databases.create(template=url.rpartition("/")[2])
    try:
        for flow in FLOWS:
            with databases.one(upgraded) as copy, world_of(copy) as world:
                flow(world)
    finally:
        databases.drop(upgraded)
    past = [statement for statement in run if waits_without_bound(statement)]
    assert not written, f"the upgrade wrote all of {written}"
    assert not past, f"a statement waits for its lock without bound: {past[:1]}"
    with databases.one(template) as url:
        assert longest_submit_during_upgrade(url) < HELD_UP_SECONDS, "a submit was held up"


def waits_without_bound(statement: str) -> bool:
    """Whether a statement of an upgrade would keep writers waiting for as long as it waits itself.

    Alembic notes a revision in a table that nobody else writes. What `in_portions` runs has its bound set before.
    """
    ours = "alembic_version" in statement or statement.lstrip().startswith("WITH portion")
    return changes(statement) and not ours and "lock_timeout" not in statement and "CONCURRENTLY" not in statement


def files_of(url: str) -> dict[str, int]:
    """The number of each table's file; it changes where all rows are written anew, under a lock against everybody."""
    with psycopg.connect(url) as connection:
        return dict(connection.execute(_FILES).fetchall())


def _check_repeatable(url: str) -> None:
    """An upgrade that was interrupted before it noted its revision starts that revision again."""
    for revision, following in itertools.pairwise(migration.revisions()):
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("UPDATE dispatcher.alembic_version SET version_num = %s", (revision,))
        migration.upgrade(normal_database_url(url))
        assert following <= migration.head()


def longest_submit_during_upgrade(url: str) -> float:
    """Upgrade revision by revision, each beside a report that has read every table. Return the longest submit."""
    longest, ending = 0.0, threading.Event()

    def produce(dispatcher: Dispatcher) -> None:
        nonlocal longest
        numbers = itertools.count(1)
        while not ending.is_set():
            began = time.monotonic()
            dispatcher.submit({"phone_number": f"+1{next(numbers) + 2_025_550_000}", "campaign_id": 4711})
            longest = max(longest, time.monotonic() - began)
            time.sleep(0.01)

    with world_of(url) as world:
        # `submit` of this version needs the schema of this version: what is upgraded once more is the way there.
        migration.upgrade(normal_database_url(url))
        world.dispatcher.submit({"phone_number": "+12025550198", "campaign_id": 4711})
        producer = threading.Thread(target=produce, args=(world.dispatcher,))
        producer.start()
        try:
            for revision, following in itertools.pairwise(migration.revisions()):
                with psycopg.connect(url, autocommit=True) as connection:
                    connection.execute("UPDATE dispatcher.alembic_version SET version_num = %s", (revision,))
                with open_report(url) as report:
                    ended = threading.Timer(REPORT_SECONDS, report.rollback)
                    ended.start()
                    upgrade_to(url, following)
                    ended.join()
        finally:
            ending.set()
            producer.join()
    return longest


@contextmanager
def open_report(url: str) -> Iterator["psycopg.Connection[Any]"]:
    """A transaction that has read every table and does not end."""
    with psycopg.connect(url, application_name="a report") as connection:
        for table in ("leads", "lead_attempts", "gates", "accounts", "failed_leads"):
            connection.execute(f"SELECT count(*) FROM dispatcher.{table}")  # type: ignore[call-overload]
        yield connection
        connection.rollback()


def with_revision(monkeypatch: pytest.MonkeyPatch, directory: Path, body: str) -> None:
    """Put the migrations of `directory` in force: ours, and behind them one that does `body`."""
    head = migration.head()
    shutil.copytree(migration.scripts(), directory, ignore=shutil.ignore_patterns("__pycache__"))
    (directory / "versions" / "9001_made_up.py").write_text(
        f'"""One more."""\n\nfrom alembic import op\n\nfrom dispatcher.store.ddl import change\n\n'
        f'revision = "9001"\ndown_revision = "{head}"\n\n\ndef upgrade() -> None:\n    {body}\n',
        encoding="utf-8",
    )
    monkeypatch.setattr(migration, "scripts", lambda: directory)
