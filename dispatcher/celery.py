"""The Celery app of the workers: `celery -A dispatcher worker`, and nothing else.

Importing this opens no socket, reads no environment and configures no logging; the first look at the configuration
does, which is when a worker starts.
"""

import gc
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import click
from celery import Celery, signals
from celery.app.amqp import AMQP
from kombu.connection import Connection
from kombu.entity import Queue
from redis.connection import parse_url

from dispatcher.broker.connection import ACCEPTING_QUEUE, PREFIX, QUEUE, REDIS_URL_OPTION
from dispatcher.config.setting import Secret
from dispatcher.config.urls import sentinels_of
from dispatcher.errors import DispatcherError, NotConfigured, SchemaOutOfDate
from dispatcher.worker.stopping import Stopping
from dispatcher.worker.sweep_process import SweepStep, sweep_command
from dispatcher.worker.tasks import Runtimes, register

if TYPE_CHECKING:
    from dispatcher.worker.deliverer import Deliverer

_POOLS: Final = frozenset({"prefork", "processes", "thread", "threads", "solo"})  # names and modules of Celery's
_THREADS: Final = frozenset({"thread", "threads"})
_QUEUES: Final = (ACCEPTING_QUEUE, QUEUE)  # Celery takes from them in turn
_CONNECT_SECONDS: Final = 1.0
_TIMEOUT_SECONDS: Final = 5.0  # longer than the second that a worker's BRPOP may take


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


def _runtime_from_environment(stopping: Stopping) -> "Deliverer":
    from dispatcher.worker.deliverer import worker_runtime  # late: built by the first task

    return worker_runtime(stopping, main_pid=app.main_pid)


def worker_configuration(redis_url: str) -> Mapping[str, Any]:
    """Return a worker's configuration: it reconnects without end and takes one doorbell at a time."""
    url = _address_for_celery(redis_url)
    return {
        "broker_url": url,
        "broker_read_url": url,
        "broker_write_url": url,
        "broker_transport_options": {
            REDIS_URL_OPTION: Secret(redis_url),
            "global_keyprefix": PREFIX,
            "socket_connect_timeout": _CONNECT_SECONDS,
            "socket_timeout": _TIMEOUT_SECONDS,
            "socket_keepalive": True,
            "health_check_interval": 10,
            "retry_on_timeout": False,  # a write whose answer was lost is not repeated
            "visibility_timeout": 300,
        },
        "broker_heartbeat": 0,
        "broker_connection_retry": True,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_channel_error_retry": True,
        # Acknowledged early: Postgres recovers what a crash interrupts, and a late answer would run tasks twice.
        "task_acks_late": False,
        "worker_prefetch_multiplier": 1,
        "worker_disable_prefetch": True,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "worker_enable_remote_control": False,
        "worker_send_task_events": False,
        "task_send_sent_event": False,
        "task_default_queue": QUEUE,
        "task_queues": [Queue(queue, routing_key=queue) for queue in _QUEUES],  # type: ignore[no-untyped-call]
        "task_serializer": "json",
        "event_serializer": "json",
        "accept_content": ["json"],
        "result_accept_content": ["json"],
        "result_backend": None,
        "task_ignore_result": True,
        "worker_max_tasks_per_child": 10_000,
    }


def _address_for_celery(redis_url: str) -> str:
    """Return the address alone, for Celery's banner; `broker.envelope.DoorbellChannel` connects by the whole URL.

    Celery's own reading of a URL differs: for `rediss://` without parameters it does not verify the certificate, and an
    unknown parameter ends the worker with a TypeError.
    """
    several = sentinels_of(redis_url)
    url = redis_url if several is None else several.server
    database = parse_url(url).get("db", 0)  # type: ignore[no-untyped-call]
    if several is not None:  # Celery shows the first sentinel; none of its own transports is used
        url = several.sentinels[0]
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return f"redis+socket://{parts.path}?virtual_host={database}"
    return f"redis://{parts.netloc.rpartition('@')[2]}/{database}"


def _pool_name(pool: object) -> str:
    """Return Celery's name of a pool.

    Raises `CannotStart` for a pool that does not run our tasks: with eventlet a worker starts and sends nothing.
    """
    module = str(getattr(pool, "__module__", pool)).partition(":")[0]
    name = module.removeprefix("celery.concurrency.")
    if name not in _POOLS:
        raise CannotStart(
            f"The worker pool {name} cannot run the dispatcher's tasks, which are greenlets of one thread; "
            "use --pool prefork (the default), threads or solo."
        )
    return name


def _refuse_other_queues(options: Mapping[str, object]) -> None:
    """Raise `CannotStart` for a choice of queues: whoever leaves one out starts a worker that some leads wait for."""
    if options.get("queues") or options.get("exclude_queues"):
        raise CannotStart(
            "A worker of the dispatcher takes from its two queues by itself; leave out --queues (-Q) and "
            "--exclude-queues (-X)."
        )


