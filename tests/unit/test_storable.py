"""Whatever Voicery sends can be stored."""

import json
import math
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.decisions.storable import BIGINT_MAX, BIGINT_MIN, MAX_DEPTH, storable, storable_text

HARMLESS = (
    st.none() | st.booleans() | st.integers(BIGINT_MIN, BIGINT_MAX) | st.floats(allow_nan=False, allow_infinity=False)
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(), max_size=4), inner, max_size=4)
    ),
    max_leaves=20,
)


def depth(value: object) -> int:
    match value:
        case dict():
            return 1 + max(map(depth, value.values()), default=0)
        case list():
            return 1 + max(map(depth, value), default=0)
        case _:
            return 0


@given(ANYTHING)
def test_every_value_becomes_strict_json_without_nul_or_surrogate(value: object) -> None:
    text = json.dumps(storable(value), allow_nan=False, ensure_ascii=False)

    assert "\\u0000" not in text
    text.encode("utf-8")


@given(ANYTHING)
def test_what_is_storable_stays_as_it_is(value: object) -> None:
    once = storable(value)

    assert storable(once) == once


@given(HARMLESS | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
def test_a_harmless_value_is_not_touched(value: object) -> None:
    result = storable(value)

    assert (result, type(result)) == (value, type(value))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a\0b", "a\ufffdb"),
        ("a\ud800b\udfff", "a\ufffdb\ufffd"),
        ({"k\0": [1, "\ud800"]}, {"k\ufffd": [1, "\ufffd"]}),
        ({1: (2, 3)}, {"1": [2, 3]}),
        (BIGINT_MAX + 1, "9223372036854775808"),
        (BIGINT_MIN - 1, "-9223372036854775809"),
        (math.nan, "nan"),
        (-math.inf, "-inf"),
        (Decimal("1.50"), "1.50"),
        (b"\0", "b'\\x00'"),
    ],
)
def test_poison_becomes_text(value: object, expected: object) -> None:
    assert storable(value) == expected


def test_an_integer_that_python_refuses_to_write_out_is_described() -> None:
    assert storable(10**5000) == "an integer of 16610 bits"


def test_a_bottomless_value_is_cut() -> None:
    value: list[object] = []
    for _ in range(100_000):
        value = [value]

    result = storable(value)

    assert depth(result) == MAX_DEPTH
    for _ in range(100_000):  # Python frees a bottomless list by recursion, unless it is taken apart
        value = value[0] if value else []  # type: ignore[assignment]


def test_text_keeps_everything_else() -> None:
    assert storable_text("Zoë \U0001f600\r\n\x1b") == "Zoë \U0001f600\r\n\x1b"
