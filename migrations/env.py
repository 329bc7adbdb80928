"""Alembic's entry: one transaction, one migration at a time, everything in the schema `dispatcher`.

`dispatcher.store.migration` runs this with an open connection; nothing here reads the environment.
"""

from alembic import context
from sqlalchemy import Connection, text

from dispatcher.store.schema import SCHEMA

# Any number, the same for all who migrate: a transaction's lock, so that it also works behind a transaction pooler.
MIGRATION_LOCK = 7_264_311_905_512_001

connection: Connection = context.config.attributes["connection"]
with connection.begin():
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
    connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}"))
    context.configure(
        connection=connection,
        version_table_schema=SCHEMA,
        transactional_ddl=True,
    )
    context.run_migrations()
