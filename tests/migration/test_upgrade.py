"""A database with rows in every state is upgraded to head: nothing is lost, and everything works on it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dispatcher.config.urls import normal_database_url
from dispatcher.store.migration import upgrade
from tests.migration import upgrades
from tests.migration.catalog import GOLDEN, dump
from tests.migration.flows import FLOWS, World, world_of
from tests.support.databases import Databases


@pytest.fixture(scope="session")
def filled(databases: Databases) -> str:
    """The name of a database at the baseline, with rows in every state."""
    name = databases.create()
    upgrades.fill(databases.url(name))
    return name


@pytest.fixture(scope="session")
def upgraded(databases: Databases, filled: str) -> str:
    """The name of the same database at head."""
    name = databases.create(filled)
    upgrade(normal_database_url(databases.url(name)))
    return name


@pytest.fixture
def filled_url(databases: Databases, filled: str) -> Iterator[str]:
    with databases.one(filled) as url:
        yield url


@pytest.fixture
def upgraded_url(databases: Databases, upgraded: str) -> Iterator[str]:
    with databases.one(upgraded) as url:
        yield url


def test_an_upgraded_database_has_the_schema_of_a_new_one(upgraded_url: str) -> None:
    def schema(text: str) -> str:
        return text[: text.index("ROW OF")]

    assert schema(dump(upgraded_url)) == schema(GOLDEN.read_text(encoding="utf-8"))


@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: flow.__name__)
def test_everything_works_on_an_upgraded_database(upgraded_url: str, flow: Callable[[World], None]) -> None:
    with world_of(upgraded_url) as world:
        flow(world)


def test_no_row_is_lost_or_changed_and_each_revision_can_be_started_again(databases: Databases, filled: str) -> None:
    upgrades.check_upgrade(databases, filled)


def test_a_submit_is_not_held_up_by_an_upgrade_that_waits_for_a_report(filled_url: str) -> None:
    assert upgrades.longest_submit_during_upgrade(filled_url) < upgrades.HELD_UP_SECONDS


def test_an_attempt_that_ended_before_it_started_is_mended(upgraded_url: str) -> None:
    with world_of(upgraded_url) as world:
        (row,) = world.queue.rows("SELECT count(*) AS n FROM dispatcher.lead_attempts WHERE ended_at = started_at")

    assert row.n >= 1


BAD = {
    "drops a default that submit needs": (
        'op.execute("ALTER TABLE dispatcher.leads ALTER created_at DROP DEFAULT")',
        "SQLSTATE 23502",
    ),
    "adds a constraint that rows violate": (
        """op.execute("ALTER TABLE dispatcher.lead_attempts ADD CONSTRAINT known CHECK (outcome <> 'bug')")""",
        "CheckViolation.*known",
    ),
    "adds a column that the code does not fill": (
        """op.execute("ALTER TABLE dispatcher.leads ADD COLUMN IF NOT EXISTS region text DEFAULT 'x' NOT NULL")
    op.execute("ALTER TABLE dispatcher.leads ALTER region DROP DEFAULT")""",
        "SQLSTATE 23502",
    ),
    "forgets a failure class of new rows": (
        """op.execute("ALTER TABLE dispatcher.failed_leads DROP CONSTRAINT IF EXISTS narrow,"
        " ADD CONSTRAINT narrow CHECK (failure_class <> 'bug') NOT VALID")""",
        "SQLSTATE 23514, constraint narrow",
    ),
    "drops the index that a write names": (
        'op.execute("DROP INDEX IF EXISTS dispatcher.gates_scope")',
        "SQLSTATE 42P10",
    ),
    "drops a column that is read": (
        'op.execute("ALTER TABLE dispatcher.leads DROP COLUMN IF EXISTS voicery_status CASCADE")',
        "the upgrade changed.*voicery_status",
    ),
    "deletes rows": (
        'op.execute("DELETE FROM dispatcher.failed_leads WHERE resolved_at IS NOT NULL")',
        "the upgrade changed.*failed_leads",
    ),
    "changes rows": (
        """op.execute("UPDATE dispatcher.leads SET due_at = now() WHERE state = 'pending'")""",
        "the upgrade changed.*due_at",
    ),
    "narrows a type": (
        (
            'op.execute("DROP VIEW IF EXISTS dispatcher.confined_lead_contacts"); '
            'op.execute("ALTER TABLE dispatcher.lead_contacts ALTER voicery_lead_id TYPE smallint")'
        ),
        "SQLSTATE 22003",
    ),
    "cannot be started again": (
        'change("CREATE TABLE dispatcher.regions (name text)", table="leads")',
        "DuplicateTable.*regions",
    ),
    "forgets a function that claims call": (
        'op.execute("DROP FUNCTION IF EXISTS dispatcher.gates_let_through")',
        "tables are missing",
    ),
    "forgets the outbox of alerts": (
        'op.execute("DROP TRIGGER IF EXISTS failed_leads_alert ON dispatcher.failed_leads")',
        "an alert is missing",
    ),
    "waits for a report with writers behind it": (
        (
            'op.execute("SET LOCAL lock_timeout = 60000");'
            ' op.execute("/* lock_timeout */ ALTER TABLE dispatcher.leads ADD COLUMN IF NOT EXISTS region text")'
        ),
        "a submit was held up",
    ),
    "builds an index in the way of writers": (
        'op.execute("CREATE INDEX IF NOT EXISTS leads_updated ON dispatcher.leads (updated_at)")',
        "waits for its lock without bound.*leads_updated",
    ),
    "writes a table anew": (
        'change("ALTER TABLE dispatcher.alerts ALTER kind TYPE varchar(60)", table="alerts")',
        "the upgrade wrote all of.*alerts",
    ),
}


@pytest.mark.parametrize(("body", "found"), BAD.values(), ids=BAD.keys())
def test_a_bad_revision_is_caught(
    databases: Databases, filled: str, body: str, found: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    upgrades.with_revision(monkeypatch, tmp_path / "migrations", body)

    with pytest.raises(Exception, match=f"(?s){found}"):
        upgrades.check_upgrade(databases, filled)


def test_a_good_revision_passes(
    databases: Databases, filled: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    good = 'change("ALTER TABLE dispatcher.leads ADD COLUMN IF NOT EXISTS region text", table="leads")'
    upgrades.with_revision(monkeypatch, tmp_path / "migrations", good)

    upgrades.check_upgrade(databases, filled)
