"""JSON that people bring is taken as it stands, or refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.lead.variables import read_json


@pytest.mark.parametrize("number", [2**63 - 1, 2**64, -(2**63) - 1, 12345678901234567890123])
def test_an_integer_keeps_every_digit(number: int) -> None:
    assert read_json(f'{{"crm": {number}}}') == {"crm": number}
    assert isinstance(read_json(str(number)), int)


@given(st.integers())
def test_no_integer_is_rounded(number: int) -> None:
    assert read_json(f"[{number}]".encode()) == [number]


@pytest.mark.parametrize("text", ["", "{", "NaN", '{"a": NaN, "b": 12345678901234567890}', b"\xff"])
def test_what_is_no_json_is_a_value_error(text: str | bytes) -> None:
    with pytest.raises(ValueError, match=r".*"):
        read_json(text)
