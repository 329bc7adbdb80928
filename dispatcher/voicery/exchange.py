"""One exchange while it runs: its clocks, and whether the whole request may have left."""

import http.client
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import requests

from dispatcher.decisions.reply import WireFault
from dispatcher.hub import READABLE, WRITABLE, ready
from dispatcher.moments import steady_clock

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
    """The state of one exchange. Instants are readings of `steady_clock`, durations are in seconds.

    `written` is False as long as the last byte of the request has not been handed to the kernel: until then no server
    can have the whole request. The bytes of a TLS handshake and of a proxy's CONNECT are none of the request.

    `before_write` is asked once, before the first byte, whether the lease outlasts the deadline. The deadline is
    compared before each write after that, on the clock that the lease is counted by: so a process that was frozen or
    suspended between two writes sends nothing more.
    """

    started: float
    connect_by: float
    deadline: float
    read_timeout_seconds: float
    body_cap: int  # bytes
    before_write: Callable[[], bool] | None = None
    written: bool = False

    def receive(self, sock: socket.socket, buffer: "WriteableBuffer") -> int:
        """Receive once from a socket that does not block, as soon as there is something; return 0 at its end.

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
        """Send once to a socket that does not block, as soon as it takes something; return how many bytes it took.

        `data` ends with the last byte of the request. Raises as `receive` does; nothing is sent after the deadline.
        """
        while True:
            self.seconds_left()
            self.written = True  # for what interrupts the call itself, a SystemExit in a signal handler for one
            try:
                sent = sock.send(data)
            except (BlockingIOError, ssl.SSLWantWriteError):
                self.written = False
                self._wait(sock, WRITABLE)
            except ssl.SSLWantReadError:
                self.written = False
                self._wait(sock, READABLE)
            except ConnectionError:
                # The call took nothing; of TLS, its last record did not leave whole, and no peer can decrypt a part.
                self.written = False
                raise
            else:
                self.written = sent == len(data)
                return sent

    def seconds_left(self) -> float:
        """Return the seconds until the deadline; raise `DeadlinePassed` if there are none."""
        left = self.deadline - steady_clock()
        if left <= 0:
            raise DeadlinePassed
        return left

    def _wait(self, sock: socket.socket, event: int) -> None:
        """Wait no longer than the read timeout and the deadline both allow.

        Wherever a receive or send would block: a peer that drips one byte per read timeout would otherwise go on for
        ever (requests issue 3099). What has been received already is taken, however late; the caps of the `Wire` bound
        it.
        """
        left = self.seconds_left()
        if not ready(sock, event, min(left, self.read_timeout_seconds)):
            if left <= self.read_timeout_seconds:
                raise DeadlinePassed
            raise TimeoutError

    def receive_connecting(self, sock: socket.socket, buffer: "WriteableBuffer") -> int:
        """Receive once from a socket that blocks, within what connecting as a whole may take."""
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
        """Return the seconds left for name resolution, TCP, proxy and TLS together; 0 or less when there are none."""
        return min(self.connect_by, self.deadline) - steady_clock()


def receive_failure(error: Exception) -> ExchangeFailed:
    """Return why no status line arrived."""
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
