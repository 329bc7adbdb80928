"""Finished leads with their attempts, failures and keys, as months of delivery leave them, by SQL."""

import time
from datetime import UTC, datetime, timedelta
from typing import Final

import psycopg
from psycopg import Connection

from benchmarks.leads import NUMBERS, phone_number

DAYS: Final = 100
"""The history is so long: a tenth of it is older than the default retention."""
FIRST_CAMPAIGN: Final = 1000
WAITING_CAMPAIGNS: Final = range(500, 510)
OPEN_FAILURES: Final = 10_000
_PORTION: Final = 1_000_000
_FAILED_OF_100: Final = 3

# Both ids begin with the time, as those that clients and workers make.
_ROWS: Final = """
FROM (
    SELECT n, moment, lpad(to_hex(CAST(extract(epoch FROM moment) * 1000 AS bigint)), 12, '0') AS stamp,
        CASE WHEN n % 100 < 3 THEN 'failed' WHEN n % 100 < 5 THEN 'duplicate' WHEN n % 100 < 6 THEN 'cancelled'
            ELSE 'accepted' END AS state
    FROM generate_series(CAST(%(first)s AS bigint), %(last)s) AS n
    CROSS JOIN LATERAL (
        SELECT %(now)s - %(days)s * interval '1 day' * (1 - CAST(n AS float8) / %(count)s)
    ) AS at (moment)
) AS made
JOIN person ON person.place = n %% %(numbers)s
CROSS JOIN LATERAL (
    SELECT CAST(stamp || '7' || substr(md5(CAST(n AS text)), 1, 3) || '8000' || lpad(to_hex(n), 12, '0') AS uuid),
        CAST(stamp || '7' || substr(md5(CAST(n AS text)), 1, 3) || '9000' || lpad(to_hex(n), 12, '0') AS uuid),
        CAST(%(campaign)s + n / %(numbers)s AS bigint)
) AS named (id, attempt_id, campaign_id)
""".replace("% 100", "%% 100")

_LEADS: Final = f"""
INSERT INTO dispatcher.leads (id, account, campaign_id, phone_number, variables, state, failure_class, due_at, attempts,
    first_attempt_at, attempt_id, voicery_lead_id, voicery_status, idempotency_key, payload_hash, last_error,
    created_at, updated_at, finished_at, resolved_at)
SELECT id, 'default', campaign_id, phone_number,
    jsonb_build_object('customer_name', 'Ada Lovelace ' || n, 'order', 'A-' || n), state,
    CASE state WHEN 'failed' THEN 'rejected' END, moment, CASE state WHEN 'cancelled' THEN 0 ELSE 1 END,
    CASE WHEN state <> 'cancelled' THEN moment END, CASE WHEN state <> 'cancelled' THEN attempt_id END,
    CASE state WHEN 'accepted' THEN n END, CASE state WHEN 'accepted' THEN 'created' END,
    CASE WHEN n %% 2 = 0 THEN 'order-' || n END, md5(CAST(n AS text)),
    CASE state WHEN 'failed' THEN 'Voicery refused the phone number.' END, moment, moment + interval '2 s',
    moment + interval '2 s', CASE WHEN state = 'failed' AND n <= %(dealt_with)s THEN moment + interval '1 h' END
{_ROWS}
"""

_ATTEMPTS: Final = f"""
INSERT INTO dispatcher.lead_attempts (id, lead_id, number, account, campaign_id, phone_number, watermark, started_at,
    ended_at, finished_at, outcome, http_status, response, worker)
SELECT attempt_id, id, 1, 'default', campaign_id, phone_number, n - 1, moment, moment + interval '1 s',
    moment + interval '2 s', CASE state WHEN 'failed' THEN 'rejected' ELSE state END,
    CASE state WHEN 'failed' THEN 422 ELSE 201 END,
    CASE WHEN moment > %(now)s - interval '31 days' THEN '{{"id": ' || n || ', "status": "created"}}' END, 'host:1'
{_ROWS} WHERE state <> 'cancelled'
"""

_FAILURES: Final = f"""
INSERT INTO dispatcher.failed_leads (lead_id, account, campaign_id, phone_number, failure_class, http_status,
    fingerprint, message, attempts, failed_at, resolved_at, resolution)
SELECT id, 'default', campaign_id, phone_number, 'rejected', 422, 'rejected:' || n / 100 %% 7,
    'Voicery refused field ' || n / 100 %% 7 || ': it is not valid.', 1, moment + interval '2 s',
    CASE WHEN n <= %(dealt_with)s THEN moment + interval '1 h' END,
    CASE WHEN n <= %(dealt_with)s THEN 'dismissed' END
{_ROWS} WHERE state = 'failed'
"""

