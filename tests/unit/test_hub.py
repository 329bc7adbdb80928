"""Many exchanges in one thread: each waits for itself only, and none is forgotten."""

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from dispatcher.hub import READABLE, Hub, elsewhere, ready

PATIENCE = 10.0


@pytest.fixture
def hub() -> Iterator[Hub]:
    hub = Hub()
    yield hub
    hub.close()


@pytest.fixture
def pairs() -> Iterator[list[tuple[socket.socket, socket.socket]]]:
    pairs = [socket.socketpair() for _ in range(3)]
    yield pairs
    for pair in pairs:
        for one in pair:
            one.close()


Pairs = list[tuple[socket.socket, socket.socket]]


def test_the_one_whose_peer_speaks_goes_on_and_the_others_wait(hub: Hub, pairs: Pairs) -> None:
    heard: list[int] = []

    def listen(number: int) -> None:
        if ready(pairs[number][0], READABLE, PATIENCE):
            heard.append(number)

    for number in range(3):
        hub.spawn(lambda number=number: listen(number))  # type: ignore[misc]
    pairs[2][1].send(b"x")
    hub.turn(PATIENCE)
    assert heard == [2]
    pairs[0][1].send(b"x")
    hub.turn(PATIENCE)
    assert heard == [2, 0]


def test_a_wait_ends_when_its_own_time_is_up(hub: Hub, pairs: Pairs) -> None:
    ended: list[tuple[str, bool]] = []
    hub.spawn(lambda: ended.append(("short", ready(pairs[0][0], READABLE, 0.02))))
    hub.spawn(lambda: ended.append(("long", ready(pairs[1][0], READABLE, PATIENCE))))
    begin = time.monotonic()
    for _ in range(3):
        hub.turn(0.05)
    assert ended == [("short", False)]
    assert time.monotonic() - begin < PATIENCE


def test_what_has_arrived_counts_although_nobody_came_to_look_in_time(hub: Hub, pairs: Pairs) -> None:
    ended: list[bool] = []
    hub.spawn(lambda: ended.append(ready(pairs[0][0], READABLE, 0.0)))
    pairs[0][1].send(b"x")

    hub.turn(0.0)

    assert ended == [True]


def test_a_broken_peer_is_something_to_look_at(hub: Hub, pairs: Pairs) -> None:
    ended: list[bool] = []
    hub.spawn(lambda: ended.append(ready(pairs[0][0], READABLE, PATIENCE)))
    pairs[0][1].close()
    hub.turn(PATIENCE)
    assert ended == [True]


def test_what_blocks_goes_on_in_a_thread_while_the_others_work(hub: Hub, pairs: Pairs) -> None:
    may_end = threading.Event()
    ended: list[object] = []

    def block() -> str:
        may_end.wait(PATIENCE)
        return threading.current_thread().name

    hub.spawn(lambda: ended.append(elsewhere(block)))
    hub.spawn(lambda: ended.append(ready(pairs[0][0], READABLE, PATIENCE)))
    pairs[0][1].send(b"x")
    hub.turn(PATIENCE)
    assert ended == [True]
    may_end.set()
    hub.turn(PATIENCE)
    assert ended == [True, "dispatcher-elsewhere"]


def test_an_error_in_the_thread_is_raised_where_it_was_asked_for(hub: Hub) -> None:
    caught: list[BaseException] = []

    def fail() -> None:
        raise ValueError("no")

    def ask() -> None:
        try:
            elsewhere(fail)
        except ValueError as error:
            caught.append(error)

    hub.spawn(ask)
    while not caught:
        hub.turn(PATIENCE)
    assert str(caught[0]) == "no"


def test_outside_of_a_hub_the_same_code_simply_waits(pairs: Pairs) -> None:
    assert not ready(pairs[0][0], READABLE, 0.0)
    pairs[0][1].send(b"x")
    assert ready(pairs[0][0], READABLE, PATIENCE)
    assert elsewhere(threading.current_thread) is threading.current_thread()


def test_closing_ends_what_waits_and_lets_it_clean_up(pairs: Pairs) -> None:
    hub = Hub()
    cleaned: list[str] = []

    def wait() -> None:
        try:
            ready(pairs[0][0], READABLE, PATIENCE)
            cleaned.append("went on")
        finally:
            cleaned.append("cleaned")

    hub.spawn(wait)
    hub.close()
    assert cleaned == ["cleaned"]


def test_an_error_that_nobody_catches_reaches_who_let_it_go_on(hub: Hub, pairs: Pairs) -> None:
    def fail() -> None:
        ready(pairs[0][0], READABLE, PATIENCE)
        raise ValueError("a bug")

    hub.spawn(fail)
    pairs[0][1].send(b"x")
    with pytest.raises(ValueError, match="a bug"):
        hub.turn(PATIENCE)
