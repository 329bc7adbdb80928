"""How long `submit` takes while Redis is healthy, refusing, silent or full.

    python -m benchmarks.submit_latency [--leads 500]

One thread, one lead after the other, a store of its own. Each phase begins with a new `Dispatcher`, as a process that
has not met the trouble yet. Redis being away must never cost a producer more than 2.5 s, and that once.
"""

import argparse
import contextlib
import os
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import redis

from benchmarks.kill_storm import numbers
from dispatcher.api import Dispatcher
from dispatcher.config.settings import Settings
from dispatcher.embedded.stack import Stack

LIMIT_SECONDS = 2.5


@contextlib.contextmanager
def healthy(_: Stack) -> Iterator[None]:
    """Nothing is wrong."""
    yield


@contextlib.contextmanager
def refused(stack: Stack) -> Iterator[None]:
    """Nobody listens."""
    stack.redis.stop()
    yield
    stack.redis.start()


@contextlib.contextmanager
def silent(stack: Stack) -> Iterator[None]:
    """A black hole: connections are accepted, nothing is answered."""
    pid = int(stack.redis.pid or 0)
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextlib.contextmanager
def full(stack: Stack) -> Iterator[None]:
    """Every write is refused."""
    with redis.Redis.from_url(stack.urls()["REDIS_URL"]) as client:
        client.config_set("maxmemory", 1)
        yield
        client.config_set("maxmemory", 0)


PHASES: tuple[Callable[[Stack], contextlib.AbstractContextManager[None]], ...] = (healthy, refused, silent, full)


def measure(stack: Stack, people: Iterator[str], count: int) -> list[float]:
    """Seconds of each `submit`."""
    took = []
    with contextlib.closing(Dispatcher(Settings.from_environment(stack.urls()))) as dispatcher:
        for number, _ in zip(people, range(count), strict=False):
            began = time.perf_counter()
            dispatcher.submit({"phone_number": number, "campaign_id": 42, "variables": {"customer_name": "Ada"}})
            took.append(time.perf_counter() - began)
    return took


def main() -> int:
    """Print a table; exit 1 if the 99th percentile of a phase is over the limit."""
    parser = argparse.ArgumentParser(description="Latency of submit")
    parser.add_argument("--leads", type=int, default=500, help="in each phase")
    count = parser.parse_args().leads
    store = Path(tempfile.mkdtemp(prefix="dispatcher-latency-"))
    store.chmod(0o755)
    people = numbers(count * len(PHASES) + len(PHASES))
    good = True
    with Stack(store, os.environ) as stack:
        measure(stack, people, 1)  # the first of all connects and prepares
        print(f"{'Redis':10}{'p50 ms':>10}{'p99 ms':>10}{'worst ms':>10}")
        for phase in PHASES:
            with phase(stack):
                took = measure(stack, people, count)
            cuts = statistics.quantiles(took, n=100)
            good = good and cuts[98] < LIMIT_SECONDS
            print(f"{phase.__name__:10}{cuts[49] * 1000:10.1f}{cuts[98] * 1000:10.1f}{max(took) * 1000:10.1f}")
        stack.postgres.remove()
        stack.redis.remove()
    shutil.rmtree(store, ignore_errors=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
