"""Request slots: threads that each make one exchange at a time and put what came of it into one queue."""

import threading
import time
from collections.abc import Callable, Iterable
from queue import Empty, SimpleQueue
from typing import Final, Generic, TypeVar

GATHER_SECONDS: Final = 0.004
"""How long a turn waits for more results after the first: a turn costs about the same for one lead as for thirty."""

J = TypeVar("J")
D = TypeVar("D")


class Slots(Generic[J, D]):
    """`count` threads that run `work(job)`. `work` must not raise.

    Threads start with the first jobs and end on `close`. One owner feeds and collects; it is not thread-safe itself.
    """

    def __init__(self, count: int, work: Callable[[J], D]) -> None:
        self._count = count
        self._work = work
        self._jobs: SimpleQueue[J | None] = SimpleQueue()
        self._done: SimpleQueue[D] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self.busy = 0

    @property
    def free(self) -> int:
        """How many jobs could start at once."""
        return self._count - self.busy

    def start(self, jobs: Iterable[J]) -> None:
        """Hand out jobs; the caller keeps to `free`."""
        for job in jobs:
            self.busy += 1
            if len(self._threads) < min(self.busy, self._count):
                thread = threading.Thread(target=self._run, name="dispatcher-slot", daemon=True)
                self._threads.append(thread)
                thread.start()
            self._jobs.put(job)

    def finished(self, *, timeout_seconds: float, gather_seconds: float = GATHER_SECONDS) -> list[D]:
        """What has been done: waits for the first, then a moment for the others, so that one turn serves several."""
        done: list[D] = []
        if self.busy == 0:
            return done
        try:
            done.append(self._done.get(timeout=timeout_seconds))
            until = time.monotonic() + gather_seconds
            while len(done) < self.busy:
                left = until - time.monotonic()
                done.append(self._done.get(timeout=left) if left > 0 else self._done.get_nowait())
        except Empty:
            pass
        self.busy -= len(done)
        return done

    def close(self) -> None:
        """Let the threads end after their present job."""
        for _ in self._threads:
            self._jobs.put(None)
        self._threads.clear()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            self._done.put(self._work(job))
