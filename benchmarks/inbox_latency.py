"""How long a lead that was submitted by SQL takes until it is one, beside `submit`; and many beside `submit_many`.

    python -m benchmarks.inbox_latency [--leads 200] [--many 100000]

One store, one sweep as a worker runs it. From the return of the committed `SELECT dispatcher.submit_lead(…)` until a
reader sees the lead, asked every 2 ms; the calls come at random times. "Quiet": as after five
minutes without a lead by SQL.
"""

import argparse
import random
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg.types.json import Jsonb

from benchmarks.kill_storm import numbers
from dispatcher.config.settings import Settings
from dispatcher.embedded.stack import Stack
from dispatcher.intake.inbox_taking import LINGER_SECONDS, InboxThread, Taking
from dispatcher.sweep.sweep import Sweep
from dispatcher.wiring import Services

CALL = "SELECT dispatcher.submit_lead(%s)"
SEEN = "SELECT FROM dispatcher.leads WHERE id = %s"
MANY = """
SELECT count(dispatcher.submit_lead(jsonb_build_object('phone_number', phone, 'campaign_id', campaign)))
FROM unnest(CAST(%s AS text[])) AS phone, generate_series(CAST(%s AS bigint), CAST(%s AS bigint)) AS campaign
"""
PEOPLE = 1000


@contextmanager
def sweeping(services: Services, linger_seconds: float) -> Iterator[None]:
    """Sweep in a thread, as the process beside a worker does."""
    taking = Taking(services.database, services.bell, lambda: services.screening)
    settings = services.settings
    sweep = Sweep(
        services.database,
        services.bell,
        services.rate,
        name="benchmark",
        worker="benchmark:1",
        settle_seconds=settings.settle_seconds,
        interval_seconds=settings.sweep_interval_seconds,
        inbox=InboxThread(taking, linger_seconds=linger_seconds),
    )
    ending = threading.Event()
    thread = threading.Thread(target=lambda: sweep.run(stopping=ending.is_set, wait=ending.wait))
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join()


def by_sql(connection: "psycopg.Connection[tuple[object, ...]]", people: Iterator[str], count: int) -> list[float]:
    """Return the seconds from each commit until its lead is seen."""
    took = []
    for number, _ in zip(people, range(count), strict=False):
        time.sleep(random.uniform(0.0, 1.0))  # noqa: S311 - no secret
        row = connection.execute(CALL, (Jsonb({"phone_number": number, "campaign_id": 42}),)).fetchone()
        began = time.perf_counter()
        while not connection.execute(SEEN, row).fetchall():
            time.sleep(0.002)
        took.append(time.perf_counter() - began)
    return took


def submitted(services: Services, people: Iterator[str], count: int) -> list[float]:
    """Return the seconds of each `submit`."""
    took = []
    for number, _ in zip(people, range(count), strict=False):
        began = time.perf_counter()
        services.intake.submit({"phone_number": number, "campaign_id": 42}, {}, account="default")
        took.append(time.perf_counter() - began)
    return took


def many(
    connection: "psycopg.Connection[tuple[object, ...]]", services: Services, people: list[str], count: int
) -> None:
    """Print the leads a second of one statement with all calls, and of `submit_many`."""
    campaigns = count // len(people)
    began = time.perf_counter()
    connection.execute(MANY, (people, 1000, 999 + campaigns))
    called = time.perf_counter()
    while connection.execute("SELECT FROM dispatcher.inbox WHERE state = 'waiting' LIMIT 1").fetchall():
        time.sleep(0.02)
    taken = time.perf_counter()
    others = range(5000, 5000 + campaigns)
    items = ({"phone_number": one, "campaign_id": campaign} for one in people for campaign in others)
    services.bulk.submit_many(items, account="default")
    stored = time.perf_counter() - taken
    print(
        f"{count} by one statement: {count / (called - began):.0f} calls/s, then {count / (taken - called):.0f} leads/s"
    )
    print(f"  submit_many of as many: {count / stored:.0f} leads/s; the inbox takes {(taken - called) / stored:.1f} ×")


def main() -> None:
    """Print p50 and p95 of each, and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--leads", type=int, default=200, help="of each kind")
    parser.add_argument("--many", type=int, default=100_000)
    given = parser.parse_args()
    store = Path(tempfile.mkdtemp(prefix="dispatcher-inbox-"))
    store.chmod(0o755)
    people = numbers(3 * given.leads + PEOPLE + 11)
    with Stack(store, {}) as stack:
        services = Services(Settings.from_environment(stack.urls()), connections=5)
        with psycopg.connect(stack.urls()["DATABASE_URL"], autocommit=True) as connection:
            submitted(services, people, 10)
            found = {"submit": submitted(services, people, given.leads)}
            with sweeping(services, LINGER_SECONDS):
                by_sql(connection, people, 1)
                found["by SQL"] = by_sql(connection, people, given.leads)
                many(connection, services, [next(people) for _ in range(PEOPLE)], given.many)
            with sweeping(services, 0.0):
                by_sql(connection, people, 1)
                found["by SQL, quiet"] = by_sql(connection, people, given.leads // 4)
        base = statistics.quantiles(found["submit"], n=100)
        for name, took in found.items():
            cuts = statistics.quantiles(took, n=100)
            ratio = f"{cuts[49] / base[49]:5.0f} × {cuts[94] / base[94]:5.0f} ×"
            print(f"{name:14} p50 {cuts[49] * 1000:7.1f} ms  p95 {cuts[94] * 1000:7.1f} ms  {ratio} submit's")
        services.close()
        stack.postgres.remove()
        stack.redis.remove()
    shutil.rmtree(store, ignore_errors=True)


if __name__ == "__main__":
    main()
