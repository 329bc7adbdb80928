"""What reads foreign text costs time in proportion to it: no answer, list, file or word freezes a process.

A refusal of 130 kB of dots once froze a worker for 100 s: one pattern was quadratic, and ran before the text was cut.
Each reader gets growing hostile text, and four times as much may cost at most eight times the time: linear is four,
quadratic sixteen. What is measured is the process's own CPU time, the least of several runs, so that a busy machine
changes nothing; what takes no time worth the name at the greatest size passes without a ratio.
"""

import importlib
import io
import json
import pkgutil
import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime

import pytest

import dispatcher
from dispatcher.config.settings import Settings
from dispatcher.decisions.hints import rate_hints
from dispatcher.decisions.listing import read_page
from dispatcher.decisions.outcome import Sent, classify
from dispatcher.decisions.refusal import sentence
from dispatcher.decisions.reply import BodyFault, Reply
from dispatcher.lead.phone import canonical_phone
from dispatcher.voicery import body
from dispatcher.voicery.answer import announced_length, read_fields, read_status

SENT = Sent(42, "+12025550101")
RULES = Settings().rules
NOW = datetime(2026, 11, 23, tzinfo=UTC)
RATIO = 8.0
NOTHING_SECONDS = 0.004
UNITS = [
    ".", "a", "1", "a1", "1.", "1 ", " ", "\n", '"', "'", "a@", "(", "+", "-", "_", ":", ",", "<", "&", "\\", "/", "[",
    "{", "é", "\u2028", "\0", "|", "=", "bearer ", "bearer a", "<title>", "balance ", "no a ", "dup", "already ",
    "x-", "a=b;",
]  # fmt: skip


def seconds(work: Callable[[], object]) -> float:
    """The CPU time of one run: the least of three."""
    runs = []
    for _ in range(3):
        started = time.process_time()
        work()
        runs.append(time.process_time() - started)
    return min(runs)


