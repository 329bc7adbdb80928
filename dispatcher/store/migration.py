"""The revision of the schema: the one that this version needs, the one that a database has, and the upgrade.

Only the upgrade imports Alembic: a producer that only checks the revision does not load it.
"""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.exc import DBAPIError, PendingRollbackError
from sqlalchemy.pool import NullPool

from dispatcher.errors import SchemaOutOfDate, StoreUnavailable
from dispatcher.store import sessions
from dispatcher.store.rights import Part
from dispatcher.store.schema import SCHEMA

Tell = Callable[[str], None]
"""A function that prints one sentence about the progress."""

_PACKAGE: Final = Path(__file__).parents[1]

# An arbitrary number, the same for all migrations.
_LOCK: Final = 7_264_311_905_512_001
_OTHERS_SECONDS: Final = 600.0

# The development versions 0001 and 0003 to 0005 have ids in common with revisions of today: 0001 had no table of
# imports, the others lack what today's 0002 adds.
_FOUND: Final = text(f"""
SELECT (SELECT version_num FROM {SCHEMA}.alembic_version) AS revision,
    to_regclass('{SCHEMA}.imports') IS NOT NULL AS baseline,
    EXISTS (SELECT FROM pg_constraint
            WHERE conrelid = to_regclass('{SCHEMA}.lead_attempts') AND conname = 'lead_attempts_order_check') AS ordered
""")


def scripts() -> Path:
    """Return the folder of migrations: inside the wheel, or at the top of a checkout."""
    packaged = _PACKAGE / "migrations"
    return packaged if packaged.is_dir() else _PACKAGE.parent / "migrations"


def revisions() -> tuple[str, ...]:
    """Return the ids of all revisions, oldest first: the file `0002_attempt_times.py` is revision 0002."""
    return tuple(sorted(path.name[:4] for path in (scripts() / "versions").glob("[0-9][0-9][0-9][0-9]_*.py")))


def head() -> str:
    """Return the revision that this version of the code needs."""
    assert revisions(), "the package ships without its migrations"  # noqa: S101 - a broken package
    return revisions()[-1]


def current(connection: Connection) -> str | None:
    """Return the revision of the connected database; None if the dispatcher's tables are missing.

    Raises `SchemaOutOfDate` for the schema of a development version, which no released version can upgrade.
    """
    exists = connection.execute(text("SELECT to_regclass(:table)"), {"table": f"{SCHEMA}.alembic_version"}).scalar()
    if exists is None:
        return None
    found = connection.execute(_FOUND).one()
    if found.revision is None:
        return None
    revision = str(found.revision)
    if not found.baseline or (revision in {"0003", "0004", "0005"} and not found.ordered):
        raise SchemaOutOfDate(
            revision,
            head(),
            "This is a schema of a development version that was never released, and it cannot be upgraded. Name "
            f"another database in DATABASE_URL, or move the old tables away (ALTER SCHEMA {SCHEMA} RENAME TO "
            f"{SCHEMA}_old); then run `dispatcher migrate`.",
        )
    return revision


def is_newer(found: str | None) -> bool:
    """Return whether a later version has migrated the database, with whose schema the version before it works too."""
    return found is not None and found.isdecimal() and found > head()


def check(connection: Connection, *, newer: bool = False) -> None:
    """Raise `SchemaOutOfDate` unless the connected database has this version's schema; `newer`: or a later one."""
    found = current(connection)
    if newer and is_newer(found):
        return
    _refuse_unknown(found)
    if found != head():
        raise SchemaOutOfDate(found, head())


