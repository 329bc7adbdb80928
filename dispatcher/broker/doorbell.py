"""The doorbell: tell the workers that a channel has work, at most once until they look, without delaying a producer.

A ring sets the channel's mark and, if it was not set, publishes the Celery message: one script, one round trip. The
delivery run clears the mark before it looks for leads, so a lead committed before its ring is always seen. A mark
expires after `MARK_SECONDS` (and one more for each message before it where these are many): a lost message delays a
channel for no longer, and the sweep rings again anyway.

There are two queues, and workers take from them in turn: of a campaign whose leads Voicery accepts, and of any other.
So the runs of many dead campaigns never come between two runs of one that works: one of them does.

`Bell` is the one interface; `Doorbell` rings through Redis, `Ringer` does so in a thread, `NullDoorbell` does nothing.
"""

import base64
import json
import os
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final, Protocol

import redis
from redis.commands.core import Script

from dispatcher.broker.connection import ACCEPTING_QUEUE, DELIVER, LOOKUP, PREFIX, QUEUE, connect
from dispatcher.failpoint import reach
from dispatcher.lead.options import Channel
from dispatcher.logs import events


class Bell(Protocol):
    """Wakes workers. No method raises.

    A ring returns False where Redis was not reached or too many messages wait: the sweep rings, mostly within 1 s.
    """

    def ring(self, channel: Channel) -> bool:
        """Wake a worker for the due leads of a channel."""

    def ring_lookup(self, account: str) -> bool:
        """Wake a worker for the due look-ups of an account."""

    def clear(self, channel: Channel) -> bool:
        """Let the channel's next ring publish again. A delivery run calls it before its first claim.

        Return whether the last run of the channel had an acceptance (see `served`).
        """

    def clear_lookup(self, account: str) -> None:
        """Let the account's next ring for look-ups publish again. A run of look-ups calls it before the first."""

    def served(self, channel: Channel, *, accepted: bool) -> None:
        """Note whether a run of the channel had an acceptance: it decides the queue of its next rings."""

    def waiting(self, besides: Channel | None = None, *, accepting_only: bool = False) -> bool:
        """Return whether a message waits for a worker; False if Redis cannot be asked.

        besides         do not count the message of this channel
        accepting_only  count look-ups and campaigns whose leads Voicery accepts, and no others
        """


