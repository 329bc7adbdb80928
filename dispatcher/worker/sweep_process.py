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
from contextlib import suppress
from typing import Final

from celery import bootsteps

from dispatcher.decisions.policy import wait_seconds
from dispatcher.logs import events

_BACKOFF_BASE_SECONDS: Final = 1.0
_BACKOFF_MAX_SECONDS: Final = 30.0
_STEADY_SECONDS: Final = 60.0  # a sweep that lived this long had started well
_GRACE_SECONDS: Final = 5.0
_BEGIN: Final = b"\n"
"""What lets the child begin. Not the end of its input: children of the pool may hold the other end of that, too."""


def sweep_command() -> Sequence[str]:
    """Return the child's command line. Secrets are inherited by the environment, never passed as arguments."""
    return (sys.executable, "-m", "dispatcher", "sweep", "--parent", str(os.getpid()))


class SweepChild:
    """Keeps one child running from `start` to `stop`.

    The threads that start it live as long as the worker, which matters on Linux: a child that asked to die with its
    parent dies with the thread that started it.
    """

    def __init__(self, command: Callable[[], Sequence[str]] = sweep_command) -> None:
        self._command = command
        self._ending = threading.Event()
        self._child: subprocess.Popen[bytes] | None = None
        self._loading = False
        self._thread = threading.Thread(target=self._keep_running, name="sweep-child", daemon=True)

    def load(self) -> None:
        """Start the child, which imports its code and then waits for `start`. Call it in the main thread.

        So it imports while this process does, and has done so before the children of the pool have leads to send.
        """
        with suppress(OSError):  # told by the next try, in `start`
            self._child = self._open()
            self._loading = True

    def start(self) -> None:
        """Let the child begin, and start the thread that restarts it."""
        self._thread.start()

    def stop(self) -> None:
        """End the child: SIGTERM, then SIGKILL after 5 s. Return when it has ended."""
        self._ending.set()
        child = self._child
        if child is not None and child.poll() is None:
            child.terminate()
        self._await_end()
        child = self._child
        if child is not None and child.poll() is None:
            child.kill()
            self._await_end()

    def _await_end(self) -> None:
        if self._thread.is_alive():
            self._thread.join(_GRACE_SECONDS)
        elif self._child is not None:
            with suppress(subprocess.TimeoutExpired):
                self._child.communicate(timeout=_GRACE_SECONDS)

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
            child = self._child if self._loading and self._child is not None else self._open()
        except OSError as error:
            return f"{type(error).__name__} before it began"
        self._child, self._loading = child, False
        if self._ending.is_set():
            child.terminate()
        child.communicate(_BEGIN)
        return f"exit status {child.returncode}"

    def _open(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self._command(), stdin=subprocess.PIPE)


class SweepStep(bootsteps.StartStopStep):  # type: ignore[misc]  # celery ships no types
    """The bootstep of `SweepChild`, after the pool, so that no thread of ours exists when the pool forks."""

    requires = ("celery.worker.components:Pool",)

    def create(self, worker: object) -> SweepChild:
        """Return the child of this worker."""
        return worker.sweep  # type: ignore[attr-defined, no-any-return]
