"""Answers made to harm: bombs cost bounded memory and leave the lead in doubt, and no answer says whom to ask next."""

import gzip
import json
import tracemalloc
from collections.abc import Iterator
from contextlib import closing

import pytest

from dispatcher.config.settings import Settings
from dispatcher.decisions.listing import read_page
from dispatcher.decisions.outcome import Kind, Sent, classify
from dispatcher.voicery.client import LIST_BODY_CAP, VoiceryClient
from tests.support.answering import Server

BODY = b'{"phone_number":"+12025550101","end":1}'
RULES = Settings().rules
MEGABYTE = 1 << 20
NINES = b"9" * 100_000
BOMBS = {
    "a gigabyte of zeros, packed twice": (b"gzip, gzip", gzip.compress(gzip.compress(b"0" * (256 * MEGABYTE), 1))),
    "256 MiB of blanks, packed": (b"gzip", gzip.compress(b" " * (256 * MEGABYTE), 1)),
    "a million open brackets": (b"identity", b"[" * 200_000),
    "objects in objects": (b"identity", b'{"a":' * 40_000 + b"1" + b"}" * 40_000),
    "a number of 100 000 digits": (b"identity", b'{"data":{"id":' + NINES + b"}}"),
    "an exponent of 100 000 digits": (b"identity", b'{"data":{"id":1e' + NINES + b"}}"),
    "no number": (b"identity", b'{"data":{"id":NaN,"phone_number":-Infinity}}'),
    "an id given twice": (b"identity", b'{"data":{"id":[],"id":' + NINES + b"}}"),
}


@pytest.fixture
def server() -> Iterator[Server]:
    with closing(Server()) as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[VoiceryClient]:
    made = VoiceryClient(
        base_url=server.url,
        token=lambda: "a-token",
        connect_timeout_seconds=5,
        read_timeout_seconds=20,
        deadline_seconds=30,
    )
    with closing(made):
        yield made


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_costs_bounded_memory_and_is_no_yes_with_an_id(bomb: str, server: Server, client: VoiceryClient) -> None:
    coding, body = BOMBS[bomb]
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: %b\r\nContent-Length: %d\r\n\r\n" % (coding, len(body))
    server.answer = head + body
    tracemalloc.start()
    try:
        outcome = classify(client.create_lead(BODY), Sent(42, "+12025550101"), RULES)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 64 * MEGABYTE
    assert outcome.kind in (Kind.UNKNOWN, Kind.CREATED_ID_UNKNOWN)
    assert outcome.voicery_lead_id is None


def test_a_list_that_is_packed_past_its_cap_shows_nothing(server: Server, client: VoiceryClient) -> None:
    body = gzip.compress(b'{"data":[' + b" " * (2 * LIST_BODY_CAP) + b'],"total":0,"last_page":1}')
    server.answer = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    assert read_page(client.list_leads(campaign_id=42)) is None


@pytest.mark.parametrize("where", ["next_page_url", "last_page_url", "path"])
def test_a_list_does_not_say_whom_to_ask_next(where: str, server: Server, client: VoiceryClient) -> None:
    with closing(Server()) as elsewhere:
        elsewhere.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]"
        body = json.dumps(
            {"data": [], "total": 0, "last_page": 1, where: f"{elsewhere.url}/user/leads?page=2"}
        ).encode()
        server.answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        page = read_page(client.list_leads(campaign_id=42))
        assert page is not None
        assert page.complete == (where != "next_page_url")
        assert (server.requests, elsewhere.requests) == (1, 0)
