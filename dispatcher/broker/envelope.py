"""What may come in from the queue: a doorbell, or nothing.

Whoever can write to Redis can put anything into the queue. Celery trusts its messages: a body that is `null` kills the
worker, a time limit kills a task in mid-POST, an `eta` hoards, a `callbacks` list runs further tasks. So a message is
read, not trusted: of each we take the task's name and its arguments, check them, and build the message anew. What is no
doorbell is dropped with one line in the log, before Celery sees it and before it is noted as unacknowledged.

Dropping is safe: a message is only a hint, and the sweep rings for whatever is due.
"""

import base64
import json
import logging
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from queue import Empty
from typing import Any, Final

from kombu.transport import redis as kombu_redis
from kombu.transport.virtual import Message as VirtualMessage

from dispatcher.broker.connection import ALERT, DELIVER, LOOKUP, QUEUE
from dispatcher.leads.options import ACCOUNT_NAME

# kombu's annotations stop at the class line, hence the two `no-untyped-call` below.
_BODY_MAX_CHARACTERS: Final = 4096  # ours have less than 300
_CAMPAIGN_ID_MAX: Final = 2**63 - 1

_log = logging.getLogger(__name__)


class NotADoorbell(ValueError):
    """The message is none of ours; the text says why and quotes nothing of it."""


@dataclass(frozen=True, slots=True)
class Ring:
    """A checked message: which task, for what."""

    task: str
    args: tuple[()] | tuple[str] | tuple[str, int]


def read_ring(raw: object) -> Ring:
    """What the raw message asks for. Raises `NotADoorbell` for anything that we did not publish ourselves."""
    if not isinstance(raw, Mapping):
        raise NotADoorbell("it is no object")
    headers, body = raw.get("headers"), raw.get("body")
    task = headers.get("task") if isinstance(headers, Mapping) else None
    if task not in (DELIVER, LOOKUP, ALERT):
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
        case [[], dict(), dict()] if task == ALERT:
            return Ring(ALERT, ())
        case _:
            raise NotADoorbell("its arguments are not those of the task")
    if not ACCOUNT_NAME.fullmatch(account):
        raise NotADoorbell("its account is no name")
    return Ring(str(task), args)


def _rebuilt(ring: Ring) -> dict[str, Any]:
    """A message of Celery's protocol 2 that says `ring` and nothing else."""
    message_id = str(uuid.uuid4())
    embed = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    return {
        "body": base64.b64encode(json.dumps([ring.args, {}, embed]).encode()).decode(),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {
            "lang": "py",
            "task": ring.task,
            "id": message_id,
            "root_id": message_id,
            "retries": 0,
            "timelimit": [None, None],
            "argsrepr": repr(ring.args),
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


class Message(VirtualMessage):
    """A message built anew from what `read_ring` accepted. Raises what `read_ring` raises."""

    def __init__(self, payload: object, channel: object = None, **options: object) -> None:
        super().__init__(_rebuilt(read_ring(payload)), channel=channel, **options)  # type: ignore[no-untyped-call]


class Channel(kombu_redis.Channel):
    """Kombu's Redis channel, which survives what it cannot read."""

    Message = Message

    def _brpop_read(self, **options: object) -> object:
        try:
            return super()._brpop_read(**options)  # type: ignore[no-untyped-call]
        # Not JSON, too deep, no text, no doorbell: it has left the queue, so dropping it is forgetting it.
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            reason = str(error) if isinstance(error, NotADoorbell) else type(error).__name__
            _log.warning("Dropped a message that is no doorbell: %s.", reason)
            raise Empty from None


class Transport(kombu_redis.Transport):
    """Kombu's Redis transport with that channel; what `celery.WorkerApp` consumes by."""

    Channel = Channel
