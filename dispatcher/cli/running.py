"""Commands that start something: the schema, the local stack, the demo, the sandbox, a sweep."""

import os
import signal
import threading
from types import FrameType
from typing import Annotated

import typer

from dispatcher.cli import screen


def up() -> None:
    """Run Postgres, Redis and a worker on this machine, until Ctrl-C.

    Without VOICERY_API_TOKEN a sandbox stands in Voicery's place and nobody is called. Data is kept in .dispatcher/.
    """
    from dispatcher.embedded.up import run_up

    run_up(os.environ, screen.console())


def demo() -> None:
    """Watch real leads go through the real machinery against a misbehaving Voicery, in under a minute."""
    from dispatcher.embedded.demo import run_demo

    raise typer.Exit(run_demo(screen.console()))


def migrate() -> None:
    """Bring the database to this version's schema. Safe to repeat, and safe when two run at once."""
    from dispatcher.config.settings import Settings
    from dispatcher.migration import upgrade
    from dispatcher.store.database import translated

    url = Settings.from_environment().require_database_url()
    with translated():
        before, after = upgrade(url)
    if before == after:
        screen.say(("✓ ", "green"), f"The schema is up to date (revision {after}).")
    else:
        screen.say(("✓ ", "green"), f"The schema is now at revision {after}" + (f", was {before}." if before else "."))


def sandbox(context: typer.Context) -> None:
    """Serve a stand-in for the Voicery API, with faults on demand; `dispatcher sandbox --help` lists its flags."""
    from dispatcher.sandbox.__main__ import main

    raise typer.Exit(main(context.args))


def sweep(
    once: Annotated[bool, typer.Option("--once", help="One round, then end.")] = False,
    parent: Annotated[
        int | None,
        typer.Option("--parent", min=1, help="Live no longer than this process; every worker passes its own."),
    ] = None,
) -> None:
    """Repair periodically: ring for due leads, end leases, expire, reopen gates. Every worker runs one by itself."""
    from dispatcher.config.settings import Settings
    from dispatcher.logs.setup import configure_from
    from dispatcher.worker.parent import die_with
    from dispatcher.worker.runtime import build_sweep

    if parent is not None:
        die_with(parent)
    settings = Settings.from_environment()
    configure_from(settings)
    sweeper = build_sweep(settings, main_pid=parent or os.getpid())
    if once:
        swept = sweeper.once()
        screen.say("Swept." if swept else "Another sweeper is at work; nothing was done.")
        return
    ending = threading.Event()

    def wait(seconds: float) -> None:
        ending.wait(seconds)

    def end(_number: int, _frame: FrameType | None) -> None:
        ending.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    sweeper.run(stopping=ending.is_set, wait=wait)
