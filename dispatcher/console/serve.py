"""Run the console: bind, print its address, and serve until a signal."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import uvicorn
from starlette.types import ASGIApp
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from dispatcher.config.settings import Settings
from dispatcher.config.urls import Network
from dispatcher.console.app import Console, build
from dispatcher.console.auth import People, Sessions
from dispatcher.console.connections import CONNECTIONS, Limits, bounded
from dispatcher.console.guard import Certificate, Origin, reached_at
from dispatcher.console.login import Login, OneTimeKey
from dispatcher.console.rendering import Renderer
from dispatcher.console.throttle import Throttle
from dispatcher.wiring import Services

PORT: Final = 8321


@dataclass(frozen=True, slots=True)
class Address:
    """The address to listen on."""

    host: str = "127.0.0.1"
    port: int = PORT
    certificate: Certificate | None = None


def application(settings: Settings, address: Address, say: Callable[[str], None]) -> ASGIApp:
    """Return the console with these settings. Raises `NotConfigured` for a setup without authentication.

    `say` prints a line on the terminal: the address of the console, and the one-time links.
    """
    people = People(settings.console_users, settings.console_users_file)
    origin = reached_at(
        address.host,
        address.port,
        public=settings.console_origin,
        certificate=address.certificate,
        users=people.anyone,
    )
    key = None if people.anyone else OneTimeKey(lambda one: say(_link(origin, one)))
    if key is None:
        say(f"The console is at {origin.public}")
    else:
        key.print()
    console = build(
        Console(
            services=Services(settings, name="dispatcher-console"),
            login=Login(people, key, Throttle()),
            sessions=Sessions(settings.console_idle_seconds),
            origin=origin,
            renderer=Renderer(),
        )
    )
    return behind(console, settings.console_trusted_proxies)


def behind(console: ASGIApp, proxies: Sequence[Network]) -> ASGIApp:
    """Let the console see the client that these proxies name in `X-Forwarded-For`; no other sender is believed."""
    if not proxies:
        return console
    return ProxyHeadersMiddleware(console, trusted_hosts=list(map(str, proxies)))  # type: ignore[arg-type,return-value]  # the same protocol, typed by each itself


def serve(settings: Settings, address: Address, say: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT."""
    app = application(settings, address, say)
    certificate = address.certificate
    uvicorn.run(
        app,
        host=address.host,
        port=address.port,
        ssl_certfile=str(certificate.chain) if certificate else None,
        ssl_keyfile=str(certificate.key) if certificate else None,
        access_log=False,  # URLs contain searched phone numbers
        server_header=False,
        proxy_headers=False,  # `behind` believes the configured proxies alone
        log_level=logging.WARNING,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=10,
        limit_concurrency=CONNECTIONS,
        http=bounded(Limits(proxies=settings.console_trusted_proxies)),
    )


def _link(origin: Origin, key: str) -> str:
    return f"Open the console once with {origin.public}/login?key={key}"
