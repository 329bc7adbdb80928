"""The inbox: leads that programs in any language submit by SQL, until a worker has validated them.

Revision ID: 0010
Revises: 0009

Locks: none but on the new table; the functions of the audit log are changed in the catalog only.
"""

from dispatcher.store.ddl import change

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

# id: of the lead that it will become. lead: as it was given; NULL once it is known as the repetition of lead_id. bytes:
# of its text. caller: the login that submitted it. postponed_until: another transaction held what it needs. reasons:
# an array of {field, fault, remedy}.
TABLE = """
CREATE TABLE IF NOT EXISTS dispatcher.inbox (
    id uuid NOT NULL,
    position bigint GENERATED ALWAYS AS IDENTITY,
    state text DEFAULT 'waiting' NOT NULL,
    account text NOT NULL,
    lead jsonb,
    idempotency_key text,
    priority integer,
    not_before timestamptz,
    expires_at timestamptz,
    bytes integer NOT NULL,
    caller text NOT NULL,
    created_at timestamptz DEFAULT clock_timestamp() NOT NULL,
    postponed_until timestamptz,
    ended_at timestamptz,
    reasons jsonb,
    lead_id uuid,
    CONSTRAINT inbox_pkey PRIMARY KEY (id),
    CONSTRAINT inbox_state_check CHECK (state IN ('waiting', 'rejected', 'repeated')),
    CONSTRAINT inbox_ended_check CHECK ((state = 'waiting') = (ended_at IS NULL)),
    CONSTRAINT inbox_rejected_has_reasons_check CHECK ((state = 'rejected') = (reasons IS NOT NULL)),
    CONSTRAINT inbox_repeated_has_lead_check CHECK ((state = 'repeated') = (lead_id IS NOT NULL)),
    CONSTRAINT inbox_lead_check CHECK (state = 'repeated' OR lead IS NOT NULL)
)
WITH (
    autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0,
    autovacuum_analyze_scale_factor = 0.02
);

CREATE INDEX IF NOT EXISTS inbox_waiting
    ON dispatcher.inbox (position)
    WHERE state = 'waiting';

CREATE INDEX IF NOT EXISTS inbox_ended
    ON dispatcher.inbox (ended_at, id)
    WHERE ended_at IS NOT NULL;
"""