class Breaker:
    """A circuit breaker: open for `open_seconds` after each failure, then half-open: one caller may try.

    If the trial does not report within `open_seconds`, the next caller is the trial. Thread-safe.
    """

    def __init__(self, open_seconds: float = 5.0, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._open_seconds = open_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._try_again_at: float | None = None

    def allows(self) -> bool:
        """Return whether this caller may try now; True after a failure makes this caller the trial."""
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
        """Open the breaker. Return whether it was closed before, so that the caller logs each outage once."""
        with self._lock:
            was_closed = self._try_again_at is None
            self._try_again_at = self._clock() + self._open_seconds
            return was_closed

    def succeeded(self) -> None:
        """Close the breaker."""
        if self._try_again_at is not None:
            with self._lock:
                self._try_again_at = None


_EMBED = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


@dataclass(frozen=True, slots=True)
class Ring:
    """A Celery message: the task, and the channel or account as its arguments."""

    task: str
    args: tuple[str] | tuple[str, int]

    def message(self) -> dict[str, Any]:
        """Return a new message of this task and these arguments."""
        message_id = str(uuid.uuid4())
        return {
            "body": base64.b64encode(json.dumps([self.args, {}, _EMBED]).encode()).decode(),
            "content-type": "application/json",
            "content-encoding": "utf-8",
            "headers": {
                "lang": "py",
                "task": self.task,
                "id": message_id,
                "root_id": message_id,
                "retries": 0,
                "timelimit": [None, None],
                "argsrepr": repr(self.args),
                "kwargsrepr": "{}",
                "ignore_result": True,
            },
            "properties": {
                "body_encoding": "base64",
                "correlation_id": message_id,
                "delivery_tag": message_id,
                "delivery_info": {"exchange": "", "routing_key": QUEUE},
            },
        }


MARK_SECONDS: Final = 5
OTHERS_MOST: Final = 50
"""So many messages wait at most of campaigns that nobody knows to be accepted; the sweep rings for the rest."""
_ACCEPTING_SECONDS: Final = 86_400  # so long is an acceptance remembered where no run follows


@dataclass(frozen=True, slots=True)
class _Wires:
    """The connections and locks of one process, which must not cross a fork."""

    pid: int
    client: redis.Redis
    script: Script
    breaker: Breaker


class Doorbell:
    """A `Bell` that rings through Redis; no call takes longer than about two seconds.

    After a failure Redis is not asked again for `pause_seconds`. Thread-safe and fork-safe; the first call connects.
    """

    def __init__(self, redis_url: str, *, prefix: str = PREFIX, pause_seconds: float = 5.0) -> None:
        self._redis_url = redis_url
        self._prefix = prefix
        self._pause_seconds = pause_seconds
        self._wires: _Wires | None = None

    def ring(self, channel: Channel) -> bool:
        """Ring for the due leads of a channel. Return whether the bell is now rung, by this call or an earlier one."""
        return self._ring(QUEUE, _mark(channel), Ring(DELIVER, (channel.account, channel.campaign_id)))

    def ring_lookup(self, account: str) -> bool:
        """Ring for the due look-ups of an account. Return whether the bell is now rung."""
        return self._ring(ACCEPTING_QUEUE, f"{account}:lookup", Ring(LOOKUP, (account,)))

    def clear(self, channel: Channel) -> bool:
        """Delete the channel's mark. Return whether its last run had an acceptance."""
        mark = _mark(channel)

        def clear(client: redis.Redis) -> int:
            with client.pipeline(transaction=False) as pipe:
                pipe.delete(self._key(mark))
                pipe.exists(self._accepting(mark))
                _, accepting = pipe.execute()
            return int(accepting)

        return bool(self._asked(clear))

    def clear_lookup(self, account: str) -> None:
        """Delete the mark of the account's look-ups."""
        self._clear(f"{account}:lookup")

    def served(self, channel: Channel, *, accepted: bool) -> None:
        """Set the channel's note that its leads are accepted, or delete it."""
        key = self._accepting(_mark(channel))
        if accepted:
            self._asked(lambda client: client.set(key, "1", ex=_ACCEPTING_SECONDS))
        else:
            self._asked(lambda client: client.delete(key))

    def waiting(self, besides: Channel | None = None, *, accepting_only: bool = False) -> bool:
        """Return whether a message waits for a worker; False if Redis cannot be asked."""
        queues = (ACCEPTING_QUEUE,) if accepting_only else (ACCEPTING_QUEUE, QUEUE)

        def count(client: redis.Redis) -> int:
            messages = sum(int(client.llen(self._prefix + queue)) for queue in queues)
            if messages and besides is not None:  # its mark stands for its message
                messages -= int(client.exists(self._key(_mark(besides))))
            return messages

        return bool(self._asked(count))

    def _ring(self, queue: str, mark: str, ring: Ring) -> bool:
        wires = self._current_wires()
        if not wires.breaker.allows():
            return False
        try:
            reach("ring.before")
            rung = wires.script(
                keys=[
                    self._key(mark),
                    self._prefix + queue,
                    self._prefix + ACCEPTING_QUEUE,
                    self._accepting(mark),
                ],
                args=[MARK_SECONDS, json.dumps(ring.message()), OTHERS_MOST],
            )
            reach("ring.after")
        except Exception as error:  # noqa: BLE001  # the lead is committed; no fault of the bell may reach the producer
            self._note_failure(wires, error)
            return False
        wires.breaker.succeeded()
        return bool(rung)

    def _clear(self, mark: str) -> None:
        self._asked(lambda client: client.delete(self._key(mark)))

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
            consequence = "leads are stored; the sweep rings for them"
            events.warning("doorbell.unavailable", error=type(error).__name__, consequence=consequence)

    def _key(self, mark: str) -> str:
        return f"{self._prefix}bell:{mark}"

    def _accepting(self, mark: str) -> str:
        return f"{self._prefix}accepting:{mark}"

    def _current_wires(self) -> _Wires:
        wires = self._wires
        if wires is None or wires.pid != os.getpid():
            wires = self._wires = self._new_wires()  # of two threads here at once one pair is dropped, unconnected
        return wires

    def _new_wires(self) -> _Wires:
        client = connect(self._redis_url)
        script = client.register_script(files("dispatcher.broker").joinpath("doorbell_ring.lua").read_text("utf-8"))
        return _Wires(pid=os.getpid(), client=client, script=script, breaker=Breaker(self._pause_seconds))


def _mark(channel: Channel) -> str:
    return f"{channel.account}:{channel.campaign_id}"


class NullDoorbell:
    """A `Bell` that does nothing: for dry runs, and for a process without `REDIS_URL`."""

    def ring(self, channel: Channel) -> bool:  # noqa: ARG002 - the interface
        """Return False."""
        return False

    def ring_lookup(self, account: str) -> bool:  # noqa: ARG002 - as above
        """Return False."""
        return False

    def clear(self, channel: Channel) -> bool:  # noqa: ARG002 - as above
        """Return False."""
        return False

    def clear_lookup(self, account: str) -> None:
        """Do nothing."""

    def served(self, channel: Channel, *, accepted: bool) -> None:
        """Do nothing."""

    def waiting(self, besides: Channel | None = None, *, accepting_only: bool = False) -> bool:  # noqa: ARG002 - as above
        """Return False."""
        return False
