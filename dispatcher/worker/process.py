"""The main process of a worker: Celery's, with a cold shutdown and a threads pool that fit our tasks."""

import os
import signal
from typing import Any

import billiard
from celery.apps.worker import Worker as CeleryWorker
from celery.concurrency.thread import ApplyResult, TaskPool
from kombu.asynchronous import get_event_loop

from dispatcher.worker.sweep_process import SweepChild


class Worker(CeleryWorker):  # type: ignore[misc]  # celery ships no types
    """The worker that `celery worker` starts for this app."""

    sweep: SweepChild

    def on_init_blueprint(self) -> None:
        """Load, and check the schema, while the sweep loads. Celery calls this when it has set up logging."""
        super().on_init_blueprint()
        self.sweep = SweepChild(self.app.sweep_command)
        self.sweep.load()
        try:
            self.app.prepare()
        except BaseException:
            self.sweep.stop()
            raise

    def wait_for_soft_shutdown(self) -> None:
        """Send SIGQUIT to the children. Celery calls this before it sends SIGTERM to busy children and waits for them.

        For a child SIGTERM is only a request, so SIGQUIT comes first: see `stopping.finishing_gently`.
        """
        super().wait_for_soft_shutdown()
        for child in billiard.active_children():
            os.kill(child.pid, signal.SIGQUIT)


class ThreadPool(TaskPool):  # type: ignore[misc]  # as above
    """Celery's threads pool, which wakes the worker's event loop when a task has ended.

    A worker takes a message only while a thread is free. It looks whether one is when its loop turns, and the end of a
    task in a thread turns no loop, as a child of a prefork pool does: all threads would start their next tasks
    together, when the loop turns for another reason, about once a second.
    """

    def on_apply(self, *args: Any, **options: Any) -> ApplyResult:  # noqa: ANN401 - Celery's signature
        """Run a task in a thread; wake the loop when Celery has noted its end."""
        result = super().on_apply(*args, **options)
        result.f.add_done_callback(_wake_loop)
        return result


def _wake_loop(_ended: object) -> None:
    loop = get_event_loop()
    if loop is not None:
        loop.call_soon(_turn)  # type: ignore[no-untyped-call]


def _turn() -> None:
    """Do nothing: the loop looks for free threads at each turn."""
