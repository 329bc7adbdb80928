"""Postgres, Redis and the processes that use them, started and stopped in order."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final, Self

from dispatcher.decisions.policy import wait_seconds
from dispatcher.embedded.application_role import prepared
from dispatcher.embedded.child import Child, Command, StackError
from dispatcher.embedded.postgres import EmbeddedPostgres
from dispatcher.embedded.redis import EmbeddedRedis

_BASE_SECONDS: Final = 1.0
_MAX_SECONDS: Final = 30.0
_STEADY_SECONDS: Final = 60.0  # a process that lived this long started well


class Supervised:
    """One named command of the stack."""

    def __init__(self, name: str, command: Command) -> None:
        """Start it; `StackError` if that is not possible."""
        self.name = name
        self.child = Child(command)
        self._failures = 0
        self._started_at = time.monotonic()
        self._start_again_at: float | None = None
        self._known_dead: Child | None = None

    def newly_dead(self) -> bool:
        """Return whether the child has died since this was last asked."""
        if self.child.running or self.child is self._known_dead:
            return False
        self._known_dead = self.child
        return True

    def revive(self) -> bool:
        """Restart a dead child once its wait is over; return whether it was restarted. Call it periodically."""
        if self.child.running:
            return False
        now = time.monotonic()
        if self._start_again_at is None:
            self._failures = 1 if now - self._started_at > _STEADY_SECONDS else self._failures + 1
            wait = wait_seconds(self._failures, base_seconds=_BASE_SECONDS, max_seconds=_MAX_SECONDS)
            self._start_again_at = now + wait
        if now < self._start_again_at:
            return False
        self.child.kill()  # the rest of its process group
        self.child = Child(self.child.command)
        self._started_at, self._start_again_at = now, None
        return True


STOP_SECONDS: Final = 60.0  # a worker finishes and records what is in flight before it leaves

_OTHER_SERVERS: Final = frozenset({"DATABASE_URL_FILE", "REDIS_URL_FILE"})
"""Variables of the caller that would name other servers beside these."""


class Stack:
    """One store on this machine: `with Stack(Path(".dispatcher/sandbox"), environment) as stack: stack.run(...)`."""

    def __init__(
        self,
        store: Path,
        environment: Mapping[str, str],
        *,
        durable: bool = True,
        postgres_options: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Nothing starts yet.

        Args:
            store: the directory of all data and logs; made if missing, kept afterwards.
            environment: the whole environment of the processes, to which the addresses of the two servers are added.
            durable: as of `EmbeddedPostgres`.
            postgres_options: as `options` of `EmbeddedPostgres`.

        Raises:
            NotConfigured: the extra `[embedded]` is not installed.
        """
        self.logs = store.absolute() / "logs"
        self.postgres = EmbeddedPostgres(store / "postgres", durable=durable, options=postgres_options)
        self.redis = EmbeddedRedis(store / "redis")
        self._environment = {name: value for name, value in environment.items() if name not in _OTHER_SERVERS}
        self._processes: dict[str, Supervised] = {}
        self._database_url = ""

    def start(self) -> None:
        """Start both servers and bring the schema to this version.

        Raises:
            StackError: a server does not start, or another process runs this store.
        """
        self.logs.mkdir(parents=True, exist_ok=True)
        self.postgres.start()
        try:
            self.redis.start()
            self._database_url = prepared(self.postgres)
        except BaseException:
            self.stop()
            raise

    def urls(self) -> dict[str, str]:
        """`DATABASE_URL`, of a login that is no superuser, and `REDIS_URL`; once the stack was started."""
        return {"DATABASE_URL": self._database_url, "REDIS_URL": self.redis.url()}

    def run(self, name: str, argv: Sequence[str], environment: Mapping[str, str] = MappingProxyType({})) -> Child:
        """Start a process that `revive` keeps alive; it logs to `logs/NAME.log` and finds the servers' addresses."""
        if name in self._processes:
            raise StackError(f"The stack already runs a process named {name}.")
        command = Command(
            argv=tuple(argv),
            log_path=self.logs / f"{name}.log",
            environment={**self._environment, **self.urls(), **environment},
            grace_seconds=STOP_SECONDS,
        )
        self._processes[name] = Supervised(name, command)
        return self.child(name)

    def child(self, name: str) -> Child:
        """Return the current process of this name; a restart replaces it."""
        return self._processes[name].child

    def newly_dead(self) -> list[tuple[str, Child]]:
        """Return name and process of what has died since this was last asked, but for the servers."""
        return [(process.name, process.child) for process in self._processes.values() if process.newly_dead()]

    def revive(self) -> list[str]:
        """Restart what has died, servers first; return the names of what was restarted. Call it about every second."""
        revived = []
        servers: tuple[tuple[str, EmbeddedPostgres | EmbeddedRedis], ...]
        servers = (("postgres", self.postgres), ("redis", self.redis))
        for name, server in servers:
            if not server.running:
                server.start()
                revived.append(name)
        return revived + [process.name for process in self._processes.values() if process.revive()]

    def stop(self) -> None:
        """Stop everything in reverse order of start, the servers last; delete nothing."""
        while self._processes:
            _, process = self._processes.popitem()
            process.child.stop()
        self.redis.stop()
        self.postgres.stop()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
