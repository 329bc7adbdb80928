"""One exchange while it runs: its clocks, and whether anything was written yet."""

import http.client
import io
import re
import socket
import ssl
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, BinaryIO, Final, Protocol, TypeAlias

import requests

from dispatcher.decisions.reply import BodyFault, WireFault
from dispatcher.hub import READABLE, WRITABLE, ready

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


class ExchangeFailed(requests.RequestException):
    """No status line arrived, and why. Carries neither the URL nor anything that was sent."""

    def __init__(self, fault: WireFault, detail: str) -> None:
        self.fault = fault
        self.detail = detail
        super().__init__(f"{fault}: {detail}")


class DeadlinePassed(TimeoutError):
    """The whole exchange took longer than it may."""


@dataclass(slots=True)
class Exchange:
    """The state of one exchange. Instants are of `time.monotonic()`, durations in seconds.

    `written` becomes True immediately before the first send of the request and never False again; the bytes of a TLS
    handshake and of a proxy's CONNECT are none of the request.
    """

    started: float
    connect_by: float
    deadline: float
    read_timeout_seconds: float
    body_cap: int  # bytes
    before_write: Callable[[], bool] | None = None
    written: bool = False

    def receive(self, sock: socket.socket, buffer: "WriteableBuffer") -> int:
        """One receive from a socket that does not block, as soon as there is something; 0 at its end.

        Raises `DeadlinePassed`, `TimeoutError` after a silence of the read timeout, and `OSError`.
        """
        while True:
            try:
                return sock.recv_into(buffer)
            except (BlockingIOError, ssl.SSLWantReadError):
                self._wait(sock, READABLE)
            except ssl.SSLWantWriteError:
                self._wait(sock, WRITABLE)

    def send(self, sock: socket.socket, data: memoryview) -> int:
        """One send to a socket that does not block, as soon as it takes something; how many bytes. Raises as above."""
        while True:
            self.written = True
            try:
                return sock.send(data)
            except (BlockingIOError, ssl.SSLWantWriteError):
                self._wait(sock, WRITABLE)
            except ssl.SSLWantReadError:
                self._wait(sock, READABLE)

    def _wait(self, sock: socket.socket, event: int) -> None:
        """Wait no longer than the read timeout and the deadline both allow.

        Wherever a receive or send would block: a peer that drips one byte per read timeout would otherwise go on for
        ever (requests issue 3099). What is there already is taken, however late; the caps of the `Wire` bound it.
        """
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise DeadlinePassed
        if not ready(sock, event, min(left, self.read_timeout_seconds)):
            if left <= self.read_timeout_seconds:
                raise DeadlinePassed
            raise TimeoutError

    def receive_connecting(self, sock: socket.socket, buffer: "WriteableBuffer") -> int:
        """One receive from a socket that blocks, within what connecting as a whole may take."""
        self.arm_connect(sock)
        try:
            return sock.recv_into(buffer)
        except TimeoutError:
            self.arm_connect(sock)  # raises its own error if it was the whole that took too long
            raise

    def arm_connect(self, sock: socket.socket) -> None:
        """Let the next operation on `sock` last no longer than connecting as a whole may."""
        left = self.connect_seconds_left()
        if left <= 0:
            raise DeadlinePassed
        sock.settimeout(left)

    def connect_seconds_left(self) -> float:
        """Seconds left for name resolution, TCP, proxy and TLS together; 0 or less when there are none."""
        return min(self.connect_by, self.deadline) - time.monotonic()

    def elapsed(self) -> float:
        """Seconds since the exchange started."""
        return time.monotonic() - self.started


_LINE_CAP: Final = 65536  # bytes
_FIELD_CAP: Final = 100
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.([0-9]) +([1-9][0-9]{2})(?: [^\r\n]*)?\r?\n")


