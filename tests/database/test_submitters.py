"""Which login may submit by SQL for which accounts and campaigns, asked by `dispatcher.submit_lead` itself."""

import runpy
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from dispatcher.errors import InvalidLead, NotAllowed
from dispatcher.intake.inbox_taking import Taking
from dispatcher.operator.erasure import Erasure
from dispatcher.operator.inbox_list import Inbox
from dispatcher.operator.person import People
from dispatcher.operator.submitters import Submitters
from dispatcher.store.blocks import NO_KEY
from dispatcher.store.database import Database
from tests.database.queue import Queue, phone
from tests.database.test_erasure import KEYED
from tests.database.test_inbox import Sql, sql
from tests.support.doubles import Bell

__all__ = ["sql"]

CALL = "SELECT dispatcher.submit_lead(%s, account => %s)"


class Shop:
    """A login of Postgres that may call the function and nothing else. The cluster's logins outlive a database."""

    def __init__(self, url: str, owner: psycopg.Connection[Any]) -> None:
        self.login = f"shop_{uuid.uuid4().hex[:10]}"
        self._owner = owner
        owner.execute(f"CREATE ROLE {self.login} LOGIN PASSWORD 'test'")
        owner.execute(f"GRANT USAGE ON SCHEMA dispatcher TO {self.login}")
        owner.execute(f"GRANT EXECUTE ON FUNCTION dispatcher.submit_lead TO {self.login}")
        self.connection = psycopg.connect(url, user=self.login, password="test", autocommit=True)

    def submit(self, account: str, campaign: object = 42, before: str | None = None) -> str:
        """Return "" or the refusal's class and sentence."""
        try:
            if before:
                self.connection.execute(before)
            self.connection.execute(CALL, (Jsonb({"phone_number": phone(1), "campaign_id": campaign}), account))
        except psycopg.Error as refused:
            return f"{refused.sqlstate} {refused.diag.message_primary}"
        return ""

    def close(self) -> None:
        self.connection.close()
        self._owner.execute(f"DROP OWNED BY {self.login}")
        self._owner.execute(f"DROP ROLE {self.login}")


@pytest.fixture
def shop(database_url: str, sql: Sql) -> Iterator[Shop]:
    made = Shop(database_url, sql.connection)
    yield made
    made.close()


@pytest.fixture
def submitters(database: Database) -> Submitters:
    return Submitters(database)


def test_without_a_row_every_login_submits_for_every_account(shop: Shop, submitters: Submitters, queue: Queue) -> None:
    assert submitters.all() == []
    assert [shop.submit(one) for one in ("default", "other")] == ["", ""]
    assert {row.caller for row in queue.rows("SELECT caller FROM dispatcher.inbox")} == {shop.login}


def test_a_login_with_a_row_submits_for_its_accounts_and_no_other(
    shop: Shop, submitters: Submitters, sql: Sql, queue: Queue
) -> None:
    submitters.allow(shop.login, "crm", [42, 7], actor="ada")
    submitters.allow(shop.login, "shop", None, actor="ada")

    assert [shop.submit("crm", 42), shop.submit("crm", 7), shop.submit("shop", 99)] == ["", "", ""]
    refused = shop.submit("default")
    assert refused.startswith("42501 ")
    assert f"dispatcher submitters allow {shop.login} --account default" in refused
    for campaign in (8, "42", [42], 42.5, True, {"a": 42}):
        assert "campaign_id: the login" in shop.submit("crm", campaign), campaign
    assert len(queue.rows("SELECT FROM dispatcher.inbox")) == 3
    sql.submit({"phone_number": phone(2), "campaign_id": 42}, account="default")  # another login, as before


TRICKS = (
    "SET search_path = public",
    "SET session_replication_role = replica",
    "SET SESSION AUTHORIZATION {owner}",
    "SET ROLE {owner}",
    "CREATE TEMP TABLE submitters (login text, accounts jsonb)",
    "CREATE OR REPLACE FUNCTION pg_temp.unreadable(jsonb) RETURNS text LANGUAGE sql AS 'SELECT NULL'",
    "SELECT set_config('role', 'none', false)",
    "SET row_security = off",
    "INSERT INTO dispatcher.inbox (id) VALUES (gen_random_uuid())",
    "DELETE FROM dispatcher.submitters",
    "ALTER TABLE dispatcher.inbox DISABLE TRIGGER ALL",
)


def test_no_trick_of_the_session_widens_it(shop: Shop, submitters: Submitters, sql: Sql, queue: Queue) -> None:
    submitters.allow(shop.login, "crm", None, actor="ada")

    for trick in TRICKS:
        assert shop.submit("default", before=trick.format(owner=sql.connection.info.user))[:6] == "42501 ", trick
        assert shop.submit("default")[:6] == "42501 ", trick
    assert queue.rows("SELECT FROM dispatcher.inbox") == []


def test_public_holds_for_each_login_without_a_row(shop: Shop, submitters: Submitters, sql: Sql) -> None:
    submitters.revoke("public", None, actor="ada")
    assert shop.submit("default").startswith("42501 ")

    submitters.allow("public", "default", None, actor="ada")
    assert (shop.submit("default"), shop.submit("crm")[:5]) == ("", "42501")

    submitters.allow(shop.login, "crm", None, actor="ada")
    assert (shop.submit("crm"), shop.submit("default")[:5]) == ("", "42501")


