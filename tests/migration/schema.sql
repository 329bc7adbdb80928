CREATE OR REPLACE FUNCTION dispatcher.alert_of_failure()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
BEGIN
    INSERT INTO dispatcher.alerts (kind, cause, account, campaign_id, reason, lead_id)
    VALUES ('outcome_unknown', concat_ws(':', 'outcome_unknown', NEW.account, NEW.campaign_id),
        NEW.account, NEW.campaign_id, 'outcome_unknown', NEW.lead_id);
    RETURN NULL;
END
$function$
CREATE OR REPLACE FUNCTION dispatcher.alert_of_gate()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
BEGIN
    INSERT INTO dispatcher.alerts (kind, cause, account, campaign_id, reason)
    VALUES ('gate_closed', concat_ws(':', 'gate_closed', NEW.reason, NEW.account, NEW.campaign_id),
        NEW.account, NEW.campaign_id, NEW.reason);
    RETURN NULL;
END
$function$
CREATE OR REPLACE FUNCTION dispatcher.alert_of_incident()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
BEGIN
    INSERT INTO dispatcher.alerts (kind, cause, reason, lead_id)
    VALUES ('incident', concat_ws(':', 'incident', NEW.kind), NEW.kind, NEW.lead_id);
    RETURN NULL;
END
$function$
CREATE OR REPLACE FUNCTION dispatcher.blocks_met(for_account text, lead_ids uuid[], drops boolean, inner_pad bytea, outer_pad bytea)
 RETURNS TABLE(lead_id uuid, "position" smallint, block_id bigint, holds boolean)
 LANGUAGE plpgsql
 SET enable_seqscan TO 'off'
AS $function$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(hashtextextended('dispatcher.blocks', 0));
    IF EXISTS (SELECT FROM dispatcher.erased_leads) THEN
        RETURN QUERY
            SELECT lead.id, CAST(NULL AS smallint), CAST(NULL AS bigint), true
            FROM dispatcher.leads AS lead
            WHERE lead.id = ANY (lead_ids) AND NOT lead.allow_dupplicate AND EXISTS (
                SELECT FROM dispatcher.erased_of(lead.account, lead.campaign_id, lead.phone_number, inner_pad, outer_pad)
            );
    END IF;
    IF NOT EXISTS (SELECT FROM dispatcher.blocks) THEN
        RETURN;
    END IF;
    IF NOT EXISTS (SELECT FROM dispatcher.blocks AS hashed WHERE hashed.number IS NULL) THEN
        inner_pad := NULL;
    END IF;
    RETURN QUERY
        SELECT person.lead_id, person.position, block.id, person.position IS NULL OR NOT drops
        FROM (
            SELECT lead.id AS lead_id, CAST(NULL AS smallint) AS "position", lead.phone_number
            FROM dispatcher.leads AS lead WHERE lead.id = ANY (lead_ids)
            UNION ALL
            SELECT contact.lead_id, contact.position, contact.phone_number
            FROM dispatcher.lead_contacts AS contact WHERE contact.lead_id = ANY (lead_ids)
        ) AS person
        CROSS JOIN LATERAL (
            SELECT met.id FROM dispatcher.blocks_of(for_account, person.phone_number,
                CASE WHEN inner_pad IS NOT NULL
                    THEN sha256(outer_pad || sha256(inner_pad || convert_to(person.phone_number, 'UTF8'))) END) AS met
            LIMIT 1
        ) AS block;
END
$function$
CREATE OR REPLACE FUNCTION dispatcher.blocks_of(for_account text, phone text, hash bytea)
 RETURNS TABLE(id bigint, reason text, source text)
 LANGUAGE sql
 STABLE
AS $function$
    SELECT block.id, block.reason, block.source FROM dispatcher.blocks AS block
    WHERE block.number = phone AND (block.account IS NULL OR block.account = for_account)
      AND (block.until IS NULL OR block.until > now())
    UNION ALL
    SELECT block.id, block.reason, block.source FROM dispatcher.blocks AS block
    WHERE block.number IS NULL AND block.digest = hash AND (block.account IS NULL OR block.account = for_account)
      AND (block.until IS NULL OR block.until > now())
$function$
CREATE OR REPLACE FUNCTION dispatcher.chain_audit()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    PERFORM dispatcher.seal_audit(NEW.id);
    RETURN NULL;
END
$function$
CREATE OR REPLACE FUNCTION dispatcher.check_submission()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
DECLARE
    -- Neither 150 levels nor a number beyond 1e308 fit into less.
    fault text := CASE WHEN NEW.bytes > 300 THEN dispatcher.unreadable(NEW.lead) END;
    granted jsonb := (SELECT accounts FROM dispatcher.submitters WHERE login IN (session_user, 'public')
        ORDER BY login = session_user DESC LIMIT 1);
    campaigns jsonb := granted -> NEW.account;
BEGIN
    IF fault IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'The lead was refused, nothing was stored: lead: ' || fault;
    END IF;
    IF granted IS NOT NULL AND campaigns IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege',
            MESSAGE = concat('The lead was refused, nothing was stored: account: the login ', session_user,
                ' may not submit for the account ', NEW.account, '; have an operator run `dispatcher submitters allow ',
                session_user, ' --account ', NEW.account, '`');
    END IF;
    IF jsonb_typeof(campaigns) = 'array' AND NOT (
        jsonb_typeof(NEW.lead -> 'campaign_id') = 'number' AND campaigns @> (NEW.lead -> 'campaign_id')
    ) THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege',
            MESSAGE = concat('The lead was refused, nothing was stored: campaign_id: the login ', session_user,
                ' may not submit for this campaign of the account ', NEW.account, '; pass the id of one that it may '
                'use as a number, or have an operator run `dispatcher submitters allow`');
    END IF;
    RETURN NEW;
END
$function$
CREATE OR REPLACE FUNCTION dispatcher.erased_of(for_account text, for_campaign bigint, phone text, inner_pad bytea, outer_pad bytea)
 RETURNS SETOF dispatcher.erased_leads
 LANGUAGE sql
 STABLE
AS $function$
    SELECT * FROM dispatcher.erased_leads AS erased
    WHERE erased.account = for_account AND erased.campaign_id = for_campaign
      AND erased.person = CASE WHEN EXISTS (SELECT FROM dispatcher.erased_leads)
          THEN sha256(outer_pad || sha256(inner_pad || convert_to(phone, 'UTF8'))) END
$function$
CREATE OR REPLACE FUNCTION dispatcher.gates_let_through(for_account text, for_campaign bigint, shut text[])
 RETURNS boolean
 LANGUAGE plpgsql
AS $function$
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
$function$
CREATE OR REPLACE FUNCTION dispatcher.keep_audit()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog'
AS $function$
DECLARE
    marks text := '[•"\s,:{}\[\]\\]';
    had text[] := string_to_array(regexp_replace(concat_ws(chr(31), OLD.actor, OLD.subject, OLD.detail), marks, '', 'g'), NULL);
    has text[];
    reached int := 1;
