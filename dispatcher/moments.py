"""Parse and format times on the command line and in the console: `30m`, `2h`, `tomorrow 09:00`, `2026-11-23`."""

import math
import re
import time as clocks
from datetime import UTC, datetime, time, timedelta
from typing import Final

_SPAN: Final = re.compile(r"(?P<count>\d{1,9}(?:\.\d{1,6})?)\s*(?P<unit>s|m|min|h|d|w)", re.ASCII)
_DAY: Final = re.compile(r"(?P<day>today|tomorrow)\s+(?P<time>\S.*)")
_UNIT_SECONDS: Final = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}
_LONGEST: Final = timedelta(days=3660)
_FIRST_YEAR, _LAST_YEAR = 1970, 9998  # each instant of these has a date in every zone
_SKEW_SECONDS: Final = 5.0
"""A time at most this far in the future counts as now: the local clock and the database's may differ by it."""

_STEADY: Final = getattr(clocks, "CLOCK_BOOTTIME", clocks.CLOCK_MONOTONIC)

PAST_HELP: Final = "e.g. 2h, 30d, yesterday, 2026-11-23, 2026-11-23T14:00Z"
FUTURE_HELP: Final = "e.g. 30m, 2h, 1d, 2026-11-23T14:00+01:00"
START_HELP: Final = "e.g. 2h, tomorrow 09:00 (UTC), 2026-11-23T14:00+01:00"


def steady_clock() -> float:
    """Return the seconds of a monotonic clock that also counts while the machine is suspended."""
    return clocks.clock_gettime(_STEADY)


def past(text: str, now: datetime) -> datetime:
    """Parse a time in the past: `2h` is two hours ago. Days begin at midnight UTC; without a zone it is UTC.

    Raises `ValueError` with the fault and the expected notation.
    """
    word = text.strip().lower()
    midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    match word:
        case "now":
            return now
        case "today":
            return midnight
        case "yesterday":
            return midnight - timedelta(days=1)
        case _ if (length := _length(word)) is not None:
            return now - length
        case _:
            moment = _iso(text.strip(), PAST_HELP)
            return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def future(text: str, now: datetime) -> datetime | timedelta:
    """Parse a time in the future: `2h` is in two hours by the database's clock, `tomorrow 09:00` is UTC without a zone.

    A date and time needs its zone. Raises `ValueError` as `past`.
    """
    word = text.strip().lower()
    length = _length(word)
    if length is not None:
        return length
    if (found := _DAY.fullmatch(word)) is not None:
        return _of_day(found["time"], now, days=found["day"] == "tomorrow")
    moment = _iso(text.strip(), FUTURE_HELP)
    if moment.tzinfo is None:
        raise ValueError(f"it has no time zone; end it with Z or +01:00, or write {FUTURE_HELP}")
    return moment


def duration(text: str) -> timedelta:
    """Parse a duration greater than zero: `90s`, `30m`, `2h`. Raises `ValueError` as `past`."""
    length = _length(text.strip().lower())
    if not length:
        raise ValueError("it is not a length of time; write e.g. 30m, 2h, 1d")
    return length


def ago(moment: datetime | None, now: datetime) -> str:
    """Return e.g. `3 s ago`, `2 min ago`, `5 h ago`, `3 days ago`; `in 5 h`; `never`."""
    if moment is None:
        return "never"
    seconds = (now - moment).total_seconds()
    return f"in {span(-seconds)}" if seconds < -_SKEW_SECONDS else f"{span(max(0.0, seconds))} ago"


def span(seconds: float | None) -> str:
    """Return a duration in a suitable unit: `0.3 s`, `45 s`, `12 min`, `5 h`, `3 days`; `–` for none."""
    match seconds:
        case None:
            return "–"
        case _ if math.isinf(seconds):
            return "∞"
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


def clock(moment: datetime | None, now: datetime | None = None) -> str:
    """Return e.g. `2026-11-23 14:02:11`, in UTC, without the date where it is that of `now`; `–` for none."""
    if moment is None:
        return "–"
    moment = moment.astimezone(UTC)
    today = now is not None and moment.date() == now.astimezone(UTC).date()
    return f"{moment:%H:%M:%S}" if today else f"{moment:%Y-%m-%d %H:%M:%S}"


def _length(text: str) -> timedelta | None:
    found = _SPAN.fullmatch(text)
    if found is None:
        return None
    length = timedelta(seconds=float(found["count"]) * _UNIT_SECONDS[found["unit"]])
    if length > _LONGEST:
        raise ValueError("it is more than ten years")
    return length


def _of_day(text: str, now: datetime, *, days: int) -> datetime:
    try:
        at = time.fromisoformat(text.upper())
    except ValueError:
        raise ValueError(f"it is not a time of day; write {START_HELP}") from None
    zone = at.tzinfo or UTC
    return datetime.combine(now.astimezone(zone).date() + timedelta(days=days), at, zone)


def _iso(text: str, examples: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"it is not a time; write {examples}") from None
    if not _FIRST_YEAR <= moment.year <= _LAST_YEAR:
        raise ValueError(f"it is not in a year from {_FIRST_YEAR} to {_LAST_YEAR}; write {examples}")
    return moment
