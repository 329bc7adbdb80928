"""The schema of the first release: leads and their attempts, failures, gates, stored work, alerts and imports.

Revision ID: 0001
Revises:
"""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

LEADS = """
CREATE TABLE dispatcher.leads (
    id uuid NOT NULL,
    account text NOT NULL,
    campaign_id bigint NOT NULL,
    phone_number text NOT NULL,
    variables jsonb DEFAULT '{}'::jsonb NOT NULL,
    allow_dupplicate boolean DEFAULT false NOT NULL,
    state text NOT NULL,
    failure_class text,
    priority smallint DEFAULT 0 NOT NULL,
    due_at timestamptz NOT NULL,
    expires_at timestamptz,
    attempts integer DEFAULT 0 NOT NULL,
    resends smallint DEFAULT 0 NOT NULL,
    first_attempt_at timestamptz,
    lease_until timestamptz,
    attempt_id uuid,
    voicery_lead_id bigint,
    voicery_status text,
    duplicate_of uuid,
    idempotency_key text,
    payload_hash text NOT NULL,
    batch_id uuid,
    last_error text,
    created_at timestamptz DEFAULT now() NOT NULL,
    updated_at timestamptz DEFAULT now() NOT NULL,
    finished_at timestamptz,
    resolved_at timestamptz,
    CONSTRAINT leads_pkey PRIMARY KEY (id),
    CONSTRAINT leads_state_check CHECK (state IN ('pending', 'sending', 'unknown', 'accepted', 'duplicate', 'failed', 'cancelled')),
    CONSTRAINT leads_failure_class_check CHECK (failure_class IN ('rejected', 'exhausted', 'outcome_unknown', 'expired', 'bug')),
    CONSTRAINT leads_priority_check CHECK (priority BETWEEN 0 AND 9),
    CONSTRAINT leads_campaign_id_check CHECK (campaign_id > 0),
    CONSTRAINT leads_attempts_check CHECK (attempts >= 0),
    CONSTRAINT leads_failed_has_class_check CHECK ((state = 'failed') = (failure_class IS NOT NULL)),
    CONSTRAINT leads_sending_has_lease_check CHECK ((state = 'sending') = (lease_until IS NOT NULL)),
    CONSTRAINT leads_in_doubt_has_attempt_check CHECK (state NOT IN ('sending', 'unknown') OR attempt_id IS NOT NULL)
);

CREATE INDEX leads_batch
    ON dispatcher.leads (batch_id)
    WHERE batch_id IS NOT NULL;

CREATE INDEX leads_due
    ON dispatcher.leads (account, campaign_id, priority, due_at, id)
    WHERE state = 'pending';

CREATE INDEX leads_expiring
    ON dispatcher.leads (expires_at)
    WHERE state = 'pending' AND expires_at IS NOT NULL;

CREATE INDEX leads_finished
    ON dispatcher.leads (finished_at)
    INCLUDE (state)
    WHERE finished_at IS NOT NULL;

CREATE INDEX leads_leased
    ON dispatcher.leads (lease_until)
    WHERE state = 'sending';

CREATE UNIQUE INDEX leads_one_live
    ON dispatcher.leads (account, campaign_id, phone_number)
    WHERE NOT allow_dupplicate AND (state IN ('pending', 'sending', 'unknown', 'accepted') OR (state = 'failed' AND failure_class = 'outcome_unknown' AND resolved_at IS NULL));

CREATE INDEX leads_unknown
    ON dispatcher.leads (account, due_at)
    WHERE state = 'unknown';

CREATE UNIQUE INDEX leads_voicery_lead_id
    ON dispatcher.leads (account, voicery_lead_id)
    WHERE voicery_lead_id IS NOT NULL;

CREATE TABLE dispatcher.lead_contacts (
    lead_id uuid NOT NULL,
    position smallint NOT NULL,
    account text NOT NULL,
    phone_number text NOT NULL,
    variables jsonb DEFAULT '{}'::jsonb NOT NULL,
    voicery_lead_id bigint,
    voicery_status text,
    CONSTRAINT lead_contacts_pkey PRIMARY KEY (lead_id, position),
    CONSTRAINT lead_contacts_lead_id_fkey FOREIGN KEY(lead_id) REFERENCES dispatcher.leads (id) ON DELETE CASCADE
);

CREATE INDEX lead_contacts_voicery_lead_id
    ON dispatcher.lead_contacts (account, voicery_lead_id)
    WHERE voicery_lead_id IS NOT NULL;

CREATE TABLE dispatcher.lead_attempts (
    id uuid NOT NULL,
    lead_id uuid NOT NULL,
    number integer NOT NULL,
    account text NOT NULL,
    campaign_id bigint NOT NULL,
    phone_number text NOT NULL,
    watermark bigint NOT NULL,
    started_at timestamptz DEFAULT now() NOT NULL,
    ended_at timestamptz,
    finished_at timestamptz,
    outcome text,
    http_status smallint,
    error text,
    response text,
    evidence jsonb DEFAULT '{}'::jsonb NOT NULL,
    worker text,
    CONSTRAINT lead_attempts_pkey PRIMARY KEY (id),
    CONSTRAINT lead_attempts_lead_id_fkey FOREIGN KEY(lead_id) REFERENCES dispatcher.leads (id) ON DELETE CASCADE
);

CREATE INDEX lead_attempts_lead
    ON dispatcher.lead_attempts (lead_id, started_at);

CREATE UNIQUE INDEX lead_attempts_one_open_lead
    ON dispatcher.lead_attempts (lead_id)
    WHERE finished_at IS NULL;

CREATE UNIQUE INDEX lead_attempts_one_open_person
    ON dispatcher.lead_attempts (account, campaign_id, phone_number)
    WHERE finished_at IS NULL;

CREATE TABLE dispatcher.failed_leads (
    id bigint GENERATED ALWAYS AS IDENTITY,
    lead_id uuid NOT NULL,
    account text NOT NULL,
    campaign_id bigint NOT NULL,
    phone_number text NOT NULL,
    failure_class text NOT NULL,
    http_status smallint,
    fingerprint text NOT NULL,
    message text NOT NULL,
    response text,
    attempts integer NOT NULL,
    failed_at timestamptz DEFAULT now() NOT NULL,
    resolved_at timestamptz,
    resolution text,
    resolved_by text,
    note text,
    CONSTRAINT failed_leads_pkey PRIMARY KEY (id),
    CONSTRAINT failed_leads_failure_class_check CHECK (failure_class IN ('rejected', 'exhausted', 'outcome_unknown', 'expired', 'bug')),
    CONSTRAINT failed_leads_resolution_check CHECK (resolution IN ('replayed', 'found', 'dismissed', 'erased')),
    CONSTRAINT failed_leads_resolved_has_resolution_check CHECK ((resolved_at IS NULL) = (resolution IS NULL)),
    CONSTRAINT failed_leads_lead_id_fkey FOREIGN KEY(lead_id) REFERENCES dispatcher.leads (id) ON DELETE CASCADE
);

CREATE UNIQUE INDEX failed_leads_one_open
    ON dispatcher.failed_leads (lead_id)
    WHERE resolved_at IS NULL;

CREATE INDEX failed_leads_open
    ON dispatcher.failed_leads (failed_at, id)
    INCLUDE (lead_id, account, campaign_id, phone_number, failure_class, http_status, fingerprint, attempts)
    WHERE resolved_at IS NULL;

CREATE INDEX failed_leads_open_cause
    ON dispatcher.failed_leads (fingerprint, failed_at)
    WHERE resolved_at IS NULL;

CREATE INDEX failed_leads_resolved
    ON dispatcher.failed_leads (failed_at, id)
    INCLUDE (lead_id, account, campaign_id, phone_number, failure_class, http_status, fingerprint, attempts)
    WHERE resolved_at IS NOT NULL;

CREATE INDEX failed_leads_lead
    ON dispatcher.failed_leads (lead_id);

CREATE INDEX failed_leads_phone
    ON dispatcher.failed_leads (phone_number);

CREATE TABLE dispatcher.accounts (
    name text NOT NULL,
    base_url text,
    watermark_off boolean DEFAULT false NOT NULL,
    list_off_until timestamptz,
    CONSTRAINT accounts_pkey PRIMARY KEY (name),
    CONSTRAINT accounts_name_check CHECK (name ~ '^[a-z0-9_]{1,40}$')
);

CREATE TABLE dispatcher.channels (
    account text NOT NULL,
    campaign_id bigint NOT NULL,
    served_at timestamptz,
    rate_limit text,
    CONSTRAINT channels_pkey PRIMARY KEY (account, campaign_id)
);

CREATE TABLE dispatcher.gates (
    id bigint GENERATED ALWAYS AS IDENTITY,
    account text NOT NULL,
    campaign_id bigint,
    state text DEFAULT 'open' NOT NULL,
    reason text,
    failures integer DEFAULT 0 NOT NULL,
    refusals integer DEFAULT 0 NOT NULL,
    refusal text,
    closings integer DEFAULT 0 NOT NULL,
    probes integer DEFAULT 0 NOT NULL,
    closed_at timestamptz,
    until timestamptz,
    by text,
    note text,
    CONSTRAINT gates_pkey PRIMARY KEY (id),
    CONSTRAINT gates_state_check CHECK (state IN ('open', 'closed', 'probing')),
    CONSTRAINT gates_closed_has_reason_check CHECK ((state = 'open') = (reason IS NULL))
);

CREATE INDEX gates_not_open
    ON dispatcher.gates (until)
    WHERE state <> 'open';

CREATE UNIQUE INDEX gates_scope
    ON dispatcher.gates (account, COALESCE(campaign_id, 0));

CREATE TABLE dispatcher.incidents (
    id bigint GENERATED ALWAYS AS IDENTITY,
    at timestamptz DEFAULT now() NOT NULL,
    kind text NOT NULL,
    lead_id uuid,
    message text NOT NULL,
    evidence jsonb DEFAULT '{}'::jsonb NOT NULL,
    seen_at timestamptz,
    seen_by text,
    CONSTRAINT incidents_pkey PRIMARY KEY (id)
);

CREATE INDEX incidents_unseen
    ON dispatcher.incidents (at)
    WHERE seen_at IS NULL;

CREATE TABLE dispatcher.idempotency_keys (
    account text NOT NULL,
    key text NOT NULL,
    lead_id uuid NOT NULL,
    payload_hash text NOT NULL,
    state text NOT NULL,
    duplicate_of uuid,
    created_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT idempotency_keys_pkey PRIMARY KEY (account, key)
);

CREATE INDEX idempotency_keys_created
    ON dispatcher.idempotency_keys (created_at);

CREATE TABLE dispatcher.sweeps (
    name text NOT NULL,
    holder text,
    held_until timestamptz,
    swept_at timestamptz,
    pruned_at timestamptz,
    CONSTRAINT sweeps_pkey PRIMARY KEY (name)
);

CREATE TABLE dispatcher.workers (
    name text NOT NULL,
    started_at timestamptz DEFAULT now() NOT NULL,
    seen_at timestamptz DEFAULT now() NOT NULL,
    claims bigint DEFAULT 0 NOT NULL,
    CONSTRAINT workers_pkey PRIMARY KEY (name)
);

CREATE TABLE dispatcher.audit_log (
    id bigint GENERATED ALWAYS AS IDENTITY,
    at timestamptz DEFAULT now() NOT NULL,
    actor text NOT NULL,
    action text NOT NULL,
    subject text NOT NULL,
    detail jsonb DEFAULT '{}'::jsonb NOT NULL,
    CONSTRAINT audit_log_pkey PRIMARY KEY (id)
);

CREATE INDEX audit_log_subject
    ON dispatcher.audit_log (subject, id);
"""

