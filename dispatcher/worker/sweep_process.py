"""The bootstep that starts the sweep: a child process of every worker, restarted if it dies, ended with the worker.

A process, not a timer of the worker's event loop: that loop blocks while Redis is unreachable, and then the sweep is
needed.
"""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from celery import bootsteps

from dispatcher.decisions.policy import wait_seconds
from dispatcher.logs import events

_BACKOFF_BASE_SECONDS: Final = 1.0
_BACKOFF_MAX_SECONDS: Final = 30.0
_STEADY_SECONDS: Final = 60.0  # a sweep that lived this long had started well
_GRACE_SECONDS: Final = 5.0


def sweep_command() -> Sequence[str]:
    """Return the child's command line. Secrets are inherited by the environment, never passed as arguments."""
    return (sys.executable, "-m", "dispatcher", "sweep", "--parent", str(os.getpid()))


class SweepChild:
    """Keeps one child running from `start` to `stop`.

    Its thread lives as long as the worker, which matters on Linux: a child that asked to die with its parent dies with
    the thread that started it.
    """

    def __init__(self, command: Callable[[], Sequence[str]] = sweep_command) -> None:
        self._command = command
        self._ending = threading.Event()
        self._child: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._keep_running, name="sweep-child", daemon=True)

    def start(self) -> None:
        """Start the child and the thread that restarts it."""
        self._thread.start()

    def stop(self) -> None:
        """End the child: SIGTERM, then SIGKILL after 5 s. Return when it has ended."""
        self._ending.set()
        child = self._child
        if child is not None and child.poll() is None:
            child.terminate()
        self._thread.join(_GRACE_SECONDS)
        child = self._child
        if child is not None and child.poll() is None:
            child.kill()
            self._thread.join(_GRACE_SECONDS)

    def _keep_running(self) -> None:
        failures = 0
        while not self._ending.is_set():
            begin = time.monotonic()
            status = self._run_once()
            if self._ending.is_set():
                return
            failures = 1 if time.monotonic() - begin > _STEADY_SECONDS else failures + 1
            wait = wait_seconds(failures, base_seconds=_BACKOFF_BASE_SECONDS, max_seconds=_BACKOFF_MAX_SECONDS)
            events.error("sweep.ended", status=status, restart_in_seconds=wait)
            self._ending.wait(wait)

    def _run_once(self) -> str:
        try:
            self._child = subprocess.Popen(self._command(), stdin=subprocess.DEVNULL)
        except OSError as error:
            return f"{type(error).__name__} before it began"
        if self._ending.is_set():
            self._child.terminate()
        return f"exit status {self._child.wait()}"


class SweepStep(bootsteps.StartStopStep):  # type: ignore[misc]  # celery ships no types
    """The bootstep of `SweepChild`, after the pool, so that no thread of ours exists when the pool forks."""

    requires = ("celery.worker.components:Pool",)

    def create(self, worker: object) -> SweepChild:
        """Return the child of this worker, started by `app.sweep_command`."""
        return SweepChild(worker.app.sweep_command)  # type: ignore[attr-defined]
