"""The bound on guessed passwords: a source is locked after failures, a name is only delayed."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Final


@dataclass(frozen=True, slots=True)
class Limit:
    """After `free` failures each try waits, at first `first_seconds`, doubled with each failure up to the longest."""

    free: int
    first_seconds: float
    longest_seconds: float

    def wait_seconds(self, failures: int) -> float:
        """Return the wait after so many failures in a row."""
        if failures < self.free:
            return 0.0
        return min(self.longest_seconds, self.first_seconds * 2.0 ** min(failures - self.free, 20))


SOURCE: Final = Limit(free=5, first_seconds=5.0, longest_seconds=900.0)
NAME: Final = Limit(free=20, first_seconds=5.0, longest_seconds=30.0)
"""Of all sources together. Short on purpose: who guesses at a name must not lock its owner out."""

_FORGET_SECONDS: Final = 3600.0
_MOST: Final = 10_000


class Throttle:
    """Admits tries of a name from a source (an address). Thread-safe.

    A try is counted as a failure when it is admitted, before its password is hashed: of many at once, no more are
    checked than one after the other. A source from which a name has logged in is exempt from the name's delay.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._failures: dict[str, tuple[int, float]] = {}  # failures in a row, and the time of the last
        self._familiar: dict[tuple[str, str], float] = {}

    def admit(self, source: str, name: str | None = None) -> float:
        """Count a try and return 0.0; or return the seconds until the next try is admitted, and count nothing."""
        now = self._clock()
        with self._lock:
            wait = self._left(f"source {source}", SOURCE, now)
            if name is not None and (name, source) not in self._familiar:
                wait = max(wait, self._left(f"name {name}", NAME, now))
            if wait > 0:
                return wait
            self._count(f"source {source}", now)
            if name is not None:
                self._count(f"name {name}", now)
            return 0.0

    def succeeded(self, source: str, name: str | None = None) -> None:
        """Take back the try that was admitted; the name starts anew. Other failures of the source remain."""
        with self._lock:
            failures, at = self._failures.get(f"source {source}", (0, 0.0))
            if failures > 1:
                self._failures[f"source {source}"] = failures - 1, at
            else:
                self._failures.pop(f"source {source}", None)
            if name is not None:
                self._failures.pop(f"name {name}", None)
                self._familiar[name, source] = self._clock()
                _bound(self._familiar)

    def wait_seconds(self, source: str) -> float:
        """Return the seconds for which this source is locked now."""
        with self._lock:
            return self._left(f"source {source}", SOURCE, self._clock())

    def _left(self, key: str, limit: Limit, now: float) -> float:
        failures, at = self._failures.get(key, (0, 0.0))
        return max(0.0, at + limit.wait_seconds(failures) - now)

    def _count(self, key: str, now: float) -> None:
        failures, at = self._failures.pop(key, (0, now))
        self._failures[key] = (1 if now - at > _FORGET_SECONDS else failures + 1, now)
        _bound(self._failures)


def _bound(kept: dict[str, tuple[int, float]] | dict[tuple[str, str], float]) -> None:
    """Forget the half that was touched longest ago, once there are too many."""
    if len(kept) > _MOST:
        for key in list(kept)[: _MOST // 2]:
            del kept[key]  # type: ignore[arg-type]  # a key of this very dict


def source_of(host: str) -> str:
    """Return what counts as one source: an IPv4 address, or the /64 of an IPv6 address, which one host has whole."""
    try:
        address = ip_address(host)
    except ValueError:
        return host[:64]
    if not isinstance(address, IPv6Address):
        return str(address)
    mapped = address.ipv4_mapped
    return str(mapped) if mapped is not None else str(ip_network((address, 64), strict=False))