OPERATIONS = """
CREATE TABLE dispatcher.operations (
    id uuid NOT NULL,
    kind text NOT NULL,
    state text DEFAULT 'queued' NOT NULL,
    filters jsonb DEFAULT '{}'::jsonb NOT NULL,
    options jsonb DEFAULT '{}'::jsonb NOT NULL,
    actor text NOT NULL,
    total integer NOT NULL,
    done integer DEFAULT 0 NOT NULL,
    refused integer DEFAULT 0 NOT NULL,
    per_minute integer,
    next_at timestamptz DEFAULT now() NOT NULL,
    created_at timestamptz DEFAULT now() NOT NULL,
    started_at timestamptz,
    finished_at timestamptz,
    stopped_by text,
    CONSTRAINT operations_pkey PRIMARY KEY (id),
    CONSTRAINT operations_kind_check CHECK (kind IN ('replay', 'dismiss', 'look_up')),
    CONSTRAINT operations_state_check CHECK (state IN ('queued', 'running', 'stopped', 'finished')),
    CONSTRAINT operations_per_minute_check CHECK (per_minute > 0),
    CONSTRAINT operations_ended_check CHECK ((state IN ('stopped', 'finished')) = (finished_at IS NOT NULL))
);

CREATE INDEX operations_created
    ON dispatcher.operations (created_at);

CREATE INDEX operations_open
    ON dispatcher.operations (next_at)
    WHERE finished_at IS NULL;

CREATE TABLE dispatcher.operation_leads (
    operation_id uuid NOT NULL,
    position integer NOT NULL,
    lead_id uuid NOT NULL,
    outcome text,
    reason text,
    CONSTRAINT operation_leads_pkey PRIMARY KEY (operation_id, position),
    CONSTRAINT operation_leads_outcome_check CHECK (outcome IN ('done', 'refused')),
    CONSTRAINT operation_leads_operation_id_fkey FOREIGN KEY(operation_id) REFERENCES dispatcher.operations (id) ON DELETE CASCADE
);

CREATE INDEX operation_leads_open
    ON dispatcher.operation_leads (operation_id, position)
    WHERE outcome IS NULL;

CREATE INDEX operation_leads_refused
    ON dispatcher.operation_leads (operation_id, position)
    WHERE outcome = 'refused';

CREATE TABLE dispatcher.lead_revisions (
    lead_id uuid NOT NULL,
    revision integer NOT NULL,
    campaign_id bigint NOT NULL,
    phone_number text NOT NULL,
    variables jsonb NOT NULL,
    payload_hash text NOT NULL,
    replaced_at timestamptz DEFAULT now() NOT NULL,
    replaced_by text NOT NULL,
    note text,
    CONSTRAINT lead_revisions_pkey PRIMARY KEY (lead_id, revision),
    CONSTRAINT lead_revisions_lead_id_fkey FOREIGN KEY(lead_id) REFERENCES dispatcher.leads (id) ON DELETE CASCADE
);
"""

