"""Which texts are phone numbers, and their one canonical form."""

import phonenumbers
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.errors import FieldError
from dispatcher.lead.masking import mask_numbers, mask_phone, safe_name
from dispatcher.lead.phone import canonical_phone


def fault(value: object) -> str:
    result = canonical_phone(value, "phone_number")
    assert isinstance(result, FieldError)
    return result.fault


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("+12025550100", "+12025550100"),
        ("+1 (202) 555-0100", "+12025550100"),
        ("+1.202.555.0100", "+12025550100"),
        ("  +1 202 555 0100 ", "+12025550100"),
        ("+1\u00a0202\u2011555\u20130100", "+12025550100"),
        ("+44 (0)20 7946 0000", "+442079460000"),
        ("+33 6 39 98 00 00", "+33639980000"),
        ("+39 06 1234 5678", "+390612345678"),  # Italy's zero belongs to the number
    ],
)
def test_separators_are_dropped(written: str, canonical: str) -> None:
    assert canonical_phone(written, "phone_number") == canonical


def test_a_number_that_merely_looks_unusual_passes() -> None:
    unusual = "+15555550100"
    assert not phonenumbers.is_valid_number(phonenumbers.parse(unusual))

    assert canonical_phone(unusual, "phone_number") == unusual


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ("", "is empty"),
        ("   ", "is empty"),
        ("+", "has no digits"),
        ("2025550100", "does not start with + and the country code"),
        ("+1202555", "has too few digits for its country"),
        ("+2105550100", "cannot be a phone number of any country"),
        ("+1202555010000", "has too many digits for its country"),
        ("+15550100", "lacks its area code"),
        ("+99912025550100", "cannot be a phone number of any country"),
        ("+01202555010", "cannot be a phone number of any country"),
        ("+4915123456789012", "has more than the 15 digits of E.164"),
        ("+" + "1" * 30, "has too many digits"),
        ("+1" + " " * 99 + "2025550100", "is longer than 100 characters"),
        (12025550100, "is of type int, not text"),
        (None, "is of type NoneType, not text"),
    ],
)
def test_a_number_that_cannot_exist_is_refused_with_its_reason(written: object, why: str) -> None:
    assert fault(written) == why


@pytest.mark.parametrize("written", ["+46 00 6532634", "+972 00 516038224", "+53 00 516355"])
def test_a_number_whose_canonical_form_would_have_another_is_refused(written: str) -> None:
    assert fault(written)


country_codes = st.sampled_from(sorted(phonenumbers.COUNTRY_CODE_TO_REGION_CODE)).map(str)
trunk_prefixes = st.sampled_from(["", "0", "00", "1", "8", "15"])


@given(st.builds("+{}{}{}".format, country_codes, trunk_prefixes, st.from_regex(r"[0-9]{4,12}", fullmatch=True)))
def test_the_canonical_form_is_e164_and_stays_itself(written: str) -> None:
    canonical = canonical_phone(written, "phone_number")
    if isinstance(canonical, FieldError):
        return
    assert canonical[0] == "+"
    assert canonical[1:].isdecimal()
    assert len(canonical) <= 16
    assert canonical_phone(canonical, "phone_number") == canonical


@given(st.text())
def test_no_text_raises(written: str) -> None:
    assert canonical_phone(written, "phone_number")


@pytest.mark.parametrize(
    ("number", "masked"),
    [
        ("+12025550100", "+•••0100"),
        ("+447700900000", "+•••0000"),
        ("+3312345678", "+•••678"),
        ("+29012345", "+•••45"),
        ("+29012", "+•••"),
        ("", "+•••"),
        ("nonsense", "+•••"),
    ],
)
def test_a_masked_number_shows_its_last_digits_only(number: str, masked: str) -> None:
    assert mask_phone(number) == masked


@given(st.from_regex(r"\+[1-9][0-9]{6,14}", fullmatch=True))
def test_a_mask_hides_most_of_a_number(number: str) -> None:
    assert sum(map(str.isdigit, mask_phone(number))) <= (len(number) - 1) // 2


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("The lead +1 (202) 555-0100 exists.", "The lead +•••0100 exists."),
        ("12025550100,12025550101", "+•••0100,+•••0101"),
        ("HTTP 422 for campaign 42", "HTTP 422 for campaign 42"),
        ("Lead fa54fd8e-644c-88e5-aff3-e20000000257 stands", "Lead fa54fd8e-644c-88e5-aff3-e20000000257 stands"),
        ("the POST of 2026-11-28 09:15:02 UTC", "the POST of 2026-11-28 09:15:02 UTC"),
        ("at 2026-11-28T09:15:02.123456+00:00", "at 2026-11-28T09:15:02.123456+00:00"),
        # What only resembles an id or a time is masked.
        ("2026-11-28 0915", "+•••0915"),
        ("x-12025550-1000-4000-8000-120255501000", "x-+•••1000"),
        ("12025550-1000-4000-8000-1202555010001", "+•••0001"),
    ],
)
def test_numbers_in_foreign_texts_are_masked(text: str, masked: str) -> None:
    assert mask_numbers(text) == masked


@pytest.mark.parametrize("name", ["customer_name", "Имя", "line 2", "a.b"])
def test_a_plain_name_is_shown(name: str) -> None:
    assert safe_name(name, 0) == name


@pytest.mark.parametrize(
    "name", ["", "x" * 41, "a\nb", "+12025550100", "call 202 555 0100", "ada@example.com", 5, "\ud800"]
)
def test_a_name_that_may_be_a_value_is_shown_by_position(name: object) -> None:
    assert safe_name(name, 2) == "‹key 3›"
