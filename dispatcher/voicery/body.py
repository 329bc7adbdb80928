"""The body of an answer, read with distrust: JSON of any size, depth and spelling becomes a storable value or a fault."""

import json
import math
from dataclasses import dataclass
from typing import Final

from dispatcher.reply import BodyFault
from dispatcher.storable import storable, storable_text

TEXT_CAP: Final = 2048
"""Characters of a body kept for people to read."""

_INTEGER_CAP: Final = 20
"""Characters of -2^63: a longer integer is kept as the text that it came as, never converted (CVE-2020-10735)."""


@dataclass(frozen=True, slots=True)
class Body:
    """`value` is None exactly if `fault` is set or the JSON was `null`."""

    value: object
    text: str
    fault: BodyFault | None


def parse_body(raw: bytes, fault: BodyFault | None = None) -> Body:
    """`raw` as a storable value, and its start as text. With a `fault` of the wire only the text is kept."""
    text = storable_text(raw[: TEXT_CAP * 4].decode("utf-8", "replace").removeprefix("\ufeff")[:TEXT_CAP])
    if fault is not None:
        return Body(None, text, fault)
    try:
        value = _DECODER.decode(raw.decode("utf-8", "replace").removeprefix("\ufeff"))
    except (ValueError, RecursionError):
        return Body(None, text, BodyFault.NOT_JSON)
    return Body(storable(value), text, None)


def _integer(digits: str) -> int | str:
    return int(digits) if len(digits) <= _INTEGER_CAP else digits


def _number(digits: str) -> float | str:
    number = float(digits)
    return number if math.isfinite(number) else digits


# Not strict: a raw line break inside a message must not cost us the id beside it.
_DECODER: Final = json.JSONDecoder(parse_int=_integer, parse_float=_number, parse_constant=str, strict=False)
