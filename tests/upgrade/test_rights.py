"""The database roles of the version before have their rights at each moment of an upgrade."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from dispatcher.config.urls import normal_database_url
from dispatcher.store import migration
from dispatcher.store.roles import names_of
from tests.support.databases import Databases
from tests.support.environment import clean_environment
from tests.upgrade import release
from tests.upgrade.release import NoHistory

RIGHTS = """
SELECT 'relation ' || relname, CAST(relowner AS regrole)::text,
    ARRAY(SELECT unnest(coalesce(relacl, acldefault('r', relowner)))::text ORDER BY 1)
FROM pg_class WHERE relnamespace = CAST('dispatcher' AS regnamespace) AND relkind IN ('r', 'v')
UNION ALL
SELECT 'column ' || relname || '.' || attname, '', ARRAY(SELECT unnest(attacl)::text ORDER BY 1)
FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
WHERE relnamespace = CAST('dispatcher' AS regnamespace) AND attacl IS NOT NULL
UNION ALL
SELECT 'function ' || CAST(oid AS regprocedure)::text, CAST(proowner AS regrole)::text,
    ARRAY(SELECT unnest(coalesce(proacl, acldefault('f', proowner)))::text ORDER BY 1)
FROM pg_proc WHERE pronamespace = CAST('dispatcher' AS regnamespace)
"""
PASSWORD = "a-password-of-the-tests"


Rights = dict[str, tuple[str, tuple[str, ...]]]


def rights(url: str) -> Rights:
    """Owner and rights, by what they are of."""
    with psycopg.connect(url) as connection:
        return {what: (owner, tuple(granted)) for what, owner, granted in connection.execute(RIGHTS)}


@contextmanager
def of_the_version_before(databases: Databases, old: release.Release) -> Iterator[str]:
    """A database that the version before migrated, with roles that are gone afterwards."""
    with databases.one() as url:
        prefix = f"{url.rpartition('/')[2]}_"
        settings = {**clean_environment(), "DATABASE_URL": url}
        old.run("migrate", "--with-roles", "--role-prefix", prefix, settings=settings)
        try:
            yield url
        finally:
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute("DROP SCHEMA dispatcher CASCADE")
                for name in names_of(prefix).values():
                    connection.execute(f'DROP OWNED BY "{name}"')
                    connection.execute(f'DROP ROLE "{name}"')


def test_what_a_revision_creates_belongs_to_the_roles_before_the_upgrade_has_ended(
    databases: Databases, server_dir: object, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        old = release.previous(tmp_path_factory.mktemp("old"))
    except NoHistory as error:
        pytest.skip(str(error))
    with of_the_version_before(databases, old) as url:
        there = rights(url).keys()
        with monkeypatch.context() as patched:
            patched.setattr("dispatcher.store.roles.set_up", lambda *_: {})
            migration.upgrade(normal_database_url(url))
        before_the_end = {what: found for what, found in rights(url).items() if what not in there}
        migration.upgrade(normal_database_url(url))

        made = {what: found for what, found in rights(url).items() if what not in there}
        assert {"relation submitters", "function dispatcher.check_submission()"} <= made.keys()
        # A later revision may add a column to a table that was there.
        of_old_tables = {
            what for what in made if what.startswith("column ") and f"relation {what[7:].partition('.')[0]}" in there
        }
        assert {what: found for what, found in made.items() if what not in of_old_tables} == {
            what: found for what, found in before_the_end.items() if what not in of_old_tables
        }