def test_what_is_taken_away_leaves_nothing_and_only_free_widens(shop: Shop, submitters: Submitters) -> None:
    submitters.allow(shop.login, "crm", [42], actor="ada")
    assert submitters.revoke(shop.login, "crm", actor="ada").accounts == {}
    assert shop.submit("crm").startswith("42501 ")

    submitters.free(shop.login, actor="ada")
    assert shop.submit("crm") == ""
    with pytest.raises(NotAllowed, match="has no row"):
        submitters.free(shop.login, actor="ada")
    with pytest.raises(NotAllowed, match="was not allowed"):
        submitters.revoke(shop.login, "crm", actor="ada")


def test_what_is_no_login_is_refused_and_each_change_is_audited(
    shop: Shop, submitters: Submitters, sql: Sql, queue: Queue
) -> None:
    group = f"{shop.login}_group"
    sql.connection.execute(f"CREATE ROLE {group}")
    for name in (group, "nobody_of_this_name"):
        with pytest.raises(NotAllowed, match="is no login"):
            submitters.allow(name, "crm", None, actor="ada")
    sql.connection.execute(f"DROP ROLE {group}")
    with pytest.raises(InvalidLead, match="account"):
        submitters.allow(shop.login, "C R M", None, actor="ada")
    submitters.allow(shop.login, "crm", [42], actor="ada")

    (entry,) = queue.rows("SELECT actor, action, subject, detail FROM dispatcher.audit_log")
    assert tuple(entry) == ("ada", "submitters_allow", shop.login, {"account": "crm", "campaigns": [42]})


UNREADABLE = {
    "deep lists": '{"a": ' + "[" * 3000 + "]" * 3000 + "}",
    "deep objects": '{"a":' * 160 + "1" + "}" * 160,
    "an integer without end": '{"a": ' + "9" * 6000 + "}",
    "an exponent without end": '{"a": -1e5000}',
    "in a list": '{"a": [1, {"b": [1e400]}]}',
    "a level too deep": '{"a": ' + "[" * 149 + "]" * 149 + "}",
    "a digit too long": '{"a": 1e309}',
}


def test_what_no_reader_could_read_is_refused_and_what_was_stored_before_hinders_nobody(
    sql: Sql, database: Database, queue: Queue
) -> None:
    (revision,) = (Path(__file__).parents[2] / "migrations" / "versions").glob("*_submitters.py")
    call = "SELECT dispatcher.submit_lead(CAST(%s AS jsonb))"
    lead = f'{{"phone_number": "{phone(1)}", "campaign_id": 42, "variables": %s}}'
    for name, variables in UNREADABLE.items():
        told = sql.refusal(call, lead % variables)
        assert told.startswith("The lead was refused, nothing was stored: lead: "), name
    sql.connection.execute("ALTER TABLE dispatcher.inbox DISABLE TRIGGER inbox_check_submission")
    for variables in UNREADABLE.values():
        sql.connection.execute(call, (lead % variables,))

    sql.connection.execute(runpy.run_path(str(revision))["READABLE"])

    shown = [one.lead and one.lead["phone_number"] for one in Inbox(database).latest()]
    assert shown == [phone(1)] * len(UNREADABLE)
    assert len(People(database).held_of(phone(1), actor="clerk").held["inbox"]) == len(UNREADABLE)
    assert len(Taking(database, Bell(), lambda: NO_KEY).step().rejected) == len(UNREADABLE)
    assert all(one.reasons for one in Inbox(database).latest())
    Erasure(database, KEYED).erase(phone(1), actor="clerk")
    assert queue.rows("SELECT FROM dispatcher.inbox") == []


def test_what_every_reader_reads_is_taken(sql: Sql, database: Database, queue: Queue) -> None:
    for variables in (
        '{"a": 1e308}',
        '{"a": ' + "[" * 148 + "]" * 148 + "}",
        '{"a": 0.' + "1" * 3000 + "}",
        '{"a":' * 140 + '"' + "9" * 6000 + '"' + "}" * 140,
    ):
        given = f'{{"phone_number": "{phone(1)}", "campaign_id": 42, "variables": {variables}}}'
        sql.connection.execute("SELECT dispatcher.submit_lead(CAST(%s AS jsonb))", (given,))
    assert len(queue.rows("SELECT lead FROM dispatcher.inbox")) == 4
    assert len(Taking(database, Bell(), lambda: NO_KEY).step().rejected) == 3
    assert len(Inbox(database).latest()) == 3
    assert [Erasure(database, KEYED).erase(phone(1), actor="clerk").leads != ()] == [True]
    assert queue.rows("SELECT lead FROM dispatcher.inbox") == []


def test_the_view_of_one_account_shows_no_other_not_even_to_a_function_that_spies(shop: Shop, sql: Sql) -> None:
    """The statements are those of the page."""
    page = Path("docs/sql.md").read_text()
    recipe = page[page.index("CREATE VIEW crm_submissions") :]
    recipe = recipe[: recipe.index("```")]
    assert [shop.submit(one) for one in ("crm", "other")] == ["", ""]
    view = f"public.{shop.login}_view"
    sql.connection.execute(recipe.replace("crm_submissions", view).replace("TO crm;", f"TO {shop.login};"))
    try:
        shop.connection.execute(
            "CREATE FUNCTION pg_temp.spied(text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001"
            " AS $$ BEGIN RAISE NOTICE 'seen %', $1; RETURN true; END $$"
        )
        seen: list[str | None] = []
        shop.connection.add_notice_handler(lambda notice: seen.append(notice.message_primary))
        shown = shop.connection.execute(f"SELECT account FROM {view} WHERE pg_temp.spied(account)").fetchall()
        assert (shown, seen) == ([("crm",)], ["seen crm"])
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            shop.connection.execute("SELECT FROM dispatcher.submissions")
    finally:
        sql.connection.execute(f"DROP VIEW {view}")