BEGIN
    -- Only inside `prune_audit` is the user the owner and the setting on.
    IF TG_OP = 'DELETE' AND current_setting('dispatcher.audit_pruning', true) = 'on' AND current_user =
        (SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = TG_RELID) THEN
        RETURN OLD;
    END IF;
    IF TG_OP = 'DELETE' OR (NEW.id, NEW.at, NEW.action, NEW.db_user) IS DISTINCT FROM
        (OLD.id, OLD.at, OLD.action, OLD.db_user) THEN
        RAISE EXCEPTION 'the audit log is only appended to' USING ERRCODE = 'insufficient_privilege',
            HINT = 'dispatcher.prune_audit deletes what is old; an erasure takes a number out.';
    END IF;
    has := string_to_array(regexp_replace(concat_ws(chr(31), NEW.actor, NEW.subject, NEW.detail), marks, '', 'g'), NULL);
    FOR place IN 1 .. coalesce(cardinality(has), 0) LOOP
        WHILE reached <= cardinality(had) AND had[reached] <> has[place] LOOP
            reached := reached + 1;
        END LOOP;
        IF reached > coalesce(cardinality(had), 0) THEN
            RAISE EXCEPTION 'the audit log is only appended to; an erasure takes away, and adds nothing'
                USING ERRCODE = 'insufficient_privilege';
        END IF;
        reached := reached + 1;
    END LOOP;
    RETURN NEW;
END
$function$
CREATE OR REPLACE FUNCTION dispatcher.keep_watermark()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
BEGIN
    INSERT INTO dispatcher.accounts AS kept (name, watermark)
    SELECT account, max(voicery_lead_id) FROM gone WHERE voicery_lead_id IS NOT NULL GROUP BY account
    ON CONFLICT (name) DO UPDATE SET watermark = excluded.watermark WHERE kept.watermark < excluded.watermark;
    RETURN NULL;
END
$function$
CREATE OR REPLACE FUNCTION dispatcher.next_takes_place(original_id uuid)
 RETURNS uuid
 LANGUAGE plpgsql
AS $function$
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
$function$
CREATE OR REPLACE FUNCTION dispatcher.note_gate_move()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
BEGIN
    NEW.moved_at := clock_timestamp();
    RETURN NEW;
END
$function$
CREATE OR REPLACE FUNCTION dispatcher.note_key()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
DECLARE
    key_id text := split_part(NEW.variables #>> '{}', ':', 3);
BEGIN
    IF NOT EXISTS (SELECT FROM dispatcher.encryption_keys WHERE id = key_id) THEN
        INSERT INTO dispatcher.encryption_keys (id) VALUES (key_id) ON CONFLICT (id) DO NOTHING;
    END IF;
    RETURN NEW;
END
$function$
CREATE OR REPLACE FUNCTION dispatcher.order_attempt_times()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
BEGIN
    NEW.ended_at := CASE WHEN NEW.ended_at IS NOT NULL THEN greatest(NEW.ended_at, NEW.started_at) END;
    NEW.finished_at := CASE WHEN NEW.finished_at IS NOT NULL
        THEN greatest(NEW.finished_at, NEW.ended_at, NEW.started_at) END;
    RETURN NEW;
END
$function$
CREATE OR REPLACE FUNCTION dispatcher.pass_place_on()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
BEGIN
    PERFORM dispatcher.next_takes_place(NEW.id);
    RETURN NULL;
END
$function$
CREATE OR REPLACE FUNCTION dispatcher.proof_holds(asked_at timestamp with time zone, holds interval, for_account text, for_campaign bigint)
 RETURNS boolean
 LANGUAGE plpgsql
AS $function$
BEGIN
    RETURN asked_at > now() - holds AND NOT EXISTS (
        SELECT FROM dispatcher.gates
        WHERE account = for_account AND COALESCE(campaign_id, 0) IN (0, for_campaign) AND moved_at > asked_at
    );
END
$function$
CREATE OR REPLACE FUNCTION dispatcher.prune_audit(before timestamp with time zone, by text, most integer)
 RETURNS bigint
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    kept bigint;
    anchor record;
    gone bigint;
BEGIN
    IF before > now() - interval '30 days' THEN
        RAISE EXCEPTION 'entries of the last 30 days stay in the audit log' USING ERRCODE = 'insufficient_privilege';
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('dispatcher.audit', 0));
    SELECT min(chain.position) INTO kept FROM dispatcher.audit_chain AS chain
    JOIN dispatcher.audit_log AS line ON line.id = chain.audit_id WHERE line.at >= before;
    SELECT position, hash INTO anchor FROM dispatcher.audit_chain
    WHERE position < coalesce(kept, 9223372036854775807)
      AND position <= (SELECT min(chain.position) FROM dispatcher.audit_chain AS chain
                       JOIN dispatcher.audit_log AS line ON line.id = chain.audit_id) + most - 1
    ORDER BY position DESC LIMIT 1;
    PERFORM set_config('dispatcher.audit_pruning', 'on', true);
    DELETE FROM dispatcher.audit_log AS line USING dispatcher.audit_chain AS chain
    WHERE chain.audit_id = line.id AND chain.position <= anchor.position;
    GET DIAGNOSTICS gone = ROW_COUNT;
    PERFORM set_config('dispatcher.audit_pruning', 'off', true);
    IF gone > 0 THEN
        DELETE FROM dispatcher.audit_chain WHERE position < anchor.position;
        UPDATE dispatcher.audit_chain SET salt = NULL WHERE position = anchor.position;
        INSERT INTO dispatcher.audit_log (actor, action, subject, detail) VALUES (by, 'audit_prune', 'audit_log',
            jsonb_build_object('entries', gone, 'position', anchor.position, 'hash', encode(anchor.hash, 'hex')));
    END IF;
    RETURN gone;
END
$function$
CREATE OR REPLACE FUNCTION dispatcher.refuse_audit_change()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog'
AS $function$
BEGIN
    RAISE EXCEPTION 'the audit log is only appended to' USING ERRCODE = 'insufficient_privilege';
END
$function$
CREATE OR REPLACE FUNCTION dispatcher.refuse_illegal_move()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
BEGIN
    RAISE EXCEPTION 'a lead may not go from % to %', OLD.state, NEW.state
        USING ERRCODE = 'check_violation', CONSTRAINT = 'leads_legal_moves';
END
$function$
CREATE OR REPLACE FUNCTION dispatcher.seal_audit(entry bigint)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    line record;
    before record;
    salt uuid := gen_random_uuid();
    digest bytea;
BEGIN
    -- Held until the commit that follows at once: this runs as the last thing of a transaction.
    PERFORM pg_advisory_xact_lock(hashtextextended('dispatcher.audit', 0));
    SELECT * INTO line FROM dispatcher.audit_log WHERE id = entry
        AND NOT EXISTS (SELECT FROM dispatcher.audit_chain WHERE audit_id = entry);
    IF NOT FOUND THEN
        RETURN;
    END IF;
    SELECT position, hash INTO before FROM dispatcher.audit_chain ORDER BY position DESC LIMIT 1;
    digest := sha256(uuid_send(salt) || sha256(convert_to(line.actor, 'UTF8')) || sha256(convert_to(line.subject, 'UTF8'))
        || sha256(convert_to(line.detail::text, 'UTF8')));
    INSERT INTO dispatcher.audit_chain (position, audit_id, salt, digest, hash)
    VALUES (coalesce(before.position, 0) + 1, entry, salt, digest, sha256(
        coalesce(before.hash, sha256(''::bytea))
        || sha256(convert_to(line.id::text, 'UTF8'))
        || sha256(convert_to((extract(epoch FROM line.at) * 1000000)::bigint::text, 'UTF8'))
        || sha256(convert_to(line.action, 'UTF8'))
        || sha256(convert_to(coalesce(line.db_user, ''), 'UTF8'))
        || digest));
END
$function$
CREATE OR REPLACE FUNCTION dispatcher.stamp_audit()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog'
AS $function$
BEGIN
    NEW.at := clock_timestamp();
    NEW.db_user := session_user;
    RETURN NEW;
