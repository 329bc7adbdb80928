"""The child of a worker that sweeps: it loads while the worker does, and begins when the worker says so."""

from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from dispatcher.worker.sweep_process import SweepChild
from tests.support.waiting import wait_until

RUNS = 'echo loaded >> "$0"; read -r _; echo begun >> "$0"; exec sleep 600'


class Child(SweepChild):
    """The child of a test, which notes in a file what it does."""

    def __init__(self, noted: Path) -> None:
        super().__init__(lambda: ("sh", "-c", RUNS, str(noted)))
        self._noted = noted

    def notes(self) -> list[str]:
        return self._noted.read_text().split() if self._noted.exists() else []


def until(condition: Callable[[], bool]) -> None:
    wait_until(condition, timeout_seconds=30)


def running() -> list[psutil.Process]:
    return [one for one in psutil.Process().children() if one.name() in {"sh", "sleep"}]


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Child]:
    made = Child(tmp_path / "noted")
    yield made
    made.stop()
    assert not running()


def test_a_child_that_was_loaded_begins_at_the_start_and_is_started_once(child: Child) -> None:
    child.load()
    until(lambda: child.notes() == ["loaded"])

    child.start()

    until(lambda: child.notes() == ["loaded", "begun"])


def test_a_child_that_ended_while_it_waited_is_replaced(child: Child) -> None:
    child.load()
    until(lambda: child.notes() == ["loaded"])
    running()[0].kill()

    child.start()

    until(lambda: child.notes() == ["loaded", "loaded", "begun"])


def test_a_worker_that_does_not_start_ends_the_child_that_waits(child: Child) -> None:
    child.load()
    until(lambda: child.notes() == ["loaded"])

    child.stop()

    assert child.notes() == ["loaded"]
    assert not running()
