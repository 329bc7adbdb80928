"""A number is taken as it stands only where the library would leave it as it is."""

import phonenumbers
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from phonenumbers import COUNTRY_CODE_TO_REGION_CODE, PhoneNumberFormat, PhoneNumberType

from dispatcher.lead.phone import _parsed, is_canonical

COUNTRY_CODES = sorted(COUNTRY_CODE_TO_REGION_CODE)


@settings(max_examples=3000)
@given(st.sampled_from(COUNTRY_CODES), st.text("0123456789", max_size=14))
def test_what_is_canonical_at_a_glance_is_so_for_the_library(country_code: int, number: str) -> None:
    digits = f"+{country_code}{number}"[:16]
    if is_canonical(digits):
        assert _parsed(digits) == digits


@pytest.mark.parametrize("country_code", COUNTRY_CODES)
def test_every_length_of_every_country_agrees_with_the_library(country_code: int) -> None:
    for start in range(100):
        for length in range(2, 15 - len(str(country_code)) + 1):
            digits = f"+{country_code}{f'{start:02d}5550100123456'[:length]}"
            if is_canonical(digits):
                assert _parsed(digits) == digits


def test_ordinary_numbers_need_no_parsing() -> None:
    regions = [region for regions in COUNTRY_CODE_TO_REGION_CODE.values() for region in regions if region != "001"]
    examples = [phonenumbers.example_number_for_type(region, PhoneNumberType.MOBILE) for region in regions]
    written = [phonenumbers.format_number(example, PhoneNumberFormat.E164) for example in examples if example]
    assert sum(map(is_canonical, written)) > 0.9 * len(written)


@pytest.mark.parametrize("written", ["", "+", "+0", "+1", "+12", "+999123456789"])
def test_what_is_no_number_is_not_canonical(written: str) -> None:
    assert not is_canonical(written)
