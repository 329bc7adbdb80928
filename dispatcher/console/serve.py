"""Run the console: bind, print its address, and serve until a signal."""

from collections.abc import Callable

from starlette.types import ASGIApp

from dispatcher.config.settings import Settings
from dispatcher.console.app import Console, build
from dispatcher.console.auth import Sessions, Users
from dispatcher.console.guard import UPLOAD_PATH, ConsoleOrigin, reached_at
from dispatcher.console.login import Login, OneTimeKey
from dispatcher.console.rendering import Renderer
from dispatcher.web.connections import CONNECTIONS, Limits
from dispatcher.web.server import Address, behind, listening, run
from dispatcher.web.throttle import Throttle
from dispatcher.wiring import Services


def application(settings: Settings, address: Address, say: Callable[[str], None]) -> ASGIApp:
    """Return the console with these settings. Raises `NotConfigured` for a setup without authentication.

    `say` prints a line on the terminal: the address of the console, and the one-time links.
    """
    users = Users(settings.console_users, settings.console_users_file)
    origin = reached_at(
        address.host,
        address.port,
        public=settings.console_origin,
        certificate=address.certificate,
        users=users.anyone,
    )
    key = None if users.anyone else OneTimeKey(lambda one: say(_link(origin, one)))
    if key is None:
        say(f"The console is at {origin.public}")
    else:
        key.print()
    console = build(
        Console(
            services=Services(settings, name="dispatcher-console"),
            login=Login(users, key, Throttle()),
            sessions=Sessions(settings.console_idle_seconds),
            origin=origin,
            renderer=Renderer(),
        )
    )
    return behind(console, settings.console_trusted_proxies)


def serve(settings: Settings, address: Address, say: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT."""
    limits = Limits(proxies=settings.console_trusted_proxies, uploads=[UPLOAD_PATH])
    with listening("The console", address) as listener:  # before its link is printed
        run(application(settings, address, say), address, limits, connections=CONNECTIONS, listener=listener)


def _link(origin: ConsoleOrigin, key: str) -> str:
    return f"Open the console once with {origin.public}/login?key={key}"
