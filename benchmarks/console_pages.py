"""How long the console's pages take with a million leads and 100 000 open failures.

    python -m benchmarks.console_pages [--leads 1000000] [--failed 100000] [--rounds 40]

Seeds its own embedded Postgres by SQL, asks each page through the whole application (session, rendering, headers), and
prints the median and the 95th percentile in ms. Nothing is shown again that was read before, except where eight ask for
the overview at once. Exit 1 if a page's p95 is 250 ms or more.
"""

import argparse
import itertools
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import text
from starlette.testclient import TestClient

from dispatcher.config.settings import Settings
from dispatcher.config.urls import normal_database_url
from dispatcher.console.app import Console, build
from dispatcher.console.auth import Role, Sessions, User, Users
from dispatcher.console.guard import reached_at
from dispatcher.console.login import Login
from dispatcher.console.recent import Recent
from dispatcher.console.rendering import Renderer
from dispatcher.embedded.postgres import EmbeddedPostgres
from dispatcher.store.database import Database
from dispatcher.store.migration import upgrade
from dispatcher.web.throttle import Throttle
from dispatcher.wiring import Services

BOUND_MS = 250.0
BASE = "http://127.0.0.1:8321"

LEADS = """
INSERT INTO dispatcher.leads (id, account, campaign_id, phone_number, variables, state, failure_class, due_at, attempts,
    payload_hash, voicery_lead_id, created_at, finished_at, last_error, idempotency_key)
SELECT CAST(lpad(to_hex(n), 8, '0') || '-0000-7000-8000-' || lpad(to_hex(n), 12, '0') AS uuid), 'default', 40 + n % 20,
    '+4477009' || lpad(CAST(n AS text), 7, '0'), '{"customer_name": "Ada"}', kind.state,
    CASE WHEN kind.state = 'failed' THEN (ARRAY['rejected', 'exhausted', 'outcome_unknown', 'expired'])[1 + n % 4] END,
    now() + make_interval(secs => n % 100 - 90), 1, 'h', CASE WHEN kind.state = 'accepted' THEN n END,
    now() - make_interval(secs => n * 0.6),
    CASE WHEN kind.state <> 'pending' THEN now() - make_interval(secs => n * 0.6) END,
    CASE WHEN kind.state = 'failed' THEN 'Voicery refused the phone number.' END, 'crm-' || n
FROM generate_series(1, :leads) AS n
CROSS JOIN LATERAL (
    SELECT CASE WHEN n % (:leads / :failed) = 0 THEN 'failed' WHEN n % 10 < 2 THEN 'pending' ELSE 'accepted' END
        AS state
) AS kind
"""

ATTEMPTS = """
INSERT INTO dispatcher.lead_attempts (id, lead_id, number, account, campaign_id, phone_number, watermark, started_at,
    ended_at, finished_at, outcome, http_status, worker)
SELECT CAST(lpad(to_hex(CAST(extract(epoch FROM finished_at) * 1000 AS bigint)), 12, '0')
            || '7' || substr(md5(CAST(id AS text)), 1, 3) || '8' || substr(md5(CAST(id AS text)), 4, 15) AS uuid),
    id, 1, account, campaign_id, phone_number, 0, finished_at, finished_at, finished_at,
    CASE failure_class WHEN 'outcome_unknown' THEN 'unknown' WHEN 'exhausted' THEN 'not_sent'
        WHEN 'rejected' THEN 'rejected' ELSE 'accepted' END, 201, 'host:1'
FROM dispatcher.leads WHERE finished_at IS NOT NULL
"""

FAILED = """
INSERT INTO dispatcher.failed_leads (lead_id, account, campaign_id, phone_number, failure_class, http_status,
    fingerprint, message, attempts, failed_at, resolved_at, resolution)
SELECT id, account, campaign_id, phone_number, failure_class, 422, failure_class || ':' || campaign_id % 7,
    'Voicery refused field ' || campaign_id % 7 || ': it is not valid.', attempts, finished_at, old.resolved_at,
    CASE WHEN old.resolved_at IS NOT NULL THEN 'replayed' END
FROM dispatcher.leads
CROSS JOIN (VALUES (CAST(NULL AS timestamptz)), (now()), (now())) AS old (resolved_at)
WHERE state = 'failed'
"""

REST = """
INSERT INTO dispatcher.channels (account, campaign_id, served_at)
SELECT 'default', 40 + n, now() FROM generate_series(0, 19) AS n;
INSERT INTO dispatcher.idempotency_keys (account, key, lead_id, payload_hash, state)
SELECT account, idempotency_key, id, 'h', 'pending' FROM dispatcher.leads;
INSERT INTO dispatcher.audit_log (actor, action, subject)
SELECT 'ada@console', 'replay', CAST(lead_id AS text) FROM dispatcher.failed_leads WHERE resolved_at IS NOT NULL;
INSERT INTO dispatcher.operations (id, kind, actor, total, done, state, finished_at)
SELECT gen_random_uuid(), 'replay', 'ada@console', 50000, 50000, 'finished', now() FROM generate_series(1, 200);
"""


def seed(database: Database, leads: int, failed: int) -> None:
    """Rows as the dispatcher leaves them: a week of leads, two earlier failures for each open one."""
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("SET statement_timeout = 0"))
        connection.execute(text("SET session_replication_role = replica"))
        connection.execute(text(LEADS), {"leads": leads, "failed": failed})
        connection.execute(text(ATTEMPTS))
        connection.execute(text(FAILED))
        connection.exec_driver_sql(REST)
        connection.exec_driver_sql("VACUUM ANALYZE")


