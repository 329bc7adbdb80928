"""`dispatcher demo`: deliver 200 leads to a sandbox that misbehaves, and account for each.

Postgres, Redis and `celery -A dispatcher worker` are real; the sandbox stands in for Voicery; a worker is killed
half way. It ends with an account of every lead, checked against the sandbox's log.
"""

import csv
import os
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final
from uuid import UUID

from rich.console import Console

from dispatcher.api import Dispatcher
from dispatcher.config.settings import Settings
from dispatcher.decisions.states import State
from dispatcher.embedded import exports
from dispatcher.embedded.demo_report import UNSETTLED, DemoReport, SandboxView, Screen, draw_up
from dispatcher.embedded.embedded_server import LOOPBACK, accepts_connections, free_port
from dispatcher.embedded.stack import Stack
from dispatcher.errors import DispatcherError, InvalidLead, interrupt
from dispatcher.operator import failures
from dispatcher.operator.failure_filter import FailureFilter
from dispatcher.sandbox.log import read_log
from dispatcher.sandbox.options import require_server

_PACKAGE: Final = Path(__file__).parent
_CONTACT: Final = re.compile(r"contact(\d+)_(.+)")


@dataclass(frozen=True, slots=True)
class LeadRow:
    """One line of the file. `lead` has the keys of `Lead` with the unvalidated values of the cells."""

    line: int
    lead: Mapping[str, Any] = field(repr=False)  # a person's data


def example_file() -> Path:
    """Return the path of the example file, in the wheel or in a checkout."""
    packaged = _PACKAGE / "leads.csv"
    return packaged if packaged.is_file() else _PACKAGE.parents[1] / "examples" / "leads.csv"


def read_rows(path: Path) -> Iterator[LeadRow]:
    """Yield the rows of a CSV file in order, without empty cells."""
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        for cells in reader:
            filled = {name: text for name, text in cells.items() if text}
            yield LeadRow(reader.line_num, _lead(filled))


def _lead(cells: Mapping[str, str]) -> dict[str, Any]:
    lead: dict[str, Any] = {"variables": {}}
    contacts: dict[int, dict[str, Any]] = {}
    for name, text in cells.items():
        contact = _CONTACT.fullmatch(name)
        if name == "phone_number":
            lead[name] = text
        elif name == "campaign_id":
            lead[name] = int(text) if text.isdecimal() else text
        elif contact is None:
            lead["variables"][name] = text
        else:
            person = contacts.setdefault(int(contact[1]), {"variables": {}})
            if contact[2] == "phone":
                person["phone_number"] = text
            else:
                person["variables"][contact[2]] = text
    if contacts:
        lead["secondary_contacts"] = [contacts[number] for number in sorted(contacts)]
    return lead


PROFILE: Final[Mapping[str, str]] = MappingProxyType(
    {
        "DISPATCHER_RATE_LIMIT": "off",
        "DISPATCHER_LEASE": "6",
        "DISPATCHER_DEADLINE": "2",
        "DISPATCHER_CONNECT_TIMEOUT": "1",
        "DISPATCHER_READ_TIMEOUT": "1",
        "DISPATCHER_SETTLE": "2",
        "DISPATCHER_UNKNOWN_FOR": "14",
        "DISPATCHER_GATE_WAIT": "0.5",
        "DISPATCHER_GATE_WAIT_MAX": "2",
        "DISPATCHER_BACKOFF_BASE": "0.5",
        "DISPATCHER_BACKOFF_MAX": "2",
        "DISPATCHER_SWEEP_INTERVAL": "0.5",
    }
)
"""Short times, so that the demo takes seconds: the default settle time is two minutes."""

CHAOS: Final = 0.15
LATENCY_SECONDS: Final = 0.25
LAST_COMERS: Final = 40
"""Rows that come in one by one, as leads do: what is sent later proves that the sandbox's list can be believed."""

_EVERY_SECONDS: Final = 0.3
_LOOK_EVERY_SECONDS: Final = 0.25
_GIVE_UP_SECONDS: Final = 120.0
_READY_SECONDS: Final = 20.0
_OURS: Final = ("VOICERY_", "DISPATCHER_", "DATABASE_URL", "REDIS_URL", "CELERY_")
_WORKER: Final = (sys.executable, "-m", "celery", "-A", "dispatcher", "worker", "--concurrency", "2", "-l", "INFO")
_SANDBOX: Final = (sys.executable, "-m", "dispatcher.sandbox", "--host", LOOPBACK, "--phone-suffixes")


