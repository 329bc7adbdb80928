"""One child process: its own process group, a log file, and an end no later than ours (see `guard`)."""

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

_GUARD: Final = Path(__file__).with_name("guard.py")
_START_SECONDS: Final = 20.0  # for the guard to say "started": a bare Python start, on a machine that is very busy
_LOG_TAIL_BYTES: Final = 2000


class StackError(DispatcherError):
    """A process of the local stack did not start or died; the message says why and shows the end of its log."""


@dataclass(frozen=True, slots=True)
class Command:
    """What to run and how to end it."""

    argv: tuple[str, ...]
    log_path: Path  # appended to
    environment: Mapping[str, str] | None = None  # None: ours
    directory: Path | None = None  # the working directory; None: ours
    user: SystemUser | None = None  # None: ours
    stop_signal: signal.Signals = signal.SIGTERM  # what "please stop" is to this program
    grace_seconds: float = 10.0  # between the stop signal and SIGKILL
    kept_open: tuple[int, ...] = ()  # descriptors that live exactly as long as the process: a lock


class Child:
    """A running command. Not for several threads at once."""

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
                [sys.executable, "-I", "-S", str(_GUARD), *self._guard_options(theirs.fileno()), "--", *command.argv],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=command.environment,
                cwd=command.directory,
                pass_fds=(theirs.fileno(), *command.kept_open),
                start_new_session=True,  # a Ctrl-C in the terminal is for us alone: we stop things in order
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
        """The next line of the guard's; empty when there is none in time, or the guard is gone."""
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
        """The exit code, waited for; None if it still runs after that time."""
        if self.returncode is None:
            word, _, code = self._read_line(timeout_seconds).partition(" ")
            if word == "exited":
                self.returncode = int(code)
            elif self._guard.poll() is not None:
                self.returncode = -signal.SIGKILL  # the guard was killed, and took the command with it
        return self.returncode

    @property
    def running(self) -> bool:
        """Whether the command has not exited yet."""
        return self.wait(0) is None

    def send(self, number: signal.Signals, *, group: bool = False) -> None:
        """Send a signal to the command, or to all of its process group; nothing happens if it is gone."""
        self._tell(f"{'group' if group else 'process'} {int(number)}\n")

    def stop(self, number: signal.Signals | None = None) -> int | None:
        """Ask it to stop (by its own stop signal), wait for its grace, then kill what is left of its group."""
        if self.running:
            self.send(number or self.command.stop_signal)
            self.wait(self.command.grace_seconds)
        return self.kill()

    def kill(self) -> int | None:
        """SIGKILL to the whole process group, as the kernel would when memory runs out."""
        self.send(signal.SIGKILL, group=True)
        self.wait(self.command.grace_seconds)
        self.close()
        return self.returncode

    def close(self) -> None:
        """Hang up, so that the guard ends whatever still runs, and wait for it."""
        self._link.close()
        try:
            self._guard.wait(self.command.grace_seconds + _START_SECONDS)
        except subprocess.TimeoutExpired:
            self._guard.kill()
            self._guard.wait()
        if self.returncode is None:
            self.returncode = -signal.SIGKILL

    def log_tail(self) -> str:
        """The end of what this process has logged, for an error message."""
        with self.command.log_path.open("rb") as log:
            log.seek(max(self._log_start, self.command.log_path.stat().st_size - _LOG_TAIL_BYTES))
            return f"{self.command.log_path} ends with:\n{log.read().decode(errors='replace').strip()}"

    def _tell(self, line: str) -> None:
        try:
            self._link.sendall(line.encode())
        except OSError:
            self.wait(0)  # the guard is gone or we hung up: nobody to tell

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
