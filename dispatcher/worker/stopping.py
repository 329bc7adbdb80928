"""A wish to stop: set by a signal, read by whatever is about to begin something new."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_LEAVE_SECONDS: Final = 1.0  # for the pool to hand over the result of the task


class Stopping:
    """False until somebody asks the process to stop. No lock, so that a signal handler may set it at any instant."""

    __slots__ = ("_asked",)

    def __init__(self) -> None:
        self._asked = False

    def __call__(self) -> bool:
        """Whether to begin nothing new."""
        return self._asked

    def ask(self) -> None:
        """From now on, begin nothing new."""
        self._asked = True


@contextmanager
def finishing_gently(stopping: Stopping) -> Iterator[None]:
    """Inside, SIGTERM and SIGINT only ask to stop, and SIGQUIT does what SIGTERM did outside.

    For a task in the main thread of a prefork pool's child. Process managers and Ctrl-C signal the whole process group,
    and Celery's child would raise SystemExit in mid-POST. A child that was asked leaves after its task, in case that
    nobody but itself was signalled.
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
