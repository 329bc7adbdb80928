"""One answer as it comes off the wire: its status is kept whatever happens to its headers and its body."""

import http.client
import sys
from http import HTTPStatus
from typing import Final, Protocol

from dispatcher.answers.reply import BodyFault, WireFault
from dispatcher.voicery.exchange import DeadlinePassed, Exchange, ExchangeFailed
from dispatcher.voicery.head import read_fields, read_status
from dispatcher.voicery.wire import TooManyBytes, WireReader


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
