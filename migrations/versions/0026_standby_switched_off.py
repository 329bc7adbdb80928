"""Nothing is claimed where commits stopped waiting for a standby, until a sweep has noted it.

Revision ID: 0026
Revises: 0025

Locks: none but those of the catalog.
"""

from dispatcher.store.ddl import change

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None

# As before, and no claim is committed without a standby while the row of the sweep says that each waits for one. Where
# the server does not tell its timeline, no sweep would note it.
GATES = """
CREATE OR REPLACE FUNCTION dispatcher.gates_let_through(for_account text, for_campaign bigint, shut text[])
RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(hashtextextended('dispatcher.pause:' || for_account, 0));
    RETURN NOT EXISTS (
        SELECT FROM dispatcher.gates
        WHERE account = for_account AND COALESCE(campaign_id, 0) IN (0, for_campaign) AND state = ANY (shut)
    ) AND NOT EXISTS (
        SELECT FROM dispatcher.sweeps CROSS JOIN (SELECT dispatcher.this_timeline() AS here) AS server
        WHERE name = 'sweep' AND (timeline <> here OR (timeline = here AND synchronous AND (
            current_setting('synchronous_standby_names') = ''
            OR current_setting('synchronous_commit') NOT IN ('on', 'remote_apply')
        )))
    );
END
$$
"""


def upgrade() -> None:
    change(GATES, table="gates")


def downgrade() -> None:
    raise NotImplementedError("A downgrade would let claims through that a failover may forget; restore a backup.")