ALERTS = """
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

IMPORTS = """
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

# Native code decides; the function runs only to refuse. The pairs are `dispatcher.decisions.states.LEGAL_MOVES` (tested
# equal). The doubled % is the driver's escape.
MOVES = """
CREATE FUNCTION dispatcher.refuse_illegal_move() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'a lead may not go from %% to %%', OLD.state, NEW.state
        USING ERRCODE = 'check_violation', CONSTRAINT = 'leads_legal_moves';
END
$$;

CREATE TRIGGER leads_legal_moves BEFORE UPDATE OF state ON dispatcher.leads
    FOR EACH ROW WHEN (
        OLD.state <> NEW.state AND (OLD.state, NEW.state) NOT IN (
            ('pending', 'sending'), ('pending', 'cancelled'), ('pending', 'failed'),
            ('sending', 'accepted'), ('sending', 'pending'), ('sending', 'duplicate'), ('sending', 'failed'),
            ('sending', 'unknown'),
            ('unknown', 'accepted'), ('unknown', 'pending'), ('unknown', 'failed'), ('unknown', 'duplicate'),
            ('failed', 'pending'), ('failed', 'accepted')
        )
    )
    EXECUTE FUNCTION dispatcher.refuse_illegal_move();
"""

# Written in the transaction of the change itself, whichever code makes it. Only inserts: no row that two transactions
# could want, so no wait and no deadlock. Equal alerts are folded when they are sent.
OUTBOX = """
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

# The queue's table lives on dead rows: vacuum it by count, not by share, and without delays.
AUTOVACUUM = """
ALTER TABLE dispatcher.leads SET (
    fillfactor = 85, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_cost_delay = 0, autovacuum_analyze_scale_factor = 0.02
);
ALTER TABLE dispatcher.lead_attempts SET (
    fillfactor = 90, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_cost_delay = 0, autovacuum_analyze_scale_factor = 0.02
);
"""

# One call inside the claim: it first waits for a pause that is being committed, then looks with a fresh snapshot (which
# a VOLATILE function takes for each of its queries, while the claim around it keeps its older one).
GATES = """
CREATE FUNCTION dispatcher.gates_let_through(for_account text, for_campaign bigint, shut text[])
RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(hashtextextended('dispatcher.pause:' || for_account, 0));
    RETURN NOT EXISTS (
        SELECT FROM dispatcher.gates
        WHERE account = for_account AND COALESCE(campaign_id, 0) IN (0, for_campaign) AND state = ANY (shut)
    );
END
$$;
"""

THE_SWEEP = "INSERT INTO dispatcher.sweeps (name) VALUES ('sweep')"


def upgrade() -> None:
    for script in (LEADS, OPERATIONS, ALERTS, IMPORTS, MOVES, OUTBOX, AUTOVACUUM, GATES, THE_SWEEP):
        op.get_bind().exec_driver_sql(script)


def downgrade() -> None:
    raise NotImplementedError("A downgrade would drop leads; restore a backup instead.")
