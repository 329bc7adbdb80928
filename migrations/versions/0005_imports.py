"""A record of each import, with the rows that it refused.

Revision ID: 0005
Revises: 0004
"""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE dispatcher.imports (
    id bigint GENERATED ALWAYS AS IDENTITY,
    batch_id uuid NOT NULL,
    file_name text NOT NULL,
    account text NOT NULL,
    actor text NOT NULL,
    submitted bigint DEFAULT 0 NOT NULL,
    duplicates bigint DEFAULT 0 NOT NULL,
    repeated bigint DEFAULT 0 NOT NULL,
    rejected bigint DEFAULT 0 NOT NULL,
    started_at timestamptz DEFAULT now() NOT NULL,
    updated_at timestamptz DEFAULT now() NOT NULL,
    finished_at timestamptz,
    CONSTRAINT imports_pkey PRIMARY KEY (id)
);

CREATE INDEX imports_batch
    ON dispatcher.imports (batch_id);

CREATE TABLE dispatcher.import_rejections (
    id bigint GENERATED ALWAYS AS IDENTITY,
    import_id bigint NOT NULL,
    line bigint NOT NULL,
    field text NOT NULL,
    reason text NOT NULL,
    original text NOT NULL,
    CONSTRAINT import_rejections_pkey PRIMARY KEY (id),
    CONSTRAINT import_rejections_import_id_fkey FOREIGN KEY(import_id) REFERENCES dispatcher.imports (id) ON DELETE CASCADE
);

CREATE INDEX import_rejections_import
    ON dispatcher.import_rejections (import_id, id);
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(TABLES)


def downgrade() -> None:
    raise NotImplementedError("A downgrade would drop the record of imports; restore a backup instead.")
