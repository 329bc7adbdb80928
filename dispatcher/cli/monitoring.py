"""Commands that other machines call: a probe, and the figures for Prometheus."""

import signal
import socket
import sys
import threading
from types import FrameType
from typing import Annotated

import typer

from dispatcher.cli import screen


def health(
    within: Annotated[float, typer.Option("--within", min=1, help="Seconds that things may be old.")] = 60.0,
    here: Annotated[bool, typer.Option("--here", help="A worker of this machine must have been seen.")] = False,
    json: screen.Json = False,
) -> None:
    """Prove that what is due is being taken: exit 0 if so, else 1 with the reasons. For container probes."""
    from dispatcher.config.settings import Settings
    from dispatcher.monitoring.probe import probe
    from dispatcher.store.database import Database

    settings = Settings.from_environment()
    database = Database(settings.require_database_url(), name="dispatcher-health", pool_size=1, pooler=settings.pooler)
    try:
        found = probe(database, within_seconds=within, host=socket.gethostname() if here else None)
    finally:
        database.close()
    if json:
        screen.emit(found.as_dict())
    elif found.ok:
        screen.say(("✓ ", "green"), "Healthy: what is due is being taken.")
    for fault in () if json else found.faults:
        screen.say(("✗ ", "red"), fault)
    if not found.ok:
        screen.fail()


def metrics(
    host: Annotated[str, typer.Option("--host", help="Another than loopback needs a token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes any free one.")] = 9464,
) -> None:
    """Serve /metrics for Prometheus, /healthz and /readyz, until it is stopped. One for the whole deployment is enough.

    With DISPATCHER_METRICS_TOKEN set, /metrics answers only to that bearer token.
    """
    from dispatcher.config.settings import Settings
    from dispatcher.logs.setup import configure_from
    from dispatcher.monitoring.probe import probe
    from dispatcher.monitoring.server import MetricsServer, Pages
    from dispatcher.monitoring.wiring import scrape
    from dispatcher.runtime import Dispatcher

    settings = Settings.from_environment()
    settings.require_database_url()
    configure_from(settings)
    dispatcher = Dispatcher(settings)
    pages = Pages(scrape(dispatcher, settings).text, lambda: probe(dispatcher.database))
    with MetricsServer(host, port, pages, settings.metrics_token) as server:
        screen.say(f"Figures at http://{host}:{server.server_port}/metrics")

        def end(_number: int, _frame: FrameType | None) -> None:
            threading.Thread(target=server.shutdown).start()  # from this thread it would wait for itself

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, end)
        server.serve_forever()
    dispatcher.close()


def run_probe() -> None:
    """`dispatcher health` without the other commands, which take most of a second to load."""
    probing = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    probing.command()(health)
    probing(sys.argv[2:], prog_name="dispatcher health")
