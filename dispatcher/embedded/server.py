"""What the embedded servers have in common: one child process in one directory, ours alone while it runs."""

import os
import shutil
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar, Final, Self

from dispatcher.embedded.child import Child, Command, StackError
from dispatcher.embedded.ports import free_port
from dispatcher.embedded.store_directory import StoreDirectory

POLL_SECONDS: Final = 0.02


class EmbeddedServer(ABC):
    """Starts a server on a port of its own, waits until it answers, and ends it.

    name            as messages say it
    start_seconds   how long a start may take
    """

    name: ClassVar[str]
    start_seconds: ClassVar[float]

    def __init__(self, directory: StoreDirectory, port: int | None) -> None:
        """Nothing starts yet. `port`: None takes the port of the last start if it is free, else any."""
        self._directory = directory
        self._asked_port = port
        self._port: int | None = None
        self._child: Child | None = None

    @property
    def log_path(self) -> Path:
        """What the server has to say."""
        return self._directory.path / f"{self.name.lower()}.log"

    @property
    def running(self) -> bool:
        """Whether the server lives."""
        return self._child is not None and self._child.running

    @property
    def pid(self) -> int | None:
        """The server's process id while we run it."""
        return self._child.pid if self._child is not None and self.running else None

    @property
    def port(self) -> int:
        """Where it listens. Raises `StackError` before the first start."""
        if self._port is None:
            raise StackError(f"{self.name} has not been started yet, so it has no port.")
        return self._port

    def start(self) -> None:
        """Start and wait until it answers; at the first time, make what it needs.

        Raises:
            StackError: it does not start (the end of its log is in the message), or another process runs it.
        """
        if self.running:
            return
        self.kill()  # clears away what is left of one that died by itself
        lock = self._directory.lock()
        try:
            self._prepare()
            until = time.monotonic() + self.start_seconds
            while not self._launched(lock, until):
                time.sleep(POLL_SECONDS)
        finally:
            os.close(lock)  # the guard holds it from here on
        self._complete()

    def kill(self) -> None:
        """SIGKILL, without a chance to say goodbye."""
        if self._child is not None:
            self._child.kill()
            self._child = None

    def remove(self) -> None:
        """Kill it and delete its directory, wherever that is."""
        self.kill()
        shutil.rmtree(self._directory.path)

    @abstractmethod
    def stop(self) -> None:
        """Stop it and wait; nothing happens if it does not run."""

    def _launched(self, lock: int, until: float) -> bool:
        """Start once; False if that is worth another try."""
        remembered = self._port or int(self._directory.recall("port") or 0) or None
        self._port = self._asked_port or free_port(remembered)
        self._child = Child(self._command(lock))
        if self._answers(self._child, until):
            self._directory.remember("port", str(self._port))
            return True
        tail = self._child.log_tail()
        self.kill()
        taken = self._asked_port is None and "in use" in tail  # since we looked
        if not (taken or self._passes(tail)) or time.monotonic() > until:
            raise StackError(f"{self.name} did not start.\n{tail}")
        self._port = None
        return False

    def _prepare(self) -> None:  # noqa: B027 - not every server needs something
        """What has to be there before it starts."""

    def _complete(self) -> None:  # noqa: B027 - as above
        """What has to be made once it answers."""

    @abstractmethod
    def _command(self, lock: int) -> Command:
        """How it is started on `port`; `lock` is kept open."""

    @abstractmethod
    def _answers(self, child: Child, until: float) -> bool:
        """Wait until it answers under our password; False if it died, or the time is over."""

    def _passes(self, tail: str) -> bool:  # noqa: ARG002 - for those that know better
        """Whether what its log ends with goes away by itself."""
        return False

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
