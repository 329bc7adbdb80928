"""The items of a batch, validated and flat: what `submit_many` needs of each, cheap to hand to another process.

The id of an item that brings none is derived from (account, batch, index), so that a repeated run of the same batch
meets the leads of the first one instead of making new ones.
"""

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from operator import attrgetter
from typing import Any, Final, cast
from uuid import UUID

import orjson

from dispatcher.errors import FieldError, InvalidLead
from dispatcher.lead.lead import Lead, plain_lead
from dispatcher.lead.options import SubmitOptions

MAX_ITEMS: Final = 2**40
"""The index has 40 bits of a derived id."""

Item = Lead | Mapping[str, Any] | tuple[Lead | Mapping[str, Any], SubmitOptions | Mapping[str, Any]]
Ids = Callable[[int, int], UUID]
"""Derives an item's id from its index and its campaign, so that a repetition meets it; ascending with the index."""

Rejection = tuple[int, tuple[FieldError, ...]]

_NO_OPTIONS: Final = SubmitOptions()
_VERSION: Final = 8 << 76  # RFC 9562: version 8 is the layout of one's own
_VARIANT: Final = 2 << 62


@dataclass(slots=True)  # one for each item of a batch, and a frozen one takes four times as long to fill
class Candidate:
    """One valid item of a batch. The repr names no person."""

    id: UUID
    index: int
    derived_id: bool
    person: tuple[int, str]  # campaign and phone number: one live lead of these with `allow_dupplicate` false
    variables: str  # JSON
    allow_dupplicate: bool
    contacts: tuple[tuple[str, str], ...]  # phone number, variables as JSON
    payload_hash: str
    options: SubmitOptions

    def __repr__(self) -> str:
        return f"Candidate(index={self.index}, id={self.id}, campaign_id={self.campaign_id})"

    @property
    def campaign_id(self) -> int:
        """In which campaign the lead calls."""
        return self.person[0]

    @property
    def phone_number(self) -> str:
        """Whom it calls first, in E.164 form."""
        return self.person[1]


_VALUES: Final = attrgetter(
    "id.int",
    "index",
    "derived_id",
    "person",
    "variables",
    "allow_dupplicate",
    "contacts",
    "payload_hash",
    "options",
)


def columns_of(candidates: Iterable[Candidate]) -> list[tuple[Any, ...]]:
    """Return candidates as another process gets them: by field, which takes a fifth of the time of pickling each."""
    return list(zip(*map(_VALUES, candidates), strict=True))


def of_columns(columns: Sequence[tuple[Any, ...]]) -> list[Candidate]:
    """Return the candidates that `columns_of` took apart."""
    if not columns:
        return []
    ids, *others = columns
    return list(map(Candidate, [UUID(int=one) for one in ids], *others))


@dataclass(frozen=True, slots=True)
class BatchIds:
    """Derives the ids of a batch's items: UUIDv8, 82 bits of SHA-256 over account and batch, then the index.

    They ascend with the index, so that they fill one place of the primary key's index, and leads that are due at the
    same moment go out in the order of the batch.
    """

    high: int  # above the index, with version and variant in place

    @classmethod
    def of(cls, account: str, batch_id: UUID) -> "BatchIds":
        """Return what derives the ids of this account's batch."""
        bits = int.from_bytes(sha256(f"{account}:{batch_id}".encode()).digest()[:11]) >> 6
        first, second, third = bits >> 34, (bits >> 22) & 0xFFF, bits & 0x3FFFFF
        return cls(first << 80 | _VERSION | second << 64 | _VARIANT | third << 40)

    def __call__(self, index: int, _campaign_id: int = 0) -> UUID:
        """Return the id of the item at `index`, whatever its campaign."""
        return UUID(int=self.high | index)

    @property
    def last(self) -> UUID:
        """The greatest there can be."""
        return self(MAX_ITEMS - 1)

    @staticmethod
    def place(id: UUID) -> int:
        """Return the index that an id was derived from."""
        return id.int % MAX_ITEMS

    @staticmethod
    def series(id: UUID) -> int:
        """Return the part that ids have in common which differ by their index only."""
        return id.int // MAX_ITEMS


