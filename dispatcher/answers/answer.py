"""What a yes of Voicery contains: the id, the echo of what was sent, the contacts. Read with distrust."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

ID_MAX: Final = 2**63 - 1

_TEXT_MAX: Final = 100
_NOT_DIGIT: Final = re.compile(r"\D+")


@dataclass(frozen=True, slots=True)
class CreatedContact:
    """A secondary contact as Voicery holds it."""

    position: int
    voicery_lead_id: int
    voicery_status: str | None


def created_data(body: object) -> Mapping[str, object] | None:
    """Find the `data` object of an answer, also of one wrapped in a one-element list, as older docs show."""
    body = _unwrapped(body)
    if isinstance(body, Mapping) and "data" in body:
        body = _unwrapped(body["data"])
    return body if isinstance(body, Mapping) else None


def usable_id(value: object) -> int | None:
    """Read an id: Voicery sends integers, in older docs strings of digits. 1 … 2**63 - 1, else None."""
    if isinstance(value, str) and 0 < len(value) <= 19 and value.isascii() and value.isdigit():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 1 <= value <= ID_MAX else None


def is_number(echo: object) -> bool:
    """Whether a value can be a phone number, as text or as an integer; text without digits is no echo."""
    if isinstance(echo, bool) or not isinstance(echo, str | int):
        return False
    return _digits(str(echo)) != ""


def same_number(echo: str, sent: str) -> bool:
    """Whether two spellings are one number, compared as digits: an echo without `+` is still an echo."""
    return _digits(echo) == _digits(sent)


def match_contacts(returned: object, sent: Sequence[str]) -> tuple[tuple[CreatedContact, ...], Mapping[str, object]]:
    """Give each returned contact its place by its phone number; say as evidence what did not fit."""
    places = {_digits(number): position for position, number in enumerate(sent)}
    found: dict[int, CreatedContact] = {}
    unexpected = 0
    for row in returned if isinstance(returned, list) else []:
        contact = _created_contact(row, places)
        if contact is None or contact.position in found:
            unexpected += 1
        else:
            found[contact.position] = contact
    evidence: dict[str, object] = {}
    if missing := [position for position in range(len(sent)) if position not in found]:
        evidence["contacts_missing"] = missing
    if unexpected:
        evidence["contacts_unexpected"] = unexpected
    if list(found) != sorted(found):
        evidence["contacts_reordered"] = True
    return tuple(found[position] for position in sorted(found)), evidence


def text_of(value: object) -> str | None:
    """Read a short text such as a status; None for anything else."""
    return value[:_TEXT_MAX] if isinstance(value, str) else None


def _created_contact(row: object, places: Mapping[str, int]) -> CreatedContact | None:
    if not isinstance(row, Mapping):
        return None
    echo = row.get("phone_number")
    position = places.get(_digits(str(echo))) if is_number(echo) else None
    voicery_lead_id = usable_id(row.get("id"))
    if position is None or voicery_lead_id is None:
        return None
    return CreatedContact(position, voicery_lead_id, text_of(row.get("status")))


def _unwrapped(value: object) -> object:
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _digits(number: str) -> str:
    return _NOT_DIGIT.sub("", number).removeprefix("00")
