"""The Redis client: short timeouts and no retries.

No lead is lost without Redis, so an unreachable one must cost a producer little time and raise nothing unexpected. The
workers' connection, which reconnects without end, is in `dispatcher.celery`.
"""

import re
import time
from ipaddress import ip_address
from typing import Any, Final

import redis
from redis.backoff import NoBackoff
from redis.connection import parse_url
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError, Sentinel, SentinelConnectionPool, SentinelManagedConnection

from dispatcher.config.urls import Sentinels, sentinels_of
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


_NO_WRITES: Final = re.compile(r"\b(READONLY|NOREPLICAS) ")


class _LeavesReplicas:
    """Of a connection: it is closed where its server takes no writes because of its place among others.

    It has become a replica, or has lost its replicas (`min-replicas-to-write`). The address of the primary then leads
    elsewhere, and this connection would answer every write with the same error for ever.
    """

    def read_response(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401  (redis-py's)
        try:
            return super().read_response(*args, **options)  # type: ignore[misc]
        except redis.ResponseError as error:
            # Of a script, Redis 6.2 quotes the error of the command within its own.
            if not isinstance(error, redis.ReadOnlyError) and not _NO_WRITES.search(str(error)):
                raise
            self.disconnect()  # type: ignore[attr-defined]
            raise redis.ConnectionError("This Redis takes no writes: it is a replica, or has lost its own.") from None


class PlainConnection(_LeavesReplicas, redis.Connection):
    """A connection without TLS."""


class TlsConnection(_LeavesReplicas, redis.SSLConnection):
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


_ASK_SECONDS: Final = 0.5
"""Shorter than the second for which a limiter without memory waits for permits that another server granted."""


class _FollowsPrimary(SentinelManagedConnection):
    """A connection to the primary that the sentinels name, closed before its next command once they name another.

    A primary that sentinels replaced while it lives, by plan or because they could not reach it, stays one for some ten
    seconds: two limiters would each grant the whole limit.
    """

    _ask_again = 0.0

    def connect_to(self, address: tuple[str, int]) -> None:
        self._ask_again = time.monotonic() + _ASK_SECONDS
        super().connect_to(address)  # type: ignore[no-untyped-call]

    def send_packed_command(self, command: Any, check_health: bool = True) -> None:  # noqa: ANN401, FBT001, FBT002
        if not self._sock:  # redis-py would connect to the address of last time
            self.connect()  # type: ignore[no-untyped-call]
        super().send_packed_command(command, check_health)  # type: ignore[no-untyped-call]

    def check_health(self) -> None:
        began = time.monotonic()
        if began >= self._ask_again:
            named = self._named()
            # Sentinels that do not answer must not slow every command down.
            self._ask_again = time.monotonic() + max(_ASK_SECONDS, 10 * (time.monotonic() - began))
            if named not in (None, (self.host, self.port)):
                self.disconnect()  # type: ignore[no-untyped-call]
                raise redis.ConnectionError("The sentinels name another primary.")
        super().check_health()  # type: ignore[no-untyped-call]

    def _named(self) -> tuple[str, int] | None:
        try:
            return self.connection_pool.get_master_address()  # type: ignore[no-any-return]
        except redis.RedisError:  # none answers, or none knows: the connection may still be right
            return None


class _SentinelConnection(_FollowsPrimary, PlainConnection):
    """Without TLS."""


class _SentinelTlsConnection(_FollowsPrimary, TlsConnection):
    """With TLS."""


class _Sentinel(Sentinel):
    """Asks one sentinel after the other; its error quotes none of what they said."""

    def discover_master(self, service_name: str) -> tuple[str, int]:
        try:
            return super().discover_master(service_name)  # type: ignore[no-any-return, no-untyped-call]
        except MasterNotFoundError:
            raise MasterNotFoundError("No sentinel that answers names a primary under the name in REDIS_URL.") from None


def connection_options(redis_url: str) -> tuple[type[Any], dict[str, Any]]:
    """Return the class of connections for an address, and redis-py's reading of the address without it."""
    several = sentinels_of(redis_url)
    options = dict(parse_url(redis_url if several is None else several.server))  # type: ignore[no-untyped-call]
    kind = options.pop("connection_class", redis.Connection)
    tls = issubclass(kind, redis.SSLConnection)
    if several is not None:
        del options["host"]
        return _SentinelTlsConnection if tls else _SentinelConnection, options
    if tls:
        return TlsConnection, options
    return PlainConnection if kind is redis.Connection else kind, options


def primary_pool(several: Sentinels, **options: Any) -> SentinelConnectionPool:  # noqa: ANN401  (redis-py's)
    """Return connections to whichever server the sentinels name as primary. Connects to nothing yet.

    options: of the connections, and their `connection_class`, as `connection_options` returns them.
    """
    manager = _Sentinel(())  # type: ignore[no-untyped-call]
    manager.sentinels = sentinel_clients(several)
    return SentinelConnectionPool(several.master, manager, **options)  # type: ignore[no-untyped-call]


def sentinel_clients(several: Sentinels, *, timeout_seconds: float = TIMEOUT_SECONDS) -> list[redis.Redis]:
    """Return a client of each sentinel, in the order of the address."""
    return [connect(url, timeout_seconds=timeout_seconds) for url in several.sentinels]


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
    kind, options = connection_options(redis_url)
    options |= {
        "connection_class": kind,
        "socket_timeout": timeout_seconds,
        "socket_connect_timeout": timeout_seconds,
        "retry": Retry(NoBackoff(), 0),
        "retry_on_timeout": False,
        "decode_responses": False,
    }
    if not redis_url.startswith("unix://"):
        options["socket_keepalive"] = True
    several = sentinels_of(redis_url)
    pool = redis.ConnectionPool(**options) if several is None else primary_pool(several, **options)
    return redis.Redis.from_pool(pool)


def refuse_cluster(client: redis.Redis) -> None:
    """Raise `NotConfigured` if the server is a Redis Cluster, which neither Celery nor our scripts support.

    Raises `redis.RedisError` if the server is unreachable.
    """
    if client.info("server").get("redis_mode") == "cluster":
        raise NotConfigured(
            "REDIS_URL names a Redis Cluster, which Celery cannot use as its broker; name a single Redis or a primary."
        )
