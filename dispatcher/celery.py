"""The Celery app of the workers: `celery -A dispatcher worker`, and nothing else.

Importing this opens no socket, reads no environment and configures no logging; the first look at the configuration
does, which is when a worker starts.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from celery import signals
from kombu.connection import Connection

from dispatcher.broker import BrokerApp, worker_configuration
from dispatcher.stopping import Stopping
from dispatcher.sweep_child import SweepStep, sweep_command
from dispatcher.tasks import Runtimes, WorkerRuntime, register


def _configuration_from_environment() -> Mapping[str, Any]:
    from dispatcher.settings import Settings  # late: importing this module reads nothing

    return worker_configuration(Settings.from_environment().require_redis_url())


def _runtime_from_environment(stopping: Stopping) -> WorkerRuntime:
    from dispatcher.runtime import worker_runtime  # late: built by the first task

    return worker_runtime(stopping, main_pid=app.main_pid)


class WorkerApp(BrokerApp):
    """A worker of the dispatcher: two tasks, a sweep at its side, and a gentle end.

    `build_runtime` makes what the tasks run on, once per process; `sweep_command` starts the sweep.
    """

    def __init__(
        self,
        configuration: Callable[[], Mapping[str, Any]] = _configuration_from_environment,
        build_runtime: Callable[[Stopping], WorkerRuntime] = _runtime_from_environment,
        sweep_command: Callable[[], Sequence[str]] = sweep_command,
    ) -> None:
        super().__init__(configuration)
        self.sweep_command = sweep_command
        self.main_pid = os.getpid()
        self.runtimes = Runtimes(build_runtime)
        self.steps["worker"].add(SweepStep)
        register(self, self.runtimes)

    def connection_for_read(self, url: str | None = None, **options: object) -> Connection:
        """The connection to consume from, by the transport that lets only doorbells in."""
        connection = super().connection_for_read(url, **options)
        connection.transport_cls = "dispatcher.envelope:Transport"
        return connection

    def Worker(self, **options: object) -> object:  # noqa: N802  # Celery's name for it
        """The worker of `celery worker`, without the three chatty extras that this broker suffers from."""
        self.main_pid = os.getpid()
        self._listen_to_signals()
        quiet = {"without_mingle": True, "without_gossip": True, "without_heartbeat": True}
        return self.subclass_with_self("dispatcher.worker:Worker")(**{**options, **quiet})

    def _listen_to_signals(self) -> None:
        """Only now, in a process that is this app's worker: Celery's signals belong to every app of a process."""
        signals.worker_process_init.connect(lambda **_: self.runtimes.enter_pool_child(), weak=False)
        signals.worker_shutting_down.connect(lambda **_: self.runtimes.stopping.ask(), weak=False)
        signals.worker_process_shutdown.connect(lambda **_: self.runtimes.close(), weak=False)
        signals.worker_shutdown.connect(lambda **_: self.runtimes.close(), weak=False)


app = WorkerApp()
