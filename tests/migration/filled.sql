-- A database at revision 0001 with rows in every state, as workers of that version left them. Later revisions change
-- nothing here: a released version's rows stay what they were.
INSERT INTO dispatcher.accounts (name, base_url, watermark_off, list_off_until) VALUES
    ('default', 'https://app.voicery.ai/api', false, NULL),
    ('other', NULL, true, now() + interval '5 min');

INSERT INTO dispatcher.channels (account, campaign_id, served_at, rate_limit) VALUES
    ('default', 42, now() - interval '1 s', '5/10 seconds'), ('default', 43, NULL, NULL), ('other', 7, now(), NULL);

-- Leads: the last two digits of the id are those of the number ---------------------------------------------------------

CREATE FUNCTION pg_temp.lead(number integer) RETURNS uuid LANGUAGE sql AS
    $$ SELECT CAST('01900000-0000-7000-8000-0000000000' || lpad(number::text, 2, '0') AS uuid) $$;
CREATE FUNCTION pg_temp.attempt(number integer) RETURNS uuid LANGUAGE sql AS
    $$ SELECT CAST('01900000-0000-7000-9000-0000000000' || lpad(number::text, 2, '0') AS uuid) $$;
CREATE FUNCTION pg_temp.phone(number integer) RETURNS text LANGUAGE sql AS
    $$ SELECT '+120255501' || lpad(number::text, 2, '0') $$;

INSERT INTO dispatcher.leads (id, account, campaign_id, phone_number, variables, allow_dupplicate, state, failure_class,
    priority, due_at, expires_at, attempts, resends, first_attempt_at, lease_until, attempt_id, voicery_lead_id,
    voicery_status, duplicate_of, idempotency_key, payload_hash, batch_id, last_error, created_at, updated_at,
    finished_at, resolved_at)
SELECT pg_temp.lead(n), 'default', campaign, pg_temp.phone(n), variables::jsonb, twice, state, class, priority,
    now() + due, now() + expires, attempts, resends, now() + first, now() + lease,
    CASE WHEN attempts > 0 OR lease IS NOT NULL THEN pg_temp.attempt(n) END, voicery, status,
    pg_temp.lead(original), key, 'hash of ' || n, batch::uuid, error, now() + created, now() + created, now() + finished,
    now() + resolved
