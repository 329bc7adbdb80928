"""Ring behind the producer: a thread rings, so that a submit does not wait for Redis."""

import os
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from dispatcher.broker.doorbell import Bell
from dispatcher.lead.options import Channel

REST_SECONDS: Final = 0.005
"""Between two rings of one thread: a producer's burst of submits of one channel needs few rings."""

_FLUSH_SECONDS: Final = 2.0  # at the end of a process; as long as an unreachable Redis can cost at the most
_IDLE_SECONDS: Final = 30.0  # then the thread ends; the next ring starts another


class Ringer:
    """A `Bell` whose `ring` returns at once: a thread rings. Thread-safe and fork-safe; the first ring starts it."""

    def __init__(self, bell: Bell) -> None:
        self._bell = bell
        self._desk = self._new_desk()

    def ring(self, channel: Channel) -> bool:
        """Ring soon; rings of one channel that wait become one. Return True: the result is not known yet.

        Where no thread can be started, because the process has as many as it may or is ending, ring at once: no error
        may follow the commit of a lead.
        """
        if self._desk.pid != os.getpid():  # the parent's thread and what it has to ring are the parent's
            self._desk = self._new_desk()
        desk = self._desk
        with desk.changed:
            desk.due[channel] = None
            if desk.thread is not None:
                desk.changed.notify()
                return True
            thread = threading.Thread(target=_serve, args=(desk,), name="dispatcher-ringer", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                del desk.due[channel]
            else:
                desk.thread = thread
                return True
        return self._bell.ring(channel)

    def ring_lookup(self, account: str) -> bool:
        """Ring at once."""
        return self._bell.ring_lookup(account)

    def clear(self, channel: Channel) -> bool:
        """Clear at once."""
        return self._bell.clear(channel)

    def clear_lookup(self, account: str) -> None:
        """Clear at once."""
        self._bell.clear_lookup(account)

    def served(self, channel: Channel, *, accepted: bool) -> None:
        """Note it at once."""
        self._bell.served(channel, accepted=accepted)

    def waiting(self, besides: Channel | None = None, *, accepting_only: bool = False) -> bool:
        """Return whether a message waits for a worker."""
        return self._bell.waiting(besides, accepting_only=accepting_only)

    def flush(self, timeout_seconds: float = _FLUSH_SECONDS) -> bool:
        """Wait until everything is rung. Return whether it is."""
        return _flush(self._desk, timeout_seconds)

    def _new_desk(self) -> "_Desk":
        desk = _Desk(self._bell.ring)
        weakref.finalize(self, _flush, desk, _FLUSH_SECONDS)  # at the latest when the process ends
        return desk


@dataclass(slots=True)
class _Desk:
    """What one process has to ring: a lock and a thread must not cross a fork."""

    ring: Callable[[Channel], bool]
    pid: int = field(default_factory=os.getpid)
    changed: threading.Condition = field(default_factory=threading.Condition)
    due: dict[Channel, None] = field(default_factory=dict)  # in the order of their rings
    ringing: bool = False
    thread: threading.Thread | None = None


def _serve(desk: _Desk) -> None:
    while True:
        with desk.changed:
            if not desk.due and not desk.changed.wait_for(lambda: desk.due, timeout=_IDLE_SECONDS):
                desk.thread = None
                return
            channels = list(desk.due)
            desk.due.clear()
            desk.ringing = True
        for channel in channels:
            desk.ring(channel)
        with desk.changed:
            desk.ringing = False
            desk.changed.notify_all()
        time.sleep(REST_SECONDS)


def _flush(desk: _Desk, timeout_seconds: float) -> bool:
    if desk.pid != os.getpid():
        return True
    with desk.changed:
        return desk.changed.wait_for(lambda: not desk.due and not desk.ringing, timeout=timeout_seconds)
