"""Answers of a few seconds ago, for pages that many people keep open: one reading serves all who ask meanwhile."""

import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

T = TypeVar("T")

FIGURES_SECONDS: Final = 3.0
"""How long the figures of the overview are shown again. Less than an open page waits before it asks again."""


@dataclass(slots=True)
class _Answer:
    """`lock` is held while it is read, so that one of all who ask at once does it."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    value: Any = None
    until: float = float("-inf")


class Recent:
    """The last answer to each question. Thread-safe. Keeps no error."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._answers: dict[Hashable, _Answer] = {}

    def get(self, question: Hashable, read: Callable[[], T], *, seconds: float, anew: bool = False) -> T:
        """Return the answer, which was read `seconds` ago at most; with `anew`, which is read now.

        question    what is asked, and by whom: who sees other rows asks another question
        """
        with self._lock:
            answer = self._answers.setdefault(question, _Answer())
        with answer.lock:
            if anew or self._clock() >= answer.until:
                begun = self._clock()
                answer.value = read()
                answer.until = begun + seconds
                self._forget(question)
            return answer.value  # type: ignore[no-any-return]

    def _forget(self, kept: Hashable) -> None:
        """Drop what is too old: users and ranges that nobody asks for any more."""
        now = self._clock()
        with self._lock:
            for question in [one for one, answer in self._answers.items() if answer.until <= now and one != kept]:
                if not self._answers[question].lock.locked():
                    del self._answers[question]
