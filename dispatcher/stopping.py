"""A wish to stop: set by a signal, read by whatever is about to begin something new."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
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
    """Inside, the first SIGTERM or SIGINT only asks to stop; a second SIGTERM acts as if we were not here.

    For a task in the main thread of a prefork pool's child. Process managers and Ctrl-C signal the whole process group,
    and Celery's child would raise SystemExit in mid-POST. A cold shutdown (SIGQUIT to the main process) signals
    its children twice, so it still ends them at once. A child that was asked leaves after its task, in case that
    nobody but itself was signalled.
    """
    previous_term = signal.getsignal(signal.SIGTERM)

    def on_terminate(signum: int, frame: FrameType | None) -> None:
        if not stopping():
            stopping.ask()
        elif callable(previous_term):
            previous_term(signum, frame)
        else:
            signal.signal(signum, signal.SIG_DFL)
            os.kill(os.getpid(), signum)

    previous_int = signal.signal(signal.SIGINT, lambda *_: stopping.ask())
    signal.signal(signal.SIGTERM, on_terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous_term)
        signal.signal(signal.SIGINT, previous_int)
        if stopping():
            leave = threading.Timer(_LEAVE_SECONDS, os.kill, (os.getpid(), signal.SIGTERM))
            leave.daemon = True
            leave.start()
