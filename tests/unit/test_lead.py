"""What `Lead` accepts, refuses and shows."""

import copy
import pickle
from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.errors import InvalidLead
from dispatcher.lead.contact import Contact
from dispatcher.lead.lead import Lead, request_body

NUMBER = "+12025550100"
OTHER = "+12025550101"


def made(**fields: Any) -> Lead:
    return Lead.parse({"phone_number": NUMBER, "campaign_id": 42} | fields)


def faults(build: Callable[[], object]) -> dict[str, str]:
    with pytest.raises(InvalidLead) as caught:
        build()
    return {error.field: error.fault for error in caught.value.errors}


def test_a_mapping_and_keyword_arguments_make_the_same_lead() -> None:
    fields: dict[str, Any] = {
        "phone_number": "+1 (202) 555-0100",
        "campaign_id": 42,
        "variables": {"customer_name": "Ada"},
        "allow_dupplicate": True,
        "secondary_contacts": [{"phone_number": OTHER, "variables": {"customer_name": "Bob"}}],
    }

    lead = Lead(**fields)

    assert lead == Lead.parse(fields)
    assert lead.payload() == fields | {"phone_number": NUMBER}


def test_a_lead_parses_to_itself() -> None:
    lead = made()

    assert Lead.parse(lead) is lead


def test_optional_fields_have_the_defaults_of_the_api() -> None:
    expected = {"phone_number": NUMBER, "campaign_id": 42, "variables": {}, "allow_dupplicate": False}

    assert made().payload() == expected


def test_the_correct_spelling_of_the_flag_is_understood_as_input_only() -> None:
    lead = made(allow_duplicate=True)

    assert lead.allow_dupplicate is True
    assert "allow_duplicate" not in lead.payload()
    assert not hasattr(lead, "allow_duplicate")


@pytest.mark.parametrize("value", [True, False])
def test_the_flag_in_both_spellings_is_refused(value: bool) -> None:
    assert faults(lambda: made(allow_duplicate=value, allow_dupplicate=True)) == {
        "allow_duplicate": "is given in both spellings"
    }


def test_every_fault_is_reported_at_once() -> None:
    bad = {
        "phone_number": "+1202555",
        "campain_id": 42,
        "variables": {"a": {"b": (1,)}, "c": float("nan")},
        "allow_dupplicate": 1,
        "secondary_contacts": [{"phone_number": OTHER, "name": "Bob"}, 7, {"variables": []}],
    }

    assert faults(lambda: Lead.parse(bad)) == {
        "campain_id": "is not a known field",
        "phone_number": "has too few digits for its country",
        "campaign_id": "is missing",
        "variables.a.b": "is of type tuple, which JSON does not have",
        "variables.c": "is not a finite number",
        "allow_dupplicate": "is of type int, not a bool",
        "secondary_contacts[0].name": "is not a known field",
        "secondary_contacts[1]": "is of type int, not a mapping",
        "secondary_contacts[2].phone_number": "is missing",
        "secondary_contacts[2].variables": "is of type list, not an object",
    }


def test_a_misspelt_key_is_told_its_nearest_name() -> None:
    with pytest.raises(InvalidLead, match=r"did you mean campaign_id\?"):
        Lead.parse({"phone_number": NUMBER, "campain_id": 1})


@pytest.mark.parametrize("value", [None, "lead", [("phone_number", NUMBER)], 7])
def test_what_is_no_mapping_is_one_fault(value: Any) -> None:
    assert list(faults(lambda: Lead.parse(value))) == ["lead"]


@pytest.mark.parametrize("campaign", [True, 0, -1, 2**63, 42.0, "42", None])
def test_a_campaign_is_a_positive_integer_and_nothing_that_resembles_one(campaign: object) -> None:
    assert list(faults(lambda: made(campaign_id=campaign))) == ["campaign_id"]


@pytest.mark.parametrize("campaign", [1, 2**63 - 1])
def test_the_ends_of_the_range_are_campaigns(campaign: int) -> None:
    assert made(campaign_id=campaign).campaign_id == campaign


