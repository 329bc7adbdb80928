"""Taking in many leads: any iterable, in chunks, with the rules of `submit`.

Memory is that of a few chunks. A chunk is decided from one read and written by `COPY` in one transaction; when a
concurrent submit stores one of its persons, keys or ids first, the chunk is rolled back and decided again. After a
crash between chunks, the same items under the same batch id find what is stored already.
"""

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import islice
from operator import itemgetter
from typing import Any, Final
from uuid import UUID

import uuid_utils.compat
from sqlalchemy import Connection

from dispatcher.broker.doorbell import Bell
from dispatcher.errors import FieldError, InvalidLead, StoreUnavailable
from dispatcher.intake import copying
from dispatcher.intake.joining import Caller, Joined, theirs
from dispatcher.intake.validators import Validators, in_slices
from dispatcher.lead.candidate import Admission, BatchIds, Candidate, Ids, Rejection, decide, read_items
from dispatcher.lead.options import BatchResult, Channel, check_account
from dispatcher.store.blocks import NO_KEY, Screening
from dispatcher.store.database import Database
from dispatcher.store.encryption import KeyRing
from dispatcher.store.trouble import NotPermitted, StatementRefused, TryAgain

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

    screening            how it is checked who must not be called, and under whose key persons are recognised
    ring                 encrypts what is stored
    transaction          opens a transaction, or a savepoint in the caller's; its errors are those of `Database`
    repeat_for_seconds   how long to repeat when Postgres was away or did not acknowledge a commit; 0 in a savepoint
    """

    account: str
    batch_id: UUID
    transaction: Callable[[], AbstractContextManager[Connection]]
    screening: Screening
    ring: KeyRing
    repeat_for_seconds: float
    clock: Callable[[], float]
    wait: Callable[[float], None]

    def store(self, candidates: Sequence[Candidate]) -> Admission:
        """Insert the chunk. On a conflict, reread and retry; after five conflicts, split the chunk in two."""
        give_up = self.clock() + self.repeat_for_seconds
        unsure: Admission | None = None
        tries = 0
        while True:
            admission: Admission | None = None
            try:
                with self.transaction() as connection:
                    facts = copying.facts(connection, self.account, candidates, self.screening)
                    admission = decide(candidates, facts)
                    copying.insert(
                        connection,
                        self.account,
                        self.batch_id,
                        facts.now,
                        admission.new_leads,
                        self.screening,
                        self.ring,
                    )
            except TryAgain:
                tries += 1
                if tries == _TRIES:
                    raise self._unavailable("Postgres kept refusing a lock; find the long transaction.") from None
            except StatementRefused as refusal:
                tries += 1
                if tries == _TRIES or refusal.sqlstate != _UNIQUE_VIOLATION:
                    return self._store_halves(candidates, refusal)
            except NotPermitted as refusal:
                raise self._unavailable(str(refusal)) from None
            except StoreUnavailable as error:
                unsure = admission or unsure  # written, and perhaps committed
                if self.clock() >= give_up:
                    raise self._unavailable(str(error)) from None
                self.wait(_PAUSE_SECONDS)
            else:
                return admission if unsure is None else admission.confirming(unsure)

    def _store_halves(self, candidates: Sequence[Candidate], refusal: StatementRefused) -> Admission:
        """Store each half by itself, so that one contended person or refused row stops no other item."""
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


CHUNK_ITEMS: Final = 2000
"""Items that are validated, decided and committed together."""

REPEAT_FOR_SECONDS: Final = 2.0
"""So long is a chunk repeated whose commit was not acknowledged; its leads' ids make that safe."""

_AHEAD: Final = 2  # chunks validated ahead, for each process
_STORED_AHEAD: Final = 2  # chunks on their way to Postgres: one there, one that waits, so that neither side idles


