"""The audit log is only appended to: whoever rewrites, deletes or inserts an entry is refused, or found out."""

import json
import os
import threading
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner

from dispatcher.cli.commands import app
from dispatcher.config.account import whoami
from dispatcher.config.urls import normal_database_url
from dispatcher.operator.audit_chain import Verification, verify
from dispatcher.store import audit
from dispatcher.store.database import Database
from dispatcher.store.rights import Part
from tests.security.roles import WorldOf
from tests.security.test_database_roles import execute
from tests.support.logins import Installation

NUMBER = "+12025550109"


@pytest.fixture
def log(roles_url: str) -> Any:
    """Writes entries as the owner of everything, and verifies."""

    class Log:
        url = roles_url
        database = Database(normal_database_url(roles_url))

        def write(self, *subjects: str, action: str = "replay", **detail: object) -> None:
            with self.database.transaction() as connection:
                audit.note_all(connection, "ada@ops-1", action, dict.fromkeys(subjects, detail))

        def verify(self, head: str | None = None) -> Verification:
            with self.database.transaction() as connection:
                return verify(connection, head=head)

        def run(self, *statements: str) -> None:
            for statement in statements:
                execute(self.url, statement)

        def forge(self, *statements: str) -> None:
            """As a superuser who switches the triggers off."""
            self.run("; ".join(["SET session_replication_role = replica", *statements]))

    made = Log()
    yield made
    made.database.close()


def test_what_was_in_the_log_before_the_upgrade_is_chained_too(log: Any) -> None:
    found = log.verify()

    assert found.whole
    assert found.entries == execute(log.url, "SELECT count(*) FROM dispatcher.audit_log")[0][0] >= 2


def test_each_entry_has_the_time_of_the_database_and_the_login(installed: Installation, log: Any) -> None:
    operator = installed.url(log.url, Part.OPERATOR)
    execute(operator, "INSERT INTO dispatcher.audit_log (actor, action, subject) VALUES ('the boss', 'replay', 'x')")
    log.run("INSERT INTO dispatcher.audit_log (at, actor, action, subject) VALUES ('2001-01-01', 'eve', 'replay', 'y')")

    rows = execute(
        log.url,
        "SELECT actor, db_user, now() - at < interval '1 minute' FROM dispatcher.audit_log ORDER BY id DESC LIMIT 2",
    )
    assert rows[1] == ("the boss", installed.login(Part.OPERATOR), True)
    assert rows[0][2] is True, "a time that was given is not taken"
    assert log.verify().whole


def test_the_actor_is_the_user_of_the_uid_whatever_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    before = whoami()
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "the-boss")

    assert whoami() == before
    assert "the-boss" not in whoami()


def test_in_a_container_without_a_name_it_is_the_uid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pwd.getpwuid", lambda uid: {}[uid])

    assert whoami().startswith(f"uid{os.getuid()}@")


REWRITES = [
    "UPDATE dispatcher.audit_log SET actor = 'eve@ops-1'",
    "UPDATE dispatcher.audit_log SET action = 'look'",
    "UPDATE dispatcher.audit_log SET at = now()",
    "UPDATE dispatcher.audit_log SET subject = subject || '1'",
    'UPDATE dispatcher.audit_log SET detail = \'{"note": "another"}\'',
    "UPDATE dispatcher.audit_log SET detail = detail || '{\"more\": 1}'",
    "UPDATE dispatcher.audit_log SET db_user = 'x'",
    "DELETE FROM dispatcher.audit_log",
    "TRUNCATE dispatcher.audit_log",
    "TRUNCATE dispatcher.audit_chain",
    "SET dispatcher.audit_pruning = 'off'; DELETE FROM dispatcher.audit_log",
]


