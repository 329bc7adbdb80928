"""What runs until it is stopped: the console, metrics, a sweep, a sandbox, everything at once; and what checks them."""

import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Annotated

import typer

from dispatcher.cli import arguments, screen
from dispatcher.cli.arguments import opened
from dispatcher.errors import NotConfigured


@contextmanager
def extra(what: str, name: str) -> Iterator[None]:
    """Raise `NotConfigured` where an import inside fails because the extra is not installed."""
    try:
        yield
    except ModuleNotFoundError as missing:
        if missing.name is None or missing.name.startswith("dispatcher"):
            raise
        raise NotConfigured(f"{what} is an extra: pip install 'voicery-dispatcher[{name}]'.") from None


def console(
    host: Annotated[str, typer.Option("--host", help="Where to listen; others than this machine need a login.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option("--port", min=1, max=65_535, help="Port to listen on.")] = 8321,
    certificate: arguments.CertificateFile = None,
    key: arguments.KeyFile = None,
    hash: Annotated[  # the option's name
        str | None,
        typer.Option(
            "--hash",
            metavar="NAME:ROLE[:ACCOUNT,…]",
            help="Ask for a password, print a line for the users, and end. With accounts the user sees no others.",
        ),
    ] = None,
) -> None:
    """Serve the web console. Without users it opens by a one-time link, printed here, and to this machine alone."""
    with extra("The console", "console"):
        from dispatcher.console.auth import Role, accounts_in, hash_password
        from dispatcher.console.serve import serve
    from dispatcher.config.settings import Settings

    if hash is not None:
        name, _, rest = hash.partition(":")
        role, confined, accounts = rest.partition(":")
        if not name or role not in set(Role) or (confined and not accounts_in(accounts)):
            raise typer.BadParameter(
                f"write NAME:ROLE with a role of {', '.join(Role)}, or NAME:ROLE:ACCOUNT,ACCOUNT", param_hint="--hash"
            )
        password = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
        typer.echo(f"{name}:{role}:{hash_password(password)}{confined}{accounts}")
        return
    where = arguments.address(host, port, certificate, key)
    serve(Settings.from_environment(), where, typer.echo)


def health(
    within: Annotated[float, typer.Option("--within", min=1, help="Seconds that things may be old.")] = 60.0,
    here: Annotated[bool, typer.Option("--here", help="A worker of this machine must have been seen.")] = False,
    json: screen.Json = False,
) -> None:
    """Check that due leads are being claimed: exit 0 if so, else 1 with the reasons. For container probes."""
    from dispatcher.config.settings import Settings
    from dispatcher.operator.health import probe
    from dispatcher.wiring import Services

    settings = Settings.from_environment()
    services = Services(settings, name="dispatcher-health", connections=1)
    try:
        host = socket.gethostname() if here else None
        found = probe(
            services.database,
            within_seconds=within,
            host=host,
            rate_limit=settings.rate_limit,
            held=services.held_seconds,
            ring=services.database.key_ring,
        )
    finally:
        services.close()
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
    from dispatcher.operator.health import probe
    from dispatcher.wiring import Services

    with extra("The exporter", "metrics"):
        from dispatcher.metrics.exporter import MetricsServer, Pages, scrape

    settings = Settings.from_environment()
    settings.require_database_url()
    configure_from(settings)
    services = Services(settings, name="dispatcher-metrics")
    pages = Pages(
        scrape(services).text,
        lambda: probe(services.database, rate_limit=settings.rate_limit, held=services.held_seconds),
    )
    with MetricsServer(host, port, pages, settings.metrics_token) as server:
        screen.say(f"Figures at http://{host}:{server.server_port}/metrics")

        def end(_number: int, _frame: FrameType | None) -> None:
            threading.Thread(target=server.shutdown).start()  # from this thread it would wait for itself

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, end)
        server.serve_forever()
    services.close()


def up(
    console: Annotated[bool, typer.Option("--console", help="Serve the web console too.")] = False,
    chaos: Annotated[
        float, typer.Option("--chaos", min=0, max=1, help="Probability that the sandbox spoils a request.")
    ] = 0.0,
    phone_suffixes: Annotated[
        bool, typer.Option("--phone-suffixes", help="The sandbox plays faults by the last digits of a number.")
    ] = False,
) -> None:
    """Run Postgres, Redis and a worker on this machine, until Ctrl-C.

    Without VOICERY_API_TOKEN a sandbox takes Voicery's place and no person is called. Data is kept in .dispatcher/; the
    file `env` of the store exports the addresses to another shell.
    """
    from dispatcher.embedded.up import Extras, run_up

    if console:
        with extra("The console", "console"):
            import dispatcher.console.serve  # noqa: F401 - is it installed?
    run_up(os.environ, screen.console(), extras=Extras(console, chaos, phone_suffixes))


def demo(
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave everything running at the end, to look around, until Ctrl-C.")
    ] = False,
) -> None:
    """Watch real leads go through the real machinery against a misbehaving Voicery, in under a minute."""
    from dispatcher.embedded.demo import run_demo

    raise typer.Exit(run_demo(screen.console(), keep=keep))


