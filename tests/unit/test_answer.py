"""What a yes contains, read with distrust."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.config.settings import Settings
from dispatcher.decisions.outcome import Kind, Rules, Sent, classify
from dispatcher.decisions.reply import CreatedContact, Reply, created_data, match_contacts, same_number, usable_id

RULES = Rules(duplicate=Settings.model_fields["duplicate_rule"].default)
DATA = {"id": 7}


@pytest.mark.parametrize("body", [{"data": DATA}, [{"data": DATA}], {"data": [DATA]}, DATA, [DATA]])
def test_the_data_is_found_however_it_is_wrapped(body: object) -> None:
    assert created_data(body) == DATA


@pytest.mark.parametrize("body", [None, [], "data", 7, True, [DATA, DATA], {"data": None}, {"data": [DATA, DATA]}])
def test_what_is_no_lead_is_no_data(body: object) -> None:
    assert created_data(body) is None


def test_a_lead_with_a_field_named_data_keeps_its_id() -> None:
    assert created_data({"data": {"id": 7, "data": {"id": 8}}}) == {"id": 7, "data": {"id": 8}}


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (1, 1), (2**63 - 1, 2**63 - 1), ("17", 17), ("9223372036854775807", 2**63 - 1),
        (0, None), (-1, None), (2**63, None), (10**30, None), (True, None), (None, None),
        (1.0, 1), (1.5, None), (2.0**53, None), (float("nan"), None), (float("inf"), None),
        ("", None), ("0", None), ("-1", None), ("1.0", None), (" 1", None), ("1e3", None), ("٣", None), ("²", None),
        ("9223372036854775808", None), ("1" * 30, None), ("abc", None), ([1], None), ({"id": 1}, None),
    ],
)  # fmt: skip
def test_ids(value: object, read: int | None) -> None:
    assert usable_id(value) == read


@pytest.mark.parametrize(
    "echo", ["+12025550101", "12025550101", "0012025550101", "+1 (202) 555-0101", "+1.202.555.0101", "1 202 555 0101 "]
)
def test_an_echo_is_the_same_number_in_any_spelling(echo: str) -> None:
    assert same_number(echo, "+12025550101")


@pytest.mark.parametrize("echo", ["", "+12025550102", "2025550101", "+120255501011", "+1202555010", "x"])
def test_another_number_is_not_the_same(echo: str) -> None:
    assert not same_number(echo, "+12025550101")


@pytest.mark.parametrize("echo", [None, "", "hidden", True, [], {}])
def test_what_holds_no_number_is_no_echo(echo: object) -> None:
    reply = Reply(status=200, body={"data": {"id": 7, "phone_number": echo}}, written=True)

    assert classify(reply, Sent(42, "+12025550101"), RULES).kind is Kind.ACCEPTED


# Contacts -------------------------------------------------------------------------------------------------------------

SENT = ("+12025550102", "+12025550103")
FIRST = {"id": 11, "phone_number": "+12025550102", "status": "created"}
SECOND = {"id": 12, "phone_number": "12025550103", "status": "scheduled"}
BOTH = (CreatedContact(0, 11, "created"), CreatedContact(1, 12, "scheduled"))


@pytest.mark.parametrize(
    ("returned", "contacts", "evidence"),
    [
        ([FIRST, SECOND], BOTH, {}),
        ([SECOND, FIRST], BOTH, {"contacts_reordered": True}),
        ([FIRST], BOTH[:1], {"contacts_missing": [1]}),
        ([SECOND], BOTH[1:], {"contacts_missing": [0]}),
        ([], (), {"contacts_missing": [0, 1]}),
        (None, (), {"contacts_missing": [0, 1]}),
        ("both", (), {"contacts_missing": [0, 1]}),
        ([FIRST, FIRST, SECOND], BOTH, {"contacts_unexpected": 1}),
        ([FIRST, SECOND, {"id": 13, "phone_number": "+12025550104"}], BOTH, {"contacts_unexpected": 1}),
        ([FIRST, SECOND | {"id": None}], BOTH[:1], {"contacts_missing": [1], "contacts_unexpected": 1}),
        ([FIRST, SECOND | {"phone_number": None}], BOTH[:1], {"contacts_missing": [1], "contacts_unexpected": 1}),
        ([FIRST, "x"], BOTH[:1], {"contacts_missing": [1], "contacts_unexpected": 1}),
        ([FIRST, SECOND | {"status": 3}], (BOTH[0], CreatedContact(1, 12, None)), {}),
        ([FIRST, SECOND | {"phone_number": 12025550103}], BOTH, {}),
    ],
)
def test_contacts_are_matched_by_number(returned: Any, contacts: Any, evidence: Any) -> None:
    assert match_contacts(returned, SENT) == (contacts, evidence)


def test_a_lead_without_contacts_expects_none() -> None:
    assert match_contacts(None, ()) == ((), {})
    assert match_contacts([FIRST], ()) == ((), {"contacts_unexpected": 1})


def test_what_does_not_fit_is_kept_as_evidence_and_the_lead_is_accepted() -> None:
    body = {"data": {"id": 7, "secondary_contacts": [FIRST]}}
    outcome = classify(Reply(status=200, body=body, text="text", written=True), Sent(42, "+12025550101", SENT), RULES)

    assert outcome.kind is Kind.ACCEPTED
    assert outcome.evidence == {"contacts_missing": [1]}
    assert outcome.response == "text"


@given(st.permutations([FIRST, SECOND, {"id": 13, "phone_number": "+12025550104"}]), st.integers(0, 3))
def test_any_order_and_number_of_contacts_finds_the_same_places(rows: list[Any], many: int) -> None:
    contacts, _ = match_contacts(rows[:many], SENT)

    assert {contact.position: contact.voicery_lead_id for contact in contacts} == {
        {11: 0, 12: 1}[row["id"]]: row["id"] for row in rows[:many] if row["id"] in {11, 12}
    }
