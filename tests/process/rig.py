"""A sandbox process, workers, leads, and the account: what every test of this tier needs.

All leads say `allow_dupplicate`, so that Voicery refuses no second creation: what would call a person twice does.
"""

import contextlib
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import psycopg
import requests
from psycopg import sql

from dispatcher.api import Dispatcher
from dispatcher.config.settings import Settings
from dispatcher.embedded.child import Child, Command
from dispatcher.embedded.embedded_server import LOOPBACK, accepts_connections, free_port
from dispatcher.sandbox.log import Line, ledger, read_log
from tests.support.environment import QUICK, clean_environment, numbers
from tests.support.waiting import wait_until
from tests.support.worker_process import WorkerProcess

CAMPAIGN = 42
SETTLED_SECONDS = 40.0
CONTROL_SECONDS = 0.5


class SandboxProcess:
    """`python -m dispatcher.sandbox`; its log is the truth."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.log_path = directory / "voicery" / "requests.jsonl"
        port = free_port()
        self.url = f"http://{LOOPBACK}:{port}/api"
        command = (sys.executable, "-m", "dispatcher.sandbox", "--port", str(port))
        state = ("--state-dir", str(self.log_path.parent))
        self._child = Child(
            Command(
                argv=(*command, *state, *options),
                log_path=directory / "sandbox.log",
                environment=clean_environment(),
            )
        )
        wait_until(lambda: accepts_connections(port), 20, self._child.log_tail)

    def entries(self) -> list[Line]:
        return read_log(self.log_path)

    def posts(self) -> list[Line]:
        return [entry for entry in self.entries() if entry.method == "POST"]

    def created(self) -> int:
        return sum(entry.created_id is not None for entry in self.entries())

    def created_of(self) -> Counter[str]:
        """How many leads were created for each of ours, by its reference."""
        lines = ledger(self.entries(), QUICK["DISPATCHER_REFERENCE_VARIABLE"]).lines
        return Counter({str(key.reference): len(line.created) for key, line in lines.items() if line.created})

    def forget_faults(self) -> None:
        requests.delete(self.url.replace("/api", "/_sandbox/faults"), timeout=5).raise_for_status()

    def close(self) -> None:
        self._child.kill()


class Rig:
    """One queue and one sandbox. `start_worker` as the fixture `worker`, without its first argument."""

    def __init__(
        self, environment: Mapping[str, str], sandbox: SandboxProcess, worker: Callable[..., WorkerProcess]
    ) -> None:
        self.environment = {**QUICK, **environment, "VOICERY_BASE_URL": sandbox.url}
        self.sandbox = sandbox
        self._worker = worker
        self.numbers = numbers()
        self._controls = 0
        self._last_control = 0.0

    def start_worker(self, *options: str, ready: bool = True, **environment: str) -> WorkerProcess:
        options = options or ("-c", "2")
        return self._worker({**self.environment, **environment}, *options, ready=ready)

    def submit(self, count: int, **environment: str) -> None:
        """Submit so many leads, each of another person."""
        dispatcher = Dispatcher(Settings.from_environment({**self.environment, **environment}))
        with contextlib.closing(dispatcher):
            for number, _ in zip(self.numbers, range(count), strict=False):
                dispatcher.submit({"phone_number": number, "campaign_id": CAMPAIGN, "allow_dupplicate": True})

    def query(self, statement: str) -> list[tuple[object, ...]]:
        with psycopg.connect(self.environment["DATABASE_URL"], connect_timeout=5) as connection:
            return connection.execute(sql.SQL(statement)).fetchall()  # type: ignore[arg-type]

    def states(self) -> Counter[str]:
        """How many leads are in which state; empty while Postgres is away."""
        with contextlib.suppress(psycopg.OperationalError):
            return Counter(dict(self.query("SELECT state, count(*) FROM dispatcher.leads GROUP BY state")))  # type: ignore[arg-type]
        return Counter()

    def wait_accepted(self, count: int, timeout_seconds: float = SETTLED_SECONDS) -> None:
        wait_until(lambda: self.states()["accepted"] >= count, timeout_seconds, lambda: f"{count}; {self.states()}")

    def wait_settled(self, timeout_seconds: float = SETTLED_SECONDS) -> Counter[str]:
        """Wait until nothing is left to do; the states then.

        While leads are in doubt and nothing else is on its way, submit one now and then: a claim that died unsent is
        proven absent only beside a later lead that was accepted.
        """

        def settled() -> Counter[str] | None:
            states = self.states()
            if states["unknown"] and not states["pending"] and time.monotonic() - self._last_control > CONTROL_SECONDS:
                self._last_control = time.monotonic()
                self._controls += 1
                self.submit(1)
            done = states and not any(states[state] for state in ("pending", "sending", "unknown"))
            return states if done else None

        return wait_until(settled, timeout_seconds, lambda: f"every lead to have its end; {self.states()}")

    def assert_accounted(self, submitted: int, *, held: int = 0) -> None:
        """Nothing lost, nobody created twice; at most `held` leads wait for a person because their fate is unknown."""
        lines = ledger(self.sandbox.entries(), QUICK["DISPATCHER_REFERENCE_VARIABLE"])
        created = {key.reference: line.created for key, line in lines.lines.items() if line.created}
        rows = self.query("SELECT id::text, state, failure_class, voicery_lead_id FROM dispatcher.leads")
        assert len(rows) == submitted + self._controls
        assert lines.created_twice() == {}
        waiting = [lead for lead, state, cause, _ in rows if (state, cause) == ("failed", "outcome_unknown")]
        assert len(waiting) <= held
        for lead, state, _, voicery_id in rows:
            if lead not in waiting:
                assert (state, created.get(str(lead))) == ("accepted", [voicery_id])
        assert len(self.query("SELECT FROM dispatcher.failed_leads WHERE resolved_at IS NULL")) == len(waiting)
