"""One fault case: an engine or a worker, a sandbox whose log is the truth, and the account at the end."""

import contextlib
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psycopg

from dispatcher.api import Dispatcher
from dispatcher.config.settings import Settings
from dispatcher.embedded.child import Child, Command
from dispatcher.errors import StoreUnavailable
from dispatcher.sandbox.server import Sandbox
from tests.faults.engine import READY
from tests.faults.invariants import Ledger, Report, check
from tests.support.environment import QUICK as BASE
from tests.support.environment import clean_environment, numbers
from tests.support.waiting import wait_until

REFERENCE = "lead_ref"
TOKEN = "canary-token-5f1c0d"
CAMPAIGN = 42
QUICK = {
    **BASE,
    "DISPATCHER_CONCURRENCY": "4",
    "DISPATCHER_LEASE": "2.5",
    "DISPATCHER_CONNECT_TIMEOUT": "0.3",
    "DISPATCHER_READ_TIMEOUT": "0.8",
    "DISPATCHER_DEADLINE": "1",
    "DISPATCHER_SETTLE": "0.8",
    "DISPATCHER_UNKNOWN_FOR": "25",
    "DISPATCHER_GATE_WAIT_MAX": "0.8",
    "DISPATCHER_PARK": "0.5",
    "DISPATCHER_SWEEP_INTERVAL": "0.1",
    "DISPATCHER_REFERENCE_VARIABLE": REFERENCE,
}
SETTLED_SECONDS = 40.0
IMPATIENT = {"DISPATCHER_UNKNOWN_FOR": "5"}
"""For cases that end held: the others need time on a busy machine."""


def phones(seed: int) -> Iterator[str]:
    """Numbers reserved for fiction, each once, in an order of the seed's own."""
    every = list(numbers())
    random.Random(seed).shuffle(every)
    return iter(every)


class Engine:
    """`python -m tests.faults.engine` in a process group of its own."""

    def __init__(self, environment: Mapping[str, str], log_path: Path) -> None:
        self.log_path = log_path
        self._child = Child(
            Command(
                argv=(sys.executable, "-m", "tests.faults.engine"),
                log_path=log_path,
                environment={**clean_environment(), **environment},
                grace_seconds=30.0,
            )
        )

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    @property
    def pid(self) -> int:
        return self._child.pid

    def wait_ready(self) -> None:
        wait_until(lambda: READY in self.log or not self.running, 30, lambda: self.log)
        assert self.running, self.log

    @property
    def running(self) -> bool:
        return self._child.running

    def leave(self) -> None:
        """Ask it to finish what it has begun and to end: a `kill` would leave its claims in doubt."""
        self.send(signal.SIGTERM)
        self.wait_dead()

    def wait_dead(self, timeout_seconds: float = 20.0) -> int | None:
        wait_until(lambda: not self.running, timeout_seconds, lambda: f"the engine to die; {self.log}")
        return self._child.wait(0)

    def send(self, number: signal.Signals) -> None:
        self._child.send(number)

    def kill(self) -> None:
        self._child.kill()