@pytest.mark.parametrize("flag", [0, 1, "false", None])
def test_the_flag_is_a_real_bool(flag: object) -> None:
    assert list(faults(lambda: made(allow_dupplicate=flag))) == ["allow_dupplicate"]
    assert list(faults(lambda: made(allow_duplicate=flag))) == ["allow_duplicate"]


def test_ten_contacts_are_taken_and_eleven_refused() -> None:
    contacts = [{"phone_number": f"+120255501{n:02}"} for n in range(1, 12)]

    assert len(made(secondary_contacts=contacts[:10]).secondary_contacts) == 10
    assert faults(lambda: made(secondary_contacts=contacts)) == {"secondary_contacts": "has 11 contacts, more than 10"}


@pytest.mark.parametrize("contacts", [None, "x", {"phone_number": OTHER}, iter(())])
def test_contacts_are_a_list(contacts: object) -> None:
    assert list(faults(lambda: made(secondary_contacts=contacts))) == ["secondary_contacts"]


def test_a_number_appears_once_however_it_is_written() -> None:
    contacts = [{"phone_number": "+1 202 555 0101"}, {"phone_number": "+1-202-555-0100"}, {"phone_number": OTHER}]

    assert faults(lambda: made(secondary_contacts=contacts)) == {
        "secondary_contacts[1].phone_number": "is the same number as phone_number",
        "secondary_contacts[2].phone_number": "is the same number as secondary_contacts[0].phone_number",
    }


def test_contacts_may_be_contacts() -> None:
    contact = Contact(phone_number=OTHER, variables={"role": "spouse"})

    assert made(secondary_contacts=[contact]).secondary_contacts == (contact,)


def test_a_contact_alone_reports_its_own_faults() -> None:
    assert faults(lambda: Contact.parse({"phone_number": "x", "variables": 1})).keys() == {"phone_number", "variables"}


def test_a_lead_keeps_its_own_copy_of_the_variables() -> None:
    variables = {"tags": ["a"]}
    lead = made(variables=variables)

    variables["tags"].append("b")

    assert lead.variables == {"tags": ["a"]}


def test_a_lead_cannot_be_changed_but_replaced() -> None:
    lead = made(variables={"a": 1}, secondary_contacts=[{"phone_number": OTHER}])

    with pytest.raises(FrozenInstanceError):
        lead.campaign_id = 7  # type: ignore[misc]
    assert replace(lead, campaign_id=7).payload() == lead.payload() | {"campaign_id": 7}
    assert "campaign_id" in faults(lambda: replace(lead, campaign_id=0))


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda lead: pickle.loads(pickle.dumps(lead))])  # noqa: S301  (our own)
def test_a_lead_survives_copying_and_pickling(again: Callable[[Lead], Lead]) -> None:
    lead = made(variables={"a": [1]}, secondary_contacts=[{"phone_number": OTHER}])

    assert again(lead) == lead
    assert hash(again(lead)) == hash(lead)


def test_no_number_and_no_value_is_shown() -> None:
    lead = made(
        variables={"name": "CANARY"}, secondary_contacts=[{"phone_number": OTHER, "variables": {"n": "CANARY"}}]
    )

    shown = f"{lead!r} {lead!s} {lead} {lead.secondary_contacts!r}"

    assert "+•••0100" in shown
    for secret in ("CANARY", "2025550100", "2025550101"):
        assert secret not in shown


def test_an_error_never_repeats_what_was_passed() -> None:
    bad: dict[Any, Any] = {
        "phone_number": "+99912025550100",
        "campaign_id": "CANARY",
        "+12025550100": 1,
        "ada@example.com": 1,
        "\x1b[31m\r\nERROR": 1,
        "variables": {"+1 202 555 0100": {1}, "\u202eevil": {1}, "x": object(), 5: "CANARY", "y" * 50: b"CANARY"},
        "secondary_contacts": [{"phone_number": "CANARY"}],
    }

    with pytest.raises(InvalidLead) as caught:
        Lead.parse(bad)

    text = f"{caught.value} {caught.value.errors!r}"
    assert len(caught.value.errors) == 11
    for value in ("CANARY", "2025550100", "555 0100", "ada@", "\x1b", "\r", "\n", "\u202e", "y" * 41):
        assert value not in text