_KEYS: Final = f"""
INSERT INTO dispatcher.idempotency_keys (account, key, lead_id, payload_hash, state, created_at)
SELECT 'default', 'order-' || n, id, md5(CAST(n AS text)), 'pending', moment
{_ROWS} WHERE n %% 2 = 0
"""

_CHANNELS: Final = """
INSERT INTO dispatcher.channels (account, campaign_id, served_at) SELECT 'default', id, now()
FROM (SELECT DISTINCT campaign_id FROM dispatcher.leads) AS known (id)
"""

_WAITING: Final = """
INSERT INTO dispatcher.leads (id, account, campaign_id, phone_number, variables, state, due_at, payload_hash)
SELECT CAST(lpad(to_hex(CAST(extract(epoch FROM %(now)s) * 1000 AS bigint)), 12, '0') || '7000' || '8000'
        || lpad(to_hex(place + campaign_id * 1000000), 12, '0') AS uuid),
    'default', campaign_id, phone_number, '{"customer_name": "Ada"}', 'pending',
    CASE WHEN place %% 2 = 0 THEN now() - interval '1 hour' ELSE now() + interval '1 day' END, 'h'
FROM person CROSS JOIN generate_series(CAST(%(first)s AS bigint), %(last)s) AS campaign_id WHERE place < %(each)s
"""

_SECONDARY: Final = """
SELECT CAST(indexrelid AS regclass)::text, pg_get_indexdef(indexrelid)
FROM pg_index JOIN pg_class AS of_table ON of_table.oid = indrelid
WHERE of_table.relnamespace = 'dispatcher'::regnamespace AND NOT indisprimary
  AND of_table.relname IN ('leads', 'lead_attempts', 'failed_leads', 'idempotency_keys')
"""

_SIZES: Final = """
SELECT relname, pg_table_size(oid), pg_indexes_size(oid) FROM pg_class
WHERE relnamespace = 'dispatcher'::regnamespace AND relkind = 'r' ORDER BY pg_total_relation_size(oid) DESC LIMIT 4
"""


def fill(url: str, count: int, waiting: int) -> None:
    """Make `count` finished leads, and `waiting` pending ones in ten campaigns, half of them due."""
    began = time.monotonic()
    now = datetime.now(UTC) - timedelta(minutes=1)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")  # foreign keys prove nothing here
        connection.execute("SET maintenance_work_mem = '1GB'")
        connection.execute("CREATE TEMP TABLE person (place bigint PRIMARY KEY, phone_number text NOT NULL)")
        with connection.cursor() as cursor, cursor.copy("COPY person FROM STDIN") as copy:
            for place in range(NUMBERS):
                copy.write_row((place, phone_number(place)))
        connection.execute("ANALYZE person")
        indexes = connection.execute(_SECONDARY).fetchall()
        for name, _ in indexes:
            connection.execute(f"DROP INDEX {name}")  # type: ignore[arg-type]  # the catalog's own name
        for first in range(1, count + 1, _PORTION):
            last = min(count, first + _PORTION - 1)
            _portion(connection, first, last, count, now)
            print(f"  {last:,} leads, {time.monotonic() - began:.0f} s", flush=True)
        values = {"now": now, "first": WAITING_CAMPAIGNS[0], "last": WAITING_CAMPAIGNS[-1], "each": waiting // 10}
        # Else they fill what was left at the end of all pages; where pruning frees space, whole pages become free.
        connection.execute("ALTER TABLE dispatcher.leads SET (fillfactor = 40)")
        connection.execute(_WAITING, values)
        connection.execute("ALTER TABLE dispatcher.leads SET (fillfactor = 85)")
        for _, definition in indexes:
            connection.execute(definition)  # type: ignore[arg-type]  # as Postgres wrote it
        connection.execute(_CHANNELS)
        connection.execute("VACUUM (ANALYZE, PARALLEL 0)")
        connection.execute("CHECKPOINT")
        for name, heap, rest in connection.execute(_SIZES):
            print(f"  {name}: {heap / 2**20:,.0f} MB and {rest / 2**20:,.0f} MB of indexes", flush=True)


def _portion(connection: "Connection[tuple[object, ...]]", first: int, last: int, count: int, now: datetime) -> None:
    values = {
        "first": first,
        "last": last,
        "count": count,
        "now": now,
        "days": DAYS,
        "numbers": NUMBERS,
        "campaign": FIRST_CAMPAIGN,
        "dealt_with": count - OPEN_FAILURES * 100 // _FAILED_OF_100,
    }
    for statement in (_LEADS, _ATTEMPTS, _FAILURES, _KEYS):
        connection.execute(statement, values)
