"""Request slots: so many exchanges at a time, all in the thread of the run, and what came of them."""

import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final, Generic, TypeVar

from dispatcher.hub import Hub

GATHER_SECONDS: Final = 0.002
"""How long a turn waits for more results after the first: a turn costs about the same for one lead as for thirty."""

J = TypeVar("J")
D = TypeVar("D")


class Slots(Generic[J, D]):
    """`count` times `work(job)` side by side: it runs in a greenlet, and must not raise.

    One owner feeds and collects, in one thread; while it does other things, answers wait in their sockets.
    """

    def __init__(self, count: int, work: Callable[[J], D]) -> None:
        self._count = count
        self._work = work
        self._hub = Hub()
        self._done: list[D] = []
        self.busy = 0

    @property
    def free(self) -> int:
        """How many jobs could start at once."""
        return self._count - self.busy

    def start(self, jobs: Iterable[J]) -> None:
        """Start jobs; the caller keeps to `free`."""
        for job in jobs:
            self.busy += 1
            self._hub.spawn(partial(self._run, job))

    def finished(self, *, timeout_seconds: float, gather_seconds: float = GATHER_SECONDS) -> list[D]:
        """What has been done: waits for the first, then a moment for the others, so that one turn serves several."""
        self._turn(timeout_seconds, enough=1)
        if self._done:
            self._turn(gather_seconds, enough=self.busy)
        done, self._done = self._done, []
        self.busy -= len(done)
        return done

    def close(self) -> None:
        """Give up what still runs."""
        self._hub.close()

    def _turn(self, seconds: float, *, enough: int) -> None:
        """Let the greenlets work until `enough` are done, at most for `seconds`; once in any case."""
        until = time.monotonic() + seconds
        left = seconds
        while len(self._done) < min(enough, self.busy) and left >= 0:
            self._hub.turn(left)
            left = until - time.monotonic()

    def _run(self, job: J) -> None:
        done = self._work(job)
        self._done.append(done)  # not in one line: the list of now, not the one of when the work began
