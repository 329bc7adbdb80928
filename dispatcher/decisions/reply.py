"""What one exchange with Voicery came to, as a value: the adapter makes it, `outcome.classify` reads it."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final


class WireFault(StrEnum):
    """Why no complete answer arrived. `Reply.written` says whether a server may have the whole request."""

    DNS = "dns"  # the name did not resolve
    REFUSED = "refused"  # nobody listens, or no route
    CONNECT_TIMEOUT = "connect_timeout"
    TLS = "tls"  # handshake failed, stalled, or the certificate is wrong
    CONNECTION = "connection"  # any other failure before the first byte
    READ_TIMEOUT = "read_timeout"  # the connection was silent for the read timeout
    DEADLINE = "deadline"  # the whole exchange took longer than its deadline
    RESET = "reset"
    CLOSED = "closed"  # closed before the answer was complete
    PROTOCOL = "protocol"  # what came back is not HTTP
    LEASE = "lease"  # given back before the first byte: too little of the lease was left
    BUG = "bug"  # an exception of our own


class BodyFault(StrEnum):
    """Why the body of an answer that had a status line is unusable."""

    TRUNCATED = "truncated"  # closed, reset or silent before the announced end
    OVERSIZE = "oversize"
    DEADLINE = "deadline"
    ENCODING = "encoding"  # a content encoding that we did not ask for, and cannot undo
    FRAMING = "framing"  # two different lengths: where the body ends cannot be told
    NOT_JSON = "not_json"
    BUG = "bug"  # an exception of our own after the status line


@dataclass(frozen=True, slots=True)
class Reply:
    """One exchange. Exactly one of `status` and `fault` is set.

    `body` is parsed JSON made storable (no NUL, no lone surrogate, no NaN); `text` is the start of the body as
    storable text, for people to read. Header names are lower case. Nothing here holds the token or the URL.
    """

    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: object = None
    text: str = ""
    body_fault: BodyFault | None = None
    fault: WireFault | None = None
    detail: str = ""  # one technical phrase without addresses or values, e.g. "certificate verify failed"
    written: bool = False  # False: the last byte of the request never left, so that no server can have it whole


ID_MAX: Final = 2**63 - 1

_TEXT_MAX: Final = 100
_FLOAT_EXACT: Final = 2**53
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
    """Read an id: Voicery sends integers, in older docs strings of digits. 1 … 2**63 - 1, else None.

    A whole number that was written as a float (`7.0`) is one too, as far as floats hold whole numbers exactly.
    """
    if isinstance(value, float) and value.is_integer() and abs(value) < _FLOAT_EXACT:
        value = int(value)
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


def digits_of(text: str) -> str:
    """Return the decimal digits of a text, of any script, as those of ASCII."""
    digits = _NOT_DIGIT.sub("", text)
    return digits if digits.isascii() else "".join(str(unicodedata.decimal(digit)) for digit in digits)


def _digits(number: str) -> str:
    return digits_of(number).removeprefix("00")
