"""The limits of `variables`, and that nothing foreign gets past them."""

from collections import OrderedDict
from datetime import UTC, datetime
from decimal import Decimal
from enum import IntEnum, StrEnum
from typing import Any
from uuid import UUID

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.lead.variables import MAX_BYTES, _Walk, check_variables, plain_json

NAMES = st.sampled_from(["a", "name", "é", "", "nul\0", "x" * 3000]) | st.text(max_size=3)
PLAIN = st.sampled_from(["Ada", "", "é", "nul\0", "\ud800", "x" * 3000, 0, -1, 2**63, True, None, 1.5]) | st.integers()


def faults(variables: object) -> dict[str, str]:
    _, found = check_variables(variables, "variables")
    return {error.field: error.fault for error in found}


def nested(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(levels - 1):
        value = {"a": value}
    return value


def test_sixty_four_names_are_taken_and_one_more_refused() -> None:
    assert not faults({f"n{n}": n for n in range(64)})
    assert faults({f"n{n}": n for n in range(65)}) == {"variables": "has 65 names, more than 64"}


def test_five_levels_are_taken_and_a_sixth_refused() -> None:
    assert not faults(nested(5))
    assert faults(nested(6)) == {"variables.a.a.a.a.a": "is nested deeper than 5 levels"}
    assert faults({"a": [[[[[]]]]]}) == {"variables.a[0][0][0][0]": "is nested deeper than 5 levels"}


def test_sixteen_kibibytes_of_json_are_taken_and_one_byte_more_refused() -> None:
    around = len('{"a":""}')

    assert not faults({"a": "x" * (16384 - around)})
    assert faults({"a": "x" * (16385 - around)}) == {"variables": "is larger than 16 KiB as JSON"}


def test_size_is_counted_in_bytes_not_in_characters() -> None:
    assert not faults({"a": "é" * 8000})
    assert faults({"a": "é" * 8200}) == {"variables": "is larger than 16 KiB as JSON"}


@pytest.mark.parametrize("huge", [{"a": [0] * 10_000_000}, {"a": "x" * 50_000_000}, {"a": ["x" * 1000] * 1_000_000}])
def test_huge_input_is_refused_without_being_copied(huge: dict[str, Any]) -> None:
    assert faults(huge) == {"variables": "is larger than 16 KiB as JSON"}


def test_an_object_that_contains_itself_is_refused() -> None:
    loop: dict[str, Any] = {}
    loop["a"] = loop

    assert faults(loop) == {"variables.a.a.a.a.a": "is nested deeper than 5 levels"}


@pytest.mark.parametrize("integer", [2**63 - 1, -(2**63)])
def test_sixty_four_bits_hold_an_integer(integer: int) -> None:
    assert not faults({"a": integer})


@pytest.mark.parametrize("integer", [2**63, -(2**63) - 1, 10**30])
def test_longer_integers_are_refused(integer: int) -> None:
    assert faults({"a": integer}) == {"variables.a": "is an integer beyond 64 bits"}


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        (float("nan"), "is not a finite number"),
        (float("-inf"), "is not a finite number"),
        ("a\0b", "contains a NUL character"),
        ("\ud83d", "contains half of a surrogate pair"),
        ((1, 2), "is of type tuple, which JSON does not have"),
        ({1}, "is of type set, which JSON does not have"),
        (b"x", "is of type bytes, which JSON does not have"),
        (Decimal("1.5"), "is of type Decimal, which JSON does not have"),
        (datetime(2025, 6, 30, tzinfo=UTC), "is of type datetime, which JSON does not have"),
        (UUID(int=1), "is of type UUID, which JSON does not have"),
        (object(), "is of type object, which JSON does not have"),
    ],
)
def test_what_json_or_postgres_cannot_hold_is_refused_by_its_path(value: object, fault: str) -> None:
    assert faults({"a": [0, {"b": value}]}) == {"variables.a[1].b": fault}


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("", "has an empty name"),
        ("a\0", "contains a NUL character"),
        ("\udc00", "contains half of a surrogate pair"),
        (7, "has a name of type int"),
        (None, "has a name of type NoneType"),
    ],
)
def test_names_are_text_that_can_be_stored(name: object, fault: str) -> None:
    assert fault in faults({name: 1}).values()


@pytest.mark.parametrize("value", [None, [], "x", 1, [("a", 1)]])
def test_variables_are_an_object(value: object) -> None:
    assert list(faults(value)) == ["variables"]


def test_a_thousand_faults_are_cut_short() -> None:
    assert len(check_variables({"a": [{1}] * 1000}, "variables")[1]) == 20


def test_subclasses_of_json_types_become_plain() -> None:
    class Colour(StrEnum):
        RED = "red"

    class Size(IntEnum):
        BIG = 3

    class Ratio(float):
        pass

    value = OrderedDict(colour=Colour.RED, size=Size.BIG, ratio=Ratio(0.5))

    copy, found = check_variables(value, "variables")

    assert not found
    assert copy == {"colour": "red", "size": 3, "ratio": 0.5}
    assert [type(copy)] + [type(item) for item in copy.values()] == [dict, str, int, float]


@given(st.dictionaries(NAMES, PLAIN | st.lists(PLAIN, max_size=2), max_size=5))
def test_the_short_way_takes_only_what_the_long_way_takes_unchanged(variables: dict[str, Any]) -> None:
    short = plain_json(variables)
    if short is not None:
        walk = _Walk("variables")
        assert walk.copied(dict(variables)) == orjson.loads(short) == variables
        assert not walk.faults
        assert walk.room >= 0


def test_the_short_way_is_taken_by_variables_as_most_are() -> None:
    assert plain_json({"name": "Ada Lovelace", "amount": 12, "vip": True, "note": None}) is not None


@pytest.mark.parametrize("widest", ["\x01", '"', "\\"])
def test_the_short_way_never_lets_json_grow_too_large(widest: str) -> None:
    """A control character takes six bytes of JSON."""
    for length in (2000, 2047, 2048, 2700, 2730, 2731, 16_000):
        variables = {"a": widest * length, **{f"n{n}": -(2**63) for n in range(63)}}
        expected = len(orjson.dumps(variables)) > MAX_BYTES
        assert bool(faults(variables)) is expected
