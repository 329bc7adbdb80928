"""A circuit breaker: after a failure, do not even try for a while."""

import threading
import time
from collections.abc import Callable


class Breaker:
    """Open for `open_seconds` after each failure; then one caller may try, and the rest wait for what comes of it.

    The trial has `open_seconds` to report; if it never does, the next caller is the trial. Thread-safe.
    """

    def __init__(self, open_seconds: float = 5.0, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._open_seconds = open_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._try_again_at: float | None = None

    def allows(self) -> bool:
        """Whether this caller may try now. A yes after a failure makes this caller the trial."""
        if self._try_again_at is None:
            return True
        with self._lock:
            if self._try_again_at is None:
                return True
            now = self._clock()
            if now < self._try_again_at:
                return False
            self._try_again_at = now + self._open_seconds
            return True

    def failed(self) -> bool:
        """Opens the breaker. Whether it was closed before: the moment to say so in the log, once."""
        with self._lock:
            was_closed = self._try_again_at is None
            self._try_again_at = self._clock() + self._open_seconds
            return was_closed

    def succeeded(self) -> None:
        """Closes the breaker."""
        if self._try_again_at is not None:
            with self._lock:
                self._try_again_at = None