END
$function$
CREATE OR REPLACE FUNCTION dispatcher.submit_lead(lead jsonb, key text DEFAULT NULL::text, account text DEFAULT 'default'::text, priority integer DEFAULT 0, not_before timestamp with time zone DEFAULT NULL::timestamp with time zone, expires_at timestamp with time zone DEFAULT NULL::timestamp with time zone)
 RETURNS uuid
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    kind text := coalesce(jsonb_typeof(submit_lead.lead), 'null');
    size integer := coalesce(octet_length(submit_lead.lead::text), 0);
    faults text[] := ARRAY[]::text[];
    microseconds bigint := (extract(epoch FROM clock_timestamp()) * 1000000)::bigint;
    made uuid;
BEGIN
    IF kind <> 'object' THEN
        faults := faults || format('lead: is %s, not a JSON object; pass jsonb with phone_number and campaign_id',
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
        || int2send((28672 + microseconds % 1000 * 4096 / 1000)::smallint)
        || substring(uuid_send(gen_random_uuid()) FROM 9),
        'hex')::uuid;
    INSERT INTO dispatcher.inbox
        (id, account, lead, idempotency_key, priority, not_before, expires_at, bytes, caller)
    VALUES (made, submit_lead.account, submit_lead.lead, submit_lead.key, submit_lead.priority, submit_lead.not_before,
        submit_lead.expires_at, size, session_user);
    RETURN made;
END
$function$
CREATE OR REPLACE FUNCTION dispatcher.this_timeline()
 RETURNS text
 LANGUAGE plpgsql
 STABLE
AS $function$
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
$function$
CREATE OR REPLACE FUNCTION dispatcher.unreadable(value jsonb)
 RETURNS text
 LANGUAGE sql
 IMMUTABLE
AS $function$
    SELECT CASE
        WHEN jsonb_path_exists(value, 'strict $.**{150}')
            THEN 'is nested more than 150 levels deep; flatten it'
        WHEN jsonb_path_exists(value, 'strict $.** ? (@.type() == "number" && (@ > 1e308 || @ < -1e308))')
            THEN 'has a number beyond 1e308; send it as text'
    END
$function$
CREATE OR REPLACE FUNCTION dispatcher.unsalt_audit()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    UPDATE dispatcher.audit_chain SET salt = NULL WHERE audit_id = OLD.id;
    RETURN NULL;
END
$function$
CREATE OR REPLACE FUNCTION dispatcher.wake_next()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
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
$function$
SEQUENCE alerts_id_seq bigint INCREMENT 1 CACHE 1
SEQUENCE api_keys_id_seq bigint INCREMENT 1 CACHE 1
SEQUENCE audit_log_id_seq bigint INCREMENT 1 CACHE 1
SEQUENCE blocks_id_seq bigint INCREMENT 1 CACHE 1
SEQUENCE failed_leads_id_seq bigint INCREMENT 1 CACHE 1
SEQUENCE gates_id_seq bigint INCREMENT 1 CACHE 1
SEQUENCE import_rejections_id_seq bigint INCREMENT 1 CACHE 1
SEQUENCE imports_id_seq bigint INCREMENT 1 CACHE 1
SEQUENCE inbox_position_seq bigint INCREMENT 1 CACHE 1
SEQUENCE incidents_id_seq bigint INCREMENT 1 CACHE 1
SEQUENCE saved_filters_id_seq bigint INCREMENT 1 CACHE 1
TABLE accounts WITH ()
    name text NOT NULL
    base_url text
    watermark_off boolean NOT NULL DEFAULT false
    list_off_until timestamp with time zone
    watermark bigint NOT NULL DEFAULT 0
    terms jsonb
    terms_by text
    CONSTRAINT accounts_name_check CHECK ((name ~ '^[a-z0-9_]{1,40}$'::text))
    CONSTRAINT accounts_pkey PRIMARY KEY (name)
    CREATE UNIQUE INDEX accounts_pkey ON dispatcher.accounts USING btree (name)
TABLE alembic_version WITH ()
    version_num character varying(32) NOT NULL
    CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
    CREATE UNIQUE INDEX alembic_version_pkc ON dispatcher.alembic_version USING btree (version_num)
TABLE alerts WITH ()
    id bigint NOT NULL GENERATED ALWAYS AS IDENTITY
    at timestamp with time zone NOT NULL DEFAULT now()
    kind text NOT NULL
    cause text NOT NULL
    account text
    campaign_id bigint
    reason text
    lead_id uuid
    due_at timestamp with time zone NOT NULL DEFAULT now()
    tries integer NOT NULL DEFAULT 0
    done_at timestamp with time zone
    result text
    CONSTRAINT alerts_done_has_result_check CHECK (((done_at IS NULL) = (result IS NULL)))
    CONSTRAINT alerts_kind_check CHECK ((kind = ANY (ARRAY['outcome_unknown'::text, 'incident'::text, 'gate_closed'::text])))
    CONSTRAINT alerts_pkey PRIMARY KEY (id)
    CONSTRAINT alerts_result_check CHECK ((result = ANY (ARRAY['sent'::text, 'folded'::text, 'given_up'::text])))
    CREATE INDEX alerts_at ON dispatcher.alerts USING btree (at)
    CREATE INDEX alerts_open ON dispatcher.alerts USING btree (due_at) WHERE (done_at IS NULL)
    CREATE INDEX alerts_open_cause ON dispatcher.alerts USING btree (cause) WHERE (done_at IS NULL)
    CREATE UNIQUE INDEX alerts_pkey ON dispatcher.alerts USING btree (id)
    CREATE INDEX alerts_sent ON dispatcher.alerts USING btree (cause, done_at) WHERE (result = 'sent'::text)
TABLE api_keys WITH ()
    id bigint NOT NULL GENERATED ALWAYS AS IDENTITY
    prefix text NOT NULL
    digest bytea NOT NULL
    name text NOT NULL
    account text NOT NULL
    campaigns bigint[]
    mapping text
    rate_limit text NOT NULL
    created_at timestamp with time zone NOT NULL DEFAULT now()
    created_by text NOT NULL
    expires_at timestamp with time zone
    revoked_at timestamp with time zone
    last_used_at timestamp with time zone
    CONSTRAINT api_keys_campaigns_check CHECK (((campaigns IS NULL) OR (cardinality(campaigns) > 0)))
    CONSTRAINT api_keys_digest_check CHECK ((octet_length(digest) = 32))
    CONSTRAINT api_keys_pkey PRIMARY KEY (id)
    CONSTRAINT api_keys_prefix_key UNIQUE (prefix)
    CREATE UNIQUE INDEX api_keys_pkey ON dispatcher.api_keys USING btree (id)
    CREATE UNIQUE INDEX api_keys_prefix_key ON dispatcher.api_keys USING btree (prefix)
TABLE audit_chain WITH ()
    position bigint NOT NULL
    audit_id bigint NOT NULL
    salt uuid
    digest bytea NOT NULL
    hash bytea NOT NULL
    CONSTRAINT audit_chain_audit_id_key UNIQUE (audit_id)
    CONSTRAINT audit_chain_pkey PRIMARY KEY ("position")
    CREATE UNIQUE INDEX audit_chain_audit_id_key ON dispatcher.audit_chain USING btree (audit_id)
    CREATE UNIQUE INDEX audit_chain_pkey ON dispatcher.audit_chain USING btree ("position")
    CREATE TRIGGER audit_chain_keep_all BEFORE TRUNCATE ON dispatcher.audit_chain FOR EACH STATEMENT EXECUTE FUNCTION dispatcher.refuse_audit_change()
