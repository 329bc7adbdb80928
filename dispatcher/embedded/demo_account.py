"""The account of the demo: what became of every row, and the verdict: the sandbox's log against the database."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from dispatcher.records.record import LeadRecord
from dispatcher.rules.states import FailureClass, State
from dispatcher.sandbox.fault import FaultName
from dispatcher.sandbox.log import Effect, Entry, ledger_key

UNSETTLED: Final = frozenset({State.PENDING, State.SENDING, State.UNKNOWN})
"""States in which the dispatcher still has something to do by itself."""

_ENDINGS: Final[Mapping[FailureClass, str]] = {
    FailureClass.REJECTED: "failed: refused by Voicery",
    FailureClass.EXHAUSTED: "failed: never reached Voicery",
    FailureClass.OUTCOME_UNKNOWN: "held for a person: outcome unknown",
    FailureClass.EXPIRED: "failed: expired before it could be sent",
    FailureClass.BUG: "failed: a fault of the dispatcher",
}


@dataclass(frozen=True, slots=True)
class SandboxView:
    """What the sandbox has received so far."""

    posts: int
    look_ups: int
    faults: int
    created: int

    @classmethod
    def of(cls, entries: Sequence[Entry]) -> "SandboxView":
        """Counted from its log; a late creation's second line is no second request."""
        requests = {entry.request: entry for entry in reversed(entries)}.values()
        return cls(
            posts=sum(entry.method == "POST" for entry in requests),
            look_ups=sum(entry.method == "GET" for entry in requests),
            faults=sum(entry.fault is not None for entry in requests),
            created=sum(entry.created_id is not None for entry in entries),
        )


@dataclass(frozen=True, slots=True)
class Account:
    """Every row of the file, once. `endings` are in words, in the order they are shown, and sum up to `rows`.

    lost           leads that nobody would call and nobody would hear of
    called_twice   persons created twice in one campaign, or sent again although they were there
    """

    rows: int
    endings: Mapping[str, int]
    lost: tuple[UUID, ...]
    called_twice: int

    @property
    def balances(self) -> bool:
        """Whether every row has exactly one ending."""
        return sum(self.endings.values()) == self.rows

    @property
    def good(self) -> bool:
        """The verdict."""
        return self.balances and not self.lost and self.called_twice == 0


def draw_up(rows: int, refused: int, records: Sequence[LeadRecord], entries: Sequence[Entry]) -> Account:
    """The account of `rows` rows: `refused` were never stored, `records` are all that `submit` said were durable.

    Args:
        rows: how many the file has.
        refused: how many `submit` refused with a reason.
        records: the stored leads as they are now, each once.
        entries: the sandbox's log.
    """
    created = {entry.created_id: ledger_key(entry.body) for entry in entries if entry.created_id is not None}
    lost = []
    endings: Counter[str] = Counter()
    for record in records:
        endings[_ending(record)] += 1
        key = None if record.voicery_lead_id is None else created.get(record.voicery_lead_id)
        same = key is not None and (key.campaign_id, key.phone_number) == (record.campaign_id, record.phone_number)
        if record.state in UNSETTLED or (record.state is State.ACCEPTED and not same):
            lost.append(record.id)
    ordered = {"refused before it was stored, with the reason": refused}
    ordered |= dict(sorted(endings.items(), key=lambda ending: (-ending[1], ending[0])))
    return Account(rows, ordered, tuple(lost), len(_called_twice(entries)))


def _ending(record: LeadRecord) -> str:
    match record.state:
        case State.ACCEPTED if record.voicery_lead_id is not None:
            return "accepted by Voicery"
        case State.DUPLICATE if not record.history:
            return "duplicate of another lead: not sent"
        case State.DUPLICATE:
            return "duplicate, says Voicery"
        case State.FAILED if record.failure_class is not None:
            return _ENDINGS[record.failure_class]
        case State.CANCELLED:
            return "cancelled"
        case state:
            return f"LOST: still {state}"


def _called_twice(entries: Iterable[Entry]) -> set[tuple[int, str]]:
    """Persons (campaign, number). That Voicery would have refused the second request is no excuse: it counts."""
    created: dict[tuple[int, str], int] = defaultdict(int)
    again: set[tuple[int, str]] = set()
    for entry in entries:
        key = ledger_key(entry.body) if entry.method == "POST" else None
        if key is None:
            continue
        person = key.campaign_id, key.phone_number
        if entry.created_id is not None:
            created[person] += 1
        # The fault `duplicate` refuses a lead that is *not* there.
        if entry.effect in (Effect.REFUSED, Effect.FOUND) and entry.fault != FaultName.DUPLICATE:
            again.add(person)
    return again | {person for person, times in created.items() if times > 1}
