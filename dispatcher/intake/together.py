"""Leads that are submitted at the same moment: stored by one transaction, in one round trip and with one flush to disk.

Only what cannot differ from a `submit` of its own is stored so. What meets another lead, a block or a lock, or fails in
any way, is left to `Intake.submit`, which then has the last word.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from dispatcher.broker.doorbell import Bell
from dispatcher.errors import StoreUnavailable
from dispatcher.failpoint import reach
from dispatcher.intake.submit import Entry, plain_call
from dispatcher.lead.options import Submission
from dispatcher.logs.tracing import traced
from dispatcher.store.blocks import Screening
from dispatcher.store.database import Database
from dispatcher.store.statement import HotStatement, together
from dispatcher.store.trouble import NotPermitted, StatementRefused, TryAgain

LOCK_SECONDS: Final = 0.1
"""How long a lead may wait for another transaction's, while the others that are stored with it wait as well."""

_NOT_LONG: Final = HotStatement("SELECT set_config('lock_timeout', :lock_timeout, true)")


@dataclass(frozen=True, slots=True)
class StoredTogether:
    """What was stored together.

    submissions  by the id of their leads; what is missing is to be submitted by itself
    in_doubt     nobody knows whether the others were stored: a submit by itself repeats them under their ids
    """

    submissions: dict[UUID, Submission]
    in_doubt: bool = False


class Together:
    """Stores several valid leads in one transaction. Thread-safe."""

    def __init__(self, database: Database, bell: Bell, screening: Screening) -> None:
        self._database = database
        self._bell = bell
        self._screening = screening

    def submit(self, entries: Sequence[Entry]) -> StoredTogether:
        """Store those that are plain and new. Raises nothing: what is not stored finds its error by itself."""
        fit = self._fit(entries)
        if len(fit) < 2 or traced():  # each has a span of its own, in the trace of its caller
            return StoredTogether({})
        ring = self._database.key_ring
        calls = [plain_call(entry, self._screening, ring) for entry in fit]
        limit = _NOT_LONG, {"lock_timeout": f"{round(LOCK_SECONDS * 1000)}ms"}
        reach("submit.before_commit")
        try:
            with self._database.autocommit() as connection:
                _, *found = together(connection, limit, *calls)
        except (TryAgain, StatementRefused, NotPermitted):
            return StoredTogether({})
        except StoreUnavailable:
            return StoredTogether({}, in_doubt=True)
        reach("submit.after_commit")
        stored = [entry for entry, cursor in zip(fit, found, strict=True) if cursor.rowcount]
        for channel in {entry.channel for entry in stored}:
            self._bell.ring(channel)
        return StoredTogether({entry.id: Submission(entry.id, "pending", True) for entry in stored})

    def _fit(self, entries: Sequence[Entry]) -> list[Entry]:
        """Return the first plain one of each person, in an order in which no two transactions wait in a circle."""
        persons: dict[tuple[str, int, str], Entry] = {}
        for entry in entries:
            if entry.is_plain and entry.options.id is None:
                persons.setdefault((*entry.channel, entry.lead.phone_number), entry)
        return [persons[person] for person in sorted(persons)]
