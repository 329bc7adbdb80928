"""Bulk work as stored work, earlier versions of corrected leads, and the indexes of the console's pages.

Revision ID: 0003
Revises: 0001
"""

from alembic import op

revision = "0003"
down_revision = "0001"
branch_labels = None
depends_on = None

TABLES = """
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

# The failed screen lists, counts and groups from the index alone; the audit log is read by its subject.
INDEXES = """
DROP INDEX dispatcher.failed_leads_open;

CREATE INDEX failed_leads_open
    ON dispatcher.failed_leads (failed_at, id)
    INCLUDE (lead_id, account, campaign_id, phone_number, failure_class, http_status, fingerprint, attempts)
    WHERE resolved_at IS NULL;

CREATE INDEX failed_leads_resolved
    ON dispatcher.failed_leads (failed_at, id)
    INCLUDE (lead_id, account, campaign_id, phone_number, failure_class, http_status, fingerprint, attempts)
    WHERE resolved_at IS NOT NULL;

DROP INDEX dispatcher.leads_finished;

CREATE INDEX leads_finished
    ON dispatcher.leads (finished_at)
    INCLUDE (state)
    WHERE finished_at IS NOT NULL;

CREATE INDEX failed_leads_lead
    ON dispatcher.failed_leads (lead_id);

CREATE INDEX failed_leads_phone
    ON dispatcher.failed_leads (phone_number);

CREATE INDEX audit_log_subject
    ON dispatcher.audit_log (subject, id);
"""


def upgrade() -> None:
    for script in (TABLES, INDEXES):
        op.get_bind().exec_driver_sql(script)


def downgrade() -> None:
    raise NotImplementedError("A downgrade would drop stored work; restore a backup instead.")