def read_items(
    items: Iterable[Any], first_index: int, ids: Ids, read: Callable[[Any], Any] | None = None
) -> tuple[list[Candidate], list[Rejection]]:
    """Validate consecutive items of a batch, each first turned by `read`, if given; a bad item is a rejection.

    `read` says that an item is bad by raising `InvalidLead`.
    """
    candidates: list[Candidate] = []
    rejections: list[Rejection] = []
    for index, item in enumerate(items, first_index):
        try:
            candidates.append(_read(item if read is None else read(item), index, ids))
        except InvalidLead as refusal:
            rejections.append((index, refusal.errors))
    return candidates, rejections


def _read(item: object, index: int, ids: Ids) -> Candidate:
    match item:
        case dict():  # most are; asked first, because a pattern of a sequence is slow to say no
            given, given_options = item, _NO_OPTIONS
        case (first, second):
            given, given_options = cast("dict[Any, Any]", first), cast("SubmitOptions", second)
        case _:
            given, given_options = cast("dict[Any, Any]", item), _NO_OPTIONS
    plain = plain_lead(given)
    if plain is not None:
        options = SubmitOptions.parse(given_options)
        phone_number, campaign_id, variables, flag, payload_hash = plain
        contacts: tuple[tuple[str, str], ...] = ()
    else:
        lead, options = _both(given, given_options)
        phone_number, campaign_id, variables = lead.phone_number, lead.campaign_id, orjson.dumps(lead.variables)
        flag, contacts, payload_hash = lead.allow_dupplicate, _contacts(lead), lead.payload_hash()
    return Candidate(
        options.id or ids(index, campaign_id),
        index,
        options.id is None,
        (campaign_id, phone_number),
        variables.decode(),
        flag,
        contacts,
        payload_hash,
        options,
    )


def _contacts(lead: Lead) -> tuple[tuple[str, str], ...]:
    if not lead.secondary_contacts:
        return ()
    return tuple(
        (contact.phone_number, orjson.dumps(contact.variables).decode()) for contact in lead.secondary_contacts
    )


def _both(given: Lead | Mapping[str, Any], given_options: SubmitOptions) -> tuple[Lead, SubmitOptions]:
    """Return the lead and its options. Raise `InvalidLead` with the faults of both."""
    try:
        lead = Lead.parse(given)
    except InvalidLead as refusal:
        faults = refusal.errors
        try:
            SubmitOptions.parse(given_options)
        except InvalidLead as second:
            faults += second.errors
        raise InvalidLead(faults) from None
    return lead, SubmitOptions.parse(given_options)


def earliest(options: SubmitOptions, now: datetime) -> datetime:
    """Return when the lead is due, by the database's `now`."""
    return now if options.not_before is None else max(now, _moment(options.not_before, now) or now)


def latest(options: SubmitOptions, now: datetime) -> datetime | None:
    """Return when it expires, by the database's `now`."""
    return _moment(options.expires_at, now)


def _moment(given: datetime | timedelta | None, now: datetime) -> datetime | None:
    return now + given if isinstance(given, timedelta) else given


_OTHER_PAYLOAD: Final = "which was submitted with another payload"
CHANGED_UNDER_ID: Final = f"is that of a lead {_OTHER_PAYLOAD}"
CHANGED_REMEDY: Final = "submit changed items as a batch of their own"


@dataclass(frozen=True, slots=True)
class Held:
    """A lead that already has an item's key or id. `payload_hash` is None where it is another account's."""

    lead_id: UUID
    payload_hash: str | None


