"""A real Redis (or Valkey) as a child process, on the loopback interface, with a password of its own."""

import contextlib
import os
import shutil
import time
from pathlib import Path
from typing import Final, Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from dispatcher.embedded.binaries import redis_server
from dispatcher.embedded.child import Child, Command, StackError
from dispatcher.embedded.ports import LOOPBACK, free_port
from dispatcher.embedded.store_directory import StoreDirectory

_START_SECONDS: Final = 20.0
_POLL_SECONDS: Final = 0.01


class EmbeddedRedis:
    """One server in one directory. It keeps nothing over a restart: Redis is the doorbell, Postgres is the queue."""

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
        self._directory = StoreDirectory(data_dir, user=None)
        self._asked_port = port
        self._port: int | None = None
        self._maxmemory = maxmemory or "0"
        self._child: Child | None = None

    @property
    def log_path(self) -> Path:
        """What Redis has to say."""
        return self._directory.path / "redis.log"

    @property
    def running(self) -> bool:
        """Whether the server lives."""
        return self._child is not None and self._child.running

    @property
    def pid(self) -> int | None:
        """The server's process id while we run it."""
        return self._child.pid if self._child is not None and self.running else None

    def url(self, database: int = 0) -> str:
        """The `REDIS_URL` of one numbered database, with the password: do not log it."""
        if self._port is None:
            raise StackError("Redis has not been started yet, so it has no port.")
        return f"redis://:{self._directory.password()}@{LOOPBACK}:{self._port}/{database}"

    def start(self) -> None:
        """Start and wait until it answers.

        Raises:
            StackError: it does not start (the end of its log is in the message), or another process runs it.
        """
        if self.running:
            return
        self.kill()  # clears away what is left of one that died by itself
        lock = self._directory.lock()
        try:
            until = time.monotonic() + _START_SECONDS
            while not self._launched(lock, until):
                time.sleep(_POLL_SECONDS)
        finally:
            os.close(lock)  # the guard holds it from here on

    def stop(self) -> None:
        """Stop it and wait; nothing happens if it does not run."""
        if self._child is not None:
            self._child.stop()
            self._child = None

    def kill(self) -> None:
        """SIGKILL."""
        if self._child is not None:
            self._child.kill()
            self._child = None

    def restart(self) -> None:
        """Stop and start again, empty, on the same port."""
        self.stop()
        self.start()

    def remove(self) -> None:
        """Kill it and delete its directory."""
        self.kill()
        shutil.rmtree(self._directory.path)

    def _launched(self, lock: int, until: float) -> bool:
        """Start once; False if that is worth another try."""
        remembered = self._port or int(self._directory.recall("port") or 0) or None
        self._port = self._asked_port or free_port(remembered)
        configuration = self._directory.remember("redis.conf", self._configuration())
        command = Command(argv=(str(self._program), str(configuration)), log_path=self.log_path, kept_open=(lock,))
        self._child = Child(command)
        if self._answers(self._child, until):
            self._directory.remember("port", str(self._port))
            return True
        tail = self._child.log_tail()
        self._child.kill()
        self._child = None
        if self._asked_port is not None or "in use" not in tail or time.monotonic() > until:
            raise StackError(f"Redis did not start.\n{tail}")
        self._port = None
        return False

    def _configuration(self) -> str:
        lines = {
            "bind": LOOPBACK,
            "port": str(self._port),
            "requirepass": self._directory.password(),  # in a file, for arguments are seen by every user
            "dir": f'"{self._directory.path}"',
            "maxmemory": self._maxmemory,
            "maxmemory-policy": "noeviction",  # any other would evict the queue itself
            "save": '""',
            "appendonly": "no",
        }
        return "\n".join(f"{name} {value}" for name, value in lines.items())

    def _answers(self, child: Child, until: float) -> bool:
        no_retry = Retry(NoBackoff(), 0)  # the library's default is ten
        while time.monotonic() < until and child.wait(_POLL_SECONDS) is None:
            with contextlib.suppress(redis.RedisError), redis.Redis.from_url(self.url(), retry=no_retry) as client:
                client.ping()
                return child.running
        return False

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
