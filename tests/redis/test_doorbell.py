"""The doorbell on a real Redis, healthy and not."""

import json
import logging
import multiprocessing
import os
import socket
import threading
import time
from collections.abc import Callable

import pytest

from dispatcher.broker.doorbell import MARK_SECONDS, OTHERS_MOST, Doorbell
from dispatcher.lead.options import Channel

from .conftest import RedisServer

WORST_CASE_SECONDS = 3.5  # about two, and what a busy machine takes for itself; Celery's own defaults hang


@pytest.fixture
def doorbell(server: RedisServer) -> Doorbell:
    return Doorbell(server.url)


def queue(server: RedisServer, name: str = "dispatcher") -> list[dict[str, object]]:
    with server.client() as client:
        return [json.loads(raw) for raw in client.lrange(f"dispatcher:{name}", 0, -1)]


def accepting(server: RedisServer) -> list[dict[str, object]]:
    return queue(server, "dispatcher.accepting")


def seconds(call: Callable[[], object]) -> float:
    begin = time.monotonic()
    call()
    return time.monotonic() - begin


def quickest(call: Callable[[], object]) -> float:
    """Of five calls, for a busy machine holds up one or the other; waiting is done by all of them."""
    return min(seconds(call) for _ in range(5))


def test_many_rings_before_a_run_are_one_message(server: RedisServer, doorbell: Doorbell) -> None:
    assert all(doorbell.ring(Channel("default", 42)) for _ in range(50))
    assert len(queue(server)) == 1


def test_each_channel_and_each_accounts_lookups_have_a_bell_of_their_own(
    server: RedisServer, doorbell: Doorbell
) -> None:
    doorbell.ring(Channel("default", 42))
    doorbell.ring(Channel("default", 43))
    doorbell.ring(Channel("other", 42))
    doorbell.ring_lookup("default")
    assert [message["headers"]["task"] for message in queue(server)] == ["dispatcher.deliver"] * 3  # type: ignore[index]
    assert [message["headers"]["task"] for message in accepting(server)] == ["dispatcher.lookup"]  # type: ignore[index]


def test_a_ring_after_the_run_began_is_a_new_message(server: RedisServer, doorbell: Doorbell) -> None:
    doorbell.ring(Channel("default", 42))
    doorbell.clear(Channel("default", 42))
    doorbell.ring(Channel("default", 42))
    doorbell.ring_lookup("default")
    doorbell.clear_lookup("default")
    doorbell.ring_lookup("default")
    assert len(queue(server)) == len(accepting(server)) == 2


def test_a_campaign_whose_leads_are_accepted_has_a_queue_apart_until_a_run_without_an_acceptance(
    server: RedisServer, doorbell: Doorbell
) -> None:
    doorbell.served(Channel("default", 42), accepted=True)
    doorbell.ring(Channel("default", 42))
    doorbell.ring(Channel("default", 43))
    doorbell.ring(Channel("other", 42))
    assert [len(accepting(server)), len(queue(server))] == [1, 2]

    doorbell.served(Channel("default", 42), accepted=False)
    doorbell.clear(Channel("default", 42))
    doorbell.ring(Channel("default", 42))
    assert [len(accepting(server)), len(queue(server))] == [1, 3]


def test_many_other_campaigns_do_not_fill_the_queue_and_the_accepting_ones_are_not_counted(
    server: RedisServer, doorbell: Doorbell
) -> None:
    rung = [doorbell.ring(Channel("default", number)) for number in range(1, OTHERS_MOST + 20)]
    assert sum(rung) == len(queue(server)) == OTHERS_MOST
    assert not doorbell.ring(Channel("default", 1000)), "the sweep rings when there is room"
    assert doorbell.ring(Channel("default", 1)), "its message waits"
    doorbell.served(Channel("default", 1000), accepted=True)
    assert doorbell.ring(Channel("default", 1000))
    assert len(accepting(server)) == 1

    with server.client() as client:
        client.rpop("dispatcher:dispatcher")
    assert doorbell.ring(Channel("default", 1001))


def test_a_message_behind_many_is_not_doubled_before_its_turn(server: RedisServer, doorbell: Doorbell) -> None:
    for number in range(1, 21):
        doorbell.ring(Channel("default", number))
    with server.client() as client:
        assert client.pttl("dispatcher:bell:default:20") > (MARK_SECONDS + 18) * 1000


def test_a_lost_message_silences_a_channel_for_five_seconds_at_most(server: RedisServer, doorbell: Doorbell) -> None:
    doorbell.ring(Channel("default", 42))
    with server.client() as client:
        assert 0 < client.pttl("dispatcher:bell:default:42") <= MARK_SECONDS * 1000 <= 5000


def test_every_key_has_our_prefix_and_the_message_says_nothing_but_the_channel(
    server: RedisServer, doorbell: Doorbell
) -> None:
    doorbell.ring(Channel("default", 42))
    with server.client() as client:
        assert all(key.startswith(b"dispatcher:") for key in client.scan_iter("*"))
    [message] = queue(server)
    assert message["headers"]["argsrepr"] == "('default', 42)"  # type: ignore[index]


