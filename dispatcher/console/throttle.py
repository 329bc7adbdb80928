"""Failed logins cost time: who keeps guessing waits longer and longer."""

import threading
import time
from collections.abc import Callable
from typing import Final

FREE_FAILURES: Final = 5
_FIRST_WAIT_SECONDS: Final = 5.0
_LONGEST_WAIT_SECONDS: Final = 900.0
_FORGET_SECONDS: Final = 3600.0
_MOST: Final = 10_000


class Throttle:
    """Counts failures by key (a name, an address). Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._failures: dict[str, tuple[int, float]] = {}  # how many in a row, and when the last was

    def wait_seconds(self, *keys: str) -> float:
        """How long these have to wait before their next try; 0.0 if they need not."""
        now = self._clock()
        with self._lock:
            return max(0.0, *(self._until(key) - now for key in keys))

    def failed(self, *keys: str) -> None:
        """Count a failure."""
        now = self._clock()
        with self._lock:
            if len(self._failures) > _MOST:
                old = [key for key, (_, at) in self._failures.items() if now - at > _FORGET_SECONDS]
                for key in old or list(self._failures)[: _MOST // 2]:
                    del self._failures[key]
            for key in keys:
                count, at = self._failures.get(key, (0, now))
                self._failures[key] = (1 if now - at > _FORGET_SECONDS else count + 1, now)

    def succeeded(self, *keys: str) -> None:
        """Forget their failures."""
        with self._lock:
            for key in keys:
                self._failures.pop(key, None)

    def _until(self, key: str) -> float:
        count, at = self._failures.get(key, (0, 0.0))
        if count < FREE_FAILURES:
            return 0.0
        return at + min(_LONGEST_WAIT_SECONDS, _FIRST_WAIT_SECONDS * 2.0 ** min(count - FREE_FAILURES, 20))
