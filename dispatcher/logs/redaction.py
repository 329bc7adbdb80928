"""Redaction of log lines: no phone number, token or password, and nothing that forges a line or hides text.

A second line of defence: no event carries such a value in the first place, but texts of other libraries and of
exceptions pass through here too.
"""

import re
from collections.abc import Iterable
from typing import Final

from dispatcher.lead.masking import mask_phone
from dispatcher.printable import printable

HIDDEN: Final = "•••"

SHORTEST_SECRET: Final = 8
"""Shorter secrets are not searched for: they would match ordinary words."""

_KEPT_OR_NUMBER: Final = re.compile(
    # Digits that are no phone number: ids, times, addresses, longest first.
    r"(?P<kept>"
    r"\b[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}\b"
    r"|\b\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?\b"
    r"|(?<![\d.])\d{1,3}(?:\.\d{1,3}){3}(?![\d.])"
    r"|\b\d+\.\d+\b(?=\s?(?:s|ms|seconds)\b)"
    r")"
    r"|\+?\d(?:[ ().\-/]{0,2}\d){6,}"
)
_BEARER: Final = re.compile(r"(?i)\b(bearer|basic)(\s+|%20)[A-Za-z0-9._~+/=-]{4,}")
_HEADER: Final = re.compile(
    r"(?i)(authorization|x-api-key|api[_-]?token|password|secret)(['\"]?\s*[:=]\s*['\"]?)(?!bearer\b|basic\b)"
    r"[^\s'\",;&}]{4,}"
)
_INTAKE_KEY: Final = re.compile(r"(vdk_[a-z]{10}_)[A-Za-z0-9_-]+")
_PASSWORD_IN_URL: Final = re.compile(r"(?<=://)([^\s:/@]*):[^\s@/]+@")


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """Return `text` without phone numbers, credentials and the given secrets. Ids, times and IP addresses remain."""
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    if "://" in text:
        text = _PASSWORD_IN_URL.sub(rf"\1:{HIDDEN}@", text)
    text = _INTAKE_KEY.sub(rf"\1{HIDDEN}", text)
    text = _BEARER.sub(rf"\1 {HIDDEN}", text)
    text = _HEADER.sub(rf"\1\2{HIDDEN}", text)
    return _KEPT_OR_NUMBER.sub(_masked, text)


def where_raised(error: BaseException) -> str:
    """Return the type of the error and our innermost line; its text may contain personal data."""
    place, trace = "", error.__traceback__
    while trace is not None:
        module = trace.tb_frame.f_globals.get("__name__", "")
        if module.startswith("dispatcher"):
            place = f" in {module}:{trace.tb_lineno}"
        trace = trace.tb_next
    return type(error).__name__ + place


def one_line(text: str) -> str:
    r"""Return `text` with every control character written out, as `\n` or `\x1b`."""
    return printable(text)


def indented(text: str) -> str:
    """Indent each line of a text, e.g. a traceback, and write all other control characters out."""
    return "\n".join("    " + line for line in printable(text, keep="\n\t").split("\n"))


def _masked(found: re.Match[str]) -> str:
    return found.group() if found.group("kept") else mask_phone(found.group())
