"""The Celery app of the workers: `celery -A dispatcher worker`, and nothing else.

Importing this opens no socket, reads no environment and configures no logging; the first look at the configuration
does, which is when a worker starts.
"""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click
from celery import signals
from celery.app.amqp import AMQP
from kombu.connection import Connection

from dispatcher.broker.connection import BrokerApp, worker_configuration
from dispatcher.errors import NotConfigured
from dispatcher.worker.stopping import Stopping
from dispatcher.worker.sweep_process import SweepStep, sweep_command
from dispatcher.worker.tasks import Runtimes, WorkerRuntime, register


class CannotStart(click.ClickException, NotConfigured):
    """A worker cannot start with these settings. Celery's command line prints the sentence instead of a traceback."""


def _configuration_from_environment() -> Mapping[str, Any]:
    from dispatcher.config.settings import Settings  # late: importing this module reads nothing

    try:
        settings = Settings.from_environment()
        settings.require_database_url()
        return worker_configuration(settings.require_redis_url())
    except NotConfigured as error:
        raise CannotStart(str(error)) from None


def _log_by_environment(level: int, logfile: str | None) -> None:
    from dispatcher.config.settings import Settings
    from dispatcher.logs.setup import configure_from  # late, as above

    configure_from(Settings.from_environment(), level, logfile=logfile)


def _runtime_from_environment(stopping: Stopping) -> WorkerRuntime:
    from dispatcher.worker.deliverer import worker_runtime  # late: built by the first task

    return worker_runtime(stopping, main_pid=app.main_pid)


class DoorbellAMQP(AMQP):  # type: ignore[misc]  # celery ships no types
    """Consumes without acknowledging: Postgres recovers what a crash interrupts.

    An acknowledgement that fails while Redis is away would keep its place in the prefetch for ever, and a worker whose
    places are all taken looks alive and consumes no more.
    """

    def TaskConsumer(self, channel: object, **options: object) -> object:  # noqa: N802  # Celery's name for it
        """The consumer of doorbells."""
        return super().TaskConsumer(channel, **{**options, "no_ack": True})


class WorkerApp(BrokerApp):
    """A worker of the dispatcher: its tasks, a sweep at its side, and a gentle end.

    `build_runtime` makes what the tasks run on, once per process; `sweep_command` starts the sweep; `configure_logging`
    takes the level and the file that `celery worker` was given.
    """

    amqp_cls = DoorbellAMQP

    def __init__(
        self,
        configuration: Callable[[], Mapping[str, Any]] = _configuration_from_environment,
        build_runtime: Callable[[Stopping], WorkerRuntime] = _runtime_from_environment,
        sweep_command: Callable[[], Sequence[str]] = sweep_command,
        configure_logging: Callable[[int, str | None], None] = _log_by_environment,
    ) -> None:
        super().__init__(configuration)
        self.sweep_command = sweep_command
        self.configure_logging = configure_logging
        self.main_pid = os.getpid()
        self.runtimes = Runtimes(build_runtime)
        self.steps["worker"].add(SweepStep)
        register(self, self.runtimes)

    def connection_for_read(self, url: str | None = None, **options: object) -> Connection:
        """The connection to consume from, by the transport that lets only doorbells in."""
        connection = super().connection_for_read(url, **options)
        connection.transport_cls = "dispatcher.broker.envelope:Transport"
        return connection

    def Worker(self, **options: object) -> object:  # noqa: N802  # Celery's name for it
        """The worker of `celery worker`, without the three chatty extras that this broker suffers from."""
        self.main_pid = os.getpid()
        self._listen_to_signals()
        quiet = {"without_mingle": True, "without_gossip": True, "without_heartbeat": True}
        return self.subclass_with_self("dispatcher.worker.process:Worker")(**{**options, **quiet})

    def _listen_to_signals(self) -> None:
        """Only now, in a process that is this app's worker: Celery's signals belong to every app of a process."""
        signals.setup_logging.connect(self._set_up_logging, weak=False)
        signals.worker_process_init.connect(lambda **_: self.runtimes.enter_pool_child(), weak=False)
        signals.worker_shutting_down.connect(lambda **_: self.runtimes.stopping.ask(), weak=False)
        signals.worker_process_shutdown.connect(lambda **_: self.runtimes.close(), weak=False)
        signals.worker_shutdown.connect(lambda **_: self.runtimes.close(), weak=False)

    def _set_up_logging(self, *, loglevel: int | None = None, logfile: str | None = None, **_: object) -> None:
        self.configure_logging(loglevel or logging.WARNING, logfile)


app = WorkerApp()
