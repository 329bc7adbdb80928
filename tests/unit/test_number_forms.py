"""One number in every form: found and taken out wherever it stands, and nothing else is."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.lead.number_forms import REMOVED, NumberForms

US, DE, IT = "+12025550123", "+4930901820123", "+390655550123"
SHORT = "+2905123"  # St Helena: five digits, four of them spoken

FORMS = [
    (US, "+12025550123"),
    (US, "12025550123"),
    (US, "0012025550123"),
    (US, "011 1 202 555 0123"),
    (US, "2025550123"),
    (US, "(202) 555-0123"),
    (US, "1-202-555-0123"),
    (US, "202.555.0123"),
    (US, "202;5550123"),  # parted into two cells
    (US, "+1 (202) 555\u20130123"),
    (US, "+1\u00a0202\u00a0555\u00a00123"),
    (US, "+1202\u200b5550123"),
    (US, "\uff12\uff10\uff12\uff15\uff15\uff15\uff10\uff11\uff12\uff13"),
    (US, "\u0662\u0660\u0662\u0665\u0665\u0665\u0660\u0661\u0662\u0663"),
    (US, "lead_12025550123_again.csv"),
    (US, "20240105:12025550123"),
    (US, "99912025550123999"),  # all its digits, in a longer run
    (US, "12025550123.0"),
    (DE, "030 90 182 0123"),
    (DE, "0049 (0)30 901820123"),
    (DE, "+49-30-901820123"),
    (DE, "030/901820123"),
    (DE, "30901820123"),
    (IT, "06 5555 0123"),
    (IT, "0039 06 55550123"),
    (SHORT, "+290 5123"),
]

OTHERS = [
    (US, "+12025550124"),
    (US, "120255501234567"[1:]),  # its national digits begin a longer number
    (US, "72025550123"),  # another number ends in them
    (US, "202555012"),
    (US, "2025-55-01 2a3"),
    (DE, "+4330901820123"),
    (SHORT, "row 5123 of 9000"),
    (US, "018fe7a6-0000-7000-8000-120255501230"),  # an id
]


@pytest.mark.parametrize(("number", "written"), FORMS)
def test_it_is_found_and_taken_out_and_what_is_around_it_stays(number: str, written: str) -> None:
    forms = NumberForms(number)
    text = f"Ada ({written}) rang"

    assert forms.stands_in(text)
    cleaned = forms.removed_from(text)
    assert not forms.stands_in(cleaned)
    assert cleaned.startswith("Ada (")
    assert cleaned.endswith(") rang")
    assert REMOVED in cleaned


@pytest.mark.parametrize(("number", "written"), OTHERS)
def test_what_is_another_number_or_none_stays(number: str, written: str) -> None:
    forms = NumberForms(number)

    assert not forms.stands_in(written)
    assert forms.removed_from(written) == written


@given(st.lists(st.sampled_from(["", " ", "-", ".", " - ", ")(", "\u2009", "_"]), min_size=10, max_size=10))
def test_any_parting_is_seen_through(parts: list[str]) -> None:
    written = "".join(f"{digit}{part}" for digit, part in zip("2025550123", parts, strict=True))

    assert NumberForms(US).stands_in(f"x {written}")


def test_a_json_value_is_rewritten_by_value_and_stays_json() -> None:
    """In V6 the digits of a JSON number were replaced inside of the text: no JSON any more, and the erasure failed."""
    value = {
        "filters": {"campaign_id": 12025550123, "phone": "202 555 0123", "open": True, "none": None},
        "+1 202 555 0123": 1,
        "(202) 555-0123": 2,
        "list": [2025550123, 12025550123.0, 42, {"deep": ["x12025550123"]}],
    }
    cleaned = NumberForms(US).removed_from(value)

    assert not NumberForms(US).stands_in(json.loads(json.dumps(cleaned)))
    assert cleaned["filters"] == {"campaign_id": REMOVED, "phone": REMOVED, "open": True, "none": None}
    assert cleaned["list"] == [REMOVED, REMOVED, 42, {"deep": [f"x{REMOVED}"]}]
    assert sorted(cleaned.values(), key=str)[:2] == [1, 2], "two names that become one keep both values"


def test_the_repr_shows_no_number() -> None:
    assert "202" not in repr(NumberForms(US))