TABLE audit_log WITH ()
    id bigint NOT NULL GENERATED ALWAYS AS IDENTITY
    at timestamp with time zone NOT NULL DEFAULT now()
    actor text NOT NULL
    action text NOT NULL
    subject text NOT NULL
    detail jsonb NOT NULL DEFAULT '{}'::jsonb
    db_user text
    CONSTRAINT audit_log_chain TRIGGER DEFERRABLE INITIALLY DEFERRED
    CONSTRAINT audit_log_pkey PRIMARY KEY (id)
    CREATE INDEX audit_log_exports ON dispatcher.audit_log USING btree (actor, at) WHERE (action = ANY (ARRAY['export'::text, 'export_refused'::text]))
    CREATE UNIQUE INDEX audit_log_pkey ON dispatcher.audit_log USING btree (id)
    CREATE INDEX audit_log_subject ON dispatcher.audit_log USING btree (subject, id)
    CREATE CONSTRAINT TRIGGER audit_log_chain AFTER INSERT ON dispatcher.audit_log DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION dispatcher.chain_audit()
    CREATE TRIGGER audit_log_keep BEFORE DELETE OR UPDATE ON dispatcher.audit_log FOR EACH ROW EXECUTE FUNCTION dispatcher.keep_audit()
    CREATE TRIGGER audit_log_keep_all BEFORE TRUNCATE ON dispatcher.audit_log FOR EACH STATEMENT EXECUTE FUNCTION dispatcher.refuse_audit_change()
    CREATE TRIGGER audit_log_stamp BEFORE INSERT ON dispatcher.audit_log FOR EACH ROW EXECUTE FUNCTION dispatcher.stamp_audit()
    CREATE TRIGGER audit_log_unsalt AFTER UPDATE ON dispatcher.audit_log FOR EACH ROW EXECUTE FUNCTION dispatcher.unsalt_audit()
TABLE blocks WITH ()
    id bigint NOT NULL GENERATED ALWAYS AS IDENTITY
    number text
    digest bytea
    account text
    reason text
    source text
    who text NOT NULL
    created_at timestamp with time zone NOT NULL DEFAULT now()
    until timestamp with time zone
    CONSTRAINT blocks_digest_check CHECK ((octet_length(digest) = 32))
    CONSTRAINT blocks_names_somebody_check CHECK (((number IS NOT NULL) OR (digest IS NOT NULL)))
    CONSTRAINT blocks_pkey PRIMARY KEY (id)
    CREATE UNIQUE INDEX blocks_digest ON dispatcher.blocks USING btree (digest, COALESCE(account, ''::text)) WHERE (number IS NULL)
    CREATE UNIQUE INDEX blocks_number ON dispatcher.blocks USING btree (number, COALESCE(account, ''::text)) WHERE (number IS NOT NULL)
    CREATE UNIQUE INDEX blocks_pkey ON dispatcher.blocks USING btree (id)
TABLE channels WITH ()
    account text NOT NULL
    campaign_id bigint NOT NULL
    served_at timestamp with time zone
    rate_limit text
    accepted_at timestamp with time zone
    CONSTRAINT channels_pkey PRIMARY KEY (account, campaign_id)
    CREATE UNIQUE INDEX channels_pkey ON dispatcher.channels USING btree (account, campaign_id)
VIEW confined_audit_log WITH (check_option=local) WHERE …
    id bigint
    at timestamp with time zone
    actor text
    action text
    subject text
    detail jsonb
    db_user text
VIEW confined_blocks WITH (check_option=local) WHERE …
    id bigint
    number text
    digest bytea
    account text
    reason text
    source text
    who text
    created_at timestamp with time zone
    until timestamp with time zone
VIEW confined_channels WITH (check_option=local) WHERE …
    account text
    campaign_id bigint
    served_at timestamp with time zone
    rate_limit text
    accepted_at timestamp with time zone
VIEW confined_erased_leads WITH (check_option=local) WHERE …
    account text
    campaign_id bigint
    person bytea
    lead_id uuid
    erased_at timestamp with time zone
VIEW confined_failed_leads WITH (check_option=local) WHERE …
    id bigint
    lead_id uuid
    account text
    campaign_id bigint
    phone_number text
    failure_class text
    http_status smallint
    fingerprint text
    message text
    response text
    attempts integer
    failed_at timestamp with time zone
    resolved_at timestamp with time zone
    resolution text
    resolved_by text
    note text
VIEW confined_gates WITH (check_option=local) WHERE …
    id bigint
    account text
    campaign_id bigint
    state text
    reason text
    failures integer
    refusals integer
    refusal text
    closings integer
    probes integer
    closed_at timestamp with time zone
    until timestamp with time zone
    by text
    note text
    moved_at timestamp with time zone
    failing_since timestamp with time zone
VIEW confined_idempotency_keys WITH (check_option=local) WHERE …
    account text
    key text
    lead_id uuid
    payload_hash text
    state text
    duplicate_of uuid
    created_at timestamp with time zone
VIEW confined_import_rejections WITH (check_option=local) WHERE …
    id bigint
    import_id bigint
    line bigint
    field text
    reason text
    original text
VIEW confined_imports WITH (check_option=local) WHERE …
    id bigint
    batch_id uuid
    file_name text
    account text
    actor text
    submitted bigint
    duplicates bigint
    repeated bigint
    rejected bigint
    started_at timestamp with time zone
    updated_at timestamp with time zone
    finished_at timestamp with time zone
    blocked bigint
VIEW confined_inbox WITH (check_option=local) WHERE …
    id uuid
    position bigint
    state text
    account text
    lead jsonb
    idempotency_key text
    priority integer
    not_before timestamp with time zone
    expires_at timestamp with time zone
    bytes integer
    caller text
    created_at timestamp with time zone
    postponed_until timestamp with time zone
    ended_at timestamp with time zone
    reasons jsonb
    lead_id uuid
    tries smallint
VIEW confined_incidents WITH (check_option=local) WHERE …
    id bigint
    at timestamp with time zone
    kind text
    lead_id uuid
    message text
    evidence jsonb
    seen_at timestamp with time zone
    seen_by text
VIEW confined_lead_attempts WITH (check_option=local) WHERE …
    id uuid
    lead_id uuid
    number integer
    account text
    campaign_id bigint
    phone_number text
    watermark bigint
    started_at timestamp with time zone
    ended_at timestamp with time zone
    finished_at timestamp with time zone
    outcome text
    http_status smallint
    error text
    response text
    evidence jsonb
    worker text
    token text
    reference text
    followed boolean
VIEW confined_lead_contacts WITH (check_option=local) WHERE …
    lead_id uuid
    position smallint
    account text
    phone_number text
    variables jsonb
    voicery_lead_id bigint
    voicery_status text
    dropped_at timestamp with time zone
VIEW confined_lead_revisions WITH (check_option=local) WHERE …
    lead_id uuid
    revision integer
    campaign_id bigint
    phone_number text
    variables jsonb
    payload_hash text
    replaced_at timestamp with time zone
    replaced_by text
    note text
VIEW confined_leads WITH (check_option=local) WHERE …
    id uuid
    account text
    campaign_id bigint
    phone_number text
    variables jsonb
    allow_dupplicate boolean
    state text
    failure_class text
    priority smallint
    due_at timestamp with time zone
    expires_at timestamp with time zone
    attempts integer
    resends smallint
    first_attempt_at timestamp with time zone
    lease_until timestamp with time zone
    attempt_id uuid
    voicery_lead_id bigint
    voicery_status text
    duplicate_of uuid
    idempotency_key text
    payload_hash text
    batch_id uuid
    last_error text
    created_at timestamp with time zone
    updated_at timestamp with time zone
    finished_at timestamp with time zone
    resolved_at timestamp with time zone
    proven_at timestamp with time zone
    parked_until timestamp with time zone
    was_due_at timestamp with time zone
VIEW confined_operation_leads WITH (check_option=local) WHERE …
    operation_id uuid
    position integer
    lead_id uuid
    outcome text
    reason text