@pytest.mark.parametrize("part", [None, Part.WORKER, Part.OPERATOR, Part.RETENTION], ids=str)
def test_nobody_rewrites_it_not_even_the_owner(installed: Installation, log: Any, part: Part | None) -> None:
    log.write("a", "b", note="a note")
    before = execute(log.url, "SELECT * FROM dispatcher.audit_log ORDER BY id")
    url = log.url if part is None else installed.url(log.url, part)
    for statement in REWRITES:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            execute(url, statement)

    assert execute(log.url, "SELECT * FROM dispatcher.audit_log ORDER BY id") == before
    assert log.verify().whole


FORGERIES: list[tuple[str, str, str]] = [
    ("UPDATE dispatcher.audit_log SET actor = 'eve' WHERE id = {id}", "{id}", "actor, subject or detail"),
    ("UPDATE dispatcher.audit_log SET detail = '{{}}' WHERE id = {id}", "{id}", "actor, subject or detail"),
    ("UPDATE dispatcher.audit_log SET action = 'look' WHERE id = {id}", "{id}", "not as it was written"),
    ("UPDATE dispatcher.audit_log SET at = at - interval '1 day' WHERE id = {id}", "{id}", "not as it was written"),
    ("UPDATE dispatcher.audit_log SET db_user = 'x' WHERE id = {id}", "{id}", "not as it was written"),
    ("DELETE FROM dispatcher.audit_log WHERE id = {id}", "{id}", "was deleted"),
    (
        "DELETE FROM dispatcher.audit_log WHERE id = {id}; DELETE FROM dispatcher.audit_chain WHERE audit_id = {id}",
        "{next}",
        "an entry before it is missing",
    ),
    (
        "INSERT INTO dispatcher.audit_log (actor, action, subject) VALUES ('eve', 'replay', 'x')",
        "{new}",
        "past the triggers",
    ),
    (
        "UPDATE dispatcher.audit_chain SET hash = sha256('x') WHERE audit_id = {id}",
        "{id}",
        "not as it was written",
    ),
    (
        "DELETE FROM dispatcher.audit_log WHERE id <= {id}; DELETE FROM dispatcher.audit_chain WHERE audit_id < {id}",
        "None",
        "its beginning is missing",
    ),
]


@pytest.mark.parametrize(("forgery", "broken_at", "fault"), FORGERIES)
def test_a_forgery_by_a_superuser_is_found_with_its_first_entry(
    log: Any, forgery: str, broken_at: str, fault: str
) -> None:
    log.write("a", "b", "c", note="a note")
    last = execute(log.url, "SELECT max(id) FROM dispatcher.audit_log")[0][0]
    known = {"id": last - 1, "next": last, "new": last + 1}

    log.forge(forgery.format(**known))
    found = log.verify()

    assert not found.whole
    assert str(found.broken_at) == broken_at.format(**known)
    assert fault in str(found.fault)


def test_an_end_that_was_cut_off_is_found_by_a_head_that_was_noted(log: Any) -> None:
    log.write("a", "b")
    head = log.verify().head
    log.write("c")
    assert log.verify(head).whole

    log.forge(
        "DELETE FROM dispatcher.audit_log WHERE subject IN ('b', 'c')",
        "DELETE FROM dispatcher.audit_chain WHERE audit_id NOT IN (SELECT id FROM dispatcher.audit_log)",
    )

    assert log.verify().whole, "what is left is a chain"
    assert "the head that was given is not in it" in str(log.verify(head).fault)


def test_an_erasure_leaves_the_chain_whole_and_no_digest_of_the_number(world_as: WorldOf, log: Any) -> None:
    log.write("filters", action="export", filters={"phone": NUMBER, "as a number": 12025550109, "note": "of Ada"})
    before = log.verify().erased

    world_as(Part.RETENTION).dispatcher.erasure.erase(NUMBER, actor="ada@ops-1", without_proof=True)

    found = log.verify()
    assert found.whole
    assert found.erased > before
    detail, salt = execute(
        log.url,
        "SELECT detail::text, salt FROM dispatcher.audit_log JOIN dispatcher.audit_chain ON audit_id = id"
        " WHERE action = 'export' AND subject = 'filters'",
    )[0]
    assert "2025550109" not in detail
    assert "of Ada" in detail
    assert salt is None


