"""One exchange while it runs: its clocks, and whether anything was written yet."""

import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import requests

from dispatcher.answers.reply import WireFault
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
