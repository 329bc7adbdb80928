"""The bound on what one user takes out of the console by downloads."""

import threading
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Final

from dispatcher.errors import NotAllowed

EXPORTS: Final = 10
EXPORT_SECONDS: Final = 600.0
"""One user begins at most this many exports within this time."""

MOST_ROWS: Final = 100_000
ROWS: Final = 300_000
ROW_SECONDS: Final = 3600.0
"""The rows of one export, and of all exports of one user within this time."""


class TooManyExports(NotAllowed):
    """The user has exported too much; `wait_seconds` says when there is room again."""

    def __init__(self, wait_seconds: float) -> None:
        self.wait_seconds = wait_seconds
        super().__init__(
            f"You have exported a lot in a short time: wait {wait_seconds / 60:.0f} min, or narrow the filters. "
            "`dispatcher failed --json` on the server has no such limit."
        )


class ExportLimit:
    """Admits the exports of each user. Thread-safe. An export counts whole until its rows are known."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._exports: dict[str, list[_Export]] = defaultdict(list)

    def admit(self, user: str) -> "_Export":
        """Return the place of an export that begins now. Raises `TooManyExports`."""
        now = self._clock()
        with self._lock:
            kept = self._exports[user] = [one for one in self._exports[user] if now - one.at < ROW_SECONDS]
            lately = [one for one in kept if now - one.at < EXPORT_SECONDS]
            if len(lately) >= EXPORTS:
                raise TooManyExports(EXPORT_SECONDS - (now - lately[-EXPORTS].at))
            if sum(one.rows for one in kept) + MOST_ROWS > ROWS:
                raise TooManyExports(ROW_SECONDS - (now - kept[0].at))
            kept.append(export := _Export(now))
            return export


class _Export:
    """One export that was admitted. Set `rows` to their number once it is known."""

    def __init__(self, at: float) -> None:
        self.at = at
        self.rows = MOST_ROWS
