"""The login of an embedded Postgres for everything but migrations, with the rights of `dispatcher.store.rights`.

A superuser of a database runs programs and reads files as the server's user. Who holds `DATABASE_URL` shall not.
"""

import hashlib
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql

from dispatcher.config.urls import normal_database_url
from dispatcher.embedded.postgres import ROLE, EmbeddedPostgres
from dispatcher.store.migration import upgrade
from dispatcher.store.rights import Part
from dispatcher.store.roles import names_of

APPLICATION: Final = "dispatcher_application"

# In stores of older versions the application was the superuser; what belongs to a column or an extension follows that.
_OF_THE_APPLICATION: Final = """
SELECT CAST(CAST(class.oid AS regclass) AS text) FROM pg_class AS class
WHERE relnamespace = CAST('public' AS regnamespace) AND relkind IN ('r', 'p', 'v', 'm', 'S')
  AND relowner = CAST(%s AS regrole)
  AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = class.oid AND deptype IN ('a', 'e', 'i'))
"""


def prepared(postgres: EmbeddedPostgres) -> str:
    """Bring the schema to this version and return the `DATABASE_URL` of the application. Do not log it: a password.

    The application owns what it makes in `public`, and may make databases. Safe to repeat, at each start.
    """
    owner = postgres.url()
    with psycopg.connect(owner, autocommit=True) as connection:
        _make(connection, password := _password(owner))
        roles = None if _groups(connection) else names_of()
    upgrade(normal_database_url(owner), roles=roles)
    with psycopg.connect(owner, autocommit=True) as connection:
        for group in _groups(connection):
            connection.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(group), sql.Identifier(APPLICATION)))
    place = urlsplit(owner)
    return urlunsplit(place._replace(netloc=f"{APPLICATION}:{password}@{place.hostname}:{place.port}"))


def _make(connection: "psycopg.Connection[Any]", password: str) -> None:
    login = sql.Identifier(APPLICATION)
    if connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [APPLICATION]).fetchone() is None:
        connection.execute(sql.SQL("CREATE ROLE {}").format(login))
    options = sql.SQL("ALTER ROLE {} LOGIN CREATEDB NOSUPERUSER NOCREATEROLE PASSWORD {}")
    connection.execute(options.format(login, sql.Literal(password)))
    database = sql.Identifier(connection.info.dbname)
    connection.execute(sql.SQL("GRANT ALL ON DATABASE {} TO {}").format(database, login))
    connection.execute(sql.SQL("GRANT ALL ON SCHEMA public TO {}").format(login))
    for (name,) in connection.execute(_OF_THE_APPLICATION, [ROLE]).fetchall():
        connection.execute(sql.SQL("ALTER TABLE {} OWNER TO {}").format(sql.SQL(name), login))


def _groups(connection: "psycopg.Connection[Any]") -> list[str]:
    """Return the roles that were made for this store, but for the owner of the schema; none before they were."""
    (found,) = connection.execute("SELECT to_regclass('dispatcher.database_roles')").fetchone() or (None,)
    if found is None:
        return []
    asked = "SELECT name FROM dispatcher.database_roles WHERE part <> %s"
    return [name for (name,) in connection.execute(asked, [Part.OWNER]).fetchall()]


def _password(owner_url: str) -> str:
    """Derive it from that of the superuser, which cannot be derived from it; so a store needs no second file."""
    given = urlsplit(owner_url).password or ""
    return hashlib.sha256(f"{APPLICATION}:{given}".encode()).hexdigest()
