"""Ringing behind the producer's back: `submit` has made a lead durable and returns; Redis is spoken to meanwhile.

A ring that is lost with its process costs nothing but time: the sweep rings within about a second.
"""

import os
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

REST_SECONDS: Final = 0.005
"""Between two rings of one thread: a producer's burst of submits of one channel needs few rings."""

_FLUSH_SECONDS: Final = 2.0  # at the end of a process; as long as an unreachable Redis can cost at the most
_IDLE_SECONDS: Final = 30.0  # then the thread ends; the next ring starts another

Channel = tuple[str, int]


class Bell(Protocol):
    """Rings a channel. Never raises."""

    def ring(self, account: str, campaign_id: int, /) -> bool:
        """Say that the channel has work."""


class Ringer:
    """A bell that returns at once. Thread-safe and fork-safe; has no thread before its first ring."""

    def __init__(self, bell: Bell) -> None:
        self._bell = bell
        self._desk = self._new_desk()

    def ring(self, account: str, campaign_id: int) -> bool:
        """Ring soon; several rings of one channel that wait are one. Always True: nobody knows yet."""
        if self._desk.pid != os.getpid():  # the parent's thread and what it has to ring are the parent's
            self._desk = self._new_desk()
        desk = self._desk
        with desk.changed:
            desk.due[(account, campaign_id)] = None
            if desk.thread is None:
                desk.thread = threading.Thread(target=_serve, args=(desk,), name="dispatcher-ringer", daemon=True)
                desk.thread.start()
            else:
                desk.changed.notify()
        return True

    def flush(self, timeout_seconds: float = _FLUSH_SECONDS) -> bool:
        """Wait until all is rung. Whether it is."""
        return _flush(self._desk, timeout_seconds)

    def _new_desk(self) -> "_Desk":
        desk = _Desk(self._bell.ring)
        weakref.finalize(self, _flush, desk, _FLUSH_SECONDS)  # at the latest when the process ends
        return desk


@dataclass(slots=True)
class _Desk:
    """What one process has to ring: a lock and a thread must not cross a fork."""

    ring: Callable[[str, int], bool]
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
        for account, campaign_id in channels:
            desk.ring(account, campaign_id)
        with desk.changed:
            desk.ringing = False
            desk.changed.notify_all()
        time.sleep(REST_SECONDS)


def _flush(desk: _Desk, timeout_seconds: float) -> bool:
    if desk.pid != os.getpid():
        return True
    with desk.changed:
        return desk.changed.wait_for(lambda: not desk.due and not desk.ringing, timeout=timeout_seconds)
