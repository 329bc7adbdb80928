"""Worker processes that validate items. POSIX only."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any, Self


class Validators:
    """A pool of processes, spawned on demand; they end with this process and ignore Ctrl-C."""

    def __init__(self, count: int) -> None:
        self._pool = ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), initializer=_end_with_parent)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def submit(self, validate: Callable[..., Any], *arguments: object) -> "Future[Any]":
        """Run `validate(*arguments)` in a process. Raise `BrokenExecutor`, as its result does, if one was killed."""
        with _undisturbed():
            return self._pool.submit(validate, *arguments)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Start processes that ignore the terminal's Ctrl-C; their parent ends them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_with_parent() -> None:
    """End this child when its parent is killed."""
    threading.Thread(target=_watch, name="parent-watch", daemon=True).start()


def _watch() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
