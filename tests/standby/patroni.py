"""`python -m tests.standby.patroni`: two Postgres under Patroni and etcd fail over under load.

Needs Debian's `patroni`, `etcd-server` and Postgres 15. For each way: a switchover, the leader's Postgres killed, its
whole node killed. Exit 1 if a lead was lost, called twice, held without need, or has no end.
"""

import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import psutil
import psycopg

from dispatcher.config.urls import normal_database_url
from dispatcher.embedded.child import Child, Command
from dispatcher.embedded.embedded_server import free_port
from dispatcher.embedded.redis import EmbeddedRedis
from dispatcher.embedded.system_user import server_environment, unprivileged_user
from dispatcher.store.migration import upgrade
from tests.standby.failover import fail_over
from tests.support.databases import quick_directory
from tests.support.standby import DEBIANS
from tests.support.waiting import wait_until

WAYS: Final = ("switchover", "postgres", "node")
_SECONDS: Final = {"ttl": 20, "loop_wait": 1, "retry_timeout": 3}  # the least that Patroni takes


@dataclass
class Node:
    """One Postgres and the Patroni that looks after it."""

    name: str
    place: Path
    port: int
    rest: int
    child: Child | None = None

    def answer(self) -> dict[str, Any]:
        """Return what Patroni says of it."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.rest}/patroni", timeout=2) as answer:
                return dict(json.load(answer))
        except OSError:
            return {}

    def processes(self) -> list[psutil.Process]:
        """The server, and what it has started."""
        postmaster = psutil.Process(int((self.place / "data" / "postmaster.pid").read_text().split("\n", 1)[0]))
        return [postmaster, *postmaster.children()]


class Cluster:
    """Two nodes that share an etcd; commits wait for the other one."""

    def __init__(self, directory: Path, ending: ExitStack) -> None:
        self._directory, self._ending = directory, ending
        self._user = unprivileged_user()
        self._etcd = f"127.0.0.1:{free_port()}"
        peer = f"http://127.0.0.1:{free_port()}"
        client = f"http://{self._etcd}"
        self._start(
            "etcd", "etcd", "--data-dir", str(self._place("etcd") / "data"), "--listen-client-urls", client,
            "--advertise-client-urls", client, "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
            "--initial-cluster", f"default={peer}", "--unsafe-no-fsync",
        )  # fmt: skip
        self.nodes = [Node(name, self._place(name), free_port(), free_port()) for name in ("a", "b")]
        for node in self.nodes:
            self.start(node)
            wait_until(lambda: self.leader, 120, "there is a leader")
        wait_until(self.is_whole, 120, "commits wait for the standby")

    @property
    def url(self) -> str:
        """Both hosts, as a `DATABASE_URL`."""
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)
        return f"postgresql://postgres:secret@{hosts}/postgres?target_session_attrs=read-write"

    @property
    def leader(self) -> Node | None:
        """The node that takes writes, and says so."""
        found = [node for node in self.nodes if node.answer().get("role") in ("master", "primary")]
        return found[0] if len(found) == 1 and found[0].answer().get("state") == "running" else None

    def is_whole(self) -> bool:
        """Whether a standby streams synchronously."""
        if self.leader is None:
            return False
        with psycopg.connect(host="127.0.0.1", port=self.leader.port, user="postgres", password="secret") as connection:
            row = connection.execute("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'").fetchone()
        return row == (1,)

    def fail(self, way: str) -> float:
        """Take the leader out; return when Patroni has another one, or the same one again, by this clock."""
        former = self.leader
        assert former is not None
        assert former.child is not None
        if way == "switchover":
            other = next(node.name for node in self.nodes if node is not former)
            config = str(former.place / "patroni.json")
            command = ["patronictl", "-c", config, "switchover", "dispatcher", "--master", former.name]
            subprocess.run([*command, "--candidate", other, "--force"], check=True, capture_output=True, timeout=60)
            return time.time()
        if way == "node":
            psutil.Process(former.child.pid).kill()
        for process in former.processes():
            process.kill()
        wait_until(lambda: self.leader, 120, "there is a leader again")
        return time.time()

    def start(self, node: Node) -> None:
        """Start a node, a new one or one that was killed."""
        settings = {
            "scope": "dispatcher", "name": node.name, "etcd3": {"host": self._etcd},
            "restapi": {"listen": f"127.0.0.1:{node.rest}", "connect_address": f"127.0.0.1:{node.rest}"},
            "bootstrap": {
                "dcs": {**_SECONDS, "synchronous_mode": True, "postgresql": {"use_pg_rewind": True, "parameters": {
                    "max_connections": 60, "fsync": "off", "wal_log_hints": "on"}}},
                "initdb": [{"encoding": "UTF8"}],
            },
            "postgresql": {
                "listen": f"127.0.0.1:{node.port}", "connect_address": f"127.0.0.1:{node.port}",
                "data_dir": str(node.place / "data"), "bin_dir": str(DEBIANS), "pgpass": str(node.place / "pgpass"),
                "parameters": {"unix_socket_directories": str(node.place)},
                "pg_hba": ["host all all all md5", "host replication all all md5", "local all all trust"],
                "authentication": {"superuser": {"username": "postgres", "password": "secret"},
                                   "replication": {"username": "standby", "password": "secret"}},
            },
        }  # fmt: skip
        file = node.place / "patroni.json"
        file.write_text(json.dumps(settings))
        file.chmod(0o644)
        node.child = self._start(node.name, "patroni", str(file))

    def _place(self, name: str) -> Path:
        place = self._directory / name
        place.mkdir(mode=0o755)
        if self._user is not None:
            self._user.own(place)
        return place

    def _start(self, name: str, *argv: str) -> Child:
        log = self._directory / f"{name}.log"
        child = Child(Command(argv, log, environment=server_environment(), directory=Path("/"), user=self._user))
        self._ending.callback(child.stop)
        return child


def main() -> int:
    missing = [name for name in ("patroni", "etcd") if shutil.which(name) is None]
    if missing or not DEBIANS.exists():
        print(f"missing: {', '.join(missing) or DEBIANS}; apt-get install patroni etcd-server postgresql-15")
        return 3
    directory = Path(tempfile.mkdtemp(prefix="dispatcher-patroni-", dir=quick_directory()))
    directory.chmod(0o755)
    broken = 0
    try:
        for seed, way in enumerate(WAYS):
            place = directory / way
            place.mkdir(mode=0o755)
            with ExitStack() as ending, EmbeddedRedis(place / "redis") as redis:
                cluster = Cluster(place, ending)
                upgrade(normal_database_url(cluster.url))
                account = fail_over(
                    place, cluster.url, redis.url(), partial(cluster.fail, way), dice=random.Random(seed)
                )
            print(f"{way}: {account}", flush=True)
            broken += not account.sound
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
