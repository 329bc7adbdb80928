"""The migrations build what `tests/migration/schema.sql` says, and a schema of another origin is told from ours."""

import difflib
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from alembic.script import ScriptDirectory
from typer.testing import CliRunner

from dispatcher.cli.commands import app
from dispatcher.store.migration import head, revisions, scripts
from tests.migration.catalog import GOLDEN, RENEW, dump


@contextmanager
def connected(url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection


def test_the_migrations_build_the_schema_of_the_golden_file(database_url: str) -> None:
    found, golden = dump(database_url), GOLDEN.read_text()

    differences = "\n".join(difflib.unified_diff(golden.splitlines(), found.splitlines(), "golden", "built", "", "", 0))
    assert not differences, f"If that is meant, run `{RENEW}`:\n{differences}"


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE dispatcher.leads ALTER COLUMN allow_dupplicate DROP DEFAULT",
        "ALTER TABLE dispatcher.leads ALTER COLUMN due_at DROP NOT NULL",
        "ALTER TABLE dispatcher.leads DROP CONSTRAINT leads_failed_has_class_check",
        "DROP INDEX dispatcher.leads_leased",
        "DROP TRIGGER leads_legal_moves ON dispatcher.leads",
        "ALTER TABLE dispatcher.leads DISABLE TRIGGER leads_legal_moves",
        "ALTER TABLE dispatcher.leads RESET (fillfactor)",
        "ALTER TABLE dispatcher.lead_attempts ADD CONSTRAINT later CHECK (number > 0) NOT VALID",
        "CREATE OR REPLACE FUNCTION dispatcher.alert_of_gate() RETURNS trigger LANGUAGE sql AS 'SELECT NULL::void'",
        "COMMENT ON COLUMN dispatcher.leads.state IS 'the state'",
        "DELETE FROM dispatcher.sweeps",
    ],
)
def test_a_schema_that_differs_in_one_thing_is_seen(database_url: str, statement: str) -> None:
    with connected(database_url) as connection:
        try:
            connection.execute(statement)  # type: ignore[call-overload]
        except psycopg.errors.InvalidFunctionDefinition:
            connection.execute(
                statement.replace("LANGUAGE sql AS 'SELECT NULL::void'", "LANGUAGE plpgsql AS 'BEGIN END'")
            )  # type: ignore[call-overload]

    assert dump(database_url) != GOLDEN.read_text()


def test_the_revisions_read_from_the_file_names_are_those_of_alembic() -> None:
    script = ScriptDirectory(str(scripts()))

    assert revisions() == tuple(reversed([one.revision for one in script.walk_revisions()]))
    assert head() == script.get_current_head()


UNRELEASED = [
    ("0001", "DROP TABLE dispatcher.imports CASCADE"),
    ("0003", "DROP TABLE dispatcher.imports CASCADE"),
    ("0005", "ALTER TABLE dispatcher.lead_attempts DROP CONSTRAINT lead_attempts_order_check"),
]


@pytest.mark.parametrize(("revision", "undo"), UNRELEASED)
def test_a_database_of_a_development_version_is_told_in_one_sentence(
    database_url: str, revision: str, undo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connected(database_url) as connection:
        connection.execute(undo)  # type: ignore[call-overload]
        connection.execute("UPDATE dispatcher.alembic_version SET version_num = %s", (revision,))
    monkeypatch.setenv("DATABASE_URL", database_url)

    migrated = CliRunner().invoke(app, ["migrate"])
    doctor = CliRunner().invoke(app, ["doctor"], env={"COLUMNS": "1000"})

    assert migrated.exit_code != 0
    assert isinstance(migrated.exception, Exception)
    assert f"at revision {revision}" in str(migrated.exception)
    assert "never released" in str(migrated.exception)
    assert "ALTER SCHEMA dispatcher RENAME" in str(migrated.exception)
    assert "never released" in doctor.output


def test_a_database_of_a_newer_version_is_left_alone(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with connected(database_url) as connection:
        connection.execute("UPDATE dispatcher.alembic_version SET version_num = '9999'")
    before = dump(database_url)
    monkeypatch.setenv("DATABASE_URL", database_url)

    migrated = CliRunner().invoke(app, ["migrate"])
    with_roles = CliRunner().invoke(app, ["migrate", "--with-roles"])
    doctor = CliRunner().invoke(app, ["doctor"], env={"COLUMNS": "1000"})

    assert migrated.exit_code == 0, "a host that is replaced later starts again meanwhile"
    assert "newer version" in migrated.output
    assert "newer version" in str(with_roles.exception)
    assert "at revision 9999, newer than" in doctor.output
    assert dump(database_url) == before
