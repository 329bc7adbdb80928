"""Turn what was submitted by SQL into leads, by the rules of `submit_many`: the inbox' use case.

The lead and the end of its row are one transaction, so that a process killed anywhere neither loses nor doubles one.
Nothing is listened for: a session that listens needs a connection of its own and no pooler, and a NOTIFY would make
callers wait for each other's commits (`docs/decisions/072-an-inbox-that-is-asked.md`). A row that ends its process is
known by its tries, which are counted before it is taken (`docs/decisions/112-rows-that-end-their-process.md`).
"""

import faulthandler
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from operator import attrgetter
from typing import Any, Final, NoReturn
from uuid import UUID

from sqlalchemy import Connection

from dispatcher.broker.doorbell import Bell
from dispatcher.errors import DispatcherError, FieldError, InvalidLead
from dispatcher.failpoint import reach
from dispatcher.intake import copying
from dispatcher.lead.candidate import Candidate, Rejection, decide, read_items
from dispatcher.lead.options import Channel
from dispatcher.lead.variables import read_json
from dispatcher.logs import events
from dispatcher.store import encryption, inbox
from dispatcher.store.blocks import Screening
from dispatcher.store.database import Database, translated
from dispatcher.store.encryption import Content, KeyMissing, KeyRing, NotAuthentic
from dispatcher.store.inbox import Waiting
from dispatcher.store.trouble import StatementRefused, TryAgain

_TRIES: Final = 2
_UNIQUE_VIOLATION: Final = "23505"
_LATER_EVERY_SECONDS: Final = 1.0
_MOST_SUSPECTS: Final = 20
_MOST_TAKEN: Final = 3
"""Times that a row is taken: once among others, then alone. After that it is rejected."""

PATIENCE_SECONDS: Final = 45.0
"""What a transaction may take in a process that does nothing else: more than Postgres' `statement_timeout`."""

_ENDS: Final = ("stored", "repeated", "rejected", "postponed")
_FATAL: Final = (
    f"was taken {_MOST_TAKEN} times, at last alone, and each time the process that validated it was killed, crashed or"
    " did not finish"
)
_TELL: Final = "tell the maintainers; `dispatcher inbox retry` has it validated again"


@dataclass(slots=True)
class Taken:
    """What became of the rows of one transaction. `channels` have work by it."""

    stored: list[UUID] = field(default_factory=list)
    repeated: dict[UUID, UUID] = field(default_factory=dict)
    rejected: dict[UUID, Sequence[FieldError]] = field(default_factory=dict)
    postponed: list[UUID] = field(default_factory=list)
    channels: set[Channel] = field(default_factory=set)

    @property
    def rows(self) -> int:
        """The number of all rows."""
        return len(self.stored) + len(self.repeated) + len(self.rejected) + len(self.postponed)

    def add(self, other: "Taken") -> None:
        """Add the rows of another transaction."""
        self.stored += other.stored
        self.repeated |= other.repeated
        self.rejected |= other.rejected
        self.postponed += other.postponed
        self.channels |= other.channels


