"""How items are validated: in slices by this thread, or by processes. These on POSIX only.

A process takes half a second of a core to start. `Bulk` validates by itself until one is up, and goes on storing.
"""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any, Final, Self, TypeAlias

from dispatcher.lead.candidate import Candidate, Rejection, columns_of, of_columns

_SLICE_ITEMS: Final = 200  # validated before the storing thread gets a turn; unasked, Python gives it one in 5 ms

ReadItems: TypeAlias = tuple[list[Candidate], list[Rejection]]


class Validators:
    """A pool of processes that call `validate`; they end with this process and ignore Ctrl-C."""

    def __init__(self, count: int, validate: Callable[..., ReadItems]) -> None:
        self._pool = ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), initializer=_end_with_parent)
        self._validate = validate
        self._starting = [self.submit((), 0) for _ in range(count)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    @property
    def ready(self) -> bool:
        """Whether a process is up. Raises what its start failed with: `BrokenExecutor` if it was killed."""
        up = [start for start in self._starting if start.done()]
        for start in up:
            start.result()
        return bool(up)

    def submit(self, items: Sequence[Any], first_index: int) -> "Future[Any]":
        """Run `validate(items, first_index)` in a process; `result` turns what it gives into candidates again.

        Raise `BrokenExecutor`, as its result does, if a process was killed.
        """
        with _undisturbed():
            return self._pool.submit(_packed, self._validate, items, first_index)

    @staticmethod
    def result(done: "Future[Any]") -> ReadItems:
        """Wait for what `submit` began, and return its candidates and rejections."""
        columns, rejections = done.result()
        return of_columns(columns), rejections


def _packed(validate: Callable[..., ReadItems], items: Sequence[Any], first_index: int) -> tuple[Any, ...]:
    candidates, rejections = validate(items, first_index)
    return columns_of(candidates), rejections


def in_slices(taken: Sequence[Any], start: int, validate: Callable[..., ReadItems]) -> ReadItems:
    """Validate by this thread, and let the storing thread have a turn after each slice."""
    candidates: list[Candidate] = []
    rejections: list[Rejection] = []
    for first in range(0, len(taken), _SLICE_ITEMS):
        valid, invalid = validate(taken[first : first + _SLICE_ITEMS], start + first)
        candidates += valid
        rejections += invalid
        time.sleep(0)  # releases the GIL
    return candidates, rejections


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
