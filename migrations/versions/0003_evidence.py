"""Evidence belongs to the attempt and has an age; the watermark of an account never goes down.

Revision ID: 0003
Revises: 0002

Locks: ACCESS EXCLUSIVE on leads, lead_attempts, gates and accounts for new nullable columns, SHARE ROW EXCLUSIVE on
leads, lead_contacts and gates for triggers, each for the change of the catalog only; the index is built concurrently.
"""

from dispatcher.store.ddl import build_index, change

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# leads.proven_at: when Voicery's list was asked on whose word the lead may be sent again; NULL where it rests on no
# proof. lead_attempts: as it was sent, the fingerprint of the token and the name of the variable that carried the
# reference. accounts: the greatest Voicery id of rows that were deleted, and the settings that decide about evidence.
COLUMNS = {
    "leads": "ADD COLUMN IF NOT EXISTS proven_at timestamptz",
    "lead_attempts": "ADD COLUMN IF NOT EXISTS token text, ADD COLUMN IF NOT EXISTS reference text",
    "gates": "ADD COLUMN IF NOT EXISTS moved_at timestamptz",
    "accounts": "ADD COLUMN IF NOT EXISTS watermark bigint DEFAULT 0 NOT NULL,"
    " ADD COLUMN IF NOT EXISTS terms jsonb, ADD COLUMN IF NOT EXISTS terms_by text",
}

# The pairs are `dispatcher.decisions.states.LEGAL_MOVES` (tested equal).
MOVES = """
CREATE OR REPLACE TRIGGER leads_legal_moves BEFORE UPDATE OF state ON dispatcher.leads
    FOR EACH ROW WHEN (
        OLD.state <> NEW.state AND (OLD.state, NEW.state) NOT IN (
            ('pending', 'sending'), ('pending', 'cancelled'), ('pending', 'failed'), ('pending', 'unknown'),
            ('sending', 'accepted'), ('sending', 'pending'), ('sending', 'duplicate'), ('sending', 'failed'),
            ('sending', 'unknown'),
            ('unknown', 'accepted'), ('unknown', 'pending'), ('unknown', 'failed'), ('unknown', 'duplicate'),
            ('failed', 'pending'), ('failed', 'accepted'), ('duplicate', 'pending')
        )
    )
    EXECUTE FUNCTION dispatcher.refuse_illegal_move()
"""

# By a trigger, so that whatever moves a gate is seen.
NOTE_GATE_MOVE = """
CREATE OR REPLACE FUNCTION dispatcher.note_gate_move() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.moved_at := clock_timestamp();
    RETURN NEW;
END
$$
"""

GATES_MOVED = """
CREATE OR REPLACE TRIGGER gates_moved BEFORE UPDATE OF state ON dispatcher.gates
    FOR EACH ROW WHEN (OLD.state <> NEW.state) EXECUTE FUNCTION dispatcher.note_gate_move()
"""

# Reads the gates with a snapshot of its own, newer than that of the claim which calls it.
PROOF_HOLDS = """
CREATE OR REPLACE FUNCTION dispatcher.proof_holds(asked_at timestamptz, holds interval, for_account text, for_campaign bigint)
RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    RETURN asked_at > now() - holds AND NOT EXISTS (
        SELECT FROM dispatcher.gates
        WHERE account = for_account AND COALESCE(campaign_id, 0) IN (0, for_campaign) AND moved_at > asked_at
    );
END
$$
"""

KEEP_WATERMARK = """
CREATE OR REPLACE FUNCTION dispatcher.keep_watermark() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO dispatcher.accounts AS kept (name, watermark)
    SELECT account, max(voicery_lead_id) FROM gone WHERE voicery_lead_id IS NOT NULL GROUP BY account
    ON CONFLICT (name) DO UPDATE SET watermark = excluded.watermark WHERE kept.watermark < excluded.watermark;
    RETURN NULL;
END
$$
"""

KEEPS_WATERMARK = """
CREATE OR REPLACE TRIGGER {table}_keep_watermark AFTER DELETE ON dispatcher.{table}
    REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION dispatcher.keep_watermark()
"""

# A duplicate that waits has never been sent. Of one person's the youngest takes the place of an original that ended
# without a call; one with the payload that Voicery has just refused would be refused too, and goes on waiting.
WAITING_DUPLICATES = """ON dispatcher.leads (duplicate_of)
    WHERE state = 'duplicate' AND attempt_id IS NULL AND duplicate_of IS NOT NULL"""

TAKE_PLACE = """
CREATE OR REPLACE FUNCTION dispatcher.pass_place_on() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    next_id uuid;
BEGIN
    SELECT waiting.id INTO next_id FROM dispatcher.leads AS waiting
    WHERE waiting.duplicate_of = NEW.id AND waiting.state = 'duplicate' AND waiting.attempt_id IS NULL
      AND (waiting.expires_at IS NULL OR waiting.expires_at > now())
      AND NOT (NEW.state = 'failed' AND NEW.failure_class = 'rejected' AND waiting.payload_hash = NEW.payload_hash)
    ORDER BY waiting.created_at DESC, waiting.id DESC
    LIMIT 1
    FOR UPDATE SKIP LOCKED;
    IF next_id IS NULL THEN
        RETURN NULL;
    END IF;
    UPDATE dispatcher.leads
    SET state = 'pending', duplicate_of = NULL, finished_at = NULL, due_at = greatest(due_at, now()), updated_at = now()
    WHERE id = next_id;
    UPDATE dispatcher.leads SET duplicate_of = next_id, updated_at = now()
    WHERE duplicate_of = NEW.id AND state = 'duplicate' AND attempt_id IS NULL;
    INSERT INTO dispatcher.audit_log (actor, action, subject, detail)
    VALUES ('dispatcher', 'take_place', next_id::text, jsonb_build_object('of', NEW.id, 'because',
        coalesce(NEW.failure_class, NEW.state)));
    RETURN NULL;
EXCEPTION WHEN unique_violation THEN
    RETURN NULL;  -- another lead of the person became live meanwhile, and stands for these duplicates too
END
$$
"""

TAKES_PLACE = """
CREATE OR REPLACE TRIGGER leads_pass_place_on AFTER UPDATE OF state ON dispatcher.leads
    FOR EACH ROW WHEN (
        OLD.state <> NEW.state AND NOT NEW.allow_dupplicate
        AND (NEW.state = 'cancelled' OR NEW.state = 'failed' AND NEW.failure_class <> 'outcome_unknown')
    )
    EXECUTE FUNCTION dispatcher.pass_place_on()
"""


def upgrade() -> None:
    for table, columns in COLUMNS.items():
        change(f"ALTER TABLE dispatcher.{table} {columns}", table=table)
    build_index("leads_waiting_duplicates", WAITING_DUPLICATES)
    for table, statement in (
        ("leads", MOVES),
        ("gates", NOTE_GATE_MOVE),
        ("gates", GATES_MOVED),
        ("gates", PROOF_HOLDS),
        ("leads", KEEP_WATERMARK),
        ("leads", KEEPS_WATERMARK.format(table="leads")),
        ("lead_contacts", KEEPS_WATERMARK.format(table="lead_contacts")),
        ("leads", TAKE_PLACE),
        ("leads", TAKES_PLACE),
    ):
        change(statement, table=table)


def downgrade() -> None:
    raise NotImplementedError("A downgrade would forget evidence; restore a backup instead.")
