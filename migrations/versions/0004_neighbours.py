"""When a gate's failures began, which campaigns get leads through, and who waits behind an open lead of their person.

Revision ID: 0004
Revises: 0003

Locks: ACCESS EXCLUSIVE on gates, channels, leads and lead_attempts for the change of the catalog only (new columns
without a value, or with a constant one, rewrite nothing); SHARE ROW EXCLUSIVE on lead_attempts for the trigger; the
index is built concurrently.
"""

from dispatcher.store.ddl import build_index, change

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

COLUMNS = {
    "gates": "failing_since timestamptz",
    "channels": "accepted_at timestamptz",
    "leads": "parked_until timestamptz, ADD COLUMN IF NOT EXISTS was_due_at timestamptz",
    "lead_attempts": "followed boolean DEFAULT false NOT NULL",
}

# The leads parked behind an open lead of their person. Whatever else gives a lead another due time ends its park.
PARKED = """
ON dispatcher.leads (account, campaign_id, phone_number, priority DESC, was_due_at, id)
WHERE state = 'pending' AND parked_until = due_at
"""

# However the attempt ends: by an answer, a look-up, a person, or given back. The lead is as due as it was before. SKIP
# LOCKED: what a claim holds at this moment is due, and that claim sees that this attempt is over.
FUNCTION = """
CREATE OR REPLACE FUNCTION dispatcher.wake_next() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE dispatcher.leads SET due_at = was_due_at, updated_at = now()
    WHERE id = (
        SELECT parked.id FROM dispatcher.leads AS parked
        WHERE parked.account = NEW.account AND parked.campaign_id = NEW.campaign_id
          AND parked.phone_number = NEW.phone_number AND parked.state = 'pending' AND parked.parked_until = parked.due_at
          AND (parked.expires_at IS NULL OR parked.expires_at > now())
        ORDER BY parked.priority DESC, parked.was_due_at, parked.id
        LIMIT 1 FOR UPDATE SKIP LOCKED
    );
    RETURN NULL;
END
$$
"""

TRIGGER = """
CREATE OR REPLACE TRIGGER lead_attempts_wake_next AFTER UPDATE OF finished_at ON dispatcher.lead_attempts
    FOR EACH ROW WHEN (NEW.followed AND OLD.finished_at IS NULL AND NEW.finished_at IS NOT NULL)
    EXECUTE FUNCTION dispatcher.wake_next()
"""


def upgrade() -> None:
    for table, column in COLUMNS.items():
        change(f"ALTER TABLE dispatcher.{table} ADD COLUMN IF NOT EXISTS {column}", table=table)
    build_index("leads_parked", PARKED)
    change(FUNCTION, table="lead_attempts")
    change(TRIGGER, table="lead_attempts")


def downgrade() -> None:
    raise NotImplementedError("A downgrade would drop leads; restore a backup instead.")
