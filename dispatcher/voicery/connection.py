"""One open connection: what was sent, whether it can be trusted for another request, and how old its silence is."""

import select
import socket
import ssl
import time

from dispatcher.failpoint import reach
from dispatcher.voicery.answer import Answer, OnClose, receive_failure
from dispatcher.voicery.exchange import Exchange, ExchangeFailed
from dispatcher.voicery.wire import WireReader


class Connection:
    """A connected socket and its reading buffer. Used by one exchange at a time."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)  # from here on the exchange does the waiting
        self._sock = sock
        self._reader = WireReader(sock)
        self._idle_since = time.monotonic()
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN | select.POLLPRI)

    def exchange(self, exchange: Exchange, method: str, request: bytes, on_close: OnClose) -> Answer:
        """Write `request` and read the head of its answer. Raises `ExchangeFailed` if no status line arrives."""
        try:
            self._send(exchange, request)
            if method == "POST":
                reach("post.written")
        except (BrokenPipeError, ConnectionResetError) as error:
            # A server may answer and close before it has read everything (413, 401): what it said counts.
            # The connection is dead, so that `is_usable` refuses it later.
            try:
                return Answer(self._reader, exchange, method, on_close)
            except ExchangeFailed:
                raise receive_failure(error) from error
        except OSError as error:
            raise receive_failure(error) from error
        return Answer(self._reader, exchange, method, on_close)

    def _send(self, exchange: Exchange, request: bytes) -> None:
        rest = memoryview(request)
        while rest:
            rest = rest[exchange.send(self._sock, rest) :]

    def rest(self) -> None:
        """The answer was read to its end: the idle time starts."""
        self._idle_since = time.monotonic()

    def is_usable(self, idle_seconds: float) -> bool:
        """Whether another request may go out here: idle for less than `idle_seconds`, and the peer is silent.

        Anything readable on an idle connection is a close, or bytes that belong to no request of ours.
        """
        if time.monotonic() - self._idle_since > idle_seconds or self._poll.poll(0):
            return False
        return not (isinstance(self._sock, ssl.SSLSocket) and self._sock.pending())

    def close(self) -> None:
        """Close the socket, without a word to the peer."""
        self._sock.close()