def _refuse_older_schema() -> None:
    """Refuse to start where `dispatcher migrate` of this version has not run; a Postgres that is away is waited for."""
    from dispatcher.config.settings import Settings
    from dispatcher.store.database import Database
    from dispatcher.store.migration import check
    from dispatcher.store.trouble import StatementRefused, TryAgain  # late, as above

    settings = Settings.from_environment()
    url = settings.require_database_url()
    database = Database(url, name="dispatcher-worker", pool_size=1, pooler=settings.pooler, strict=False)
    try:
        with database.autocommit() as connection:
            check(connection, newer=True)
    except SchemaOutOfDate as error:
        raise CannotStart(str(error)) from None
    except (DispatcherError, StatementRefused, TryAgain):
        pass  # told by what the worker does next
    finally:
        database.close()


class DoorbellAMQP(AMQP):  # type: ignore[misc]  # celery ships no types
    """Consumes without acknowledging: Postgres recovers what a crash interrupts.

    An acknowledgement that fails while Redis is away would keep its place in the prefetch for ever, and a worker whose
    places are all taken looks alive and consumes no more.
    """

    def TaskConsumer(self, channel: object, **options: object) -> object:  # noqa: N802  # Celery's name for it
        """The consumer of doorbells."""
        return super().TaskConsumer(channel, **{**options, "no_ack": True})


class WorkerApp(Celery):  # type: ignore[misc]  # celery ships no types
    """A worker of the dispatcher: its tasks, a sweep at its side, and a warm shutdown.

    Its configuration comes from `configuration()` alone. Celery lets `CELERY_BROKER_READ_URL`,
    `CELERY_BROKER_WRITE_URL`, `CELERY_RESULT_BACKEND`, `CELERY_LOADER` and `CELERY_CONFIG_MODULE` overrule an app, and
    sets up Django for `DJANGO_SETTINGS_MODULE`; in a process with another Celery app, those belong to that app.

    Args:
        configuration: called when the configuration is first needed, not at import.
        build_runtime: makes what the tasks run on, once per process.
        sweep_command: the command that starts the sweep.
        configure_logging: takes the level and the file that `celery worker` was given.
    """

    amqp_cls = DoorbellAMQP

    def __init__(
        self,
        configuration: Callable[[], Mapping[str, Any]] = _configuration_from_environment,
        build_runtime: "Callable[[Stopping], Deliverer]" = _runtime_from_environment,
        sweep_command: Callable[[], Sequence[str]] = sweep_command,
        configure_logging: Callable[[int, str | None], None] = _log_by_environment,
    ) -> None:
        self._configuration = configuration
        super().__init__("dispatcher", set_as_current=False, loader="celery.loaders.app:AppLoader", fixups=())
        self.backend_cls = "disabled"
        self.sweep_command = sweep_command
        self.configure_logging = configure_logging
        self.main_pid = os.getpid()
        self.runtimes = Runtimes(build_runtime)
        self.steps["worker"].add(SweepStep)
        register(self, self.runtimes)

    def on_configure(self) -> None:
        """Load the configuration; Celery calls this before it first reads it."""
        self.config_from_object(dict(self._configuration()))

    def connection_for_read(self, url: str | None = None, **options: object) -> Connection:
        """Return the connection to consume from, whose transport accepts doorbells only.

        `CELERY_BROKER_READ_URL` does not change it.
        """
        connection: Connection = super().connection_for_read(url or self.conf["broker_read_url"], **options)
        connection.transport_cls = "dispatcher.broker.envelope:Transport"
        return connection

    def connection_for_write(self, url: str | None = None, **options: object) -> Connection:
        """Return the connection to publish to; `CELERY_BROKER_WRITE_URL` does not change it."""
        connection: Connection = super().connection_for_write(url or self.conf["broker_write_url"], **options)
        return connection

    def Worker(self, **options: object) -> object:  # noqa: N802  # Celery's name for it
        """The worker of `celery worker`, without the three chatty extras that this broker suffers from."""
        _refuse_other_queues(options)
        if _pool_name(options.get("pool") or options.get("pool_cls") or self.conf.worker_pool) in _THREADS:
            options = {**options, "pool": None, "pool_cls": "dispatcher.worker.process:ThreadPool"}
        self.main_pid = os.getpid()
        self._listen_to_signals()
        quiet = {"without_mingle": True, "without_gossip": True, "without_heartbeat": True}
        return self.subclass_with_self("dispatcher.worker.process:Worker")(**{**options, **quiet})

    def prepare(self) -> None:
        """Import what the children use; raise `CannotStart` for the schema of another version."""
        self._load_before_fork()
        _refuse_older_schema()

    def _load_before_fork(self) -> None:
        """Import what the children use. What is loaded by then is left out of every search for garbage.

        A search would write to each object's header and so copy its page into the child that searches. What cannot be
        built here fails in the task that uses it, which says what is wrong.
        """
        gc.disable()
        try:
            from dispatcher.worker.deliverer import load_before_fork  # late, as above

            with suppress(Exception):
                load_before_fork()
            if "cffi" in sys.modules:  # then each child of billiard uses it, to die with its parent
                import_module("cffi.cparser")
        finally:
            gc.freeze()
            gc.enable()

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
