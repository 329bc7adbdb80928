"""Real workers against a real sandbox, on real servers."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from dispatcher.embedded.postgres import EmbeddedPostgres
from dispatcher.embedded.redis import EmbeddedRedis
from tests.process.rig import Rig, SandboxProcess
from tests.support.worker_process import WorkerProcess

StartSandbox = Callable[..., SandboxProcess]


@pytest.fixture
def start_sandbox(tmp_path: Path) -> Iterator[StartSandbox]:
    started: list[SandboxProcess] = []

    def start(*options: str) -> SandboxProcess:
        started.append(SandboxProcess(tmp_path, *options))
        return started[-1]

    yield start
    for sandbox in started:
        sandbox.close()


@pytest.fixture
def sandbox_options() -> tuple[str, ...]:
    """Overridden by `@pytest.mark.parametrize("sandbox_options", …)`."""
    return ("--latency", "0.05")


@pytest.fixture
def rig(
    environment: Mapping[str, str],
    start_sandbox: StartSandbox,
    sandbox_options: tuple[str, ...],
    worker: Callable[..., WorkerProcess],
) -> Rig:
    """A queue on the servers of all tests."""
    return Rig(environment, start_sandbox(*sandbox_options), worker)


@pytest.fixture
def own_rig(
    own_postgres: EmbeddedPostgres,
    own_redis: EmbeddedRedis,
    start_sandbox: StartSandbox,
    sandbox_options: tuple[str, ...],
    worker: Callable[..., WorkerProcess],
) -> Rig:
    """A queue on servers of the test's own, which it may stop, kill and restart."""
    environment = {
        "DATABASE_URL": own_postgres.url(),
        "REDIS_URL": own_redis.url(),
        "VOICERY_API_TOKEN": "a-token-of-the-tests",
    }
    return Rig(environment, start_sandbox(*sandbox_options), worker)
