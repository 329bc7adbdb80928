"""No attempt ends before it started, whatever the clocks of machines and of a new primary do.

Revision ID: 0002
Revises: 0001

Locks on lead_attempts: SHARE ROW EXCLUSIVE for the trigger and ACCESS EXCLUSIVE for the constraint, each for the change
of the catalog only; rows of older versions are mended 20 000 at a time; the validation takes SHARE UPDATE EXCLUSIVE,
which blocks no writer.
"""

from dispatcher.store.ddl import change, in_portions

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# The writers derive their times from the database's clock and need no help. The trigger holds where that clock was set
# back, and for workers of the version before: a refused write of a result would leave a called person in doubt.
FUNCTION = """
CREATE OR REPLACE FUNCTION dispatcher.order_attempt_times() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.ended_at := CASE WHEN NEW.ended_at IS NOT NULL THEN greatest(NEW.ended_at, NEW.started_at) END;
    NEW.finished_at := CASE WHEN NEW.finished_at IS NOT NULL
        THEN greatest(NEW.finished_at, NEW.ended_at, NEW.started_at) END;
    RETURN NEW;
END
$$
"""

TRIGGER = """
CREATE OR REPLACE TRIGGER lead_attempts_order BEFORE INSERT OR UPDATE ON dispatcher.lead_attempts
    FOR EACH ROW WHEN (
        NEW.ended_at < NEW.started_at OR NEW.finished_at < NEW.started_at OR NEW.finished_at < NEW.ended_at
    )
    EXECUTE FUNCTION dispatcher.order_attempt_times()
"""

CONSTRAINT = """
ALTER TABLE dispatcher.lead_attempts DROP CONSTRAINT IF EXISTS lead_attempts_order_check,
    ADD CONSTRAINT lead_attempts_order_check
    CHECK (started_at <= ended_at AND started_at <= finished_at AND ended_at <= finished_at) NOT VALID
"""

# Setting a column to itself is enough: the trigger does the rest.
MEND = """
WITH portion AS (
    SELECT id, started_at <= ended_at AND started_at <= finished_at AND ended_at <= finished_at AS ordered
    FROM dispatcher.lead_attempts
    WHERE CAST(:after AS uuid) IS NULL OR id > CAST(:after AS uuid) ORDER BY id LIMIT 20000
), mended AS (
    UPDATE dispatcher.lead_attempts AS attempt SET ended_at = attempt.ended_at
    FROM portion WHERE attempt.id = portion.id AND NOT portion.ordered
)
SELECT id FROM portion ORDER BY id DESC LIMIT 1
"""


def upgrade() -> None:
    change(FUNCTION, table="lead_attempts")
    change(TRIGGER, table="lead_attempts")
    change(CONSTRAINT, table="lead_attempts")
    in_portions(MEND, table="lead_attempts")
    change("ALTER TABLE dispatcher.lead_attempts VALIDATE CONSTRAINT lead_attempts_order_check", table="lead_attempts")


def downgrade() -> None:
    raise NotImplementedError("A downgrade would drop leads; restore a backup instead.")
