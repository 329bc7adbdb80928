"""Redis as the dispatcher uses it: a client and a Celery configuration whose every wait is bounded.

Redis is a convenience here, so a Redis that is away must cost a producer little time and never an
exception that nobody expects: short timeouts, no retries, and the caller decides. A worker is the opposite: it
reconnects for ever.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import redis
from celery import Celery
from kombu.connection import Connection
from redis.backoff import NoBackoff
from redis.retry import Retry

from dispatcher.errors import NotConfigured

PREFIX: Final = "dispatcher:"
"""Of every key that we write, so that an ACL can name them and another application's keys stay apart."""
QUEUE: Final = "dispatcher"
DELIVER: Final = "dispatcher.deliver"
LOOKUP: Final = "dispatcher.lookup"
ALERT: Final = "dispatcher.alert"

TIMEOUT_SECONDS: Final = 0.5
"""For connecting and for each answer. A healthy Redis answers in well under a millisecond."""
_WORKER_TIMEOUT_SECONDS: Final = 5.0  # longer than the second that a worker's BRPOP may take


def connect(redis_url: str, *, timeout_seconds: float = TIMEOUT_SECONDS) -> redis.Redis:
    """A client that opens its first connection with its first command. Thread-safe and fork-safe.

    What the URL's query says about timeouts and retries is overruled: producers count on the bound.
    """
    client = redis.Redis.from_url(redis_url)
    client.connection_pool.connection_kwargs.update(
        socket_timeout=timeout_seconds,
        socket_connect_timeout=timeout_seconds,
        retry=Retry(NoBackoff(), 0),
        retry_on_timeout=False,
        decode_responses=False,
    )
    if not redis_url.startswith("unix://"):
        client.connection_pool.connection_kwargs["socket_keepalive"] = True
    return client


def refuse_cluster(client: redis.Redis) -> None:
    """Raises `NotConfigured` if the server is a Redis Cluster; neither Celery nor our scripts work on one.

    Lets `redis.RedisError` through if the server cannot be asked.
    """
    if client.info("server").get("redis_mode") == "cluster":
        raise NotConfigured(
            "REDIS_URL names a Redis Cluster, which Celery cannot use as its broker; name a single Redis or a primary."
        )


class BrokerApp(Celery):  # type: ignore[misc]  # celery ships no types
    """A Celery app that is the dispatcher's alone: its configuration comes from `configuration()` and nowhere else.

    Celery lets `CELERY_BROKER_READ_URL`, `CELERY_BROKER_WRITE_URL`, `CELERY_RESULT_BACKEND`, `CELERY_LOADER` and
    `CELERY_CONFIG_MODULE` overrule an app, and sets up Django for `DJANGO_SETTINGS_MODULE`. In a process that another
    Celery app shares, those are that app's.
    """

    def __init__(self, configuration: Callable[[], Mapping[str, Any]]) -> None:
        """`configuration` is called when the configuration is first needed: not at import, and after a fork if late."""
        self._configuration = configuration
        super().__init__("dispatcher", set_as_current=False, loader="celery.loaders.app:AppLoader", fixups=())
        self.backend_cls = "disabled"

    def on_configure(self) -> None:
        """Celery's hook before the first look at the configuration."""
        self.config_from_object(dict(self._configuration()))

    def connection_for_read(self, url: str | None = None, **options: object) -> Connection:
        """The connection to consume from, whatever `CELERY_BROKER_READ_URL` says."""
        connection: Connection = super().connection_for_read(url or self.conf["broker_read_url"], **options)
        return connection

    def connection_for_write(self, url: str | None = None, **options: object) -> Connection:
        """The connection to publish to, whatever `CELERY_BROKER_WRITE_URL` says."""
        connection: Connection = super().connection_for_write(url or self.conf["broker_write_url"], **options)
        return connection


def worker_configuration(redis_url: str) -> Mapping[str, Any]:
    """For a worker: reconnects for ever, takes one doorbell at a time, and listens to nobody's remote control."""
    url = _kombu_url(redis_url)
    return {
        "broker_url": url,
        "broker_read_url": url,
        "broker_write_url": url,
        "broker_transport_options": {
            "global_keyprefix": PREFIX,
            "socket_connect_timeout": 2 * TIMEOUT_SECONDS,
            "socket_timeout": _WORKER_TIMEOUT_SECONDS,
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
        "task_serializer": "json",
        "event_serializer": "json",
        "accept_content": ["json"],
        "result_accept_content": ["json"],
        "result_backend": None,
        "task_ignore_result": True,
        "worker_max_tasks_per_child": 10_000,
    }


def _kombu_url(redis_url: str) -> str:
    if not redis_url.startswith("unix://"):
        return redis_url
    path, _, query = redis_url.removeprefix("unix://").partition("?")
    return f"redis+socket://{path}?{query.replace('db=', 'virtual_host=')}"