def run_demo(
    console: Console,
    environment: Mapping[str, str] = os.environ,
    *,
    leads: Path | None = None,
    chaos: float = CHAOS,
    seed: int = 7,
    keep: bool = False,
) -> int:
    """Run the demo; 0 if every lead is accounted for and nobody was called twice, 1 if not, 130 after Ctrl-C.

    Args:
        console: for progress; plain lines if it is no terminal.
        environment: the caller's; no variable of the dispatcher in it reaches the processes.
        leads: a CSV file; None is the file of examples.
        chaos: probability, 0 to 1, that the sandbox spoils a request.
        seed: of the chaos. Runs still differ, because the order of requests does.
        keep: leave everything running at the end, until Ctrl-C.

    Raises:
        NotConfigured: the extra `[embedded]` or `[sandbox]` is not installed.
    """
    require_server()
    store = Path(tempfile.mkdtemp(prefix="dispatcher-demo-"))
    store.chmod(0o755)  # reachable for Postgres' own user if this process is root; the data itself is private
    scratch = store / "tmp"  # a killed worker leaves temporary directories
    scratch.mkdir()
    foreign = {name: value for name, value in environment.items() if not name.startswith(_OURS)}
    stack = Stack(store, {**foreign, "TMPDIR": str(scratch)})
    account: DemoReport | None = None
    interrupted = False
    try:
        with _interruptible():
            demo = Demo(stack, store, Screen(console), list(read_rows(leads or example_file())))
            account = demo.run(chaos, seed)
            if keep:
                demo.wait_for_ctrl_c()
    except KeyboardInterrupt:
        interrupted = True
    except DispatcherError as error:
        console.print(str(error), style="bold red", markup=False)
    finally:
        stack.stop()
    interrupted = interrupted and account is None  # later it only ends the scene that was kept
    if interrupted or (account is not None and account.good):
        _remove(stack, store)
        return 130 if interrupted else 0
    console.print(f"Everything is kept in {store}; the logs are in {stack.logs}.", soft_wrap=True, markup=False)
    return 1