def grows_too_fast(read: Callable[[str], object], unit: str, characters: int) -> str:
    """Say how the time of `read` grows on repetitions of `unit`; empty if it grows in proportion."""
    told = ""
    for _ in range(3):  # a disturbance does not come three times
        small, great = (unit * (size // len(unit)) for size in (characters, 4 * characters))
        long = seconds(lambda text=great: read(text))  # type: ignore[misc]
        if long < NOTHING_SECONDS:
            return ""
        short = seconds(lambda text=small: read(text))  # type: ignore[misc]
        if long <= RATIO * short:
            return ""
        told = (
            f"{unit!r}: {short * 1000:.1f} ms for {characters} characters, {long * 1000:.1f} ms for four times as many"
        )
    return told


def refused(**reply: object) -> object:
    return classify(Reply(status=422, written=True, **reply), SENT, RULES)  # type: ignore[arg-type]


def head(text: str) -> io.BufferedReader:
    lines = text.encode("utf-8", "replace")
    return io.BufferedReader(io.BytesIO(lines + b"\r\n\r\n"))  # type: ignore[arg-type]


def quiet(work: Callable[[], object]) -> None:
    """Run what may refuse its text: how soon is what counts."""
    with suppress(Exception):
        work()


READERS: dict[str, Callable[[str], object]] = {
    "a message": lambda text: refused(body={"message": text}),
    "a reason": lambda text: refused(body={"errors": {"phone_number": [text]}}),
    "a field's name": lambda text: refused(body={"errors": {text: ["is odd"]}}),
    "a code": lambda text: refused(body={"error_code": text, "message": text}),
    "a pointer": lambda text: refused(body={"errors": [{"pointer": text, "detail": text}]}),
    "many reasons": lambda text: refused(
        body={"errors": {f"{text[:9]}{n}": [text[:99]] for n in range(len(text) // 99)}}
    ),
    "many errors": lambda text: refused(body={"errors": [{"field": text[:9], "message": text[:9]}] * (len(text) // 9)}),
    "plain text": lambda text: refused(text=text[:2048], body_fault=BodyFault.NOT_JSON),
    "a page": lambda text: refused(text=f"<html><title>{text}", body_fault=BodyFault.NOT_JSON),
    "a yes": lambda text: classify(Reply(status=200, body={"data": {"id": text, "phone_number": text}}), SENT, RULES),
    "a sentence": sentence,
    "the rate": lambda text: rate_hints(
        Reply(status=429, headers=dict.fromkeys(["retry-after", "date", "x-ratelimit-reset"], text[:200])), NOW
    ),
    "a wait in a body": lambda text: rate_hints(Reply(status=429, body={"retry_after": text}), NOW),
    "a list": lambda text: read_page(
        Reply(status=200, body=[{"id": text[:9], "phone_number": text[:99]}] * (len(text) // 99))
    ),
    "counts of a list": lambda text: read_page(Reply(status=200, body={"data": [], "total": text})),
    "a body": lambda text: body.parse_body(text.encode("utf-8", "replace")),
    "a body of JSON": lambda text: body.parse_body(json.dumps({"message": text}).encode()),
    "a number in a body": lambda text: body.parse_body(b"1" * len(text)),
    "a fraction in a body": lambda text: body.parse_body(b"1." + b"1" * len(text)),
    "a coding": lambda text: body.read(b"{}", coding=text, content_type="", cap=99),
    "many gzip members": lambda text: body.read(
        (b"\x1f\x8b\x08\0\0\0\0\0\0\x03\x03\0\0\0\0\0\0\0\0\0") * (len(text) // 20),
        coding="gzip",
        content_type="",
        cap=99,
    ),
    "a content type": lambda text: body.read(b"\xff{}", coding="", content_type=text, cap=99),
    "a status line": lambda text: quiet(lambda: read_status(head(text))),  # type: ignore[arg-type]
    "header fields": lambda text: quiet(lambda: read_fields(head(text))),  # type: ignore[arg-type]
    "the same field again and again": lambda text: quiet(
        lambda: read_fields(head(f"a: {text[:600]}\r\n" * 99))  # type: ignore[arg-type]
    ),
    "a phone number": lambda text: canonical_phone(text, "phone_number"),
    "a phone number of the greatest length": lambda text: [
        canonical_phone(text[at : at + 100], "phone_number") for at in range(0, len(text) // 8, 100)
    ],
    "a length": lambda text: quiet(lambda: announced_length(text[:65536])),
}


@pytest.mark.parametrize("reader", READERS)
def test_reading_costs_time_in_proportion(reader: str) -> None:
    assert [told for unit in UNITS if (told := grows_too_fast(READERS[reader], unit, 20_000))] == []


def test_a_refusal_of_a_megabyte_costs_no_more_than_a_moment() -> None:
    for unit in UNITS:
        text = unit * (1_000_000 // len(unit))
        assert seconds(lambda text=text: refused(body={"message": text})) < 0.1, unit  # type: ignore[misc]


# Every pattern of ours ------------------------------------------------------------------------------------------------


NOT_FOREIGN = ("dispatcher.config.", "dispatcher.sandbox.", "dispatcher.lead.written_number.")
"""The operator's settings and options, and the forms of a phone number, which `canonical_phone` bounds first."""


def patterns() -> Iterator[tuple[str, "re.Pattern[str]"]]:
    """Each pattern that a module of ours keeps, and those of the settings."""
    for module in pkgutil.walk_packages(dispatcher.__path__, "dispatcher."):
        if module.name.endswith("__main__") or f"{module.name}.".startswith(NOT_FOREIGN):
            continue
        for name, value in vars(importlib.import_module(module.name)).items():
            if isinstance(value, re.Pattern) and isinstance(value.pattern, str):
                yield f"{module.name}.{name}", value
    yield "duplicate_rule", RULES.duplicate
    yield "balance_rule", RULES.balance


PATTERNS = {value.pattern: (name, value) for name, value in patterns()}


def test_the_patterns_are_found() -> None:
    assert len(PATTERNS) > 25


@pytest.mark.parametrize("name", sorted(name for name, _ in PATTERNS.values()))
def test_a_pattern_is_searched_for_in_time_in_proportion(name: str) -> None:
    """On texts of up to 2 000 characters: what meets longer ones is cut first."""
    pattern = next(value for known, value in PATTERNS.values() if known == name)

    def read(text: str) -> None:
        pattern.sub("", text)
        pattern.fullmatch(text)
        pattern.match(text + "\x7f")

    assert [told for unit in UNITS if (told := grows_too_fast(read, unit, 500))] == []


def test_a_quadratic_pattern_would_be_noticed() -> None:
    quadratic = re.compile(r"(?=[a.]*1)[a.]{24,}")

    assert "times as many" in grows_too_fast(lambda text: quadratic.sub("", text), ".", 1_000)
