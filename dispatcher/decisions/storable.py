"""What Postgres can keep: foreign values made harmless before they meet a `text` or `jsonb` column.

A NUL or a lone surrogate is a DataError that rolls back every good result of the same transaction, and so are `NaN`
and an integer beyond `bigint` once someone reads it into one: recording must survive such a text.
"""

import math
import re
from typing import Final

BIGINT_MIN: Final = -(2**63)
BIGINT_MAX: Final = 2**63 - 1
MAX_DEPTH: Final = 64
"""Levels of arrays and objects kept; what lies deeper becomes the text `…`."""

_REPLACEMENT: Final = "\ufffd"
_UNSTORABLE: Final = re.compile("[\x00\ud800-\udfff]")


def storable_text(text: str) -> str:
    """`text` with every NUL and lone surrogate replaced by U+FFFD."""
    return _UNSTORABLE.sub(_REPLACEMENT, text)


def storable(value: object, *, depth: int = MAX_DEPTH) -> object:
    """`value` as JSON that `jsonb` accepts and any JSON reader understands; never raises, never nests past `depth`.

    Integers beyond 63 bits, `NaN` and the infinities become text; keys become text; what is no JSON becomes its `str`.
    """
    match value:
        case None | bool():
            return value
        case str():
            return storable_text(value)
        case int():
            return value if BIGINT_MIN <= value <= BIGINT_MAX else _integer_text(value)
        case float():
            return value if math.isfinite(value) else str(value)
        case dict() if depth > 0:
            return {storable_text(str(key)): storable(item, depth=depth - 1) for key, item in value.items()}
        case list() | tuple() if depth > 0:
            return [storable(item, depth=depth - 1) for item in value]
        case dict() | list() | tuple():
            return "…"
        case _:
            return storable_text(str(value))


def _integer_text(value: int) -> str:
    try:
        return str(value)
    except ValueError:  # Python refuses to write out more than 4300 digits (CVE-2020-10735)
        return f"an integer of {value.bit_length()} bits"
