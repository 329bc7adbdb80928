"""`make kill-storm`: while processes are killed with `kill -9` all the time, is a lead lost or created twice?

    python -m benchmarks.kill_storm [--leads 2000] [--every 2] [--for 20] [--chaos 0] [--latency 0.15] [--seed N]

One worker of two processes. Each kill hits one of these, every fifth one the whole worker, which is started again.
All leads say `allow_dupplicate`, so that the sandbox refuses no second creation, and its own log is what counts. Exit 1
if a lead was lost or created twice.
"""

import argparse
import contextlib
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg

from dispatcher.api import Dispatcher
from dispatcher.config.settings import Settings
from dispatcher.embedded.child import Child, Command
from dispatcher.embedded.demo import PROFILE
from dispatcher.embedded.embedded_server import LOOPBACK, accepts_connections, free_port
from dispatcher.embedded.stack import Stack
from dispatcher.sandbox.log import ledger, read_log

REFERENCE = "lead_id"
AREAS = range(201, 1000)
EVERYTHING_AT = 5  # every so many kills
SETTLED_SECONDS = 180.0
WORKER = (sys.executable, "-m", "celery", "-A", "dispatcher", "worker", "--concurrency", "2", "-l", "WARNING")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is printed at the end. Times in seconds."""

    leads: int
    kills: int
    in_flight_at_kills: int
    attempts: int
    states: Mapping[str, int]
    lost: int
    created_twice: int
    seconds: float


def numbers(count: int) -> Iterator[str]:
    """Numbers of the form that is reserved for fiction."""
    for number in range(count):
        area, line = divmod(number, 100)
        yield f"+1{AREAS[area]}555{100 + line:04d}"


def states(connection: psycopg.Connection) -> dict[str, int]:
    """How many leads are in which state."""
    return dict(connection.execute("SELECT state, count(*) FROM dispatcher.leads GROUP BY state").fetchall())


def processes(worker: Child) -> list[psutil.Process]:
    """Those of the pool: all children but the sweep."""
    try:
        children = psutil.Process(worker.pid).children()
        return [child for child in children if "sweep" not in " ".join(child.cmdline())]
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return []


def storm(stack: Stack, store: Path, asked: argparse.Namespace) -> Outcome:
    """One run on a started stack."""
    log = store / "voicery" / "requests.jsonl"
    port = free_port()
    sandbox = (sys.executable, "-m", "dispatcher.sandbox", "--port", str(port), "--state-dir", str(log.parent))
    chaos = ("--chaos", str(asked.chaos), "--seed", str(asked.seed), "--late-seconds", "0.5")
    stack.run("sandbox", (*sandbox, *chaos, "--latency", str(asked.latency)))
    while not accepts_connections(port):
        time.sleep(0.05)
    ours = {
        **PROFILE,
        **stack.urls(),
        "DISPATCHER_REFERENCE_VARIABLE": REFERENCE,
        "VOICERY_BASE_URL": f"http://{LOOPBACK}:{port}/api",
        "VOICERY_API_TOKEN": "sandbox-token",
    }
    with contextlib.closing(Dispatcher(Settings.from_environment(ours))) as dispatcher:
        dispatcher.submit_many(
            {"phone_number": number, "campaign_id": 42, "allow_dupplicate": True} for number in numbers(asked.leads)
        )
    command = Command(WORKER, stack.logs / "worker.log", {**os.environ, **ours})
    worker = Child(command)
    dice = random.Random(asked.seed)  # noqa: S311  no secret
    kills = in_flight = 0
    with psycopg.connect(ours["DATABASE_URL"], autocommit=True) as connection:
        while "accepted" not in states(connection):
            time.sleep(0.05)
        began = time.monotonic()
        next_kill = began + asked.every
        try:
            while time.monotonic() < began + SETTLED_SECONDS:
                counts = states(connection)
                if not worker.running:  # Celery gives up when a process dies before the pool is up
                    worker.close()
                    worker = Child(command)
                storming = time.monotonic() < began + asked.seconds
                due = storming and time.monotonic() >= next_kill and "sending" in counts
                if due and (victims := processes(worker)):
                    kills += 1
                    in_flight += counts["sending"]
                    if kills % EVERYTHING_AT == 0:
                        worker.kill()
                        worker = Child(command)
                    else:
                        dice.choice(victims).kill()
                    next_kill = time.monotonic() + asked.every
                elif not storming and not {"pending", "sending", "unknown"} & counts.keys():
                    break
                time.sleep(0.05)
            seconds = time.monotonic() - began
        finally:
            worker.stop()
        rows = connection.execute(
            "SELECT id::text, state, failure_class, voicery_lead_id FROM dispatcher.leads"
        ).fetchall()
        attempts = connection.execute("SELECT count(*) FROM dispatcher.lead_attempts").fetchone()
    lines = ledger(read_log(log), REFERENCE)
    created = {key.reference: line.created for key, line in lines.lines.items()}
    held = {lead for lead, state, cause, _ in rows if (state, cause) == ("failed", "outcome_unknown")}
    lost = [lead for lead, state, _, found in rows if lead not in held and found not in created.get(lead, [])]
    return Outcome(
        leads=len(rows),
        kills=kills,
        in_flight_at_kills=in_flight,
        attempts=attempts[0] if attempts else 0,
        states=Counter("held for a person" if lead in held else state for lead, state, _, _ in rows),
        lost=len(lost) + asked.leads - len(rows),
        created_twice=len(lines.created_twice()),
        seconds=round(seconds, 1),
    )


def main() -> int:
    """Run once and print the figures."""
    parser = argparse.ArgumentParser(description="kill -9, again and again")
    parser.add_argument("--leads", type=int, default=2000)
    parser.add_argument("--every", type=float, default=2.0, help="seconds between two kills")
    parser.add_argument("--for", dest="seconds", type=float, default=20.0, help="seconds of storm")
    parser.add_argument("--chaos", type=float, default=0.0)
    parser.add_argument("--latency", type=float, default=0.15)
    parser.add_argument("--seed", type=int, default=7)
    asked = parser.parse_args()
    store = Path(tempfile.mkdtemp(prefix="dispatcher-storm-"))
    store.chmod(0o755)
    ours = ("VOICERY_", "DISPATCHER_", "DATABASE_URL", "REDIS_URL", "CELERY_")
    for name in [name for name in os.environ if name.startswith(ours)]:
        del os.environ[name]
    with Stack(store, os.environ) as stack:
        outcome = storm(stack, store, asked)
    for name in Outcome.__slots__:
        print(f"{name.replace('_', ' '):20} {getattr(outcome, name)}")
    good = outcome.lost == outcome.created_twice == 0
    if good:
        stack.postgres.remove()
        stack.redis.remove()
        shutil.rmtree(store, ignore_errors=True)
    else:
        print(f"Everything is kept in {store}.")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
