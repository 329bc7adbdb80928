"""The producer dies, its commit is not acknowledged, its Redis is away."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from urllib.parse import urlsplit, urlunsplit

import pytest

from dispatcher.embedded.redis import EmbeddedRedis
from tests.faults.conftest import Case
from tests.faults.harness import CAMPAIGN, Harness
from tests.faults.proxy import Proxy
from tests.support.environment import clean_environment
from tests.support.waiting import wait_until

SUBMIT = """
import sys, dispatcher
print(dispatcher.submit({"phone_number": sys.argv[1], "campaign_id": 42, "allow_dupplicate": True}).id, flush=True)
"""
SUBMIT_MOST_SECONDS = 2.5


def produce(harness: Harness, failpoint: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", SUBMIT, next(harness.phones)],
        env={**clean_environment(), **harness.environment, "DISPATCHER_FAILPOINT": failpoint, **environment},
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
    )


@pytest.mark.parametrize("place", ["submit.after_commit", "ring.before", "ring.after"])
def test_f1_a_producer_that_dies_after_its_commit_has_submitted(place: str, case: Case, seed: int) -> None:
    harness = case()
    assert produce(harness, f"{place}:1").returncode == 137
    ((lead_id,),) = harness.query("SELECT id::text FROM dispatcher.leads")
    harness.submitted.append(lead_id)
    harness.engine()
    assert set(harness.settle()) == {"accepted"}
    harness.assert_sound()


def test_f2_a_producer_that_dies_before_its_commit_has_submitted_nothing(case: Case, seed: int) -> None:
    harness = case()
    assert produce(harness, "submit.before_commit:1").returncode == 137
    assert harness.query("SELECT id FROM dispatcher.leads") == []
    harness.engine()
    harness.submit(1)
    harness.settle()
    assert harness.posts() == len(harness.submitted)


@pytest.fixture
def proxied(database_url: str) -> Iterator[tuple[Proxy, str]]:
    """A proxy before Postgres, and the URL through it."""
    parts = urlsplit(database_url)
    with Proxy((parts.hostname or "", parts.port or 5432)) as proxy:
        credentials = parts.netloc.rsplit("@", 1)[0]
        yield proxy, urlunsplit(parts._replace(netloc=f"{credentials}@127.0.0.1:{proxy.port}", query="sslmode=disable"))


def test_f3_a_commit_that_was_not_acknowledged_is_repeated_under_its_own_id(
    case: Case, proxied: tuple[Proxy, str], seed: int
) -> None:
    harness = case()
    proxy, url = proxied
    dispatcher = harness.dispatcher(DATABASE_URL=url)
    first = dispatcher.submit({"phone_number": next(harness.phones), "campaign_id": CAMPAIGN})
    proxy.swallow_answer_to(lambda data: b"INSERT INTO dispatcher.leads" in data or b"+1" in data)
    second = dispatcher.submit({"phone_number": next(harness.phones), "campaign_id": CAMPAIGN})
    assert proxy.cuts == 1, "the answer to the commit was lost, else this proved nothing"
    assert len(harness.query("SELECT id FROM dispatcher.leads")) == 2
    harness.submitted += [str(first.id), str(second.id)]
    harness.engine()
    assert set(harness.settle()) == {"accepted"}
    harness.assert_sound()


def submit_timed(harness: Harness, count: int) -> float:
    """The longest of so many submits, in seconds."""
    longest = 0.0
    for _ in range(count):
        began = time.monotonic()
        harness.submit(1)
        longest = max(longest, time.monotonic() - began)
    return longest


def test_f4_a_refusing_redis_hinders_no_submit(case: Case, own_redis: EmbeddedRedis, seed: int) -> None:
    harness = case({"REDIS_URL": own_redis.url()})
    own_redis.kill()
    assert submit_timed(harness, 20) < SUBMIT_MOST_SECONDS
    own_redis.start()
    harness.engine()
    assert set(harness.settle()) == {"accepted"}
    harness.assert_sound()


def test_f5_a_redis_that_swallows_everything_hinders_no_submit(case: Case, own_redis: EmbeddedRedis, seed: int) -> None:
    parts = urlsplit(own_redis.url())
    with Proxy(("127.0.0.1", parts.port or 0)) as proxy:
        through = urlunsplit(parts._replace(netloc=f":{parts.password}@127.0.0.1:{proxy.port}"))
        harness = case({"REDIS_URL": through})
        proxy.black_hole = True
        assert submit_timed(harness, 20) < SUBMIT_MOST_SECONDS
        proxy.black_hole = False
        harness.engine()
        assert set(harness.settle()) == {"accepted"}
        harness.assert_sound()


def test_f6_a_full_redis_hinders_no_submit(case: Case, own_redis: EmbeddedRedis, seed: int) -> None:
    import redis

    harness = case({"REDIS_URL": own_redis.url()})
    with redis.Redis.from_url(own_redis.url()) as client:
        client.config_set("maxmemory", "1")
        assert submit_timed(harness, 20) < SUBMIT_MOST_SECONDS
        harness.engine()
        harness.submit(3)
        client.config_set("maxmemory", "0")
    assert set(harness.settle()) == {"accepted"}
    harness.assert_sound()


def test_f37_sixteen_threads_with_one_key_submit_one_lead(case: Case, seed: int) -> None:
    harness = case()
    dispatcher = harness.dispatcher()
    fields = {"phone_number": next(harness.phones), "campaign_id": CAMPAIGN, "allow_dupplicate": True}
    ids: list[str] = []
    start = threading.Barrier(16)

    def submit() -> None:
        start.wait()
        ids.append(str(dispatcher.submit(fields, idempotency_key="crm-17").id))

    threads = [threading.Thread(target=submit) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ids) == 16
    assert len(set(ids)) == 1
    harness.submitted.append(ids[0])
    harness.engine()
    wait_until(lambda: harness.state_of(ids[0]) == "accepted", 20)
    assert harness.posts_of(ids[0]) == 1
    harness.assert_sound()