def test_pruning_takes_only_what_is_old_and_the_rest_is_verified_from_there(installed: Installation, log: Any) -> None:
    retention = installed.url(log.url, Part.RETENTION)
    log.write("old", "older")
    log.forge(  # as if they had been written then: the chain is made anew
        "UPDATE dispatcher.audit_log SET at = at - interval '2 years'",
        "DELETE FROM dispatcher.audit_chain",
        "SELECT dispatcher.seal_audit(id) FROM dispatcher.audit_log ORDER BY id",
    )
    log.write("new")
    old = execute(log.url, "SELECT count(*) FROM dispatcher.audit_log WHERE subject <> 'new'")[0][0]
    noted = log.verify().head

    gone = execute(retention, "SELECT dispatcher.prune_audit(now() - interval '1 year', 'ada@ops-1', 100)")
    again = execute(retention, "SELECT dispatcher.prune_audit(now() - interval '1 year', 'ada@ops-1', 100)")

    assert (gone, again) == ([(old,)], [(0,)])
    found = log.verify(noted)
    assert (found.whole, found.pruned_to, found.entries) == (True, old, 2), found
    rows = execute(log.url, "SELECT action, subject FROM dispatcher.audit_log ORDER BY id")
    assert rows == [("replay", "new"), ("audit_prune", "audit_log")]


@pytest.mark.parametrize("part", [Part.WORKER, Part.OPERATOR, Part.READER, Part.PRODUCER])
def test_only_retention_prunes(installed: Installation, log: Any, part: Part) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        execute(installed.url(log.url, part), "SELECT dispatcher.prune_audit(now() - interval '1 year', 'eve', 100)")


def test_nobody_prunes_what_is_younger_than_30_days(installed: Installation, log: Any) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="30 days"):
        execute(installed.url(log.url, Part.RETENTION), "SELECT dispatcher.prune_audit(now(), 'eve', 100)")


def test_writers_at_the_same_time_make_one_chain_and_none_waits_for_an_open_transaction(log: Any) -> None:
    """Entries are chained at the commit, so that a transaction which goes on for long holds nobody up."""
    with log.database.transaction() as connection:
        audit.note(connection, "ada@ops-1", "replay", "slow", {})
        threads = [
            threading.Thread(target=log.write, args=[f"{one}-{other}" for other in range(5)]) for one in range(6)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in threads)

    found = log.verify()
    assert found.whole
    last = execute(
        log.url,
        "SELECT subject FROM dispatcher.audit_log JOIN dispatcher.audit_chain ON audit_id = id"
        " ORDER BY position DESC LIMIT 1",
    )
    assert last == [("slow",)]


@pytest.mark.parametrize("json_", [True, False])
def test_the_command_tells_and_exits_1_where_it_is_broken(
    installed: Installation, log: Any, monkeypatch: pytest.MonkeyPatch, json_: bool
) -> None:
    monkeypatch.setenv("DATABASE_URL", installed.url(log.url, Part.READER))
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    log.write("a", "b")
    run: Callable[..., Any] = lambda *more: CliRunner().invoke(  # noqa: E731
        app, ["audit", "--verify", *(["--json"] if json_ else []), *more], env={"COLUMNS": "500"}
    )
    good = run()
    head = log.verify().head
    assert good.exit_code == 0
    assert head in good.output

    log.forge("UPDATE dispatcher.audit_log SET actor = 'eve' WHERE subject = 'b'")
    broken = run("--head", head)
    broken_at = execute(log.url, "SELECT id FROM dispatcher.audit_log WHERE subject = 'b'")[0][0]

    assert broken.exit_code == 1
    assert (json.loads(broken.output)["broken_at"] if json_ else f"Entry {broken_at}:" in broken.output) in {
        broken_at,
        True,
    }
    assert "is not as it was written" in broken.output
