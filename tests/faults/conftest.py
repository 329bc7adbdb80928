"""Seeds and harnesses of the fault cases.

`FAULT_SEEDS=20` runs each case with 20 seeds, `FAULT_SEED=17` with that one: the command that repeats a failure.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from dispatcher.sandbox.server import Sandbox
from tests.faults.harness import Harness

Case = Callable[..., Harness]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames:
        one = os.environ.get("FAULT_SEED")
        seeds = [int(one)] if one else list(range(1, int(os.environ.get("FAULT_SEEDS", "1")) + 1))
        metafunc.parametrize("seed", seeds, ids=[f"seed{seed}" for seed in seeds])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    report = yield
    seed = getattr(item, "callspec", None) and item.callspec.params.get("seed")  # type: ignore[attr-defined]
    if report.failed and seed is not None:
        path = Path(str(item.path)).relative_to(item.config.rootpath)
        again = f"FAULT_SEED={seed} .venv/bin/python -m pytest '{path}::{item.name}'"
        report.sections.append(("repeat it with", again))
    return report


@pytest.fixture
def case(environment: Mapping[str, str], tmp_path: Path, seed: int) -> Iterator[Case]:
    """Makes the harness: `case(latency_seconds=0.1)`; options are the sandbox's. `stores` replaces the servers."""
    made: list[tuple[Harness, Sandbox]] = []

    def make(stores: Mapping[str, str] | None = None, **options: Any) -> Harness:
        sandbox = Sandbox(**options)
        sandbox.__enter__()
        harness = Harness({**environment, **(stores or {})}, sandbox, tmp_path, seed)
        made.append((harness, sandbox))
        return harness

    yield make
    for harness, sandbox in made:
        harness.close()
        sandbox.__exit__(None, None, None)
