"""Servers, a sandbox and workers for runs of minutes and hours, and the account at their end."""

import contextlib
import os
import random
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import psycopg

from dispatcher.api import Dispatcher
from dispatcher.config.settings import Settings
from dispatcher.config.urls import normal_database_url
from dispatcher.embedded.child import Child, Command
from dispatcher.embedded.postgres import EmbeddedPostgres
from dispatcher.embedded.redis import EmbeddedRedis
from dispatcher.sandbox.log import Line
from dispatcher.sandbox.server import Sandbox
from dispatcher.store.migration import upgrade
from tests.faults.invariants import check
from tests.support.environment import clean_environment

REFERENCE = "lead_ref"
CAMPAIGNS = (41, 42, 43)
SETTINGS = {
    "DISPATCHER_RATE_LIMIT": "off",
    "DISPATCHER_CONCURRENCY": "8",
    "DISPATCHER_LEASE": "6",
    "DISPATCHER_CONNECT_TIMEOUT": "1",
    "DISPATCHER_READ_TIMEOUT": "2",
    "DISPATCHER_DEADLINE": "3",
    "DISPATCHER_SETTLE": "2",
    "DISPATCHER_UNKNOWN_FOR": "300",
    "DISPATCHER_GATE_WAIT": "0.5",
    "DISPATCHER_GATE_WAIT_MAX": "5",
    "DISPATCHER_BACKOFF_BASE": "0.5",
    "DISPATCHER_BACKOFF_MAX": "5",
    "DISPATCHER_PARK": "1",
    "DISPATCHER_SWEEP_INTERVAL": "0.2",
    "DISPATCHER_REFERENCE_VARIABLE": REFERENCE,
}
SETTLE_WITHIN_SECONDS = 300.0
UNSETTLED = ("pending", "sending", "unknown")


