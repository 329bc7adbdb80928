"""A database with the roles of `dispatcher migrate --with-roles`, and a login for each, as an installation has them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import psycopg

from dispatcher.config.urls import normal_database_url
from dispatcher.store.migration import upgrade
from dispatcher.store.rights import Part
from dispatcher.store.roles import names_of
from tests.migration import upgrades
from tests.support.databases import Databases

PASSWORD: Final = "a-password-of-the-tests"


@dataclass(frozen=True, slots=True)
class Installation:
    """A template database with roles, and the logins to which they were granted."""

    template: str
    names: Mapping[Part, str]

    def login(self, *parts: Part) -> str:
        """The name of the login that has these roles; one was made for each, and one for worker and retention."""
        return "_".join((self.names[parts[0]], *parts[1:], "login"))

    def url(self, database_url: str, *parts: Part) -> str:
        """The address of a database for the login with these roles."""
        place = urlsplit(database_url)
        host = f"{self.login(*parts)}:{PASSWORD}@{place.hostname}:{place.port}"
        return urlunsplit(place._replace(netloc=host))


@contextmanager
def installation(databases: Databases) -> Iterator[Installation]:
    """A database with rows in every state, migrated with roles of its own; they are gone afterwards."""
    template = databases.create()
    url = databases.url(template)
    upgrades.fill(url)
    names = names_of(f"{template}_")
    made = Installation(template, names)
    upgrade(normal_database_url(url), roles=names)
    logins = [*((part,) for part in Part), (Part.WORKER, Part.RETENTION)]
    with psycopg.connect(url, autocommit=True) as connection:
        for parts in logins:
            connection.execute(f"CREATE ROLE {made.login(*parts)} LOGIN PASSWORD '{PASSWORD}'")
            for part in parts:
                connection.execute(f"GRANT {names[part]} TO {made.login(*parts)}")
    yield made
    with psycopg.connect(url, autocommit=True) as connection:
        for parts in logins:
            connection.execute(f"DROP ROLE {made.login(*parts)}")
        connection.execute("DROP SCHEMA dispatcher CASCADE")
        for name in names.values():
            connection.execute(f"DROP ROLE {name}")
    databases.drop(template)
