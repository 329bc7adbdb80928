"""The leads that the sandbox holds, and the searches of its list endpoint."""

import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

_E164 = re.compile(r"\+?[1-9]\d{6,14}")
_BOOLEANS: tuple[Any, ...] = (True, False, "0", "1")  # 0 and 1 equal False and True


@dataclass(frozen=True, slots=True)
class BookedContact:
    """A secondary contact of a request."""

    phone_number: str
    variables: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Creation:
    """A valid request to create a lead."""

    campaign_id: int
    phone_number: str
    variables: Mapping[str, Any]
    allow_dupplicate: bool
    contacts: tuple[BookedContact, ...]


@dataclass(frozen=True, slots=True)
class Invalid:
    """Field → messages, in the order of the fields."""

    errors: Mapping[str, list[str]]

    @property
    def message(self) -> str:
        """The first message and the number of others, as Laravel writes it."""
        messages = [message for of_field in self.errors.values() for message in of_field]
        more = len(messages) - 1
        return messages[0] + (f" (and {more} more error{'s' if more > 1 else ''})" if more else "")


def read_creation(body: object, campaigns: Mapping[int, str] | None) -> Creation | Invalid:
    """Validate a body; a non-object counts as empty, as in Laravel. `campaigns` None: every positive id exists."""
    fields = body if isinstance(body, dict) else {}
    errors: dict[str, list[str]] = {}
    phone_number = _phone_number(fields, "phone_number", errors)
    campaign_id = _campaign_id(fields.get("campaign_id"), campaigns, errors)
    variables = _variables(fields.get("variables"), "variables", errors)
    flag = fields.get("allow_dupplicate", False)
    if flag not in _BOOLEANS:
        errors["allow_dupplicate"] = ["The allow dupplicate field must be true or false."]
    contacts = _contacts(fields.get("secondary_contacts"), errors)
    if errors:
        return Invalid(errors)
    return Creation(campaign_id, phone_number, variables, flag in (True, "1"), contacts)


def _phone_number(fields: Mapping[str, Any], name: str, errors: dict[str, list[str]]) -> str:
    value = fields.get("phone_number")
    label = name.replace("_", " ")
    if value is None or value == "":
        errors[name] = [f"The {label} field is required."]
    elif not isinstance(value, str) or _E164.fullmatch(value) is None:
        errors[name] = [f"The {label} field format is invalid."]
    else:
        return value
    return ""


def _campaign_id(value: object, campaigns: Mapping[int, str] | None, errors: dict[str, list[str]]) -> int:
    if value is None or value == "":
        errors["campaign_id"] = ["The campaign id field is required."]
        return 0
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,18}", value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        errors["campaign_id"] = ["The campaign id field must be an integer."]
        return 0
    if value < 1 or (campaigns is not None and value not in campaigns):
        errors["campaign_id"] = ["The selected campaign id is invalid."]
    return value


def _variables(value: object, name: str, errors: dict[str, list[str]]) -> Mapping[str, Any]:
    if value is None or value == []:  # PHP writes an empty object as an empty array
        return {}
    if isinstance(value, dict):
        return value
    errors[name] = [f"The {name} field must be an array."]
    return {}


