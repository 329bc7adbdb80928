"""One chunk of a batch made durable: read, decide, `COPY`, as often as it takes."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from sqlalchemy import Connection

from dispatcher.errors import FieldError, StoreUnavailable
from dispatcher.leads.admission import Admission, decide
from dispatcher.leads.candidate import Candidate
from dispatcher.store import bulk
from dispatcher.store.database import StatementRefused, TryAgain

_TRIES: Final = 5
_PAUSE_SECONDS: Final = 0.1

_UNIQUE_VIOLATION: Final = "23505"
_CLASSES_OF_A_ROW: Final = frozenset({"22", "23"})  # SQLSTATE: data exception, integrity violation


class BatchCutShort(StoreUnavailable):
    """A chunk could not be stored; `why` alone is for callers who say in words of their own how to go on."""

    def __init__(self, why: str, batch_id: UUID) -> None:
        self.why = why
        super().__init__(f"{why} Part of the batch may be stored: repeat it with batch_id={batch_id}.")


@dataclass(frozen=True, slots=True)
class ChunkStore:
    """Stores the chunks of one batch. Raises `BatchCutShort`, which names the batch id to go on with.

    transaction          opens a transaction, or a savepoint in the caller's; its errors are those of `Database`
    repeat_for_seconds   how long to repeat when Postgres was away or did not acknowledge a commit; 0 in a savepoint
    """

    account: str
    batch_id: UUID
    transaction: Callable[[], AbstractContextManager[Connection]]
    repeat_for_seconds: float
    clock: Callable[[], float]
    wait: Callable[[float], None]

    def store(self, candidates: Sequence[Candidate]) -> Admission:
        """Decide and write; from fresh facts when somebody was faster, in halves when five times did not help."""
        give_up = self.clock() + self.repeat_for_seconds
        unsure: Admission | None = None
        tries = 0
        while True:
            admission: Admission | None = None
            try:
                with self.transaction() as connection:
                    facts = bulk.facts(connection, self.account, candidates)
                    admission = decide(candidates, facts)
                    bulk.insert(connection, self.account, self.batch_id, facts.now, admission.births)
            except TryAgain:
                tries += 1
                if tries == _TRIES:
                    raise self._unavailable("Postgres kept refusing a lock; find the long transaction.") from None
            except StatementRefused as refusal:
                tries += 1
                if tries == _TRIES or refusal.sqlstate != _UNIQUE_VIOLATION:
                    return self._store_halves(candidates, refusal)
            except StoreUnavailable as error:
                unsure = admission or unsure  # written, and perhaps committed
                if self.clock() >= give_up:
                    raise self._unavailable(str(error)) from None
                self.wait(_PAUSE_SECONDS)
            else:
                return admission if unsure is None else admission.confirming(unsure)

    def _store_halves(self, candidates: Sequence[Candidate], refusal: StatementRefused) -> Admission:
        """So that a person whom many submit at once, or a row that Postgres refuses, stops no other."""
        if len(candidates) > 1:
            middle = len(candidates) // 2
            return self.store(candidates[:middle]).followed_by(self.store(candidates[middle:]))
        if refusal.sqlstate == _UNIQUE_VIOLATION:
            raise self._unavailable("Too many submits of one number at once.") from None
        if refusal.sqlstate is None or refusal.sqlstate[:2] not in _CLASSES_OF_A_ROW:
            raise self._unavailable(f"{refusal}.") from None
        fault = FieldError("lead", str(refusal), "tell the maintainers: validation should have refused it")
        return Admission(rejections=[(candidates[0].index, (fault,))])

    def _unavailable(self, why: str) -> BatchCutShort:
        return BatchCutShort(why, self.batch_id)
