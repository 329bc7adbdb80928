"""The items of a batch, validated and flat: what `submit_many` needs of each, cheap to hand to another process.

The id of an item that brings none is derived from (account, batch, index), so that a repeated run of the same batch
meets the leads of the first one instead of making new ones.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, Final, cast
from uuid import UUID

import orjson

from dispatcher.errors import FieldError, InvalidLead
from dispatcher.leads.lead import Lead
from dispatcher.leads.options import SubmitOptions

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

    index: int
    id: UUID
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


@dataclass(frozen=True, slots=True)
class BatchIds:
    """Derives the ids of a batch's items: UUIDv8, 82 bits of SHA-256 over account and batch, then the index.

    They ascend with the index, so that they fill one place of the primary key's index, and leads that are due at the
    same moment go out in the order of the batch.
    """

    high: int  # above the index, with version and variant in place

    @classmethod
    def of(cls, account: str, batch_id: UUID) -> "BatchIds":
        """The ids of this account's batch."""
        bits = int.from_bytes(sha256(f"{account}:{batch_id}".encode()).digest()[:11]) >> 6
        first, second, third = bits >> 34, (bits >> 22) & 0xFFF, bits & 0x3FFFFF
        return cls(first << 80 | _VERSION | second << 64 | _VARIANT | third << 40)

    def __call__(self, index: int, _campaign_id: int = 0) -> UUID:
        """The id of the item at `index`, whatever its campaign."""
        return UUID(int=self.high | index)

    @property
    def last(self) -> UUID:
        """The greatest there can be."""
        return self(MAX_ITEMS - 1)

    @staticmethod
    def place(id: UUID) -> int:
        """The index that an id was derived from."""
        return id.int % MAX_ITEMS

    @staticmethod
    def series(id: UUID) -> int:
        """What all ids have in common that differ by their index only."""
        return id.int // MAX_ITEMS


def read_items(
    items: Iterable[Any], first_index: int, ids: Ids, read: Callable[[Any], Any] | None = None
) -> tuple[list[Candidate], list[Rejection]]:
    """Validate consecutive items of a batch, each first turned by `read`, if given. Bad items never raise.

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
            lead, options = Lead.parse(item), _NO_OPTIONS
        case (given, given_options):
            lead, options = _both(cast("Lead", given), cast("SubmitOptions", given_options))
        case _:
            lead, options = Lead.parse(cast("Lead", item)), _NO_OPTIONS
    return Candidate(
        index=index,
        id=options.id or ids(index, lead.campaign_id),
        derived_id=options.id is None,
        person=(lead.campaign_id, lead.phone_number),
        variables=orjson.dumps(lead.variables).decode(),
        allow_dupplicate=lead.allow_dupplicate,
        contacts=_contacts(lead),
        payload_hash=lead.payload_hash(),
        options=options,
    )


def _contacts(lead: Lead) -> tuple[tuple[str, str], ...]:
    if not lead.secondary_contacts:
        return ()
    return tuple(
        (contact.phone_number, orjson.dumps(contact.variables).decode()) for contact in lead.secondary_contacts
    )


def _both(given: Lead, given_options: SubmitOptions) -> tuple[Lead, SubmitOptions]:
    """The lead and its options; the faults of both at once."""
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
    """When the lead is due, by the database's `now`."""
    return now if options.not_before is None else max(now, _moment(options.not_before, now) or now)


def latest(options: SubmitOptions, now: datetime) -> datetime | None:
    """When it expires, by the database's `now`."""
    return _moment(options.expires_at, now)


def _moment(given: datetime | timedelta | None, now: datetime) -> datetime | None:
    return now + given if isinstance(given, timedelta) else given
