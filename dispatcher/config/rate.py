"""How many requests Voicery allows: windows such as 100 a minute and 20 in ten seconds, all to be kept at once."""

import re
from dataclasses import dataclass
from typing import Final

MAX_PERMITS: Final = 100_000  # the limiter remembers each of them
MAX_WINDOW_SECONDS: Final = 86_400.0

EXAMPLES: Final = "write it like 30/minute, or 100/minute; 20/10 seconds, or off"

_OFF = frozenset({"off", "none"})
_UNIT_SECONDS = {"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86_400.0}
_WINDOW = re.compile(
    r"(?P<permits>\d{1,9}) */ *(?P<count>\d{1,6}(?:\.\d{1,3})?)? *(?P<unit>second|minute|hour|day)s?", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class RateWindow:
    """At most `permits` requests in any `seconds`."""

    permits: int
    seconds: float

    def __post_init__(self) -> None:
        if not 1 <= self.permits <= MAX_PERMITS:
            raise ValueError(f"allows a number of requests that is not between 1 and {MAX_PERMITS}")
        if not 0 < self.seconds <= MAX_WINDOW_SECONDS:
            raise ValueError("has a window that is not between 0 seconds and a day")

    def __str__(self) -> str:
        return f"{self.permits}/{self.seconds:g} seconds"


def parse_rate_limit(text: str) -> tuple[RateWindow, ...]:
    """Read `100/minute; 20/10 seconds`; `off` is no limit, an empty tuple. Raises `ValueError` with the fault."""
    if text.strip().lower() in _OFF:
        return ()
    windows = []
    for part in re.split("[;,]", text):
        found = _WINDOW.fullmatch(part.strip())
        if found is None:
            raise ValueError("is not a rate limit: so many per second, minute, hour or day")
        seconds = float(found["count"] or 1) * _UNIT_SECONDS[found["unit"].lower()]
        windows.append(RateWindow(int(found["permits"]), seconds))
    return tuple(windows)
