"""The outbox of alerts, which triggers fill, and the counters that cannot be derived from other rows.

Revision ID: 0004
Revises: 0003
"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE dispatcher.alerts (
    id bigint GENERATED ALWAYS AS IDENTITY,
    at timestamptz DEFAULT now() NOT NULL,
    kind text NOT NULL,
    cause text NOT NULL,
    account text,
    campaign_id bigint,
    reason text,
    lead_id uuid,
    due_at timestamptz DEFAULT now() NOT NULL,
    tries integer DEFAULT 0 NOT NULL,
    done_at timestamptz,
    result text,
    CONSTRAINT alerts_pkey PRIMARY KEY (id),
    CONSTRAINT alerts_kind_check CHECK (kind IN ('outcome_unknown', 'incident', 'gate_closed')),
    CONSTRAINT alerts_result_check CHECK (result IN ('sent', 'folded', 'given_up')),
    CONSTRAINT alerts_done_has_result_check CHECK ((done_at IS NULL) = (result IS NULL))
);

CREATE INDEX alerts_at
    ON dispatcher.alerts (at);

CREATE INDEX alerts_open
    ON dispatcher.alerts (due_at)
    WHERE done_at IS NULL;

CREATE INDEX alerts_open_cause
    ON dispatcher.alerts (cause)
    WHERE done_at IS NULL;

CREATE INDEX alerts_sent
    ON dispatcher.alerts (cause, done_at)
    WHERE result = 'sent';

CREATE TABLE dispatcher.tallies (
    name text NOT NULL,
    account text NOT NULL,
    label text NOT NULL,
    value double precision NOT NULL,
    CONSTRAINT tallies_pkey PRIMARY KEY (name, account, label)
)
WITH (fillfactor = 50);
"""

# In the transaction of the change itself, whichever code makes it. Only inserts: no row that two transactions could
# want, so no wait and no deadlock. What is equal is folded when it is sent.
TRIGGERS = """
CREATE FUNCTION dispatcher.alert_of_gate() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO dispatcher.alerts (kind, cause, account, campaign_id, reason)
    VALUES ('gate_closed', concat_ws(':', 'gate_closed', NEW.reason, NEW.account, NEW.campaign_id),
        NEW.account, NEW.campaign_id, NEW.reason);
    RETURN NULL;
END
$$;

CREATE TRIGGER gates_alert AFTER UPDATE OF state, reason ON dispatcher.gates
    FOR EACH ROW WHEN (
        NEW.state = 'closed' AND NEW.reason NOT IN ('paused', 'throttled') AND NEW.reason IS DISTINCT FROM OLD.reason
    )
    EXECUTE FUNCTION dispatcher.alert_of_gate();

CREATE FUNCTION dispatcher.alert_of_incident() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO dispatcher.alerts (kind, cause, reason, lead_id)
    VALUES ('incident', concat_ws(':', 'incident', NEW.kind), NEW.kind, NEW.lead_id);
    RETURN NULL;
END
$$;

CREATE TRIGGER incidents_alert AFTER INSERT ON dispatcher.incidents
    FOR EACH ROW EXECUTE FUNCTION dispatcher.alert_of_incident();

CREATE FUNCTION dispatcher.alert_of_failure() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO dispatcher.alerts (kind, cause, account, campaign_id, reason, lead_id)
    VALUES ('outcome_unknown', concat_ws(':', 'outcome_unknown', NEW.account, NEW.campaign_id),
        NEW.account, NEW.campaign_id, 'outcome_unknown', NEW.lead_id);
    RETURN NULL;
END
$$;

CREATE TRIGGER failed_leads_alert AFTER INSERT ON dispatcher.failed_leads
    FOR EACH ROW WHEN (NEW.failure_class = 'outcome_unknown')
    EXECUTE FUNCTION dispatcher.alert_of_failure();
"""


def upgrade() -> None:
    for script in (TABLES, TRIGGERS):
        op.get_bind().exec_driver_sql(script)


def downgrade() -> None:
    raise NotImplementedError("A downgrade would drop leads; restore a backup instead.")
