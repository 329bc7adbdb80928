"""`dispatcher up`: everything on this machine, until Ctrl-C.

Without a token the API is the sandbox; with one it is the real Voicery. Each has its own store, so that demo leads
never reach the real API, nor real leads the sandbox.
"""

import resource
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Final

from rich.console import Console

from dispatcher.config.secret_files import CREDENTIALS
from dispatcher.embedded.child import Child, StackError
from dispatcher.embedded.embedded_server import LOOPBACK, accepts_connections, free_port
from dispatcher.embedded.stack import Stack

ROOT: Final = Path(".dispatcher")

WORKER: Final = (sys.executable, "-m", "celery", "-A", "dispatcher", "worker", "--loglevel", "INFO")
SANDBOX: Final = (sys.executable, "-m", "dispatcher.sandbox")
SANDBOX_TOKEN: Final = "sandbox-token"  # noqa: S105  the sandbox lets everybody in
EXAMPLE_NUMBER: Final = "+12025550123"  # reserved for fiction

_SUPERVISION_SECONDS: Final = 1.0
_READY_SECONDS: Final = 20.0
_POLL_SECONDS: Final = 0.05


def is_live(environment: Mapping[str, str]) -> bool:
    """Return whether any account has a token, so that leads go to the real API."""
    return any(name.startswith("VOICERY_API_TOKEN") and value.strip() for name, value in environment.items())


def run_up(
    environment: Mapping[str, str],
    console: Console,
    *,
    root: Path = ROOT,
    worker: tuple[str, ...] = WORKER,
    stopping: threading.Event | None = None,
) -> None:
    """Start Postgres, Redis, the API if it is the sandbox, and a worker; return after Ctrl-C or SIGTERM, all stopped.

    Args:
        environment: the caller's; with the sandbox, no `VOICERY_*` variable reaches the processes.
        console: for instructions and progress.
        root: holds the stores `sandbox` and `live`.
        worker: the command of the worker.
        stopping: ends the run when it is set.

    Raises:
        NotConfigured: the extra `[embedded]` is not installed.
        StackError: something does not start; what had been started is stopped.
    """
    # For every process started here: the memory of a worker holds the token and people's numbers.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    live = is_live(environment)
    stopping = stopping or threading.Event()
    foreign = () if live else ("VOICERY_", CREDENTIALS)  # the sandbox gets no token
    ours = {name: value for name, value in environment.items() if not name.startswith(foreign)}
    store = root / ("live" if live else "sandbox")
    stack = Stack(store, ours)
    with _ended_by_signals(stopping):
        try:
            with console.status("Starting Postgres and Redis …"):
                stack.start()
            api = {} if live else _start_sandbox(stack, store)
            stack.run("worker", worker, api)
            _explain(console, stack, store, live=live)
            _watch(stack, console, stopping)
        finally:
            with console.status("Stopping; requests on their way are finished first …"):
                stack.stop()
    console.print(f"Stopped. Everything is kept in [bold]{store}[/bold]; `dispatcher up` goes on from there.")


def _start_sandbox(stack: Stack, store: Path) -> dict[str, str]:
    """Start the sandbox at the address it had before (the store is pinned to it); return the worker's variables."""
    remembered = store / "sandbox-port"
    wanted = int(remembered.read_text()) if remembered.exists() else None
    port = free_port(wanted)
    if wanted not in (None, port):
        raise StackError(
            f"Port {wanted}, the sandbox's since this store was made, is taken by another program; "
            f"stop that, or delete {store} to start anew."
        )
    remembered.write_text(f"{port}\n")
    state = str(store.absolute() / "voicery")
    sandbox = stack.run("sandbox", (*SANDBOX, "--host", LOOPBACK, "--port", str(port), "--state-dir", state))
    _wait_ready(sandbox, lambda: accepts_connections(port))
    return {"VOICERY_BASE_URL": f"http://{LOOPBACK}:{port}/api", "VOICERY_API_TOKEN": SANDBOX_TOKEN}


def _wait_ready(child: Child, ready: Callable[[], bool]) -> None:
    for _ in range(int(_READY_SECONDS / _POLL_SECONDS)):
        if ready():
            return
        if child.wait(_POLL_SECONDS) is not None:
            break
    raise StackError(f"The sandbox did not start.\n{child.log_tail()}")


def _explain(console: Console, stack: Stack, store: Path, *, live: bool) -> None:
    console.print("[bold green]Up:[/] Postgres, Redis and a worker.")
    if live:
        console.print("[bold yellow]People are called[/]: a token is set, so this is the real Voicery.")
    else:
        console.print("A sandbox stands in Voicery's place: nobody is called. For the real one set VOICERY_API_TOKEN.")
    console.print("\nIn another terminal:\n")
    for name, value in stack.urls().items():
        # No wrapping: these lines are copied.
        console.print(f"  export {name}={shlex.quote(value)}", soft_wrap=True, highlight=False, markup=False)
    console.print(f"  dispatcher submit --phone {EXAMPLE_NUMBER} --campaign 42", highlight=False)
    console.print("  dispatcher status", highlight=False)
    console.print(f"\nLogs: {store / 'logs'}. Ctrl-C stops everything and keeps the data.\n", highlight=False)


def _watch(stack: Stack, console: Console, stopping: threading.Event) -> None:
    while not stopping.wait(_SUPERVISION_SECONDS):
        for name in stack.revive():
            console.print(f"[yellow]{name} had died and was started again[/]; its log says why.")


@contextmanager
def _ended_by_signals(stopping: threading.Event) -> Iterator[None]:
    """Set the event at each Ctrl-C and SIGTERM, so that a second signal does not interrupt stopping."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may handle signals
        return

    def ask(_number: int, _frame: FrameType | None) -> None:
        stopping.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
