"""The stage: durable Postgres, Redis and the stand-in API, and processes whose CPU is counted."""

import json
import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Self
from urllib.request import urlopen

import psutil
import psycopg
import redis

from benchmarks.contenders import OURS, PEERS, ROOT, Contender
from dispatcher.config.urls import normal_database_url
from dispatcher.embedded.child import Child, Command
from dispatcher.embedded.postgres import EmbeddedPostgres
from dispatcher.embedded.redis import EmbeddedRedis
from dispatcher.store.migration import upgrade

_TEMPLATE: Final = "benchmark_template"
_MAINTENANCE: Final = "postgres"
_OURS: Final = ("DISPATCHER_", "VOICERY_", "DATABASE_URL", "REDIS_URL", "CELERY_")


@dataclass(frozen=True, slots=True)
class Cpu:
    """CPU seconds since the start of what was asked about."""

    workers: float
    postgres: float
    api: float

    def __sub__(self, other: "Cpu") -> "Cpu":
        return Cpu(self.workers - other.workers, self.postgres - other.postgres, self.api - other.api)


class StandIn:
    """The stand-in API as a process of its own."""

    def __init__(self, log_path: Path) -> None:
        log_path.unlink(missing_ok=True)
        python = PEERS if Path(PEERS).exists() else OURS  # that of the peers has uvloop and httptools
        command = (python, str(ROOT / "benchmarks" / "stand_in.py"))
        self._child = Child(Command(command, log_path, environment=environment()))
        self._url = wait_for_line(log_path)
        self.base_url = f"{self._url}/api"

    def reset(self, delay_seconds: float = 0.0, *, dead_from: int | None = None) -> None:
        """Forget what was counted; answer after `delay_seconds` from now on, campaigns from `dead_from` on with 404."""
        dead = "" if dead_from is None else f"&dead={dead_from}"
        self._ask(f"/reset?delay={delay_seconds}{dead}", 5)

    def wait(self, count: int, timeout_seconds: float) -> dict[str, Any]:
        """Wait until so many leads were received; the sums. Raises `TimeoutError`."""
        return self._ask(f"/wait?count={count}", timeout_seconds)

    def stats(self) -> dict[str, Any]:
        """The sums so far."""
        return self._ask("/stats", 5)

    def cpu(self) -> float:
        """CPU seconds so far."""
        return _tree_seconds(self._child.pid)

    def log(self) -> list[list[Any]]:
        """(monotonic seconds, phone number, campaign) of all that was received since the last reset."""
        return self._ask("/log", 60)

    def ports(self) -> list[tuple[int, float]]:
        """(port of the client, monotonic seconds of its first lead) of each connection since the last reset."""
        return [(port, at) for port, at in self._ask("/ports", 60)]

    def stop(self) -> None:
        """End it."""
        self._child.stop()

    def _ask(self, path: str, timeout_seconds: float) -> Any:  # noqa: ANN401 - whatever JSON says
        with urlopen(f"{self._url}{path}", timeout=timeout_seconds) as answer:  # noqa: S310 - our own loopback server
            return json.load(answer)


