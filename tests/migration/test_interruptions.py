"""An upgrade may be cut off anywhere: begun again, it ends at head, with the same schema and nothing left over."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from dispatcher.config.urls import normal_database_url
from dispatcher.errors import StoreUnavailable
from dispatcher.operator.audit_chain import verify
from dispatcher.store import ddl
from dispatcher.store.migration import upgrade
from tests.migration import upgrades
from tests.migration.catalog import GOLDEN, dump
from tests.migration.interruptions import cut_off_everywhere, invalid_indexes
from tests.migration.test_upgrade_plan import planned
from tests.support.databases import Databases
from tests.support.waiting import wait_until

# Only after its first phase is the index in the catalog, and left there by whatever ends the build.
BUILT = """
SELECT count(*) FROM pg_stat_progress_create_index WHERE datname = current_database() AND phase <> 'initializing'
"""
CUT = """
SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_progress_create_index WHERE datname = current_database()
"""


@pytest.fixture(scope="module")
def baseline(databases: Databases) -> Iterator[str]:
    """The name of a database at the baseline, with rows in every state."""
    name = databases.create()
    upgrades.fill(databases.url(name))
    yield name
    databases.drop(name)


@pytest.fixture
def url(databases: Databases, baseline: str) -> Iterator[str]:
    with databases.one(baseline) as made:
        yield made


def assert_as_new(url: str) -> None:
    golden = GOLDEN.read_text(encoding="utf-8")
    assert dump(url).partition("ROW OF")[0] == golden.partition("ROW OF")[0]
    assert invalid_indexes(url) == []


def assert_chained(url: str) -> None:
    """The entries of the audit log from before are in the chain, in their order."""
    engine = create_engine(normal_database_url(url), poolclass=NullPool)
    with engine.connect() as connection:
        found = verify(connection)
        entries = (
            connection.execute(text("SELECT audit_id FROM dispatcher.audit_chain ORDER BY position")).scalars().all()
        )
    assert found.whole, found.fault
    assert found.entries >= 2
    assert list(entries) == sorted(entries)


@contextmanager
def reading(url: str) -> Iterator["psycopg.Connection[Any]"]:
    """A transaction with a snapshot, which the build of an index waits for."""
    with psycopg.connect(url, application_name="a report") as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        connection.execute("SELECT 1")
        yield connection
        connection.rollback()


def test_an_upgrade_is_cut_off_after_each_statement_and_ends_as_if_it_had_not_been(url: str) -> None:
    before = upgrades.rows_of(url)

    cut = cut_off_everywhere(url)

    assert len(cut) > 60
    assert any("CONCURRENTLY" in one for one in cut)
    assert any("version_num" in one for one in cut)
    assert_as_new(url)
    assert_chained(url)
    assert upgrades.lost(before, upgrades.rows_of(url)) == []


def test_the_build_of_an_index_that_is_cut_off_midway_is_done_again(url: str) -> None:
    indexes = [step.what.removeprefix("builds ") for one in planned(url) for step in one.steps if "builds" in step.what]
    assert len(indexes) >= 3
    left = set()
    with psycopg.connect(url, autocommit=True) as watch:

        def cut() -> None:
            wait_until(lambda: watch.execute(BUILT).fetchone() != (0,), 20)
            watch.execute(CUT)

        for _ in indexes:
            with reading(url):
                cutting = threading.Thread(target=cut)
                cutting.start()
                with pytest.raises(StoreUnavailable, match="what was done is kept"):
                    upgrade(normal_database_url(url))
                cutting.join()
            left |= set(invalid_indexes(url))
            # One further: what was left is built, and the next build begins.
            upgrades.upgrade_to(url, _revision_of(url, invalid_indexes(url)[0]))
    assert left == {f"dispatcher.{name}" for name in indexes}
    upgrade(normal_database_url(url))
    assert_as_new(url)


def _revision_of(url: str, index: str) -> str:
    name = index.partition(".")[2]
    return next(one.revision for one in planned(url) if any(step.what == f"builds {name}" for step in one.steps))


def test_a_build_whose_client_was_killed_is_waited_for_and_told(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ddl, "TELL_SECONDS", 0.2)
    told: list[str] = []
    upgrades.upgrade_to(url, "0012")

    def build() -> None:
        with psycopg.connect(url, autocommit=True) as orphan:
            orphan.execute(
                "CREATE INDEX CONCURRENTLY audit_log_exports ON dispatcher.audit_log (actor, at)"
                " WHERE action IN ('export', 'export_refused')"
            )

    building = threading.Thread(target=build)
    upgrading = threading.Thread(target=lambda: upgrade(normal_database_url(url), tell=told.append))
    with psycopg.connect(url, autocommit=True) as watch, reading(url):
        building.start()
        wait_until(lambda: watch.execute(BUILT).fetchone() != (0,), 20)
        ((begun,),) = watch.execute("SELECT CAST('dispatcher.audit_log_exports' AS regclass)::oid").fetchall()
        upgrading.start()
        wait_until(lambda: any("a report" in one for one in told), 20, lambda: told)
    building.join()
    upgrading.join()

    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT CAST('dispatcher.audit_log_exports' AS regclass)::oid").fetchall() == [
            (begun,)
        ]
    assert any(re.search("Building the index audit_log_exports on dispatcher.audit_log: waiting", one) for one in told)
    assert_as_new(url)


def test_a_portion_that_meets_a_lock_gives_way(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ddl, "PAUSE_SECONDS", 0.1)
    told: list[str] = []
    upgrades.upgrade_to(url, "0007")
    upgrading = threading.Thread(target=lambda: upgrade(normal_database_url(url), tell=told.append))
    with psycopg.connect(url, autocommit=True) as other:
        with other.transaction():
            other.execute("SELECT pg_advisory_xact_lock(hashtextextended('dispatcher.audit', 0))")
            upgrading.start()
            wait_until(
                lambda: any("Waiting for a lock on dispatcher.audit_log" in one for one in told), 20, lambda: told
            )
        upgrading.join()

    assert_as_new(url)
    assert_chained(url)
