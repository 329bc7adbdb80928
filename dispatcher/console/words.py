"""Format times, counts, phone numbers and causes for templates. All results are text, which the template escapes."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from dispatcher.decisions.outcome import Kind, Reason
from dispatcher.decisions.states import FailureClass, State
from dispatcher.lead.masking import mask_numbers, mask_phone
from dispatcher.moments import ago, clock, span
from dispatcher.operator.record import MASKED, in_words, mask_inside, mask_reference
from dispatcher.printable import printable, printable_json

_REASONS: Final[Mapping[str, str]] = {
    Reason.PAUSED: "paused by a person",
    Reason.THROTTLED: "Voicery asked us to slow down",
    Reason.OUTAGE: "Voicery does not answer properly",
    Reason.UNAUTHORIZED: "Voicery does not accept the token",
    Reason.NO_BALANCE: "the workspace has no balance left",
    Reason.FORBIDDEN: "the token may not use this campaign",
    Reason.MISCONFIGURED: "the address or a setting is wrong",
    Reason.REJECTING: "Voicery refuses one lead after the other",
}
_CLASSES: Final[Mapping[str, str]] = {
    FailureClass.REJECTED: "Refused",
    FailureClass.EXHAUSTED: "Never reached Voicery",
    FailureClass.OUTCOME_UNKNOWN: "May have been called",
    FailureClass.EXPIRED: "Expired",
    FailureClass.BUG: "A bug of ours",
    FailureClass.BLOCKED: "Must not be called",
}
_OUTCOMES: Final[Mapping[str | None, str]] = {
    None: "no report yet",
    Kind.ACCEPTED: "accepted",
    Kind.CREATED_ID_UNKNOWN: "accepted, without an id",
    Kind.UNKNOWN: "answer lost",
    Kind.NOT_SENT: "not sent",
    Kind.THROTTLED: "slowed down",
    Kind.UNAUTHORIZED: "token refused",
    Kind.NO_BALANCE: "no balance",
    Kind.FORBIDDEN: "campaign refused",
    Kind.MISCONFIGURED: "wrong address",
    Kind.DUPLICATE: "refused as a duplicate",
    Kind.REJECTED: "refused",
    Kind.BUG: "a bug of ours",
    Kind.GIVEN_BACK: "given back",
}
_TONES: Final[Mapping[str | None, str]] = {
    State.PENDING: "calm",
    State.SENDING: "busy",
    State.UNKNOWN: "doubt",
    State.ACCEPTED: "good",
    State.DUPLICATE: "calm",
    State.FAILED: "bad",
    State.CANCELLED: "calm",
    FailureClass.REJECTED: "bad",
    FailureClass.EXHAUSTED: "busy",
    FailureClass.OUTCOME_UNKNOWN: "doubt",
    FailureClass.EXPIRED: "calm",
    FailureClass.BUG: "bad",
    FailureClass.BLOCKED: "calm",
    Kind.CREATED_ID_UNKNOWN: "doubt",
    "queued": "calm",
    "running": "busy",
    "stopped": "calm",
    "finished": "good",
}


def took(start: datetime, end: datetime | None) -> str:
    """Return the duration of an attempt: `340 ms`, `2.1 s`."""
    if end is None:
        return "–"
    seconds = (end - start).total_seconds()
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def utc(moment: datetime | None) -> str:
    """Return a time as `2026-11-23 07:21:31 UTC`."""
    return "" if moment is None else f"{clock(moment)} UTC"


def iso(moment: datetime | None) -> str:
    """Return a time for HTML's `datetime` attribute."""
    return "" if moment is None else moment.isoformat()


def number(value: float) -> str:
    """Return a number as `12 345`, with narrow no-break spaces."""
    return f"{value:,.0f}".replace(",", "\u202f")


def phone(value: str, shown: bool) -> str:  # noqa: FBT001  (a template's filter)
    """Return the phone number, masked unless numbers are revealed."""
    return value if shown else mask_phone(value)


def foreign(text: str | None, shown: bool) -> str:  # noqa: FBT001  (as above)
    """Return foreign text with possible phone numbers masked unless revealed, and control characters made visible."""
    visible = printable(text or "", keep="\n\t")
    return visible if shown else mask_numbers(visible)


def inside(value: object, shown: bool) -> Any:  # noqa: ANN401, FBT001  (as above)
    """Return a value of JSON with possible phone numbers masked unless revealed."""
    return value if shown else mask_inside(value)


def reference(key: str, shown: bool) -> str:  # noqa: FBT001  (as above)
    """Return an idempotency key with possible phone numbers masked unless revealed."""
    return key if shown else mask_reference(key)


def variables(values: Mapping[str, Any], shown: bool) -> str:  # noqa: FBT001  (as above)
    """Return variables as JSON, their values masked unless revealed."""
    return pretty(dict(values) if shown else dict.fromkeys(values, MASKED))


def told(value: object, shown: bool) -> str:  # noqa: FBT001  (as above)
    """Return a value of JSON in words, with possible phone numbers masked unless revealed."""
    return in_words(inside(value, shown))


def pretty(value: object) -> str:
    """Return indented JSON."""
    return printable_json(json.dumps(value, ensure_ascii=False, indent=2, default=str))


def evidence(value: object, shown: bool) -> str:  # noqa: FBT001  (as above)
    """Return the evidence of look-ups as indented JSON; times and ids are not masked."""
    return pretty(value if shown else mask_inside(value))


def body(text: str | None, shown: bool) -> str:  # noqa: FBT001  (as above)
    """Return an answer of Voicery, indented if it is JSON."""
    try:
        laid_out = pretty(json.loads(text or ""))
    except (ValueError, RecursionError):
        laid_out = text or ""
    return foreign(laid_out, shown)


def short(lead_id: object) -> str:
    """Return the end of an id: the ids of one import differ there alone."""
    return "…" + str(lead_id)[-12:]


def cut(text: str, most: int = 200) -> str:
    """Cut a text to a number of characters."""
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def reason(value: str) -> str:
    """Return the reason for a closed gate."""
    return _REASONS.get(value, value)


def failure_class(value: str | None) -> str:
    """Return the class of a failure in two or three words."""
    return _CLASSES.get(value or "", value or "")


def outcome(value: str | None) -> str:
    """Return the outcome of an attempt in words."""
    return _OUTCOMES.get(value, str(value))


def tone(value: str | None) -> str:
    """Return the name of a colour: calm, busy, good, doubt or bad."""
    return _TONES.get(value, "bad" if value in {Kind.REJECTED, Kind.BUG} else "calm")


def plural(count: int, one: str, many: str | None = None) -> str:
    """Return a count with its noun: `1 lead`, `12 leads`."""
    return f"{number(count)} {one if count == 1 else many or one + 's'}"


WORDS: Final[Mapping[str, Any]] = {
    "ago": ago,
    "body": body,
    "cut": cut,
    "evidence": evidence,
    "failure_class": failure_class,
    "foreign": foreign,
    "inside": inside,
    "iso": iso,
    "number": number,
    "outcome": outcome,
    "phone": phone,
    "plural": plural,
    "pretty": pretty,
    "reason": reason,
    "reference": reference,
    "short": short,
    "span": span,
    "tone": tone,
    "told": told,
    "took": took,
    "utc": utc,
    "variables": variables,
}
