"""The names of the database roles that `dispatcher migrate --with-roles` made, so that a later upgrade grants to them.

Revision ID: 0005
Revises: 0004

Locks: none but on the new table.
"""

from dispatcher.store.ddl import change

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

TABLE = """
CREATE TABLE IF NOT EXISTS dispatcher.database_roles (
    part text NOT NULL,
    name text NOT NULL,
    CONSTRAINT database_roles_pkey PRIMARY KEY (part),
    CONSTRAINT database_roles_name_key UNIQUE (name)
)
"""


def upgrade() -> None:
    change(TABLE, table="database_roles")


def downgrade() -> None:
    raise NotImplementedError("A downgrade would forget who may do what; restore a backup instead.")
