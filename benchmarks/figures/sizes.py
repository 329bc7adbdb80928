"""Sizes: two million finished leads, one million waiting ones, and nothing at all."""

import json
import os
import statistics
import time
from collections.abc import Callable
from typing import Final
from uuid import uuid4

import psycopg

from benchmarks import contenders
from benchmarks.bench import Bench
from benchmarks.drain import drain, drain_running
from benchmarks.figure import Check, Figure
from benchmarks.figures.drains import note
from benchmarks.leads import CAMPAIGN, NUMBERS, phone_number
from dispatcher.config.settings import Settings
from dispatcher.delivery.claims import Claimer
from dispatcher.lead.options import Channel
from dispatcher.store.database import Database
from dispatcher.wiring import Services, worker_name

_FINISHED: Final = 2_000_000
_WAITING: Final = 1_000_000
_CAMPAIGN: Final = 1000  # and as many above it as the finished leads need: a person is once in a campaign
_OTHER_CAMPAIGN: Final = 7
_IDLE_SECONDS: Final = 45.0
_MEGABYTE: Final = 1_000_000
_CLAIMED: Final = 8

_LEADS = """
INSERT INTO dispatcher.leads (id, account, campaign_id, phone_number, variables, allow_dupplicate, state, priority,
    due_at, attempts, attempt_id, voicery_lead_id, voicery_status, payload_hash, created_at, updated_at, finished_at)
SELECT CAST(lpad(to_hex(n), 8, '0') || '-0000-7000-8000-' || lpad(to_hex(n), 12, '0') AS uuid), 'default',
    %(campaign)s + CASE WHEN %(state)s = 'accepted' THEN round ELSE 0 END, phone_number,
    jsonb_build_object('customer_name', 'Ada Lovelace ' || n, 'order', 'A-' || n), %(state)s = 'pending', %(state)s, 0,
    now() - interval '1 day', CASE %(state)s WHEN 'accepted' THEN 1 ELSE 0 END,
    CASE %(state)s WHEN 'accepted' THEN
        CAST(lpad(to_hex(n), 8, '0') || '-0000-7000-9000-' || lpad(to_hex(n), 12, '0') AS uuid) END,
    CASE %(state)s WHEN 'accepted' THEN 1000000000 + n END, CASE %(state)s WHEN 'accepted' THEN 'created' END,
    md5(CAST(n AS text)), now() - interval '1 day', now() - interval '1 day',
    CASE %(state)s WHEN 'accepted' THEN now() - interval '1 day' END
FROM generate_series(0, %(count)s / %(numbers)s) AS round
CROSS JOIN unnest(CAST(%(phone_numbers)s AS text[])) WITH ORDINALITY AS person (phone_number, place)
CROSS JOIN LATERAL (SELECT CAST(round * %(numbers)s + place AS integer) AS n) AS counted
WHERE n <= %(count)s
"""
_ATTEMPTS = """
INSERT INTO dispatcher.lead_attempts (id, lead_id, number, account, campaign_id, phone_number, watermark, started_at,
    ended_at, finished_at, outcome, http_status, error, worker)
SELECT attempt_id, id, 1, account, campaign_id, phone_number, voicery_lead_id - 1, finished_at,
    finished_at, finished_at, 'accepted', 200, 'Voicery accepted the lead.', 'benchmark:1'
FROM dispatcher.leads
"""


def finished(bench: Bench, rounds: int) -> Figure:
    """Drains beside two million finished leads with their attempts, alternating with drains of an empty table."""
    figure = Figure("finished", f"{_FINISHED:,} finished leads in the table")
    ours = contenders.ours()
    with bench.database(schema=True) as full_url:
        _fill(full_url, _FINISHED, "accepted", attempts=True)
        for turn in range(rounds):
            note(figure, "empty", "drain of 4 000 leads, table empty before", drain(bench, ours, 4000))
            with bench.running(ours, full_url) as running:
                drained = drain_running(bench, running, 4000, first=turn * 10_000)
            note(figure, "full", f"drain of 4 000 leads beside {_FINISHED:,} finished ones", drained)
        settings = _settings(bench, full_url)
        figure.sample("claim_p95", "claim of 8 leads, p95", "ms").add(_p95(_claiming(settings, bench, full_url), 400))
        sweep = Services(settings, name="dispatcher-sweep", connections=1).sweep(worker_name(os.getpid()))
        figure.sample("sweep_p95", "one round of the sweep, p95", "ms").add(_p95(sweep.once, 100))
    figure.check_ratio("drain of the empty table", "full", "empty", "≥", 0.9)
    figure.checks.append(Check("claim p95", figure.samples["claim_p95"].median, "≤", 10, "ms"))
    figure.checks.append(Check("sweep p95", figure.samples["sweep_p95"].median, "≤", 20, "ms"))
    return figure


