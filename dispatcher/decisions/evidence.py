"""What Postgres can keep: foreign values made harmless before they meet a `text` or `jsonb` column.

A NUL or a lone surrogate is a DataError that rolls back every good result of the same transaction, and so are `NaN`
and an integer beyond `bigint` once someone reads it into one: recording must survive such a text.
"""

import math
import re
from collections.abc import Mapping
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


_SENTENCE_MAX: Final = 300
_LONG_NUMBER: Final = re.compile(r"\+?\d[\d\s()./,_*\u2010-\u2015\u2212-]{5,}\d")
_TOKEN: Final = re.compile(r"(?i)bearer\s+\S+|(?<![\w|])(?=[\w|.~-]*\d)(?=[\w|.~-]*[a-z])[\w|.~-]{24,}")


def speaks_of_duplicate(body: Mapping[object, object], rule: re.Pattern[str]) -> bool:
    """Whether the message, or what is said of the phone number, matches the rule for duplicates."""
    errors = body.get("errors")
    spoken = [body.get("message"), body.get("error")]
    if isinstance(errors, Mapping):
        number_errors = errors.get("phone_number")
        spoken += number_errors if isinstance(number_errors, list) else [number_errors]
    return any(isinstance(text, str) and rule.search(text) for text in spoken)


def first_field_error(body: Mapping[object, object]) -> tuple[str, str]:
    """Find the first field that was refused and the first reason; empty texts if none is named."""
    errors = body.get("errors")
    if not isinstance(errors, Mapping):
        return "", ""
    for name, reasons in errors.items():
        reason = reasons[0] if isinstance(reasons, list) and reasons else reasons
        if isinstance(reason, str) and reason.strip():
            return _sentence(str(name)).rstrip("."), _sentence(reason)
    return "", ""


def said(body: object) -> str:
    """What the answer says in words, without numbers that could be a person's."""
    if not isinstance(body, Mapping):
        return ""
    for key in ("message", "error"):
        if isinstance(spoken := body.get(key), str) and spoken.strip():
            return _sentence(spoken)
    return ""


def _sentence(text: str) -> str:
    """One printable line that ends as a sentence; long numbers and tokens are masked, control characters dropped."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    line = _LONG_NUMBER.sub("•••", _TOKEN.sub("•••", line))
    if len(line) > _SENTENCE_MAX:
        line = line[: _SENTENCE_MAX - 1].rstrip() + "…"
    return line if line.endswith((".", "!", "?", "…")) else line + "."