FROM (VALUES
    -- n, campaign, variables, twice, state, class, priority, due, expires, attempts, resends, first, lease, voicery,
    -- status, original, key, batch, error, created, finished, resolved
    (1, 42, '{"customer_name": "Ada"}', false, 'pending', NULL, 0, interval '-1 min', NULL::interval, 0, 0, NULL::interval, NULL::interval, NULL::bigint, NULL, NULL::integer, 'order-1', NULL, NULL, interval '-1 min', NULL::interval, NULL::interval),
    (2, 42, '{}', false, 'pending', NULL, 9, interval '1 day', interval '2 days', 0, 0, NULL, NULL, NULL, NULL, NULL, NULL, '01900000-0000-7000-a000-000000000001', NULL, '-1 min', NULL, NULL),
    (3, 42, '{"n": 1.50}', false, 'pending', NULL, 0, interval '-5 s', NULL, 1, 1, '-20 min', NULL, NULL, NULL, NULL, NULL, NULL, 'Voicery did not answer in time.', '-20 min', NULL, NULL),
    (4, 43, '{}', false, 'pending', NULL, 0, interval '-1 hour', interval '-1 min', 0, 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '-1 hour', NULL, NULL),
    (5, 42, '{}', false, 'sending', NULL, 0, interval '-5 s', NULL, 1, 0, '-2 s', '1 hour', NULL, NULL, NULL, NULL, NULL, NULL, '-5 s', NULL, NULL),
    (6, 42, '{}', true, 'sending', NULL, 0, interval '-5 min', NULL, 1, 0, '-3 min', '-1 min', NULL, NULL, NULL, NULL, NULL, NULL, '-5 min', NULL, NULL),
    (7, 42, '{"customer_name": "Cid"}', false, 'unknown', NULL, 0, interval '-1 s', NULL, 1, 0, '-5 min', NULL, NULL, NULL, NULL, NULL, NULL, 'Voicery did not answer in time.', '-5 min', NULL, NULL),
    (8, 42, '{}', false, 'unknown', NULL, 0, interval '-1 s', NULL, 1, 0, '-5 min', NULL, NULL, NULL, NULL, NULL, NULL, 'Voicery said yes without an id.', '-5 min', NULL, NULL),
    (9, 42, '{}', false, 'accepted', NULL, 0, interval '-1 hour', NULL, 1, 0, '-1 hour', NULL, 1009, 'created', NULL, 'order-9', NULL, NULL, '-1 hour', '-59 min', NULL),
    (10, 42, '{}', false, 'accepted', NULL, 0, interval '-400 days', NULL, 2, 0, '-400 days', NULL, 1010, 'created', NULL, NULL, NULL, NULL, '-400 days', '-400 days', NULL),
    (12, 42, '{}', false, 'failed', 'rejected', 0, interval '-1 hour', NULL, 1, 0, '-1 hour', NULL, NULL, NULL, NULL, NULL, NULL, 'Voicery refused the phone number.', '-1 hour', '-59 min', NULL),
    (13, 42, '{}', false, 'failed', 'exhausted', 0, interval '-1 hour', NULL, 5, 0, '-1 hour', NULL, NULL, NULL, NULL, NULL, NULL, 'Voicery could not be reached.', '-1 hour', '-30 min', NULL),
    (14, 42, '{}', false, 'failed', 'outcome_unknown', 0, interval '-1 hour', NULL, 1, 0, '-1 hour', NULL, NULL, NULL, NULL, NULL, NULL, 'Voicery did not answer in time.', '-1 hour', '-30 min', NULL),
    (15, 42, '{}', false, 'failed', 'expired', 0, interval '-1 hour', interval '-30 min', 0, 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'It expired.', '-1 hour', '-30 min', NULL),
    (16, 42, '{}', false, 'failed', 'bug', 0, interval '-1 hour', NULL, 1, 0, '-1 hour', NULL, NULL, NULL, NULL, NULL, NULL, 'An error of ours.', '-1 hour', '-30 min', NULL),
    (17, 42, '{}', false, 'failed', 'rejected', 0, interval '-3 hours', NULL, 1, 0, '-3 hours', NULL, NULL, NULL, NULL, NULL, NULL, 'Voicery refused the phone number.', '-3 hours', '-2 hours', '-1 hour'),
    (18, 42, '{}', false, 'failed', 'outcome_unknown', 0, interval '-3 hours', NULL, 1, 0, '-3 hours', NULL, NULL, NULL, NULL, NULL, NULL, 'Voicery did not answer in time.', '-3 hours', '-2 hours', '-1 hour'),
    (19, 42, '{}', false, 'cancelled', NULL, 0, interval '-1 hour', NULL, 0, 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '-1 hour', '-30 min', NULL),
    (20, 42, '{}', false, 'failed', 'outcome_unknown', 0, interval '-1 hour', NULL, 1, 0, '-1 hour', NULL, NULL, NULL, NULL, NULL, NULL, 'Voicery did not answer in time.', '-1 hour', '-5 min', NULL),
    (21, 42, '{}', false, 'accepted', NULL, 0, interval '-1 hour', NULL, 1, 0, '-1 hour', NULL, 1021, 'created', NULL, NULL, NULL, NULL, '-2 hours', '-30 min', NULL)
) AS lead (n, campaign, variables, twice, state, class, priority, due, expires, attempts, resends, first, lease, voicery,
    status, original, key, batch, error, created, finished, resolved);

INSERT INTO dispatcher.leads (id, account, campaign_id, phone_number, state, due_at, duplicate_of, idempotency_key,
    payload_hash, finished_at)
VALUES (pg_temp.lead(11), 'default', 42, pg_temp.phone(9), 'duplicate', now(), pg_temp.lead(9), 'order-11', 'hash of 11',
    now());

