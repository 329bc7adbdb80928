"""Files, messages, settings and leads of any content are taken, or refused by an error that quotes no secret."""

import base64
import gzip
import io
import json
from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from dispatcher.broker.connection import DELIVER, LOOKUP
from dispatcher.broker.doorbell import Ring
from dispatcher.broker.envelope import read_ring
from dispatcher.config.environment import ACCOUNT_VARIABLES, TOKENS, UnusableSettings, variable
from dispatcher.config.secret_files import secrets
from dispatcher.config.settings import Settings
from dispatcher.errors import InvalidLead
from dispatcher.importing import source
from dispatcher.importing.columns import ImportOptions
from dispatcher.importing.lead_file import open_leads
from dispatcher.lead.lead import Lead
from dispatcher.lead.options import ACCOUNT_NAME, SubmitOptions
from dispatcher.lead.phone import Country
from tests.support.fuzzing import PHONE, TRIED, fuzzed, json_values, mutated, texts

# Files ----------------------------------------------------------------------------------------------------------------

TABLE = f'phone_number,campaign_id,customer_name,contact1_phone_number\n{PHONE},42,Ada,\n"{PHONE}",42,"Bo ""B"" Li",\n'
SEMICOLONS = f"Telefon;Vorname;Größe\r\n{PHONE};Zoë;1,80\r\n0202 555 0101;Ünal;\r\n"
LINES = json.dumps({"phone_number": PHONE, "campaign_id": 42, "variables": {"a": "b"}}) + "\n"
FILES = (
    TABLE.encode(),
    SEMICOLONS.encode("cp1252"),
    SEMICOLONS.encode("utf-16"),
    b"\xef\xbb\xbf" + TABLE.replace(",", "\t").encode(),
    LINES.encode() * 2,
    gzip.compress(TABLE.encode(), mtime=0),
)


@fuzzed(150)
@given(
    content=st.one_of(mutated(*FILES), st.binary(max_size=300)),
    suffix=st.sampled_from([".csv", ".tsv", ".jsonl", ".txt", ""]),
    country=st.sampled_from([None, "US", "DE"]),
)
def test_every_file_is_read_or_refused(content: bytes, suffix: str, country: str | None) -> None:
    TRIED["files"] += 1
    options = ImportOptions(campaign_id=42, country=Country(country) if country else None)
    with suppress(source.UnreadableFile), source.open_source(source.STDIN, io.BytesIO(content)) as opened:
        named = source.Source(f"file{suffix}", opened.digest, opened.encoding, opened.lines, opened._bytes)
        with open_leads(named, options) as file:
            for row in file.rows:
                try:
                    lead, given_options = file.read(row)
                    Lead.parse(lead)
                    SubmitOptions.parse(given_options)
                except InvalidLead as refusal:
                    assert refusal.errors
                    str(refusal).encode("utf-8")


# Leads ----------------------------------------------------------------------------------------------------------------

FIELDS = ("phone_number", "campaign_id", "variables", "allow_dupplicate", "secondary_contacts", "id", "priority")


@fuzzed(300)
@given(lead=json_values(st.just(PHONE), st.just(42), names=FIELDS), options=json_values(names=(*FIELDS, "not_before")))
def test_every_lead_is_taken_or_refused(lead: object, options: object) -> None:
    TRIED["leads"] += 1
    for parse, value in ((Lead.parse, lead), (SubmitOptions.parse, options)):
        try:
            parse(value)  # type: ignore[arg-type]
        except InvalidLead as refusal:
            assert refusal.errors
            str(refusal).encode("utf-8")


# Messages -------------------------------------------------------------------------------------------------------------

NAMES = ("headers", "body", "task", "content-type", "content-encoding", "properties", "eta", "callbacks", "timelimit")


def message(arguments: object, task: object) -> dict[str, object]:
    body = base64.b64encode(json.dumps(arguments).encode("utf-8", "surrogatepass")).decode()
    return {"headers": {"task": task}, "content-type": "application/json", "body": body}


arguments = st.tuples(
    st.lists(st.one_of(texts, st.integers(), st.just("default")), max_size=3), st.just({}), st.just({})
)
messages = st.one_of(
    json_values(names=NAMES),
    st.builds(message, json_values(), st.sampled_from([DELIVER, LOOKUP, None])),
    st.builds(message, arguments.map(list), st.sampled_from([DELIVER, LOOKUP])),
)


@fuzzed(300)
@given(raw=messages)
def test_every_message_is_a_doorbell_or_is_dropped(raw: object) -> None:
    TRIED["messages"] += 1
    try:
        ring = read_ring(raw)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):  # what the channel drops
        return
    assert isinstance(ring, Ring)
    assert ring.task in (DELIVER, LOOKUP)
    for account in ring.args[:1]:
        assert ACCOUNT_NAME.fullmatch(str(account))


# Settings -------------------------------------------------------------------------------------------------------------

VARIABLES = (*(variable(name) for name in Settings.expectations()), *ACCOUNT_VARIABLES, "VOICERY_API_TOKEN__SALES")
FORMS = (
    "1",
    "0.5",
    "true",
    "100/minute; 20/10 seconds",
    "https://localhost/api",
    "redis://h/0",
    "postgresql://u:p@h/d",
)
CANARY = "CANARY-of-the-settings"
SECRETS = {*map(variable, secrets(Settings.model_fields)), *TOKENS, "VOICERY_API_TOKEN__SALES"}
values = st.one_of(
    texts,
    st.sampled_from(FORMS),
    mutated(*(form.encode() for form in FORMS)).map(lambda raw: raw.decode("utf-8", "replace")),
).map(lambda text: text.replace("\0", ""))


@fuzzed(200)
@given(environ=st.dictionaries(st.sampled_from(VARIABLES), values, max_size=5), canary=st.booleans())
def test_every_environment_is_taken_or_refused_without_its_values(environ: dict[str, str], *, canary: bool) -> None:
    TRIED["settings"] += 1
    if canary:
        environ = {name: f"{text}{CANARY}" if name in SECRETS else text for name, text in environ.items()}
    try:
        settings = Settings.from_environment(environ)
    except UnusableSettings as refusal:
        assert refusal.errors
        assert CANARY not in str(refusal)
    else:
        assert CANARY not in f"{settings} {settings!r} {settings.model_dump()}"
