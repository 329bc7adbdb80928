"""Duplicates that were committed after their original had ended take its place too; originals and heirs are told.

Revision ID: 0006
Revises: 0005

Locks: SHARE ROW EXCLUSIVE on leads for the trigger's function; the functions alone lock no table.
"""

from dispatcher.store.ddl import change

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

# Of one person's waiting duplicates the youngest takes the place of an original that ended without a call. Called by the
# trigger as the original ends, and by the sweep for duplicates whose transaction was committed later than that.
NEXT = """
CREATE OR REPLACE FUNCTION dispatcher.next_takes_place(original_id uuid) RETURNS uuid LANGUAGE plpgsql AS $$
DECLARE
    original dispatcher.leads;
    live_id uuid;
    next_id uuid;
BEGIN
    IF NOT EXISTS (
        SELECT FROM dispatcher.leads AS waiting
        WHERE waiting.duplicate_of = original_id AND waiting.state = 'duplicate' AND waiting.attempt_id IS NULL
    ) THEN
        RETURN NULL;
    END IF;
    SELECT * INTO original FROM dispatcher.leads WHERE id = original_id;
    SELECT live.id INTO live_id FROM dispatcher.leads AS live
    WHERE live.account = original.account AND live.campaign_id = original.campaign_id
      AND live.phone_number = original.phone_number AND NOT live.allow_dupplicate
      AND (live.state IN ('pending', 'sending', 'unknown', 'accepted')
           OR live.state = 'failed' AND live.failure_class = 'outcome_unknown' AND live.resolved_at IS NULL)
    LIMIT 1;
    IF live_id IS NOT NULL THEN
        UPDATE dispatcher.leads SET duplicate_of = live_id, updated_at = now()
        WHERE duplicate_of = original_id AND state = 'duplicate' AND attempt_id IS NULL;
        RETURN NULL;
    END IF;
    SELECT waiting.id INTO next_id FROM dispatcher.leads AS waiting
    WHERE waiting.duplicate_of = original_id AND waiting.state = 'duplicate' AND waiting.attempt_id IS NULL
      AND (waiting.expires_at IS NULL OR waiting.expires_at > now())
      AND NOT (original.state = 'failed' AND original.failure_class = 'rejected'
               AND waiting.payload_hash = original.payload_hash)
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
    WHERE duplicate_of = original_id AND state = 'duplicate' AND attempt_id IS NULL;
    INSERT INTO dispatcher.audit_log (actor, action, subject, detail)
    VALUES ('dispatcher', 'take_place', next_id::text, jsonb_build_object('of', original_id, 'because',
        coalesce(original.failure_class, original.state))),
        ('dispatcher', 'give_place', original_id::text, jsonb_build_object('to', next_id));
    RETURN next_id;
EXCEPTION WHEN unique_violation THEN
    RETURN NULL;  -- another lead of the person became live at this moment
END
$$
"""

TAKE_PLACE = """
CREATE OR REPLACE FUNCTION dispatcher.pass_place_on() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM dispatcher.next_takes_place(NEW.id);
    RETURN NULL;
END
$$
"""


def upgrade() -> None:
    change(NEXT, table="leads")
    change(TAKE_PLACE, table="leads")


def downgrade() -> None:
    raise NotImplementedError("A downgrade would strand duplicates; restore a backup instead.")
