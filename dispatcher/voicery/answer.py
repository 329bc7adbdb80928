"""An HTTP/1 answer as it comes over the wire: status, header fields, and the bytes of the body.

What the stock adapter of `requests` reads is read here too, within caps and a deadline; `docs/http.md` lists what is
refused on purpose, and `tests/world/test_http.py` compares the two over real sockets.
"""

import http.client
import io
import socket
from collections.abc import Iterator
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, BinaryIO, Final, Protocol, TypeAlias

from dispatcher.decisions.reply import BodyFault
from dispatcher.voicery.exchange import DeadlinePassed, Exchange, receive_failure

if TYPE_CHECKING:
    from collections.abc import Callable

    from _typeshed import WriteableBuffer

OVERHEAD_BUDGET: Final = 256 * 1024
"""Bytes an answer may have beside its body: status line, headers, interim answers, chunk sizes, trailers."""

_LINE_CAP: Final = 65536  # bytes
_FIELD_CAP: Final = 100
_READ_SIZE: Final = 64 * 1024  # bytes
_BODILESS: Final = frozenset({HTTPStatus.SWITCHING_PROTOCOLS, HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})

Receive: TypeAlias = "Callable[[socket.socket, WriteableBuffer], int]"


class TooManyBytes(Exception):
    """The peer sent more than any answer of ours may have."""


class TwoLengths(Exception):
    """The answer announces two different lengths: where it ends cannot be told (RFC 9112, 6.3)."""


# What a broken peer, a broken network and our own limits raise; anything else is a bug.
_RECEIVE_ERRORS: Final = (OSError, http.client.HTTPException, TooManyBytes)


class Wire(io.RawIOBase):
    """A socket as a raw stream. Between two answers it reads as ended, so that nothing waits on it by accident."""

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
        """Return True: what cannot be read raises."""
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        """Receive once. Raises what `receive` raises, and `TooManyBytes`."""
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
        """Return itself: `http.client.HTTPResponse` asks its socket for a file, always with the mode "rb"."""
        return self

    def close(self) -> None:
        """Do nothing: the answer is over, the connection is not."""

    def unread(self) -> bool:
        """Return whether bytes are left that belong to no answer; to be asked after the answer ended."""
        return bool(self.peek(1))


def read_status(reader: BinaryIO) -> tuple[bool, int]:
    """Return whether the connection is kept by default (HTTP/1.1), and the status of the final answer.

    Interim answers (RFC 9110, 15.2) are skipped. Raises `RemoteDisconnected` if nothing came, `LineTooLong`, and
    `BadStatusLine` if it is no HTTP/1.
    """
    while True:
        line = reader.readline(_LINE_CAP + 1)
        if not line:
            raise http.client.RemoteDisconnected("closed before an answer")
        if len(line) > _LINE_CAP:
            raise http.client.LineTooLong("status line")
        words = line.decode("latin-1").split(None, 2)
        try:
            version, status = words[0], int(words[1])
        except (IndexError, ValueError):
            raise http.client.BadStatusLine("not HTTP/1") from None
        if not version.startswith(("HTTP/1.", "HTTP/0.9")) or not 100 <= status <= 999:
            raise http.client.BadStatusLine("not HTTP/1")
        if status >= HTTPStatus.OK or status == HTTPStatus.SWITCHING_PROTOCOLS:
            return version.startswith("HTTP/1.") and version != "HTTP/1.0", status
        read_fields(reader)


def read_fields(reader: BinaryIO) -> dict[str, str]:
    """Return the header fields by lower-case name; what is given twice is joined by a comma (RFC 9110, 5.2).

    A folded line continues its value (RFC 9112, 5.2); a line without a colon or without a name is skipped. Raises
    `IncompleteRead` if the stream ends before the empty line, `LineTooLong` and `HTTPException` at the limits.
    """
    fields: dict[str, str] = {}
    name = ""
    for _ in range(_FIELD_CAP):
        line = reader.readline(_LINE_CAP + 1)
        if len(line) > _LINE_CAP:
            raise http.client.LineTooLong("header line")
        if not line.endswith(b"\n"):
            raise http.client.IncompleteRead(b"")
        if line in (b"\r\n", b"\n"):
            return fields
        text = line.decode("latin-1")
        if text[0] in " \t":
            if name:
                fields[name] = f"{fields[name]} {text.strip()}".strip()
            continue
        before, colon, value = text.partition(":")
        name = before.strip().lower() if colon else ""
        if name:
            value = value.strip()
            fields[name] = f"{fields[name]}, {value}" if name in fields else value
    raise http.client.HTTPException("too many header fields")