class Harness:
    """One queue, one sandbox, as many engines as the case starts."""

    def __init__(self, environment: Mapping[str, str], sandbox: Sandbox, directory: Path, seed: int) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        self.sandbox = sandbox
        self.directory = directory
        self.environment = {
            **QUICK,
            **environment,
            "VOICERY_BASE_URL": sandbox.base_url,
            "VOICERY_API_TOKEN": TOKEN,
        }
        self.submitted: list[str] = []
        self.engines: list[Engine] = []
        self.phones = phones(seed)
        self._dispatchers: list[Dispatcher] = []

    # Parts ------------------------------------------------------------------------------------------------------------

    def engine(self, *, failpoint: str | None = None, ready: bool = True, **environment: str) -> Engine:
        more = dict(environment)
        if failpoint is not None:
            more["DISPATCHER_FAILPOINT"] = failpoint
        started = Engine({**self.environment, **more}, self.directory / f"engine{len(self.engines) + 1}.log")
        self.engines.append(started)
        if ready:
            started.wait_ready()
        return started

    def dispatcher(self, **environment: str) -> Dispatcher:
        made = Dispatcher(Settings.from_environment({**self.environment, **environment}))
        self._dispatchers.append(made)
        return made

    def submit(self, count: int = 1, *, allow_dupplicate: bool | None = None, **lead: Any) -> list[str]:
        """Submit so many leads of different persons; their ids. The flag is the seed's choice unless given."""
        dispatcher = self._dispatchers[0] if self._dispatchers else self.dispatcher()
        ids = []
        for _ in range(count):
            flag = self.random.random() < 0.5 if allow_dupplicate is None else allow_dupplicate
            fields = {"phone_number": next(self.phones), "campaign_id": CAMPAIGN, "allow_dupplicate": flag, **lead}
            ids.append(str(dispatcher.submit(fields).id))
        self.submitted += ids
        return ids

    def precede(self) -> None:
        """Have one lead accepted: without one from before, no list is believed about those that follow.

        For each case in which a POST may be lost before it arrives and that expects the lead to be delivered.
        """
        (first,) = self.submit(1, allow_dupplicate=True)
        engine = self.engine()
        wait_until(lambda: self.state_of(first) == "accepted", 20, self._logs)
        engine.leave()

    def submit_until(self, condition: Callable[[], object], timeout_seconds: float = 25.0) -> None:
        """Submit a lead now and then until it is so."""

        def ask() -> object:
            if condition():
                return True
            self.submit()
            time.sleep(0.1)  # the pace of the submits, nobody waits for it
            return False

        wait_until(ask, timeout_seconds, self._logs)

    def disconnect(self) -> None:
        """End all that is connected to the database."""
        for engine in self.engines:
            engine.kill()
        for dispatcher in self._dispatchers:
            dispatcher.close()
        self._dispatchers.clear()

    def close(self) -> None:
        self.disconnect()

    # What is so -------------------------------------------------------------------------------------------------------

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.environment["DATABASE_URL"], connect_timeout=5) as connection:
            return connection.execute(statement).fetchall()  # type: ignore[call-overload]

    def states(self) -> Counter[str]:
        with contextlib.suppress(psycopg.OperationalError):
            return Counter(dict(self.query("SELECT state, count(*) FROM dispatcher.leads GROUP BY state")))
        return Counter()

    def endings(self) -> Counter[str]:
        """States, failed ones with their class."""
        rows = self.query(
            "SELECT state || coalesce(':' || failure_class, ''), count(*) FROM dispatcher.leads GROUP BY 1"
        )
        return Counter(dict(rows))

    def execute(self, statement: str) -> None:
        with psycopg.connect(self.environment["DATABASE_URL"], connect_timeout=5) as connection:
            connection.execute(statement)  # type: ignore[call-overload]

    def story(self, lead_id: str) -> list[tuple[str, bool]]:
        """Each attempt of a lead: its outcome, and whether its absence was proven."""
        rows = self.query(
            "SELECT outcome, evidence -> 'proof' = 'true' FROM dispatcher.lead_attempts"
            f" WHERE lead_id = '{lead_id}' ORDER BY started_at"
        )
        return [(outcome, proven is True) for outcome, proven in rows]

    def state_of(self, lead_id: str) -> str:
        return str(self.query(f"SELECT state FROM dispatcher.leads WHERE id = '{lead_id}'")[0][0])

    def posts_of(self, lead_id: str) -> int:
        return len(Ledger.of(self.sandbox.log, REFERENCE).posts.get(lead_id, []))

    def incidents(self) -> list[str]:
        return [kind for (kind,) in self.query("SELECT kind FROM dispatcher.incidents ORDER BY id")]

    def posts(self) -> int:
        return sum(entry.method == "POST" for entry in self.sandbox.log)

    def created(self) -> int:
        return sum(entry.created_id is not None for entry in self.sandbox.log)

    # The end ----------------------------------------------------------------------------------------------------------

    def settle(self, *, controls: bool = True, timeout_seconds: float = SETTLED_SECONDS) -> Counter[str]:
        """Wait until no lead is on its way or in doubt. `controls`: meanwhile a new lead now and then."""
        stop = threading.Event()

        def trickle() -> None:
            while not stop.wait(0.4):
                with contextlib.suppress(StoreUnavailable):
                    if self.states()["unknown"]:
                        self.submit(allow_dupplicate=True)

        trickling = threading.Thread(target=trickle, daemon=True)
        if controls:
            self.submit(allow_dupplicate=True)
            trickling.start()
        try:
            wait_until(self._is_settled, timeout_seconds, lambda: f"every lead to end; {self.states()}; {self._logs()}")
        finally:
            stop.set()
            if controls:
                trickling.join()
        wait_until(self._is_settled, timeout_seconds, lambda: f"every lead to end; {self.states()}; {self._logs()}")
        return self.endings()

    def _is_settled(self) -> bool:
        states = self.states()
        return bool(states) and not any(states[state] for state in ("pending", "sending", "unknown"))

    def _logs(self) -> str:
        return "\n".join(f"--- {engine.log_path.name}\n{engine.log[-3000:]}" for engine in self.engines)

    def report(self, **options: Any) -> Report:
        return check(self.environment["DATABASE_URL"], self.sandbox.log, REFERENCE, self.submitted, **options)

    def assert_sound(self, **options: Any) -> None:
        """All invariants, and no number or token in any log."""
        report = self.report(**options)
        assert report.violations == [], "\n".join(report.violations) + "\n" + self._logs()
        self.assert_secretive()

    def assert_secretive(self) -> None:
        numbers = [number for (number,) in self.query("SELECT phone_number FROM dispatcher.leads")]
        for path in self.directory.glob("*.log"):
            written = path.read_text(errors="replace")
            for canary in [TOKEN, *numbers, *(number.removeprefix("+") for number in numbers)]:
                assert canary not in written, f"I7 {path.name} shows a person's number or the token"
