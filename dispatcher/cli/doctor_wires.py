"""What `doctor` says of the ways to Postgres and Redis beyond this machine: encrypted, and not open to everybody."""

import os
from collections.abc import Iterator
from typing import Final

import redis
from psycopg.conninfo import conninfo_to_dict

from dispatcher.broker.connection import connect
from dispatcher.cli.doctor import Check, Grade
from dispatcher.config.passwords import server_password, without_user
from dispatcher.config.settings import Settings
from dispatcher.config.urls import is_loopback, redis_hosts, sentinels_of

_ENCRYPTED: Final = frozenset({"require", "verify-ca", "verify-full"})
_LIBPQ_DEFAULT: Final = "prefer"  # and falls back to plain text


def wires(settings: Settings) -> Iterator[Check]:
    """Check both addresses; what stays on this machine needs neither encryption nor a password."""
    if settings.database_url is not None:
        yield from judge_postgres(settings.require_database_url())
    if settings.database_read_url is not None:
        yield from judge_postgres(settings.database_read_url.reveal(), variable="DATABASE_READ_URL")
    if settings.redis_url is not None:
        url = settings.redis_url.reveal()
        yield from judge_redis(url, open_to_all=_is_remote(url) and _answers_without_password(url))


def judge_postgres(url: str, *, variable: str = "DATABASE_URL") -> Iterator[Check]:
    """Check that no server beyond this machine may be spoken to in plain text."""
    given = conninfo_to_dict(url.replace("postgresql+psycopg://", "postgresql://", 1))
    hosts = str(given.get("host") or given.get("hostaddr") or os.environ.get("PGHOST") or "").split(",")
    remote = [host for host in hosts if host and not host.startswith(("/", "@")) and not is_loopback(host)]
    mode = str(given.get("sslmode") or os.environ.get("PGSSLMODE") or _LIBPQ_DEFAULT)
    if remote and mode not in _ENCRYPTED:
        found = f"sslmode is {mode}: numbers and the password may cross the network in plain text"
        advice = f"Add sslmode=verify-full and sslrootcert to {variable}; sslmode=require at least."
        yield Check("Postgres encryption", Grade.DOUBTFUL, found, advice)


def judge_redis(url: str, *, open_to_all: bool) -> Iterator[Check]:
    """Check a Redis beyond this machine. `open_to_all`: it answered without a password."""
    if not _is_remote(url):
        return
    if open_to_all or not server_password(url):
        found = "asks for no password: whoever reaches it can hold deliveries back"
        advice = (
            "Give it a user as docs/operations.md shows, switch the user default off, and write both into REDIS_URL."
        )
        yield Check("Redis password", Grade.DOUBTFUL, found, advice)
    if not url.startswith(("rediss://", "sentinels://")):
        found = "is reached without TLS: its password crosses the network in plain text"
        advice = f"Write REDIS_URL with {'sentinels' if sentinels_of(url) else 'rediss'}://."
        yield Check("Redis encryption", Grade.DOUBTFUL, found, advice)


def _is_remote(url: str) -> bool:
    return any(not is_loopback(host) for host in redis_hosts(url))


def _answers_without_password(url: str) -> bool:
    client = connect(without_user(url), timeout_seconds=2.0)
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False
    finally:
        client.close()