def _contacts(value: object, errors: dict[str, list[str]]) -> tuple[BookedContact, ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        errors["secondary_contacts"] = ["The secondary contacts field must be an array."]
        return ()
    found = []
    for index, item in enumerate(value):
        fields = item if isinstance(item, dict) else {}
        where = f"secondary_contacts.{index}"
        phone_number = _phone_number(fields, f"{where}.phone_number", errors)
        found.append(
            BookedContact(
                phone_number,
                _variables(fields.get("variables"), f"{where}.variables", errors),
            )
        )
    return tuple(found)


@dataclass(frozen=True, slots=True)
class StoredContact:
    """A secondary contact, with an id of its own."""

    id: int
    phone_number: str
    variables: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class StoredLead:
    """A lead as the API holds it. Contacts take the ids right after their lead's."""

    id: int
    campaign_id: int
    phone_number: str
    variables: Mapping[str, Any]
    contacts: tuple[StoredContact, ...]
    created_at: float  # unix seconds
    status: str = "created"


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """A search of the list. Dates are `YYYY-MM-DD` in the sandbox's zone, both inclusive."""

    digits: str = ""  # found anywhere in the number
    status: str | None = None
    campaign_id: int | None = None
    date_from: str | None = None
    date_to: str | None = None


def digits_of(phone_number: str) -> str:
    """Return the digits of the number, by which numbers are compared."""
    return "".join(character for character in phone_number if character.isdecimal())


class LeadBook:
    """Ids rise by one from 1, contacts included, and are never used twice."""

    def __init__(self, known_variables: frozenset[str] | None, utc_offset_hours: float) -> None:
        self._known_variables = known_variables
        self._utc_offset_seconds = utc_offset_hours * 3600
        self._leads: dict[int, StoredLead] = {}
        self._by_number: dict[tuple[int, str], int] = {}
        self._answered: set[int] = set()
        self._tokens: dict[int, str] = {}
        self._statuses: dict[int, str] = {}
        self.next_id = 1

    def __len__(self) -> int:
        return len(self._leads)

    def all(self) -> list[StoredLead]:
        """Return a copy of all leads, oldest first. Thread-safe."""
        return list(self._leads.values())

    def draft(self, creation: Creation, now: float) -> StoredLead:
        """Return the lead as it would be created now, without keeping it."""
        return self._build(creation, self.next_id, now)

    def keep(self, lead: StoredLead) -> None:
        """Keep the lead; its id and those of its contacts are used."""
        self._leads[lead.id] = lead
        self._by_number.setdefault((lead.campaign_id, digits_of(lead.phone_number)), lead.id)
        self.next_id = max(self.next_id, lead.id + 1 + len(lead.contacts))

    def restore(self, creation: Creation, lead_id: int, at: float) -> None:
        """Keep a lead again that an earlier run created."""
        self.keep(self._build(creation, lead_id, at))

    def mark_answered(self, lead_id: int) -> None:
        """Record that the creation was answered with a usable 2xx."""
        self._answered.add(lead_id)

    def was_answered(self, lead: StoredLead) -> bool:
        """Return whether the creation was answered with a usable 2xx, in this run or an earlier one."""
        return lead.id in self._answered

    def note_token(self, lead_id: int, token: str) -> None:
        """Keep the token that the lead was created with."""
        self._tokens[lead_id] = token

    def token_of(self, lead: StoredLead) -> str | None:
        """Return the token that the lead was created with in this run; None for one of an earlier run."""
        return self._tokens.get(lead.id)

    def set_status(self, lead_id: int, status: str) -> None:
        """Give a lead another status, as calling it would."""
        self._statuses[lead_id] = status

    def status_of(self, lead: StoredLead) -> str:
        """Return the present status of a lead."""
        return self._statuses.get(lead.id, lead.status)

    def same_number(self, campaign_id: int, phone_number: str) -> StoredLead | None:
        """Return the first lead of this number in this campaign."""
        found = self._by_number.get((campaign_id, digits_of(phone_number)))
        return None if found is None else self._leads[found]

    def search(self, search: Search) -> list[StoredLead]:
        """Return the matching leads, newest first."""
        found: Iterable[StoredLead] = reversed(self._leads.values())
        if search.campaign_id is not None:
            found = (lead for lead in found if lead.campaign_id == search.campaign_id)
        if search.digits:
            found = (lead for lead in found if search.digits in digits_of(lead.phone_number))
        if search.status is not None:
            found = (lead for lead in found if self.status_of(lead) == search.status)
        if search.date_from is not None:
            found = (lead for lead in found if self.timestamp(lead.created_at)[:10] >= search.date_from)
        if search.date_to is not None:
            found = (lead for lead in found if self.timestamp(lead.created_at)[:10] <= search.date_to)
        return list(found)

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
