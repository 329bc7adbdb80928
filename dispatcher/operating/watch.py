"""Watching: leads by any filter, and a stream of what happens to them."""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Final

from dispatcher.records.happening import Happening, ListedLead, Throughput
from dispatcher.records.lead_filter import LeadFilter
from dispatcher.store import pruning, watching
from dispatcher.store.database import Database

_LATE: Final = timedelta(seconds=10)
"""Rows carry the time at which their transaction began, and are seen when it has ended: so far each look goes back."""

_MOST: Final = 2000


class Watch:
    """Reads only."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def leads(self, wanted: LeadFilter, *, most: int) -> list[ListedLead]:
        """The leads that the filter matches, the newest first."""
        with self._database.transaction() as connection:
            return watching.leads(connection, wanted, most=most)

    def throughput(self, *, seconds: float = 300.0) -> list[Throughput]:
        """What each campaign sent in the last seconds, the busiest first."""
        with self._database.autocommit() as connection:
            return watching.throughput(connection, seconds=seconds)

    def follow(self, back: timedelta, *, wait: Callable[[], bool], most: int = _MOST) -> Iterator[Happening]:
        """What happened in the last `back`, and then what happens, each thing once, until `wait` says False.

        Ordered by time within one look. It never lags: of more than `most` things of a kind in one look, the latest.
        """
        with self._database.autocommit() as connection:
            since = pruning.now(connection) - back
        told: dict[str, datetime] = {}
        going = True
        while going:
            with self._database.autocommit() as connection:
                seen = watching.happenings(connection, since, most=most)
            for one in seen:
                if one.key not in told:
                    told[one.key] = one.at
                    yield one
            if seen:
                since = max(since, seen[-1].at - _LATE)
                told = {key: at for key, at in told.items() if at >= since}
            going = wait()