def pages(database: Database) -> dict[str, str]:
    """Every page that reads, with the filters that read most."""
    with database.autocommit() as connection:
        row = connection.execute(
            text("SELECT lead_id, fingerprint FROM dispatcher.failed_leads LIMIT 1 OFFSET 777")
        ).one()
        operation = connection.execute(text("SELECT id FROM dispatcher.operations LIMIT 1")).scalar()
    return {
        "overview": "/",
        "overview, 24 hours": "/?hours=24",
        "leads": "/leads",
        "leads, pending": "/leads?state=pending",
        "leads, due of a campaign": "/leads?due=yes&campaign=47",
        "leads, accepted today": "/leads?state=accepted&ended_since=today",
        "leads, accepted of a campaign": "/leads?state=accepted&campaign=47",
        "leads, cancelled (none)": "/leads?state=cancelled",
        "leads by last digits, none": "/leads?phone=99999999",
        "leads by part of the id, none": "/leads?id=ffffffff",
        "leads by variable, none": "/leads?variable=customer_name%3DBob",
        "causes": "/failed",
        "causes, filtered": "/failed?campaign=47&class=rejected",
        "rows": "/failed/rows",
        "rows of a cause": f"/failed/rows?cause={row.fingerprint}",
        "rows of a campaign": "/failed/rows?campaign=47",
        "rows by text": "/failed/rows?text=field+3",
        "rows by text, none": "/failed/rows?text=nothing+like+this",
        "rows by last digits": "/failed/rows?phone=1230",
        "rows by variable": "/failed/rows?variable=customer_name%3DAda",
        "rows by variable, none": "/failed/rows?variable=customer_name%3DBob",
        "causes by variable": "/failed?campaign=47&variable=customer_name%3DAda",
        "rows replayed before": "/failed/rows?replayed_before=yes",
        "rows never replayed": "/failed/rows?replayed_before=no",
        "rows by submission": "/failed/rows?submitted_since=2h",
        "rows by reference": "/failed/rows?reference=crm-1230",
        "rows, dealt with": "/failed/rows?resolved=yes",
        "lead": f"/leads/{row.lead_id}",
        "campaigns": "/campaigns",
        "operations": "/operations",
        "operation": f"/operations/{operation}",
        "imports": "/imports",
        "incidents": "/incidents",
        "workers": "/workers",
        "audit": "/audit",
        "audit of a lead": f"/audit?subject={row.lead_id}",
        "search by reference": "/search?q=crm-4242",
        "search by number": "/search?q=%2B447700900000",
        "search by last digits, none": "/search?q=99999999",
        "search by part of the id, none": "/search?q=ffffffff",
    }


@contextmanager
def asking(services: Services, recent: Recent) -> Iterator[TestClient]:
    """Give a client that is logged in as an administrator."""
    sessions = Sessions(1800)
    console = Console(
        services,
        Login(Users(None, None), None, Throttle()),
        sessions,
        reached_at("127.0.0.1", 8321, users=False),
        Renderer(),
        recent,
    )
    cookie, _ = sessions.begin(User("bench", Role.ADMIN), by_key=True)
    with TestClient(build(console), base_url=BASE, follow_redirects=False, cookies={console.cookie: cookie}) as client:
        yield client


def measure(url: str, rounds: int) -> bool:
    """Print one line a page; whether all kept the bound."""
    services = Services(Settings(database_url=url, rate_limit="off"))
    years = itertools.count(step=10**8)
    with asking(services, Recent(lambda: next(years))) as client:
        kept = [
            _told(name, [_milliseconds(client, path) for _ in range(rounds)])
            for name, path in pages(services.database).items()
        ]
        eight = _of_eight(client, rounds)
    with asking(services, Recent()) as client:
        kept.append(_told("overview, asked by 8, read once", _of_eight(client, rounds)))
    _told("overview, asked by 8, each read", eight)  # for comparison
    services.close()
    return all(kept)


def _of_eight(client: TestClient, rounds: int) -> list[float]:
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(lambda _: _milliseconds(client, "/"), range(8 * rounds)))


def _milliseconds(client: TestClient, path: str) -> float:
    begin = time.perf_counter()
    answer = client.get(path)
    if answer.status_code not in {200, 303}:
        sys.exit(f"{path} answered {answer.status_code}")
    return 1000 * (time.perf_counter() - begin)


def _told(name: str, times: list[float]) -> bool:
    p95 = statistics.quantiles(times, n=20)[-1]
    verdict = "" if p95 < BOUND_MS else "  TOO SLOW"
    print(f"{name:32} median {statistics.median(times):7.1f}  p95 {p95:7.1f} ms{verdict}", flush=True)
    return p95 < BOUND_MS


def main() -> None:
    """Seed, measure, tell."""
    parser = argparse.ArgumentParser(description="How long the console's pages take.")
    parser.add_argument("--leads", type=int, default=1_000_000)
    parser.add_argument("--failed", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=40)
    given = parser.parse_args()
    print(f"load average before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    directory = Path(tempfile.mkdtemp(prefix="console-pages-"))
    directory.chmod(0o755)
    with EmbeddedPostgres(directory / "postgres", durable=False) as server:
        url = normal_database_url(server.url())
        upgrade(url)
        begin = time.perf_counter()
        seed(Database(url), given.leads, given.failed)
        print(
            f"{given.leads} leads, {given.failed} open failures, seeded in {time.perf_counter() - begin:.0f} s",
            flush=True,
        )
        good = measure(url, given.rounds)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
