"""What a worker process does once, before its first task."""

import contextlib
import gc
import socket
from collections.abc import Iterator

import pytest

from dispatcher.config.settings import Settings
from dispatcher.store.database import _lives
from dispatcher.worker.tasks import Runtimes


@pytest.fixture(autouse=True)
def thawed() -> Iterator[None]:
    yield
    gc.unfreeze()


def test_the_runtime_is_built_once_and_the_collector_leaves_what_is_loaded_by_then_alone() -> None:
    built: list[object] = []

    def build(_: object) -> object:
        built.append(object())
        return built[-1]

    runtimes = Runtimes(build)  # type: ignore[arg-type]
    frozen_before, given = gc.get_freeze_count(), []
    for _ in range(2):
        runtimes.run("deliver", given.append)

    assert given == built * 2
    assert gc.get_freeze_count() > frozen_before


class Idle:
    """A connection whose socket is silent, and which notes what it is asked."""

    closed = False
    autocommit = True

    def __init__(self) -> None:
        self.ends = socket.socketpair()
        self.asked: list[str] = []

    def fileno(self) -> int:
        return self.ends[0].fileno()

    def execute(self, statement: str, **_: object) -> None:
        self.asked.append(statement)

    def close(self) -> None:
        for end in self.ends:
            end.close()


def test_a_connection_that_a_sweep_uses_is_not_asked_each_time_whether_it_lives() -> None:
    between_sweeps = Settings().sweep_interval_seconds + 0.4  # and what a busy machine adds
    with contextlib.closing(Idle()) as idle:
        assert _lives(idle, between_sweeps)  # type: ignore[arg-type]
        assert idle.asked == []
        assert _lives(idle, 60.0)  # type: ignore[arg-type]
        assert idle.asked == ["SELECT 1"]
        idle.ends[1].close()
        assert not _lives(idle, between_sweeps), "closed by the other side"  # type: ignore[arg-type]
