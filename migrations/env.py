"""Alembic's entry: everything in the schema `dispatcher`, a transaction a revision, which a revision may divide.

`dispatcher.store.migration` runs this with an open connection; nothing here reads the environment.
"""

from alembic import context

from dispatcher.store.schema import SCHEMA

context.configure(
    connection=context.config.attributes["connection"],
    version_table_schema=SCHEMA,
    transactional_ddl=True,
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