# It refuses what no worker could store or read; the rest is told by the rejected row. pg_temp comes last: unnamed it
# would come first, and a caller's temporary type could stand for one of ours. The id is a UUIDv7 (RFC 9562, section
# 5.7) with the fraction of the millisecond (section 6.2, method 3), so that ids ascend in the order of the calls.
# The doubled % is the driver's escape.
SUBMIT = """
CREATE OR REPLACE FUNCTION dispatcher.submit_lead(
    lead jsonb,
    key text DEFAULT NULL,
    account text DEFAULT 'default',
    priority integer DEFAULT 0,
    not_before timestamptz DEFAULT NULL,
    expires_at timestamptz DEFAULT NULL
) RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    kind text := coalesce(jsonb_typeof(submit_lead.lead), 'null');
    size integer := coalesce(octet_length(submit_lead.lead::text), 0);
    faults text[] := ARRAY[]::text[];
    microseconds bigint := (extract(epoch FROM clock_timestamp()) * 1000000)::bigint;
    made uuid;
BEGIN
    IF kind <> 'object' THEN
        faults := faults || format('lead: is %%s, not a JSON object; pass jsonb with phone_number and campaign_id',
            CASE kind WHEN 'null' THEN 'null' WHEN 'array' THEN 'an array' ELSE 'a ' || kind END);
    ELSE
        IF coalesce(jsonb_typeof(submit_lead.lead -> 'phone_number'), 'null') = 'null' THEN
            faults := faults || 'phone_number: is missing; write it in E.164 form, e.g. +14155550100'::text;
        END IF;
        IF coalesce(jsonb_typeof(submit_lead.lead -> 'campaign_id'), 'null') = 'null' THEN
            faults := faults || 'campaign_id: is missing; pass the campaign''s id as Voicery shows it, e.g. 42'::text;
        END IF;
    END IF;
    IF size > 262144 THEN
        faults := faults || 'lead: is larger than 256 KiB as JSON; send less, or a reference to data kept elsewhere'::text;
    END IF;
    IF coalesce(submit_lead.account, '') !~ '^[a-z0-9_]{1,40}$' THEN
        faults := faults || 'account: is not a name of an account; use 1 to 40 of a-z, 0-9 and _'::text;
    END IF;
    IF length(submit_lead.key) > 200 THEN
        faults := faults || ('idempotency_key: is longer than 200 characters; pass the id that your system gave this '
            || 'submission');
    END IF;
    IF submit_lead.not_before < make_timestamptz(2000, 1, 1, 0, 0, 0, 'UTC')
        OR submit_lead.not_before >= make_timestamptz(9999, 1, 1, 0, 0, 0, 'UTC') THEN
        faults := faults || 'not_before: is not in a year from 2000 to 9998; pass e.g. now() + interval ''1 hour'''::text;
    END IF;
    IF submit_lead.expires_at < make_timestamptz(2000, 1, 1, 0, 0, 0, 'UTC')
        OR submit_lead.expires_at >= make_timestamptz(9999, 1, 1, 0, 0, 0, 'UTC') THEN
        faults := faults || 'expires_at: is not in a year from 2000 to 9998; pass e.g. now() + interval ''1 day'''::text;
    END IF;
    IF cardinality(faults) > 0 THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'The lead was refused, nothing was stored: ' || array_to_string(faults, ' · ');
    END IF;
    made := encode(
        substring(int8send(microseconds / 1000) FROM 3)
        || int2send((28672 + microseconds %% 1000 * 4096 / 1000)::smallint)
        || substring(uuid_send(gen_random_uuid()) FROM 9),
        'hex')::uuid;
    INSERT INTO dispatcher.inbox
        (id, account, lead, idempotency_key, priority, not_before, expires_at, bytes, caller)
    VALUES (made, submit_lead.account, submit_lead.lead, submit_lead.key, submit_lead.priority, submit_lead.not_before,
        submit_lead.expires_at, size, session_user);
    RETURN made;
END
$$
"""

NOT_FOR_ALL = """
REVOKE ALL ON FUNCTION dispatcher.submit_lead(jsonb, text, text, integer, timestamptz, timestamptz) FROM PUBLIC
"""

# What became of a submission, by the id that `submit_lead` returned, or by that of any lead. No data of people.
SUBMISSIONS = """
CREATE OR REPLACE VIEW dispatcher.submissions AS
SELECT lead.id, lead.state, lead.id AS lead_id, CAST(NULL AS jsonb) AS reasons, lead.account, lead.failure_class,
    lead.duplicate_of, lead.created_at, lead.finished_at AS ended_at
FROM dispatcher.leads AS lead
UNION ALL
SELECT inbox.id, CASE inbox.state WHEN 'repeated' THEN coalesce(first.state, 'deleted') ELSE inbox.state END,
    inbox.lead_id, inbox.reasons, inbox.account, first.failure_class, first.duplicate_of, inbox.created_at,
    CASE inbox.state WHEN 'repeated' THEN first.finished_at ELSE inbox.ended_at END
FROM dispatcher.inbox AS inbox LEFT JOIN dispatcher.leads AS first ON first.id = inbox.lead_id
"""

# As above: pg_temp last.
OLDER = (
    "seal_audit(bigint)",
    "chain_audit()",
    "unsalt_audit()",
    "prune_audit(timestamptz, text, int)",
)


def upgrade() -> None:
    for statement in (TABLE, SUBMIT, NOT_FOR_ALL, SUBMISSIONS):
        change(statement, table="inbox")
    for function in OLDER:
        change(f"ALTER FUNCTION dispatcher.{function} SET search_path = pg_catalog, pg_temp", table="audit_log")


def downgrade() -> None:
    raise NotImplementedError("A downgrade would drop leads; restore a backup instead.")
