"""The inbox under encryption at rest: plain while a row waits, and then never again."""

from typing import Any

import pytest

from dispatcher.errors import NotConfigured
from dispatcher.intake.inbox_taking import Taking
from dispatcher.operator.erasure import Erasure
from dispatcher.operator.inbox_list import Inbox
from dispatcher.operator.person import People
from dispatcher.operator.rekey import Rekeying
from dispatcher.store.blocks import NO_KEY
from dispatcher.store.database import Database
from dispatcher.store.encryption import KeyRing
from tests.database.queue import Queue, phone
from tests.database.test_encryption import CONTACT, LEAD, NEW, OLD, SECRETS, beside, database, everything
from tests.database.test_erasure import KEYED
from tests.database.test_inbox import Sql, sql
from tests.support.doubles import Bell

__all__ = ["database", "sql"]

NO_LEAD: dict[str, Any] = {
    **LEAD,
    "campaign_id": "Kassandra",
    "secondary_contacts": [
        *LEAD["secondary_contacts"],
        {"phone_number": phone(9), "variables": {"customer_name": "Pythia"}},
    ],
}


def taking(of: Database) -> Taking:
    return Taking(of, Bell(), lambda: NO_KEY)


@pytest.fixture
def rejected(sql: Sql, database: Database) -> Any:
    """The id of a row that was rejected by a process that encrypts."""
    given = sql.submit(NO_LEAD)
    assert list(taking(database).step().rejected) == [given]
    return given


def test_what_was_taken_is_nowhere_plain_whatever_became_of_it(sql: Sql, database: Database, queue: Queue) -> None:
    sql.submit(NO_LEAD, "a")
    sql.submit(LEAD, "b")
    sql.submit(LEAD, "b")
    assert [secret for secret in SECRETS if secret in everything(database)], "it waits"

    taken = taking(database).step()

    assert (len(taken.rejected), len(taken.stored), len(taken.repeated)) == (1, 1, 1)
    assert [secret for secret in SECRETS if secret in everything(database)] == []
    (shown,) = Inbox(database).latest(states=["rejected"])
    assert shown.lead == NO_LEAD
    assert queue.rows("SELECT id FROM dispatcher.encryption_keys") == [(database.key_ring.key_id,)]


def test_what_cannot_even_be_stored_is_encrypted_too(
    sql: Sql, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    given = sql.submit(LEAD)
    monkeypatch.setattr("dispatcher.intake.copying.insert", fail)

    assert list(taking(database).step().rejected) == [given]
    assert [secret for secret in SECRETS if secret in everything(database)] == []


def test_the_key_is_changed_and_what_waits_is_left_to_the_worker(
    sql: Sql, database: Database, rejected: Any, queue: Queue
) -> None:
    sql.submit(LEAD)
    done = Rekeying(beside(database, NEW, OLD)).run(actor="bob")

    assert done.finished
    assert done.changed == {"inbox": 1}
    new = beside(database, NEW)
    assert Inbox(new).latest(states=["rejected"])[0].lead == NO_LEAD
    with pytest.raises(NotConfigured, match=KeyRing([NEW]).key_ids[0]):
        Inbox(database).latest()
    assert len(taking(new).step().stored) == 1
    assert Rekeying(new).run(actor="bob", decrypt=True).finished
    assert Inbox(database).latest()[0].lead == NO_LEAD
    new.close()


def test_a_row_that_is_validated_again_is_read_with_the_key_and_without_it_stops_no_other(
    sql: Sql, database: Database, rejected: Any
) -> None:
    without = beside(database, NEW)
    Inbox(database).retry(None, actor="bob")
    other = sql.submit({**LEAD, "phone_number": phone(2)})

    taken = taking(without).step()

    assert taken.stored == [other]
    assert KeyRing([OLD]).key_ids[0] in taken.rejected[rejected][0].fault
    Inbox(database).retry(None, actor="bob")
    assert [one.field for one in taking(database).step().rejected[rejected]] == ["campaign_id"]
    assert Inbox(database).latest()[0].lead == NO_LEAD, "encrypted once"
    without.close()


def test_a_row_that_was_moved_is_shown_without_its_lead_and_rejected(
    sql: Sql, database: Database, rejected: Any, queue: Queue
) -> None:
    other = sql.submit(NO_LEAD)
    taking(database).step()
    queue.run(
        "UPDATE dispatcher.inbox SET lead = (SELECT lead FROM dispatcher.inbox WHERE id = :one) WHERE id = :other",
        one=rejected,
        other=other,
    )

    assert {one.id: one.lead for one in Inbox(database).latest()} == {rejected: NO_LEAD, other: None}
    Inbox(database).retry([other], actor="bob")
    assert "decrypt" in taking(database).step().rejected[other][0].fault


def test_a_person_is_found_in_it_and_erased_from_it(sql: Sql, database: Database, rejected: Any, queue: Queue) -> None:
    (held,) = People(database).held_of(phone(1), actor="clerk").held["inbox"]
    assert held["lead"]["phone_number"] == phone(1)

    Erasure(database, KEYED).erase(CONTACT, actor="clerk")
    (kept,) = Inbox(database).latest()
    assert kept.lead is not None
    assert [one["phone_number"] for one in kept.lead["secondary_contacts"]] == [phone(9)]
    assert [secret for secret in SECRETS if secret in everything(database)] == []

    Erasure(database, KEYED).erase(phone(1), actor="clerk")
    assert queue.rows("SELECT FROM dispatcher.inbox") == []
