"""An upgrade whose connection is cut after one of its statements, as `kill -9` or an administrator cuts it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import psycopg
from sqlalchemy import Engine, event

from dispatcher.config.urls import normal_database_url
from dispatcher.errors import StoreUnavailable
from dispatcher.store import migration

_INVALID: Final = """
SELECT CAST(indexrelid AS regclass)::text FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
WHERE relnamespace = CAST('dispatcher' AS regnamespace) AND NOT indisvalid
"""


@contextmanager
def statements_seen(see: Callable[[Any, str], None]) -> Iterator[None]:
    """Call `see` with the driver's connection and the SQL of each statement after it ran."""

    def after(_connection: Any, cursor: Any, statement: str, *_: object) -> None:
        see(cursor.connection, statement)

    event.listen(Engine, "after_cursor_execute", after)
    try:
        yield
    finally:
        event.remove(Engine, "after_cursor_execute", after)


def changes(statement: str) -> bool:
    """Whether this statement of an upgrade changes anything; what `in_portions` runs begins with WITH."""
    words = statement.lstrip()
    if words.startswith("SET LOCAL") and ";" not in words:
        return False
    return not words.startswith(("SELECT", "BEGIN", "COMMIT", "ROLLBACK", "SHOW"))


def cut_off_everywhere(url: str) -> list[str]:
    """Upgrade, cut off after each statement once, each time begun again; return the statements."""
    cut: list[str] = []
    with psycopg.connect(url, autocommit=True) as killer:

        def see(connection: Any, statement: str) -> None:
            pid = connection.info.backend_pid
            if changes(statement) and statement not in cut:
                cut.append(statement)
                killer.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])

        with statements_seen(see):
            for _ in range(500):
                before = len(cut)
                try:
                    migration.upgrade(normal_database_url(url))
                except StoreUnavailable:
                    assert len(cut) == before + 1, "an upgrade failed by itself"
                    continue
                if len(cut) == before:
                    return cut
    raise AssertionError("it never ended")


def invalid_indexes(url: str) -> list[str]:
    """The indexes that an interrupted build has left."""
    with psycopg.connect(url) as connection:
        return [name for (name,) in connection.execute(_INVALID)]
