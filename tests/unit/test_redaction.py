"""What no log line may say, whatever was logged."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.logs.redaction import indented, one_line, redact


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("called +12025550101 now", "called +•••0101 now"),
        ("called +1 (202) 555-0101.", "called +•••0101."),
        ("+44 7700 900123", "+•••0123"),
        ("phone_number=%2B12025550101&page=1", "phone_number=%2B+•••0101&page=1"),
        ("phone_number=12025550101&page=1", "phone_number=+•••0101&page=1"),
        ("Key (phone_number)=(+12025550101) already exists", "Key (phone_number)=(+•••0101) already exists"),
        ("Authorization: Bearer abc.def-123", "Authorization: Bearer •••"),
        ("{'authorization': 'bearer abcdef'}", "{'authorization': 'bearer •••'}"),
        ("bearer%20abcdefgh", "bearer •••"),
        ("X-Api-Key: abcdef", "X-Api-Key: •••"),
        ('"password": "hunter22"', '"password": "•••"'),
        ("redis://:pass@host:6379/0", "redis://:•••@host:6379/0"),
        ("postgresql://u:p%40ss@host/db", "postgresql://u:•••@host/db"),
    ],
)
def test_numbers_and_credentials_are_hidden(text: str, shown: str) -> None:
    assert redact(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "01890b1c-1234-7567-8901-123456789012",
        "lead 01890b1c-1234-7567-8901-123456789012 of 2026-11-23",
        "at 2026-11-23T07:06:09.765Z",
        "at 2026-11-23 07:06:09,765",
        "127.0.0.1:6379 and 192.168.100.200",
        "took 12.3456789 s",
        "campaign 42, HTTP 503, pid 123456",
        "Bearer of bad news",
        "",
    ],
)
def test_ids_times_addresses_and_words_remain(text: str) -> None:
    assert redact(text) == text


def test_known_secrets_are_hidden_wherever_they_stand() -> None:
    assert redact("xcanary-tokenx", ["canary-token"]) == "x•••x"


@given(st.text(max_size=40), st.text(max_size=40), st.integers(0, 99))
def test_no_surroundings_bring_a_number_to_light(before: str, after: str, line: int) -> None:
    number = f"+120255501{line:02d}"
    assert f"20255501{line:02d}" not in redact(before + number + after)


@given(st.text())
def test_a_line_stays_one_printable_line(text: str) -> None:
    line = one_line(text)
    assert len(line.splitlines()) <= 1
    assert not any(character in line for character in "\x00\x1b\r\n\x85\u202e\u2066\u2028\u200f\x7f\x9b")


def test_a_forged_record_inside_a_traceback_is_set_in() -> None:
    shown = indented("ValueError: x\n2026-01-01 [error] forged\r\x1b[31m\u202e")
    assert all(line.startswith("    ") for line in shown.split("\n"))
    assert "\x1b" not in shown
    assert "\r" not in shown
    assert "\u202e" not in shown
