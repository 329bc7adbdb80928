"""A real Postgres and a real Redis for the tests of an application."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

import psycopg
import redis
from psycopg import sql

import dispatcher
from dispatcher.api import Dispatcher
from dispatcher.config.settings import Settings
from dispatcher.embedded.application_role import prepared
from dispatcher.embedded.postgres import EmbeddedPostgres
from dispatcher.embedded.redis import EmbeddedRedis

PROFILE: Final = {
    "DISPATCHER_RATE_LIMIT": "off",
    "DISPATCHER_LEASE": "3",
    "DISPATCHER_DEADLINE": "1",
    "DISPATCHER_CONNECT_TIMEOUT": "0.5",
    "DISPATCHER_READ_TIMEOUT": "0.5",
    "DISPATCHER_SETTLE": "0.5",
    "DISPATCHER_UNKNOWN_FOR": "5",
    "DISPATCHER_GATE_WAIT": "0.2",
    "DISPATCHER_GATE_WAIT_MAX": "0.5",
    "DISPATCHER_BACKOFF_BASE": "0.2",
    "DISPATCHER_BACKOFF_MAX": "0.5",
    "DISPATCHER_SWEEP_INTERVAL": "0.1",
}
"""Short times, so that a test of a lost answer takes seconds: the default settle time is two minutes."""

_TABLES: Final = """
SELECT string_agg(format('%I.%I', schemaname, tablename), ', ') FROM pg_tables
WHERE schemaname = 'dispatcher' AND tablename NOT IN ('sweeps', 'alembic_version', 'database_roles')
"""


@dataclass(frozen=True, slots=True)
class Servers:
    """The servers of a session.

    environment   the variables that lead to them; the login to Postgres is no superuser
    owner_url     of the superuser of Postgres, which empties the tables between tests
    """

    environment: dict[str, str]
    owner_url: str = field(repr=False)

    @classmethod
    @contextmanager
    def started(cls) -> Iterator[Self]:
        """Start both; they end, and their data is deleted, with the block."""
        directory = Path(tempfile.mkdtemp(prefix="dispatcher-testing-"))
        directory.chmod(0o755)  # for the user that Postgres runs as where this process is root
        try:
            with (
                EmbeddedPostgres(directory / "postgres", durable=False) as postgres,
                EmbeddedRedis(directory / "redis") as cache,
            ):
                database_url = prepared(postgres)
                yield cls({"DATABASE_URL": database_url, "REDIS_URL": cache.url(), **PROFILE}, postgres.url())
        finally:
            shutil.rmtree(directory, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Stores:
    """The stores of one test.

    database_url   for an engine of the application's own
    redis_url      for what else needs it
    environment    the variables of both, and of the short times
    dispatcher     what `dispatcher.submit` and the other functions use
    """

    database_url: str
    redis_url: str
    environment: dict[str, str]
    dispatcher: Dispatcher

    @classmethod
    @contextmanager
    def emptied(cls, servers: Servers) -> Iterator[Self]:
        """Empty the dispatcher's tables and Redis, and let the functions of `dispatcher` use them."""
        environment = dict(servers.environment)
        made = Dispatcher(Settings.from_environment(environment))
        with psycopg.connect(servers.owner_url) as connection:
            # Or the trigger that keeps the audit log refuses. Only in this transaction, and only as a superuser.
            connection.execute("SET LOCAL session_replication_role = replica")
            (tables,) = connection.execute(_TABLES).fetchone() or ("",)
            connection.execute(sql.SQL("TRUNCATE {} RESTART IDENTITY").format(sql.SQL(tables)))
        with redis.Redis.from_url(environment["REDIS_URL"]) as client:
            client.flushdb()
        before, dispatcher._default = dispatcher._default, made  # noqa: SLF001 - the one default
        try:
            yield cls(environment["DATABASE_URL"], environment["REDIS_URL"], environment, made)
        finally:
            dispatcher._default = before  # noqa: SLF001
            made.close()