def waiting(bench: Bench, _rounds: int) -> Figure:
    """A million leads wait in one campaign while the workers deliver them; ten of another campaign come in."""
    figure = Figure("waiting", f"{_WAITING:,} waiting leads")
    ours = contenders.ours()
    redis_client = bench.redis_client()
    with bench.database(schema=True) as url:
        before = int(redis_client.info("memory")["used_memory"])  # type: ignore[index]
        _fill(url, _WAITING, "pending", attempts=False)
        bench.api.reset()
        with bench.running(ours, url) as running:
            running.call("-m", "benchmarks.ours", "ring", str(_CAMPAIGN))
            bench.api.wait(2000, 120)
            begin = json.loads(running.call("-m", "benchmarks.ours", "few", str(_OTHER_CAMPAIGN), "10"))
            seconds = _others_within(bench, begin)
            time.sleep(5)
            grown = int(redis_client.info("memory")["used_memory"]) - before  # type: ignore[index]
            heaviest = max(process.memory_info().rss for process in running.processes())
            total = bench.api.stats()["count"]
    figure.sample("redis", "Redis memory, growth", "MB").add(grown / _MEGABYTE)
    figure.sample("rss", "largest worker process, RSS", "MB").add(heaviest / _MEGABYTE)
    figure.sample("other", "10 leads of another campaign at the API", "s").add(seconds)
    figure.sample("delivered", "leads delivered meanwhile", "").add(float(total))
    figure.checks.append(Check("Redis memory, growth", grown / _MEGABYTE, "≤", 1, "MB"))
    figure.checks.append(Check("RSS of a worker process", heaviest / _MEGABYTE, "≤", 150, "MB"))
    figure.checks.append(Check("another campaign's 10 leads", seconds, "≤", 5, "s"))
    return figure


def idle(bench: Bench, _rounds: int) -> Figure:
    """A worker of two processes with its sweep, and nothing to do."""
    figure = Figure("idle", f"Idle worker, {_IDLE_SECONDS:g} s")
    with bench.database(schema=True) as url, bench.running(contenders.ours(), url) as running:
        running.load(0, 100)  # everything is imported and connected
        bench.api.wait(100, 60)
        time.sleep(10)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
            connection.execute("SELECT pg_stat_statements_reset()")
            cpu = running.cpu()
            begin = time.monotonic()
            time.sleep(_IDLE_SECONDS)
            seconds = time.monotonic() - begin
            used = running.cpu() - cpu
            (calls,) = connection.execute(
                "SELECT coalesce(sum(calls), 0) - 1 FROM pg_stat_statements WHERE dbid = "
                "(SELECT oid FROM pg_database WHERE datname = current_database())"
            ).fetchall()[0]
    statements, percent = float(calls) / seconds, used.workers / seconds * 100
    figure.sample("statements", "statements at Postgres", "/s").add(statements)
    figure.sample("cpu", "CPU of all its processes", "%").add(percent, postgres_percent=used.postgres / seconds * 100)
    figure.checks.append(Check("statements at Postgres", statements, "≤", 3, "/s"))
    figure.checks.append(Check("CPU", percent, "≤", 0.2, "%"))
    return figure


def _fill(url: str, count: int, state: str, *, attempts: bool) -> None:
    """Rows as delivery leaves them, with statistics as autovacuum has them some minutes later."""
    with psycopg.connect(url, autocommit=True) as connection:
        parameters = {
            "campaign": _CAMPAIGN,
            "numbers": NUMBERS,
            "phone_numbers": [phone_number(index) for index in range(NUMBERS)],
            "state": state,
            "count": count,
        }
        connection.execute("SET session_replication_role = replica")  # 2 million look-ups of foreign keys prove nothing
        connection.execute(_LEADS, parameters)
        if attempts:
            connection.execute(_ATTEMPTS)
        connection.execute("VACUUM ANALYZE")
        connection.execute("CHECKPOINT")


def _settings(bench: Bench, url: str) -> Settings:
    return Settings.from_environment({"DATABASE_URL": url, "REDIS_URL": bench.redis.url()})


def _claiming(settings: Settings, bench: Bench, url: str) -> Callable[[], object]:
    """Claims of 8 leads of a channel that has enough of them."""
    with bench.stopped(contenders.ours(), url) as running:
        running.call("-m", "benchmarks.ours", "load", str(NUMBERS // 2), "4000")
    database = Database(settings.require_database_url())
    channel = Channel("default", CAMPAIGN)

    def claim() -> None:
        with database.autocommit() as connection:
            wanted = [uuid4() for _ in range(_CLAIMED)]
            opened = Claimer(channel, settings, "benchmark:1").claim(connection, wanted).opened
        if len(opened) < _CLAIMED:
            raise RuntimeError("The channel ran dry.")

    return claim


def _p95(action: Callable[[], object], times: int) -> float:
    """Milliseconds; the first tenth only warms up."""
    took = []
    for _ in range(times):
        begin = time.perf_counter()
        action()
        took.append((time.perf_counter() - begin) * 1000)
    return statistics.quantiles(took[times // 10 :], n=20)[18]


def _others_within(bench: Bench, begin: float) -> float:
    """Seconds until the API has ten leads of the other campaign."""
    while True:
        arrived = [at for at, _, campaign in bench.api.log() if campaign == _OTHER_CAMPAIGN]
        if len(arrived) >= 10:
            return max(arrived) - begin
        if time.monotonic() - begin > 60:
            return float("inf")
        time.sleep(0.5)