HASH = "f71fd8a90c1f00bba2037c8bf9c513c88d81d7c29d2019a116cd532e81bbcced"


def test_the_payload_hash_never_changes_between_versions() -> None:
    lead = made(variables={"b": [1.5, None, True], "a": "é"}, secondary_contacts=[{"phone_number": OTHER}])

    assert lead.payload_hash() == HASH


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ({"variables": {"a": 1, "b": 2}}, {"variables": {"b": 2, "a": 1}}),
        ({"variables": {"a": 1}}, {"variables": {"a": 1.0}}),
        ({"variables": {"a": [0]}}, {"variables": {"a": [-0.0]}}),
        ({"phone_number": "+1 202 555 0100"}, {"phone_number": NUMBER}),
        ({"variables": {}, "secondary_contacts": []}, {}),
        ({"allow_duplicate": True}, {"allow_dupplicate": True}),
    ],
)
def test_the_same_lead_written_otherwise_has_the_same_hash(left: dict[str, Any], right: dict[str, Any]) -> None:
    assert made(**left).payload_hash() == made(**right).payload_hash()


@pytest.mark.parametrize(
    "other",
    [
        {"phone_number": OTHER},
        {"campaign_id": 43},
        {"variables": {"a": True}},
        {"variables": {"a": "1"}},
        {"variables": {"a": 1.5}},
        {"variables": {"a": None}},
        {"allow_dupplicate": True},
        {"secondary_contacts": [{"phone_number": OTHER}]},
    ],
)
def test_another_lead_has_another_hash(other: dict[str, Any]) -> None:
    assert made(**({"variables": {"a": 1}} | other)).payload_hash() != made(variables={"a": 1}).payload_hash()


def test_the_order_of_contacts_is_part_of_the_hash() -> None:
    contacts = [{"phone_number": OTHER}, {"phone_number": "+12025550102"}]

    assert made(secondary_contacts=contacts).payload_hash() != made(secondary_contacts=contacts[::-1]).payload_hash()


names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=10)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=8,
)


def depth(value: object) -> int:
    match value:
        case dict():
            return 1 + max(map(depth, value.values()), default=0)
        case list():
            return 1 + max(map(depth, value), default=0)
        case _:
            return 0


@given(st.dictionaries(names, json_values, max_size=8).filter(lambda value: depth(value) <= 5))
def test_whatever_json_is_taken_is_not_changed(variables: dict[str, Any]) -> None:
    lead = made(variables=variables)

    assert lead.variables == variables
    assert orjson.dumps(lead.payload()["variables"]) == orjson.dumps(variables)


@given(
    st.dictionaries(st.text(max_size=5) | st.integers(), st.text(max_size=5) | st.floats() | st.binary(), max_size=4)
)
def test_whatever_is_taken_can_be_stored_and_what_is_not_is_only_ever_refused(variables: dict[Any, Any]) -> None:
    try:
        lead = made(variables=variables)
    except InvalidLead:
        return
    assert "\\u0000" not in orjson.dumps(lead.payload()).decode()


fields = st.sampled_from(["phone_number", "campaign_id", "variables", "secondary_contacts", "x"])
junk = st.none() | st.text() | st.integers() | st.lists(st.integers()) | st.dictionaries(st.text(), st.integers())


@given(st.dictionaries(fields, junk))
def test_no_input_raises_anything_but_invalid_lead(given_fields: dict[str, Any]) -> None:
    try:
        Lead.parse(given_fields)
    except InvalidLead as error:
        assert error.errors


def test_a_stored_row_makes_the_same_body_without_being_checked_again() -> None:
    lead = made(variables={"a": 1}, secondary_contacts=[{"phone_number": OTHER, "variables": {"b": 2}}])

    body = request_body(
        phone_number=NUMBER,
        campaign_id=42,
        variables={"a": 1},
        allow_dupplicate=False,
        secondary_contacts=[(OTHER, {"b": 2})],
    )

    assert body == lead.payload()
