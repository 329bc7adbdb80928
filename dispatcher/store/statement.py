"""The few statements that run for every lead are executed by the driver directly, without SQLAlchemy's result objects.

Measured for a submit on one core: 95 µs of our CPU by the driver, 240 µs through `Connection.execute`. The connection,
its pool and its transactions stay SQLAlchemy's.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, TypeAlias
from uuid import UUID

import psycopg
from psycopg.rows import namedtuple_row
from sqlalchemy import Connection, CursorResult, text

from dispatcher.errors import FieldError, NotAllowed
from dispatcher.lead.options import checked_time

_LEADING: Final = re.compile(r"^\s*(--.*)?\n?", re.MULTILINE)
_NAME: Final = re.compile(r"(?<![:\w]):(\w+)")


class HotStatement:
    """SQL with `:name` parameters, numbered once for the driver.

    The driver is given `$1` and so on, which it sends as they are: `%(name)s` it parses again at each use of a text of
    more than 4096 characters, 46 µs for a claim.
    """

    def __init__(self, sql: str) -> None:
        shortened = _LEADING.sub("", sql)  # comments and indentation would be sent at each use without `prepare`
        self._text = text(shortened)
        self._names = tuple(dict.fromkeys(_NAME.findall(shortened)))
        self._numbered = _NAME.sub(lambda name: f"${self._names.index(name[1]) + 1}", shortened)

    def rows(self, connection: Connection, parameters: Mapping[str, object]) -> Sequence[Any]:
        """Return all rows, their columns as attributes. Raises the driver's errors, which `translated` accepts.

        If a connection of the caller has another driver, SQLAlchemy executes the statement.
        """
        return self._executed(connection, parameters).fetchall()

    def count(self, connection: Connection, parameters: Mapping[str, object]) -> int:
        """Execute as `rows` does, and return the number of rows that were written."""
        return self._executed(connection, parameters).rowcount

    def _executed(self, connection: Connection, parameters: Mapping[str, object]) -> "CursorResult[Any] | Cursor":
        if connection.dialect.driver != "psycopg" or connection.dialect.is_async:
            return connection.execute(self._text, parameters)
        driver: psycopg.Connection[Any] = connection.connection.driver_connection  # type: ignore[assignment]
        try:
            return self._sent(_cursor(driver), parameters)
        except psycopg.Error as error:
            error.add_note(self._numbered)  # names the tables, where a right on one is missing
            if driver.closed:
                connection.invalidate()
            raise

    def _sent(self, cursor: "Cursor", parameters: Mapping[str, object]) -> "Cursor":
        # At once, not after five uses: planning costs more than executing. Never behind a pooler.
        prepare = True if cursor.connection.prepare_threshold is not None else None
        return cursor.execute(self._numbered, [parameters[name] for name in self._names], prepare=prepare)


def _cursor(driver: "psycopg.Connection[Any]") -> "Cursor":
    factory: type[psycopg.RawCursor[Any]] = getattr(driver, "raw_cursor_factory", psycopg.RawCursor)
    return factory(driver, row_factory=namedtuple_row)


Call: TypeAlias = tuple[HotStatement, Mapping[str, object]]
Cursor: TypeAlias = "psycopg.Cursor[Any]"


def together(connection: Connection, *calls: Call) -> "list[Cursor]":
    """Return the cursor of each, in one round trip and one transaction: if one is refused, none has an effect.

    For a connection in autocommit: statements before one Sync are one implicit transaction (PostgreSQL, 54.2.4).
    """
    driver: psycopg.Connection[Any] = connection.connection.driver_connection  # type: ignore[assignment]
    cursors = [_cursor(driver) for _ in calls]
    try:
        with driver.pipeline():
            for cursor, (statement, parameters) in zip(cursors, calls, strict=True):
                statement._sent(cursor, parameters)  # noqa: SLF001 - one noun
    except psycopg.Error as error:
        # Name the tables, where a right on one is missing.
        error.add_note("".join(dict.fromkeys(statement._numbered for statement, _ in calls)))  # noqa: SLF001 - as above
        if driver.closed:
            connection.invalidate()
        raise
    return cursors


Start = datetime | timedelta | None

START: Final = "greatest(now(), coalesce(CAST(:at AS timestamptz), now() + CAST(:delay AS interval), now()))"


def start_values(not_before: Start) -> dict[str, Any]:
    """Return what `START` binds; raise `NotAllowed` for an invalid time."""
    start = checked_time("not_before", not_before)
    if isinstance(start, FieldError):
        raise NotAllowed(f"{start}.")
    return {
        "at": start if isinstance(start, datetime) else None,
        "delay": start if isinstance(start, timedelta) else None,
    }


def first_id(moment: datetime) -> UUID:
    """Return the smallest UUIDv7 of this millisecond (RFC 9562 section 5.7)."""
    return UUID(int=max(0, int(moment.timestamp() * 1000)) << 80 | 0x7 << 76 | 0x2 << 62)
