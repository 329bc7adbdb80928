"""A child process in its own process group, with a log file, that ends no later than its parent (see `guard`)."""

import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from dispatcher.embedded.system_user import SystemUser
from dispatcher.errors import DispatcherError

_SUPERVISOR: Final = Path(__file__).with_name("supervisor.py")
_START_SECONDS: Final = 20.0  # the guard's own start, on a loaded machine
_LOG_TAIL_BYTES: Final = 2000


class StackError(DispatcherError):
    """A process of the local stack did not start or died; the message says why and shows the end of its log."""


@dataclass(frozen=True, slots=True)
class Command:
    """A command line, and how to end it."""

    argv: tuple[str, ...]
    log_path: Path  # appended to
    environment: Mapping[str, str] | None = None  # None: this process's
    directory: Path | None = None  # the working directory; None: this process's
    user: SystemUser | None = None  # None: this process's
    stop_signal: signal.Signals = signal.SIGTERM  # asks this program to stop
    grace_seconds: float = 10.0  # between the stop signal and SIGKILL
    kept_open: tuple[int, ...] = ()  # descriptors that live exactly as long as the process: a lock


class Child:
    """A running command. Not thread-safe."""

    def __init__(self, command: Command) -> None:
        """Start it.

        Raises:
            StackError: the program cannot be executed.
        """
        self.command = command
        self.returncode: int | None = None  # as `subprocess`: negative is the signal that ended it
        self._unread = b""
        self._log_start = command.log_path.stat().st_size if command.log_path.exists() else 0
        self._link, theirs = socket.socketpair()
        with theirs, command.log_path.open("ab") as log:
            self._guard = subprocess.Popen(
                [
                    sys.executable,
                    "-I",
                    "-S",
                    str(_SUPERVISOR),
                    *self._guard_options(theirs.fileno()),
                    "--",
                    *command.argv,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=command.environment,
                cwd=command.directory,
                pass_fds=(theirs.fileno(), *command.kept_open),
                start_new_session=True,  # Ctrl-C reaches this process only, which stops its children in order
            )
        self.pid = self._read_pid()

    def _guard_options(self, link: int) -> list[str]:
        command = self.command
        options = ["--link", str(link), "--owner", str(os.getpid())]
        options += ["--stop-signal", str(int(command.stop_signal)), "--grace", str(command.grace_seconds)]
        if command.user is not None:
            options += ["--uid", str(command.user.uid), "--gid", str(command.user.gid)]
        return options

    def _read_pid(self) -> int:
        match self._read_line(_START_SECONDS).partition(" "):
            case ("started", _, pid):
                return int(pid)
            case ("failed", _, reason):
                self.close()
                raise StackError(f"Cannot start a process: {reason}")
            case _:
                self.close()
                raise StackError(f"Cannot start {self.command.argv[0]}.\n{self.log_tail()}")

    def _read_line(self, timeout_seconds: float) -> str:
        """Return the guard's next line; empty after the timeout, or if the guard has ended."""
        until = time.monotonic() + timeout_seconds
        while b"\n" not in self._unread:
            readable, _, _ = select.select([self._link], [], [], max(0.0, until - time.monotonic()))
            received = self._link.recv(4096) if readable else b""
            if not received:
                return ""
            self._unread += received
        line, _, self._unread = self._unread.partition(b"\n")
        return line.decode()

    def wait(self, timeout_seconds: float) -> int | None:
        """Wait for the exit code; return None if the command still runs after `timeout_seconds`."""
        if self.returncode is None:
            word, _, code = self._read_line(timeout_seconds).partition(" ")
            if word == "exited":
                self.returncode = int(code)
            elif self._guard.poll() is not None:
                self.returncode = -signal.SIGKILL  # the guard was killed, and the command with it
        return self.returncode

    @property
    def running(self) -> bool:
        """Return whether the command still runs."""
        return self.wait(0) is None

    def send(self, number: signal.Signals, *, group: bool = False) -> None:
        """Send a signal to the command, or to all of its process group; does nothing if it has ended."""
        self._tell(f"{'group' if group else 'process'} {int(number)}\n")

    def stop(self, number: signal.Signals | None = None) -> int | None:
        """Send the stop signal, wait for the grace period, then kill the rest of the process group."""
        if self.running:
            self.send(number or self.command.stop_signal)
            self.wait(self.command.grace_seconds)
        return self.kill()

    def kill(self) -> int | None:
        """Send SIGKILL to the whole process group."""
        self.send(signal.SIGKILL, group=True)
        self.wait(self.command.grace_seconds)
        self.close()
        return self.returncode

    def close(self) -> None:
        """Close the link, so that the guard ends the command, and wait for the guard."""
        self._link.close()
        try:
            self._guard.wait(self.command.grace_seconds + _START_SECONDS)
        except subprocess.TimeoutExpired:
            self._guard.kill()
            self._guard.wait()
        if self.returncode is None:
            self.returncode = -signal.SIGKILL

    def log_tail(self) -> str:
        """Return the end of this process's log, for an error message."""
        with self.command.log_path.open("rb") as log:
            log.seek(max(self._log_start, self.command.log_path.stat().st_size - _LOG_TAIL_BYTES))
            return f"{self.command.log_path} ends with:\n{log.read().decode(errors='replace').strip()}"

    def _tell(self, line: str) -> None:
        try:
            self._link.sendall(line.encode())
        except OSError:
            self.wait(0)  # the guard has ended, or the link is closed

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
