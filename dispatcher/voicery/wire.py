"""The receiving side of a socket: every receive keeps its exchange's clocks, and all share a budget of bytes."""

import io
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

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
