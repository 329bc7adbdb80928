"""Scraping: one reading of the stores serves everybody who asks within a few seconds."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from dispatcher.errors import StoreUnavailable
from dispatcher.monitoring.metrics import exposition
from dispatcher.records.figures import Figures
from dispatcher.records.overview import RateUse
from dispatcher.store import figures
from dispatcher.store.database import Database, StatementRefused, TryAgain

KEPT_SECONDS: Final = 5.0
"""A reading is used for so long: two Prometheus servers and an impatient person cost one reading."""


class Scrape:
    """Answers scrapes. Thread-safe.

    `rate_use` says how much of the rate limit is used, `doorbells` how many messages wait; None without Redis.
    """

    def __init__(
        self,
        database: Database,
        *,
        rate_use: Callable[[], tuple[RateUse, ...] | None],
        doorbells: Callable[[], int | None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._rate_use = rate_use
        self._doorbells = doorbells
        self._clock = clock
        self._reading = threading.Lock()
        self._text = b""
        self._read_at = float("-inf")

    def text(self) -> bytes:
        """The exposition. Never raises: an absent store is a figure."""
        with self._reading:
            if self._clock() - self._read_at >= KEPT_SECONDS:
                self._text = exposition(self._figures())
                self._read_at = self._clock()
            return self._text

    def _figures(self) -> Figures | None:
        try:
            with self._database.transaction() as connection:
                read = figures.read(connection)
        except (StoreUnavailable, TryAgain, StatementRefused):
            return None
        overview = replace(read.overview, rate=self._rate_use())
        return replace(read, overview=overview, doorbells=self._doorbells())
