"""One answer as it comes off the wire: its status is kept whatever happens to its headers and its body."""

import http.client
from collections.abc import Callable
from typing import Final

from requests.structures import CaseInsensitiveDict

from dispatcher.reply import BodyFault, WireFault
from dispatcher.voicery.exchange import DeadlinePassed, Exchange, ExchangeFailed
from dispatcher.voicery.wire import TooManyBytes, WireReader

_READ_SIZE: Final = 64 * 1024


class _FinalResponse(http.client.HTTPResponse):
    """The standard library's response, with every interim answer (RFC 9110, 15.2) skipped, not only 100."""

    def begin(self) -> None:
        super().begin()
        while (
            self.status is not None and 100 <= self.status < 200 and self.status != http.HTTPStatus.SWITCHING_PROTOCOLS
        ):
            self.status = self.headers = self.msg = None  # type: ignore[assignment]  # as before the first begin()
            super().begin()


class Answer:
    """The `raw` of our `requests.Response`: status and headers are known, the body is still on the wire.

    `fault` says what went wrong after the status line. `on_close(reusable)` is called once, when the answer is closed.
    """

    def __init__(self, reader: WireReader, exchange: Exchange, method: str, on_close: Callable[[bool], None]) -> None:
        """Read status line and headers. Raises `ExchangeFailed` if there is no status line."""
        self._reader = reader
        self._on_close = on_close
        self._closed = False
        self._cap = exchange.body_cap
        self._complete = False
        self.fault: BodyFault | None = None
        self.headers: CaseInsensitiveDict[str] = CaseInsensitiveDict()
        reader.raw.begin(exchange.arm, exchange.body_cap)
        # The reader stands in for the socket: all that HTTPResponse asks of one is `makefile`.
        self._response = _FinalResponse(reader, method=method)  # type: ignore[arg-type]
        try:
            self._response.begin()
        except (OSError, http.client.HTTPException, TooManyBytes) as error:
            self.fault = self._head_fault(error)
        else:
            self.headers.update(self._response.headers.items())
        self.status: int = self._response.status

    def _head_fault(self, error: Exception) -> BodyFault:
        """The fault of headers that failed after a valid status line; raises `ExchangeFailed` if there was none."""
        status: object = self._response.status
        if not isinstance(status, int) or isinstance(error, http.client.UnknownProtocol):
            raise receive_failure(error) from error
        if isinstance(error, http.client.HTTPException):  # a line too long, too many headers
            return BodyFault.OVERSIZE
        return _body_fault(error)

    def read_body(self) -> bytes:
        """The body, as far as it came, at most the cap; `fault` says why it is not whole. Never raises for the peer."""
        body = bytearray()
        if self.fault is not None:
            return b""
        try:
            while piece := self._response.read1(min(_READ_SIZE, self._cap + 1 - len(body))):
                body += piece
                if len(body) > self._cap:
                    self.fault = BodyFault.OVERSIZE
                    return bytes(body[: self._cap])
        except (OSError, http.client.HTTPException, TooManyBytes) as error:
            self.fault = _body_fault(error)
            return bytes(body)
        if self._response.length:
            self.fault = BodyFault.TRUNCATED
        else:
            self._complete = True
        return bytes(body)

    def close(self) -> None:
        """Give the connection up; it is reusable only if this answer was read to its announced end and nothing more."""
        if self._closed:
            return
        self._closed = True
        self._reader.raw.end()
        reusable = self._complete and not self._response.will_close and not self._reader.unread()
        self._on_close(reusable)


def receive_failure(error: Exception) -> ExchangeFailed:
    """Why no status line arrived."""
    match error:
        case DeadlinePassed():
            return ExchangeFailed(WireFault.DEADLINE, "the exchange took longer than its deadline")
        case TimeoutError():
            return ExchangeFailed(WireFault.READ_TIMEOUT, "no byte of an answer within the read timeout")
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
        case TooManyBytes():
            return BodyFault.OVERSIZE
        case _:
            return BodyFault.TRUNCATED
