"""The main process of a worker: Celery's, with a cold shutdown that reaches busy children."""

import os
import signal

import billiard
from celery.apps.worker import Worker as CeleryWorker


class Worker(CeleryWorker):  # type: ignore[misc]  # celery ships no types
    """The worker that `celery worker` starts for this app."""

    def wait_for_soft_shutdown(self) -> None:
        """Send SIGQUIT to the children. Celery calls this before it sends SIGTERM to busy children and waits for them.

        For a child SIGTERM is only a request, so SIGQUIT comes first: see `stopping.finishing_gently`.
        """
        super().wait_for_soft_shutdown()
        for child in billiard.active_children():
            os.kill(child.pid, signal.SIGQUIT)
