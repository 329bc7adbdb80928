"""Bringing the database to this version's schema, and telling whether it is there."""

from pathlib import Path
from typing import Final

from sqlalchemy import Connection, create_engine, text
from sqlalchemy.pool import NullPool

from dispatcher.errors import SchemaOutOfDate
from dispatcher.store.schema import REVISION, SCHEMA

_PACKAGE: Final = Path(__file__).parents[1]


def scripts() -> Path:
    """The folder of migrations: inside the wheel, or at the top of a checkout."""
    packaged = _PACKAGE / "migrations"
    return packaged if packaged.is_dir() else _PACKAGE.parent / "migrations"


def current(connection: Connection) -> str | None:
    """The revision of the connected database; None where the dispatcher's tables are missing."""
    exists = connection.execute(text("SELECT to_regclass(:table)"), {"table": f"{SCHEMA}.alembic_version"}).scalar()
    if exists is None:
        return None
    revision = connection.execute(text(f"SELECT version_num FROM {SCHEMA}.alembic_version")).scalar()
    return None if revision is None else str(revision)


def check(connection: Connection) -> None:
    """Raise `SchemaOutOfDate` unless the connected database has exactly this version's schema."""
    found = current(connection)
    if found != REVISION:
        raise SchemaOutOfDate(found, REVISION)


def upgrade(database_url: str) -> tuple[str | None, str]:
    """Migrate to `REVISION` and return (revision before, revision after). Idempotent, and safe when two run at once.

    `database_url` must name the psycopg 3 driver (`postgresql+psycopg://`), as `Settings` writes it.
    """
    from alembic import command  # a producer checks the schema and never migrates: it need not load Alembic
    from alembic.config import Config

    engine = create_engine(database_url, poolclass=NullPool, hide_parameters=True)
    try:
        with engine.connect() as connection:
            before = current(connection)
            connection.rollback()
            config = Config()
            config.set_main_option("script_location", str(scripts()).replace("%", "%%"))
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            after = current(connection)
    finally:
        engine.dispose()
    assert after is not None  # noqa: S101 - the upgrade has just written it
    return before, after
