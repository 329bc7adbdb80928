"""Processes that validate beside this one. POSIX only."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any, Self


class Validators:
    """So many processes, spawned as they are needed; they end with this one, and never see its Ctrl-C."""

    def __init__(self, count: int) -> None:
        self._pool = ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), initializer=_end_with_parent)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def submit(self, validate: Callable[..., Any], *arguments: object) -> "Future[Any]":
        """`validate(*arguments)` in one of them. Raises `BrokenExecutor`, as its result does, where one was killed."""
        with _undisturbed():
            return self._pool.submit(validate, *arguments)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Processes started herein never see the Ctrl-C that a terminal sends to all: who started them ends them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_with_parent() -> None:
    """In a child: nothing else would tell it that its parent was killed."""
    threading.Thread(target=_watch, name="parent-watch", daemon=True).start()


def _watch() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