@dataclass(frozen=True, slots=True)
class ChunkResult:
    """The results of some consecutive items. `items` is how many of the batch are done, this chunk included."""

    items: int
    submitted: int
    duplicates: int
    repeated: int
    rejected: tuple[Rejection, ...]
    blocked: int = 0


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive items of a batch, validated; `end` is the index after the last one."""

    end: int
    candidates: list[Candidate]
    rejections: list[Rejection]


class Bulk:
    """Submits batches of leads. `clock` is monotonic and counts seconds; `wait` sleeps them.

    screening    how it is checked who must not be called, and under whose key persons are recognised
    """

    def __init__(
        self,
        database: Database,
        bell: Bell,
        screening: Screening = NO_KEY,
        *,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], None] = time.sleep,
        chunk_items: int = CHUNK_ITEMS,
    ) -> None:
        self._database = database
        self._bell = bell
        self.screening = screening
        self._clock = clock
        self._wait = wait
        self._chunk_items = chunk_items

    def submit_many(
        self,
        items: Iterable[Any],
        *,
        account: str,
        batch_id: UUID | str | None = None,
        session: Caller | None = None,
    ) -> BatchResult:
        """See `Dispatcher.submit_many` for the contract."""
        batch = batch_id_of(batch_id)
        return summed(batch, self.stream(items, account=account, batch_id=batch, session=session))

    def stream(
        self,
        items: Iterable[Any],
        *,
        account: str,
        batch_id: UUID,
        session: Caller | None = None,
        read: Callable[[Any], Any] | None = None,
        ids: Ids | None = None,
        workers: int = 0,
    ) -> Generator[ChunkResult, None, None]:
        """Submit items chunk by chunk; what is yielded is stored.

        read      turns an item into what `submit_many` takes, or raises `InvalidLead`
        ids       those of items that name none; by default by account, batch and index
        workers   processes that read and validate; items, `read` and `ids` must then be picklable. 0: this thread.
                  They are spawned, so a script that asks for them needs `if __name__ == "__main__"`.
        """
        validate = _validation(account, batch_id, ids, read)
        with ExitStack() as stack:
            if workers:
                validators = stack.enter_context(Validators(workers, validate))
                chunks = _unbroken(self._validated_by(validators, workers * _AHEAD, items, validate), batch_id)
            else:
                chunks = self._validated(items, validate)
            if session is None:
                yield from self._stored_beside(chunks, self._chunk_store(account, batch_id))
            else:
                for chunk in chunks:
                    yield self.join(chunk, session, account=account, batch_id=batch_id)

    def store(
        self,
        items: Sequence[Any],
        *,
        account: str,
        batch_id: UUID,
        first_index: int,
        read: Callable[[Any], Any] | None = None,
    ) -> tuple[Chunk, Admission]:
        """Validate and store consecutive items of a batch as one chunk, and ring; return what became of each.

        first_index   the index of the first of them in the batch
        read          as in `stream`

        Raises `BatchCutShort` where Postgres did not confirm; the same items at the same place are safe to repeat.
        """
        candidates, rejections = _validation(account, batch_id, read=read)(items, first_index)
        admission = self._chunk_store(account, batch_id).store(candidates) if candidates else Admission()
        self._ring(account, admission.campaign_ids)
        return Chunk(first_index + len(items), candidates, rejections), admission

    def validated(self, items: Iterable[Any], *, account: str, batch_id: UUID, chunk_items: int) -> Iterator[Chunk]:
        """Validate items, to be stored by `join`."""
        return self._validated(items, _validation(account, batch_id), chunk_items)

    def join(self, chunk: Chunk, session: Caller, *, account: str, batch_id: UUID) -> ChunkResult:
        """Store in the caller's transaction, in a savepoint; ring when a `Session` has committed."""
        joined = Joined.of(session, copies=True)
        store = ChunkStore(
            account, batch_id, joined.savepoint, self.screening, self._database.key_ring, 0, self._clock, self._wait
        )
        with theirs():
            admission = store.store(chunk.candidates)
        for campaign_id in admission.campaign_ids:
            joined.announce(self._bell, Channel(account, campaign_id))
        return _result(chunk, admission)

    def _validated(
        self, items: Iterable[Any], validate: Callable[..., Any], chunk_items: int | None = None
    ) -> Iterator[Chunk]:
        for start, taken in self._taken(items, chunk_items):
            yield Chunk(start + len(taken), *in_slices(taken, start, validate))

    def _validated_by(
        self, validators: Validators, ahead: int, items: Iterable[Any], validate: Callable[..., Any]
    ) -> Iterator[Chunk]:
        """Validate by processes, some chunks ahead, in order; by this thread until the first of them is up."""
        waiting: deque[tuple[int, Future[Any]]] = deque()
        for start, taken in self._taken(items):
            if not waiting and not validators.ready:
                yield Chunk(start + len(taken), *in_slices(taken, start, validate))
                continue
            waiting.append((start + len(taken), validators.submit(taken, start)))
            if len(waiting) >= ahead:
                end, future = waiting.popleft()
                yield Chunk(end, *validators.result(future))
        for end, future in waiting:
            yield Chunk(end, *validators.result(future))

    def _taken(self, items: Iterable[Any], chunk_items: int | None = None) -> Iterator[tuple[int, list[Any]]]:
        iterator = iter(items)
        start = 0
        while taken := list(islice(iterator, chunk_items or self._chunk_items)):
            yield start, taken
            start += len(taken)

    def _chunk_store(self, account: str, batch_id: UUID) -> ChunkStore:
        """Return what stores chunks in transactions of its own."""
        database, repeat = self._database, REPEAT_FOR_SECONDS
        return ChunkStore(
            account,
            batch_id,
            database.transaction,
            self.screening,
            database.key_ring,
            repeat,
            self._clock,
            self._wait,
        )

    def _stored_beside(self, chunks: Iterable[Chunk], store: ChunkStore) -> Iterator[ChunkResult]:
        """Store chunks in a thread while the next ones are validated."""
        stopped = False

        def store_and_ring(chunk: Chunk) -> ChunkResult | None:
            nonlocal stopped
            if stopped:  # what comes after a chunk that could not be stored is not stored either: order decides
                return None
            try:
                admission = store.store(chunk.candidates)
            except BaseException:
                stopped = True
                raise
            self._ring(store.account, admission.campaign_ids)
            return _result(chunk, admission)

        with ThreadPoolExecutor(1, "dispatcher-bulk") as thread:
            storing: deque[Future[ChunkResult | None]] = deque()
            try:
                try:
                    for chunk in chunks:
                        if len(storing) == _STORED_AHEAD:
                            yield from _done(storing.popleft())
                        storing.append(thread.submit(store_and_ring, chunk))
                except Exception:
                    # The items' own iterator failed: what it gave before is stored, and told, or why it could not be.
                    for future in storing:
                        yield from _done(future)
                    raise
                for future in storing:
                    yield from _done(future)
            finally:
                stopped = True  # left early, e.g. by Ctrl-C: the current chunk is finished, the next not begun

    def _ring(self, account: str, campaign_ids: Iterable[int]) -> None:
        for campaign_id in campaign_ids:
            self._bell.ring(Channel(account, campaign_id))


