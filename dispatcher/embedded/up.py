"""`dispatcher up`: everything on this machine, until Ctrl-C.

Without a token the API is the sandbox; with one it is the server of `VOICERY_BASE_URL`, by default Voicery itself. Each
of the two has its own store, so that demo leads never reach the real API, nor real leads the sandbox.
"""

import re
import resource
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Final

from rich.console import Console

from dispatcher.config.account import DEFAULT_BASE_URL
from dispatcher.config.secret_files import CREDENTIALS
from dispatcher.config.settings import Settings
from dispatcher.embedded import exports
from dispatcher.embedded.child import Child, StackError
from dispatcher.embedded.embedded_server import LOOPBACK, accepts_connections, free_port
from dispatcher.embedded.stack import Stack
from dispatcher.errors import NotConfigured
from dispatcher.sandbox.options import require_server

ROOT: Final = Path(".dispatcher")

WORKER: Final = (sys.executable, "-m", "celery", "-A", "dispatcher", "worker", "--loglevel", "INFO")
SANDBOX: Final = (sys.executable, "-m", "dispatcher.sandbox")
SANDBOX_TOKEN: Final = "sandbox-token"  # noqa: S105  the sandbox lets everybody in
EXAMPLE_NUMBER: Final = "+12025550123"  # reserved for fiction

CONSOLE: Final = (sys.executable, "-m", "dispatcher", "console", "--port")
CONSOLE_PORT: Final = 8321
EXPORTS: Final = "env"

_SUPERVISION_SECONDS: Final = 1.0
_READY_SECONDS: Final = 20.0
_POLL_SECONDS: Final = 0.05
_TAIL_LINES: Final = 6
_LINK: Final = re.compile(r"https?://\S+")


@dataclass(frozen=True, slots=True)
class Extras:
    """What `dispatcher up` runs besides, and how the sandbox misbehaves.

    console          serve the web console too
    chaos            the probability, 0 to 1, that the sandbox spoils a request
    phone_suffixes   the sandbox plays a fault by the last digits of a number (docs/sandbox.md)
    """

    console: bool = False
    chaos: float = 0.0
    phone_suffixes: bool = False

    def of_the_sandbox(self) -> tuple[str, ...]:
        """Return the options of the sandbox."""
        chaos = ("--chaos", str(self.chaos)) if self.chaos else ()
        return (*chaos, *(("--phone-suffixes",) if self.phone_suffixes else ()))


def is_live(environment: Mapping[str, str], root: Path = ROOT) -> bool:
    """Return whether any account has a token, so that leads go to an API that is not our own sandbox's."""
    if not any(name.startswith("VOICERY_API_TOKEN") and value.strip() for name, value in environment.items()):
        return False
    port = _sandbox_port(root / "sandbox")
    # A shell that has read the sandbox's exports means that sandbox.
    return port is None or environment.get("VOICERY_BASE_URL", "").strip() != _sandbox_url(port)


def run_up(
    environment: Mapping[str, str],
    console: Console,
    *,
    root: Path = ROOT,
    extras: Extras = Extras(),
    worker: tuple[str, ...] = WORKER,
    stopping: threading.Event | None = None,
) -> None:
    """Start Postgres, Redis, the API if it is the sandbox, and a worker; return after Ctrl-C or SIGTERM, all stopped.

    Args:
        environment: the caller's; with the sandbox, no `VOICERY_*` variable reaches the processes.
        console: for instructions and progress.
        root: holds the stores `sandbox` and `live`.
        extras: what else to run.
        worker: the command of the worker.
        stopping: ends the run when it is set.

    Raises:
        NotConfigured: the extra `[embedded]` or `[sandbox]` is not installed, or a setting is unusable; nothing was
            started.
        StackError: something does not start; what had been started is stopped.
    """
    # For every process started here: the memory of a worker holds the token and people's numbers.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    live = is_live(environment, root)
    if live and extras.of_the_sandbox():
        raise NotConfigured(
            "--chaos and --phone-suffixes are the sandbox's: unset VOICERY_API_TOKEN, or leave them out."
        )
    stopping = stopping or threading.Event()
    foreign = () if live else ("VOICERY_", CREDENTIALS)  # the sandbox gets no token
    ours = {name: value for name, value in environment.items() if not name.startswith(foreign)}
    settings = _checked(ours)
    if not live:
        require_server()
    store = root / ("live" if live else "sandbox")
    stack = Stack(store, ours)
    with _ended_by_signals(stopping):
        try:
            with console.status("Starting Postgres and Redis …"):
                stack.start()
            api = {} if live else _start_sandbox(stack, store, extras)
            stack.run("worker", worker, api)
            link = _start_console(stack, api) if extras.console else None
            _explain(console, whom(settings) if live else _of_the_sandbox(api, extras), live=live)
            _show_way(console, store, {**stack.urls(), **api}, link)
            _watch(stack, console, stopping)
        finally:
            with console.status("Stopping; requests on their way are finished first …"):
                stack.stop()
    console.print(f"Stopped. Everything is kept in [bold]{store}[/bold]; `dispatcher up` goes on from there.")


