"""How many exchanges of a channel go on at a time: more while answers come well, half as many when they do not."""

from collections.abc import Sequence
from typing import Final

from dispatcher.decisions.outcome import Kind
from dispatcher.delivery.results import Finished

FIRST: Final = 8
"""The width that a channel begins with in a process, and the least it is narrowed to."""

SLOW_SECONDS: Final = 1.0
SLOW_TIMES: Final = 4.0
"""An answer that took longer than this, and so many times as long as the quickest of late, is trouble."""

_FORGET: Final = 1.02  # a turn: the quickest answer is forgotten in some minutes, so that a slower Voicery is the norm
_TROUBLE: Final = frozenset({Kind.THROTTLED, Kind.UNKNOWN, Kind.NOT_SENT})


class Width:
    """The width of one channel in this process; runs of the channel that follow each other share it.

    Doubles with each turn that filled it while leads waited; after the first trouble it grows by `FIRST` instead.
    Halved by 429, by a lost or refused exchange, and by answers that became slow: what is in flight then is in doubt.
    """

    def __init__(self, most: int, *, first: int = FIRST) -> None:
        """Begin with `first` exchanges, or with `most`, the greatest number there may be, where that is less."""
        self._most = most
        self._least = self.now = min(first, most)
        self._met_trouble = False
        self._quickest = float("inf")

    def heed(self, finished: Sequence[Finished]) -> None:
        """Narrow if one of these exchanges met trouble; once a turn, because they were in flight together."""
        if not finished:
            return
        took = [one.ended_at - one.started_at for one in finished]
        slow = max(SLOW_SECONDS, SLOW_TIMES * self._quickest)
        self._quickest = min(self._quickest * _FORGET, *took)
        if max(took) > slow or any(one.outcome.kind in _TROUBLE for one in finished):
            self._met_trouble = True
            self.now = max(self._least, self.now // 2)

    def filled(self) -> None:
        """Widen: the last claim filled every slot, and more leads wait."""
        self.now = min(self._most, self.now + (FIRST if self._met_trouble else self.now))
