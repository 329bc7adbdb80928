"""What reads foreign text costs time in proportion to it: no answer, list, file or word freezes a process.

A refusal of 130 kB of dots once froze a worker for 100 s: one pattern was quadratic, and ran before the text was cut.
Each reader gets growing hostile text, and four times as much may cost at most eight times the time: linear is four,
quadratic sixteen. What is measured is the thread's own CPU time, the least of several runs, so that a busy machine
changes nothing; what takes no time worth the name at the greatest size passes whatever the ratio.
"""

import ast
import base64
import gc
import importlib
import io
import json
import pkgutil
import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path

import pytest

import dispatcher
from dispatcher import moments
from dispatcher.broker.connection import DELIVER
from dispatcher.broker.envelope import read_ring
from dispatcher.config.account import parse_rate_limit
from dispatcher.config.environment import variable
from dispatcher.config.settings import Settings
from dispatcher.console import auth, filters
from dispatcher.console.request import Form, local
from dispatcher.decisions.hints import rate_hints
from dispatcher.decisions.listing import read_page
from dispatcher.decisions.outcome import Sent, classify
from dispatcher.decisions.refusal import sentence
from dispatcher.decisions.reply import BodyFault, Reply
from dispatcher.errors import FieldError
from dispatcher.http_intake.bodies import FORM, JSON, LINES, lead_of, object_of, pointer_to
from dispatcher.http_intake.mappings import at, pointer_of
from dispatcher.http_intake.reading import Items
from dispatcher.importing import lead_file, number_format, rejects, source
from dispatcher.importing.columns import ImportOptions
from dispatcher.importing.encoding import Encoding, Survey
from dispatcher.lead.number_forms import NumberForms
from dispatcher.lead.phone import Country, canonical_phone
from dispatcher.logs.redaction import indented, one_line, redact
from dispatcher.operator import edited_rows
from dispatcher.sandbox import book, listing, ratelimit
from dispatcher.store.rights import Refused
from dispatcher.store.trouble import Trouble
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


def seconds(work: Callable[[], object], enough: float = 0.0) -> float:
    """The CPU time of one run: the least of three, or the first that takes no longer than `enough`.

    Of this thread, and without the collector of garbage, whose time depends on what other tests have left.
    """
    runs = []
    gc.disable()
    try:
        for _ in range(3):
            started = time.thread_time()
            work()
            runs.append(time.thread_time() - started)
            if runs[-1] <= enough:
                break
    finally:
        gc.enable()
    return min(runs)


