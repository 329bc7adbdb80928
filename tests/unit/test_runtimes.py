"""What a worker process does once, before its first task."""

import gc
from collections.abc import Iterator

import pytest

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