def read_status(reader: BinaryIO) -> tuple[int, int]:
    """The minor version and the status of the final answer; interim ones (RFC 9110, 15.2) are skipped.

    Raises `RemoteDisconnected` if nothing came, `BadStatusLine` if it is no HTTP/1.
    """
    while True:
        line = reader.readline(_LINE_CAP + 1)
        if not line:
            raise http.client.RemoteDisconnected("closed before an answer")
        match = _STATUS_LINE.fullmatch(line)
        if match is None:
            raise http.client.BadStatusLine("not HTTP/1")
        minor, status = int(match[1]), int(match[2])
        if status >= HTTPStatus.OK or status == HTTPStatus.SWITCHING_PROTOCOLS:
            return minor, status
        read_fields(reader)


def read_fields(reader: BinaryIO) -> dict[str, str]:
    """The header fields by lower-case name; what is given twice is joined by a comma (RFC 9110, 5.2).

    Raises `IncompleteRead` if the stream ends before the empty line, `LineTooLong` and `HTTPException` at the limits.
    """
    fields: dict[str, str] = {}
    for _ in range(_FIELD_CAP + 1):
        line = reader.readline(_LINE_CAP + 1)
        if len(line) > _LINE_CAP:
            raise http.client.LineTooLong("header line")
        if not line.endswith(b"\n"):
            raise http.client.IncompleteRead(b"")
        if line in (b"\r\n", b"\n"):
            return fields
        name, colon, value = line.decode("latin-1").partition(":")
        if colon and not name[0].isspace():  # a folded or broken line says nothing that we need
            name, value = name.strip().lower(), value.strip()
            fields[name] = f"{fields[name]}, {value}" if name in fields else value
    raise http.client.HTTPException("too many header fields")


OVERHEAD_BUDGET: Final = 256 * 1024
"""Bytes an answer may have beside its body: status line, headers, interim answers, chunk sizes, trailers."""


Receive: TypeAlias = "Callable[[socket.socket, WriteableBuffer], int]"


class TooManyBytes(Exception):
    """The peer sent more than any answer of ours may have."""


