"""One lead, why it is where it is, and the whole queue at a glance."""

import uuid
from dataclasses import replace
from typing import Any

import pytest
import uuid_utils.compat
from sqlalchemy import TextClause

from dispatcher.decisions.outcome import Kind, Reason
from dispatcher.decisions.states import FailureClass, State
from dispatcher.errors import LeadNotFound
from dispatcher.operator import activity, campaigns, overview
from dispatcher.operator.campaigns import Campaigns
from dispatcher.operator.leads import Reads
from dispatcher.operator.overview import Count, RateUse
from dispatcher.operator.pause import GateKeeper
from tests.support.rows import ADA, BOB, Rows


@pytest.fixture
def reads(rows: Rows) -> Reads:
    return Reads(rows.database)


def test_a_record_has_the_lead_its_contacts_attempts_and_failures(reads: Reads, rows: Rows) -> None:
    lead_id = rows.failed_unknown()
    rows.run(
        "INSERT INTO dispatcher.lead_contacts (lead_id, position, account, phone_number, voicery_lead_id)"
        " VALUES (:id, 1, 'default', :bob, NULL), (:id, 0, 'default', '+12025550103', 9)",
        id=lead_id,
        bob=BOB,
    )

    record = reads.get(lead_id)

    assert (record.id, record.state, record.failure_class) == (lead_id, State.FAILED, FailureClass.OUTCOME_UNKNOWN)
    assert (record.phone_number, record.variables) == (ADA, {"customer_name": "Ada Lovelace"})
    assert [(contact.phone_number, contact.voicery_lead_id) for contact in record.contacts] == [
        ("+12025550103", 9),
        (BOB, None),
    ]
    assert [(attempt.outcome, attempt.in_doubt) for attempt in record.history] == [(Kind.UNKNOWN, True)]
    assert [failure.lead_id for failure in record.failures] == [lead_id]


def test_a_record_shows_nobody_unless_asked(reads: Reads, rows: Rows) -> None:
    lead_id = rows.failed_unknown()
    rows.run(
        "INSERT INTO dispatcher.lead_contacts (lead_id, position, account, phone_number) VALUES (:id, 0, 'a', :bob)",
        id=lead_id,
        bob=BOB,
    )
    record = reads.get(lead_id)

    for shown in (repr(record), str(record), repr(record.history), repr(record.contacts), str(record.as_dict())):
        assert ADA not in shown
        assert BOB not in shown
        assert "Lovelace" not in shown
    for secret in (ADA, BOB, "Lovelace"):
        assert secret in str(record.as_dict(reveal=True))


def test_no_lead_has_this_id(reads: Reads) -> None:
    with pytest.raises(LeadNotFound):
        reads.get(uuid.uuid4())


def test_a_lead_behind_another_of_its_person_says_whom_it_waits_for(reads: Reads, rows: Rows) -> None:
    ahead = rows.unknown(allow_dupplicate=True)
    behind = rows.lead("pending", allow_dupplicate=True)

    assert reads.get(behind).waits_behind == ahead
    assert f"It waits for lead {ahead} of the same person" in reads.explain(behind)


def test_the_gate_that_holds_a_lead_is_told_and_another_campaigns_is_not(reads: Reads, rows: Rows) -> None:
    keeper = GateKeeper(rows.database)
    lead_id = rows.lead("pending")
    keeper.pause(7, "default", reason="other", actor="bob")
    assert "goes as soon as a worker is free" in reads.explain(lead_id)
    Campaigns(rows.database).limit(42, "default", "2/minute", actor="ada@ops-1")
    assert "has a limit of its own, 2/minute" in reads.explain(lead_id)

    keeper.pause(42, "default", reason="wrong script", actor="ada@ops-1")

    assert "because ada@ops-1 paused campaign 42 (wrong script)" in reads.explain(lead_id)


# Overview -------------------------------------------------------------------------------------------------------------


def test_an_empty_queue(rows: Rows) -> None:
    seen = rows.database.again(overview.read)

    assert set(seen.counts.values()) == {Count(0)}
    assert set(seen.counts) == set(State)
    assert (seen.due, seen.oldest_waiting_seconds, seen.next_due_at, seen.gates) == (0, None, None, ())


