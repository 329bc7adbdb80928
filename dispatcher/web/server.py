"""A server: where it listens, which proxies it believes, and how uvicorn runs it."""

import asyncio
import logging
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from dispatcher.config.urls import Network
from dispatcher.errors import CannotListen
from dispatcher.web.connections import Limits, bounded


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate chain and its key, both PEM files."""

    chain: Path
    key: Path


def certificate_of(chain: Path | None, key: Path | None) -> Certificate | None:
    """Return the certificate of two files, None without any. Raises `ValueError` for one without the other."""
    if chain is None or key is None:
        if chain is not key:
            raise ValueError("give both --tls-certificate and --tls-key, or neither")
        return None
    return Certificate(chain, key)


@dataclass(frozen=True, slots=True)
class Address:
    """The address to listen on."""

    host: str
    port: int
    certificate: Certificate | None = None


def behind(app: ASGIApp, proxies: Sequence[Network]) -> ASGIApp:
    """Let the application see the client that these proxies name in `X-Forwarded-For`; no other sender is believed."""
    if not proxies:
        return app
    return ProxyHeadersMiddleware(app, trusted_hosts=list(map(str, proxies)))  # type: ignore[arg-type,return-value]  # the same protocol, typed by each itself


@contextmanager
def listening(what: str, address: Address) -> Iterator[socket.socket]:
    """Listen on an address while the block is run. Raises `CannotListen`, which begins with `what`."""
    try:
        family = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((address.host, address.port), family=family, backlog=2048)
    except OSError as error:
        raise CannotListen(what, address.host, address.port, error) from error
    with listener:
        yield listener


def run(
    app: ASGIApp, address: Address, limits: Limits, *, connections: int | None, listener: socket.socket | None = None
) -> None:
    """Serve until SIGTERM or SIGINT.

    connections   above so many open ones, requests are answered with 503; None: the application says when
    listener      listens on the address already; None: it is made now. Raises `CannotListen`
    """
    if listener is None:
        with listening("The server", address) as made:
            run(app, address, limits, connections=connections, listener=made)
        return
    certificate = address.certificate
    config = uvicorn.Config(
        app,
        ssl_certfile=str(certificate.chain) if certificate else None,
        ssl_keyfile=str(certificate.key) if certificate else None,
        access_log=False,  # URLs contain searched phone numbers, or the secret of a hook
        server_header=False,
        proxy_headers=False,  # `behind` believes the configured proxies alone
        log_level=logging.WARNING,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=10,
        limit_concurrency=connections,
        http=bounded(limits),
        loop="asyncio",
    )
    Server(config, limits.handshake_seconds).run(sockets=[listener])


class Server(uvicorn.Server):
    """Ends connections whose TLS handshake takes too long: before it is done there is no protocol to watch them.

    The loop of `config` has to be asyncio's.
    """

    def __init__(self, config: uvicorn.Config, handshake_seconds: float) -> None:
        super().__init__(config)
        self._handshake_seconds = handshake_seconds

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen. For uvicorn."""
        loop = asyncio.get_running_loop()
        if self.config.is_ssl:
            # uvicorn passes no such argument on.
            listen = partial(loop.create_server, ssl_handshake_timeout=self._handshake_seconds)
            loop.create_server = listen  # type: ignore[method-assign]
        await super().startup(sockets)
