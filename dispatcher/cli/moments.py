"""Times as people type them: `30m`, `2h`, `yesterday`, `2026-11-23`, `2026-11-23T14:00+01:00`."""

import re
from datetime import UTC, datetime, timedelta
from typing import Final

import typer

_SPAN: Final = re.compile(r"(?P<count>\d{1,9}(?:\.\d{1,6})?)\s*(?P<unit>s|m|min|h|d|w)", re.ASCII)
_UNIT_SECONDS: Final = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}
_LONGEST: Final = timedelta(days=3660)

PAST_HELP: Final = "e.g. 2h, yesterday, 2026-11-23, 2026-11-23T14:00Z"
FUTURE_HELP: Final = "e.g. 30m, 2h, 1d, 2026-11-23T14:00+01:00"


def past(text: str, now: datetime) -> datetime:
    """A moment that has passed: `2h` is two hours ago. Days begin at midnight UTC; without a zone it is UTC."""
    word = text.strip().lower()
    midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    match word:
        case "now":
            return now
        case "today":
            return midnight
        case "yesterday":
            return midnight - timedelta(days=1)
        case _ if (span := _span(word)) is not None:
            return now - span
        case _:
            moment = _iso(text.strip(), PAST_HELP)
            return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def future(text: str) -> datetime | timedelta:
    """A moment to come: `2h` is in two hours, by the database's clock. A date and time needs its zone."""
    span = _span(text.strip().lower())
    if span is not None:
        return span
    moment = _iso(text.strip(), FUTURE_HELP)
    if moment.tzinfo is None:
        raise typer.BadParameter(f"it has no time zone; end it with Z or +01:00, or write {FUTURE_HELP}")
    return moment


def ago(moment: datetime | None, now: datetime) -> str:
    """`3 s ago`, `2 min ago`, `5 h ago`, `3 days ago`; `never`."""
    return "never" if moment is None else f"{span(max(0.0, (now - moment).total_seconds()))} ago"


def span(seconds: float) -> str:
    """A length of time, in the unit that suits it: `0.3 s`, `45 s`, `12 min`, `5 h`, `3 days`."""
    match seconds:
        case _ if seconds < 1:
            return f"{seconds:.1f} s"
        case _ if seconds < 120:
            return f"{seconds:.0f} s"
        case _ if seconds < 7200:
            return f"{seconds / 60:.0f} min"
        case _ if seconds < 172_800:
            return f"{seconds / 3600:.0f} h"
        case _:
            return f"{seconds / 86_400:.0f} days"


def clock(moment: datetime | None) -> str:
    """`2026-11-23 14:02:11`, in UTC; `–` for none."""
    return "–" if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def _span(text: str) -> timedelta | None:
    found = _SPAN.fullmatch(text)
    if found is None:
        return None
    length = timedelta(seconds=float(found["count"]) * _UNIT_SECONDS[found["unit"]])
    if length > _LONGEST:
        raise typer.BadParameter("it is more than ten years")
    return length


def _iso(text: str, examples: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"it is not a time; write {examples}") from None
