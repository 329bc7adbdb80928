"""Slots hold so many exchanges at a time, and hand out each result once."""

import socket
from collections.abc import Iterator

import pytest

from dispatcher.delivery.delivery import Slots
from dispatcher.delivery.width import Width
from dispatcher.hub import READABLE, ready

PATIENCE = 10.0
COUNT = 4


@pytest.fixture
def pairs() -> Iterator[list[tuple[socket.socket, socket.socket]]]:
    pairs = [socket.socketpair() for _ in range(COUNT)]
    yield pairs
    for pair in pairs:
        for one in pair:
            one.close()


@pytest.fixture
def slots(pairs: list[tuple[socket.socket, socket.socket]]) -> Iterator[Slots[int, int]]:
    """A job waits until the peer of its number speaks."""

    def work(number: int) -> int:
        assert ready(pairs[number][0], READABLE, PATIENCE)
        pairs[number][0].recv(1)
        return number

    slots = Slots(Width(COUNT), work)
    yield slots
    slots.close()


def test_what_ends_is_free_again_and_what_runs_is_not(
    slots: Slots[int, int], pairs: list[tuple[socket.socket, socket.socket]]
) -> None:
    slots.start([0, 1, 2])
    assert (slots.busy, slots.free) == (3, 1)
    pairs[1][1].send(b"x")
    assert slots.finished(timeout_seconds=PATIENCE, gather_seconds=0.0) == [1]
    assert (slots.busy, slots.free) == (2, 2)


def test_what_began_before_the_last_collection_is_found_by_the_next(
    slots: Slots[int, int], pairs: list[tuple[socket.socket, socket.socket]]
) -> None:
    slots.start([0, 1])
    pairs[0][1].send(b"x")
    assert slots.finished(timeout_seconds=PATIENCE, gather_seconds=0.0) == [0]
    pairs[1][1].send(b"x")
    assert slots.finished(timeout_seconds=PATIENCE) == [1]
    assert slots.busy == 0


def test_results_that_come_together_are_gathered(
    slots: Slots[int, int], pairs: list[tuple[socket.socket, socket.socket]]
) -> None:
    slots.start(range(COUNT))
    for number in range(COUNT):
        pairs[number][1].send(b"x")
    assert sorted(slots.finished(timeout_seconds=PATIENCE, gather_seconds=PATIENCE)) == list(range(COUNT))


def test_nothing_runs_nothing_comes(slots: Slots[int, int]) -> None:
    assert slots.finished(timeout_seconds=PATIENCE) == []


def test_a_look_without_patience_still_finds_what_is_there(
    slots: Slots[int, int], pairs: list[tuple[socket.socket, socket.socket]]
) -> None:
    slots.start([0])
    assert slots.finished(timeout_seconds=0.0) == []
    pairs[0][1].send(b"x")
    assert slots.finished(timeout_seconds=0.0) == [0]
