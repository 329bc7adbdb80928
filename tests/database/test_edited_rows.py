"""An export of failed leads, edited and taken back: it corrects and replays by the rules, and never doubles."""

import uuid
from collections.abc import Callable
from typing import Any

import pytest

from dispatcher.operator.edited_rows import LEAD, VERSION, Done, EditedRow, EditedRows, table
from dispatcher.operator.failure_filter import FailureFilter
from dispatcher.operator.replay import Failures
from dispatcher.store.database import Database
from tests.support.doubles import Bell
from tests.support.rows import ADA, BOB, Rows

CY = "+12025550103"


class Export:
    """The export as it is now, and rows of it taken back."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.header, self.rows = database.read(table, FailureFilter())

    def of(self, lead_id: uuid.UUID, **edits: str) -> list[str]:
        """The row of a lead, edited."""
        row = next(row for row in self.rows if row[self.header.index(LEAD)] == str(lead_id))
        return [edits.get(name, cell) for name, cell in zip(self.header, row, strict=True)]

    def take(self, *rows: list[str], header: list[str] | None = None) -> list[EditedRow]:
        taken = EditedRows(self.database, "ada@ops").take(header or self.header, enumerate(rows, 2))
        return list(taken)

    def one(self, lead_id: uuid.UUID, **edits: str) -> EditedRow:
        [done] = self.take(self.of(lead_id, **edits))
        return done


def lead(rows: Rows, phone: str = ADA, **columns: Any) -> uuid.UUID:
    return rows.failed(phone=phone, variables='{"name": "Ada", "age": 42, "plan": {"a": 1}}', **columns)


def test_an_unedited_row_does_nothing_also_as_a_spreadsheet_saves_it(database: Database, rows: Rows) -> None:
    one = lead(rows)
    export = Export(database)
    same: list[dict[str, str]] = [
        {},
        {"phone_number": ADA.removeprefix("+")},
        {"phone_number": f"'{ADA}"},
        {"phone_number": "+1 202 555-0101"},
        {"allow_dupplicate": "FALSE", "failure": "something else", VERSION: "ignored where nothing is edited"},
    ]
    for edits in same:
        assert export.one(one, **edits).done is Done.UNCHANGED, edits
    assert export.take() == []  # a row that was deleted
    assert rows.of(one).state == "failed"
    assert rows.audited() == []


def test_an_edited_row_corrects_and_replays_once(database: Database, rows: Rows) -> None:
    one = lead(rows)
    export = Export(database)
    edits = {"phone_number": BOB, "name": "Bob", "age": "43", "plan": ""}
    done = export.one(one, **edits)
    assert (done.done, done.changed) == (Done.CORRECTED, ("phone_number", "age", "name", "plan")), done.reason
    stored = rows.of(one)
    assert (stored.state, stored.phone_number, stored.variables) == ("pending", BOB, {"name": "Bob", "age": 43})
    assert [line[1] for line in rows.audited()] == ["correct", "replay"]
    assert export.one(one, **edits).done is Done.UNCHANGED  # the same file again
    assert export.one(one, **{**edits, "name": "Eve"}).reason.startswith("It is not corrected: ")
    assert rows.one("SELECT count(*) AS n FROM dispatcher.leads").n == 1


def test_a_new_column_adds_a_variable_and_a_missing_one_changes_nothing(database: Database, rows: Rows) -> None:
    one = lead(rows)
    export = Export(database)
    header = [LEAD, VERSION, "city"]
    version = export.of(one)[export.header.index(VERSION)]
    [done] = export.take([str(one), version, "Bern"], header=header)
    assert done.done is Done.CORRECTED
    assert rows.of(one).variables == {"name": "Ada", "age": 42, "plan": {"a": 1}, "city": "Bern"}


def test_a_lead_that_may_have_been_called_is_never_corrected(database: Database, rows: Rows) -> None:
    one = rows.failed_unknown(phone=ADA)
    refused = Export(database).one(one, phone_number=BOB)
    assert refused.done is Done.REFUSED
    assert "may have been called" in refused.reason
    assert (rows.of(one).state, rows.of(one).phone_number) == ("failed", ADA)


def _accepted(database: Database, rows: Rows, one: uuid.UUID) -> None:
    rows.run("UPDATE dispatcher.failed_leads SET resolved_at = now(), resolution = 'found'")
    rows.run(
        "UPDATE dispatcher.leads SET state = 'accepted', failure_class = NULL, voicery_lead_id = 7, finished_at = now()"
        " WHERE id = :id",
        id=one,
    )


def _failed_anew(database: Database, rows: Rows, one: uuid.UUID) -> None:
    Failures(database, Bell()).replay(one, actor="bob@ops")
    rows.fail(one)


def _corrected(database: Database, rows: Rows, one: uuid.UUID) -> None:
    rows.run("UPDATE dispatcher.leads SET variables = '{}', payload_hash = 'other' WHERE id = :id", id=one)


@pytest.mark.parametrize(
    ("meanwhile", "told"),
    [(_accepted, "Voicery has it"), (_failed_anew, "export it again"), (_corrected, "export it again")],
)
def test_what_happened_to_the_lead_meanwhile_is_not_overruled(
    database: Database, rows: Rows, meanwhile: Callable[..., None], told: str
) -> None:
    one = lead(rows)
    export = Export(database)
    meanwhile(database, rows, one)
    before = rows.of(one)
    refused = export.one(one, phone_number=BOB)
    assert refused.done is Done.REFUSED
    assert told in refused.reason
    assert rows.of(one) == before


def test_a_row_of_another_lead_or_of_another_database_is_refused(database: Database, rows: Rows) -> None:
    one, other = lead(rows), lead(rows, BOB)
    export = Export(database)
    swapped = export.of(one, **{LEAD: str(other), "phone_number": CY})
    nobodys = export.of(one, **{LEAD: str(uuid.uuid4()), "phone_number": CY})
    forged = export.of(one, **{VERSION: "0" * 16, "phone_number": CY})  # the same ids, e.g. of a file imported twice
    without = export.of(one, **{LEAD: "", "phone_number": CY})
    told = [row.reason for row in export.take(swapped, nobodys, forged, without)]
    assert ["It is not the row of this lead" in reason for reason in told] == [True, False, True, False]
    assert "This database has no such lead" in told[1]
    assert "names no lead" in told[3]
    assert {rows.of(one).phone_number, rows.of(other).phone_number} == {ADA, BOB}


@pytest.mark.parametrize(
    ("edits", "told"),
    [
        ({"account": "other"}, "account: a correction cannot change that"),
        ({"contact1_phone": CY}, "contact1_phone: a correction cannot change that"),
        ({"idempotency_key": "k"}, "idempotency_key"),
        ({"phone_number": "4.91E+11"}, "phone_number"),
        ({"campaign_id": "many"}, "campaign_id"),
    ],
)
def test_what_cannot_be_corrected_is_refused_with_its_column(
    database: Database, rows: Rows, edits: dict[str, str], told: str
) -> None:
    one = lead(rows)
    rows.run(
        "INSERT INTO dispatcher.lead_contacts (lead_id, position, account, phone_number, variables)"
        " VALUES (:id, 0, 'default', :phone, '{}')",
        id=one,
        phone=BOB,
    )
    refused = Export(database).one(one, **edits)
    assert refused.done is Done.REFUSED
    assert told in refused.reason
    assert rows.of(one).state == "failed"
    assert rows.audited() == []


def test_a_person_who_has_a_live_lead_is_not_called_twice(database: Database, rows: Rows) -> None:
    one = lead(rows)
    live = rows.lead("pending", phone=BOB)
    refused = Export(database).one(one, phone_number=BOB)
    assert str(live) in refused.reason
    assert rows.of(one).phone_number == ADA


def test_variables_with_the_names_of_columns_keep_their_place(database: Database, rows: Rows) -> None:
    one = rows.failed(phone=ADA, variables='{"account": "7", "contact1_phone": "x", "variables.y": "z"}')
    export = Export(database)
    assert export.one(one).done is Done.UNCHANGED
    assert export.one(one, **{"variables.account": "8"}).done is Done.CORRECTED
    assert rows.of(one).variables == {"account": "8", "contact1_phone": "x", "variables.y": "z"}
