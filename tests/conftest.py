"""The fixtures of all tiers. Servers are started when the first test needs them, once per pytest (xdist) process.

Each xdist worker has its own Postgres and its own Redis (together under a second), so that a test which kills a server
disturbs no other. Their Postgres is a copy of one that is made once a run. `DATABASE_URL` and `REDIS_URL`, where set,
are used instead.
"""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import psycopg
import pytest
import redis
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from dispatcher.config.settings import Settings
from dispatcher.config.urls import normal_database_url
from dispatcher.embedded.postgres import DATABASE, ROLE, EmbeddedPostgres
from dispatcher.embedded.redis import EmbeddedRedis
from dispatcher.store.migration import upgrade
from tests.support.databases import Databases, quick_directory
from tests.support.environment import clean_environment
from tests.support.worker_process import WorkerProcess

TESTS = Path(__file__).parent
POSTGRES_BIN_DIR = "TEST_POSTGRES_BIN_DIR"  # `make test-pg15` sets it
RUN_DIR = "TEST_RUN_DIR"  # set here: a directory that all xdist processes of a run share

# Every process that a test starts would compile our modules again.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

StartWorker = Callable[..., WorkerProcess]

# A busy machine makes an example slow; that is no fault of what is tested.
hypothesis_settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
hypothesis_settings.load_profile("patient")


def pytest_configure(config: pytest.Config) -> None:
    """A tier is a directory: `pytest -m process` runs what lies in `tests/process`.

    Where a script started us in the background, Ctrl-C is ignored, and would be by every process of a test.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for directory in TESTS.iterdir():
        if directory.is_dir():
            config.addinivalue_line("markers", f"{directory.name}: the tests in tests/{directory.name}")
    if not hasattr(config, "workerinput"):
        directory = Path(tempfile.mkdtemp(prefix="dispatcher-tests-", dir=quick_directory()))
        directory.chmod(0o755)
        os.environ[RUN_DIR] = str(directory)
        config.add_cleanup(lambda: shutil.rmtree(directory, ignore_errors=True))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark each test with the name of its tier, which is its directory.

    On a Postgres that was named, only what can meet it is run: a fixture that starts it is the only way to it.
    """
    for item in items:
        tier = item.path.relative_to(TESTS).parts[0] if item.path.is_relative_to(TESTS) else ""
        if tier and not tier.endswith(".py"):
            item.add_marker(tier)
    if POSTGRES_BIN_DIR in os.environ:
        apart = [
            item for item in items if {"databases", "postgres_bin_dir"}.isdisjoint(getattr(item, "fixturenames", ()))
        ]
        config.hook.pytest_deselected(items=apart)
        items[:] = [item for item in items if item not in set(apart)]


@pytest.fixture(scope="session")
def server_dir() -> Path:
    """Where this process's servers live: reachable for the user that Postgres runs as, unlike pytest's own."""
    directory = Path(tempfile.mkdtemp(dir=os.environ[RUN_DIR]))
    directory.chmod(0o755)
    return directory


@pytest.fixture(scope="session")
def postgres_bin_dir() -> Path | None:
    """The Postgres to test on; None is that of the wheel."""
    directory = os.environ.get(POSTGRES_BIN_DIR)
    return Path(directory) if directory else None