INSERT INTO dispatcher.lead_contacts (lead_id, position, account, phone_number, variables, voicery_lead_id, voicery_status)
VALUES (pg_temp.lead(1), 0, 'default', pg_temp.phone(51), '{"customer_name": "Bob"}', NULL, NULL),
    (pg_temp.lead(9), 0, 'default', pg_temp.phone(52), '{}', 2009, 'created'),
    (pg_temp.lead(12), 0, 'default', pg_temp.phone(53), '{}', NULL, NULL);

-- Attempts: open ones of what is sending or unknown, one that ended before it started, proofs and late answers ---------

INSERT INTO dispatcher.lead_attempts (id, lead_id, number, account, campaign_id, phone_number, watermark, started_at,
    ended_at, finished_at, outcome, http_status, error, response, evidence, worker)
SELECT pg_temp.attempt(n), pg_temp.lead(n), greatest(lead.attempts, 1), 'default', 42, pg_temp.phone(n), 1000,
    now() + started, now() + ended, now() + done, outcome, status, lead.last_error, answer, evidence::jsonb, 'host-1:17'
FROM (VALUES
    (3, interval '-20 min', interval '-19 min', interval '-2 min', 'unknown', NULL::smallint, NULL, '{"proof": true, "decision": "resend", "lookups": [{"at": "2026-01-01T00:00:00+00:00", "verdict": "absent", "control": true}]}'),
    (5, '-2 s', NULL, NULL, NULL, NULL, NULL, '{}'),
    (6, '-3 min', NULL, NULL, NULL, NULL, NULL, '{}'),
    (7, '-5 min', '-4 min', NULL, 'unknown', NULL, NULL, '{"lookups": [{"at": "2026-01-01T00:00:00+00:00", "verdict": "possible"}]}'),
    (8, '-5 min', '-4 min', NULL, 'created_id_unknown', 201, '{"ok": true}', '{}'),
    (9, '-1 hour', '-59 min', '-59 min', 'accepted', 201, '{"data": {"id": 1009}}', '{}'),
    (10, '-400 days', '-400 days', '-400 days', 'accepted', 201, NULL, '{}'),
    (12, '-1 hour', interval '-1 hour' - interval '52 ms', '-59 min', 'rejected', 422, '{"message": "bad number"}', '{}'),
    (13, '-40 min', '-30 min', '-30 min', 'not_sent', NULL, NULL, '{}'),
    (14, '-1 hour', '-58 min', '-30 min', 'unknown', NULL, NULL, '{"decision": "hold"}'),
    (16, '-1 hour', '-30 min', '-30 min', 'bug', NULL, NULL, '{}'),
    (17, '-3 hours', '-2 hours', '-2 hours', 'rejected', 422, NULL, '{}'),
    (18, '-3 hours', '-2 hours', '-2 hours', 'unknown', NULL, NULL, '{"late_answer": {"outcome": "accepted"}}'),
    (20, '-1 hour', '-58 min', '-5 min', 'unknown', NULL, NULL, '{}'),
    (21, '-40 min', '-30 min', '-30 min', 'accepted', 201, NULL, '{}')
) AS attempt (n, started, ended, done, outcome, status, answer, evidence) JOIN dispatcher.leads AS lead
    ON lead.id = pg_temp.lead(n);

INSERT INTO dispatcher.lead_attempts (id, lead_id, number, account, campaign_id, phone_number, watermark, started_at,
    ended_at, finished_at, outcome)
VALUES ('01900000-0000-7000-9000-000000000099', pg_temp.lead(10), 1, 'default', 42, pg_temp.phone(10), 1000,
    now() - interval '401 days', now() - interval '401 days', now() - interval '401 days', 'given_back');

-- What a proof needs: it is fresh, as the machine wrote it just now.
UPDATE dispatcher.lead_attempts SET evidence = jsonb_build_object('proof', true, 'decision', 'hold', 'lookups',
    jsonb_build_array(jsonb_build_object('at', now(), 'verdict', 'absent', 'control', true)))
WHERE id = pg_temp.attempt(20);