def announced_length(text: str) -> int | None:
    """Return the bytes that a Content-Length announces; None if it announces nothing usable.

    Equal lengths in a list or in several fields are one (RFC 9110, 8.6), and what is no length beside one is ignored.
    Raises `TwoLengths` for different ones.
    """
    lengths = set()
    for part in text.split(","):
        with suppress(ValueError):
            lengths.add(int(part))
    usable = {length for length in lengths if length >= 0}
    if len(usable) > 1:
        raise TwoLengths
    return usable.pop() if usable else None


class OnClose(Protocol):
    """Takes the connection back."""

    def __call__(self, *, reusable: bool, whole: bool) -> None:
        """`reusable`: whether it may carry another request; `whole`: whether the answer was read to its end."""
        ...


class Answer:
    """The `raw` of our `requests.Response`: status and fields are known, the body is still on the wire.

    `fault` says what went wrong after the status line. Field names are lower case.
    """

    def __init__(self, reader: WireReader, exchange: Exchange, on_close: OnClose) -> None:
        """Read status line and header fields. Raises `ExchangeFailed` if there is no status line."""
        self._reader = reader
        self._on_close = on_close
        self._open = True
        self._cap = exchange.body_cap
        self._whole = False
        self.fault: BodyFault | None = None
        self.fields: dict[str, str] = {}
        self._chunked = False
        self._length: int | None = None
        reader.raw.begin(exchange.receive, exchange.body_cap)
        try:
            self._keeps, self.status = read_status(reader)
        except _RECEIVE_ERRORS as error:
            raise receive_failure(error) from error
        try:
            self.fields = read_fields(reader)
            self._frame()
        except (*_RECEIVE_ERRORS, TwoLengths) as error:
            self.fault = _body_fault(error)

    def _frame(self) -> None:
        """Settle how the body ends (RFC 9112, 6.3): by no byte, by chunks, by its length, or by the close."""
        if "close" in self.fields.get("connection", "").lower():
            self._keeps = False
        codings = self.fields.get("transfer-encoding")
        if self.status in _BODILESS:
            self._length = 0
        elif codings is not None and "chunked" in {coding.strip() for coding in codings.lower().split(",")}:
            self._chunked = True
        elif (length := self.fields.get("content-length")) is not None:
            self._length = announced_length(length)

    def read_body(self) -> bytes:
        """Return the body as far as it came, at most the cap; `fault` says why it is not whole. Raises nothing."""
        body = bytearray()
        if self.fault is not None:
            return b""
        try:
            for piece in self._pieces():
                body += piece
                if len(body) > self._cap:
                    self.fault = BodyFault.OVERSIZE
                    return bytes(body[: self._cap])
        except _RECEIVE_ERRORS as error:
            self.fault = _body_fault(error)
            return bytes(body)
        self._whole = True
        return bytes(body)

    def _pieces(self) -> Iterator[bytes]:
        if self._chunked:
            yield from self._chunks()
        elif self._length is not None:
            yield from self._exactly(self._length)
        else:
            while piece := self._reader.read1(_READ_SIZE):
                yield piece

    def _chunks(self) -> Iterator[bytes]:
        while size := self._chunk_size():
            yield from self._exactly(size)
            for _ in self._exactly(2):  # the line end after the chunk
                pass
        while self._line() not in (b"\r\n", b"\n", b""):  # trailers; some servers close in their place
            pass

    def _chunk_size(self) -> int:
        try:
            size = int(self._line().partition(b";")[0], 16)
        except ValueError:
            size = -1
        if size < 0:
            raise http.client.IncompleteRead(b"")
        return size

    def _line(self) -> bytes:
        line = self._reader.readline(_LINE_CAP + 1)
        if len(line) > _LINE_CAP:
            raise http.client.LineTooLong("line of a chunked body")
        return line

    def _exactly(self, count: int) -> Iterator[bytes]:
        while count > 0:
            piece = self._reader.read1(min(count, _READ_SIZE))
            if not piece:
                raise http.client.IncompleteRead(b"")
            count -= len(piece)
            yield piece

    def close(self) -> None:
        """Give the connection back: reusable if this answer was read to its announced end and nothing follows it."""
        if self._open:
            self._open = False
            self._reader.raw.end()
            # A body that only the close ends has no successor on its connection.
            announced = self._chunked or self._length is not None
            reusable = self._whole and self._keeps and announced and not self._reader.unread()
            self._on_close(reusable=reusable, whole=self._whole)


def _body_fault(error: Exception) -> BodyFault:
    match error:
        case DeadlinePassed():
            return BodyFault.DEADLINE
        case OSError() | http.client.IncompleteRead():
            return BodyFault.TRUNCATED
        case TwoLengths():
            return BodyFault.FRAMING
        case _:  # our limits: TooManyBytes, LineTooLong, too many fields
            return BodyFault.OVERSIZE
