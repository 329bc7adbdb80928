"""A child process that is started again when it dies, at growing intervals."""

import time
from typing import Final

from dispatcher.embedded.child import Child, Command
from dispatcher.rules.backoff import wait_seconds

_BASE_SECONDS: Final = 1.0
_MAX_SECONDS: Final = 30.0
_STEADY_SECONDS: Final = 60.0  # one that lived this long did not die of how it was started


class Supervised:
    """One named command of the stack."""

    def __init__(self, name: str, command: Command) -> None:
        """Start it; `StackError` if that is not possible."""
        self.name = name
        self.child = Child(command)
        self._failures = 0
        self._started_at = time.monotonic()
        self._start_again_at: float | None = None

    def revive(self) -> bool:
        """Call this again and again: True when a dead child was started anew just now."""
        if self.child.running:
            return False
        now = time.monotonic()
        if self._start_again_at is None:
            self._failures = 1 if now - self._started_at > _STEADY_SECONDS else self._failures + 1
            wait = wait_seconds(self._failures, base_seconds=_BASE_SECONDS, max_seconds=_MAX_SECONDS)
            self._start_again_at = now + wait
        if now < self._start_again_at:
            return False
        self.child.kill()  # what the dead one left behind in its process group
        self.child = Child(self.child.command)
        self._started_at, self._start_again_at = now, None
        return True
