"""Erasing a person: nothing names the number afterwards, and nobody is erased who is on the way."""

import uuid

import pytest
from sqlalchemy import text

from dispatcher.config.urls import normal_database_url
from dispatcher.errors import IdempotencyConflict, InvalidLead, NotAllowed
from dispatcher.intake.submit import Intake
from dispatcher.operator.erasure import Erasure
from dispatcher.store.database import Database, Rehearsal
from tests.database.queue import Queue, accepted, phone, rejected, unknown
from tests.support.doubles import Bell

ADA, BOB = phone(1), phone(2)

_ALL = "SELECT coalesce(CAST(json_agg(t) AS text), '') FROM dispatcher.{table} AS t"


@pytest.fixture
def erasure(database: Database) -> Erasure:
    return Erasure(database)


def everything(database: Database) -> str:
    """Every value of every table."""
    with database.transaction() as connection:
        tables = connection.execute(text("SELECT tablename FROM pg_tables WHERE schemaname = 'dispatcher'")).scalars()
        found = [str(connection.execute(text(_ALL.format(table=table))).scalar()) for table in tables.all()]
    return "\n".join(found)


def test_nothing_names_the_number_afterwards(queue: Queue, database: Database, erasure: Erasure) -> None:
    intake = Intake(database, Bell())
    lead = {"phone_number": ADA, "campaign_id": 42, "variables": {"name": "Ada"}}
    other = {"phone_number": BOB, "campaign_id": 42, "secondary_contacts": [{"phone_number": ADA}]}
    intake.submit(lead, {"idempotency_key": f"crm-{ADA}"}, account="default")
    (one,) = queue.claim().opened
    queue.record(rejected(one, response=f"said: {ADA} is bad"))
    kept = intake.submit(other, {}, account="default").id
    (two,) = queue.claim().opened
    queue.record(accepted(two, 7, response=f"contacts: {ADA}", evidence={"echo": ADA}))
    queue.run(
        "INSERT INTO dispatcher.audit_log (actor, action, subject, detail)"
        " VALUES ('bob', 'resolve', 'x', jsonb_build_object('note', 'rang ' || :phone))",
        phone=ADA,
    )
    queue.run(
        "INSERT INTO dispatcher.imports (batch_id, file_name, account, actor) VALUES (:id, 'f', 'default', 'bob')",
        id=kept,
    )
    queue.run(
        "INSERT INTO dispatcher.import_rejections (import_id, line, field, reason, original)"
        " SELECT id, 2, 'x', 'y', '(202) 555-0101;Ada;+1 202-555-0101' FROM dispatcher.imports"
    )
    assert ADA[1:] in everything(database)

    erased = erasure.erase(ADA, actor="bob")

    assert ADA[1:] not in everything(database)
    assert "555-0101" not in everything(database)
    assert "Ada" not in everything(database)
    assert (erased.leads, erased.beside) == ((one.lead_id,), (kept,))
    assert queue.lead(kept).phone_number == BOB


def test_what_voicery_still_has_is_named(queue: Queue, erasure: Erasure) -> None:
    one = queue.claimed(1)
    queue.record(accepted(one, 1001))

    assert erasure.erase(ADA, actor="bob").voicery_ids == (("default", 1001),)


@pytest.mark.parametrize("in_doubt", [False, True])
def test_a_lead_on_its_way_or_in_doubt_is_not_erased(queue: Queue, erasure: Erasure, in_doubt: bool) -> None:
    one = queue.claimed(1)
    if in_doubt:
        queue.record(unknown(one))

    with pytest.raises(NotAllowed, match=str(one.lead_id)):
        erasure.erase(ADA, actor="bob")

    assert queue.lead(one.lead_id).phone_number == ADA
    assert not queue.rows("SELECT FROM dispatcher.audit_log")


def test_a_waiting_lead_is_erased_and_so_never_sent(queue: Queue, erasure: Erasure) -> None:
    queue.put(1)

    erasure.erase(ADA, actor="bob")

    assert queue.claim().opened == ()


def test_a_late_repetition_under_an_erased_key_is_refused(queue: Queue, database: Database, erasure: Erasure) -> None:
    intake = Intake(database, Bell())
    lead = {"phone_number": ADA, "campaign_id": 42}
    intake.submit(lead, {"idempotency_key": "crm-17"}, account="default")

    erasure.erase(ADA, actor="bob")

    with pytest.raises(IdempotencyConflict):
        intake.submit(lead, {"idempotency_key": "crm-17"}, account="default")
    assert queue.states() == {}


def test_a_lead_that_was_corrected_to_another_person_stays_without_the_old_number(
    queue: Queue, database: Database, erasure: Erasure
) -> None:
    lead_id = queue.put(2)
    queue.run(
        "INSERT INTO dispatcher.lead_revisions (lead_id, revision, campaign_id, phone_number, variables, payload_hash,"
        " replaced_by) VALUES (:id, 1, 42, :phone, '{}', 'h', 'bob')",
        id=lead_id,
        phone=ADA,
    )

    assert erasure.erase(ADA, actor="bob").beside == (lead_id,)
    assert ADA[1:] not in everything(database)
    assert queue.lead(lead_id).state == "pending"


def test_who_is_not_there_is_erased_to_no_effect_but_what_is_no_number_is_refused(
    erasure: Erasure, queue: Queue
) -> None:
    kept = queue.put(2)

    assert erasure.erase(ADA, actor="bob").leads == ()
    with pytest.raises(InvalidLead):
        erasure.erase("Ada", actor="bob")
    assert queue.lead(kept)


def test_a_rehearsal_says_what_would_happen_and_changes_nothing(queue: Queue, database_url: str) -> None:
    lead_id: uuid.UUID = queue.put(1)
    rehearsal = Rehearsal(normal_database_url(database_url))

    erased = Erasure(rehearsal).erase(ADA, actor="bob")
    submitted = Intake(rehearsal, Bell()).submit({"phone_number": BOB, "campaign_id": 42}, {}, account="default")
    rehearsal.close()

    assert erased.leads == (lead_id,)
    assert submitted.created
    assert queue.states() == {"pending": 1}
    assert not queue.rows("SELECT FROM dispatcher.audit_log")
