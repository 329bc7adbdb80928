"""The Redis client: short timeouts and no retries.

No lead is lost without Redis, so an unreachable one must cost a producer little time and raise nothing unexpected. The
workers' connection, which reconnects without end, is in `dispatcher.celery`.
"""

from ipaddress import ip_address
from typing import Any, Final

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from dispatcher.errors import NotConfigured

PREFIX: Final = "dispatcher:"
"""Of every key that we write, so that an ACL can name them and another application's keys stay apart."""
QUEUE: Final = "dispatcher"
"""Of the campaigns of which nobody knows that Voicery accepts their leads: new ones, and those that fail."""
ACCEPTING_QUEUE: Final = "dispatcher.accepting"
"""Of the campaigns whose last delivery run had an acceptance, and of look-ups. Workers take from both in turn."""
DELIVER: Final = "dispatcher.deliver"
LOOKUP: Final = "dispatcher.lookup"

TIMEOUT_SECONDS: Final = 0.5
"""For connecting and for each answer. A healthy Redis answers in well under a millisecond."""

REDIS_URL_OPTION: Final = "dispatcher_redis_url"
"""Name of the broker transport option with the whole URL, a `Secret`: Celery shows its configuration in places."""


_NAMELESS: Final = (
    "The certificate of Redis names its host in the common name alone, and not in a subjectAltName; have one issued "
    "that does."
)


class TlsConnection(redis.SSLConnection):
    """A connection with TLS whose certificate has to name the host in a subjectAltName (RFC 9525, section 6.3).

    OpenSSL would also take the common name, which nobody who issues certificates checks any more.
    """

    def _connect(self) -> Any:  # noqa: ANN401  (redis-py's)
        connected = super()._connect()  # type: ignore[no-untyped-call]
        named = {kind for kind, _ in (connected.getpeercert() or {}).get("subjectAltName", ())}
        if self.check_hostname and ("IP Address" if _is_address(self.host) else "DNS") not in named:
            connected.close()
            raise redis.ConnectionError(_NAMELESS)
        return connected


def naming_its_host(kind: type[Any]) -> type[Any]:
    """Return the class of connections to use instead of this one of redis-py: with TLS, `TlsConnection`."""
    return TlsConnection if issubclass(kind, redis.SSLConnection) else kind


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def connect(redis_url: str, *, timeout_seconds: float = TIMEOUT_SECONDS) -> redis.Redis:
    """Return a client that connects at its first command. Thread-safe and fork-safe.

    Timeouts and retries are set here, because producers rely on the bound.
    """
    client = redis.Redis.from_url(redis_url)
    client.connection_pool.connection_class = naming_its_host(client.connection_pool.connection_class)
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
    """Raise `NotConfigured` if the server is a Redis Cluster, which neither Celery nor our scripts support.

    Raises `redis.RedisError` if the server is unreachable.
    """
    if client.info("server").get("redis_mode") == "cluster":
        raise NotConfigured(
            "REDIS_URL names a Redis Cluster, which Celery cannot use as its broker; name a single Redis or a primary."
        )
