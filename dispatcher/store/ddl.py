"""The steps of a migration on tables in use: each in its own transaction, and without blocking writers.

A step must be repeatable (`IF NOT EXISTS`, `DROP … IF EXISTS, ADD …`): an interrupted upgrade starts its revision
again.
"""

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final

from alembic import op
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from dispatcher.errors import StoreUnavailable
from dispatcher.store.schema import SCHEMA

Tell = Callable[[str], None]
"""A function that prints one sentence about the progress."""

Created = Callable[[Connection, str, Tell], None]
"""Called after a step that created something for a table, so that the database roles have their rights at once."""

_CREATES: Final = re.compile(r"CREATE (OR REPLACE )?(UNLOGGED )?(TABLE|VIEW|FUNCTION)\b")
LOCK_MILLISECONDS: Final = 300
"""The longest wait for one lock. While a step waits for its lock, the writers of that table wait too."""
PAUSE_SECONDS: Final = 1.0
"""The wait between two tries, in which writers continue."""
PATIENCE_SECONDS: Final = 300.0
TELL_SECONDS: Final = 10.0
_AGAIN: Final = frozenset({"55P03", "40P01"})  # lock timeout, deadlock: nothing was done

_VALID: Final = text("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:name)")
_HOLDERS: Final = text("""
SELECT activity.pid, coalesce(nullif(activity.application_name, ''), 'unnamed') AS application,
    coalesce(activity.state, 'of another user') AS state,
    CAST(extract(epoch FROM clock_timestamp() - activity.xact_start) AS float8) AS seconds
FROM pg_locks AS held JOIN pg_stat_activity AS activity USING (pid)
WHERE held.relation = to_regclass(:table) AND held.granted AND held.pid <> pg_backend_pid()
ORDER BY activity.xact_start NULLS LAST LIMIT 1
""")
_BUILDING: Final = text("""
SELECT build.phase, build.blocks_done AS done, nullif(build.blocks_total, 0) AS total,
    coalesce(nullif(locker.application_name, ''), 'a session') AS locker, nullif(build.current_locker_pid, 0) AS pid
FROM pg_stat_progress_create_index AS build
LEFT JOIN pg_stat_activity AS locker ON locker.pid = build.current_locker_pid
WHERE build.datname = current_database() AND build.index_relid = to_regclass(:name)
""")


@dataclass(frozen=True, slots=True)
class RevisionStep:
    """One step of a revision, as it is planned.

    table         what it works on
    statement     its SQL
    row_seconds   what it takes for a row beside reading it, in seconds, as measured
    """

    table: str
    statement: str
    row_seconds: float = 0.0


def _planned(table: str, statement: str, row_seconds: float = 0.0) -> bool:
    """Return whether the steps are only being listed (`upgrade_plan`); this one is, then."""
    plan: list[RevisionStep] | None = op.get_context().config.attributes.get("plan")  # type: ignore[union-attr]
    if plan is not None:
        plan.append(RevisionStep(table, statement, row_seconds))
    return plan is not None


def _teller() -> Tell:
    tell: Tell = op.get_context().config.attributes["tell"]  # type: ignore[union-attr]
    return tell


def change(statement: str, *, table: str) -> None:
    """Run one statement that needs a lock on `table` (without the schema), in a transaction of its own.

    It waits `LOCK_MILLISECONDS` for the lock, then `PAUSE_SECONDS` for the writers, and tries again. Raises
    `StoreUnavailable` after `PATIENCE_SECONDS`, naming the session that holds the lock.
    """
    if _planned(table, statement):
        return
    with op.get_context().autocommit_block():
        connection, tell = op.get_bind(), _teller()
        under_lock(connection, statement, table=table, tell=tell)
        created: Created | None = op.get_context().config.attributes.get("created")  # type: ignore[union-attr]
        if created is not None and _CREATES.search(statement):
            created(connection, table, tell)


def under_lock(connection: Connection, statement: str, *, table: str, tell: Tell) -> None:
    """Run one statement as `change` does, on a connection in autocommit. Raises as `change` does."""

    def run() -> None:
        # One string is one transaction, so that SET LOCAL applies to it.
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{LOCK_MILLISECONDS}ms'; {statement}")

    with _slow_is_told(connection, f"Still working on {SCHEMA}.{table}", tell):
        _patiently(run, connection, table=table, tell=tell)


