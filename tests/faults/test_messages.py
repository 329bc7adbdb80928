"""Doorbells are lost, doubled, late and forged; Redis is emptied, killed, restarted: nothing breaks. Real workers."""

import contextlib
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis

from dispatcher.broker.connection import PREFIX, QUEUE
from dispatcher.broker.doorbell import Doorbell
from dispatcher.embedded.redis import EmbeddedRedis
from dispatcher.lead.options import Channel
from tests.faults.conftest import Case
from tests.faults.harness import CAMPAIGN, TOKEN, Harness
from tests.support.waiting import wait_until
from tests.support.worker_process import WorkerProcess

Worker = Callable[..., WorkerProcess]


def test_f7_flushall_in_the_middle(case: Case, own_redis: EmbeddedRedis, worker: Worker, seed: int) -> None:
    harness = case({"REDIS_URL": own_redis.url()}, latency_seconds=0.05)
    worker(harness.environment, "-c", "1")
    harness.submit(40)
    with redis.Redis.from_url(own_redis.url()) as client:
        for nth in range(1, 5):
            wait_until(lambda: harness.created() >= 6 * nth, 20)  # noqa: B023 - asked at once
            client.flushall()
    assert set(harness.settle()) == {"accepted"}
    harness.assert_sound()


def test_f8_redis_is_killed_and_restarted_empty(
    case: Case, own_redis: EmbeddedRedis, worker: Worker, seed: int
) -> None:
    harness = case({"REDIS_URL": own_redis.url()}, latency_seconds=0.02)
    worker(harness.environment, "-c", "1")
    for _ in range(4 if seed < 100 else 20):
        harness.submit(5)
        own_redis.kill()
        own_redis.start()
        harness.submit(1)
        wait_until(lambda: not harness.states()["pending"], 40, harness.states)
    assert set(harness.settle()) == {"accepted"}
    harness.assert_sound()


def test_f9_redis_drops_every_client_again_and_again(
    case: Case, own_redis: EmbeddedRedis, worker: Worker, seed: int
) -> None:
    harness = case({"REDIS_URL": own_redis.url()}, latency_seconds=0.02)
    worker(harness.environment, "-c", "1")
    harness.submit(30)
    with redis.Redis.from_url(own_redis.url()) as client:

        def drop() -> bool:
            with contextlib.suppress(redis.RedisError):
                client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            return harness.states()["accepted"] >= 25

        wait_until(drop, 40, harness.states)
    assert set(harness.settle()) == {"accepted"}
    harness.assert_sound()


def test_f10_every_message_comes_five_times(case: Case, redis_url: str, worker: Worker, seed: int) -> None:
    harness = case(latency_seconds=0.05)
    bell = Doorbell(redis_url)
    for _ in range(10):
        harness.submit(2)
        for _ in range(5):
            bell.clear(Channel("default", CAMPAIGN))
            bell.ring(Channel("default", CAMPAIGN))
    worker(harness.environment, "-c", "2")
    assert set(harness.settle(controls=False)) == {"accepted"}
    assert harness.posts() == 20
    harness.assert_sound()


def envelope(body: str, **headers: Any) -> str:
    properties = {"delivery_mode": 2, "delivery_info": {"exchange": "", "routing_key": QUEUE}, "delivery_tag": "x"}
    return json.dumps(
        {
            "body": body,
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {"lang": "py", "task": "dispatcher.deliver", "id": "x", **headers},
            "properties": {**properties, "body_encoding": "utf-8"},
        }
    )


FORGED = {
    "foreign channel": envelope('[["default", 999], {}, {}]'),
    "foreign account": envelope('[["nobody", 42], {}, {}]'),
    "wrong types": envelope('[[{"a": 1}, "x"], {}, {}]'),
    "null": envelope("null"),
    "text": envelope('"x"'),
    "pickle": envelope("gASVBQAAAAAAAACMAXiULg==", **{"content-type": "application/x-python-serialize"}),
    "a megabyte": envelope(json.dumps([["x" * 2**20, 42], {}, {}])),
    "no JSON": "\x80\x04not json",
    "other task": envelope("[[], {}, {}]", task="os.system"),
}


@pytest.mark.parametrize("message", FORGED.values(), ids=FORGED)
def test_f11_a_forged_message_sends_nothing_and_stops_nobody(
    message: str, case: Case, redis_url: str, forged_worker: Callable[[Harness], WorkerProcess], seed: int
) -> None:
    harness = case()
    process = forged_worker(harness)
    with redis.Redis.from_url(redis_url) as client:
        client.lpush(PREFIX + QUEUE, message)
    harness.submit(1)
    assert set(harness.settle(controls=False)) == {"accepted"}
    assert process.running
    assert harness.posts() == 1
    harness.assert_sound()


@pytest.fixture
def forged_worker(worker: Worker) -> Callable[[Harness], WorkerProcess]:
    return lambda harness: worker(harness.environment, "-P", "threads", "-c", "1")


def test_i7_redis_never_learns_a_number_or_the_token(case: Case, redis_url: str, worker: Worker, seed: int) -> None:
    harness = case(latency_seconds=0.2)
    harness.submit(10)
    process = worker(harness.environment, "-c", "1")
    phones = [phone for (phone,) in harness.query("SELECT phone_number FROM dispatcher.leads")]
    seen = []
    with redis.Redis.from_url(redis_url) as client:

        def look() -> bool:
            seen.extend(key + (client.dump(key) or b"") for key in client.scan_iter(count=1000))
            return harness.states()["accepted"] == 10

        wait_until(look, 30, harness.states)
    assert seen
    canaries = [TOKEN, urlsplit(harness.environment["DATABASE_URL"]).password or TOKEN]
    canaries += [phone.removeprefix("+") for phone in phones]
    for canary in canaries:
        assert not any(canary.encode() in value for value in seen)
        assert canary not in process.log
        assert canary not in command_lines(process.pid)


def command_lines(group: int) -> str:
    import psutil

    family = [psutil.Process(group), *psutil.Process(group).children(recursive=True)]
    return "\n".join(" ".join(member.cmdline()) for member in family)
