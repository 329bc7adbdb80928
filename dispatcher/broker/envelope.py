"""Kombu's Redis transport, which accepts only doorbells.

Any client of Redis can put anything into the queue, and Celery trusts its messages: a body that is `null` kills the
worker, a time limit kills a task in mid-POST, an `eta` hoards, a `callbacks` list runs further tasks. So the task's
name and arguments are read, checked, and built into a new message. Anything else is dropped with one log line, before
Celery sees it and before it is recorded as unacknowledged.

Dropping is safe: a message is only a hint, and the sweep rings for whatever is due.
"""

import base64
import json
from collections.abc import Mapping
from queue import Empty
from typing import Any, Final

import redis
from kombu.transport import redis as kombu_redis
from kombu.transport.virtual import Message as VirtualMessage

from dispatcher.broker.connection import DELIVER, LOOKUP, REDIS_URL_OPTION, connection_options, primary_pool
from dispatcher.broker.doorbell import Ring
from dispatcher.config.urls import sentinels_of
from dispatcher.lead.options import ACCOUNT_NAME
from dispatcher.logs import events

# kombu's annotations stop at the class line, hence the two `no-untyped-call` below.
_BODY_MAX_CHARACTERS: Final = 4096  # ours have less than 300
_CAMPAIGN_ID_MAX: Final = 2**63 - 1


class NotADoorbell(ValueError):
    """The message is no doorbell; the text says why and quotes nothing of it."""


def read_ring(raw: object) -> Ring:
    """Return the doorbell of a raw message. Raise `NotADoorbell` for any other message."""
    if not isinstance(raw, Mapping):
        raise NotADoorbell("it is no object")
    headers, body = raw.get("headers"), raw.get("body")
    task = headers.get("task") if isinstance(headers, Mapping) else None
    if task not in (DELIVER, LOOKUP):
        raise NotADoorbell("it names no task of the dispatcher")
    if raw.get("content-type") != "application/json":
        raise NotADoorbell("its body is not JSON")
    if not isinstance(body, str) or len(body) > _BODY_MAX_CHARACTERS:
        raise NotADoorbell("its body is no short text")
    match json.loads(base64.b64decode(body, validate=True)):
        case [[str(account), campaign_id], dict(), dict()] if task == DELIVER:
            if type(campaign_id) is not int or not 1 <= campaign_id <= _CAMPAIGN_ID_MAX:
                raise NotADoorbell("its campaign is none")
            args: tuple[str] | tuple[str, int] = (account, campaign_id)
        case [[str(account)], dict(), dict()] if task == LOOKUP:
            args = (account,)
        case _:
            raise NotADoorbell("its arguments are not those of the task")
    if not ACCOUNT_NAME.fullmatch(account):
        raise NotADoorbell("its account is no name")
    return Ring(str(task), args)


class Message(VirtualMessage):
    """A new message built from what `read_ring` accepted. Raises as `read_ring`."""

    def __init__(self, payload: object, channel: object = None, **options: object) -> None:
        super().__init__(read_ring(payload).message(), channel=channel, **options)  # type: ignore[no-untyped-call]


class DoorbellChannel(kombu_redis.Channel):
    """Kombu's Redis channel, which drops unreadable messages instead of failing."""

    Message = Message

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:  # noqa: FBT001, FBT002 - kombu's signature
        """Connect as the doorbell and the limiter do: redis-py's reading of the URL replaces kombu's."""
        url = self.connection.client.transport_options.get(REDIS_URL_OPTION)
        if url is None:  # an app of a test, with a plain address
            return dict(super()._connparams(asynchronous=asynchronous))  # type: ignore[no-untyped-call]
        # kombu derives its own class from this one, to learn of lost connections.
        kind, ours = connection_options(url.reveal())
        self.connection_class = self.connection_class_ssl = kind
        theirs = super()._connparams(asynchronous=asynchronous)  # type: ignore[no-untyped-call]
        kept = {
            name: value
            for name, value in theirs.items()
            if name not in {"host", "port", "path", "username", "password"} and not name.startswith("ssl_")
        }
        return {**kept, **ours}

    def _get_pool(self, asynchronous: bool = False) -> object:  # noqa: FBT001, FBT002 - kombu's signature
        url = self.connection.client.transport_options.get(REDIS_URL_OPTION)
        several = None if url is None else sentinels_of(url.reveal())
        if several is None:
            return super()._get_pool(asynchronous=asynchronous)  # type: ignore[no-untyped-call]
        pool = primary_pool(several, **self._connparams(asynchronous=asynchronous))
        # kombu closes the connections to the sentinels of these two.
        if asynchronous:
            self._async_sentinel_manager = pool.sentinel_manager
        else:
            self._sentinel_manager = pool.sentinel_manager
        return pool

    def _brpop_read(self, **options: object) -> object:
        try:
            return super()._brpop_read(**options)  # type: ignore[no-untyped-call]
        # Not JSON, too deeply nested, no text, no doorbell. The message has left the queue already.
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            reason = str(error) if isinstance(error, NotADoorbell) else type(error).__name__
            events.warning("message.dropped", reason=reason)
            raise Empty from None
        except redis.ResponseError as error:
            # Celery would take it for a fault of the connection, and reconnect for ever to the same key.
            if not str(error).startswith("WRONGTYPE"):
                raise
            self._delete_wrong_types()
            raise Empty from None

    def _delete_wrong_types(self) -> None:
        """Delete what stands under one of the broker's keys and is of another type. No lead is in Redis."""
        kinds = {self.unacked_key: "hash", self.unacked_index_key: "zset", self.unacked_mutex_key: "string"}
        for queue in self.active_queues:
            kinds |= {self._q_for_pri(queue, step): "list" for step in self.priority_steps}  # type: ignore[no-untyped-call]
            kinds[self.keyprefix_queue % queue] = "set"
        client = redis.Redis(connection_pool=self.pool)  # without kombu's prefix, which it knows of some commands only
        for name, kind in kinds.items():
            key = f"{self.global_keyprefix}{name}"
            if client.type(key) not in (kind, kind.encode(), "none", b"none"):
                client.delete(key)
                events.warning("redis.repaired", account=None, keys=1, consequence="the sweep rings again")


class Transport(kombu_redis.Transport):
    """Kombu's Redis transport with this channel, used by `celery.WorkerApp`."""

    Channel = DoorbellChannel