def in_portions(statement: str, *, table: str, row_seconds: float = 0.0) -> None:
    """Repeat a statement over `table`, a transaction each, until it returns no row or null.

    It returns the id of the last row that it has looked at, and takes the one before it as `:after`; null at first.
    A portion that meets a row that somebody else has locked gives way as `change` does, and raises as it does.
    `row_seconds` is what `migrate --check` expects of a row.
    """
    if _planned(table, statement, row_seconds):
        return
    with op.get_context().autocommit_block():
        connection, tell = op.get_bind(), _teller()
        after = None
        started = told = time.monotonic()
        portions = 0

        def run() -> None:
            nonlocal after
            connection.exec_driver_sql("BEGIN")
            try:
                connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{LOCK_MILLISECONDS}ms'")
                last = connection.execute(text(statement), {"after": after}).scalar()
                connection.exec_driver_sql("COMMIT")
            except DBAPIError:
                with suppress(SQLAlchemyError):
                    connection.exec_driver_sql("ROLLBACK")
                raise
            after = last

        while True:
            _patiently(run, connection, table=table, tell=tell)
            if after is None:
                return
            portions += 1
            if time.monotonic() - told > TELL_SECONDS:
                told = time.monotonic()
                took = f"{portions} portions in {told - started:.0f} s"
                tell(f"Mending rows of {SCHEMA}.{table}: {took}. Leads are taken meanwhile.")


def build_index(name: str, definition: str) -> None:
    """Build the index `name` without blocking writers: `ON dispatcher.leads (…) WHERE …`, or with UNIQUE before it.

    An invalid index of an interrupted build is dropped first; a build that its interrupted client left running is
    waited for. The build waits for open transactions, and has no limit to this: nobody waits for it.
    """
    unique, _, rest = definition.rpartition("ON ")
    table = rest.split()[0].removeprefix(f"{SCHEMA}.")
    if _planned(table, f"CREATE {unique}INDEX CONCURRENTLY {name}"):
        return
    with op.get_context().autocommit_block():
        connection, tell = op.get_bind(), _teller()
        with _slow_is_told(connection, f"Building the index {name} on {SCHEMA}.{table}", tell, index=name):
            while connection.execute(_BUILDING, {"name": f"{SCHEMA}.{name}"}).first() is not None:
                time.sleep(PAUSE_SECONDS)

            def run() -> None:
                valid = connection.execute(_VALID, {"name": f"{SCHEMA}.{name}"}).scalar()
                if valid is False:
                    connection.exec_driver_sql(f"DROP INDEX CONCURRENTLY IF EXISTS {SCHEMA}.{name}")
                connection.exec_driver_sql(f"CREATE {unique}INDEX CONCURRENTLY IF NOT EXISTS {name} ON {rest}")

            _patiently(run, connection, table=table, tell=tell)


def _patiently(run: Callable[[], None], connection: Connection, *, table: str, tell: Tell) -> None:
    """Try until no lock is missing; raise `StoreUnavailable` after `PATIENCE_SECONDS`."""
    started = told = time.monotonic()
    while not _tried(run):
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


def _tried(run: Callable[[], None]) -> bool:
    """Return whether `run` got its locks; what it did without one is undone."""
    try:
        run()
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) in _AGAIN:
            return False
        raise
    return True


@contextmanager
def _slow_is_told(connection: Connection, doing: str, tell: Tell, *, index: str = "") -> Iterator[None]:
    """Tell every `TELL_SECONDS` that one statement still runs, from a thread; of an index also how far its build is."""
    ended, started = threading.Event(), time.monotonic()

    def watch() -> None:
        while not ended.wait(TELL_SECONDS):
            far = _build_progress(connection, index) if index else ""
            tell(f"{doing}{far}, for {time.monotonic() - started:.0f} s. Leads are taken meanwhile.")

    watching = threading.Thread(target=watch, name="dispatcher-migrate-progress", daemon=True)
    watching.start()
    try:
        yield
    finally:
        ended.set()
        watching.join()


def _build_progress(connection: Connection, index: str) -> str:
    with suppress(SQLAlchemyError), connection.engine.connect() as another:
        build = another.execute(_BUILDING, {"name": f"{SCHEMA}.{index}"}).first()
        if build is None:
            return ""
        share = "" if build.total is None else f" {build.done / build.total:.0%}"
        behind = "" if build.pid is None else f" ({build.locker}, pid {build.pid})"
        return f": {build.phase}{share}{behind}"
    return ""


def _holder(connection: Connection, table: str) -> str:
    row = connection.execute(_HOLDERS, {"table": f"{SCHEMA}.{table}"}).first()
    if row is None:
        return ""
    since = "" if row.seconds is None else f" for {row.seconds:.0f} s"
    return f", which {row.application} (pid {row.pid}, {row.state}) holds{since}"
