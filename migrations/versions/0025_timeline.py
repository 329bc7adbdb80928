"""The timeline of Postgres that claims are made on, and until when its commits are known to be there.

Revision ID: 0025
Revises: 0024

Locks: ACCESS EXCLUSIVE on sweeps, which has one row.
"""

from dispatcher.store.ddl import change

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None

# timeline: see this_timeline; null: none is noted yet. timeline_at: its last sweep. synchronous: commits waited for a
# standby then.
COLUMNS = """
ALTER TABLE dispatcher.sweeps ADD COLUMN IF NOT EXISTS timeline text,
    ADD COLUMN IF NOT EXISTS timeline_at timestamptz, ADD COLUMN IF NOT EXISTS synchronous boolean
"""

# As in 0011: of the sweep, which serves all accounts, neither where it is nor which server.
VIEW = """
CREATE OR REPLACE VIEW dispatcher.confined_sweeps AS
SELECT name, CAST('a worker' AS text) AS holder, held_until, swept_at, pruned_at, CAST(NULL AS text) AS timeline,
    timeline_at, synchronous
FROM dispatcher.sweeps
"""

# System identifier, database and number. From the position of the log: the control file names the new timeline only
# after the first checkpoint that follows a promotion. Null where a service does not tell, or not to this login.
HERE = """
CREATE OR REPLACE FUNCTION dispatcher.this_timeline() RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF pg_is_in_recovery() THEN
        RETURN NULL;
    END IF;
    RETURN (SELECT system_identifier FROM pg_control_system())
        || '/' || (SELECT oid FROM pg_database WHERE datname = current_database())
        || '/' || CAST(CAST('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8) AS bit(32)) AS int);
EXCEPTION WHEN OTHERS THEN
    RETURN NULL;
END
$$
"""

# As before, and nothing is claimed on a timeline that lacks commits which nobody has looked for yet.
GATES = """
CREATE OR REPLACE FUNCTION dispatcher.gates_let_through(for_account text, for_campaign bigint, shut text[])
RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(hashtextextended('dispatcher.pause:' || for_account, 0));
    RETURN NOT EXISTS (
        SELECT FROM dispatcher.gates
        WHERE account = for_account AND COALESCE(campaign_id, 0) IN (0, for_campaign) AND state = ANY (shut)
    ) AND NOT EXISTS (
        SELECT FROM dispatcher.sweeps WHERE name = 'sweep' AND timeline <> dispatcher.this_timeline()
    );
END
$$
"""


def upgrade() -> None:
    change(COLUMNS, table="sweeps")
    change(VIEW, table="confined_sweeps")
    change(HERE, table="sweeps")
    change(GATES, table="gates")


def downgrade() -> None:
    raise NotImplementedError("A downgrade would let claims through after a failover that lost some; restore a backup.")
