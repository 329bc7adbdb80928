"""Every fault, seen from the other end of the wire, with what it did to the book."""

import asyncio
import gzip
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from dispatcher.sandbox.fault import LIST_FAULTS, FaultName, Rule, When
from dispatcher.sandbox.log import read_log
from dispatcher.sandbox.options import SandboxOptions
from dispatcher.sandbox.plan import FaultPlan
from dispatcher.sandbox.server import running
from tests.sandbox.client import PATIENCE_SECONDS, Dial, Start, Wire, lead
from tests.support.waiting import wait_until

BOTH = pytest.mark.parametrize(("when", "created"), [(When.BEFORE, 0), (When.AFTER, 1)])
STATUSES = {
    FaultName.INTERNAL_ERROR: 500,
    FaultName.INTERNAL_ERROR_HTML: 500,
    FaultName.BAD_GATEWAY: 502,
    FaultName.UNAVAILABLE: 503,
    FaultName.GATEWAY_TIMEOUT: 504,
}
REFUSALS = {
    FaultName.UNAUTHORIZED: 401,
    FaultName.NO_BALANCE: 402,
    FaultName.FORBIDDEN: 403,
    FaultName.NOT_FOUND: 404,
    FaultName.METHOD_NOT_ALLOWED: 405,
    FaultName.UNPROCESSABLE: 422,
    FaultName.THROTTLED: 429,
    FaultName.DUPLICATE: 409,
}


def body_of(answer: bytes) -> bytes:
    return answer.partition(b"\r\n\r\n")[2]


@BOTH
def test_hang_is_silence_with_the_connection_open(start: Start, dial: Dial, when: When, created: int) -> None:
    api = start(faults=(Rule(fault=FaultName.HANG, when=when),))
    wire = dial(api.sandbox)
    wire.send()
    wait_until(lambda: api.sandbox.log)
    assert wire.is_silent()
    assert (len(api.sandbox.leads), api.sandbox.log[0].status) == (created, None)


@BOTH
def test_reset_is_a_tcp_reset(start: Start, dial: Dial, when: When, created: int) -> None:
    api = start(faults=(Rule(fault=FaultName.RESET, when=when),))
    wire = dial(api.sandbox)
    wire.send()
    with pytest.raises(ConnectionResetError):
        wire.read_to_end()
    assert len(api.sandbox.leads) == created


@BOTH
def test_close_is_an_orderly_end_without_a_byte(start: Start, dial: Dial, when: When, created: int) -> None:
    api = start(faults=(Rule(fault=FaultName.CLOSE, when=when),))
    wire = dial(api.sandbox)
    wire.send()
    assert wire.read_to_end() == b""
    assert len(api.sandbox.leads) == created


@BOTH
def test_garbage_is_not_http(start: Start, dial: Dial, when: When, created: int) -> None:
    api = start(faults=(Rule(fault=FaultName.GARBAGE, when=when),))
    wire = dial(api.sandbox)
    wire.send()
    received = wire.read_to_end()
    assert received
    assert not received.startswith(b"HTTP/")
    assert len(api.sandbox.leads) == created


@BOTH
@pytest.mark.parametrize("fault", STATUSES)
def test_server_errors_strike_before_or_after(start: Start, fault: FaultName, when: When, created: int) -> None:
    api = start(faults=(Rule(fault=fault, when=when),))
    answer = api.post()
    assert answer.status_code == STATUSES[fault]
    assert len(api.sandbox.leads) == created
    entry = api.sandbox.log[0]
    assert (entry.fault, entry.status, entry.effect) == (fault, STATUSES[fault], "created" if created else "none")


def test_500_comes_as_json_or_as_a_page(start: Start) -> None:
    api = start(faults=(Rule(fault=FaultName.INTERNAL_ERROR), Rule(fault=FaultName.INTERNAL_ERROR_HTML)))
    assert "error" in api.post(lead(allow_dupplicate=True)).json()
    assert api.post(lead(allow_dupplicate=True)).headers["Content-Type"] == "text/html"


@pytest.mark.parametrize("fault", REFUSALS)
def test_refusals_create_nothing_unless_told_to(start: Start, fault: FaultName) -> None:
    api = start(faults=(Rule(fault=fault),))
    assert api.post().status_code == REFUSALS[fault]
    assert api.sandbox.leads == []


def test_no_balance_comes_in_both_known_forms(start: Start) -> None:
    api = start(faults=(Rule(fault=FaultName.NO_BALANCE), Rule(fault=FaultName.NO_BALANCE, status=422)))
    answers = [api.post(), api.post()]
    assert [answer.status_code for answer in answers] == [402, 422]
    assert {answer.json()["error_code"] for answer in answers} == {"INSUFFICIENT_BALANCE"}