def migrate(
    with_roles: Annotated[
        bool, typer.Option("--with-roles", help="Make the database roles, and give each its rights.")
    ] = False,
    prefix: Annotated[
        str | None, typer.Option("--role-prefix", help="What the roles' names begin with.", show_default="dispatcher_")
    ] = None,
    named: Annotated[
        list[str] | None,
        typer.Option("--role", metavar="PART=NAME", help="Name of one role.", show_default=False),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Only say what would be locked, and for how long; nothing is changed.")
    ] = False,
    json: screen.Json = False,
) -> None:
    """Bring the database to this version's schema. Safe to repeat, and safe when two run at once.

    --with-roles makes owner, producer, worker, operator, reader and retention: groups without login or password, to be
    granted to the logins of people and processes.
    """
    from dispatcher.config.settings import Settings
    from dispatcher.store.database import translated
    from dispatcher.store.migration import upgrade
    from dispatcher.store.rights import VERBS, Part, quoted
    from dispatcher.store.roles import DEFAULT_PREFIX, names_of

    if (prefix is not None or named) and not with_roles:
        raise NotConfigured("--role and --role-prefix name the roles of --with-roles; add it.")
    if check:
        if with_roles:
            raise NotConfigured("--check changes nothing, so it makes no roles; leave out one of the two.")
        _check_upgrade(json=json)
        return
    roles = names_of(DEFAULT_PREFIX if prefix is None else prefix, named or ()) if with_roles else None
    settings = Settings.from_environment()
    url = settings.require_database_url()
    with translated():
        tell = screen.warn if json else screen.say
        before, after = upgrade(url, pooler=settings.pooler, tell=tell, roles=roles)
    if json:
        screen.emit(
            {"before": before, "after": after, "roles": {part.value: name for part, name in (roles or {}).items()}}
        )
        return
    if before == after:
        screen.say(("✓ ", "green"), f"The schema is up to date (revision {after}).")
    else:
        screen.say(("✓ ", "green"), f"The schema is now at revision {after}" + (f", was {before}." if before else "."))
    if roles:
        listed = ", ".join(f"{name} ({VERBS[part]})" for part, name in roles.items())
        screen.say(("✓ ", "green"), f"The roles have their rights: {listed}.")
        screen.say(f'  GRANT {quoted(roles[Part.PRODUCER])} TO "a login of yours" lets that login submit, and so on.')


def _check_upgrade(*, json: bool) -> None:
    from dispatcher.store.database import translated
    from dispatcher.store.upgrade_plan import LONGEST_WAIT_SECONDS, Work, plan

    with opened() as dispatcher, translated(), dispatcher.database.engine.connect() as connection:
        pending = plan(connection)
    if json:
        screen.emit_items([revision.as_dict() for revision in pending], longest_wait_seconds=LONGEST_WAIT_SECONDS)
        return
    if not pending:
        screen.say(("✓ ", "green"), "The schema is up to date: `dispatcher migrate` would change nothing.")
        return
    for revision in pending:
        screen.say((revision.revision, "bold"), f"  {revision.title}")
        for step in revision.steps:
            time = "" if step.work is Work.CATALOG else f", about {step.seconds:.1f} s for {step.rows:,} rows"
            lock = f" under {step.lock}" if step.lock else ""
            screen.say(f"      {step.table}: {step.what}{lock}; {step.work.value}{time}")
    screen.say(
        f"Nobody who submits waits longer than {LONGEST_WAIT_SECONDS:g} s at a time: a step that does not get its lock "
        "by then gives way and tries again."
    )


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
    from dispatcher.wiring import Services, worker_name
    from dispatcher.worker.stopping import die_with

    if parent is not None:
        die_with(parent)
    settings = Settings.from_environment()
    configure_from(settings)
    services = Services(settings, name="dispatcher-sweep", connections=2)
    sweeper = services.sweep(worker_name(parent or os.getpid()), own_process=True)
    if parent is not None and sys.stdin is not None and not sys.stdin.isatty():
        sys.stdin.readline()  # the worker sends it when its pool has started
    if once:
        swept = sweeper.once()
        sweeper.finish()
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
