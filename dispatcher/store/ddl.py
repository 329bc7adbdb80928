"""The steps of a migration on tables in use: each in its own transaction, and without blocking writers.

A step must be repeatable (`IF NOT EXISTS`, `DROP … IF EXISTS, ADD …`): an interrupted upgrade starts its revision
again.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from alembic import op
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from dispatcher.errors import StoreUnavailable
from dispatcher.store.schema import SCHEMA

Tell = Callable[[str], None]
"""A function that prints one sentence about the progress."""

LOCK_MILLISECONDS: Final = 300
"""The longest wait for one lock. While a step waits for its lock, the writers of that table wait too."""
PAUSE_SECONDS: Final = 1.0
"""The wait between two tries, in which writers continue."""
PATIENCE_SECONDS: Final = 300.0
TELL_SECONDS: Final = 10.0
_AGAIN: Final = frozenset({"55P03", "40P01"})  # lock timeout, deadlock: nothing was done

_HOLDERS: Final = text("""
SELECT activity.pid, coalesce(nullif(activity.application_name, ''), 'unnamed') AS application,
    coalesce(activity.state, 'of another user') AS state,
    CAST(extract(epoch FROM clock_timestamp() - activity.xact_start) AS float8) AS seconds
FROM pg_locks AS held JOIN pg_stat_activity AS activity USING (pid)
WHERE held.relation = to_regclass(:table) AND held.granted AND held.pid <> pg_backend_pid()
ORDER BY activity.xact_start NULLS LAST LIMIT 1
""")


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a revision, as it is planned: `statement` is its SQL, `table` what it works on."""

    table: str
    statement: str


def _planned(table: str, statement: str) -> bool:
    """Return whether the steps are only being listed (`upgrade_plan`); this one is, then."""
    plan: list[Step] | None = op.get_context().config.attributes.get("plan")  # type: ignore[union-attr]
    if plan is not None:
        plan.append(Step(table, statement))
    return plan is not None


def change(statement: str, *, table: str) -> None:
    """Run one statement that needs a lock on `table` (without the schema), in a transaction of its own.

    It waits `LOCK_MILLISECONDS` for the lock, then `PAUSE_SECONDS` for the writers, and tries again. Raises
    `StoreUnavailable` after `PATIENCE_SECONDS`, naming the session that holds the lock.
    """
    if _planned(table, statement):
        return
    with op.get_context().autocommit_block():
        tell: Tell = op.get_context().config.attributes["tell"]  # type: ignore[union-attr]
        under_lock(op.get_bind(), statement, table=table, tell=tell)


def under_lock(connection: Connection, statement: str, *, table: str, tell: Tell) -> None:
    """Run one statement as `change` does, on a connection in autocommit. Raises as `change` does."""
    started = told = time.monotonic()
    while not _tried(connection, statement):
        now = time.monotonic()
        if now - started > PATIENCE_SECONDS:
            holder = _holder(connection, table)
            raise StoreUnavailable(
                f"The migration could not lock {SCHEMA}.{table} within {PATIENCE_SECONDS:.0f} s{holder}. End that "
                "transaction and run `dispatcher migrate` again; what was done is kept."
            )
        if told == started or now - told > TELL_SECONDS:
            tell(f"Waiting for a lock on {SCHEMA}.{table}{_holder(connection, table)}. Leads are taken meanwhile.")
            told = now
        time.sleep(PAUSE_SECONDS)


def in_portions(statement: str, *, table: str) -> None:
    """Repeat a statement over `table`, a transaction each, until it returns no row.

    It returns the id of the last row that it has looked at, and takes the one before it as `:after`; null at first.
    """
    if _planned(table, statement):
        return
    with op.get_context().autocommit_block():
        after = None
        while (last := op.get_bind().execute(text(statement), {"after": after}).scalar()) is not None:
            after = last


def build_index(name: str, definition: str) -> None:
    """Build the index `name` without blocking writers: `ON dispatcher.leads (…) WHERE …`, or with UNIQUE before it.

    An invalid index of an interrupted build is dropped first. The build waits for open transactions.
    """
    unique, _, rest = definition.rpartition("ON ")
    if _planned(rest.split()[0].removeprefix(f"{SCHEMA}."), f"CREATE {unique}INDEX CONCURRENTLY {name}"):
        return
    with op.get_context().autocommit_block():
        connection = op.get_bind()
        valid = connection.execute(
            text("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:name)"), {"name": f"{SCHEMA}.{name}"}
        ).scalar()
        if valid is False:
            connection.exec_driver_sql(f"DROP INDEX CONCURRENTLY IF EXISTS {SCHEMA}.{name}")
        connection.exec_driver_sql(f"CREATE {unique}INDEX CONCURRENTLY IF NOT EXISTS {name} ON {rest}")


def drop_index(name: str) -> None:
    """Drop the index `name` without blocking writers."""
    if _planned(name, f"DROP INDEX CONCURRENTLY {name}"):
        return
    with op.get_context().autocommit_block():
        op.get_bind().exec_driver_sql(f"DROP INDEX CONCURRENTLY IF EXISTS {SCHEMA}.{name}")


def _tried(connection: Connection, statement: str) -> bool:
    """Return whether `statement` was run. One string is one transaction, so that SET LOCAL applies to it."""
    try:
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{LOCK_MILLISECONDS}ms'; {statement}")
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) in _AGAIN:
            return False
        raise
    return True


def _holder(connection: Connection, table: str) -> str:
    row = connection.execute(_HOLDERS, {"table": f"{SCHEMA}.{table}"}).first()
    if row is None:
        return ""
    since = "" if row.seconds is None else f" for {row.seconds:.0f} s"
    return f", which {row.application} (pid {row.pid}, {row.state}) holds{since}"
