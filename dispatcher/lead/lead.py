"""A lead: whom to call, in which campaign, with what to say. Valid by construction, the same from `submit` to the wire.

The fields are those of Voicery's create-lead endpoint, spelled as there (`allow_dupplicate`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final

import orjson

from dispatcher.errors import FieldError, InvalidLead
from dispatcher.lead.contact import Contact, read_contact, read_phone, read_variables
from dispatcher.lead.fields import NOT_GIVEN, given_fields, known_fields
from dispatcher.lead.masking import mask_phone
from dispatcher.lead.options import MAX_CAMPAIGN_ID
from dispatcher.lead.phone import canonical_phone
from dispatcher.lead.variables import JsonValue, plain_json

_EXACT = 2**53
_AS_THEY_ARE = frozenset({str, int, bool, type(None)})


def canonical_json(value: object) -> bytes:
    """Encode JSON data; raises `TypeError` for anything else."""
    return orjson.dumps(_by_value(value), option=orjson.OPT_SORT_KEYS)


def _by_value(value: object) -> object:
    match value:
        case float() if abs(value) < _EXACT and value.is_integer():
            return int(value)
        case dict():
            if _AS_THEY_ARE.issuperset(map(type, value.values())):  # most are: saves half of the time
                return value
            return {name: _by_value(item) for name, item in value.items()}
        case list():
            return [_by_value(item) for item in value]
        case _:
            return value


MAX_CONTACTS: Final = 10

CAMPAIGN_REMEDY: Final = "pass the campaign's id as Voicery shows it, e.g. 42"
FLAG_REMEDY: Final = "pass True or False, or leave it out for False"

_FIELDS = ("phone_number", "campaign_id", "variables", "allow_dupplicate", "secondary_contacts", "allow_duplicate")
_PLAIN_FIELDS: Final = frozenset(_FIELDS[:4])
_NO_VARIABLES: Final[dict[str, Any]] = {}


@dataclass(frozen=True, slots=True, init=False, repr=False)
class Lead:
    """One person (with secondary contacts) to be called in one campaign; raises `InvalidLead` with every fault.

    phone_number         canonical E.164; given with or without separators
    campaign_id          Voicery's id of the campaign, 1 … 2**63-1
    variables            JSON object for the assistant; our own copy: read it, do not change it
    allow_dupplicate     False refuses a second live lead of this number in this campaign; the API's spelling
                         (`allow_duplicate` is understood as input)
    secondary_contacts   up to 10; each number once, the main one included
    """

    phone_number: str
    campaign_id: int
    variables: Mapping[str, JsonValue] = field(hash=False)
    allow_dupplicate: bool
    secondary_contacts: tuple[Contact, ...]

    def __init__(
        self,
        *,
        phone_number: str,
        campaign_id: int,
        variables: Mapping[str, Any] = NOT_GIVEN,
        allow_dupplicate: bool = NOT_GIVEN,
        secondary_contacts: Sequence[Contact | Mapping[str, Any]] = NOT_GIVEN,
        allow_duplicate: bool = NOT_GIVEN,
    ) -> None:
        given = given_fields(
            phone_number=phone_number,
            campaign_id=campaign_id,
            variables=variables,
            allow_dupplicate=allow_dupplicate,
            secondary_contacts=secondary_contacts,
            allow_duplicate=allow_duplicate,
        )
        _fill(self, given)

    @classmethod
    def parse(cls, value: "Lead | Mapping[str, Any]") -> "Lead":
        """Return the lead, or the one that the mapping describes; an unknown key is a fault."""
        if isinstance(value, Lead):
            return value
        lead = object.__new__(cls)
        _fill(lead, value)
        return lead

    def payload(self) -> dict[str, JsonValue]:
        """Return the body of Voicery's create-lead request."""
        return request_body(
            phone_number=self.phone_number,
            campaign_id=self.campaign_id,
            variables=self.variables,
            allow_dupplicate=self.allow_dupplicate,
            secondary_contacts=[(contact.phone_number, contact.variables) for contact in self.secondary_contacts],
        )

    def payload_hash(self) -> str:
        """Return the SHA-256 in hex of the payload as canonical JSON; the options of `submit` are no part of it.

        It outlives the code (idempotency keys are kept 400 days): another form would turn repetitions into conflicts.
        """
        return sha256(canonical_json(self.payload())).hexdigest()

    def __repr__(self) -> str:
        return (
            f"Lead(phone_number={mask_phone(self.phone_number)!r}, campaign_id={self.campaign_id}, "
            f"variables=<{len(self.variables)}>, allow_dupplicate={self.allow_dupplicate}, "
            f"secondary_contacts=<{len(self.secondary_contacts)}>)"
        )