INSERT INTO dispatcher.failed_leads (lead_id, account, campaign_id, phone_number, failure_class, http_status, fingerprint,
    message, response, attempts, failed_at, resolved_at, resolution, resolved_by, note)
SELECT id, account, campaign_id, phone_number, failure_class, CASE WHEN failure_class = 'rejected' THEN 422 END,
    'cause of ' || failure_class, last_error, NULL, attempts, finished_at, resolved_at,
    CASE WHEN resolved_at IS NOT NULL THEN 'dismissed' END, CASE WHEN resolved_at IS NOT NULL THEN 'ada@ops-1' END,
    CASE WHEN resolved_at IS NOT NULL THEN 'The customer called.' END
FROM dispatcher.leads WHERE state = 'failed';

INSERT INTO dispatcher.failed_leads (lead_id, account, campaign_id, phone_number, failure_class, fingerprint, message,
    attempts, failed_at, resolved_at, resolution, resolved_by)
SELECT pg_temp.lead(21), 'default', 42, pg_temp.phone(21), 'rejected', 'cause of rejected', 'Refused.', 1,
    now() - interval '1 hour', now() - interval '40 min', resolution, 'ada@ops-1'
FROM (VALUES ('replayed'), ('found'), ('erased')) AS past (resolution);

INSERT INTO dispatcher.lead_revisions (lead_id, revision, campaign_id, phone_number, variables, payload_hash, replaced_by,
    note)
VALUES (pg_temp.lead(21), 1, 43, pg_temp.phone(21), '{"old": true}', 'older hash', 'ada@ops-1', 'another campaign');

INSERT INTO dispatcher.idempotency_keys (account, key, lead_id, payload_hash, state, duplicate_of, created_at)
SELECT account, idempotency_key, id, payload_hash, CASE WHEN state = 'duplicate' THEN 'duplicate' ELSE 'pending' END,
    duplicate_of, created_at
FROM dispatcher.leads WHERE idempotency_key IS NOT NULL;

-- Gates of each kind -------------------------------------------------------------------------------------------------

INSERT INTO dispatcher.gates (account, campaign_id, state, reason, failures, refusals, refusal, closings, probes,
    closed_at, until, by, note) VALUES
    ('default', 42, 'open', NULL, 2, 1, 'refused', 0, 0, NULL, NULL, NULL, NULL),
    ('default', 43, 'closed', 'paused', 0, 0, NULL, 0, 0, now(), NULL, 'ada@ops-1', 'the script changes'),
    ('default', 44, 'closed', 'outage', 5, 0, NULL, 1, 0, now(), now() - interval '1 s', NULL, NULL),
    ('default', 45, 'probing', 'outage', 5, 0, NULL, 1, 3, now(), now(), NULL, NULL),
    ('default', 46, 'closed', 'rejecting', 0, 10, 'refused', 1, 0, now(), now() + interval '1 hour', NULL, NULL),
    ('other', NULL, 'closed', 'unauthorized', 0, 0, NULL, 1, 0, now(), now() + interval '1 hour', NULL, NULL),
    ('third', NULL, 'closed', 'throttled', 0, 0, NULL, 1, 0, now(), now() + interval '1 min', NULL, NULL);

-- Stored work, alerts, incidents, imports, audit, figures ------------------------------------------------------------

INSERT INTO dispatcher.operations (id, kind, state, filters, options, actor, total, done, refused, per_minute, started_at,
    finished_at, stopped_by)
SELECT CAST('01900000-0000-7000-b000-0000000000' || lpad(n::text, 2, '0') AS uuid), kind, state, filters::jsonb,
    '{"note": "all of them", "even_if_called": false}', 'ada@ops-1', 2, done, 0, pace, started, finished, stopped
FROM (VALUES
    (1, 'replay', 'queued', '{"failure_class": "exhausted"}', 0, NULL::integer, NULL::timestamptz, NULL::timestamptz, NULL),
    (2, 'dismiss', 'running', '{"leads": 2}', 0, 60, now(), NULL, NULL),
    (3, 'look_up', 'finished', '{"leads": 2}', 2, NULL, now(), now(), NULL),
    (4, 'replay', 'stopped', '{"campaign_id": 42}', 1, NULL, now(), now(), 'ada@ops-1')
) AS operation (n, kind, state, filters, done, pace, started, finished, stopped);