class Bench:
    """Servers that live as long as the benchmarks, and a fresh database for each run.

    before   an older checkout, measured beside this one where a figure can do that
    """

    def __init__(self, store: Path, *, before: Path | None = None) -> None:
        self.store = store
        self.before = None if before is None else before.resolve()
        self._stack = ExitStack()
        self._databases = 0

    def __enter__(self) -> Self:
        self.store.mkdir(parents=True, exist_ok=True)
        options = {
            "max_connections": "100",
            "shared_buffers": "256MB",
            "shared_preload_libraries": "pg_stat_statements",
        }
        self.postgres = EmbeddedPostgres(self.store / "postgres", options=options)
        self.postgres.start()
        self._stack.callback(self.postgres.stop)
        self.redis = EmbeddedRedis(self.store / "redis")
        self.redis.start()
        self._stack.callback(self.redis.stop)
        self._sql(f"DROP DATABASE IF EXISTS {_TEMPLATE}", f"CREATE DATABASE {_TEMPLATE}")
        upgrade(normal_database_url(self.postgres.url(_TEMPLATE)))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @cached_property
    def api(self) -> StandIn:
        """The stand-in API; started by the first figure that needs it."""
        api = StandIn(self.store / "stand_in.log")
        self._stack.callback(api.stop)
        return api

    @contextmanager
    def database(self, *, schema: bool) -> Iterator[str]:
        """The URL of a new database, with our schema or empty; gone afterwards. Redis is emptied, too."""
        self._databases += 1
        name = f"benchmark_{self._databases}"
        self._sql(
            f"DROP DATABASE IF EXISTS {name} WITH (FORCE)",
            f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE if schema else 'template0'}",
            "CHECKPOINT",  # that of the last run must not fall into this one
        )
        self.redis_client().flushall()
        try:
            yield self.postgres.url(name)
        finally:
            self._sql(f"DROP DATABASE {name} WITH (FORCE)")

    @contextmanager
    def stopped(self, contender: Contender, database_url: str | None = None) -> Iterator["Running"]:
        """The contender's commands without its workers, on a new database unless one is named."""
        if database_url is not None:
            yield Running(self, contender, database_url)
            return
        with self.database(schema=contender.schema) as new_url:
            running = Running(self, contender, new_url)
            running.set_up()
            yield running

    @contextmanager
    def running(
        self, contender: Contender, database_url: str, extra: Mapping[str, str] = MappingProxyType({})
    ) -> Iterator["Running"]:
        """The contender's workers."""
        running = Running(self, contender, database_url, extra)
        try:
            running.start()
            yield running
        finally:
            running.stop()

    def redis_client(self) -> "redis.Redis":
        """A client of the Redis of these benchmarks."""
        return redis.Redis.from_url(self.redis.url())

    def postgres_cpu(self) -> float:
        """CPU seconds of the whole server, backends that are gone included."""
        return _tree_seconds(self.postgres.pid) if self.postgres.pid is not None else 0.0

    def _sql(self, *statements: str) -> None:
        with psycopg.connect(self.postgres.url(_MAINTENANCE), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)  # type: ignore[arg-type]  # names are ours


class Running:
    """A contender's worker processes on one database."""

    def __init__(
        self, bench: Bench, contender: Contender, database_url: str, extra: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        self.bench = bench
        self.contender = contender
        self.database_url = database_url
        self._children: list[Child] = []
        self.environment = environment(
            {
                "DATABASE_URL": database_url,
                "REDIS_URL": bench.redis.url(),
                "VOICERY_BASE_URL": bench.api.base_url,
                "VOICERY_API_TOKEN": "benchmark",
                "DISPATCHER_RATE_LIMIT": "off",
                **dict(contender.environment),
                **extra,
            }
        )

    def set_up(self) -> None:
        """Make its tables."""
        if self.contender.setup:
            self.call(*self.contender.setup)

    def start(self) -> None:
        """Make its tables and start its workers."""
        self.set_up()
        for number, argv in enumerate(self.contender.workers):
            log_path = self.bench.store / f"{self.contender.name}_{number}.log"
            log_path.unlink(missing_ok=True)
            command = Command((self.contender.python, *argv), log_path, environment=self.environment, directory=ROOT)
            self._children.append(Child(command))

    def load(self, first: int, count: int) -> None:
        """Make so many leads appear at once."""
        self.call(*self.contender.load, str(first), str(count))

    def call(self, *argv: str, timeout_seconds: float = 600.0) -> str:
        """Run a command in the contender's environment to its end; what it printed."""
        done = subprocess.run(
            [self.contender.python, *argv],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_seconds,
        )
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(argv)} failed:\n{done.stderr[-3000:]}")
        return done.stdout

    def cpu(self) -> Cpu:
        """CPU seconds so far, of the workers with all their children, of Postgres, and of the API."""
        workers = sum(_tree_seconds(child.pid) for child in self._children)
        return Cpu(workers, self.bench.postgres_cpu(), self.bench.api.cpu())

    def processes(self) -> list[psutil.Process]:
        """The worker processes with all their children."""
        roots = [psutil.Process(child.pid) for child in self._children]
        return [process for root in roots for process in (root, *root.children(recursive=True))]

    def stop(self) -> None:
        """End the workers."""
        for child in self._children:
            child.kill()
        self._children.clear()


def environment(more: Mapping[str, str] = MappingProxyType({})) -> dict[str, str]:
    """The environment of a process of the benchmarks: ours, without what the dispatcher or Celery reads."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
    return {**kept, "PYTHONUNBUFFERED": "1", **more}


def _tree_seconds(pid: int) -> float:
    total = 0.0
    root = psutil.Process(pid)
    for process in (root, *root.children(recursive=True)):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total


def wait_for_line(path: Path, timeout_seconds: float = 20.0) -> str:
    """The first line of a log, which is where servers say their address."""
    until = time.monotonic() + timeout_seconds
    while not (path.exists() and (text := path.read_text()).endswith("\n")):
        if time.monotonic() > until:
            raise TimeoutError(f"Nothing came to {path}")
        time.sleep(0.02)
    return text.splitlines()[0]