def plain_lead(given: dict[Any, Any]) -> tuple[str, int, bytes, bool, str] | None:
    """Return number, campaign, JSON of the variables, flag and payload's hash of a lead; None where `Lead` must look.

    For the many leads of a batch: one pass over what most are, valid and without contacts, which says of none anything
    else than `Lead` would. It takes a third of the time.
    """
    if type(given) is not dict or not given.keys() <= _PLAIN_FIELDS:
        return None
    campaign_id, flag = given.get("campaign_id"), given.get("allow_dupplicate", False)
    if type(campaign_id) is not int or not 1 <= campaign_id <= MAX_CAMPAIGN_ID or type(flag) is not bool:
        return None
    phone_number = canonical_phone(given.get("phone_number"), "phone_number")
    variables = given.get("variables", _NO_VARIABLES)
    json_text = plain_json(variables)
    if isinstance(phone_number, FieldError) or json_text is None:
        return None
    # As `payload_hash`: no number in it is a float, so that sorting is all that is left.
    canonical = b'{"allow_dupplicate":%b,"campaign_id":%d,"phone_number":"%b","variables":%b}' % (
        b"true" if flag else b"false",
        campaign_id,
        phone_number.encode(),
        json_text if len(variables) < 2 else orjson.dumps(variables, option=orjson.OPT_SORT_KEYS),
    )
    return phone_number, campaign_id, json_text, flag, sha256(canonical).hexdigest()


def request_body(
    *,
    phone_number: str,
    campaign_id: int,
    variables: Mapping[str, JsonValue],
    allow_dupplicate: bool,
    secondary_contacts: Iterable[tuple[str, Mapping[str, JsonValue]]] = (),
) -> dict[str, JsonValue]:
    """Build the body of Voicery's create-lead request, from a lead or from its stored row; nothing is checked again.

    `secondary_contacts` is left out when there are none.
    """
    body: dict[str, JsonValue] = {
        "phone_number": phone_number,
        "campaign_id": campaign_id,
        "variables": dict(variables),
        "allow_dupplicate": allow_dupplicate,
    }
    contacts: list[JsonValue] = [
        {"phone_number": number, "variables": dict(its_variables)} for number, its_variables in secondary_contacts
    ]
    if contacts:
        body["secondary_contacts"] = contacts
    return body


def _fill(lead: Lead, given: object) -> None:
    faults: list[FieldError] = []
    fields = known_fields(given, _FIELDS, faults, otherwise="put what the assistant needs into variables")
    if fields is None:
        raise InvalidLead(faults)
    phone_number = read_phone(fields, "", faults)
    campaign_id = _read_campaign_id(fields, faults)
    variables = read_variables(fields, "", faults)
    allow_dupplicate = _read_flag(fields, faults)
    contacts = _read_contacts(fields, phone_number, faults)
    if faults:
        raise InvalidLead(faults)
    object.__setattr__(lead, "phone_number", phone_number)
    object.__setattr__(lead, "campaign_id", campaign_id)
    object.__setattr__(lead, "variables", variables)
    object.__setattr__(lead, "allow_dupplicate", allow_dupplicate)
    object.__setattr__(lead, "secondary_contacts", contacts)


def _read_campaign_id(fields: Mapping[Any, object], faults: list[FieldError]) -> int:
    match fields.get("campaign_id", NOT_GIVEN):
        case bool():
            fault = "is of type bool, not an integer"
        case int() as campaign_id if 1 <= campaign_id <= MAX_CAMPAIGN_ID:
            return int(campaign_id)
        case int():
            fault = "is not between 1 and 2**63-1"
        case missing if missing is NOT_GIVEN:
            fault = "is missing"
        case other:
            fault = f"is of type {type(other).__name__}, not an integer"
    faults.append(FieldError("campaign_id", fault, CAMPAIGN_REMEDY))
    return 0


def _read_flag(fields: Mapping[Any, object], faults: list[FieldError]) -> bool:
    names = [name for name in ("allow_dupplicate", "allow_duplicate") if name in fields]
    if len(names) == 2:
        faults.append(FieldError("allow_duplicate", "is given in both spellings", "pass allow_dupplicate only"))
    for name in names:
        if not isinstance(fields[name], bool):
            fault = f"is of type {type(fields[name]).__name__}, not a bool"
            faults.append(FieldError(name, fault, FLAG_REMEDY))
    return bool(names) and fields[names[0]] is True


def _read_contacts(fields: Mapping[Any, object], phone_number: str, faults: list[FieldError]) -> tuple[Contact, ...]:
    given = fields.get("secondary_contacts", ())
    if not isinstance(given, list | tuple):
        remedy = "pass a list of {phone_number, variables}, or leave it out"
        faults.append(FieldError("secondary_contacts", f"is of type {type(given).__name__}, not a list", remedy))
        return ()
    if len(given) > MAX_CONTACTS:
        remedy = "submit the others as leads of their own"
        faults.append(FieldError("secondary_contacts", f"has {len(given)} contacts, more than {MAX_CONTACTS}", remedy))
        return ()
    contacts: list[Contact] = []
    holders = {phone_number: "phone_number"}
    for index, item in enumerate(given):
        where = f"secondary_contacts[{index}]"
        contact = read_contact(item, where, faults)
        if contact is None:
            continue
        contacts.append(contact)
        holder = holders.setdefault(contact.phone_number, f"{where}.phone_number")
        if holder != f"{where}.phone_number":
            fault = f"is the same number as {holder}"
            faults.append(FieldError(f"{where}.phone_number", fault, "name each person once"))
    return tuple(contacts)
