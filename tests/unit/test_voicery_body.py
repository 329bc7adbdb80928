"""A body is parsed with distrust: it becomes a storable value or a fault, never an exception."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.decisions.reply import BodyFault
from dispatcher.decisions.storable import storable
from dispatcher.voicery.body import TEXT_CAP, parse_body

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=20,
)


@given(JSON, st.booleans())
def test_what_was_parsed_is_storable(value: object, escaped: bool) -> None:
    raw = json.dumps(value, ensure_ascii=escaped).encode("utf-8", "surrogatepass")

    body = parse_body(raw)

    assert body.fault is None
    assert storable(body.value) == body.value
    json.dumps(body.value, allow_nan=False, ensure_ascii=False).encode("utf-8")


@given(st.binary(max_size=300))
def test_any_bytes_are_a_value_or_a_fault(raw: bytes) -> None:
    body = parse_body(raw)

    assert body.fault in (None, BodyFault.NOT_JSON)
    assert "\0" not in body.text
    body.text.encode("utf-8")


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (b'{"id": 7}', {"id": 7}),
        (b'\xef\xbb\xbf {"id": 7}\r\n', {"id": 7}),
        (b'{"id": 1, "id": 2}', {"id": 2}),
        (b'{"m": "line\nbreak\0", "id": 7}', {"m": "line\nbreak\ufffd", "id": 7}),
        (b'{"m": "\\u0000\\ud800", "id": 7}', {"m": "\ufffd\ufffd", "id": 7}),
        (b'{"m": "\xff\xfe", "id": 7}', {"m": "\ufffd\ufffd", "id": 7}),
        (b"[NaN, Infinity, -Infinity, 1e999, 1.5]", ["NaN", "Infinity", "-Infinity", "1e999", 1.5]),
        (b"[9223372036854775807, -9223372036854775808]", [2**63 - 1, -(2**63)]),
        (b"[9223372036854775808, -9223372036854775809]", ["9223372036854775808", "-9223372036854775809"]),
        (b"1" * 100_000, "1" * 100_000),
        (b"null", None),
        ('{"m": "é", "id": 7}'.encode("utf-16"), {"m": "é", "id": 7}),
        ('{"m": "é", "id": 7}'.encode("utf-16-be"), {"m": "é", "id": 7}),
        ('{"m": "é", "id": 7}'.encode("utf-32"), {"m": "é", "id": 7}),
    ],
)
def test_odd_json_is_read_and_made_harmless(raw: bytes, value: object) -> None:
    body = parse_body(raw)

    assert (body.value, body.fault) == (value, None)


@pytest.mark.parametrize(
    "raw",
    [b"", b" ", b"<html>", b"{", b'{"id": 7} x', b"{'id': 7}", b"[" * 1_000_000, b'{"a":' * 100_000],
    ids=["empty", "blank", "HTML", "cut", "trailing", "quotes", "deep list", "deep object"],
)
def test_what_is_no_json_is_a_fault_with_its_text(raw: bytes) -> None:
    body = parse_body(raw)

    assert (body.value, body.fault) == (None, BodyFault.NOT_JSON)
    assert len(body.text) <= TEXT_CAP


def test_nesting_that_parses_is_still_cut_to_what_can_be_stored() -> None:
    body = parse_body(b"[" * 200 + b"]" * 200)

    assert body.fault is None
    assert storable(body.value) == body.value
    assert "…" in json.dumps(body.value, ensure_ascii=False)


def test_a_fault_of_the_wire_keeps_the_text_and_parses_nothing() -> None:
    body = parse_body(b'{"id": 7}', BodyFault.TRUNCATED)

    assert (body.value, body.text, body.fault) == (None, '{"id": 7}', BodyFault.TRUNCATED)


def test_the_text_is_capped_in_characters() -> None:
    assert parse_body(json.dumps("é" * 5000, ensure_ascii=False).encode()).text == '"' + "é" * (TEXT_CAP - 1)
