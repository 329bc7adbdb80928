"""A primary, a replica and three sentinels: real servers, each with a password, that a test may kill."""

import contextlib
import secrets
import subprocess
from pathlib import Path
from typing import Any, Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from dispatcher.embedded.embedded_server import free_port
from dispatcher.embedded.redis import redis_server
from tests.support.waiting import wait_until

MASTER = "leads"
PASSWORD = "of-the-servers-7f"
SENTINEL_PASSWORD = "of-the-sentinels-3c"


class Watched:
    """The servers of one test. They know each other from their configuration, so nothing waits to be discovered."""

    def __init__(self, directory: Path) -> None:
        self.primary_port, self.replica_port = free_port(), free_port()
        self.sentinel_ports = [free_port() for _ in range(3)]
        self._directory = directory
        self._processes: dict[int, subprocess.Popen[bytes]] = {}

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.sentinel_ports)
        return f"sentinel://:{PASSWORD}@{hosts}/0?master={MASTER}&sentinel_password={SENTINEL_PASSWORD}"

    def __enter__(self) -> Self:
        shared = f'requirepass {PASSWORD}\nmasterauth {PASSWORD}\nsave ""\nrepl-diskless-sync-delay 0\n'
        self._start(self.primary_port, shared)
        self._start(self.replica_port, f"{shared}replicaof 127.0.0.1 {self.primary_port}\n")
        wait_until(lambda: self.server(self.replica_port).info("replication").get("master_link_status") == "up", 10)
        ids = {port: secrets.token_hex(20) for port in self.sentinel_ports}
        for port in self.sentinel_ports:
            lines = [
                f"requirepass {SENTINEL_PASSWORD}",
                f"sentinel sentinel-pass {SENTINEL_PASSWORD}",
                f"sentinel myid {ids[port]}",
                f"sentinel monitor {MASTER} 127.0.0.1 {self.primary_port} 2",
                f"sentinel auth-pass {MASTER} {PASSWORD}",
                f"sentinel down-after-milliseconds {MASTER} 500",
                f"sentinel failover-timeout {MASTER} 3000",
                f"sentinel known-replica {MASTER} 127.0.0.1 {self.replica_port}",
                *(f"sentinel known-sentinel {MASTER} 127.0.0.1 {p} {i}" for p, i in ids.items() if p != port),
            ]
            self._start(port, "\n".join(lines), "--sentinel")
        return self

    def __exit__(self, *_: object) -> None:
        for port in list(self._processes):
            self.kill(port)

    def server(self, port: int) -> redis.Redis:
        """A client of one server, who may do everything."""
        return self._client(port, PASSWORD)

    def sentinel(self, port: int) -> Any:  # redis-py's types are too wide
        """A client of one sentinel."""
        return self._client(port, SENTINEL_PASSWORD)

    def kill(self, port: int) -> None:
        process = self._processes.pop(port)
        process.kill()
        process.wait(60)

    def await_promotion(self) -> None:
        """Until every sentinel names the replica."""
        ask = [self.sentinel(port) for port in self.sentinel_ports]
        wait_until(lambda: all(s.sentinel_get_master_addr_by_name(MASTER)[1] == self.replica_port for s in ask), 20)

    def _start(self, port: int, lines: str, *options: str) -> None:
        directory = self._directory / str(port)
        directory.mkdir()
        file = directory / "redis.conf"
        file.write_text(f"bind 127.0.0.1\nport {port}\ndir {directory}\nlogfile {directory}/log\n{lines}\n")
        self._processes[port] = subprocess.Popen([str(redis_server()), str(file), *options])
        client = self._client(port, SENTINEL_PASSWORD if options else PASSWORD)

        def answers() -> bool:
            with contextlib.suppress(redis.RedisError):
                return bool(client.ping())
            return False

        wait_until(answers, 10)

    @staticmethod
    def _client(port: int, password: str) -> redis.Redis:
        return redis.Redis(port=port, password=password, retry=Retry(NoBackoff(), 0), socket_timeout=5)
