"""A secondary contact: another person of the same lead, whom Voicery calls in the same campaign."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dispatcher.errors import FieldError, InvalidLead
from dispatcher.lead.fields import NOT_GIVEN, at, given_fields, known_fields
from dispatcher.lead.masking import mask_phone
from dispatcher.lead.phone import canonical_phone
from dispatcher.lead.variables import JsonValue, check_variables
from dispatcher.lead.written_number import EXAMPLE

_FIELDS = ("phone_number", "variables")


@dataclass(frozen=True, slots=True, init=False, repr=False)
class Contact:
    """Valid by construction: raises `InvalidLead` with every fault.

    phone_number   canonical E.164; given with or without separators
    variables      JSON object for the assistant; our own copy: read it, do not change it
    """

    phone_number: str
    variables: Mapping[str, JsonValue] = field(hash=False)

    def __init__(self, *, phone_number: str, variables: Mapping[str, Any] = NOT_GIVEN) -> None:
        _fill(self, given_fields(phone_number=phone_number, variables=variables))

    @classmethod
    def parse(cls, value: "Contact | Mapping[str, Any]") -> "Contact":
        """Return the contact, or the one that the mapping describes; an unknown key is a fault."""
        if isinstance(value, Contact):
            return value
        contact = object.__new__(cls)
        _fill(contact, value)
        return contact

    def __repr__(self) -> str:
        return f"Contact(phone_number={mask_phone(self.phone_number)!r}, variables=<{len(self.variables)}>)"


def read_contact(given: object, where: str, faults: list[FieldError]) -> Contact | None:
    """Return the contact at `where` inside a lead, or None after adding its faults."""
    if isinstance(given, Contact):
        return given
    before = len(faults)
    phone_number, variables = _read(given, where, faults)
    if len(faults) > before:
        return None
    contact = object.__new__(Contact)
    _set(contact, phone_number, variables)
    return contact


def read_phone(fields: Mapping[Any, object], where: str, faults: list[FieldError]) -> str:
    """Return the canonical `phone_number` of a lead or contact, or "" after adding its fault."""
    field_name = at(where, "phone_number")
    if "phone_number" not in fields:
        faults.append(FieldError(field_name, "is missing", EXAMPLE))
        return ""
    phone_number = canonical_phone(fields["phone_number"], field_name)
    if isinstance(phone_number, FieldError):
        faults.append(phone_number)
        return ""
    return phone_number


def read_variables(fields: Mapping[Any, object], where: str, faults: list[FieldError]) -> dict[str, JsonValue]:
    """Return a copy of the `variables` of a lead or contact; left out means none."""
    if "variables" not in fields:
        return {}
    variables, its_faults = check_variables(fields["variables"], at(where, "variables"))
    faults += its_faults
    return variables


def _fill(contact: Contact, given: object) -> None:
    faults: list[FieldError] = []
    phone_number, variables = _read(given, "", faults)
    if faults:
        raise InvalidLead(faults)
    _set(contact, phone_number, variables)


def _read(given: object, where: str, faults: list[FieldError]) -> tuple[str, dict[str, JsonValue]]:
    fields = known_fields(given, _FIELDS, faults, where=where, otherwise="put what the assistant needs into variables")
    if fields is None:
        return "", {}
    return read_phone(fields, where, faults), read_variables(fields, where, faults)


def _set(contact: Contact, phone_number: str, variables: dict[str, JsonValue]) -> None:
    object.__setattr__(contact, "phone_number", phone_number)
    object.__setattr__(contact, "variables", variables)
