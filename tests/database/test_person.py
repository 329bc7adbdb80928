"""What is held of a person: all of it, nothing of anybody else, and every look-up is audited."""

import json
import re
from pathlib import Path

import pytest

from dispatcher.errors import InvalidLead
from dispatcher.intake.submit import Intake
from dispatcher.lead.number_forms import NumberForms
from dispatcher.operator.person import HELD, People
from dispatcher.store import audit
from dispatcher.store.database import Database
from tests.database.queue import Queue, phone, rejected
from tests.support.doubles import Bell

ADA, BOB = phone(1), phone(2)


def test_everything_of_the_person_is_told_and_no_number_of_others(queue: Queue, database: Database) -> None:
    intake = Intake(database, Bell())
    ada = {"phone_number": ADA, "campaign_id": 42, "variables": {"name": "Ada"}}
    ada["secondary_contacts"] = [{"phone_number": phone(3)}]
    lead_id = intake.submit(ada, {"idempotency_key": "crm-17"}, account="default").id
    (one,) = queue.claim().opened
    queue.record(rejected(one, response=f"{ADA} is bad, {BOB} too"))
    bob = {"phone_number": BOB, "campaign_id": 43, "variables": {"name": "Bob", "partner": {"mobile": 2025550101}}}
    bob["secondary_contacts"] = [{"phone_number": ADA, "variables": {"name": "Ada L."}}]
    bobs = intake.submit(bob, {}, account="default").id
    with database.transaction() as connection:
        audit.note(connection, "bob", "pause", "account:default", {"note": f"(202) 555-0101 and {BOB} complained"})
        audit.note(connection, "bob", "resolve", str(lead_id), {"note": "Ada rang"})
        audit.open_incident(connection, audit.IncidentKind.LATE_ANSWER, lead_id, "A sentence.", {})

    told = People(database).held_of("+1 (202) 555-0101", actor="clerk").as_dict()
    text = json.dumps(told, ensure_ascii=False)

    assert [row["id"] for row in told["held"]["leads"]] == [str(lead_id)]
    assert told["held"]["leads"][0]["variables"] == {"name": "Ada"}
    assert {row["lead_id"] for row in told["held"]["lead_contacts"]} == {str(lead_id), str(bobs)}
    counts = {table: len(rows) for table, rows in told["held"].items()}
    assert counts == {
        "leads": 1, "lead_contacts": 2, "lead_revisions": 0, "lead_attempts": 1, "failed_leads": 1,
        "idempotency_keys": 1, "incidents": 1, "alerts": 1, "operation_leads": 0, "audit_log": 1,
        "imports": 0, "blocks": 0, "erased_leads": 0, "inbox": 0,
    }  # fmt: skip
    assert {(one["table"], one["where"]) for one in told["mentioned"]} == {
        ("leads", "variables.partner.mobile"),
        ("audit_log", "detail.note"),
    }
    assert "(202) 555-0101 and +\u2022\u2022\u20220102 complained" in text
    for other in (BOB, phone(3)):
        assert not NumberForms(other).stands_in(told), "numbers of others are masked"
    assert "Bob" not in text, "nor is anything else told of the rows of others"
    assert told["outside"]


def test_a_look_up_is_audited_without_the_number(queue: Queue, database: Database) -> None:
    lead_id = queue.put(1)

    People(database).held_of(ADA, actor="clerk")

    (row,) = queue.rows("SELECT actor, action, subject, detail FROM dispatcher.audit_log")
    assert (row.actor, row.action, row.detail) == ("clerk", "person", {"leads": [str(lead_id)]})
    assert not NumberForms(ADA).stands_in(str(row))


def test_of_who_is_not_there_nothing_is_held_and_what_is_no_number_is_refused(database: Database) -> None:
    told = People(database).held_of(ADA, actor="clerk")

    assert (any(told.held.values()), told.mentioned) == (False, ())
    with pytest.raises(InvalidLead):
        People(database).held_of("Ada", actor="clerk")


def test_every_table_with_rows_of_a_person_is_read() -> None:
    schema = (Path(__file__).parents[1] / "migration" / "schema.sql").read_text()
    tables = {
        block.split()[0]
        for block in re.findall(r"^TABLE (.*?)(?=^TABLE |^VIEW |\Z)", schema, flags=re.MULTILINE | re.DOTALL)
        if re.search(r"^    (phone_number|lead_id) ", block, flags=re.MULTILINE)
    }

    assert tables <= HELD.keys()