def test_it_knows_whether_another_bell_waits(doorbell: Doorbell) -> None:
    assert not doorbell.waiting()
    doorbell.ring(Channel("default", 42))
    assert doorbell.waiting()
    assert not doorbell.waiting(accepting_only=True)
    assert not doorbell.waiting(Channel("default", 42)), "a run is not to make room for itself"
    assert doorbell.waiting(Channel("default", 43))
    doorbell.ring_lookup("default")
    assert doorbell.waiting(accepting_only=True)


def test_a_ring_that_finds_the_mark_set_is_one_round_trip(server: RedisServer, doorbell: Doorbell) -> None:
    doorbell.ring(Channel("default", 42))
    with server.client() as client:
        before = client.info("commandstats")
        for _ in range(10):
            doorbell.ring(Channel("default", 42))
        after = client.info("commandstats")
    assert after["cmdstat_evalsha"]["calls"] - before["cmdstat_evalsha"]["calls"] == 10
    assert set(after) - set(before) <= {"cmdstat_info"}
    assert after.get("cmdstat_lpush") == before.get("cmdstat_lpush")


def test_a_refused_redis_is_false_and_quick(doorbell: Doorbell) -> None:
    dead = Doorbell("redis://127.0.0.1:1/0", pause_seconds=0.0)
    rung = []
    assert quickest(lambda: rung.append(dead.ring(Channel("default", 42)))) < 0.5
    assert not any(rung)
    assert not dead.waiting()
    dead.clear(Channel("default", 42))


def test_a_frozen_redis_costs_one_bounded_wait_and_then_nothing(server: RedisServer, doorbell: Doorbell) -> None:
    doorbell.ring(Channel("default", 1))
    with server.frozen():
        for bell in (doorbell, Doorbell(server.url)):
            assert seconds(lambda bell=bell: bell.ring(Channel("default", 42))) < WORST_CASE_SECONDS  # type: ignore[misc]
            assert quickest(lambda bell=bell: [bell.ring(Channel("default", n)) for n in range(1000)]) < 0.2  # type: ignore[misc]


def test_sixteen_threads_at_a_frozen_redis_all_return_in_time(server: RedisServer, doorbell: Doorbell) -> None:
    took: list[float] = []
    threads = [
        threading.Thread(target=lambda n=n: took.append(seconds(lambda: doorbell.ring(Channel("default", n)))))
        for n in range(16)
    ]
    with server.frozen():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert len(took) == 16
    assert max(took) < WORST_CASE_SECONDS


def test_a_channel_is_not_marked_as_rung_if_its_message_was_not_published(server: RedisServer) -> None:
    with server.client() as client:
        client.config_set("maxmemory", 1)
        assert not Doorbell(server.url).ring(Channel("default", 42))
        client.config_set("maxmemory", 0)
    assert Doorbell(server.url).ring(Channel("default", 42))
    assert len(queue(server)) == 1


def test_a_full_redis_is_false_and_quick(server: RedisServer) -> None:
    doorbell = Doorbell(server.url, pause_seconds=0.0)
    rung = []
    with server.client() as client:
        client.config_set("maxmemory", 1)
    assert quickest(lambda: rung.append(doorbell.ring(Channel("default", 42)))) < 0.5
    assert not any(rung)
    assert queue(server) == []


def test_it_rings_again_once_the_pause_is_over(own_server: RedisServer) -> None:
    doorbell = Doorbell(own_server.url, pause_seconds=0.0)
    assert not doorbell.ring(Channel("default", 42))
    own_server.start()
    assert doorbell.ring(Channel("default", 42))
    own_server.kill()
    assert not doorbell.ring(Channel("default", 43))
    own_server.start()
    assert doorbell.ring(Channel("default", 44))


def test_an_outage_is_one_line_in_the_log_and_shows_no_password(caplog: pytest.LogCaptureFixture) -> None:
    dead = Doorbell("redis://:canary-password@127.0.0.1:1/0", pause_seconds=0.0)
    with caplog.at_level(logging.DEBUG):
        for n in range(5):
            dead.ring(Channel("default", n))
    (record,) = (record for record in caplog.records if record.name.startswith("dispatcher"))
    assert (record.levelname, record.msg, record.error) == ("WARNING", "doorbell.unavailable", "ConnectionError")  # type: ignore[attr-defined]
    assert "canary" not in str(vars(record))


def _ring_in_child(doorbell: Doorbell, answers: "multiprocessing.Queue[bool]") -> None:
    answers.put(doorbell.ring(Channel("default", os.getpid())))


def test_a_forked_child_uses_connections_and_locks_of_its_own(server: RedisServer, doorbell: Doorbell) -> None:
    doorbell.ring(Channel("default", 1))
    fork = multiprocessing.get_context("fork")
    answers: multiprocessing.Queue[bool] = fork.Queue()
    children = [fork.Process(target=_ring_in_child, args=(doorbell, answers)) for _ in range(3)]
    for child in children:
        child.start()
    assert [answers.get(timeout=20) for _ in children] == [True] * 3
    for child in children:
        child.join(60)
    assert doorbell.ring(Channel("default", 2))
    assert len(queue(server)) == 5


def test_making_one_opens_nothing_and_the_first_ring_connects(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def getaddrinfo(*address: object, **_: object) -> list[object]:
        asked.append(address)
        raise OSError

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    doorbell = Doorbell("redis://no-such-host.invalid:1/0")
    assert asked == []
    assert not doorbell.ring(Channel("default", 1))
    assert len(asked) == 1
