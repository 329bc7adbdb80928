"""Databases made from a template: each test has its own, in milliseconds."""

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql


class Databases:
    """The databases of one test session on one Postgres server."""

    def __init__(self, url: str) -> None:
        """`url` names any database of the server; its role must be allowed to create others."""
        self._url = url.replace("postgresql+psycopg://", "postgresql://", 1)
        self._names = (f"dispatcher_test_{os.getpid()}_{number}" for number in itertools.count())

    def create(self, template: str | None = None) -> str:
        """Make a database, empty or as the template; its name."""
        name = next(self._names)
        self._execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
                sql.Identifier(name), sql.Identifier(template or "template0")
            )
        )
        return name

    def drop(self, name: str) -> None:
        """Drop it, whoever is still connected."""
        self._execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    @contextmanager
    def one(self, template: str | None = None) -> Iterator[str]:
        """The URL of a new database that is gone afterwards."""
        name = self.create(template)
        try:
            yield self.url(name)
        finally:
            self.drop(name)

    def url(self, name: str) -> str:
        """The `DATABASE_URL` of one of them."""
        return urlunsplit(urlsplit(self._url)._replace(path=f"/{name}"))

    def _execute(self, statement: sql.Composed) -> None:
        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute(statement)