VIEW confined_operations WITH (check_option=local) WHERE …
    id uuid
    kind text
    state text
    filters jsonb
    options jsonb
    actor text
    total integer
    done integer
    refused integer
    per_minute integer
    next_at timestamp with time zone
    created_at timestamp with time zone
    started_at timestamp with time zone
    finished_at timestamp with time zone
    stopped_by text
    accounts text[]
VIEW confined_sweeps WITH ()
    name text
    holder text
    held_until timestamp with time zone
    swept_at timestamp with time zone
    pruned_at timestamp with time zone
    timeline text
    timeline_at timestamp with time zone
    synchronous boolean
VIEW confined_workers WITH ()
    name text
    started_at timestamp with time zone
    seen_at timestamp with time zone
    claims bigint
TABLE database_roles WITH ()
    part text NOT NULL
    name text NOT NULL
    CONSTRAINT database_roles_name_key UNIQUE (name)
    CONSTRAINT database_roles_pkey PRIMARY KEY (part)
    CREATE UNIQUE INDEX database_roles_name_key ON dispatcher.database_roles USING btree (name)
    CREATE UNIQUE INDEX database_roles_pkey ON dispatcher.database_roles USING btree (part)
TABLE encryption_keys WITH ()
    id text NOT NULL
    since timestamp with time zone NOT NULL DEFAULT now()
    CONSTRAINT encryption_keys_pkey PRIMARY KEY (id)
    CREATE UNIQUE INDEX encryption_keys_pkey ON dispatcher.encryption_keys USING btree (id)
TABLE erased_leads WITH ()
    account text NOT NULL
    campaign_id bigint NOT NULL
    person bytea NOT NULL
    lead_id uuid NOT NULL
    erased_at timestamp with time zone NOT NULL DEFAULT now()
    CONSTRAINT erased_leads_person_check CHECK ((octet_length(person) = 32))
    CONSTRAINT erased_leads_pkey PRIMARY KEY (account, campaign_id, person)
    CREATE UNIQUE INDEX erased_leads_pkey ON dispatcher.erased_leads USING btree (account, campaign_id, person)
TABLE failed_leads WITH (autovacuum_analyze_scale_factor=0.02, autovacuum_vacuum_cost_delay=0, autovacuum_vacuum_scale_factor=0.01, autovacuum_vacuum_threshold=1000)
    id bigint NOT NULL GENERATED ALWAYS AS IDENTITY
    lead_id uuid NOT NULL
    account text NOT NULL
    campaign_id bigint NOT NULL
    phone_number text NOT NULL
    failure_class text NOT NULL
    http_status smallint
    fingerprint text NOT NULL
    message text NOT NULL
    response text
    attempts integer NOT NULL
    failed_at timestamp with time zone NOT NULL DEFAULT now()
    resolved_at timestamp with time zone
    resolution text
    resolved_by text
    note text
    CONSTRAINT failed_leads_failure_class_check CHECK ((failure_class = ANY (ARRAY['rejected'::text, 'exhausted'::text, 'outcome_unknown'::text, 'expired'::text, 'bug'::text, 'blocked'::text])))
    CONSTRAINT failed_leads_lead_id_fkey FOREIGN KEY (lead_id) REFERENCES dispatcher.leads(id) ON DELETE CASCADE
    CONSTRAINT failed_leads_pkey PRIMARY KEY (id)
    CONSTRAINT failed_leads_resolution_check CHECK ((resolution = ANY (ARRAY['replayed'::text, 'found'::text, 'dismissed'::text, 'erased'::text])))
    CONSTRAINT failed_leads_resolved_has_resolution_check CHECK (((resolved_at IS NULL) = (resolution IS NULL)))
    CREATE INDEX failed_leads_lead ON dispatcher.failed_leads USING btree (lead_id)
    CREATE UNIQUE INDEX failed_leads_one_open ON dispatcher.failed_leads USING btree (lead_id) WHERE (resolved_at IS NULL)
    CREATE INDEX failed_leads_open ON dispatcher.failed_leads USING btree (failed_at, id) INCLUDE (lead_id, account, campaign_id, phone_number, failure_class, http_status, fingerprint, attempts) WHERE (resolved_at IS NULL)
    CREATE INDEX failed_leads_open_cause ON dispatcher.failed_leads USING btree (fingerprint, failed_at) WHERE (resolved_at IS NULL)
    CREATE INDEX failed_leads_phone ON dispatcher.failed_leads USING btree (phone_number)
    CREATE UNIQUE INDEX failed_leads_pkey ON dispatcher.failed_leads USING btree (id)
    CREATE INDEX failed_leads_resolved ON dispatcher.failed_leads USING btree (failed_at, id) INCLUDE (lead_id, account, campaign_id, phone_number, failure_class, http_status, fingerprint, attempts) WHERE (resolved_at IS NOT NULL)
    CREATE TRIGGER failed_leads_alert AFTER INSERT ON dispatcher.failed_leads FOR EACH ROW WHEN ((new.failure_class = 'outcome_unknown'::text)) EXECUTE FUNCTION dispatcher.alert_of_failure()
TABLE gates WITH ()
    id bigint NOT NULL GENERATED ALWAYS AS IDENTITY
    account text NOT NULL
    campaign_id bigint
    state text NOT NULL DEFAULT 'open'::text
    reason text
    failures integer NOT NULL DEFAULT 0
    refusals integer NOT NULL DEFAULT 0
    refusal text
    closings integer NOT NULL DEFAULT 0
    probes integer NOT NULL DEFAULT 0
    closed_at timestamp with time zone
    until timestamp with time zone
    by text
    note text
    moved_at timestamp with time zone
    failing_since timestamp with time zone
    CONSTRAINT gates_closed_has_reason_check CHECK (((state = 'open'::text) = (reason IS NULL)))
    CONSTRAINT gates_pkey PRIMARY KEY (id)
    CONSTRAINT gates_state_check CHECK ((state = ANY (ARRAY['open'::text, 'closed'::text, 'probing'::text])))
    CREATE INDEX gates_not_open ON dispatcher.gates USING btree (until) WHERE (state <> 'open'::text)
    CREATE UNIQUE INDEX gates_pkey ON dispatcher.gates USING btree (id)
    CREATE UNIQUE INDEX gates_scope ON dispatcher.gates USING btree (account, COALESCE(campaign_id, (0)::bigint))
    CREATE TRIGGER gates_alert AFTER UPDATE OF state, reason ON dispatcher.gates FOR EACH ROW WHEN (((new.state = 'closed'::text) AND (new.reason <> ALL (ARRAY['paused'::text, 'throttled'::text])) AND (new.reason IS DISTINCT FROM old.reason))) EXECUTE FUNCTION dispatcher.alert_of_gate()
    CREATE TRIGGER gates_moved BEFORE UPDATE OF state ON dispatcher.gates FOR EACH ROW WHEN ((old.state <> new.state)) EXECUTE FUNCTION dispatcher.note_gate_move()
TABLE idempotency_keys WITH (autovacuum_analyze_scale_factor=0.02, autovacuum_vacuum_cost_delay=0, autovacuum_vacuum_scale_factor=0.01, autovacuum_vacuum_threshold=1000)
    account text NOT NULL
    key text NOT NULL
    lead_id uuid NOT NULL
    payload_hash text NOT NULL
    state text NOT NULL
    duplicate_of uuid
    created_at timestamp with time zone NOT NULL DEFAULT now()
    CONSTRAINT idempotency_keys_pkey PRIMARY KEY (account, key)
    CREATE INDEX idempotency_keys_created ON dispatcher.idempotency_keys USING btree (created_at)
    CREATE UNIQUE INDEX idempotency_keys_pkey ON dispatcher.idempotency_keys USING btree (account, key)
