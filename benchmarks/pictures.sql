-- Seven hours of leads, the latest first, for pictures of the console. The numbers are of ranges reserved for fiction.
CREATE TEMPORARY TABLE cause (place, class, status, outcome, fingerprint, message) AS VALUES
    (0, 'rejected', 422, 'rejected', 'number', 'Voicery refused the phone number: The phone number is not supported.'),
    (1, 'rejected', 422, 'rejected', 'field', 'Voicery refused variables.appointment: Field required.'),
    (2, 'outcome_unknown', NULL, 'unknown', 'silence',
        'It was sent, its answer was lost, and the list does not prove its absence.'),
    (3, 'exhausted', 502, 'not_sent', 'gateway', 'Every attempt was answered with HTTP 502 (Bad Gateway).');

CREATE TEMPORARY TABLE scene AS
SELECT kind.*, cause.class, cause.status, cause.outcome, cause.fingerprint, cause.message,
    CAST(lpad(to_hex(CAST(extract(epoch FROM kind.at) * 1000 AS bigint)), 12, '0')
        || '7' || substr(md5(CAST(kind.n AS text)), 1, 3) || '8' || substr(md5(CAST(kind.n AS text)), 4, 15) AS uuid) AS id
FROM (
    SELECT n, (ARRAY[42, 42, 42, 57, 63, 77])[1 + n % 6] AS campaign_id,
        now() - make_interval(secs => n * 3 + 700 * (1 - cos(n / 300.0))) AS at,
        '+44770090' || lpad(CAST(n AS text), 4, '0') AS phone_number,
        CASE WHEN n % 40 = 7 THEN 'failed' WHEN n < 8 THEN 'sending' WHEN n % 97 = 5 THEN 'duplicate'
            WHEN n < 1500 AND n % 3 = 0 THEN 'pending' WHEN n IN (40, 41) THEN 'unknown' ELSE 'accepted' END AS state
    FROM generate_series(1, 8000) AS n
) AS kind
LEFT JOIN cause ON kind.state = 'failed' AND cause.place = (ARRAY[0, 1, 0, 2, 0, 1, 3])[1 + kind.n / 40 % 7];

INSERT INTO dispatcher.leads (id, account, campaign_id, phone_number, variables, state, failure_class, due_at, attempts,
    attempt_id, lease_until, payload_hash, voicery_lead_id, created_at, finished_at, last_error, idempotency_key)
SELECT id, 'default', campaign_id, phone_number, CAST('{"customer_name": "Ada"}' AS jsonb), state, class,
    CASE WHEN n % 4 = 0 THEN now() + interval '3 h' ELSE at END, CASE WHEN state = 'pending' THEN 0 ELSE 1 END,
    CASE WHEN state NOT IN ('pending', 'duplicate') THEN id END,
    CASE WHEN state = 'sending' THEN now() + interval '90 s' END, 'h', CASE WHEN state = 'accepted' THEN 880000 - n END,
    at, CASE WHEN state IN ('accepted', 'duplicate', 'failed') THEN at + interval '1 s' END, message, 'order-' || 17000 - n
FROM scene;

INSERT INTO dispatcher.lead_attempts (id, lead_id, number, account, campaign_id, phone_number, watermark, started_at,
    ended_at, finished_at, outcome, http_status, worker)
SELECT id, id, 1, 'default', campaign_id, phone_number, 880000, at,
    CASE WHEN state <> 'sending' THEN at + interval '0.4 s' END, CASE WHEN state <> 'sending' THEN at + interval '0.4 s' END,
    CASE WHEN state <> 'sending' THEN coalesce(outcome, CASE state WHEN 'unknown' THEN 'unknown' ELSE 'accepted' END) END,
    CASE state WHEN 'accepted' THEN 201 ELSE status END, 'calls-7f9c:31'
FROM scene WHERE state NOT IN ('pending', 'duplicate');

INSERT INTO dispatcher.failed_leads (lead_id, account, campaign_id, phone_number, failure_class, http_status,
    fingerprint, message, attempts, failed_at)
SELECT id, 'default', campaign_id, phone_number, class, status, fingerprint, message, 1, at + interval '1 s'
FROM scene WHERE state = 'failed';

INSERT INTO dispatcher.channels (account, campaign_id, served_at) SELECT DISTINCT 'default', campaign_id, now() FROM scene;
INSERT INTO dispatcher.gates (account, campaign_id, state, reason, by, note, closed_at)
VALUES ('default', 57, 'closed', 'paused', 'bob', 'the script is being corrected', now() - interval '40 min');
INSERT INTO dispatcher.workers (name, started_at, seen_at, claims)
VALUES ('calls-7f9c:31', now() - interval '3 days', now(), 91422), ('calls-b210:31', now() - interval '3 days', now(), 90871);
INSERT INTO dispatcher.sweeps (name, holder, swept_at) VALUES ('sweep', 'calls-7f9c:31', now())
ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, swept_at = excluded.swept_at;
INSERT INTO dispatcher.incidents (kind, message, lead_id, evidence)
SELECT 'possible_match', 'A lead in Voicery''s list may be this one: same number, another campaign.', id, '{"voicery_id": 879112}'
FROM scene WHERE state = 'unknown' LIMIT 1;
INSERT INTO dispatcher.imports (batch_id, file_name, account, actor, submitted, duplicates, rejected, started_at, finished_at)
VALUES (gen_random_uuid(), 'november-callbacks.xlsx', 'default', 'ada@console', 11840, 37, 12, now() - interval '2 h',
        now() - interval '119 min'),
    (gen_random_uuid(), 'renewals-2026-11.csv', 'default', 'bob', 52113, 0, 0, now() - interval '1 d', now() - interval '1 d');
INSERT INTO dispatcher.import_rejections (import_id, line, field, reason, original)
SELECT id, 2 + n * 931, 'phone_number', 'is too short for a number of this country', '+4477009'
FROM dispatcher.imports, generate_series(1, 12) AS n WHERE file_name LIKE 'november%';
INSERT INTO dispatcher.operations (id, kind, actor, total, done, refused, state, created_at, started_at, finished_at)
VALUES (gen_random_uuid(), 'replay', 'ada@console', 1200, 815, 3, 'running', now() - interval '4 min', now() - interval '4 min', NULL),
    (gen_random_uuid(), 'look_up', 'bob', 40, 40, 0, 'finished', now() - interval '3 h', now() - interval '3 h', now() - interval '3 h');
INSERT INTO dispatcher.blocks (number, reason, source, who)
SELECT '+1202555010' || n, 'asked not to be called', 'crm', 'ada@console' FROM generate_series(1, 6) AS n;
INSERT INTO dispatcher.audit_log (actor, action, subject) VALUES ('bob', 'pause', 'account:default/57'),
    ('ada@console', 'login', 'console'), ('ada@console', 'export', 'failed');
INSERT INTO dispatcher.saved_filters (who, page, name, query)
VALUES ('ada', 'failed', 'refused in 42, every morning', 'campaign=42&class=rejected&since=yesterday');
DROP TABLE scene;
DROP TABLE cause;
