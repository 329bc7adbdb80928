"""What an answer says about the rate: when to come back, and how much is left.

Sources: RFC 9110 section 10.2.3 (`Retry-After`, seconds or a date); the sister docs of `voicery-api.md`
(`X-RateLimit-Remaining`, `X-RateLimit-Reset`, and `retry_after` in the body of a 429).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from dispatcher.decisions.reply import Reply

RETRY_AFTER_MIN_SECONDS: Final = 1.0
RETRY_AFTER_MAX_SECONDS: Final = 3600.0
_EPOCH_FROM: Final = 1_000_000_000  # a `Reset` above this is a point in time, below it a wait
_EPOCH_MILLISECONDS_FROM: Final = 100_000_000_000  # in seconds: the year 5138


@dataclass(frozen=True, slots=True)
class RateHints:
    """None where the answer says nothing, or nothing usable."""

    retry_after_seconds: float | None = None  # clamped to 1 s … 1 h
    remaining: int | None = None
    reset_seconds: float | None = None  # from now until the window is whole again, clamped to 0 … 1 h

    def slowdown(self, *, throttled: bool) -> tuple[int, float] | None:
        """Return the requests left and the seconds they are for; None if the answer does not say."""
        if throttled and self.retry_after_seconds is not None:
            return 0, self.retry_after_seconds
        if self.remaining is not None and self.reset_seconds is not None:
            return self.remaining, self.reset_seconds
        return None


NO_HINTS: Final = RateHints()
_HEADERS: Final = frozenset({"retry-after", "x-ratelimit-remaining", "x-ratelimit-reset"})


def rate_hints(reply: Reply, now: datetime) -> RateHints:
    """Read the hints of one answer. `now` (aware) stands in where the answer carries no `Date` of its own."""
    if reply.headers.keys().isdisjoint(_HEADERS) and reply.status is not None and reply.status < 400:
        return NO_HINTS  # nearly every answer
    server_now = _date(reply.headers.get("date", "")) or now
    return RateHints(
        retry_after_seconds=_retry_after(reply, server_now),
        remaining=_remaining(reply.headers.get("x-ratelimit-remaining")),
        reset_seconds=_reset(reply.headers.get("x-ratelimit-reset"), server_now),
    )


def _retry_after(reply: Reply, server_now: datetime) -> float | None:
    header = reply.headers.get("retry-after", "").strip()
    # Of a field that is given twice, as by a proxy beside the API, the longer wait serves both.
    seconds = max(map(_number, header.split(",")), key=_or_endless)
    if seconds is None and (date := _date(header)) is not None:
        seconds = (date - server_now).total_seconds()
    if seconds is None and isinstance(reply.body, Mapping):
        seconds = _number(reply.body.get("retry_after"))
    if seconds is None:
        return None
    return min(max(seconds, RETRY_AFTER_MIN_SECONDS), RETRY_AFTER_MAX_SECONDS)


def _remaining(header: str | None) -> int | None:
    number = _number(header)
    return None if number is None or number < 0 else int(min(number, 2**31))


def _reset(header: str | None, server_now: datetime) -> float | None:
    number = _number(header)
    if number is None and (date := _date(header or "")) is not None:
        number = date.timestamp()
    if number is None:
        return None
    if number > _EPOCH_MILLISECONDS_FROM:
        number /= 1000
    wait = number - server_now.timestamp() if number > _EPOCH_FROM else number
    return min(max(wait, 0.0), RETRY_AFTER_MAX_SECONDS)


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _or_endless(number: float | None) -> float:
    return math.inf if number is None else number


def _date(header: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(header)
    except (ValueError, TypeError, OverflowError, IndexError):
        try:
            date = datetime.fromisoformat(header)
        except ValueError:
            return None
    return date if date.tzinfo is not None else date.replace(tzinfo=UTC)