@pytest.mark.parametrize("retry_after", ["7", "-5", "999999999", "Wed, 21 Oct 2037 07:28:00 GMT", "soon"])
@pytest.mark.parametrize("fault", [FaultName.THROTTLED, FaultName.UNAVAILABLE])
def test_retry_after_is_sent_as_given(start: Start, fault: FaultName, retry_after: str) -> None:
    api = start(faults=(Rule(fault=fault, retry_after=retry_after),))
    assert api.post().headers["Retry-After"] == retry_after


def test_retry_after_can_be_left_out(start: Start) -> None:
    api = start(faults=(Rule(fault=FaultName.THROTTLED, retry_after=None),))
    answer = api.post()
    assert "Retry-After" not in answer.headers
    assert answer.json() == {"message": "Too Many Attempts."}


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_point_where_they_are_told(start: Start, status: int) -> None:
    api = start(faults=(Rule(fault=FaultName.REDIRECT, status=status, location="http://127.0.0.1:9/elsewhere"),))
    answer = api.post()
    assert (answer.status_code, answer.headers["Location"]) == (status, "http://127.0.0.1:9/elsewhere")
    assert api.sandbox.leads == []


def test_a_cut_body_ends_before_its_announced_length(start: Start, dial: Dial) -> None:
    api = start(faults=(Rule(fault=FaultName.CUT_BODY),))
    wire = dial(api.sandbox)
    wire.send()
    received = wire.read_to_end()
    announced = int(received.split(b"Content-Length: ")[1].split(b"\r\n")[0])
    assert received.startswith(b"HTTP/1.1 200 OK\r\n")
    assert 0 < len(body_of(received)) < announced
    assert len(api.sandbox.leads) == 1


def test_slow_headers_come_byte_by_byte(start: Start, dial: Dial) -> None:
    api = start(faults=(Rule(fault=FaultName.SLOW_HEADERS, interval_seconds=0.2),))
    wire = dial(api.sandbox)
    wire.send()
    assert wire.connection.recv(65536) == b"H"
    assert wire.connection.recv(65536) == b"T"


def test_a_slow_body_comes_byte_by_byte_after_whole_headers(start: Start, dial: Dial) -> None:
    api = start(faults=(Rule(fault=FaultName.SLOW_BODY, interval_seconds=0.2),))
    wire = dial(api.sandbox)
    wire.send()
    first = b""
    while b"\r\n\r\n" not in first:
        first += wire.connection.recv(65536)
    assert len(body_of(first)) <= 1
    assert len(wire.connection.recv(65536)) == 1


def test_a_drip_comes_to_its_end(start: Start, dial: Dial) -> None:
    api = start(faults=(Rule(fault=FaultName.SLOW_BODY, interval_seconds=0.0),))
    wire = dial(api.sandbox)
    wire.send()
    assert orjson.loads(body_of(wire.read_to_end()))["data"]["id"] == 1


def test_a_huge_body_is_as_large_as_asked_and_valid(start: Start) -> None:
    api = start(faults=(Rule(fault=FaultName.HUGE_BODY, size_bytes=3_000_000),))
    answer = api.post()
    assert len(answer.content) == 3_000_000
    assert answer.json()["data"]["id"] == 1


def test_a_client_that_leaves_a_huge_body_harms_nobody(start: Start, dial: Dial) -> None:
    api = start(faults=(Rule(fault=FaultName.HUGE_BODY),))
    wire = dial(api.sandbox)
    wire.send()
    assert wire.connection.recv(1024)
    wire.connection.shutdown(socket.SHUT_RDWR)
    wire.connection.close()
    assert api.post(lead("+12025550150")).status_code == 200


def test_bad_gzip_is_announced_and_is_none(start: Start) -> None:
    api = start(faults=(Rule(fault=FaultName.BAD_GZIP),))
    answer = api.post(stream=True)
    assert answer.headers["Content-Encoding"] == "gzip"
    with pytest.raises(gzip.BadGzipFile):
        gzip.decompress(answer.raw.read(decode_content=False))


def test_delay_is_the_true_answer_later(start: Start) -> None:
    api = start(faults=(Rule(fault=FaultName.DELAY, seconds=0.3),))
    begun = time.monotonic()
    assert api.post().json()["data"]["id"] == 1
    assert time.monotonic() - begun >= 0.3