TABLE import_rejections WITH ()
    id bigint NOT NULL GENERATED ALWAYS AS IDENTITY
    import_id bigint NOT NULL
    line bigint NOT NULL
    field text NOT NULL
    reason text NOT NULL
    original text NOT NULL
    CONSTRAINT import_rejections_import_id_fkey FOREIGN KEY (import_id) REFERENCES dispatcher.imports(id) ON DELETE CASCADE
    CONSTRAINT import_rejections_pkey PRIMARY KEY (id)
    CREATE INDEX import_rejections_import ON dispatcher.import_rejections USING btree (import_id, id)
    CREATE UNIQUE INDEX import_rejections_pkey ON dispatcher.import_rejections USING btree (id)
TABLE imports WITH ()
    id bigint NOT NULL GENERATED ALWAYS AS IDENTITY
    batch_id uuid NOT NULL
    file_name text NOT NULL
    account text NOT NULL
    actor text NOT NULL
    submitted bigint NOT NULL DEFAULT 0
    duplicates bigint NOT NULL DEFAULT 0
    repeated bigint NOT NULL DEFAULT 0
    rejected bigint NOT NULL DEFAULT 0
    started_at timestamp with time zone NOT NULL DEFAULT now()
    updated_at timestamp with time zone NOT NULL DEFAULT now()
    finished_at timestamp with time zone
    blocked bigint NOT NULL DEFAULT 0
    CONSTRAINT imports_pkey PRIMARY KEY (id)
    CREATE INDEX imports_batch ON dispatcher.imports USING btree (batch_id)
    CREATE UNIQUE INDEX imports_pkey ON dispatcher.imports USING btree (id)
TABLE inbox WITH (autovacuum_analyze_scale_factor=0.02, autovacuum_vacuum_cost_delay=0, autovacuum_vacuum_scale_factor=0.01, autovacuum_vacuum_threshold=1000)
    id uuid NOT NULL
    position bigint NOT NULL GENERATED ALWAYS AS IDENTITY
    state text NOT NULL DEFAULT 'waiting'::text
    account text NOT NULL
    lead jsonb
    idempotency_key text
    priority integer
    not_before timestamp with time zone
    expires_at timestamp with time zone
    bytes integer NOT NULL
    caller text NOT NULL
    created_at timestamp with time zone NOT NULL DEFAULT clock_timestamp()
    postponed_until timestamp with time zone
    ended_at timestamp with time zone
    reasons jsonb
    lead_id uuid
    tries smallint NOT NULL DEFAULT 0
    CONSTRAINT inbox_ended_check CHECK (((state = 'waiting'::text) = (ended_at IS NULL)))
    CONSTRAINT inbox_lead_check CHECK (((state = 'repeated'::text) OR (lead IS NOT NULL)))
    CONSTRAINT inbox_pkey PRIMARY KEY (id)
    CONSTRAINT inbox_rejected_has_reasons_check CHECK (((state = 'rejected'::text) = (reasons IS NOT NULL)))
    CONSTRAINT inbox_repeated_has_lead_check CHECK (((state = 'repeated'::text) = (lead_id IS NOT NULL)))
    CONSTRAINT inbox_state_check CHECK ((state = ANY (ARRAY['waiting'::text, 'rejected'::text, 'repeated'::text])))
    CREATE INDEX inbox_ended ON dispatcher.inbox USING btree (ended_at, id) WHERE (ended_at IS NOT NULL)
    CREATE UNIQUE INDEX inbox_pkey ON dispatcher.inbox USING btree (id)
    CREATE INDEX inbox_waiting ON dispatcher.inbox USING btree ("position") WHERE (state = 'waiting'::text)
    CREATE TRIGGER inbox_check_submission BEFORE INSERT ON dispatcher.inbox FOR EACH ROW EXECUTE FUNCTION dispatcher.check_submission()
TABLE incidents WITH ()
    id bigint NOT NULL GENERATED ALWAYS AS IDENTITY
    at timestamp with time zone NOT NULL DEFAULT now()
    kind text NOT NULL
    lead_id uuid
    message text NOT NULL
    evidence jsonb NOT NULL DEFAULT '{}'::jsonb
    seen_at timestamp with time zone
    seen_by text
    CONSTRAINT incidents_pkey PRIMARY KEY (id)
    CREATE UNIQUE INDEX incidents_pkey ON dispatcher.incidents USING btree (id)
    CREATE INDEX incidents_unseen ON dispatcher.incidents USING btree (at) WHERE (seen_at IS NULL)
    CREATE TRIGGER incidents_alert AFTER INSERT ON dispatcher.incidents FOR EACH ROW EXECUTE FUNCTION dispatcher.alert_of_incident()
TABLE lead_attempts WITH (autovacuum_analyze_scale_factor=0.02, autovacuum_vacuum_cost_delay=0, autovacuum_vacuum_scale_factor=0.01, autovacuum_vacuum_threshold=1000, fillfactor=90)
    id uuid NOT NULL
    lead_id uuid NOT NULL
    number integer NOT NULL
    account text NOT NULL
    campaign_id bigint NOT NULL
    phone_number text NOT NULL
    watermark bigint NOT NULL
    started_at timestamp with time zone NOT NULL DEFAULT now()
    ended_at timestamp with time zone
    finished_at timestamp with time zone
    outcome text
    http_status smallint
    error text
    response text
    evidence jsonb NOT NULL DEFAULT '{}'::jsonb
    worker text
    token text
    reference text
    followed boolean NOT NULL DEFAULT false
    CONSTRAINT lead_attempts_lead_id_fkey FOREIGN KEY (lead_id) REFERENCES dispatcher.leads(id) ON DELETE CASCADE
    CONSTRAINT lead_attempts_order_check CHECK (((started_at <= ended_at) AND (started_at <= finished_at) AND (ended_at <= finished_at)))
    CONSTRAINT lead_attempts_pkey PRIMARY KEY (id)
    CREATE INDEX lead_attempts_lead ON dispatcher.lead_attempts USING btree (lead_id, started_at)
    CREATE UNIQUE INDEX lead_attempts_one_open_lead ON dispatcher.lead_attempts USING btree (lead_id) WHERE (finished_at IS NULL)
    CREATE UNIQUE INDEX lead_attempts_one_open_person ON dispatcher.lead_attempts USING btree (account, campaign_id, phone_number) WHERE (finished_at IS NULL)
    CREATE UNIQUE INDEX lead_attempts_pkey ON dispatcher.lead_attempts USING btree (id)
    CREATE TRIGGER lead_attempts_order BEFORE INSERT OR UPDATE ON dispatcher.lead_attempts FOR EACH ROW WHEN (((new.ended_at < new.started_at) OR (new.finished_at < new.started_at) OR (new.finished_at < new.ended_at))) EXECUTE FUNCTION dispatcher.order_attempt_times()
    CREATE TRIGGER lead_attempts_wake_next AFTER UPDATE OF finished_at ON dispatcher.lead_attempts FOR EACH ROW WHEN ((new.followed AND (old.finished_at IS NULL) AND (new.finished_at IS NOT NULL))) EXECUTE FUNCTION dispatcher.wake_next()