class Taking:
    """Takes rows of the inbox and stores their leads. Several processes may: one at a time does.

    screening         returns how it is checked who must not be called; called once for each transaction
    patience_seconds  a transaction that takes longer ends this process, so that the row that hangs is known by its
                      tries and the next process goes on; None: never
    clock             monotonic, counts seconds
    """

    def __init__(
        self,
        database: Database,
        bell: Bell,
        screening: Callable[[], Screening],
        *,
        patience_seconds: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._bell = bell
        self._screening = screening
        self._patience_seconds = patience_seconds
        self._clock = clock
        self._looked_at = -_LATER_EVERY_SECONDS
        self._uncounted: list[UUID] = []

    def waits(self) -> bool:
        """Return whether there is a row to take now. One statement."""
        return self._database.read(inbox.waits)

    def step(self) -> Taken:
        """Take the rows that came first, and now and then some that were postponed or met trouble; store and ring.

        Raises `StoreUnavailable` or `TryAgain` if Postgres is away or refuses a lock: nothing was done. After any
        other exception the same rows are taken one by one, and one that raises again is rejected. So are the rows of a
        process that has ended meanwhile; one that is taken for the fourth time is rejected.
        """
        taken = self._in_one_transaction(_first)
        now = self._clock()
        if not taken.rows or now - self._looked_at >= _LATER_EVERY_SECONDS:
            self._looked_at = now
            taken.add(self._in_one_transaction(inbox.count_postponed, apart=True))
            for _ in range(_MOST_SUSPECTS):
                suspect = self._in_one_transaction(inbox.count_suspect)
                if not suspect.rows:
                    break
                taken.add(suspect)
        return taken

    def _in_one_transaction(self, count: Callable[[Connection], Sequence[UUID]], *, apart: bool = False) -> Taken:
        """Take rows, store their leads, end the rows, and ring. `apart`: each by itself, because they met a lock.

        `count` chooses the rows and counts their try. That is committed on another connection, while this one holds
        the lock that lets one process take at a time: whoever finds a try counted knows that its process is gone.
        """
        taken = Taken()
        rows: Sequence[Waiting] = ()
        ids: Sequence[UUID] = ()
        self._uncount()
        try:
            with self._watched(), self._database.transaction() as connection:
                if inbox.alone(connection):
                    with self._database.autocommit() as other:
                        ids = count(other)
                    rows = inbox.take(connection, ids)
                if rows:
                    reach("inbox.taken")
                    self._store(connection, [[row] for row in rows] if apart else [rows], taken)
                    reach("inbox.before_commit")
        except (DispatcherError, TryAgain):  # it is not the rows' fault
            self._uncounted += ids
            with suppress(DispatcherError, TryAgain):
                self._uncount()
            raise
        except Exception as error:  # a bug, or a row that Postgres refuses: it must not hold the others up
            if len(rows) != 1:
                raise
            taken = self._give_up(rows[0], error)
        if taken.rows:
            reach("inbox.after_commit")
            for channel in sorted(taken.channels):
                self._bell.ring(channel)
            tell = events.warning if taken.rejected or taken.postponed else events.info
            tell("inbox.taken", **{name: len(getattr(taken, name)) for name in _ENDS})
        return taken

    def _uncount(self) -> None:
        if self._uncounted:
            self._database.again(inbox.uncount, self._uncounted)
            self._uncounted = []

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """End this process if the block takes too long, also where it holds the interpreter's lock."""
        if self._patience_seconds is None:
            yield
            return
        faulthandler.dump_traceback_later(self._patience_seconds, exit=True, file=sys.__stderr__ or sys.stderr)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()

    def _store(self, connection: Connection, parts: Sequence[Sequence[Waiting]], taken: Taken) -> None:
        screening = self._screening()
        for part in _without_fatal(parts, taken):
            # Each account by itself; the rows of one stay in their order.
            ordered = sorted(part, key=attrgetter("account"))
            for account, rows in groupby(ordered, key=attrgetter("account")):
                _admit(connection, account, list(rows), screening, taken)
        inbox.stored(connection, taken.stored)
        inbox.repeated(connection, taken.repeated)
        inbox.rejected(connection, taken.rejected)
        inbox.postponed(connection, taken.postponed)

    def _give_up(self, row: Waiting, error: Exception) -> Taken:
        events.exception("inbox.bad_row", id=str(row.id), consequence="it is rejected; the others go on")
        fault = FieldError("lead", f"could not be stored ({type(error).__name__})", _TELL)
        taken = Taken(rejected={row.id: (fault,)})
        self._database.again(inbox.rejected, taken.rejected)
        return taken


def _first(connection: Connection) -> Sequence[UUID]:
    return inbox.count_first(connection, most_rows=inbox.MOST_ROWS)


def _without_fatal(parts: Sequence[Sequence[Waiting]], taken: Taken) -> Iterator[list[Waiting]]:
    """Reject the rows that were taken too often without an end; yield the others."""
    for part in parts:
        for row in part:
            if row.tries > _MOST_TAKEN:
                events.error("inbox.bad_row", id=str(row.id), consequence="it is rejected; the others go on")
                taken.rejected[row.id] = (FieldError("lead", _FATAL, _TELL),)
        yield [row for row in part if row.tries <= _MOST_TAKEN]


def _admit(connection: Connection, account: str, rows: Sequence[Waiting], screening: Screening, taken: Taken) -> None:
    """Validate the rows of one account, and store those that are leads."""
    candidates, rejections = _read(rows, encryption.of(connection))
    taken.rejected.update({rows[index].id: faults for index, faults in rejections})
    if candidates:
        _insert(connection, account, rows, candidates, screening, taken)


def _insert(
    connection: Connection,
    account: str,
    rows: Sequence[Waiting],
    candidates: Sequence[Candidate],
    screening: Screening,
    taken: Taken,
) -> None:
    """Store candidates; where that is refused, each half by itself, so that one stops no other."""
    refusal: StatementRefused | TryAgain | None = None
    for _ in range(_TRIES if len(candidates) > 1 else 1):
        try:
            with _savepoint(connection):
                facts = copying.facts(connection, account, candidates, screening)
                admission = decide(candidates, facts)
                ring = encryption.of(connection)
                copying.insert(connection, account, None, facts.now, admission.new_leads, screening, ring)
        except (StatementRefused, TryAgain) as error:
            refusal = error
            continue
        new = {new_lead.candidate.id for new_lead in admission.new_leads}
        refused = {rows[index].id: faults for index, faults in admission.rejections}
        others = [one.id for one in candidates if one.id not in new and one.id not in refused]
        taken.stored += new
        taken.rejected.update(refused)
        taken.repeated.update(zip(others, admission.repeated, strict=True))  # `decide` keeps the order
        taken.channels |= {Channel(account, campaign_id) for campaign_id in admission.campaign_ids}
        return
    if len(candidates) > 1:
        middle = len(candidates) // 2
        for half in (candidates[:middle], candidates[middle:]):
            _insert(connection, account, rows, half, screening, taken)
    elif isinstance(refusal, StatementRefused) and refusal.sqlstate != _UNIQUE_VIOLATION:
        taken.rejected[candidates[0].id] = (FieldError("lead", str(refusal), _TELL),)
    else:
        taken.postponed.append(candidates[0].id)


@contextmanager
def _savepoint(connection: Connection) -> Iterator[None]:
    with translated(), connection.begin_nested():
        yield


def _read(rows: Sequence[Waiting], ring: KeyRing) -> tuple[list[Candidate], list[Rejection]]:
    """Validate rows, whose indexes name them; one that cannot even be read is rejected."""
    item = partial(_item, ring)
    try:
        return read_items(rows, 0, _no_id, read=item)
    except Exception:  # noqa: BLE001 - a bug: one row must not hold the others up
        candidates: list[Candidate] = []
        rejections: list[Rejection] = []
        for index, row in enumerate(rows):
            try:
                valid, invalid = read_items([row], index, _no_id, read=item)
            except Exception as error:  # noqa: BLE001 - as above
                events.exception("inbox.bad_row", id=str(row.id), consequence="it is rejected; the others go on")
                fault = FieldError("lead", f"could not be validated ({type(error).__name__})", _TELL)
                invalid = [(index, (fault,))]
                valid = []
            candidates += valid
            rejections += invalid
        return candidates, rejections


def _item(ring: KeyRing, row: Waiting) -> tuple[Any, Any]:
    """Return the row as an item of `submit_many`."""
    try:
        return read_json(ring.decrypted_json_text(row.lead, row.id, Content.SUBMITTED)), row.options
    except KeyMissing as error:
        fault = f"is encrypted under the key {error.key_id}, which the worker does not have"
        remedy = "add it to DISPATCHER_ENCRYPTION_KEYS, then `dispatcher inbox retry`"
    except NotAuthentic:
        fault, remedy = "does not decrypt, because it was changed in the database", "discard it and submit it again"
    except (ValueError, RecursionError):
        fault = "is nested too deeply, or has a number of too many digits"
        remedy = "flatten it, and send long numbers as text"
    raise InvalidLead([FieldError("lead", fault, remedy)])


def _no_id(_index: int, _campaign_id: int) -> NoReturn:
    raise AssertionError("each row names its id")


POLL_SECONDS: Final = 0.2
"""How often the inbox is asked after a row has come."""

QUIET_POLL_SECONDS: Final = 0.5
LINGER_SECONDS: Final = 300.0
"""How often it is asked when none has come for so long. A deployment that never submits by SQL is asked by the sweep
alone, with the statement that each of its rounds begins with."""


class InboxThread:
    """Takes rows in a thread, from when the sweep has seen the first one. No duty of the sweep waits for it."""

    def __init__(
        self,
        taking: Taking,
        *,
        poll_seconds: float = POLL_SECONDS,
        quiet_poll_seconds: float = QUIET_POLL_SECONDS,
        linger_seconds: float = LINGER_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._taking = taking
        self._poll_seconds = poll_seconds
        self._quiet_poll_seconds = quiet_poll_seconds
        self._linger_seconds = linger_seconds
        self._clock = clock
        self._stopping = threading.Event()
        self._finishing = threading.Event()
        self._thread: threading.Thread | None = None
        self._told = ""

    def start(self) -> bool:
        """Begin to take rows and return at once. Return False if it is at it already."""
        if self._thread is not None and self._thread.is_alive():
            return False
        self._stopping.clear()
        self._finishing.clear()
        self._thread = threading.Thread(target=self._run, name="dispatcher-inbox", daemon=True)
        self._thread.start()
        return True

    def stop(self) -> None:
        """Let it begin no further transaction, and return at once."""
        self._stopping.set()
        self._finishing.set()

    def finish(self) -> None:
        """Take what waits, if it was started, then end; return when it has ended."""
        self._finishing.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        last = self._clock()
        while not self._stopping.is_set():
            finishing = self._finishing.is_set()  # before it is asked what waits: a row may come in between
            try:
                if self._taking.waits() and self._taking.step().rows:
                    last = self._clock()
                    continue
                self._told = ""
                if finishing:
                    return
            except (DispatcherError, TryAgain) as error:
                if self._told != str(error):
                    events.warning("inbox.not_taken", error=type(error).__name__, why=str(error))
                    self._told = str(error)
                return  # the next round of the sweep begins again
            except Exception:  # noqa: BLE001 - a bug
                events.exception("inbox.failed", consequence="the same rows are taken one by one")
                return
            quiet = self._clock() - last >= self._linger_seconds
            self._finishing.wait(self._quiet_poll_seconds if quiet else self._poll_seconds)
