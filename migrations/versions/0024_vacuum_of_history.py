"""Autovacuum of the tables that only grow and are pruned: at one per cent of dead rows, as of leads and attempts.

Revision ID: 0024
Revises: 0023

Locks: SHARE UPDATE EXCLUSIVE, which lets readers and writers through; the change is of the catalog only.
"""

from dispatcher.store.ddl import change

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

# By Postgres' default a fifth of the rows are dead before they are removed: of 100 million keys 20 million.
TABLES = ("failed_leads", "idempotency_keys", "lead_contacts", "lead_revisions")
OPTIONS = """
ALTER TABLE dispatcher.{table} SET (
    autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0,
    autovacuum_analyze_scale_factor = 0.02
)
"""


def upgrade() -> None:
    for table in TABLES:
        change(OPTIONS.format(table=table), table=table)


def downgrade() -> None:
    raise NotImplementedError("Nothing depends on these options; restore a backup instead.")
