"""The `requests` transport adapter: one origin, idle connections kept for a few seconds, one exchange per send.

`requests` is the interface here (a mounted adapter, prepared requests, its exceptions); the bytes are sent and read by
this package, not by urllib3. Through the stock adapter a total deadline, a truthful "can a server have the whole
request?", the status of an answer whose body failed, and the age of a reused connection cannot be had, and it costs
about five times the CPU (measured on one machine, over loopback: 0.10-0.16 ms an exchange beside 0.48-0.64 ms of
`Session.post`).
"""

import os
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final, NoReturn, Protocol

import requests
from requests.adapters import BaseAdapter
from requests.auth import AuthBase
from requests.exceptions import InvalidHeader

from dispatcher.decisions.reply import WireFault
from dispatcher.errors import NotConfigured
from dispatcher.hub import elsewhere
from dispatcher.voicery.connection import Connection, Origin
from dispatcher.voicery.exchange import Exchange, ExchangeFailed

_CHANGING: Final = ("Authorization", "Content-Length")


class SecretText(Protocol):
    """What pydantic's `SecretStr` offers."""

    def get_secret_value(self) -> str:
        """The secret itself."""
        ...


class BearerAuth(AuthBase):
    """Sets `Authorization: Bearer <token>` (RFC 6750) on a request; raises `NotConfigured` for an unusable token."""

    def __init__(self, token: Callable[[], str] | SecretText) -> None:
        self._read = token if callable(token) else token.get_secret_value
        self._header()

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Set the header, with the token as it is now."""
        request.headers["Authorization"] = self._header()
        return request

    def _header(self) -> str:
        token = self._read()
        if not token:
            raise NotConfigured("There is no Voicery API token; set VOICERY_API_TOKEN or VOICERY_API_TOKEN_FILE.")
        if not (token.isascii() and token.isprintable()) or " " in token:
            raise NotConfigured(
                "The Voicery API token holds a line break, a space or a character outside ASCII; "
                "check VOICERY_API_TOKEN or the file that VOICERY_API_TOKEN_FILE names."
            )
        return f"Bearer {token}"

    def __repr__(self) -> str:
        return "BearerAuth(token=**********)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a token is not pickled")


class LeanRequest(requests.PreparedRequest):
    """A prepared request whose constant part is rendered once; body, length and authorization change between sends."""

    exchange: Exchange
    _constant: bytes | None = None

    def render(self) -> bytes:
        """The request as it goes over the wire, in one piece: one send, one segment where it fits.

        Raises `requests.exceptions.InvalidHeader` for a header that would break the line it stands on.
        """
        if self._constant is None:
            lines = [_line(name, value) for name, value in self.headers.items() if name not in _CHANGING]
            self._constant = f"{self.method} {self.path_url} HTTP/1.1\r\n".encode("ascii") + b"".join(lines)
        changing = b"".join(_line(name, self.headers[name]) for name in _CHANGING if name in self.headers)
        body = self.body or b""
        if isinstance(body, str):
            raise TypeError("a body is bytes")
        return b"%b%b\r\n%b" % (self._constant, changing, body)


class OriginAdapter(BaseAdapter):
    """Sends `LeanRequest`s to one origin. Safe to share between threads; a forked child starts without connections."""

    def __init__(self, origin: Origin, *, idle_seconds: float) -> None:
        """`idle_seconds`: a connection that was idle for longer is not used again (the keep-alive race)."""
        super().__init__()
        self._origin = origin
        self._idle_seconds = idle_seconds
        self._idle: deque[Connection] = deque()
        self._pid = os.getpid()

    def send(
        self,
        request: requests.PreparedRequest,
        stream: object = None,  # noqa: ARG002 - here and below: the arguments of a BaseAdapter
        timeout: object = None,  # noqa: ARG002
        verify: object = None,  # noqa: ARG002
        cert: object = None,  # noqa: ARG002
        proxies: object = None,  # noqa: ARG002
    ) -> requests.Response:
        """Write `request` and read the head of its answer; the body stays on the wire whatever `stream` says.

        Clocks and caps come from `request.exchange`; TLS and proxy were settled with the origin, so that no argument
        can weaken them. Raises `ExchangeFailed` if no status line arrived.
        """
        if not isinstance(request, LeanRequest):
            raise TypeError("this adapter sends only LeanRequest")
        exchange = request.exchange
        rendered = request.render()
        connection = self._take(exchange)
        try:
            answer = None
            if exchange.before_write is None or exchange.before_write():
                answer = connection.exchange(exchange, str(request.method), rendered, partial(self._end, connection))
        except BaseException:
            connection.abort()
            raise
        if answer is None:
            self._idle.append(connection)
            raise ExchangeFailed(WireFault.LEASE, "given back before the first byte")
        response = requests.Response()
        response.status_code = answer.status
        response.headers.update(answer.fields)
        response.raw = answer
        response.request = request
        return response

    def close(self) -> None:
        """Close every idle connection. An exchange that runs keeps its own."""
        while (connection := self._pop()) is not None:
            connection.close()

    def _drop_idle(self) -> None:
        """Forget the idle connections, and change nothing on sockets that another process has open too."""
        while (connection := self._pop()) is not None:
            connection.abort()

    def _take(self, exchange: Exchange) -> Connection:
        """The idle connection used last, if it can be trusted; else a new one."""
        if self._pid != os.getpid():  # what the parent left open is the parent's: two processes must not share it
            self._drop_idle()
            self._pid = os.getpid()
        while (connection := self._pop()) is not None:
            if connection.is_usable(self._idle_seconds):
                return connection
            connection.close()
        return Connection(elsewhere(partial(self._origin.connect, exchange)))

    def _pop(self) -> Connection | None:
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def _end(self, connection: Connection, *, reusable: bool, whole: bool) -> None:
        if reusable:
            connection.rest()
            self._idle.append(connection)
        elif whole:
            connection.close()
        else:
            connection.abort()


def _line(name: str, value: str | bytes) -> bytes:
    try:
        line = value if isinstance(value, bytes) else value.encode("latin-1")
    except UnicodeEncodeError:
        raise InvalidHeader(f"{name} is not Latin-1") from None
    if b"\r" in line or b"\n" in line or b"\0" in line:
        raise InvalidHeader(f"{name} holds a line break or a NUL")
    return b"%b: %b\r\n" % (name.encode("ascii"), line)