def test_everything_is_counted_where_it_is(rows: Rows) -> None:
    rows.lead("pending")
    rows.run("UPDATE dispatcher.leads SET due_at = now() - interval '90 s'")
    rows.lead("pending", phone=BOB)
    rows.lead("pending", phone="+12025550103", campaign_id=7)
    rows.run("UPDATE dispatcher.leads SET due_at = now() + interval '1 h' WHERE campaign_id = 7")
    rows.lead("sending", phone="+12025550104", attempt_id=uuid.uuid4())
    rows.unknown(phone="+12025550105")
    rows.lead("accepted", phone="+12025550106")
    rows.lead("accepted", phone="+12025550107", finished_at="2026-01-01T00:00:00Z")
    rows.failed(phone="+12025550108")
    dismissed = rows.failed(phone="+12025550109")
    rows.run(
        "UPDATE dispatcher.failed_leads SET resolved_at = now(), resolution = 'dismissed' WHERE lead_id = :id",
        id=dismissed,
    )
    rows.run("INSERT INTO dispatcher.workers (name, claims) VALUES ('host:1', 12)")
    rows.run("INSERT INTO dispatcher.incidents (kind, message) VALUES ('possible_match', 'm')")

    seen = rows.database.again(overview.read)

    assert {state.value: count.value for state, count in seen.counts.items()} == {
        "pending": 3,
        "sending": 1,
        "unknown": 1,
        "accepted": 2,
        "duplicate": 0,
        "failed": 1,
        "cancelled": 0,
    }
    assert all(count.exact for count in seen.counts.values())
    assert (seen.due, seen.accepted_today, seen.incidents) == (2, 1, 1)
    assert seen.oldest_waiting_seconds == pytest.approx(90, abs=10)
    assert seen.next_due_at is not None
    assert (seen.next_due_at - seen.at).total_seconds() == pytest.approx(3600, abs=10)
    assert [(one.campaign_id, one.waiting, one.due) for one in seen.channels] == [(42, 2, 2), (7, 1, 0)]
    assert [(one.name, one.claims) for one in seen.workers] == [("host:1", 12)]
    assert seen.failures == {FailureClass.REJECTED: 1}


def test_a_large_table_is_estimated_and_says_so(reads: Reads, rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overview, "_SMALL_BYTES", -1)
    rows.run(
        "INSERT INTO dispatcher.leads (id, account, campaign_id, phone_number, state, due_at, payload_hash)"
        " SELECT gen_random_uuid(), 'default', 42, '+1202555' || n, 'accepted', now(), 'h'"
        " FROM generate_series(1000, 1999) AS n"
    )
    rows.lead("pending")
    rows.run("ANALYZE dispatcher.leads")

    seen = rows.database.again(overview.read)

    assert seen.counts[State.ACCEPTED].value == pytest.approx(1000, rel=0.1)
    assert not seen.counts[State.ACCEPTED].exact
    assert seen.counts[State.PENDING] == Count(1)
    assert seen.as_dict()["approximate"] == ["accepted", "duplicate", "cancelled"]


def test_gates_and_rate_are_part_of_it(rows: Rows) -> None:
    GateKeeper(rows.database).pause(42, "default", reason="lunch", actor="ada")
    use = (RateUse("default", permits=100, seconds=60, used=7),)

    seen = replace(rows.database.again(overview.read), rate=use)

    assert [(gate.scope, gate.reason, gate.by, gate.note) for gate in seen.gates] == [
        ("campaign 42", Reason.PAUSED, "ada", "lunch")
    ]
    as_dict: dict[str, Any] = seen.as_dict()
    assert as_dict["rate"] == [{"account": "default", "permits": 100, "seconds": 60, "used": 7}]


@pytest.mark.parametrize("statement", [overview._FAILURES, campaigns._ALL], ids=["by class", "by campaign"])
def test_open_failures_are_counted_in_an_index_and_no_row_is_fetched(rows: Rows, statement: TextClause) -> None:
    rows.failed()
    rows.database.again(lambda connection: connection.exec_driver_sql("ANALYZE dispatcher.failed_leads"))
    with rows.database.autocommit() as connection:
        connection.exec_driver_sql("BEGIN")
        # A table of one row is read; what cannot be avoided when reading it and sorting are forbidden has no index.
        connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        connection.exec_driver_sql("SET LOCAL enable_sort = off")
        plan = "\n".join(row[0] for row in connection.exec_driver_sql(f"EXPLAIN {statement.text}"))
        connection.exec_driver_sql("ROLLBACK")

    assert "Index Only Scan using failed_leads_open on failed_leads" in plan


def test_attempts_are_counted_by_slot_and_outcome_as_whole_numbers(rows: Rows) -> None:
    lead_id = rows.lead("accepted")
    for outcome in ("accepted", "accepted", "rejected", "unknown", "not_sent", "throttled"):
        rows.attempt(lead_id, uuid_utils.compat.uuid7(), outcome=outcome, minutes_ago=1)

    seen = rows.database.read(activity.read, hours=1)

    counts = [sum(getattr(slot, name) for slot in seen.slots) for name in ("accepted", "refused", "in_doubt", "held")]
    assert counts == [2, 1, 1, 2]
    assert all(type(slot.accepted) is int for slot in seen.slots)