class Stack:
    """Everything on this machine, in one temporary directory."""

    def __init__(self, seed: int, **sandbox_options: Any) -> None:
        self.dice = random.Random(seed)
        self.directory = Path(tempfile.mkdtemp(prefix="dispatcher-soak-"))
        self.directory.chmod(0o755)
        self.postgres = EmbeddedPostgres(self.directory / "postgres", durable=False)
        self.redis = EmbeddedRedis(self.directory / "redis")
        self.sandbox = Sandbox(log=self.directory / "voicery.jsonl", **sandbox_options)
        self.workers: list[Child] = []
        self.submitted: list[str] = []
        self.started = 0

    def __enter__(self) -> Self:
        self.environment = {**SETTINGS, **self.start_servers(), "VOICERY_API_TOKEN": "a-token-of-the-soak"}
        self.prepare()
        self.dispatcher = Dispatcher(Settings.from_environment(self.environment))
        return self

    def prepare(self) -> None:
        """Make the schema."""
        upgrade(normal_database_url(self.environment["DATABASE_URL"]))

    def __exit__(self, *_: object) -> None:
        for worker in self.workers:
            with contextlib.suppress(ProcessLookupError):
                worker.send(signal.SIGCONT, group=True)
            worker.kill()
        self.dispatcher.close()
        self.sandbox.__exit__(None, None, None)
        self.redis.kill()
        self.postgres.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def start_servers(self) -> dict[str, str]:
        """Where they are, as settings."""
        self.postgres.start()
        self.redis.start()
        self.sandbox.__enter__()
        return {
            "DATABASE_URL": self.postgres.url(),
            "REDIS_URL": self.redis.url(),
            "VOICERY_BASE_URL": self.sandbox.base_url,
        }

    def start_worker(self, argv: Sequence[str], *, directory: Path | None = None, **environment: str) -> Child:
        self.started += 1
        command = Command(
            argv=tuple(argv),
            log_path=self.directory / f"worker{self.started}.log",
            environment={**clean_environment(), **self.environment, **environment},
            directory=directory,
            grace_seconds=30.0,
        )
        child = Child(command)
        self.workers.append(child)
        return child

    def replace(self, worker: Child, argv: Sequence[str]) -> Child:
        """`kill -9`, and another one in its place."""
        worker.kill()
        self.workers.remove(worker)
        return self.start_worker(argv)

    def at_work(self) -> list[Child]:
        """The workers with a lead between claim and result at this moment."""
        rows = self.query(
            "SELECT DISTINCT split_part(attempt.worker, ':', -1) FROM dispatcher.lead_attempts AS attempt"
            " JOIN dispatcher.leads AS lead ON lead.attempt_id = attempt.id WHERE lead.state = 'sending'"
        )
        pids = {pid for (pid,) in rows}
        return [worker for worker in self.workers if str(worker.pid) in pids]

    def states(self) -> Counter[str]:
        with contextlib.suppress(psycopg.OperationalError):
            return Counter(dict(self.query("SELECT state, count(*) FROM dispatcher.leads GROUP BY state")))
        return Counter()

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.environment["DATABASE_URL"], connect_timeout=5) as connection:
            return connection.execute(statement).fetchall()  # type: ignore[call-overload]

    def settle(self) -> Counter[str]:
        """Wait until every lead has its end; leads go on being submitted meanwhile, as controls."""
        until = time.monotonic() + SETTLE_WITHIN_SECONDS
        phones = numbers(self.dice.randrange(1 << 30))
        while time.monotonic() < until:
            states = self.states()
            if states and not any(states[state] for state in UNSETTLED):
                return states
            if states["unknown"]:
                with contextlib.suppress(Exception):
                    self.submit(next(phones))
            time.sleep(1)
        return self.states()

    def submit(self, phone: str) -> None:
        lead = {"phone_number": phone, "campaign_id": self.dice.choice(CAMPAIGNS), "allow_dupplicate": True}
        self.submitted.append(str(self.dispatcher.submit(lead).id))

    def violations(self) -> list[str]:
        return check(self.environment["DATABASE_URL"], self.sandbox.log, REFERENCE, self.submitted).violations

    def unknowns(self) -> Counter[str]:
        """What became of each attempt that was ever in doubt."""
        rows = self.query("""
            SELECT CASE
                WHEN attempt.outcome = 'accepted' AND attempt.evidence ? 'late_answer' THEN 'answered late, adopted'
                WHEN attempt.outcome = 'accepted' THEN 'found by a look-up'
                WHEN attempt.evidence -> 'proof' = 'true' AND lead.state = 'accepted'
                    THEN 'proven absent, sent again, accepted'
                WHEN attempt.evidence -> 'proof' = 'true' THEN 'proven absent, then ' || lead.state
                WHEN lead.state = 'failed' THEN 'held for a person (' || lead.failure_class || ')'
                ELSE 'ended as ' || lead.state END, count(*)
            FROM dispatcher.lead_attempts AS attempt JOIN dispatcher.leads AS lead ON lead.id = attempt.lead_id
            WHERE attempt.evidence ? 'lookups' OR attempt.evidence ? 'late_answer'
                OR attempt.outcome IN ('unknown', 'created_id_unknown')
            GROUP BY 1 ORDER BY 2 DESC
        """)
        return Counter(dict(rows))

    def received(self) -> Counter[str]:
        return counted(self.sandbox.log)


def counted(entries: Sequence[Line]) -> Counter[str]:
    posts = {entry.request for entry in entries if entry.method == "POST"}
    look_ups = {entry.request for entry in entries if entry.method == "GET"}
    created = sum(entry.created_id is not None for entry in entries)
    return Counter({"POSTs": len(posts), "look-ups": len(look_ups), "created": created})


def numbers(seed: int) -> Iterator[str]:
    """Numbers reserved for fiction, in an order of the seed's own, again and again."""
    every = [f"+1{area}555{line:04d}" for area in (202, 212, 303, 404, 415, 503, 602, 713) for line in range(100, 200)]
    dice = random.Random(seed)
    while True:
        dice.shuffle(every)
        yield from every


def niceness() -> None:
    os.nice(10)
