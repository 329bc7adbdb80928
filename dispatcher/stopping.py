"""A wish to stop: set by a signal, read by whatever is about to begin something new."""

import os
import signal
from types import FrameType


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


def stop_gently_on_signals(stopping: Stopping) -> None:
    """The first SIGTERM or SIGINT asks to stop; a second SIGTERM ends the process as it would have without us.

    For the children of a prefork pool. Process managers and Ctrl-C signal the whole process group, and Celery's child
    would raise SystemExit in mid-POST; while a cold shutdown (SIGQUIT to the main process) signals its children more
    than once and still ends them at once.
    """
    previous = signal.getsignal(signal.SIGTERM)

    def on_terminate(signum: int, frame: FrameType | None) -> None:
        if not stopping():
            stopping.ask()
        elif callable(previous):
            previous(signum, frame)
        else:
            signal.signal(signum, signal.SIG_DFL)
            os.kill(os.getpid(), signum)

    signal.signal(signal.SIGTERM, on_terminate)
    signal.signal(signal.SIGINT, lambda *_: stopping.ask())
