"""Graceful shutdown: a flag that signals set and work reads before it begins something new."""

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
_CHECK_SECONDS: Final = 0.5
_CHECK_BESIDE_KERNEL_SECONDS: Final = 5.0
_GRACE_SECONDS: Final = 10.0


def die_with(parent_pid: int) -> None:
    """Send this process SIGTERM when `parent_pid` has ended, and end it 10 s later at the latest.

    On Linux the kernel sends it; a thread checks as well, for other systems and for a parent that died before this.
    """
    every_seconds = _CHECK_SECONDS
    if sys.platform == "linux":
        every_seconds = _CHECK_BESIDE_KERNEL_SECONDS
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    threading.Thread(target=_watch, args=(parent_pid, every_seconds), name="parent-watch", daemon=True).start()


def _watch(parent_pid: int, every_seconds: float) -> None:
    while os.getppid() == parent_pid:
        time.sleep(every_seconds)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE_SECONDS)
    os._exit(1)


_LEAVE_SECONDS: Final = 1.0  # for the pool to return the task's result


class Stopping:
    """A flag, false until `ask`. Without a lock, so that a signal handler may set it at any time."""

    __slots__ = ("_asked",)

    def __init__(self) -> None:
        self._asked = False

    def __call__(self) -> bool:
        """Return whether to begin nothing new."""
        return self._asked

    def ask(self) -> None:
        """Set the flag."""
        self._asked = True


@contextmanager
def finishing_gently(stopping: Stopping) -> Iterator[None]:
    """Inside, SIGTERM and SIGINT only ask to stop, and SIGQUIT does what SIGTERM did outside.

    For a task in the main thread of a prefork pool's child. Process managers and Ctrl-C signal the whole process group,
    and Celery's child would raise SystemExit in mid-POST. A child that got a signal ends after its task, in case
    only this child was signalled.
    """
    at_once = signal.getsignal(signal.SIGTERM)
    previous = {
        signal.SIGTERM: signal.signal(signal.SIGTERM, lambda *_: stopping.ask()),
        signal.SIGINT: signal.signal(signal.SIGINT, lambda *_: stopping.ask()),
        signal.SIGQUIT: signal.signal(signal.SIGQUIT, at_once),
    }
    try:
        yield
    finally:
        for signum, handler in previous.items():
            signal.signal(signum, handler)
        if stopping():
            leave = threading.Timer(_LEAVE_SECONDS, os.kill, (os.getpid(), signal.SIGTERM))
            leave.daemon = True
            leave.start()
