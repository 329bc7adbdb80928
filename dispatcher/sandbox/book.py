"""The leads the sandbox holds, and the searches the list endpoint offers."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from dispatcher.sandbox.creation import Creation


@dataclass(frozen=True, slots=True)
class StoredContact:
    """A secondary contact, with an id of its own."""

    id: int
    phone_number: str
    variables: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class StoredLead:
    """As the API would hold it. Contacts take the ids right after their lead's."""

    id: int
    campaign_id: int
    phone_number: str
    variables: Mapping[str, Any]
    contacts: tuple[StoredContact, ...]
    created_at: float  # unix seconds
    status: str = "created"


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What the list is asked for. Dates are `YYYY-MM-DD` in the sandbox's zone, both inclusive."""

    digits: str = ""  # found anywhere in the number
    status: str | None = None
    campaign_id: int | None = None
    date_from: str | None = None
    date_to: str | None = None


def digits_of(phone_number: str) -> str:
    """The number without `+` and separators: how numbers are compared."""
    return "".join(character for character in phone_number if character.isdecimal())


class LeadBook:
    """Ids rise by one from 1, contacts included, and are never used twice."""

    def __init__(self, known_variables: frozenset[str] | None, utc_offset_hours: float) -> None:
        self._known_variables = known_variables
        self._utc_offset_seconds = utc_offset_hours * 3600
        self._leads: dict[int, StoredLead] = {}
        self._by_number: dict[tuple[int, str], int] = {}
        self._answered: set[int] = set()
        self.next_id = 1

    def __len__(self) -> int:
        return len(self._leads)

    def all(self) -> list[StoredLead]:
        """Oldest first; a copy, safe to read from another thread."""
        return list(self._leads.values())

    def draft(self, creation: Creation, now: float) -> StoredLead:
        """The lead as it would be created now; nothing is kept."""
        return self._build(creation, self.next_id, now)

    def keep(self, lead: StoredLead) -> None:
        """Enter the lead; its id and those of its contacts are used up."""
        self._leads[lead.id] = lead
        self._by_number.setdefault((lead.campaign_id, digits_of(lead.phone_number)), lead.id)
        self.next_id = max(self.next_id, lead.id + 1 + len(lead.contacts))

    def restore(self, creation: Creation, lead_id: int, at: float) -> None:
        """Keep a lead again that an earlier run created."""
        self.keep(self._build(creation, lead_id, at))

    def mark_answered(self, lead_id: int) -> None:
        """Its creation was answered with a usable 2xx."""
        self._answered.add(lead_id)

    def was_answered(self, lead: StoredLead) -> bool:
        """Whether `mark_answered` was said of it, in this run or an earlier one."""
        return lead.id in self._answered

    def same_number(self, campaign_id: int, phone_number: str) -> StoredLead | None:
        """The first lead of this number in this campaign."""
        found = self._by_number.get((campaign_id, digits_of(phone_number)))
        return None if found is None else self._leads[found]

    def search(self, search: Search, visible: Callable[[StoredLead], bool] | None = None) -> list[StoredLead]:
        """Newest first."""
        found: Iterable[StoredLead] = reversed(self._leads.values())
        if search.campaign_id is not None:
            found = (lead for lead in found if lead.campaign_id == search.campaign_id)
        if search.digits:
            found = (lead for lead in found if search.digits in digits_of(lead.phone_number))
        if search.status is not None:
            found = (lead for lead in found if lead.status == search.status)
        if search.date_from is not None:
            found = (lead for lead in found if self.timestamp(lead.created_at)[:10] >= search.date_from)
        if search.date_to is not None:
            found = (lead for lead in found if self.timestamp(lead.created_at)[:10] <= search.date_to)
        return [lead for lead in found if visible is None or visible(lead)]

    def timestamp(self, at: float) -> str:
        """`YYYY-MM-DD HH:MM:SS` in the sandbox's zone, as the API writes it."""
        return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(at + self._utc_offset_seconds))

    def _build(self, creation: Creation, lead_id: int, at: float) -> StoredLead:
        contacts = tuple(
            StoredContact(lead_id + position, contact.phone_number, self._kept(contact.variables))
            for position, contact in enumerate(creation.contacts, start=1)
        )
        variables = self._kept(creation.variables)
        return StoredLead(
            lead_id,
            creation.campaign_id,
            creation.phone_number,
            variables,
            contacts,
            at,
        )

    def _kept(self, variables: Mapping[str, Any]) -> Mapping[str, Any]:
        if self._known_variables is None:
            return variables
        return {name: value for name, value in variables.items() if name in self._known_variables}
