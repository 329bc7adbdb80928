"""Whatever a server sends, an exchange comes back as a value, and a request that left is never called unsent."""

import json
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.config.settings import Settings
from dispatcher.decisions.absence import Doubt, judge
from dispatcher.decisions.hints import rate_hints
from dispatcher.decisions.listing import Page, read_page
from dispatcher.decisions.outcome import Kind, Outcome, Sent, classify
from dispatcher.decisions.reply import Reply
from dispatcher.decisions.window import Pass
from dispatcher.voicery.body import parse_body
from dispatcher.voicery.client import VoiceryClient
from tests.support.answering import Server
from tests.support.fuzzing import PHONE, TRIED, fuzzed, json_values, mutated, texts

SENT = Sent(42, PHONE)
RULES = Settings().rules
UNSENT = {Kind.NOT_SENT, Kind.GIVEN_BACK, Kind.BUG}
NAMES = (
    "data", "id", "phone_number", "campaign_id", "campaign", "status", "message", "errors", "error", "error_code",
    "detail", "title", "pointer", "field", "source", "variables", "secondary_contacts", "meta", "total", "per_page",
    "last_page", "current_page", "next_page_url", "retry_after", "code", "reason",
)  # fmt: skip
LEAD = {"id": 7, "phone_number": PHONE, "campaign_id": 42, "status": "new", "variables": {"a": "b"}}
documents = json_values(st.just(LEAD), st.just([LEAD, LEAD]), names=NAMES)
statuses = st.one_of(st.integers(100, 599), st.sampled_from([200, 201, 400, 401, 402, 409, 422, 429, 500, 503]))
headers = st.dictionaries(
    st.sampled_from(["retry-after", "date", "content-type", "x-ratelimit-reset", "x-ratelimit-remaining", "location"]),
    texts,
    max_size=4,
)


def sound(outcome: Outcome) -> None:
    """What is stored can be stored, and names nobody."""
    for text in (outcome.message, outcome.response, outcome.fingerprint):
        text.encode("utf-8")
        assert "\0" not in text
    assert PHONE not in outcome.message
    assert PHONE.removeprefix("+") not in outcome.message
    json.dumps(dict(outcome.evidence), allow_nan=False).encode("utf-8")


@fuzzed(300)
@given(status=statuses, body=documents, fields=headers)
def test_every_answer_means_something(status: int, body: object, fields: dict[str, str]) -> None:
    TRIED["answers"] += 1
    reply = Reply(status=status, body=storable(body), headers=fields, written=True)
    outcome = classify(reply, SENT, RULES)
    sound(outcome)
    assert outcome.kind not in UNSENT
    if outcome.kind is Kind.ACCEPTED:
        assert 200 <= status <= 299
    rate_hints(reply, datetime.now(UTC))


def storable(value: object) -> object:
    """The value as the client hands it over."""
    return parse_body(json.dumps(value).encode("utf-8", "surrogatepass")).value


@fuzzed(300)
@given(body=documents, bound=st.frozensets(st.integers(1, 9), max_size=3))
def test_every_list_is_read_or_is_none(body: object, bound: frozenset[int]) -> None:
    TRIED["lists"] += 1
    page = read_page(Reply(status=200, body=storable(body)))
    assert page is None or isinstance(page, Page)
    judge(
        Doubt(campaign_id=42, phone_number=PHONE, variables={"a": "b"}, watermark=3, reference=("a", "b")), page, bound
    )
    reading = Pass(42, 5)
    for _ in range(3):
        if not reading.over:
            reading.add(page)
    reading.window()


# Bytes on a wire ------------------------------------------------------------------------------------------------------

BODY = json.dumps({"data": LEAD}).encode()
ANSWERS = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY),
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY),
    b"HTTP/1.0 422 No\r\nConnection: close\r\n\r\n" + b'{"message":"bad","errors":{"phone_number":["is bad"]}}',
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 302 Found\r\nLocation: https://elsewhere.example/\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 429 Slow\r\nRetry-After: 30\r\nContent-Length: 0\r\n\r\n",
)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with closing(Server()) as server:
        yield server


@fuzzed(120)
@given(answer=st.one_of(mutated(*ANSWERS), st.binary(max_size=200)))
def test_whatever_comes_over_the_wire_is_a_reply_to_a_request_that_left(server: Server, answer: bytes) -> None:
    TRIED["answers on the wire"] += 1
    server.answer = answer
    client = VoiceryClient(
        base_url=server.url,
        token=lambda: "a-token",
        connect_timeout_seconds=2,
        read_timeout_seconds=2,
        deadline_seconds=4,
    )
    with closing(client):
        reply = client.create_lead(b'{"phone_number":"+12025550101","end":1}')
    assert reply.written
    assert (reply.status is None) != (reply.fault is None)
    outcome = classify(reply, SENT, RULES)
    sound(outcome)
    assert outcome.kind not in UNSENT
    read_page(reply)