def grows_too_fast(read: Callable[[str], object], unit: str, characters: int) -> str:
    """Say how the time of `read` grows on repetitions of `unit`; empty if it grows in proportion."""
    told = ""
    for _ in range(3):  # a disturbance does not come three times
        small, great = (unit * (size // len(unit)) for size in (characters, 4 * characters))
        short = seconds(partial(read, small))
        allowed = max(NOTHING_SECONDS, RATIO * short)
        long = seconds(partial(read, great), enough=allowed)
        if long <= allowed:
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
    "a text with an erased number": NumberForms("+12025550123").removed_from,
    "a phone number": lambda text: canonical_phone(text, "phone_number"),
    "a phone number of the greatest length": lambda text: [
        canonical_phone(text[at : at + 100], "phone_number") for at in range(0, len(text) // 8, 100)
    ],
    "a length": lambda text: quiet(lambda: announced_length(text[:65536])),
    "a table": lambda text: leads_of(f"phone_number,campaign_id,name\n+12025550101,42,{text}\n{text}\n", "leads.csv"),
    "a table's header": lambda text: leads_of(f"phone_number,{text}\n+12025550101,{text}\n", "leads.csv"),
    "a table with a number that is none": lambda text: leads_of(
        "phone_number,campaign_id\n" + f"{text[:99]},42\n" * (len(text) // 999), "leads.csv"
    ),
    "a row between quotes": lambda text: leads_of(f'phone_number,name\n"{text}" x"{text}",1\n', "leads.csv"),
    "a row with blanks after its quotes": lambda text: leads_of(f'phone_number,name\n"{text}" ,1\n', "leads.csv"),
    "lines of JSON": lambda text: leads_of(
        json.dumps({"phone_number": text, "campaign_id": text, "variables": {text: text}, text: 1}), "leads.jsonl"
    ),
    "lines that are not JSON": lambda text: leads_of("{" + text, "leads.jsonl"),
    "an encoding": lambda text: encoding_of(b"\xe9 " + text.encode("utf-8", "replace")),
    "an example of an encoding": lambda text: Encoding("cp1252", example=text).shown(),
    "a refused row": lambda text: rejects.in_file_words([FieldError("row", f"is of type {text}", text)]),
    "a number format": lambda text: number_format.shown_by(0, text, since_1904=False),
    "a cell that was corrected": lambda text: edited_rows._same(f"contact{text}", text, text),
    "a doorbell": lambda text: quiet(lambda: read_ring(doorbell(text))),
    "a doorbell's body": lambda text: quiet(lambda: read_ring(doorbell(None) | {"body": text})),
    "a query string": lambda text: quiet(lambda: filters.read_text(text)),
    "a query string's value": lambda text: [
        quiet(lambda name=name: filters.read({name: text}))  # type: ignore[misc]
        for name in filters._READERS
    ],
    "a form": lambda text: quiet(lambda: Form.parse(text.encode())),
    "an address to go on to": lambda text: quiet(lambda: local(f"/{text}")),
    "a time": lambda text: [
        quiet(lambda read=read: read(text, NOW))  # type: ignore[misc]
        for read in (moments.past, moments.future, lambda word, _: moments.duration(word))
    ],
    "a time of tomorrow": lambda text: quiet(lambda: moments.future(f"tomorrow {text}", NOW)),
    "users": lambda text: quiet(lambda: dict(auth._people(text.split()))),
    "a setting": lambda text: [
        quiet(lambda name=name: Settings.from_environment({variable(name): text}))  # type: ignore[misc]
        for name in Settings.expectations()
    ],
    "a setting's address": lambda text: [
        quiet(lambda scheme=scheme, at=at: Settings.from_environment(dict.fromkeys(ADDRESSES, f"{scheme}://{at}")))  # type: ignore[misc]
        for scheme in ("postgresql", "rediss", "https")
        for at in (text, f"u:{text}@h", f"h/{text}", f"h/0?{text}", f"h/0?health_check_interval={text}")
    ],
    "the name of a setting": lambda text: quiet(lambda: Settings.from_environment({f"DISPATCHER_{text}": "1"})),
    "a rate limit": lambda text: quiet(lambda: parse_rate_limit(f"1/1 {text}")),
    "a line of the log": lambda text: (redact(text, ["secret"]), one_line(text), indented(text)),
    "words of Postgres": lambda text: Trouble.of(OSError(text))._sentence,
    "a refusal of Postgres": lambda text: Refused.of(f"denied {text} leads", f"UPDATE dispatcher.leads {text}"),
    "a body over HTTP": lambda text: quiet(lambda: lead_over_http(json.dumps({"phone_number": text, text: text}))),
    "a body over HTTP with many names, one of them twice": lambda text: quiet(
        lambda: lead_over_http(f"{{{','.join(f'{json.dumps(text[:9] + str(n))}:1' for n in [*several(text), 0])}}}")
    ),
    "a body over HTTP with many faults": lambda text: quiet(
        lambda: lead_over_http(json.dumps({"variables": {text[:9] + str(n): {1: text[:9]} for n in several(text)}}))
    ),
    "a form over HTTP": lambda text: quiet(lambda: object_of(text.encode(), FORM)),
    "a batch over HTTP": lambda text: quiet(
        lambda: batch_over_http(JSON, f"[{json.dumps(text[: len(text) // 4])},{text[: len(text) // 4]}")
    ),
    "a batch over HTTP of many items": lambda text: quiet(
        lambda: batch_over_http(JSON, json.dumps([text[:9]] * len(several(text))))
    ),
    "lines over HTTP": lambda text: quiet(lambda: batch_over_http(LINES[0], f"{text}\n" + f"{text[:9]}\n" * 99)),
    "a webhook": lambda text: quiet(
        lambda: [
            found(path, {"a": [{"k": text[:9], "v": n} for n in several(text)], text: 1})
            for found in (lambda path, body: at(body, path), pointer_of)
            for path in ("a[k=x].v", text[:300], f"a{text[:200]}")
        ]
    ),
    "the sandbox's numbers": lambda text: (
        quiet(lambda: book._campaign_id(text)),
        quiet(lambda: listing._integer(text, "page")),
        quiet(lambda: ratelimit.parse_rate_limit(text)),
    ),
}


def several(text: str) -> range:
    """Numbers, more of them for a longer text."""
    return range(len(text) // 20)


def lead_over_http(text: str) -> None:
    """Read a body, and point to each fault of its lead."""
    body = object_of(text.encode(), JSON)
    for fault in lead_of(body).all_faults():
        pointer_to(fault.field, body)


def batch_over_http(kind: str, text: str) -> None:
    """Read a batch in blocks; an item that is not whole is read again with the next one, within its greatest size."""
    items, raw = Items(kind), text.encode()
    for start in range(0, len(raw), 2**16):
        list(items.read(raw[start : start + 2**16]))
    list(items.read(b"", last=True))


ADDRESSES = ("DATABASE_URL", "REDIS_URL", "DISPATCHER_PROXY", "DISPATCHER_ALERT_WEBHOOK_URL", "VOICERY_BASE_URL")


def leads_of(text: str, name: str) -> None:
    """Read a whole file: its bytes, its encoding, its rows, and each row as a lead."""

    def read() -> None:
        with source.open_source(source.STDIN, io.BytesIO(text.encode("utf-8", "replace"))) as opened:
            named = replace(opened, name=name)
            with lead_file.open_leads(named, ImportOptions(campaign_id=42, country=Country("US"))) as file:
                for row in file.rows:
                    quiet(lambda row=row: file.read(row))  # type: ignore[misc]

    quiet(read)


def encoding_of(block: bytes) -> object:
    survey = Survey()
    survey.add(block, final=True)
    return survey.encoding()


def doorbell(text: str | None) -> dict[str, object]:
    arguments = base64.b64encode(json.dumps([[text, 42], {}, {}]).encode()).decode()
    return {"headers": {"task": DELIVER}, "content-type": "application/json", "body": arguments}


@pytest.mark.parametrize("reader", READERS)
def test_reading_costs_time_in_proportion(reader: str) -> None:
    characters = 1_000 if "setting" in reader else 20_000  # each of them is many readers
    assert [told for unit in UNITS if (told := grows_too_fast(READERS[reader], unit, characters))] == []


def test_a_refusal_of_a_megabyte_costs_no_more_than_a_moment() -> None:
    for unit in UNITS:
        text = unit * (1_000_000 // len(unit))
        assert seconds(lambda text=text: refused(body={"message": text})) < 0.1, unit  # type: ignore[misc]


# Every pattern of ours ------------------------------------------------------------------------------------------------


USES = frozenset({"compile", "search", "match", "fullmatch", "sub", "subn", "split", "findall", "finditer"})
PACKAGE = Path(dispatcher.__file__).parent
WITHIN = {
    "cli.doctor_checks:_redis": "",  # the version that Redis gives, of one line
    "config.account:parse_rate_limit": "a rate limit",
    "config.agreement:stricter": "",  # the operator's own rules, which Postgres keeps
    "config.libpq:_check_parameter": "a setting's address",
    "config.settings:Settings": "",  # the rules of the settings: among the patterns below
    "config.settings:Settings._http": "a setting",
    "config.key_forms:encryption_keys": "",  # the operator's own setting, of bounded length
    "config.urls:_whole_number": "a setting's address",
    "logs.setup:secrets_of": "",  # the operator's own settings
    "importing.encoding:Encoding.shown": "an example of an encoding",
    "importing.number_format:shown_by": "a number format",
    "importing.rejects:_in_file_words": "a refused row",
    "importing.table:BrokenRow.padded_cells": "a row with blanks after its quotes",
    "importing.table:BrokenRow._broken_cell": "a row between quotes",
    "lead.phone:_plan": "a phone number",
    "lead.number_forms:NumberForms.__init__": "a text with an erased number",
    "lead.phone:Country._dials": "a phone number of the greatest length",
    "operator.edited_rows:_same": "a cell that was corrected",
    "sandbox.book:_campaign_id": "the sandbox's numbers",
    "sandbox.fault:Rule.__post_init__": "",  # the developer's own pattern
    "sandbox.fault:Rule.matches": "",  # as above, on numbers
    "sandbox.listing:_integer": "the sandbox's numbers",
    "store.rights:needed_by": "a refusal of Postgres",
    "store.rights:Refused.of": "a refusal of Postgres",
    "store.upgrade_plan:_form": "",  # the statements of our own revisions
    "store.upgrade_plan:_step": "",  # as above
    "store.trouble:Trouble.of": "words of Postgres",
    "store.trouble:Trouble._sentence": "words of Postgres",
}
"""Where a pattern is used within a function or a class, and the reader above that times it; none: with the reason."""


def uses() -> Iterator[tuple[str, str, str]]:
    """Each use of `re` in the package: its module, the function or class around it, and the name it is kept under."""
    for path in sorted(PACKAGE.rglob("*.py")):
        module = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        tree = ast.parse(path.read_text(encoding="utf-8"))
        renamed = [
            alias
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom | ast.Import)
            for alias in node.names
            if (getattr(node, "module", None) == "re") or (alias.name == "re" and alias.asname)
        ]
        assert not renamed, f"{module}: write `import re`, so that this test finds each pattern"
        yield from ((module, *where) for where in uses_in(tree, ()))


def uses_in(node: ast.AST, around: tuple[str, ...], kept: str = "") -> Iterator[tuple[str, str]]:
    for child in ast.iter_child_nodes(node):
        within, name = around, kept
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            within = (*around, child.name)
        if isinstance(child, ast.Assign | ast.AnnAssign) and not around:
            target = child.targets[0] if isinstance(child, ast.Assign) else child.target
            name = target.id if isinstance(target, ast.Name) else ""
        function = child.func if isinstance(child, ast.Call) else None
        within_function = bool(around)  # else it runs once, when the module is loaded, on our own text
        if (
            isinstance(function, ast.Attribute)
            and ast.unparse(function.value) == "re"
            and (function.attr == "compile" or (within_function and function.attr in USES))
        ):
            yield ".".join(around), name
        yield from uses_in(child, within, name)


def patterns() -> Iterator[tuple[str, "re.Pattern[str]"]]:
    """Each pattern that a module of ours keeps, and those of the settings."""
    for module in pkgutil.walk_packages(dispatcher.__path__, "dispatcher."):
        if module.name.endswith("__main__"):
            continue
        for name, value in vars(importlib.import_module(module.name)).items():
            for one in value if isinstance(value, tuple) else (value,):
                if isinstance(one, re.Pattern):
                    yield f"{module.name}.{name}", one
    yield "duplicate_rule", RULES.duplicate
    yield "balance_rule", RULES.balance


@cache
def ways() -> dict[str, set[str]]:
    """By the name that a pattern is kept under, the methods of it that the package calls."""
    called: dict[str, set[str]] = defaultdict(set)
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr in USES and isinstance(node.value, ast.Name):
                called[node.value.id].add(node.attr)
    return called


EVERY_WAY = frozenset({"fullmatch", "match", "search"})
BOUNDED = {
    "dispatcher.importing.number_format._LITERAL": "a number format",
    "dispatcher.lead.written_number._EXTENSION_AT_END": "a phone number",
    "dispatcher.lead.written_number._EXTENSION": "a phone number",
}
"""What meets only the 100 characters of a number or the 255 of its format, and the reader above that times it."""
PATTERNS = {value.pattern: (name, value) for name, value in patterns()}


def test_every_pattern_of_the_package_is_timed_here() -> None:
    kept = {name for name, _ in patterns()}
    unknown = [
        where
        for module, around, name in uses()
        if (where := f"{module}:{around or name}")
        if (where not in WITHIN if around or not name else f"dispatcher.{module}.{name}" not in kept)
    ]
    assert unknown == [], "name each in WITHIN, with the reader that times it"
    assert {*WITHIN.values(), *BOUNDED.values()} - {""} <= set(READERS)
    assert set(WITHIN) <= {f"{module}:{around}" for module, around, _ in uses()}, "one is no more"


@pytest.mark.parametrize("name", sorted({name for name, _ in PATTERNS.values()} - set(BOUNDED)))
def test_a_pattern_is_searched_for_in_time_in_proportion(name: str) -> None:
    """On texts of up to 2 000 characters: what meets longer ones is cut first."""
    calls = ways().get(name.rpartition(".")[2]) or EVERY_WAY

    def read(pattern: "re.Pattern[str]", text: str) -> None:
        subject = text if isinstance(pattern.pattern, str) else text.encode()
        other = subject + (b"\x7f" if isinstance(subject, bytes) else "\x7f")
        if "fullmatch" in calls:
            pattern.fullmatch(subject)
            pattern.fullmatch(other)
        if "match" in calls:
            pattern.match(other)
        if calls - {"fullmatch", "match"}:  # searching goes on after what was found
            pattern.findall(subject)
            pattern.findall(other)

    for known, pattern in PATTERNS.values():
        if known == name:
            assert [told for unit in UNITS if (told := grows_too_fast(partial(read, pattern), unit, 500))] == []


def test_a_quadratic_pattern_would_be_noticed() -> None:
    quadratic = re.compile(r"(?=[a.]*1)[a.]{24,}")

    # Three times: where a disturbance makes the short text slow, the long one is allowed more.
    assert any(grows_too_fast(lambda text: quadratic.sub("", text), ".", 1_000) for _ in range(3))
