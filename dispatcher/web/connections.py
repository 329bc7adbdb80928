"""The connections of a server: deadlines for what a client sends and takes, and a limit for each source.

uvicorn counts a connection as soon as it is open and waits without end for the rest of a request: some two hundred
half-sent ones kept everybody else out.
"""

import asyncio
import socket
from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from dispatcher.config.urls import Network
from dispatcher.web.throttle import source_of

CONNECTIONS: Final = 400
"""Open connections of a whole server; above it requests are answered with 503."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of one connection. A reverse proxy among `proxies` speaks for many clients, and is not counted.

    handshake_seconds from the connection's begin to the end of the TLS handshake
    head_seconds      from the first byte of a request, or the connection's begin, to the end of the header
    body_seconds      from there to the end of the body
    upload_seconds    that of a body which is sent to one of `uploads`, paths that take files
    answer_seconds    from there until the client has taken the answer
    per_source        connections of one address; more are closed at once
    """

    handshake_seconds: float = 10.0
    head_seconds: float = 10.0
    body_seconds: float = 30.0
    upload_seconds: float = 900.0
    answer_seconds: float = 300.0
    per_source: int = 40
    proxies: Collection[Network] = ()
    uploads: Collection[str] = ()


def bounded(limits: Limits) -> type[asyncio.Protocol]:
    """Return uvicorn's protocol with these limits, for `uvicorn.Config(http=…)`."""

    class BoundedProtocol(H11Protocol):
        cycle: RequestResponseCycle | None  # type: ignore[assignment]  # uvicorn sets None, and does not say so
        _phase: str | None = None
        _ending: asyncio.TimerHandle | None = None
        source: str | None = None  # of a client that the limit counts

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
            super().connection_made(transport)
            # asyncio does so only for a listener whose protocol number is given. Else the body of an answer waits until
            # the client has acknowledged its header, some 40 ms.
            transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            host = self.client[0] if self.client else ""
            if not trusted(host, limits.proxies):
                self.source = source_of(host)
                if sum(getattr(one, "source", None) == self.source for one in self.connections) > limits.per_source:
                    transport.abort()
                    return
            self._watch()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._watch()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self._watch()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_watching()
            super().connection_lost(exc)

        def _watch(self) -> None:
            """Start the clock of the phase that the connection is in, unless it runs already."""
            phase = self._current_phase()
            if phase == self._phase:
                return
            self._stop_watching()
            if phase is None or self.transport.is_closing():
                return
            self._phase = phase
            seconds: float = getattr(limits, f"{phase}_seconds")
            self._ending = self.loop.call_later(seconds, self.transport.abort)

        def _stop_watching(self) -> None:
            self._phase = None
            if self._ending is not None:
                self._ending.cancel()
                self._ending = None

        def _current_phase(self) -> str | None:
            their: Any = self.conn.their_state
            if their is h11.SEND_BODY:
                return "upload" if self.scope["path"] in limits.uploads else "body"
            if their is not h11.IDLE:
                return None if self.cycle is None or self.cycle.response_complete else "answer"
            return "head" if self.timeout_keep_alive_task is None else None  # uvicorn ends what rests

    return BoundedProtocol


def trusted(host: str, networks: Collection[Network]) -> bool:
    """Return whether this address is that of one of our reverse proxies."""
    try:
        address = ip_address(host)
    except ValueError:
        return False
    return any(address in network for network in networks)