def whom(settings: Settings) -> str:
    """Return a sentence on where the leads of these settings go, for a store that is not the sandbox's."""
    urls = sorted({account.base_url for account in settings.accounts.values() if account.has_token})
    others = [url for url in urls if url.rstrip("/") != DEFAULT_BASE_URL.rstrip("/")]
    sentences = []
    if len(others) < len(urls):
        sentences.append(f"People are called: a token is set, and leads go to Voicery itself, {DEFAULT_BASE_URL}.")
    if others:
        sentences.append(
            f"Leads go to {' and '.join(others)}, as VOICERY_BASE_URL says. That is not Voicery's own address: "
            "whether people are called is up to that server."
        )
    return " ".join(sentences)


def _of_the_sandbox(api: Mapping[str, str], extras: Extras) -> str:
    spoilt = f" It spoils {extras.chaos:.0%} of all requests." if extras.chaos else ""
    return (
        f"A sandbox stands in Voicery's place at {api['VOICERY_BASE_URL']}: nobody is called.{spoilt} "
        "For the real one set VOICERY_API_TOKEN."
    )


def _checked(environment: Mapping[str, str]) -> Settings:
    """Return the settings of the processes to be started. Raises `NotConfigured` for what a worker would die of."""
    stores = ("DATABASE_URL", "REDIS_URL")
    settings = Settings.from_environment({name: value for name, value in environment.items() if name not in stores})
    for account in settings.accounts.values():
        if account.has_token:
            account.read_token()
    return settings


def _sandbox_port(store: Path) -> int | None:
    remembered = store / "sandbox-port"
    return int(remembered.read_text()) if remembered.exists() else None


def _sandbox_url(port: int) -> str:
    return f"http://{LOOPBACK}:{port}/api"


def _start_sandbox(stack: Stack, store: Path, extras: Extras) -> dict[str, str]:
    """Start the sandbox at the address it had before (the store is pinned to it); return the worker's variables."""
    wanted = _sandbox_port(store)
    port = free_port(wanted)
    if wanted not in (None, port):
        raise StackError(
            f"Port {wanted}, the sandbox's since this store was made, is taken by another program; "
            f"stop that, or delete {store} to start anew."
        )
    (store / "sandbox-port").write_text(f"{port}\n")
    state = str(store.absolute() / "voicery")
    options = ("--host", LOOPBACK, "--port", str(port), "--state-dir", state, *extras.of_the_sandbox())
    sandbox = stack.run("sandbox", (*SANDBOX, *options))
    _wait_ready("sandbox", sandbox, lambda: accepts_connections(port))
    return {"VOICERY_BASE_URL": _sandbox_url(port), "VOICERY_API_TOKEN": SANDBOX_TOKEN}


def _start_console(stack: Stack, api: Mapping[str, str]) -> str:
    """Start the console; return its address, with the one-time key where there are no users."""
    port = free_port(CONSOLE_PORT)
    log = stack.logs / "console.log"
    log.touch(mode=0o600)  # it holds the one-time key
    child = stack.run("console", (*CONSOLE, str(port)), api)
    _wait_ready("console", child, lambda: accepts_connections(port))
    return str(_LINK.findall(child.log_tail())[-1])


def _wait_ready(name: str, child: Child, ready: Callable[[], bool]) -> None:
    for _ in range(int(_READY_SECONDS / _POLL_SECONDS)):
        if ready():
            return
        if child.wait(_POLL_SECONDS) is not None:
            break
    raise StackError(f"The {name} did not start.\n{child.log_tail()}")


def _explain(console: Console, where: str, *, live: bool) -> None:
    console.print("[bold green]Up:[/] Postgres, Redis and a worker.")
    console.print(where, style="bold yellow" if live else "", highlight=False, markup=False)


def _show_way(console: Console, store: Path, variables: Mapping[str, str], link: str | None) -> None:
    if link is not None:
        console.print(f"Console: {link}", soft_wrap=True, highlight=False, markup=False)
    exports.write(store / EXPORTS, variables)
    console.print("\nIn another terminal:\n")
    exports.show(console, store / EXPORTS, variables)
    console.print("\nThen:\n")
    console.print(f"  dispatcher submit --phone {EXAMPLE_NUMBER} --campaign 42", highlight=False)
    console.print("  dispatcher status", highlight=False)
    console.print(f"\nLogs: {store / 'logs'}. Ctrl-C stops everything and keeps the data.\n", highlight=False)


def _watch(stack: Stack, console: Console, stopping: threading.Event) -> None:
    while not stopping.wait(_SUPERVISION_SECONDS):
        for name, child in stack.newly_dead():
            console.print(f"[yellow]{name} ended with exit code {child.returncode}[/] and is started again; it said:")
            for line in child.log_tail().splitlines()[1:][-_TAIL_LINES:]:
                console.print(f"  {line}", soft_wrap=True, highlight=False, markup=False)
        for name in stack.revive():
            console.print(f"[yellow]{name} was started again.[/]")


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
