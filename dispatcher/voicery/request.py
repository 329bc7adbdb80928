"""The body of an answer, read with distrust: JSON of any depth and spelling becomes a storable value or a fault."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NoReturn, Protocol

import requests
from requests.auth import AuthBase

from dispatcher.decisions.evidence import BIGINT_MAX, BIGINT_MIN, MAX_DEPTH, storable, storable_text
from dispatcher.decisions.reply import BodyFault
from dispatcher.errors import NotConfigured

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
    return Body(storable(value) if _may_be_unstorable(raw) else value, text, None)


def _may_be_unstorable(raw: bytes) -> bool:
    """Whether what was decoded from `raw` can hold a NUL, a lone surrogate or too deep a nesting.

    Numbers are harmless already. Walking every value of every answer costs more than decoding it.
    """
    return b"\\u" in raw or b"\0" in raw or raw.count(b"[") + raw.count(b"{") > MAX_DEPTH


def _integer(digits: str) -> int | str:
    if len(digits) > _INTEGER_CAP:
        return digits
    value = int(digits)
    return value if BIGINT_MIN <= value <= BIGINT_MAX else digits


def _number(digits: str) -> float | str:
    number = float(digits)
    return number if math.isfinite(number) else digits


# Not strict: a raw line break inside a message must not cost us the id beside it.
_DECODER: Final = json.JSONDecoder(parse_int=_integer, parse_float=_number, parse_constant=str, strict=False)


class Secret(Protocol):
    """What pydantic's `SecretStr` offers."""

    def get_secret_value(self) -> str:
        """The secret itself."""
        ...


class BearerAuth(AuthBase):
    """Sets `Authorization: Bearer <token>` (RFC 6750) on a request; raises `NotConfigured` for an unusable token."""

    def __init__(self, token: Callable[[], str] | Secret) -> None:
        self._read = token if callable(token) else token.get_secret_value
        self._header()

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Set the header, with the token as it is now."""
        request.headers["Authorization"] = self._header()
        return request

    def _header(self) -> str:
        token = self._read()
        if not token:
            raise NotConfigured("There is no Voicery API token; set VOICERY_API_TOKEN or VOICERY_API_TOKEN_FILE.")
        if not (token.isascii() and token.isprintable()) or " " in token:
            raise NotConfigured(
                "The Voicery API token holds a line break, a space or a character outside ASCII; "
                "check VOICERY_API_TOKEN or the file that VOICERY_API_TOKEN_FILE names."
            )
        return f"Bearer {token}"

    def __repr__(self) -> str:
        return "BearerAuth(token=**********)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a token is not pickled")