TABLE lead_contacts WITH (autovacuum_analyze_scale_factor=0.02, autovacuum_vacuum_cost_delay=0, autovacuum_vacuum_scale_factor=0.01, autovacuum_vacuum_threshold=1000)
    lead_id uuid NOT NULL
    position smallint NOT NULL
    account text NOT NULL
    phone_number text NOT NULL
    variables jsonb NOT NULL DEFAULT '{}'::jsonb
    voicery_lead_id bigint
    voicery_status text
    dropped_at timestamp with time zone
    CONSTRAINT lead_contacts_lead_id_fkey FOREIGN KEY (lead_id) REFERENCES dispatcher.leads(id) ON DELETE CASCADE
    CONSTRAINT lead_contacts_pkey PRIMARY KEY (lead_id, "position")
    CREATE UNIQUE INDEX lead_contacts_pkey ON dispatcher.lead_contacts USING btree (lead_id, "position")
    CREATE INDEX lead_contacts_voicery_lead_id ON dispatcher.lead_contacts USING btree (account, voicery_lead_id) WHERE (voicery_lead_id IS NOT NULL)
    CREATE TRIGGER lead_contacts_keep_watermark AFTER DELETE ON dispatcher.lead_contacts REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION dispatcher.keep_watermark()
TABLE lead_revisions WITH (autovacuum_analyze_scale_factor=0.02, autovacuum_vacuum_cost_delay=0, autovacuum_vacuum_scale_factor=0.01, autovacuum_vacuum_threshold=1000)
    lead_id uuid NOT NULL
    revision integer NOT NULL
    campaign_id bigint NOT NULL
    phone_number text NOT NULL
    variables jsonb NOT NULL
    payload_hash text NOT NULL
    replaced_at timestamp with time zone NOT NULL DEFAULT now()
    replaced_by text NOT NULL
    note text
    CONSTRAINT lead_revisions_lead_id_fkey FOREIGN KEY (lead_id) REFERENCES dispatcher.leads(id) ON DELETE CASCADE
    CONSTRAINT lead_revisions_pkey PRIMARY KEY (lead_id, revision)
    CREATE UNIQUE INDEX lead_revisions_pkey ON dispatcher.lead_revisions USING btree (lead_id, revision)
TABLE leads WITH (autovacuum_analyze_scale_factor=0.02, autovacuum_vacuum_cost_delay=0, autovacuum_vacuum_scale_factor=0.01, autovacuum_vacuum_threshold=1000, fillfactor=85)
    id uuid NOT NULL
    account text NOT NULL
    campaign_id bigint NOT NULL
    phone_number text NOT NULL
    variables jsonb NOT NULL DEFAULT '{}'::jsonb
    allow_dupplicate boolean NOT NULL DEFAULT false
    state text NOT NULL
    failure_class text
    priority smallint NOT NULL DEFAULT 0
    due_at timestamp with time zone NOT NULL
    expires_at timestamp with time zone
    attempts integer NOT NULL DEFAULT 0
    resends smallint NOT NULL DEFAULT 0
    first_attempt_at timestamp with time zone
    lease_until timestamp with time zone
    attempt_id uuid
    voicery_lead_id bigint
    voicery_status text
    duplicate_of uuid
    idempotency_key text
    payload_hash text NOT NULL
    batch_id uuid
    last_error text
    created_at timestamp with time zone NOT NULL DEFAULT now()
    updated_at timestamp with time zone NOT NULL DEFAULT now()
    finished_at timestamp with time zone
    resolved_at timestamp with time zone
    proven_at timestamp with time zone
    parked_until timestamp with time zone
    was_due_at timestamp with time zone
    CONSTRAINT leads_attempts_check CHECK ((attempts >= 0))
    CONSTRAINT leads_campaign_id_check CHECK ((campaign_id > 0))
    CONSTRAINT leads_failed_has_class_check CHECK (((state = 'failed'::text) = (failure_class IS NOT NULL)))
    CONSTRAINT leads_failure_class_check CHECK ((failure_class = ANY (ARRAY['rejected'::text, 'exhausted'::text, 'outcome_unknown'::text, 'expired'::text, 'bug'::text, 'blocked'::text])))
    CONSTRAINT leads_in_doubt_has_attempt_check CHECK (((state <> ALL (ARRAY['sending'::text, 'unknown'::text])) OR (attempt_id IS NOT NULL)))
    CONSTRAINT leads_pkey PRIMARY KEY (id)
    CONSTRAINT leads_priority_check CHECK (((priority >= 0) AND (priority <= 9)))
    CONSTRAINT leads_sending_has_lease_check CHECK (((state = 'sending'::text) = (lease_until IS NOT NULL)))
    CONSTRAINT leads_state_check CHECK ((state = ANY (ARRAY['pending'::text, 'sending'::text, 'unknown'::text, 'accepted'::text, 'duplicate'::text, 'failed'::text, 'cancelled'::text])))
    CREATE INDEX leads_batch ON dispatcher.leads USING btree (batch_id) WHERE (batch_id IS NOT NULL)
    CREATE INDEX leads_due ON dispatcher.leads USING btree (account, campaign_id, priority, due_at, id) WHERE (state = 'pending'::text)
    CREATE INDEX leads_expiring ON dispatcher.leads USING btree (expires_at) WHERE ((state = 'pending'::text) AND (expires_at IS NOT NULL))
    CREATE INDEX leads_finished ON dispatcher.leads USING btree (finished_at) INCLUDE (state) WHERE (finished_at IS NOT NULL)
    CREATE INDEX leads_leased ON dispatcher.leads USING btree (lease_until) WHERE (state = 'sending'::text)
    CREATE UNIQUE INDEX leads_one_live ON dispatcher.leads USING btree (account, campaign_id, phone_number) WHERE ((NOT allow_dupplicate) AND ((state = ANY (ARRAY['pending'::text, 'sending'::text, 'unknown'::text, 'accepted'::text])) OR ((state = 'failed'::text) AND (failure_class = 'outcome_unknown'::text) AND (resolved_at IS NULL))))
    CREATE INDEX leads_parked ON dispatcher.leads USING btree (account, campaign_id, phone_number, priority DESC, was_due_at, id) WHERE ((state = 'pending'::text) AND (parked_until = due_at))
    CREATE UNIQUE INDEX leads_pkey ON dispatcher.leads USING btree (id)
    CREATE INDEX leads_unknown ON dispatcher.leads USING btree (account, due_at) WHERE (state = 'unknown'::text)
    CREATE UNIQUE INDEX leads_voicery_lead_id ON dispatcher.leads USING btree (account, voicery_lead_id) WHERE (voicery_lead_id IS NOT NULL)
    CREATE INDEX leads_waiting_duplicates ON dispatcher.leads USING btree (duplicate_of) WHERE ((state = 'duplicate'::text) AND (attempt_id IS NULL) AND (duplicate_of IS NOT NULL))
    CREATE TRIGGER leads_keep_watermark AFTER DELETE ON dispatcher.leads REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION dispatcher.keep_watermark()
    CREATE TRIGGER leads_legal_moves BEFORE UPDATE OF state ON dispatcher.leads FOR EACH ROW WHEN (((old.state <> new.state) AND (((((((((((((((((old.state <> 'pending'::text) OR (new.state <> 'sending'::text)) AND ((old.state <> 'pending'::text) OR (new.state <> 'cancelled'::text))) AND ((old.state <> 'pending'::text) OR (new.state <> 'failed'::text))) AND ((old.state <> 'pending'::text) OR (new.state <> 'unknown'::text))) AND ((old.state <> 'sending'::text) OR (new.state <> 'accepted'::text))) AND ((old.state <> 'sending'::text) OR (new.state <> 'pending'::text))) AND ((old.state <> 'sending'::text) OR (new.state <> 'duplicate'::text))) AND ((old.state <> 'sending'::text) OR (new.state <> 'failed'::text))) AND ((old.state <> 'sending'::text) OR (new.state <> 'unknown'::text))) AND ((old.state <> 'unknown'::text) OR (new.state <> 'accepted'::text))) AND ((old.state <> 'unknown'::text) OR (new.state <> 'pending'::text))) AND ((old.state <> 'unknown'::text) OR (new.state <> 'failed'::text))) AND ((old.state <> 'unknown'::text) OR (new.state <> 'duplicate'::text))) AND ((old.state <> 'failed'::text) OR (new.state <> 'pending'::text))) AND ((old.state <> 'failed'::text) OR (new.state <> 'accepted'::text))) AND ((old.state <> 'duplicate'::text) OR (new.state <> 'pending'::text))))) EXECUTE FUNCTION dispatcher.refuse_illegal_move()
    CREATE TRIGGER leads_note_key BEFORE INSERT OR UPDATE OF variables ON dispatcher.leads FOR EACH ROW WHEN ((jsonb_typeof(new.variables) = 'string'::text)) EXECUTE FUNCTION dispatcher.note_key()
    CREATE TRIGGER leads_pass_place_on AFTER UPDATE OF state ON dispatcher.leads FOR EACH ROW WHEN (((old.state <> new.state) AND (NOT new.allow_dupplicate) AND ((new.state = 'cancelled'::text) OR ((new.state = 'failed'::text) AND (new.failure_class <> 'outcome_unknown'::text))))) EXECUTE FUNCTION dispatcher.pass_place_on()
