"""Databases made from a template: each test has its own, in milliseconds."""

import itertools
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql

MEMORY = Path("/dev/shm")  # noqa: S108 - where Linux keeps files in memory
ROOM_BYTES = 2 * 1024**3


def quick_directory() -> Path | None:
    """Where servers that lose nothing by a power cut keep their data; None is the place of all temporary files.

    A database is hundreds of files. Making and dropping one costs ten times the CPU on a disk's file system.
    """
    usable = MEMORY.is_dir() and os.access(MEMORY, os.W_OK) and not os.statvfs(MEMORY).f_flag & os.ST_NOEXEC
    return MEMORY if usable and shutil.disk_usage(MEMORY).free > ROOM_BYTES else None


class Databases:
    """The databases of one test session on one Postgres server."""

    def __init__(self, url: str) -> None:
        """`url` names any database of the server; its role must be allowed to create others."""
        self._url = url.replace("postgresql+psycopg://", "postgresql://", 1)
        self._names = (f"dispatcher_test_{os.getpid()}_{number}" for number in itertools.count())
        self._connection = psycopg.connect(self._url, autocommit=True)

    def create(self, template: str | None = None) -> str:
        """Make a database, empty or as the template; its name."""
        name = next(self._names)
        self._execute(
            # The files as they are: the other strategy writes each page to the log as well.
            sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY").format(
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
        if self._connection.closed:
            self._connection = psycopg.connect(self._url, autocommit=True)
        self._connection.execute(statement)