@pytest.mark.parametrize(
    ("fault", "look"),
    [
        (FaultName.NO_ID, lambda data: "id" not in data),
        (FaultName.STRING_ID, lambda data: data["id"] == "1"),
        (FaultName.WRONG_CAMPAIGN, lambda data: data["campaign_id"] == 43 and data["campaign"]["id"] == 43),
        (FaultName.WRONG_NUMBER, lambda data: data["phone_number"] == "+12025550101"),
    ],
)
def test_an_answer_can_lie_about_a_lead_that_is_right(
    start: Start, fault: FaultName, look: Callable[[Any], Any]
) -> None:
    api = start(faults=(Rule(fault=fault),))
    answer = api.post()
    assert answer.status_code == 200
    assert look(answer.json()["data"])
    (kept,) = api.sandbox.leads
    assert (kept.id, kept.campaign_id, kept.phone_number) == (1, 42, "+12025550100")


def test_a_200_need_not_be_json(start: Start) -> None:
    api = start(faults=(Rule(fault=FaultName.NOT_JSON),))
    answer = api.post()
    assert answer.status_code == 200
    with pytest.raises(orjson.JSONDecodeError):
        orjson.loads(answer.content)
    assert len(api.sandbox.leads) == 1


def test_any_answer_can_be_dictated(start: Start) -> None:
    text = '{"data": {"id": 1, "note": "\\u0000", "n": NaN}}'
    api = start(faults=(Rule(fault=FaultName.ANSWER, status=418, body=text, headers={"X-Odd": "yes"}),))
    answer = api.post()
    assert (answer.status_code, answer.text, answer.headers["X-Odd"]) == (418, text, "yes")


def test_late_loses_the_answer_and_creates_afterwards(start: Start, dial: Dial) -> None:
    rule = Rule(fault=FaultName.LATE, seconds=0.3, answer=FaultName.CLOSE)
    api = start(faults=(rule,))
    wire = dial(api.sandbox)
    wire.send()
    assert wire.read_to_end() == b""
    assert api.sandbox.leads == []
    wait_until(lambda: api.sandbox.leads)
    first, second = api.sandbox.log
    assert (first.effect, first.lead_id, first.fault) == ("none", None, "late")
    assert (second.effect, second.lead_id, second.request) == ("late", 1, first.request)
    assert second.at - first.at >= 0.3


def test_late_comes_although_the_client_has_left(start: Start, dial: Dial) -> None:
    api = start(faults=(Rule(fault=FaultName.LATE, seconds=0.2),))
    wire = dial(api.sandbox)
    wire.send()
    wait_until(lambda: api.sandbox.log)
    wire.connection.close()
    wait_until(lambda: api.sandbox.leads)


def test_late_is_refused_if_the_number_came_meanwhile(start: Start) -> None:
    api = start(faults=(Rule(fault=FaultName.LATE, seconds=0.2, answer=FaultName.BAD_GATEWAY),))
    assert api.post().status_code == 502
    assert api.post().status_code == 200
    wait_until(lambda: len(api.sandbox.log) == 3)
    assert [entry.effect for entry in api.sandbox.log] == ["none", "created", "refused"]


def test_a_hang_does_not_hold_up_the_end_of_the_sandbox(start: Start, dial: Dial) -> None:
    api = start(faults=(Rule(fault=FaultName.HANG),))
    wire = dial(api.sandbox)
    wire.send()
    wait_until(lambda: api.sandbox.log)
    begun = time.monotonic()
    api.sandbox.__exit__(None, None, None)
    assert time.monotonic() - begun < 60  # it would hang for an hour


def test_a_hang_ends_with_its_client(tmp_path: Path) -> None:
    """Otherwise a long chaos run would pile up an hour of hung requests."""
    options = SandboxOptions(faults=(Rule(fault=FaultName.HANG),))
    log = tmp_path / "log.jsonl"

    async def until(condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not condition():  # noqa: ASYNC110 - the condition belongs to others, who set no event
                await asyncio.sleep(0.005)

    async def scenario() -> None:
        async with running(options, FaultPlan(options.faults), log) as (_, port):
            idle = len(asyncio.all_tasks())
            with socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS) as connection:
                Wire(connection).send()
                await until(lambda: read_log(log))
                assert len(asyncio.all_tasks()) > idle
            await until(lambda: len(asyncio.all_tasks()) == idle)

    asyncio.run(scenario())


def test_no_fault_was_forgotten_here(request: pytest.FixtureRequest) -> None:
    """Each name of a fault is said in this file or in that of the list."""
    text = "".join(path.read_text() for path in request.path.parent.glob("test_*.py"))
    assert [fault.name for fault in FaultName if f"FaultName.{fault.name}" not in text] == []
    assert LIST_FAULTS


def test_a_sandbox_that_is_calm_again_answers_everything(start: Start) -> None:
    api = start(chaos=1.0, seed=1, faults=(Rule(fault=FaultName.FORBIDDEN),))
    assert api.post().status_code == 403

    api.sandbox.calm()

    answers = [api.post(lead(phone_number=f"+1202555010{number}")) for number in range(5)]
    assert [answer.status_code for answer in answers] == [200] * 5
