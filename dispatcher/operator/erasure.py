"""Erase a person (GDPR, article 17): afterwards no row of the dispatcher contains the phone number, in any form.

What a repetition of an earlier submission would need to be recognised stays, as keyed hashes (`store.pseudonym`): an
erasure never allows a second call. The ids of the leads stay in the audit log. What lies outside of the database is
not reached; `Erased.left` names it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeVar
from uuid import UUID

from sqlalchemy import Connection

from dispatcher.errors import FieldError, InvalidLead, NotAllowed
from dispatcher.lead.phone import canonical_phone
from dispatcher.operator import person
from dispatcher.operator.erasure_steps import Scan, Steps
from dispatcher.operator.person import Left, Person
from dispatcher.store.database import Database, Rehearsal
from dispatcher.store.pseudonym import Pseudonyms

T = TypeVar("T")

BATCH_ROWS: Final = 500

_ROUNDS: Final = 20

_UNPROVEN: Final = Left(
    "a lead of this person, submitted again, is called again",
    "without DISPATCHER_PRIVACY_KEY no keyed hash of the number and its idempotency keys can be kept",
    "keep producers from submitting the person again",
)


@dataclass(frozen=True, slots=True)
class Erased:
    """What was erased, and what is left; of an erasure that was interrupted and repeated, all of it.

    leads        the person's own leads
    beside       leads of others that the number was taken out of
    rows         how many rows were changed or deleted, by table
    voicery_ids  (account, id) of what is left to delete at Voicery
    left         what the erasure does not reach
    """

    leads: tuple[UUID, ...] = ()
    beside: tuple[UUID, ...] = ()
    rows: Mapping[str, int] = field(default_factory=dict)
    voicery_ids: tuple[tuple[str, int], ...] = ()
    left: tuple[Left, ...] = ()


@dataclass(frozen=True, slots=True)
class ErasureProgress:
    """How far an erasure is: `done` of `to_do` leads, keys and other rows that were found."""

    done: int
    to_do: int


class _Do(Protocol):
    """Runs one step in a transaction."""

    def __call__(self, step: Callable[..., T], /, *args: Any) -> T: ...  # noqa: ANN401 - as the step takes them


class Erasure:
    """Erases people.

    pseudonyms   under whose key what stops a second call is kept
    """

    def __init__(self, database: Database, pseudonyms: Pseudonyms | None = None) -> None:
        self._database = database
        self._pseudonyms = pseudonyms or Pseudonyms(None)

    def erase(
        self,
        phone: str,
        *,
        actor: str,
        without_proof: bool = False,
        batch_rows: int = BATCH_ROWS,
        tell: Callable[[ErasureProgress], None] = lambda _: None,
    ) -> Erased:
        """Erase the person of this number, in transactions of few rows. `actor` is written to the audit log.

        without_proof   also where no key is set, so that the person, submitted again, would be called again
        batch_rows      leads or other rows of one transaction, from 1
        tell            is called after each of them

        The first transaction keeps what stops a second call, and blocks the number until the last one: whatever ends
        the process in between, no lead of the person is sent, and the same call again erases what is left and reports
        all of it.

        Raises `InvalidLead` for an invalid number; `NotAllowed` while a lead that names it is being sent or in doubt:
        its id at Voicery would never be known, so that it could not be deleted there; and `NotConfigured` where what
        stops a second call could not be kept, for want of the key, or because another one is in use.
        """
        number = canonical_phone(phone, "phone_number")
        if isinstance(number, FieldError):
            raise InvalidLead([number])
        rehearses = isinstance(self._database, Rehearsal)
        steps = Steps(number, self._pseudonyms, actor, without_proof=without_proof, holds_claims=not rehearses)
        if not rehearses:
            return _run(steps, self._database.again, batch_rows, tell)

        def at_once(connection: Connection) -> Erased:
            # A transaction of a rehearsal does not see what the one before has changed.
            return _run(steps, lambda step, /, *args: step(connection, *args), batch_rows, tell)

        return self._database.again(at_once)


def _run(steps: Steps, do: _Do, batch_rows: int, tell: Callable[[ErasureProgress], None]) -> Erased:
    done = to_do = 0
    scan = do(steps.scan)
    if scan.rows:
        do(steps.begin, scan, scan.beside[:batch_rows])
    for _ in range(_ROUNDS):
        if not scan.rows:
            break
        to_do += scan.to_do
        for step, rows in _work(steps, scan):
            for some in _slices(rows, batch_rows):
                do(step, some)
                done += len(some)
                tell(ErasureProgress(done, to_do))
        scan = do(steps.scan)
    else:
        raise NotAllowed(
            "Leads of this person, or rows that name it, keep arriving; stop what submits them, and erase again."
        )
    report, numbered = do(steps.end)
    leads, beside = (tuple(sorted({UUID(one) for one in ids})) for ids in (report.leads, report.beside))
    at_voicery = tuple(sorted(set(report.voicery_ids)))
    left = person.outside(Person((), (), at_voicery), sorted(set(report.files)))
    left = (*person.not_readable(scan.unreadable), *left)
    if numbered:
        left = (_still_blocked(numbered), *left)
    if report.unproven:
        left = (_UNPROVEN, *left)
    return Erased(leads, tuple(one for one in beside if one not in set(leads)), dict(report.rows), at_voicery, left)


def _work(steps: Steps, scan: Scan) -> Iterator[tuple[Callable[..., None], Sequence[Any]]]:
    """Return what is to be done, in the order in which each can still be found when what comes before is gone."""
    yield steps.forget_waiting, scan.waiting
    yield steps.seal_keys, scan.keys
    yield steps.take_out, scan.beside
    yield steps.rewrite, scan.elsewhere
    yield steps.delete, scan.leads


def _slices(rows: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def _still_blocked(kept: int) -> Left:
    return Left(
        f"{kept} blocks keep the number, so that nobody calls it",
        "without the DISPATCHER_PRIVACY_KEY of this database no keyed hash can stand for it",
        "set that key and erase again; or remove the block with `dispatcher unblock`",
    )
