"""A small event loop of greenlets: many HTTP exchanges in one thread, each suspended while its socket is not ready.

Why not threads: measured on two cores with eight requests in flight, threads competing for the interpreter's lock made
40 futex calls a lead and cost more than the rest of the exchange. Code that waits through
`ready` and `elsewhere` reads the same, and does the same, in a greenlet of a hub and outside of any.
"""

import math
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, TypeVar, cast

from greenlet import getcurrent, greenlet

T = TypeVar("T")

READABLE: Final = select.POLLIN
WRITABLE: Final = select.POLLOUT


def ready(sock: socket.socket, event: int, seconds: float) -> bool:
    """Wait until `sock` is READABLE or WRITABLE (or broken: its next call raises); return False after `seconds`."""
    current = getcurrent()
    if isinstance(current, _Strand):
        return current.hub._ready(current, sock.fileno(), event, seconds)  # noqa: SLF001 - one noun, two faces
    poll = select.poll()
    poll.register(sock, event)
    return bool(poll.poll(_milliseconds(seconds)))


def elsewhere(action: Callable[[], T]) -> T:
    """Run a blocking call (for example DNS) and return its result.

    In a greenlet of a hub it runs in a thread, so that the other greenlets go on.
    """
    current = getcurrent()
    return current.hub._elsewhere(current, action) if isinstance(current, _Strand) else action()  # noqa: SLF001


class Hub:
    """The greenlets of one thread. Not thread-safe."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._waits: dict[int, _Wait] = {}
        self._returned: deque[tuple[_Strand, object]] = deque()
        self._wakers: tuple[socket.socket, socket.socket] | None = None

    def spawn(self, work: Callable[[], None]) -> None:
        """Run `work` until its first wait. An exception in it propagates from the `spawn` or `turn` that resumed it."""
        _Strand(self, work).switch()

    def turn(self, seconds: float) -> None:
        """Wait at most `seconds` for an event, and resume the greenlets that waited for it."""
        now = time.monotonic()
        until = min((wait.until for wait in self._waits.values()), default=now + seconds)
        for fileno, _ in self._poll.poll(_milliseconds(min(seconds, until - now))):
            if fileno in self._waits:
                self._waits[fileno].strand.switch(True)
            else:
                self._resume_returned()
        # After the sockets: data that has arrived counts, also after its deadline.
        now = time.monotonic()
        for wait in [wait for wait in self._waits.values() if wait.until <= now]:
            wait.strand.switch(False)

    def close(self) -> None:
        """End the waiting greenlets without a result, and free all resources."""
        for wait in list(self._waits.values()):
            wait.strand.throw()
        if self._wakers is not None:
            for waker in self._wakers:
                waker.close()
            self._wakers = None

    def _ready(self, strand: "_Strand", fileno: int, event: int, seconds: float) -> bool:
        self._poll.register(fileno, event)
        self._waits[fileno] = _Wait(strand, time.monotonic() + seconds)
        try:
            return cast("bool", strand.home.switch())
        finally:
            del self._waits[fileno]
            self._poll.unregister(fileno)

    def _elsewhere(self, strand: "_Strand", action: Callable[[], T]) -> T:
        waker = self._waker()

        def run() -> None:
            outcome: tuple[T | None, BaseException | None]
            try:
                outcome = action(), None
            except BaseException as error:  # noqa: BLE001 - handed over to the waiting greenlet, whatever it is
                outcome = None, error
            self._returned.append((strand, outcome))
            with suppress(OSError):  # closed meanwhile
                waker.send(b"\0")

        threading.Thread(target=run, name="dispatcher-elsewhere", daemon=True).start()
        result, error = strand.home.switch()
        if error is not None:
            raise error
        return cast("T", result)

    def _waker(self) -> socket.socket:
        if self._wakers is None:
            self._wakers = socket.socketpair()
            self._wakers[0].setblocking(False)
            self._poll.register(self._wakers[0], READABLE)
        return self._wakers[1]

    def _resume_returned(self) -> None:
        if self._wakers is not None:
            with suppress(BlockingIOError):
                self._wakers[0].recv(4096)
        while self._returned:
            strand, outcome = self._returned.popleft()
            strand.switch(outcome)


class _Strand(greenlet):
    """One greenlet of a hub. `home` is its parent, which runs the hub's turns."""

    def __init__(self, hub: Hub, work: Callable[[], None]) -> None:
        super().__init__(work)
        self.hub = hub
        self.home = getcurrent()


@dataclass(frozen=True, slots=True)
class _Wait:
    """A waiting greenlet and its deadline by `time.monotonic()`."""

    strand: _Strand
    until: float


def _milliseconds(seconds: float) -> int:
    return max(0, math.ceil(seconds * 1000))