def summed(batch_id: UUID, chunks: Iterable[ChunkResult]) -> BatchResult:
    """Return the result of a batch, from those of its chunks."""
    submitted = duplicates = repeated = blocked = 0
    rejected: list[Rejection] = []
    for chunk in chunks:
        submitted += chunk.submitted
        duplicates += chunk.duplicates
        repeated += chunk.repeated
        blocked += chunk.blocked
        rejected.extend(chunk.rejected)
    return BatchResult(batch_id, submitted, duplicates, repeated, tuple(rejected), blocked)


def _validation(
    account: str, batch_id: UUID, ids: Ids | None = None, read: Callable[[Any], Any] | None = None
) -> Callable[..., Any]:
    own = BatchIds.of(check_account(account), batch_id)
    return partial(read_items, ids=ids or own, read=read)


def batch_id_of(given: object) -> UUID:
    """The batch id that a caller gave, or a new one. Raises `InvalidLead` if it is no UUID."""
    if given is None:
        return uuid_utils.compat.uuid7()
    if isinstance(given, UUID):
        return given
    try:
        return UUID(str(given))
    except ValueError:
        remedy = "pass a uuid.UUID, its text, or nothing"
        raise InvalidLead([FieldError("batch_id", "is not a UUID", remedy)]) from None


def _unbroken(chunks: Iterator[Chunk], batch_id: UUID) -> Iterator[Chunk]:
    try:
        yield from chunks
    except BrokenExecutor:
        raise BatchCutShort("A process that validates was killed, perhaps for want of memory.", batch_id) from None


def _done(stored: "Future[ChunkResult | None]") -> Iterator[ChunkResult]:
    result = stored.result()
    if result is not None:
        yield result


def _result(chunk: Chunk, admission: Admission) -> ChunkResult:
    duplicates = sum(new_lead.duplicate_of is not None for new_lead in admission.new_leads)
    blocked = sum(new_lead.blocked is not None for new_lead in admission.new_leads)
    return ChunkResult(
        items=chunk.end,
        submitted=len(admission.new_leads) - duplicates - blocked,
        duplicates=duplicates,
        repeated=len(admission.repeated),
        rejected=tuple(sorted([*chunk.rejections, *admission.rejections], key=itemgetter(0))),
        blocked=blocked,
    )
