"""One exchange while it runs: its clocks, and whether anything was written yet."""

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

import requests

from dispatcher.answers.reply import WireFault


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

    def arm(self, sock: socket.socket) -> None:
        """Let the next operation on `sock` last no longer than the read timeout and the deadline both allow.

        Called before every single receive and send: a peer that drips one byte per read timeout would otherwise
        re-arm the socket's own timeout for ever (requests issue 3099).
        """
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise DeadlinePassed
        sock.settimeout(min(left, self.read_timeout_seconds))

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
