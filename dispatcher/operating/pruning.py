"""Retention: what has ended is forgotten after its time, a slice at a time, by the sweep or by `dispatcher prune`.

A lead that failed, or failed once, is never forgotten unless somebody says so (design section 11). Personal data goes
earlier than the leads: the stored answers of attempts. A lead that is pending, sending or unknown is not touched.
"""

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

from sqlalchemy import Connection

from dispatcher.logs import events
from dispatcher.store import audit, pruning
from dispatcher.store.database import Database, StatementRefused
from dispatcher.store.pruning import Place, Prunable, Slice

_BEGINNING: Final = datetime(2000, 1, 1, tzinfo=UTC)

_OVERLAP: Final = timedelta(days=1)
"""So far a pass looks back behind the one before it: outcomes that came late, clocks that were wrong."""


@dataclass(frozen=True, slots=True)
class Retention:
    """How long each is kept after its end."""

    leads: timedelta
    responses: timedelta
    keys: timedelta


class Pruning:
    """Prunes in passes of as many steps as it needs; a process that dies in the middle costs nothing but a new pass.

    A pass looks at all old leads and keys, which are few: those it may not delete. Old attempts may be many; only the
    first pass of a process looks at all of them, a later one at those that have become old since.
    """

    def __init__(self, database: Database, retention: Retention) -> None:
        self._database = database
        self._retention = retention
        self._pass: Generator[int, None, None] | None = None
        self._looked_until: datetime | None = None

    def step(self) -> int:
        """One slice of the current pass; how many rows it pruned. At the end of a pass `sweeps.pruned_at` is set.

        Raises `StatementRefused` if a row cannot be pruned; the pass then ends, and the next one tries again.
        """
        current, self._pass = self._pass or self._steps(), None
        try:
            pruned = next(current)
        except (StopIteration, StatementRefused) as end:
            self._database.again(pruning.passed)
            if isinstance(end, StatementRefused):
                raise
            return 0
        self._pass = current
        return pruned

    def _steps(self) -> Generator[int, None, None]:
        with self._database.autocommit() as connection:
            now = pruning.now(connection)
        kept, since = self._retention, self._looked_until or _BEGINNING
        leads = partial(pruning.leads, before=now - kept.leads, failed=False)
        pruned = yield from self._walk(leads, pruning.since(_BEGINNING))
        keys = partial(pruning.keys, before=now - max(kept.keys, kept.leads))
        pruned += yield from self._walk(keys, pruning.keys_since(_BEGINNING))
        emptied = partial(pruning.responses, before=now - kept.responses)
        responses = yield from self._walk(emptied, pruning.responses_since(_before(since, kept.responses)))
        emptied = partial(pruning.failure_responses, before=now - kept.responses)
        responses += yield from self._walk(emptied, {"after_id": 0})
        while forgotten := self._database.again(partial(pruning.records, before=now - kept.leads)):
            yield forgotten
        self._looked_until = now
        if pruned or responses:
            events.note("sweep.pruned", leads_and_keys=pruned, responses=responses)

    def _walk(self, prune: Callable[[Connection, Place], Slice], place: Place | None) -> Generator[int, None, int]:
        total = 0
        while place is not None:
            done = self._database.again(partial(_apply, prune, place))
            place = done.following
            total += done.pruned
            yield done.pruned
        return total


def _apply(prune: Callable[[Connection, Place], Slice], place: Place, connection: Connection) -> Slice:
    return prune(connection, place)


def _before(since: datetime, kept: timedelta) -> datetime:
    return max(_BEGINNING, since - _OVERLAP - kept) if since > _BEGINNING else _BEGINNING


class Pruner:
    """Prunes because somebody says so. `actor` is who is responsible."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def preview(self, older_than: timedelta, *, failed: bool) -> Prunable:
        """What `prune` would delete now; changes nothing."""
        with self._database.transaction() as connection:
            return pruning.count_leads(connection, pruning.now(connection) - older_than, failed=failed)

    def prune(self, older_than: timedelta, *, failed: bool, actor: str) -> Iterator[int]:
        """Delete the leads that ended longer ago, slice by slice; yields how many each slice deleted.

        `failed`: also those that failed, and those that failed once, dealt with or not.
        """
        with self._database.autocommit() as connection:
            before = pruning.now(connection) - older_than
        place: Place | None = pruning.since(_BEGINNING)
        total = 0
        try:
            while place is not None:
                prune = partial(pruning.leads, before=before, failed=failed)
                done = self._database.again(partial(_apply, prune, place))
                place = done.following
                total += done.pruned
                yield done.pruned
        finally:
            self._database.again(partial(_note, actor, older_than, failed, total))


def _note(actor: str, older_than: timedelta, failed: bool, leads: int, connection: Connection) -> None:  # noqa: FBT001
    detail = {"older_than_seconds": older_than.total_seconds(), "failed": failed, "leads": leads}
    audit.note(connection, actor, "prune", "leads", detail)