TABLE operation_leads WITH ()
    operation_id uuid NOT NULL
    position integer NOT NULL
    lead_id uuid NOT NULL
    outcome text
    reason text
    CONSTRAINT operation_leads_operation_id_fkey FOREIGN KEY (operation_id) REFERENCES dispatcher.operations(id) ON DELETE CASCADE
    CONSTRAINT operation_leads_outcome_check CHECK ((outcome = ANY (ARRAY['done'::text, 'refused'::text])))
    CONSTRAINT operation_leads_pkey PRIMARY KEY (operation_id, "position")
    CREATE INDEX operation_leads_open ON dispatcher.operation_leads USING btree (operation_id, "position") WHERE (outcome IS NULL)
    CREATE UNIQUE INDEX operation_leads_pkey ON dispatcher.operation_leads USING btree (operation_id, "position")
    CREATE INDEX operation_leads_refused ON dispatcher.operation_leads USING btree (operation_id, "position") WHERE (outcome = 'refused'::text)
TABLE operations WITH ()
    id uuid NOT NULL
    kind text NOT NULL
    state text NOT NULL DEFAULT 'queued'::text
    filters jsonb NOT NULL DEFAULT '{}'::jsonb
    options jsonb NOT NULL DEFAULT '{}'::jsonb
    actor text NOT NULL
    total integer NOT NULL
    done integer NOT NULL DEFAULT 0
    refused integer NOT NULL DEFAULT 0
    per_minute integer
    next_at timestamp with time zone NOT NULL DEFAULT now()
    created_at timestamp with time zone NOT NULL DEFAULT now()
    started_at timestamp with time zone
    finished_at timestamp with time zone
    stopped_by text
    accounts text[]
    CONSTRAINT operations_ended_check CHECK (((state = ANY (ARRAY['stopped'::text, 'finished'::text])) = (finished_at IS NOT NULL)))
    CONSTRAINT operations_kind_check CHECK ((kind = ANY (ARRAY['replay'::text, 'dismiss'::text, 'look_up'::text, 'cancel'::text])))
    CONSTRAINT operations_per_minute_check CHECK ((per_minute > 0))
    CONSTRAINT operations_pkey PRIMARY KEY (id)
    CONSTRAINT operations_state_check CHECK ((state = ANY (ARRAY['queued'::text, 'running'::text, 'stopped'::text, 'finished'::text])))
    CREATE INDEX operations_created ON dispatcher.operations USING btree (created_at)
    CREATE INDEX operations_open ON dispatcher.operations USING btree (next_at) WHERE (finished_at IS NULL)
    CREATE UNIQUE INDEX operations_pkey ON dispatcher.operations USING btree (id)
TABLE privacy_key WITH ()
    one boolean NOT NULL DEFAULT true
    id text NOT NULL
    since timestamp with time zone NOT NULL DEFAULT now()
    CONSTRAINT privacy_key_one_check CHECK (one)
    CONSTRAINT privacy_key_pkey PRIMARY KEY (one)
    CREATE UNIQUE INDEX privacy_key_pkey ON dispatcher.privacy_key USING btree (one)
TABLE saved_filters WITH ()
    id bigint NOT NULL GENERATED BY DEFAULT AS IDENTITY
    who text NOT NULL
    page text NOT NULL
    name text NOT NULL
    query text NOT NULL
    created_at timestamp with time zone NOT NULL DEFAULT now()
    CONSTRAINT saved_filters_name_key UNIQUE (who, page, name)
    CONSTRAINT saved_filters_page_check CHECK ((page = ANY (ARRAY['leads'::text, 'failed'::text])))
    CONSTRAINT saved_filters_pkey PRIMARY KEY (id)
    CREATE UNIQUE INDEX saved_filters_name_key ON dispatcher.saved_filters USING btree (who, page, name)
    CREATE UNIQUE INDEX saved_filters_pkey ON dispatcher.saved_filters USING btree (id)
VIEW submissions WITH ()
    id uuid
    state text
    lead_id uuid
    reasons jsonb
    account text
    failure_class text
    duplicate_of uuid
    created_at timestamp with time zone
    ended_at timestamp with time zone
TABLE submitters WITH ()
    login text NOT NULL
    accounts jsonb NOT NULL
    changed_by text NOT NULL
    changed_at timestamp with time zone NOT NULL DEFAULT now()
    CONSTRAINT submitters_accounts_check CHECK ((jsonb_typeof(accounts) = 'object'::text))
    CONSTRAINT submitters_pkey PRIMARY KEY (login)
    CREATE UNIQUE INDEX submitters_pkey ON dispatcher.submitters USING btree (login)
TABLE sweeps WITH ()
    name text NOT NULL
    holder text
    held_until timestamp with time zone
    swept_at timestamp with time zone
    pruned_at timestamp with time zone
    timeline text
    timeline_at timestamp with time zone
    synchronous boolean
    CONSTRAINT sweeps_pkey PRIMARY KEY (name)
    CREATE UNIQUE INDEX sweeps_pkey ON dispatcher.sweeps USING btree (name)
TABLE tallies WITH (fillfactor=50)
    name text NOT NULL
    account text NOT NULL
    label text NOT NULL
    value double precision NOT NULL
    CONSTRAINT tallies_pkey PRIMARY KEY (name, account, label)
    CREATE UNIQUE INDEX tallies_pkey ON dispatcher.tallies USING btree (name, account, label)
TABLE webhook_mappings WITH ()
    account text NOT NULL
    name text NOT NULL
    fields jsonb NOT NULL
    fixed jsonb NOT NULL DEFAULT '{}'::jsonb
    country text
    changed_at timestamp with time zone NOT NULL DEFAULT now()
    changed_by text NOT NULL
    CONSTRAINT webhook_mappings_pkey PRIMARY KEY (account, name)
    CREATE UNIQUE INDEX webhook_mappings_pkey ON dispatcher.webhook_mappings USING btree (account, name)
TABLE workers WITH ()
    name text NOT NULL
    started_at timestamp with time zone NOT NULL DEFAULT now()
    seen_at timestamp with time zone NOT NULL DEFAULT now()
    claims bigint NOT NULL DEFAULT 0
    CONSTRAINT workers_pkey PRIMARY KEY (name)
    CREATE UNIQUE INDEX workers_pkey ON dispatcher.workers USING btree (name)
ROW OF sweeps: {"name": "sweep", "holder": null, "swept_at": null, "timeline": null, "pruned_at": null, "held_until": null, "synchronous": null, "timeline_at": null}
