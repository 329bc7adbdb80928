"""The doorbell: tells the workers that a channel has work, once until they listen, and never at a producer's cost.

A ring sets the channel's mark and, if it was not set, publishes the Celery message: one script, one round trip. The
delivery run clears the mark before it looks for leads, so a lead committed before its ring is always seen. A mark lives
at most `MARK_SECONDS`: a lost message silences a channel for no longer, and the sweep rings again anyway.
"""

import json
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

import redis
from redis.commands.core import Script

from dispatcher.broker.breaker import Breaker
from dispatcher.broker.connection import ALERT, DELIVER, LOOKUP, PREFIX, QUEUE, connect
from dispatcher.broker.message import Ring
from dispatcher.failpoint import reach

MARK_SECONDS: Final = 5

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Wires:
    """What belongs to one process and must not cross a fork: connections, and locks that a fork may copy locked."""

    pid: int
    client: redis.Redis
    script: Script
    breaker: Breaker


class Doorbell:
    """Rings channels. Nothing here raises because of Redis, and no call takes longer than about two seconds.

    After a failure Redis is not asked again for `pause_seconds`. Thread-safe and fork-safe; opens no connection before
    the first call.
    """

    def __init__(self, redis_url: str, *, prefix: str = PREFIX, pause_seconds: float = 5.0) -> None:
        self._redis_url = redis_url
        self._prefix = prefix
        self._pause_seconds = pause_seconds
        self._wires = self._new_wires()

    def ring(self, account: str, campaign_id: int) -> bool:
        """Rings for due leads of a channel. Whether the bell is now rung, by this call or already."""
        return self._ring(f"{account}:{campaign_id}", Ring(DELIVER, (account, campaign_id)))

    def ring_lookup(self, account: str) -> bool:
        """Rings for due look-ups of an account. Whether the bell is now rung, by this call or already."""
        return self._ring(f"{account}:lookup", Ring(LOOKUP, (account,)))

    def ring_alerts(self) -> bool:
        """Rings for alerts that are due. Whether the bell is now rung, by this call or already."""
        return self._ring("alerts", Ring(ALERT, ()))

    def clear(self, account: str, campaign_id: int) -> None:
        """Takes the channel's mark away: the next ring publishes. A delivery run calls it before its first claim."""
        self._asked(lambda client: client.delete(self._mark(f"{account}:{campaign_id}")))

    def clear_lookup(self, account: str) -> None:
        """Takes the mark of the account's look-ups away, before the first of them."""
        self._asked(lambda client: client.delete(self._mark(f"{account}:lookup")))

    def clear_alerts(self) -> None:
        """Takes the mark of the alerts away, before the first of them."""
        self._asked(lambda client: client.delete(self._mark("alerts")))

    def waiting(self) -> bool:
        """Whether a message waits for a worker: somebody else's turn. False if Redis cannot be asked."""
        return bool(self._asked(lambda client: client.llen(self._prefix + QUEUE)))

    def _ring(self, channel: str, ring: Ring) -> bool:
        wires = self._current_wires()
        if not wires.breaker.allows():
            return False
        try:
            reach("ring.before")
            wires.script(
                keys=[self._mark(channel), self._prefix + QUEUE], args=[MARK_SECONDS, json.dumps(ring.message())]
            )
            reach("ring.after")
        except Exception as error:  # noqa: BLE001  # the lead is committed; no fault of the bell may reach the producer
            self._note_failure(wires, error)
            return False
        wires.breaker.succeeded()
        return True

    def _asked(self, question: Callable[[redis.Redis], object]) -> object:
        wires = self._current_wires()
        if not wires.breaker.allows():
            return None
        try:
            answer = question(wires.client)
        except redis.RedisError as error:
            self._note_failure(wires, error)
            return None
        wires.breaker.succeeded()
        return answer

    def _note_failure(self, wires: _Wires, error: Exception) -> None:
        if wires.breaker.failed():
            _log.warning(
                "The doorbell cannot reach Redis (%s); leads are safe and the sweep rings for them.",
                type(error).__name__,
            )

    def _mark(self, channel: str) -> str:
        return f"{self._prefix}bell:{channel}"

    def _current_wires(self) -> _Wires:
        if self._wires.pid != os.getpid():
            self._wires = self._new_wires()
        return self._wires

    def _new_wires(self) -> _Wires:
        client = connect(self._redis_url)
        script = client.register_script(files("dispatcher.broker").joinpath("doorbell_ring.lua").read_text("utf-8"))
        return _Wires(pid=os.getpid(), client=client, script=script, breaker=Breaker(self._pause_seconds))


class Silence:
    """A doorbell that nobody hears, for rehearsals."""

    def ring(self, _account: str, _campaign_id: int, /) -> bool:
        """Say nothing to anybody."""
        return False
