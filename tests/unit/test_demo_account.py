"""The verdict of the demo can be bad: what would be wrong is found in the sandbox's log and in the database."""

import re
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest

from dispatcher import InvalidLead, Lead
from dispatcher.decisions.states import FailureClass, State
from dispatcher.embedded.demo import example_file, read_rows
from dispatcher.embedded.demo_report import SandboxView, draw_up
from dispatcher.operator.lead_record import LeadRecord
from dispatcher.sandbox.log import Effect, Line

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ADA, BOB = "+12025550100", "+12025550101"


def record(state: State, phone: str = ADA, **values: Any) -> LeadRecord:
    usual = dict.fromkeys(LeadRecord.__dataclass_fields__)
    lists = {"contacts": (), "history": (), "failures": ()}
    known = {"id": uuid4(), "account": "default", "campaign_id": 42, "phone_number": phone, "state": state}
    return LeadRecord(**{**usual, **lists, **known, **values})


def accepted(phone: str = ADA, voicery_lead_id: int = 1) -> LeadRecord:
    return record(State.ACCEPTED, phone, voicery_lead_id=voicery_lead_id)


def post(request: int, effect: Effect, lead_id: int | None = None, phone: str = ADA, fault: str | None = None) -> Line:
    body = {"phone_number": phone, "campaign_id": 42}
    return Line(0.0, request, "POST", "/api/user/lead", body, 200, lead_id, effect, fault)


def lost(*records: LeadRecord, entries: list[Line]) -> tuple[UUID, ...]:
    return draw_up(len(records), 0, records, entries).lost


def test_a_lead_that_both_sides_know_is_neither_lost_nor_called_twice() -> None:
    account = draw_up(2, 1, [accepted()], [post(1, Effect.CREATED, 1)])
    assert account.good
    assert account.endings == {"refused before it was stored, with the reason": 1, "accepted by Voicery": 1}


@pytest.mark.parametrize("state", [State.PENDING, State.SENDING, State.UNKNOWN])
def test_a_lead_without_an_end_is_lost(state: State) -> None:
    stuck = record(state)
    account = draw_up(1, 0, [stuck], [])
    assert account.lost == (stuck.id,)
    assert not account.good


def test_a_lead_called_accepted_that_the_sandbox_never_created_is_lost() -> None:
    lead = accepted(voicery_lead_id=7)
    assert lost(lead, entries=[post(1, Effect.NONE)]) == (lead.id,)


def test_a_lead_accepted_under_the_id_of_somebody_else_is_lost() -> None:
    lead = accepted(ADA, voicery_lead_id=7)
    assert lost(lead, entries=[post(1, Effect.CREATED, 7, BOB)]) == (lead.id,)


def test_a_person_created_twice_is_called_twice() -> None:
    account = draw_up(1, 0, [accepted()], [post(1, Effect.CREATED, 1), post(2, Effect.LATE, 2)])
    assert account.called_twice == 1
    assert not account.good


@pytest.mark.parametrize("effect", [Effect.REFUSED, Effect.FOUND])
def test_a_second_request_counts_even_if_the_sandbox_stopped_it(effect: Effect) -> None:
    assert draw_up(1, 0, [accepted()], [post(1, Effect.CREATED, 1), post(2, effect)]).called_twice == 1


def test_a_refusal_of_a_lead_that_was_not_there_is_no_second_call() -> None:
    duplicate = record(State.DUPLICATE, history=("an attempt",))
    account = draw_up(1, 0, [duplicate], [post(1, Effect.REFUSED, fault="duplicate")])
    assert account.good
    assert account.endings["duplicate, says Voicery"] == 1


def test_a_request_that_had_no_effect_may_be_repeated() -> None:
    assert draw_up(1, 0, [accepted()], [post(1, Effect.NONE), post(2, Effect.CREATED, 1)]).good


def test_a_row_that_is_nowhere_spoils_the_balance() -> None:
    account = draw_up(3, 1, [accepted()], [post(1, Effect.CREATED, 1)])
    assert not account.balances
    assert not account.good


def test_a_lead_held_for_a_person_is_accounted_for() -> None:
    held = record(State.FAILED, failure_class=FailureClass.OUTCOME_UNKNOWN)
    assert draw_up(1, 0, [held], [post(1, Effect.NONE)]).good


def test_a_late_creation_is_one_request() -> None:
    view = SandboxView.of([post(1, Effect.NONE, fault="late"), post(1, Effect.LATE, 1, fault="late")])
    assert view == SandboxView(posts=1, look_ups=0, faults=1, created=1)


def test_the_example_has_good_leads_duplicates_contacts_and_bad_rows() -> None:
    rows = list(read_rows(example_file()))
    people: set[tuple[int, str]] = set()
    bad = repeated = contacts = 0
    campaigns = set()
    for row in rows:
        try:
            lead = Lead.parse(row.lead)
        except InvalidLead:
            bad += 1
            continue
        person = lead.campaign_id, lead.phone_number
        repeated += person in people
        people.add(person)
        contacts += bool(lead.secondary_contacts)
        campaigns.add(lead.campaign_id)
    assert (len(rows), bad, repeated, contacts, len(campaigns)) == (200, 7, 8, 10, 3)


def test_every_number_of_the_example_is_reserved_for_fiction() -> None:
    reserved = (
        r"\+1[2-9]\d\d55501\d\d",
        r"\+447700900\d{3}",
        r"\+44207946\d{4}",
        r"\+3363998\d{4}",
        r"\+493023125\d{3}",
    )
    for row in read_rows(example_file()):
        try:
            lead = Lead.parse(row.lead)
        except InvalidLead:
            continue
        for number in (lead.phone_number, *(contact.phone_number for contact in lead.secondary_contacts)):
            assert any(re.fullmatch(pattern, number) for pattern in (*reserved, r"\+6125550\d{4}")), number
