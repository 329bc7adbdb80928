"""The base of the embedded servers: one child process in one locked directory."""

import fcntl
import os
import random
import secrets
import shutil
import socket
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar, Final, Self

from dispatcher.embedded.child import Child, Command, StackError
from dispatcher.embedded.system_user import SystemUser, directory_elsewhere

LOOPBACK: Final = "127.0.0.1"
INSTALL_HINT: Final = "pip install 'voicery-dispatcher[embedded]'"

_PORTS: Final = range(15000, 30000)
"""Below the ephemeral ports of Linux (32768 up) and macOS (49152 up): a client's outgoing connection can neither take
the port while a server restarts, nor, retrying against nobody, connect to itself."""


def is_free(port: int) -> bool:
    """Return whether a server could listen on the port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the servers do: TIME_WAIT is no obstacle
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def free_port(preferred: int | None = None) -> int:
    """Return the preferred port if it is free, else a random free one."""
    if preferred is not None and is_free(preferred):
        return preferred
    for port in random.SystemRandom().sample(_PORTS, len(_PORTS)):
        if is_free(port):
            return port
    raise OSError(f"No free port between {_PORTS.start} and {_PORTS.stop}")


def accepts_connections(port: int) -> bool:
    """Return whether a server listens on the port now."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((LOOPBACK, port)) == 0


class StoreDirectory:
    """A private directory of one server, at the place asked for or, if its user cannot reach that, elsewhere."""

    def __init__(self, asked_for: Path, user: SystemUser | None) -> None:
        self.user = user
        self.path = self._place(asked_for.absolute())

    def _place(self, asked_for: Path) -> Path:
        if self.user is None:
            asked_for.mkdir(parents=True, exist_ok=True)
            asked_for.chmod(0o700)
            return asked_for
        moved = asked_for / "moved-to"
        if moved.exists():
            elsewhere = Path(moved.read_text().strip())
            if elsewhere.is_dir():
                return elsewhere
        self.user.own(asked_for)
        if self.user.can_enter(asked_for):
            return asked_for
        elsewhere = directory_elsewhere(f"{asked_for.name}.")
        self.user.own(elsewhere)
        moved.write_text(f"{elsewhere}\n")
        return elsewhere

    def lock(self) -> int:
        """Take the lock; it is held as long as any process has the returned descriptor open.

        Raises:
            StackError: another process runs the server of this directory.
        """
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise StackError(
                f"The server in {self.path} is already running, started by another process; stop that one first "
                "(Ctrl-C where it runs), or work with the URLs it has printed."
            ) from None
        return descriptor

    def password(self) -> str:
        """The password of the server, generated once; the file is for its owner alone."""
        remembered = self.recall("password")
        if remembered is None:
            remembered = secrets.token_urlsafe(24)
            self.remember("password", remembered)
        return remembered

    def recall(self, name: str) -> str | None:
        """Return the value kept under this name, or None."""
        path = self.path / name
        return path.read_text().strip() if path.exists() else None

    def remember(self, name: str, value: str) -> Path:
        """Keep a value over restarts, readable only by the server's user."""
        path, draft = self.path / name, self.path / f"{name}.new"
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(f"{value}\n")
        if self.user is not None:
            os.chown(draft, self.user.uid, self.user.gid)
        draft.rename(path)
        return path


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
        """The server's log."""
        return self._directory.path / f"{self.name.lower()}.log"

    @property
    def running(self) -> bool:
        """Return whether the server runs."""
        return self._child is not None and self._child.running

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs."""
        return self._child.pid if self._child is not None and self.running else None

    @property
    def port(self) -> int:
        """Where it listens. Raises `StackError` before the first start."""
        if self._port is None:
            raise StackError(f"{self.name} has not been started yet, so it has no port.")
        return self._port

    def start(self) -> None:
        """Start the server and wait until it answers; initialise it at the first start.

        Raises:
            StackError: it does not start (the end of its log is in the message), or another process runs it.
        """
        if self.running:
            return
        self.kill()  # removes the rest of a process that died
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
        """Send SIGKILL."""
        if self._child is not None:
            self._child.kill()
            self._child = None

    def remove(self) -> None:
        """Kill the server and delete its directory."""
        self.kill()
        shutil.rmtree(self._directory.path)

    @abstractmethod
    def stop(self) -> None:
        """Stop the server and wait; do nothing if it does not run."""

    def _launched(self, lock: int, until: float) -> bool:
        """Start once; return False if another try may help."""
        remembered = self._port or int(self._directory.recall("port") or 0) or None
        self._port = self._asked_port or free_port(remembered)
        self._child = Child(self._command(lock))
        if self._answers(self._child, until):
            self._directory.remember("port", str(self._port))
            return True
        tail = self._child.log_tail()
        self.kill()
        taken = self._asked_port is None and "in use" in tail  # in the meantime
        if not (taken or self._passes(tail)) or time.monotonic() > until:
            raise StackError(f"{self.name} did not start.\n{tail}")
        self._port = None
        return False

    def _prepare(self) -> None:  # noqa: B027 - not every server needs something
        """Prepare what the server needs before its start."""

    def _complete(self) -> None:  # noqa: B027 - as above
        """Create what is needed once the server answers."""

    @abstractmethod
    def _command(self, lock: int) -> Command:
        """Return the command that starts the server on `port` and keeps `lock` open."""

    @abstractmethod
    def _answers(self, child: Child, until: float) -> bool:
        """Wait until the server accepts the password; return False if it died or time ran out."""

    def _passes(self, tail: str) -> bool:  # noqa: ARG002 - for those that know better
        """Return whether the error at the end of the log is temporary."""
        return False

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
