"""The two Celery tasks, thin over `worker.deliverer`."""

import gc
import os
import threading
from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING

from celery import Celery

from dispatcher.broker.connection import DELIVER, LOOKUP
from dispatcher.logs import events
from dispatcher.worker.stopping import Stopping, finishing_gently

if TYPE_CHECKING:
    from dispatcher.worker.deliverer import Deliverer


class Runtimes:
    """The runtime of this process, built by the first task after the fork: connections must not cross one."""

    def __init__(self, build: "Callable[[Stopping], Deliverer]") -> None:
        self.stopping = Stopping()
        self._build = build
        self._building = threading.Lock()  # the threads of a pool; the parent of a prefork pool never builds
        self._built: tuple[int, Deliverer] | None = None
        self._pool_child: int | None = None

    def enter_pool_child(self) -> None:
        """Record that this process is a child of a prefork pool, whose tasks run in its main thread."""
        self._pool_child = os.getpid()

    def run(self, task: str, work: "Callable[[Deliverer], None]") -> None:
        """Do `work` to its end, also after a signal. Never raises: see `register`."""
        with finishing_gently(self.stopping) if self._pool_child == os.getpid() else nullcontext():
            try:
                work(self._current())
            except Exception:  # noqa: BLE001  # see `register`
                events.exception("task.failed", task=task, consequence="the sweep rings again for what is due")

    def close(self) -> None:
        """Close the runtime of this process, if it has one."""
        if self._built is not None and self._built[0] == os.getpid():
            self._built[1].close()
            self._built = None

    def _current(self) -> "Deliverer":
        with self._building:
            if self._built is None or self._built[0] != os.getpid():
                self._built = os.getpid(), self._build(self.stopping)
                # What is loaded by now stays. A full garbage collection traversed it and delayed every exchange of
                # the process by some 80 ms.
                gc.freeze()
            return self._built[1]


def register(app: Celery, runtimes: Runtimes) -> None:
    """Register the tasks with `app`, and with no other app of the process.

    No task raises: the leads' states are in Postgres, and Celery could do nothing about a bug or an outage. No task has
    a time limit: it would kill a request in flight.
    """

    def deliver(account: str, campaign_id: int) -> None:
        runtimes.run(DELIVER, lambda runtime: runtime.deliver(account, campaign_id))

    def lookup(account: str) -> None:
        runtimes.run(LOOKUP, lambda runtime: runtime.lookup(account))

    app.task(deliver, name=DELIVER, shared=False)
    app.task(lookup, name=LOOKUP, shared=False)