class Demo:
    """One run. The caller stops `stack`."""

    def __init__(self, stack: Stack, store: Path, screen: Screen, rows: Sequence[LeadRow]) -> None:
        self._stack = stack
        self._log = store / "voicery" / "requests.jsonl"
        self._screen = screen
        self._rows = rows
        self._coming = deque(rows[-LAST_COMERS:])
        self._submitted: list[UUID] = []
        self._refused = 0
        self._accepted_at_kill: int | None = None
        self._api: dict[str, str] = {}
        self._exports = store / "env"

    def run(self, chaos: float, seed: int) -> DemoReport:
        """Run the demo and return the account."""
        self._print_profile(chaos)
        self._stack.start()
        self._screen.say("Postgres and Redis run, the schema is there.")
        api = self._api = self._start_sandbox(chaos, seed)
        settings = Settings.from_environment({**PROFILE, **self._stack.urls(), **api})
        dispatcher = Dispatcher(settings)
        try:
            self._stack.run("worker", _WORKER, {**PROFILE, **api})
            self._submit_backlog(dispatcher)
            with self._screen.live():
                self._watch(dispatcher)
            return self._settle_accounts(dispatcher)
        finally:
            dispatcher.close()

    def wait_for_ctrl_c(self) -> None:
        """Say how to look around, and keep everything running until Ctrl-C, which raises `KeyboardInterrupt`."""
        variables = {**PROFILE, **self._stack.urls(), **self._api}
        exports.write(self._exports, variables)
        console = self._screen.console
        console.print("\nEverything goes on running. In another terminal:\n")
        exports.show(console, self._exports, variables)
        console.print("\nThen `dispatcher failed --group`, `dispatcher status`, `dispatcher console`.")
        console.print("Ctrl-C stops everything and deletes it.", highlight=False)
        while True:
            self._stack.revive()
            time.sleep(_EVERY_SECONDS)

    # The steps --------------------------------------------------------------------------------------------------------

    def _print_profile(self, chaos: float) -> None:
        short = "  ".join(f"{name.removeprefix('DISPATCHER_')}={value}" for name, value in PROFILE.items())
        self._screen.console.print(f"Settings of the demo, far shorter than in earnest (DISPATCHER_…): {short}")
        self._screen.console.print(
            f"The sandbox spoils {chaos:.0%} of all requests. Nobody is called: all numbers are reserved for fiction.\n"
        )

    def _start_sandbox(self, chaos: float, seed: int) -> dict[str, str]:
        port = free_port()
        options = ("--port", str(port), "--state-dir", str(self._log.parent), "--chaos", str(chaos))
        timing = ("--seed", str(seed), "--latency", str(LATENCY_SECONDS), "--late-seconds", "0.5")
        sandbox = self._stack.run("sandbox", (*_SANDBOX, *options, *timing))
        until = time.monotonic() + _READY_SECONDS
        while not accepts_connections(port):
            if sandbox.wait(0.05) is not None or time.monotonic() > until:
                raise DispatcherError(f"The sandbox did not start.\n{sandbox.log_tail()}")
        self._screen.say("A sandbox stands in Voicery's place.")
        return {"VOICERY_BASE_URL": f"http://{LOOPBACK}:{port}/api", "VOICERY_API_TOKEN": "sandbox-token"}

    def _submit_backlog(self, dispatcher: Dispatcher) -> None:
        backlog = self._rows[: len(self._rows) - len(self._coming)]
        for row in backlog:
            self._submit(dispatcher, row)
        self._screen.say(
            f"{len(backlog)} rows were submitted at once; {len(self._coming)} more come in later, one by one."
        )

    def _submit(self, dispatcher: Dispatcher, row: LeadRow) -> None:
        try:
            self._submitted.append(dispatcher.submit(row.lead).id)
        except InvalidLead as refusal:
            self._refused += 1
            self._screen.say(f"line {row.line} refused: {'; '.join(map(str, refusal.errors))}", "yellow")

    def _watch(self, dispatcher: Dispatcher) -> None:
        """Wait until every lead has ended: kill the worker once, restart what has died, then submit the rest."""
        give_up = time.monotonic() + _GIVE_UP_SECONDS
        recovered = False
        next_submit = next_look = time.monotonic()
        while time.monotonic() < give_up:
            now = time.monotonic()
            if recovered and self._coming and now >= next_submit:
                self._submit(dispatcher, self._coming.popleft())
                next_submit = now + _EVERY_SECONDS
            if now >= next_look:
                seen = dispatcher.overview()
                self._screen.show(seen, SandboxView.of(read_log(self._log)), coming=len(self._coming))
                counts = {state: count.value for state, count in seen.counts.items()}
                if not self._coming and not any(counts.get(state) for state in UNSETTLED):
                    return
                self._kill_half_way(counts)
                recovered = recovered or self._accepted_at_kill not in (None, counts.get(State.ACCEPTED, 0))
                next_look = now + _LOOK_EVERY_SECONDS
            for name in self._stack.revive():
                self._screen.say(f"The {name} was started again.", "green")
            time.sleep(0.05)

    def _kill_half_way(self, counts: Mapping[State, int]) -> None:
        accepted, on_their_way = counts.get(State.ACCEPTED, 0), counts.get(State.SENDING, 0)
        half_way = accepted >= (len(self._rows) - LAST_COMERS) // 2
        if self._accepted_at_kill is None and half_way and on_their_way:
            self._stack.child("worker").kill()
            self._accepted_at_kill = accepted
            self._screen.worker_killed(on_their_way)

    def _settle_accounts(self, dispatcher: Dispatcher) -> DemoReport:
        """Stop the worker, then read the sandbox's log."""
        self._stack.child("worker").stop()
        records = [dispatcher.get(lead_id) for lead_id in self._submitted]
        with dispatcher.database.autocommit() as connection:
            failed = failures.matching(connection, FailureFilter(), limit=len(records))
        entries = read_log(self._log)
        account = draw_up(len(self._rows), self._refused, records, entries)
        self._screen.account(account, SandboxView.of(entries), failed)
        return account


def _remove(stack: Stack, store: Path) -> None:
    for server in (stack.postgres, stack.redis):
        server.remove()
    shutil.rmtree(store, ignore_errors=True)


@contextmanager
def _interruptible() -> Iterator[None]:
    """SIGTERM ends the demo as Ctrl-C does: by an exception, so that everything that was started is stopped."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may handle signals
        return

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def main(run: Callable[[Console], int] = run_demo) -> int:
    """`python -m dispatcher.embedded.demo`."""
    return run(Console())


if __name__ == "__main__":
    sys.exit(main())
