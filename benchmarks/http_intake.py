"""`POST /v1/leads` beside `submit`, and batches beside `submit_many`, in one run on one store.

    python -m benchmarks.http_intake [--leads 1000] [--rounds 3] [--rows 20000]

Both sides have one client that submits one lead after the other, with a kept connection; the sides take turns, so that
what slows the machine slows both. The intake is a process of its own, started by `dispatcher intake`. Each lead
is another person, with an idempotency key.
"""

import argparse
import contextlib
import http.client
import itertools
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.first_lead import until
from benchmarks.kill_storm import numbers
from dispatcher.api import Dispatcher
from dispatcher.config.settings import Settings
from dispatcher.embedded.child import Child, Command
from dispatcher.embedded.embedded_server import LOOPBACK, accepts_connections, free_port
from dispatcher.embedded.stack import Stack
from dispatcher.http_intake.keys import Keys, KeyTerms

NUMBERS = numbers(60_000)
TOGETHER = 10_000
Submit = Callable[[dict[str, object], str], None]


def lead() -> dict[str, object]:
    """Return a lead of another person each time."""
    return {"phone_number": next(NUMBERS), "campaign_id": 42, "variables": {"customer_name": "Ada", "city": "Ulm"}}


def over_http(connection: http.client.HTTPConnection, key: str) -> Submit:
    """Return what submits one lead to the intake."""

    def submit(one: dict[str, object], name: str) -> None:
        headers = {
            "Authorization": f"Bearer {key}", "Content-Type": "application/json", "Idempotency-Key": name,
        }  # fmt: skip
        connection.request("POST", "/v1/leads", json.dumps(one), headers)
        answer = connection.getresponse()
        answer.read()
        if answer.status != 201:
            raise RuntimeError(f"the intake answered {answer.status}")

    return submit


def seconds_of(submit: Submit, count: int, names: Iterator[str]) -> list[float]:
    """Return how long each of so many submissions took."""
    took = []
    for _ in range(count):
        one, name = lead(), next(names)
        began = time.perf_counter()
        submit(one, name)
        took.append(time.perf_counter() - began)
    return took


def batch_rate(connection: http.client.HTTPConnection, key: str, rows: int) -> float:
    """Return the leads a second of batches of JSON Lines."""
    batches = [
        "\n".join(json.dumps(lead()) for _ in range(min(TOGETHER, rows - start))) for start in range(0, rows, TOGETHER)
    ]
    began = time.perf_counter()
    for body in batches:
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/x-ndjson"}
        connection.request("POST", "/v1/leads/batch", body, headers)
        answer = connection.getresponse()
        told = json.loads(answer.read())
        if answer.status != 200 or told["rejected"]:
            raise RuntimeError(f"the intake answered {answer.status}")
    return rows / (time.perf_counter() - began)


def many_rate(dispatcher: Dispatcher, rows: int) -> float:
    """Return the leads a second of `submit_many`, in batches of the same size."""
    batches = [[lead() for _ in range(min(TOGETHER, rows - start))] for start in range(0, rows, TOGETHER)]
    began = time.perf_counter()
    for people in batches:
        dispatcher.submit_many(people)
    return rows / (time.perf_counter() - began)


def main() -> int:
    """Print both sides and their ratio."""
    parser = argparse.ArgumentParser(description="The HTTP intake beside submit")
    parser.add_argument("--leads", type=int, default=1000, help="in each round and on each side")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=20_000, help="of batches, on each side")
    wanted = parser.parse_args()
    store = Path(tempfile.mkdtemp(prefix="dispatcher-intake-"))
    store.chmod(0o755)
    port, names = free_port(), (f"order-{number}" for number in itertools.count())
    with Stack(store, os.environ) as stack, contextlib.ExitStack() as parts:
        environment = {**os.environ, **stack.urls()}
        dispatcher = parts.enter_context(contextlib.closing(Dispatcher(Settings.from_environment(stack.urls()))))
        key = Keys(dispatcher.database).create(KeyTerms("bench", "default", rate_limit="off"), actor="bench").secret
        command = (sys.executable, "-m", "dispatcher", "intake", "--port", str(port))
        child = parts.enter_context(Child(Command(command, store / "intake.log", environment, Path.cwd())))
        until(lambda: accepts_connections(port), child.log_tail)
        connection = parts.enter_context(contextlib.closing(http.client.HTTPConnection(LOOPBACK, port)))
        sides: dict[str, Submit] = {
            "submit": lambda one, name: (dispatcher.submit(one, idempotency_key=name), None)[1],
            "POST /v1/leads": over_http(connection, key),
        }
        took: dict[str, list[float]] = {name: [] for name in sides}
        for submit in sides.values():
            seconds_of(submit, 50, names)  # connects and prepares
        for _ in range(wanted.rounds):
            for name, submit in sides.items():
                took[name] += seconds_of(submit, wanted.leads, names)
        print(f"{'':16}{'p50 ms':>10}{'p99 ms':>10}")
        cuts = {name: statistics.quantiles(seconds, n=100) for name, seconds in took.items()}
        for name, cut in cuts.items():
            print(f"{name:16}{cut[49] * 1000:10.2f}{cut[98] * 1000:10.2f}")
        ours, theirs = cuts["POST /v1/leads"], cuts["submit"]
        print(f"{'ratio':16}{ours[49] / theirs[49]:9.2f}×{ours[98] / theirs[98]:9.2f}×")
        many, batch = many_rate(dispatcher, wanted.rows), batch_rate(connection, key, wanted.rows)
        print(f"\nsubmit_many {many:,.0f} leads/s, batches {batch:,.0f} leads/s: {batch / many:.2f} of it")
        connection.close()
    shutil.rmtree(store, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
