"""The migrations build what `dispatcher.store.schema` says, however often and by however many they are run."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.pool import NullPool

from dispatcher import celery
from dispatcher.config.urls import normal_database_url
from dispatcher.decisions.states import BIRTH_STATES, LEGAL_MOVES, State
from dispatcher.errors import SchemaOutOfDate
from dispatcher.store import sessions
from dispatcher.store.migration import check, current, head, upgrade
from tests.database.queue import Queue


@contextmanager
def connected(url: str) -> Iterator[Connection]:
    # The role may be named `dispatcher`: then our schema is the default one, and Alembic sees no schema of that name.
    arguments = {"options": "-c search_path=public"}
    engine = create_engine(normal_database_url(url), poolclass=NullPool, connect_args=arguments)
    with engine.connect() as connection:
        yield connection


def catalog(url: str, query: str) -> Sequence[tuple[Any, ...]]:
    with connected(url) as connection:
        return [tuple(row) for row in connection.execute(text(query))]


def test_a_second_migration_changes_nothing(empty_database_url: str) -> None:
    url = normal_database_url(empty_database_url)

    assert upgrade(url) == (None, head())
    before = catalog(url, "SELECT * FROM dispatcher.sweeps")
    assert upgrade(url) == (head(), head())
    assert catalog(url, "SELECT * FROM dispatcher.sweeps") == before


def test_three_migrations_at_once_all_succeed(empty_database_url: str) -> None:
    url = normal_database_url(empty_database_url)
    script = "import sys; from dispatcher.store.migration import upgrade; upgrade(sys.argv[1])"
    processes = [
        subprocess.Popen([sys.executable, "-c", script, url], stderr=subprocess.PIPE, text=True) for _ in range(3)
    ]

    assert [process.communicate(timeout=60)[1] for process in processes] == ["", "", ""]
    assert [process.returncode for process in processes] == [0, 0, 0]
    with connected(url) as connection:
        check(connection)


def test_a_database_without_tables_is_told_to_migrate(empty_database_url: str) -> None:
    with connected(empty_database_url) as connection:
        assert current(connection) is None
        with pytest.raises(SchemaOutOfDate, match=f"no dispatcher tables yet.*{head()}.*dispatcher migrate"):
            check(connection)


def test_a_database_of_another_version_is_named(database_url: str) -> None:
    with connected(database_url) as connection:
        connection.execute(text("UPDATE dispatcher.alembic_version SET version_num = '0000'"))
        with pytest.raises(SchemaOutOfDate, match=f"at revision 0000.*{head()}"):
            check(connection)


def test_nothing_is_made_outside_of_our_schema(database_url: str) -> None:
    outside = catalog(
        database_url,
        "SELECT nspname, relname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace"
        " WHERE nspname NOT IN ('dispatcher', 'pg_catalog', 'information_schema', 'pg_toast')",
    )

    assert outside == []


# What the database itself refuses -------------------------------------------------------------------------------------

MOVES = [(leaving, entering) for leaving in State for entering in State if leaving is not entering]


@pytest.mark.parametrize(("leaving", "entering"), MOVES)
def test_the_database_allows_legal_moves_only(queue: Queue, leaving: State, entering: State) -> None:
    extra = {
        State.SENDING: {"lease_until": "2100-01-01", "attempt_id": "00000000-0000-7000-8000-000000000001"},
        State.UNKNOWN: {"attempt_id": "00000000-0000-7000-8000-000000000001"},
        State.FAILED: {"failure_class": "rejected"},
    }
    lead_id = queue.put(state=leaving, **extra.get(leaving, {}))

    def move() -> None:
        with queue.database.engine.begin() as connection:
            connection.execute(
                text("""
                    UPDATE dispatcher.leads SET state = :state,
                        lease_until = CASE WHEN :state = 'sending' THEN now() END,
                        attempt_id = '00000000-0000-7000-8000-000000000001',
                        failure_class = CASE WHEN :state = 'failed' THEN 'rejected' END
                    WHERE id = :id
                """),
                {"id": lead_id, "state": entering},
            )

    if (leaving, entering) in LEGAL_MOVES:
        move()
        assert queue.lead(lead_id).state == entering
    else:
        with pytest.raises(IntegrityError, match=f"may not go from {leaving} to {entering}"):
            move()


def test_births_are_what_submit_makes() -> None:
    assert {State.PENDING, State.DUPLICATE, State.FAILED} == BIRTH_STATES


def test_a_worker_starts_although_the_version_of_the_schema_is_locked(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is read again by what the worker does next."""
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setitem(sessions.BOUNDS, "lock_timeout", "50ms")
    with create_engine(normal_database_url(database_url), poolclass=NullPool).begin() as connection:
        connection.execute(text("LOCK TABLE dispatcher.alembic_version"))

        celery._refuse_older_schema()