@pytest.fixture(scope="session")
def postgres_seed(postgres_bin_dir: Path | None) -> Path:
    """A stopped cluster with the schema, made once a run: copying it is several times faster than making another."""
    shared = Path(os.environ[RUN_DIR])
    seed = shared / "seed"
    with (shared / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # until it is closed
        if not seed.exists():
            draft = shared / "seed.new"
            with EmbeddedPostgres(draft, durable=False, bin_dir=postgres_bin_dir) as server:
                upgrade(normal_database_url(server.url()))
                _check_passwords_quickly(server)
            (server.directory / "port").unlink()
            server.directory.rename(seed)
    return seed


def _check_passwords_quickly(server: EmbeddedPostgres) -> None:
    """Thousands of connections are made by a run; each costs both sides 4096 rounds of a hash."""
    url = server.url("postgres")
    with psycopg.connect(url, autocommit=True) as connection:
        if connection.info.server_version >= 16_00_00:
            password = connection.info.password
            connection.execute("SET scram_iterations = 1")
            connection.execute(f"ALTER ROLE {ROLE} PASSWORD '{password}'")


@pytest.fixture(scope="session")
def databases(request: pytest.FixtureRequest) -> Iterator[Databases]:
    """The server with the databases of all tests: `DATABASE_URL`, else our own."""
    url = os.environ.get("DATABASE_URL")
    if url:
        yield Databases(url)
        return
    directory = request.getfixturevalue("server_dir") / "postgres"
    subprocess.run(["cp", "-a", request.getfixturevalue("postgres_seed"), directory], check=True)
    bin_dir = request.getfixturevalue("postgres_bin_dir")
    with EmbeddedPostgres(directory, durable=False, bin_dir=bin_dir) as server:
        yield Databases(server.url("postgres"))


@pytest.fixture(scope="session")
def template_database(databases: Databases) -> str:
    """The name of a database with the schema, made by the migrations as any user's."""
    if "DATABASE_URL" not in os.environ:
        return DATABASE
    name = databases.create()
    upgrade(normal_database_url(databases.url(name)))
    return name


@pytest.fixture
def database_url(databases: Databases, template_database: str) -> Iterator[str]:
    """A database of this test's own, with the schema and no rows."""
    with databases.one(template_database) as url:
        yield url


@pytest.fixture
def empty_database_url(databases: Databases) -> Iterator[str]:
    """A database of this test's own, without the schema."""
    with databases.one() as url:
        yield url


@pytest.fixture(scope="session")
def redis_server_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """The Redis of all tests: `REDIS_URL`, else our own."""
    url = os.environ.get("REDIS_URL")
    if url:
        yield url
        return
    with EmbeddedRedis(request.getfixturevalue("server_dir") / "redis") as server:
        yield server.url()


@pytest.fixture
def redis_url(redis_server_url: str) -> str:
    """An empty Redis database. With `REDIS_URL` it is the one named there: what it holds is deleted."""
    with redis.Redis.from_url(redis_server_url) as client:
        client.flushdb()
    return redis_server_url


@pytest.fixture
def own_postgres(server_dir: Path, postgres_seed: Path, postgres_bin_dir: Path | None) -> Iterator[EmbeddedPostgres]:
    """A running Postgres that this test may stop, kill and restart; its database has the schema."""
    directory = Path(tempfile.mkdtemp(prefix="own-postgres-", dir=server_dir))
    subprocess.run(["cp", "-a", f"{postgres_seed}/.", directory], check=True)
    server = EmbeddedPostgres(directory, durable=False, bin_dir=postgres_bin_dir)
    server.start()
    yield server
    server.remove()


@pytest.fixture
def own_redis(server_dir: Path) -> Iterator[EmbeddedRedis]:
    """A running Redis that this test may stop, kill and restart."""
    server = EmbeddedRedis(Path(tempfile.mkdtemp(prefix="own-redis-", dir=server_dir)))
    server.start()
    try:
        yield server
    finally:
        server.remove()


@pytest.fixture
def environment(database_url: str, redis_url: str) -> dict[str, str]:
    """The settings of this test as variables, for workers and commands; the API is a port where nobody listens."""
    return {
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "VOICERY_API_TOKEN": "a-token-of-the-tests",
        "VOICERY_BASE_URL": "http://127.0.0.1:9/api",
    }


@pytest.fixture
def settings(environment: Mapping[str, str]) -> Settings:
    """The same as an object. Other values: `Settings.from_environment({**environment, "DISPATCHER_LEASE": "60"})`."""
    return Settings.from_environment(environment)


@pytest.fixture
def worker(tmp_path: Path, server_dir: Path) -> Iterator[StartWorker]:
    """Starts workers: `worker(environment, "-c", "2")`; all are killed at the end of the test.

    The settings come from the mapping alone: what the caller's environment says of the dispatcher is dropped.
    """
    started: list[WorkerProcess] = []

    def start(settings: Mapping[str, str], *options: str, ready: bool = True) -> WorkerProcess:
        name = f"worker{len(started) + 1}"
        # What is killed cannot clear away: its temporary directories go with those of the session.
        surroundings = {**clean_environment(), "TMPDIR": str(server_dir), **settings}
        process = WorkerProcess(name, surroundings, tmp_path / f"{name}.log", options)
        started.append(process)
        if ready:
            process.wait_ready()
        return process

    yield start
    for process in started:
        process.kill()