def upgrade(
    database_url: str, *, pooler: bool = False, tell: Tell | None = None, roles: Mapping[Part, str] | None = None
) -> tuple[str | None, str]:
    """Migrate to `head()` and return (revision before, revision after). Safe to repeat, and safe when two run at once.

    The schema of a later version stays as it is: processes of this version work on it while they are replaced.

    database_url   must name the psycopg 3 driver (`postgresql+psycopg://`), as `Settings` writes it
    pooler         the URL leads to a transaction-pooling proxy, which takes no start-up options
    tell           called with a sentence for each longer wait
    roles          the names of database roles to make and to give their rights; None: those that were made before

    Raises `NotConfigured` if roles are asked for and this login may not make them, `SchemaOutOfDate` for a schema that
    this version does not know, and `StoreUnavailable` if a lock was not available; a repetition runs what is missing.
    """
    from dispatcher.store.roles import set_up  # late: it imports Alembic

    # No statement of a migration is prepared: some are several statements in one string.
    arguments: dict[str, object] = {"application_name": f"{SCHEMA}-migrate", "prepare_threshold": None}
    if not pooler:
        unbounded = {"statement_timeout": "0", "lock_timeout": "0", "idle_session_timeout": "0"}
        arguments["options"] = sessions.options(sessions.PINNED, sessions.DURABLE, unbounded)
    connect = sessions.connector(database_url, arguments, pooler=pooler)
    engine = create_engine("postgresql+psycopg://", poolclass=NullPool, hide_parameters=True, creator=connect)
    tell = tell or _silent
    try:
        with engine.connect() as guard:
            _wait_for_others(guard, tell)
            with engine.connect() as connection:
                there = current(connection)
            if there is not None and is_newer(there) and roles is None:
                tell(
                    f"The database is at revision {there}, of a newer version than this one, which needs {head()}. "
                    "Nothing was changed; install that version here too."
                )
                return there, there
            found = _upgrade(engine, tell)
            set_up(engine, roles, tell)
            return found
    finally:
        engine.dispose()


def _upgrade(engine: Engine, tell: Tell) -> tuple[str | None, str]:
    with engine.connect() as connection:
        before = current(connection)
        _refuse_unknown(before)
        # Checked first: IF NOT EXISTS requires the right to create schemas even if the schema exists.
        if connection.execute(text("SELECT to_regnamespace(:name)"), {"name": SCHEMA}).scalar() is None:
            connection.execute(text(f"CREATE SCHEMA {SCHEMA}"))
        connection.commit()
        _run_alembic(connection, tell)
        after = current(connection)
    assert after is not None  # noqa: S101 - the upgrade has just written it
    return before, after


def _run_alembic(connection: Connection, tell: Tell) -> None:
    from alembic import command  # late: see above
    from alembic.config import Config

    from dispatcher.store.roles import give_rights

    config = Config()
    config.set_main_option("script_location", str(scripts()).replace("%", "%%"))
    config.attributes.update(connection=connection, tell=tell, created=give_rights)
    try:
        command.upgrade(config, "head")
    except (PendingRollbackError, DBAPIError) as error:
        # The first is what a lost connection leaves where a step ends.
        if not connection.invalidated and not getattr(error, "connection_invalidated", False):
            raise
        raise StoreUnavailable(
            "The connection to Postgres was lost during the migration. Run `dispatcher migrate` again; what was done "
            "is kept."
        ) from error
    connection.rollback()


def _wait_for_others(guard: Connection, tell: Tell) -> None:
    """Hold the lock of migrations in the open transaction of `guard`, which also works behind a pooler."""
    until, told = time.monotonic() + _OTHERS_SECONDS, False
    while not guard.execute(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": _LOCK}).scalar():
        guard.rollback()  # an open query keeps its snapshot, and the build of an index would wait for it
        if time.monotonic() > until:
            raise StoreUnavailable("Another `dispatcher migrate` has been running for 10 minutes; end it, then repeat.")
        if not told:
            tell("Another `dispatcher migrate` is running; waiting for it to end.")
            told = True
        time.sleep(0.2)
    # Without parameters, so that the driver sends it as a simple query, which ends the one before and its snapshot.
    guard.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")


def _refuse_unknown(found: str | None) -> None:
    if found is not None and found not in revisions():
        raise SchemaOutOfDate(
            found,
            head(),
            "This version does not know that revision: a newer version has migrated the database. Install that "
            "version here too.",
        )


def _silent(_sentence: str) -> None:
    """Ignore the sentence."""