class Wire(io.RawIOBase):
    """A socket as a raw stream. Between two answers it reads as ended, so that nobody waits on it by accident."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__()
        self._sock = sock
        self._receive: Receive | None = None
        self._budget = 0

    def begin(self, receive: Receive, body_cap: int) -> None:
        """Allow receiving one answer: `receive` makes each receive, and keeps the clocks; `body_cap` in bytes."""
        self._receive = receive
        self._budget = body_cap + OVERHEAD_BUDGET

    def end(self) -> None:
        """The answer is over: from now on the stream reads as ended."""
        self._receive = None

    def readable(self) -> bool:
        """Always: what cannot be read raises."""
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        """One receive. Raises what `receive` raises, and `TooManyBytes`."""
        if self._receive is None:
            return 0
        received = self._receive(self._sock, buffer)
        self._budget -= received
        if self._budget < 0:
            raise TooManyBytes
        return received


class WireReader(io.BufferedReader):
    """The buffer over a `Wire`. It belongs to the connection: an answer that closes it closes nothing."""

    raw: Wire

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(Wire(sock))

    def makefile(self, _mode: str) -> "WireReader":
        """What `http.client.HTTPResponse` asks its socket for, always with the mode "rb"."""
        return self

    def close(self) -> None:
        """Nothing: the answer is over, the connection is not."""

    def unread(self) -> bool:
        """Whether bytes are left that belong to no answer; to be asked after the answer ended."""
        return bool(self.peek(1))


class OnClose(Protocol):
    """Takes the connection back."""

    def __call__(self, *, reusable: bool) -> None:
        """`reusable`: whether it may carry another request."""
        ...


_READ_SIZE: Final = 64 * 1024  # bytes
_LENGTH_DIGITS: Final = 18  # more digits than any body has bytes
_BODILESS: Final = frozenset({HTTPStatus.SWITCHING_PROTOCOLS, HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})

# What a broken peer, a broken network and our own limits raise; anything else is a bug.
_RECEIVE_ERRORS: Final = (OSError, http.client.HTTPException, TooManyBytes)


class Answer:
    """The `raw` of our `requests.Response`: status and fields are known, the body is still on the wire.

    `fault` says what went wrong after the status line. Field names are lower case.
    """

    def __init__(self, reader: WireReader, exchange: Exchange, method: str, on_close: OnClose) -> None:
        """Read status line and header fields. Raises `ExchangeFailed` if there is no status line."""
        self._reader = reader
        self._on_close = on_close
        self._open = True
        self._cap = exchange.body_cap
        self._complete = False
        self.fault: BodyFault | None = None
        self.fields: dict[str, str] = {}
        reader.raw.begin(exchange.receive, exchange.body_cap)
        try:
            minor, self.status = read_status(reader)
        except _RECEIVE_ERRORS as error:
            raise receive_failure(error) from error
        try:
            self.fields = read_fields(reader)
        except _RECEIVE_ERRORS as error:
            self.fault = _body_fault(error)
        if self.fields.get("transfer-encoding", "chunked").lower() != "chunked":
            self.fault = BodyFault.ENCODING
        self._body = self._framed(method)
        self._keeps = minor >= 1 and "close" not in self.fields.get("connection", "").lower()

    def _framed(self, method: str) -> http.client.HTTPResponse:
        """The standard library's reader of bodies, told how this one is framed (RFC 9112, 6.3)."""
        # The reader stands in for the socket: all that HTTPResponse asks of one is `makefile`.
        body = http.client.HTTPResponse(self._reader, method=method)  # type: ignore[arg-type]
        body.chunked = "transfer-encoding" in self.fields
        body.chunk_left = None
        length = self.fields.get("content-length", "")
        if self.status in _BODILESS:
            body.chunked, body.length = False, 0
        elif body.chunked or not (length.isascii() and length.isdigit()):
            body.length = None
        else:
            body.length = int(length) if len(length) <= _LENGTH_DIGITS else sys.maxsize
        return body

    def read_body(self) -> bytes:
        """The body as far as it came, at most the cap; `fault` says why it is not whole. Never the peer's exception."""
        body = bytearray()
        if self.fault is not None:
            return b""
        try:
            while piece := self._body.read1(min(_READ_SIZE, self._cap + 1 - len(body))):
                body += piece
                if len(body) > self._cap:
                    self.fault = BodyFault.OVERSIZE
                    return bytes(body[: self._cap])
        except _RECEIVE_ERRORS as error:
            self.fault = _body_fault(error)
            return bytes(body)
        if self._body.length:
            self.fault = BodyFault.TRUNCATED
        # A body that only the close ends has neither length nor chunks, and no successor on its connection.
        self._complete = self._body.length == 0 or self._body.chunked is True
        return bytes(body)

    def close(self) -> None:
        """Give the connection back: reusable if this answer was read to its announced end and nothing follows it."""
        if self._open:
            self._open = False
            self._reader.raw.end()
            self._on_close(reusable=self._complete and self._keeps and not self._reader.unread())


def receive_failure(error: Exception) -> ExchangeFailed:
    """Why no status line arrived."""
    match error:
        case DeadlinePassed():
            return ExchangeFailed(WireFault.DEADLINE, "the exchange took longer than its deadline")
        case TimeoutError():
            return ExchangeFailed(WireFault.READ_TIMEOUT, "silent for longer than the read timeout")
        case http.client.RemoteDisconnected():  # also a ConnectionResetError, hence first
            return ExchangeFailed(WireFault.CLOSED, "closed before an answer")
        case OSError():
            return ExchangeFailed(WireFault.RESET, type(error).__name__)
        case _:
            return ExchangeFailed(WireFault.PROTOCOL, type(error).__name__)


def _body_fault(error: Exception) -> BodyFault:
    match error:
        case DeadlinePassed():
            return BodyFault.DEADLINE
        case OSError() | http.client.IncompleteRead():
            return BodyFault.TRUNCATED
        case _:  # our limits: TooManyBytes, LineTooLong, too many fields
            return BodyFault.OVERSIZE