@dataclass(frozen=True, slots=True)
class Facts:
    """What the tables say about a chunk of items; `decide` adds what it decides.

    same   whether a stored hash is that of a payload
    """

    now: datetime
    live: dict[tuple[int, str], UUID] = field(default_factory=dict)  # (campaign, phone number) → the lead
    keys: dict[str, Held] = field(default_factory=dict)
    ids: dict[UUID, Held] = field(default_factory=dict)
    same: Callable[[str | None, str], bool] = operator.eq
    blocked: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Phone numbers that must not be called, each with what a lead says of it, as its person's or as a contact's."""
    drops_contacts: bool = False


@dataclass(slots=True)  # not frozen for the reason of `Candidate`
class NewLead:
    """A lead to be stored: pending, the duplicate of another, or failed where `blocked` says why."""

    candidate: Candidate
    due_at: datetime
    expires_at: datetime | None
    duplicate_of: UUID | None
    blocked: str | None = None

    @property
    def pending(self) -> bool:
        """Whether it will be delivered."""
        return self.duplicate_of is None and self.blocked is None

    @property
    def state(self) -> str:
        """The state that it is born in."""
        return "failed" if self.blocked is not None else "pending" if self.pending else "duplicate"


@dataclass(frozen=True, slots=True)
class Admission:
    """What becomes of each item of a chunk."""

    new_leads: list[NewLead] = field(default_factory=list)
    repeated: list[UUID] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)

    @property
    def campaign_ids(self) -> set[int]:
        """The channels that have work by this."""
        return {new_lead.candidate.campaign_id for new_lead in self.new_leads if new_lead.pending}

    def followed_by(self, other: "Admission") -> "Admission":
        """Return the items of both, this one's first."""
        return Admission(
            self.new_leads + other.new_leads,
            self.repeated + other.repeated,
            self.rejections + other.rejections,
        )

    def confirming(self, unsure: "Admission") -> "Admission":
        """Return the same, where leads that `unsure` wrote and this one found are new leads after all."""
        found = set(self.repeated)
        new_leads = [new_lead for new_lead in unsure.new_leads if new_lead.candidate.id in found]
        ours = {new_lead.candidate.id for new_lead in new_leads}
        repeated = []
        for lead_id in self.repeated:
            if lead_id in ours:
                ours.remove(lead_id)  # once: the item itself; again would be a real repetition of it
            else:
                repeated.append(lead_id)
        return Admission(self.new_leads + new_leads, repeated, self.rejections)


def decide(candidates: Iterable[Candidate], facts: Facts) -> Admission:
    """Decide about items in their order, each as `submit` would after those before it.

    The key is asked first, then the id; only a lead that is neither held counts as new, and only then do its key and
    its id become held, and its person, unless the lead allows duplicates, gets a live lead.
    """
    admission = Admission()
    for candidate in candidates:
        held = _holder(candidate, facts)
        if held is None:
            admission.new_leads.append(_new_lead(candidate, facts))
        elif facts.same(held.payload_hash, candidate.payload_hash):
            admission.repeated.append(held.lead_id)
        else:
            admission.rejections.append((candidate.index, (_conflict(candidate, held, facts),)))
    return admission


def _holder(candidate: Candidate, facts: Facts) -> Held | None:
    key = candidate.options.idempotency_key
    held = facts.keys.get(key) if key is not None else None
    return held or facts.ids.get(candidate.id)


def _new_lead(candidate: Candidate, facts: Facts) -> NewLead:
    blocked = _blocked(candidate, facts) if facts.blocked else None
    duplicate_of = None if candidate.allow_dupplicate or blocked else facts.live.get(candidate.person)
    key = candidate.options.idempotency_key
    if key is not None or not candidate.derived_id:
        held = Held(candidate.id, candidate.payload_hash)
        facts.ids[candidate.id] = held
        if key is not None:
            facts.keys[key] = held
    if duplicate_of is None and blocked is None and not candidate.allow_dupplicate:
        facts.live[candidate.person] = candidate.id
    options = candidate.options
    return NewLead(candidate, earliest(options, facts.now), latest(options, facts.now), duplicate_of, blocked)


def _blocked(candidate: Candidate, facts: Facts) -> str | None:
    """Return what the lead says of the block that it meets, its person's before a contact's; None if it meets none."""
    if candidate.phone_number in facts.blocked:
        return facts.blocked[candidate.phone_number][0]
    contacts = () if facts.drops_contacts else candidate.contacts
    return next((facts.blocked[number][1] for number, _ in contacts if number in facts.blocked), None)


def _conflict(candidate: Candidate, held: Held, facts: Facts) -> FieldError:
    key = candidate.options.idempotency_key
    if key is not None and key in facts.keys:
        fault = f"belongs to lead {held.lead_id}, {_OTHER_PAYLOAD}"
        return FieldError("idempotency_key", fault, "submit a changed lead under a key of its own")
    if held.payload_hash is None:
        return FieldError("id", "belongs to a lead of another account", "submit it under an id of its own")
    if candidate.derived_id:
        fault = f"is item {candidate.index} of this batch, {_OTHER_PAYLOAD}"
        return FieldError("batch_id", fault, CHANGED_REMEDY)
    return FieldError("id", CHANGED_UNDER_ID, "submit it under an id of its own")
