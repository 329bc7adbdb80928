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


def test_text_that_one_reader_takes_and_the_other_not_is_no_json() -> None:
    """One line of a file of leads, 1 000 lists around a long number, ended the import of all of them."""
    for depth in (10, 990, 1005, 1020, 1030, 100_000):
        text = "[" * depth + "9" * 30 + "]" * depth
        try:
            read_json(text)
        except ValueError:
            assert depth > 900
