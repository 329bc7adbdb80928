"""What a refusal of Voicery says, in words that name no person: they end up in logs, tables and messages."""

import re
from collections.abc import Mapping
from typing import Final

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
