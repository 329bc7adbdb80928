"""An exact sliding log per token: a request is let in if every window still has room for it."""

import math
import re
from collections import deque
from dataclasses import dataclass

from dispatcher.errors import NotConfigured

_UNIT_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
_WINDOW = re.compile(r"(\d+)\s*/\s*(?:(\d+)\s*)?(second|minute|hour|day)s?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class PermitWindow:
    """At most `permits` requests in any `seconds`."""

    permits: int
    seconds: float


def parse_rate_limit(text: str) -> tuple[PermitWindow, ...]:
    """`100/minute; 20/10 seconds`; `off` or nothing means no limit. `NotConfigured` otherwise."""
    if text.strip().lower() in ("", "off"):
        return ()
    windows = []
    for part in text.split(";"):
        found = _WINDOW.fullmatch(part.strip())
        if found is None or int(found[1]) < 1 or int(found[2] or 1) < 1:
            raise NotConfigured(f"The rate limit {text!r} is not of the form '100/minute; 20/10 seconds' or 'off'.")
        windows.append(PermitWindow(int(found[1]), int(found[2] or 1) * _UNIT_SECONDS[found[3].lower()]))
    return tuple(windows)


@dataclass(frozen=True, slots=True)
class RateVerdict:
    """`limit`, `remaining` and `reset_seconds` speak of the window that has the least room."""

    allowed: bool
    limit: int
    remaining: int
    reset_seconds: int  # whole seconds until a permit returns, at least 1


class SlidingLog:
    """Refused requests take no permit, as in Laravel's limiter."""

    def __init__(self, windows: tuple[PermitWindow, ...]) -> None:
        if not windows:
            raise ValueError("a sliding log needs a window")
        self._windows = windows
        self._longest = max(window.seconds for window in windows)
        self._taken: dict[str, deque[float]] = {}

    def take(self, token: str, now: float) -> RateVerdict:
        """`now` in seconds of one clock that never goes back."""
        taken = self._taken.setdefault(token, deque())
        while taken and taken[0] + self._longest <= now:
            taken.popleft()
        verdicts = [self._look(taken, window, now) for window in self._windows]
        refusals = [verdict for verdict in verdicts if not verdict.allowed]
        if refusals:
            return max(refusals, key=lambda verdict: verdict.reset_seconds)
        taken.append(now)
        return min(verdicts, key=lambda verdict: verdict.remaining)

    @staticmethod
    def _look(taken: deque[float], window: PermitWindow, now: float) -> RateVerdict:
        inside = [at for at in taken if at + window.seconds > now]
        room = window.permits - len(inside)
        oldest = inside[len(inside) - window.permits] if room <= 0 else (inside[0] if inside else now)
        reset_seconds = max(1, math.ceil(oldest + window.seconds - now))
        return RateVerdict(room > 0, window.permits, max(0, room - 1), reset_seconds)
