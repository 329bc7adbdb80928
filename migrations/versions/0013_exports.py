"""The index by which the console counts the exports of a user.

Revision ID: 0013
Revises: 0012

Locks: none that blocks writers; the index is built beside them.
"""

from dispatcher.store.ddl import build_index

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    build_index(
        "audit_log_exports",
        "ON dispatcher.audit_log (actor, at) WHERE action IN ('export', 'export_refused')",
    )


def downgrade() -> None:
    raise NotImplementedError("A downgrade would drop leads; restore a backup instead.")
