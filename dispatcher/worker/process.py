"""The main process of a worker: Celery's, with a cold shutdown that our gentle children understand."""

import os
import signal

import billiard
from celery.apps.worker import Worker as CeleryWorker


class Worker(CeleryWorker):  # type: ignore[misc]  # celery ships no types
    """What `celery worker` starts for our app."""

    def wait_for_soft_shutdown(self) -> None:
        """Celery's first step of a cold shutdown, before it sends SIGTERM to busy children and waits for them.

        To a child of ours SIGTERM is only a request, so it gets SIGQUIT first: see `stopping.finishing_gently`.
        """
        super().wait_for_soft_shutdown()
        for child in billiard.active_children():
            os.kill(child.pid, signal.SIGQUIT)
