"""The filters of leads, and of failed ones, as query parameters, with the same names as on the command line."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, Generic, TypeVar
from urllib.parse import parse_qsl, urlencode
from uuid import UUID

from dispatcher import moments
from dispatcher.console.request import BadRequest, whole
from dispatcher.decisions.states import FailureClass, State
from dispatcher.operator.failure_filter import FailureFilter, MaskedFilter, ending_of, variable_of
from dispatcher.operator.lead_filter import LeadFilter, MaskedLeadFilter
from dispatcher.operator.record import mask_reference

_LONGEST_TEXT: Final = 300
_SHOWN_DIGITS: Final = 4  # by `mask_phone`, of the longest numbers


Wanted = TypeVar("Wanted", FailureFilter, LeadFilter)
Reader = tuple[str, Callable[[str], Any]]
"""The field of a filter, and what makes its value of a text. Raises `KeyError`, `ValueError` or `BadRequest`."""


@dataclass(frozen=True, slots=True)
class Filters(Generic[Wanted]):
    """The filters of a URL: `given` is the text as typed, which links keep; `wanted` is the parsed filter."""

    given: Mapping[str, str]
    wanted: Wanted

    @property
    def query(self) -> str:
        """Return the filters as a query string."""
        return urlencode(self.given)

    def with_(self, **more: str) -> str:
        """Return the query string with these parameters replaced; an empty text removes one."""
        return urlencode({name: value for name, value in {**self.given, **more}.items() if value})


def read(query: Mapping[str, str], *, masked: bool = False) -> Filters[FailureFilter]:
    """Return the filters of failed leads of a URL; other parameters are ignored. Raises `BadRequest`.

    masked   for a user who never sees whole numbers: what only such could find is refused
    """
    given, values = _read(query, _READERS)
    if masked:
        _check_masked(values)
    return Filters(given, MaskedFilter(**values) if masked else FailureFilter(**values))


def read_leads(query: Mapping[str, str], *, masked: bool = False) -> Filters[LeadFilter]:
    """Return the filters of leads in any state, as `read`."""
    given, values = _read(query, _LEAD_READERS)
    if masked:
        _check_masked(values)
    return Filters(given, MaskedLeadFilter(**values) if masked else LeadFilter(**values))


def read_text(query: str, *, masked: bool = False) -> Filters[FailureFilter]:
    """Return the filters of failed leads of a query string. Raises `BadRequest`."""
    return read(dict(parse_qsl(query, max_num_fields=50)), masked=masked)


def read_leads_text(query: str, *, masked: bool = False) -> Filters[LeadFilter]:
    """Return the filters of leads of a query string. Raises `BadRequest`."""
    return read_leads(dict(parse_qsl(query, max_num_fields=50)), masked=masked)


def _read(query: Mapping[str, str], readers: Mapping[str, Reader]) -> tuple[dict[str, str], dict[str, Any]]:
    given = {name: query[name].strip() for name in readers if query.get(name, "").strip()}
    values: dict[str, Any] = {}
    for name, text in given.items():
        field, reader = readers[name]
        try:
            values[field] = reader(_storable(text))
        except (KeyError, ValueError, BadRequest):
            times = " A time is 2h, yesterday or 2026-11-23." if name.endswith(("since", "before")) else ""
            raise BadRequest(
                f"“{text[:40]}” cannot be the filter “{name}”; take it away, or write it as the form does.{times}"
            ) from None
    return given, values


def _check_masked(values: Mapping[str, Any]) -> None:
    if len(values.get("phone_number", "")) > _SHOWN_DIGITS:
        raise BadRequest(f"Your role sees the last {_SHOWN_DIGITS} digits of a number; filter by no more of them.")
    if "variable" in values or mask_reference(values.get("idempotency_key", "")) != values.get("idempotency_key", ""):
        raise BadRequest("Your role sees no variables and no numbers; an operator can filter by them.")


def _storable(text: str) -> str:
    """Return the text in a form that Postgres accepts."""
    if len(text) > _LONGEST_TEXT or "\0" in text:
        raise ValueError("text")
    return text


def _moment(text: str) -> datetime:
    return moments.past(text, datetime.now(UTC))


def _yes_or_no(text: str) -> bool:
    return {"yes": True, "no": False}[text]


def _part_of_id(text: str) -> str:
    part = text.lower().strip("…")
    if not 3 <= len(part) <= 36 or not _OF_AN_ID.issuperset(part):
        raise ValueError("part of an id")
    return part


def _states(text: str) -> tuple[State, ...]:
    return tuple(dict.fromkeys(State(one.strip()) for one in text.split(",")))


_OF_AN_ID: Final = frozenset("0123456789abcdef-")

_READERS: Final[Mapping[str, Reader]] = {
    "class": ("failure_class", FailureClass),
    "campaign": ("campaign_id", partial(whole, fault="", least=1)),
    "account": ("account", str),
    "cause": ("fingerprint", str),
    "http_status": ("http_status", partial(whole, fault="", least=100, most=599)),
    "text": ("text", str),
    "phone": ("phone_number", ending_of),
    "reference": ("idempotency_key", str),
    "batch": ("batch_id", UUID),
    "variable": ("variable", variable_of),
    "attempts": ("attempts_from", partial(whole, fault="", most=10_000)),
    "replayed_before": ("replayed_before", _yes_or_no),
    "since": ("failed_since", _moment),
    "before": ("failed_before", _moment),
    "submitted_since": ("submitted_since", _moment),
    "submitted_before": ("submitted_before", _moment),
    "resolved": ("resolved", lambda text: text == "yes"),
}

_LEAD_READERS: Final[Mapping[str, Reader]] = {
    "state": ("states", _states),
    "campaign": _READERS["campaign"],
    "account": _READERS["account"],
    "id": ("id_part", _part_of_id),
    "phone": _READERS["phone"],
    "reference": _READERS["reference"],
    "voicery_id": ("voicery_lead_id", partial(whole, fault="")),
    "batch": _READERS["batch"],
    "variable": _READERS["variable"],
    "text": _READERS["text"],
    "attempts": _READERS["attempts"],
    "due": ("due", _yes_or_no),
    "since": ("created_since", _moment),
    "before": ("created_before", _moment),
    "ended_since": ("finished_since", _moment),
    "ended_before": ("finished_before", _moment),
}
