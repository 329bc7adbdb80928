"""Real workers: `celery -A dispatcher worker` as a process of its own."""

import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from dispatcher.embedded.child import Child, Command
from tests.support.waiting import wait_until

READY_SECONDS = 30.0
GRACE_SECONDS = 60.0  # a warm shutdown finishes what is in flight


class WorkerProcess:
    """One worker with its process group and its log."""

    def __init__(self, name: str, environment: Mapping[str, str], log_path: Path, options: tuple[str, ...]) -> None:
        """Start it; `environment` is the whole of it."""
        self.name = name
        self.log_path = log_path
        celery = (sys.executable, "-m", "celery", "-A", "dispatcher", "worker", "--loglevel", "INFO")
        self._child = Child(
            Command(
                argv=(*celery, "--hostname", f"{name}@test", *options),
                log_path=log_path,
                environment=environment,
                grace_seconds=GRACE_SECONDS,
            )
        )

    @property
    def pid(self) -> int:
        """The main process; its process group has the same number."""
        return self._child.pid

    @property
    def running(self) -> bool:
        """Whether the main process lives."""
        return self._child.running

    @property
    def returncode(self) -> int | None:
        """As `subprocess`: negative is the signal that ended it; None while it runs."""
        return self._child.wait(0)

    @property
    def log(self) -> str:
        """All that it and its children have written so far."""
        return self.log_path.read_text(errors="replace")

    def wait_ready(self, timeout_seconds: float = READY_SECONDS) -> None:
        """Wait until it consumes."""
        wait_until(
            lambda: " ready." in self.log or not self.running,
            timeout_seconds,
            lambda: f"worker {self.name} to be ready; its log:\n{self.log}",
        )
        assert self.running, f"worker {self.name} died at its start; its log:\n{self.log}"

    def send(self, number: signal.Signals, *, group: bool = False) -> None:
        """Signal the main process, or the group: TERM as systemd does, STOP and CONT to freeze and thaw."""
        self._child.send(number, group=group)

    def wait(self, timeout_seconds: float = GRACE_SECONDS) -> int:
        """Wait until the main process is gone; its exit code."""
        code = self._child.wait(timeout_seconds)
        assert code is not None, f"worker {self.name} still runs after {timeout_seconds} s; its log:\n{self.log}"
        return code

    def stop(self) -> int:
        """Warm shutdown: TERM to the main process, and wait; its exit code."""
        self.send(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        """`kill -9` of the whole group, as if the machine had lost its power; nothing runs afterwards."""
        self._child.kill()