INSERT INTO dispatcher.operation_leads (operation_id, position, lead_id, outcome, reason) VALUES
    ('01900000-0000-7000-b000-000000000001', 0, pg_temp.lead(13), NULL, NULL),
    ('01900000-0000-7000-b000-000000000001', 1, pg_temp.lead(14), NULL, NULL),
    ('01900000-0000-7000-b000-000000000002', 0, pg_temp.lead(16), NULL, NULL),
    ('01900000-0000-7000-b000-000000000002', 1, pg_temp.lead(9), NULL, NULL),
    ('01900000-0000-7000-b000-000000000003', 0, pg_temp.lead(7), 'done', NULL),
    ('01900000-0000-7000-b000-000000000003', 1, pg_temp.lead(9), 'refused', 'Its outcome is known.'),
    ('01900000-0000-7000-b000-000000000004', 0, pg_temp.lead(17), 'done', NULL),
    ('01900000-0000-7000-b000-000000000004', 1, pg_temp.lead(18), NULL, NULL);

INSERT INTO dispatcher.incidents (kind, lead_id, message, evidence, seen_at, seen_by) VALUES
    ('called_twice', pg_temp.lead(9), 'Two leads at Voicery stand for one of ours.', '{"ids": [1, 2]}', NULL, NULL),
    ('id_already_held', pg_temp.lead(9), 'The id of another lead.', '{}', now(), 'ada@ops-1'),
    ('possible_match', pg_temp.lead(7), 'A lead at Voicery may be ours.', '{}', NULL, NULL),
    ('late_answer', pg_temp.lead(18), 'An answer came late.', '{}', NULL, NULL);

-- The triggers have made open alerts of the incidents and failures; here are those that were dealt with.
INSERT INTO dispatcher.alerts (kind, cause, account, campaign_id, reason, lead_id, tries, done_at, result) VALUES
    ('gate_closed', 'gate_closed:outage:default:44', 'default', 44, 'outage', NULL, 1, now(), 'sent'),
    ('incident', 'incident:late_answer', NULL, NULL, 'late_answer', pg_temp.lead(18), 0, now(), 'folded'),
    ('outcome_unknown', 'outcome_unknown:default:42', 'default', 42, 'outcome_unknown', pg_temp.lead(14), 8, now(), 'given_up');

INSERT INTO dispatcher.imports (batch_id, file_name, account, actor, submitted, duplicates, repeated, rejected, finished_at)
VALUES ('01900000-0000-7000-a000-000000000001', 'leads.csv', 'default', 'ada@ops-1', 1, 0, 0, 1, now()),
    ('01900000-0000-7000-a000-000000000002', 'broken.csv', 'default', 'ada@ops-1', 0, 0, 0, 0, NULL);

INSERT INTO dispatcher.import_rejections (import_id, line, field, reason, original)
SELECT id, 3, 'phone_number', 'cannot be a phone number', '12;Eve' FROM dispatcher.imports WHERE file_name = 'leads.csv';

INSERT INTO dispatcher.audit_log (actor, action, subject, detail) VALUES
    ('ada@ops-1', 'pause', 'default/43', '{"reason": "the script changes"}'),
    ('ada@ops-1', 'resolve', CAST(pg_temp.lead(17) AS text), '{"as": "dismissed", "note": "The customer called."}');

INSERT INTO dispatcher.tallies (name, account, label, value) VALUES
    ('attempts', 'default', 'accepted', 12), ('attempt_seconds', 'default', '0.5', 3), ('sweeps', '', '', 100);

INSERT INTO dispatcher.workers (name, claims) VALUES ('host-1:17', 40), ('host-2:4', 0);

UPDATE dispatcher.sweeps SET holder = 'host-1:17', held_until = now() - interval '1 s', swept_at = now() - interval '1 s',
    pruned_at = now() - interval '1 day';
