"""Who can write to Redis delays a lead by no more than Voicery could, and keeps no worker from consuming."""

import json
import socket
from collections.abc import Iterator

import pytest
import redis
from kombu import Connection, Queue

from dispatcher.broker.connection import PREFIX, QUEUE, connect
from dispatcher.broker.doorbell import Doorbell, Ring
from dispatcher.broker.limiter import ANNOUNCED_MAX_SECONDS, Limiter
from dispatcher.config.account import RateWindow
from dispatcher.lead.options import Channel
from dispatcher.operator.health import Heartbeat, judge

CHANNEL = Channel("default", 42)
WINDOWS = (RateWindow(10, 60.0),)
ANNOUNCED = "dispatcher:announced:default"
YEAR_LATER = 1_900_000_000 * 1_000_000


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with connect(redis_url) as client:
        yield client


@pytest.fixture
def limiter(client: redis.Redis) -> Limiter:
    limiter = Limiter(client)
    granted = limiter.take(CHANNEL, 1, WINDOWS)
    assert granted.granted == 1
    return limiter


def announce(client: redis.Redis, **fields: object) -> None:
    seconds, microseconds = client.time()
    now = seconds * 1_000_000 + microseconds
    whole = {"at": now, "hold": 0, "remaining": 5, "reset": 0, **fields}
    client.delete(ANNOUNCED)
    client.hset(ANNOUNCED, mapping={name: str(value) for name, value in whole.items() if value is not None})


@pytest.mark.parametrize(
    "fields",
    [
        {"hold": YEAR_LATER}, {"reset": YEAR_LATER, "remaining": 0}, {"reset": YEAR_LATER, "remaining": -(10**9)},
        {"hold": "inf"}, {"hold": "nan"}, {"hold": "soon"}, {"hold": ""}, {"hold": None}, {"at": None}, {"at": "x"},
        {"at": "nan"}, {"at": "-inf"}, {"remaining": "many"}, {"remaining": "0.5", "reset": YEAR_LATER},
        {"hold": "1e400"}, {"reset": None},
    ],
    ids=str,
)  # fmt: skip
def test_an_announcement_that_voicery_cannot_have_made_is_deleted_and_reported(
    client: redis.Redis, limiter: Limiter, fields: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    announce(client, **fields)
    assert limiter.held_seconds("default") >= 0
    assert limiter.take(CHANNEL, 1, WINDOWS).granted == 1
    assert not client.exists(ANNOUNCED)
    assert "redis.repaired" in caplog.text


def test_what_voicery_may_announce_holds(client: redis.Redis, limiter: Limiter) -> None:
    limiter.slow("default", remaining=0, reset_seconds=10 * ANNOUNCED_MAX_SECONDS)
    permits = limiter.take(CHANNEL, 1, WINDOWS)
    assert permits.granted == 0
    assert ANNOUNCED_MAX_SECONDS - 60 < permits.next_in_seconds <= ANNOUNCED_MAX_SECONDS
    assert ANNOUNCED_MAX_SECONDS - 60 < limiter.held_seconds("default") <= ANNOUNCED_MAX_SECONDS


@pytest.mark.parametrize("kind", ["string", "list", "set", "zset", "hash"])
@pytest.mark.parametrize(
    "key", [ANNOUNCED, "dispatcher:permits:default", "dispatcher:permits:default:lookups",
            "dispatcher:permits:default:known", "dispatcher:permits:default:lost"],
)  # fmt: skip
def test_a_key_of_another_type_stops_no_taking(client: redis.Redis, limiter: Limiter, key: str, kind: str) -> None:
    client.delete(key, "dispatcher:permits:default:known")
    put(client, key, kind)
    limiter.slow("default", remaining=9, reset_seconds=1)
    assert limiter.take(CHANNEL, 1, WINDOWS).granted == 1
    assert limiter.take_lookups("default", 1, WINDOWS, leads_wait=False).granted == 1
    assert limiter.usage("default", WINDOWS)[0].used >= 1


@pytest.mark.parametrize("lost", ["x", "nan", "", str(YEAR_LATER), "-inf"])
def test_a_forged_time_of_loss_stops_no_taking(client: redis.Redis, limiter: Limiter, lost: str) -> None:
    client.delete("dispatcher:permits:default:known")
    client.set("dispatcher:permits:default:lost", lost)
    assert limiter.take(CHANNEL, 1, WINDOWS).granted == 1


def put(client: redis.Redis, key: str, kind: str) -> None:
    client.delete(key)
    match kind:
        case "string":
            client.set(key, "forged")
        case "list":
            client.lpush(key, "forged")
        case "set":
            client.sadd(key, "forged")
        case "zset":
            client.zadd(key, {"forged": 1})
        case _:
            client.hset(key, "forged", "forged")


@pytest.mark.parametrize("life", [None, 3600, 10**6])
def test_a_mark_that_never_ends_silences_no_doorbell(client: redis.Redis, redis_url: str, life: int | None) -> None:
    client.set("dispatcher:bell:default:42", "1", ex=life)
    assert Doorbell(redis_url).ring(CHANNEL)
    assert client.llen(PREFIX + QUEUE) == 1
    assert Doorbell(redis_url).ring(CHANNEL)
    assert client.llen(PREFIX + QUEUE) == 1, "our own mark is kept to"


@pytest.mark.parametrize("kind", ["string", "set", "zset", "hash"])
def test_a_doorbell_rings_through_a_queue_of_another_type(client: redis.Redis, redis_url: str, kind: str) -> None:
    put(client, PREFIX + QUEUE, kind)
    assert Doorbell(redis_url).ring(CHANNEL)
    assert client.llen(PREFIX + QUEUE) == 1


@pytest.mark.parametrize("kind", ["string", "set", "zset", "hash"])
def test_a_worker_consumes_again_after_its_queue_had_another_type(
    client: redis.Redis, redis_url: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[object] = []
    options = {"global_keyprefix": PREFIX}
    with Connection(
        redis_url, transport="dispatcher.broker.envelope:Transport", transport_options=options
    ) as connection, connection.Consumer(
        [Queue(QUEUE, routing_key=QUEUE)], callbacks=[lambda body, message: heard.append(body)], accept=["json"],
        no_ack=True,
    ):  # fmt: skip
        put(client, PREFIX + QUEUE, kind)
        with pytest.raises((socket.timeout, TimeoutError)):
            connection.drain_events(timeout=1.5)
        assert "redis.repaired" in caplog.text
        client.lpush(PREFIX + QUEUE, json.dumps(Ring("dispatcher.deliver", ("default", 42)).message()))
        connection.drain_events(timeout=10)
    assert heard


def test_health_tells_of_a_hold_while_leads_are_due() -> None:
    well = {"worker_age": 1.0, "sweep_age": 1.0, "served_age": 1.0, "recorded_age": 1.0}
    held = judge(Heartbeat(due_age=5.0, **well), within_seconds=60, held_seconds=3000)
    assert not held.ok
    assert "Redis lets nothing through for another 3000 s" in held.faults[0]
    assert judge(Heartbeat(due_age=None, **well), within_seconds=60, held_seconds=3000).ok
    assert judge(Heartbeat(due_age=5.0, **well), within_seconds=60, held_seconds=30).ok
