"""Failpoints: named places where a test makes this process die, hang or fail. Unset, a place costs one comparison.

`DISPATCHER_FAILPOINT=name:n[:action]`, several parted by commas: the n-th time (1-based, `*` for every time) that this
process passes `name`, do `action`:

    exit    end at once as by `kill -9`: no handler, no flush (the default)
    hang    stop this thread for an hour
    raise   raise `FailpointReached`
    stop    SIGSTOP the whole process: frozen until somebody sends SIGCONT

The names are those given to `reach` in the code; `FAILPOINTS` lists them. For tests; whoever sets a
worker's variables controls it anyway.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from dispatcher.errors import NotConfigured

VARIABLE: Final = "DISPATCHER_FAILPOINT"
EXIT_STATUS: Final = 137

FAILPOINTS: Final = frozenset(
    {
        "submit.before_commit",
        "submit.after_commit",
        "ring.before",
        "ring.after",
        "deliver.begin",
        "claim.before",
        "claim.after",
        "post.before_connect",
        "post.before_write",
        "post.written",
        "post.after_answer",
        "record.before",
        "record.after",
        "sweep.begin",
        "sweep.end_leases",
        "inbox.taken",
        "inbox.before_commit",
        "inbox.after_commit",
        "lookup.taken",
        "lookup.before_decision",
        "lookup.after_decision",
    }
)

_HANG_SECONDS: Final = 3600.0


class FailpointReached(Exception):
    """Raised by the action `raise`."""


def _hang() -> None:
    time.sleep(_HANG_SECONDS)


def _raise() -> None:
    raise FailpointReached


_ACTIONS: Final[Mapping[str, Callable[[], object]]] = MappingProxyType(
    {
        "exit": lambda: os._exit(EXIT_STATUS),
        "hang": _hang,
        "raise": _raise,
        "stop": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    }
)


class Failpoints:
    """The failpoints set for this process. Thread-safe."""

    def __init__(self, asked: str) -> None:
        """Raise `NotConfigured` for an unknown failpoint: a test that never fails would prove nothing."""
        self._lock = threading.Lock()
        self._passed: dict[str, int] = {}
        self._asked: dict[str, tuple[int | None, str]] = {}
        for part in filter(None, asked.split(",")):
            name, _, rest = part.partition(":")
            count, _, action = rest.partition(":")
            if name not in FAILPOINTS or (action or "exit") not in _ACTIONS or not (count.isdigit() or count == "*"):
                raise NotConfigured(f"{VARIABLE} is name:n[:action] with a known name and action, parted by commas.")
            self._asked[name] = (None if count == "*" else int(count), action or "exit")

    def reach(self, name: str) -> None:
        """Run the action set for this place, if this is its turn."""
        if name not in self._asked:
            return
        with self._lock:
            passed = self._passed[name] = self._passed.get(name, 0) + 1
        wanted, action = self._asked[name]
        if wanted is None or wanted == passed:
            _ACTIONS[action]()


_asked: Final = os.environ.get(VARIABLE)

reach: Final[Callable[[str], None]] = Failpoints(_asked).reach if _asked else lambda _: None
"""Pass the place `name`."""
