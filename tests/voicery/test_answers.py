"""After the first byte every fault says `written`, and a status line that arrived is never lost again."""

import json
from urllib.parse import parse_qs

import pytest

from dispatcher.decisions.reply import BodyFault, Reply, WireFault
from tests.voicery.conftest import SOON_SECONDS, MakeClient, timed
from tests.voicery.peer import ACCEPTED, Call, Peer, answer, answering, answering_once

BODY = b'{"phone_number": "+12025550100", "campaign_id": 42}'


def post(make_client: MakeClient, peer: Peer, **settings: float) -> Reply:
    return make_client(peer.url, **settings).create_lead(BODY)


def test_an_accepted_lead_is_a_status_a_parsed_body_and_the_headers_that_matter(make_client: MakeClient) -> None:
    data = answer(
        "201 Created",
        None,
        "Date: Mon, 23 Nov 2026 06:00:00 GMT",
        "X-RateLimit-Limit: 100",
        "X-RateLimit-Remaining: 99",
        "X-RateLimit-Reset: 17",
        "Retry-After: 3",
        "Set-Cookie: session=1",
    )
    with Peer(answering(data)) as peer:
        reply, seconds = timed(lambda: post(make_client, peer))

    assert (reply.status, reply.fault, reply.body_fault, reply.written) == (201, None, None, True)
    assert reply.body == json.loads(ACCEPTED)
    assert reply.text == ACCEPTED.decode()
    assert reply.headers == {
        "content-type": "application/json",
        "date": "Mon, 23 Nov 2026 06:00:00 GMT",
        "x-ratelimit-limit": "100",
        "x-ratelimit-remaining": "99",
        "x-ratelimit-reset": "17",
        "retry-after": "3",
    }
    assert 0 < seconds < SOON_SECONDS


def test_the_request_is_one_plain_post_with_the_token(make_client: MakeClient) -> None:
    with Peer(answering(answer())) as peer:
        make_client(peer.url + "/").create_lead(BODY)

    head, _, body = peer.requests[0].partition(b"\r\n\r\n")
    first, *fields = head.decode().split("\r\n")
    assert first == "POST /api/user/lead HTTP/1.1"
    assert sorted(fields) == [
        "Accept-Encoding: identity",
        "Accept: application/json",
        "Authorization: Bearer canary-token-0123456789",
        f"Content-Length: {len(BODY)}",
        "Content-Type: application/json",
        f"Host: 127.0.0.1:{peer.port}",
        "User-Agent: voicery-dispatcher",
    ]
    assert body == BODY


def test_the_list_is_one_get_whose_values_are_encoded(make_client: MakeClient) -> None:
    with Peer(answering(answer(body=b'{"data": []}'))) as peer:
        reply = make_client(peer.url).list_leads(campaign_id=42, phone_number="+1 &page=9", page=2, per_page=50)

    assert reply.body == {"data": []}
    method, target, version = peer.requests[0].splitlines()[0].decode().split(" ")
    address, _, query = target.partition("?")
    fields = parse_qs(query, strict_parsing=True)
    assert (method, address, version) == ("GET", "/api/user/leads", "HTTP/1.1")
    assert len(fields.pop("_")[0]) == 12  # different each time, so that no cache answers
    assert fields == {"campaign_id": ["42"], "page": ["2"], "per_page": ["50"], "phone_number": ["+1 &page=9"]}
    assert b"cache-control: no-cache" in peer.requests[0].lower()
    assert b"content-" not in peer.requests[0].lower()


def _close_without_reading(call: Call) -> None:
    call.sock.recv(1)


def _reset_after_reading(call: Call) -> None:
    call.read_request()
    call.reset()


def _answer_nothing(call: Call) -> None:
    call.read_request()
    call.hold()


@pytest.mark.parametrize(
    ("script", "faults"),
    [
        pytest.param(_close_without_reading, {WireFault.RESET, WireFault.CLOSED}, id="closes without reading"),
        pytest.param(answering_once(b""), {WireFault.CLOSED}, id="closes after reading"),
        pytest.param(_reset_after_reading, {WireFault.RESET}, id="resets after reading"),
        pytest.param(answering_once(b"\x00\xffgarbage\r\n\r\n"), {WireFault.PROTOCOL}, id="garbage"),
        pytest.param(answering_once(b"HTTP/1.1 2"), {WireFault.PROTOCOL}, id="partial status line"),
        pytest.param(answering_once(b"HTTP/1.1 abc Huh\r\n\r\n"), {WireFault.PROTOCOL}, id="status of letters"),
        pytest.param(answering_once(b"HTTP/1.1 99999 Huh\r\n\r\n"), {WireFault.PROTOCOL}, id="five digits"),
        pytest.param(answering_once(b"HTTP/2.0 200 OK\r\n\r\n"), {WireFault.PROTOCOL}, id="another protocol"),
        pytest.param(answering_once(b"SSH-2.0-OpenSSH_9.6\r\n"), {WireFault.PROTOCOL}, id="another server"),
        pytest.param(answering_once(b"H" * 100_000), {WireFault.PROTOCOL}, id="endless status line"),
        pytest.param(_answer_nothing, {WireFault.READ_TIMEOUT}, id="no answer"),
    ],
)
def test_a_failure_after_the_first_byte_is_written(
    make_client: MakeClient, script: object, faults: set[WireFault]
) -> None:
    with Peer(script) as peer:  # type: ignore[arg-type]
        reply = post(make_client, peer, read_timeout_seconds=1.0)

    assert reply.fault in faults
    assert (reply.written, reply.status, reply.body) == (True, None, None)


CREATED = b"HTTP/1.1 201 Created\r\nContent-Type: application/json\r\n"


def _then_hold(data: bytes) -> object:
    def script(call: Call) -> None:
        call.read_request()
        call.send(data)
        call.hold()

    return script


def _then_reset(call: Call) -> None:
    call.read_request()
    call.send(CREATED + b"Content-Length: 500\r\n\r\n" + b"{" * 10)
    call.reset()


@pytest.mark.parametrize(
    ("script", "fault"),
    [
        pytest.param(answering_once(CREATED + b"Content-Length: 500\r\n\r\n{"), BodyFault.TRUNCATED, id="cut body"),
        pytest.param(
            answering_once(CREATED + b"Transfer-Encoding: chunked\r\n\r\n5\r\n{\r\n"),
            BodyFault.TRUNCATED,
            id="cut chunk",
        ),
        pytest.param(
            answering_once(CREATED + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n"),
            BodyFault.TRUNCATED,
            id="no last chunk",
        ),
        pytest.param(
            answering_once(CREATED + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n"),
            BodyFault.TRUNCATED,
            id="chunk size of letters",
        ),
        pytest.param(
            answering_once(CREATED + b"Transfer-Encoding: chunked\r\n\r\n-5\r\n{}\r\n"),
            BodyFault.TRUNCATED,
            id="negative chunk size",
        ),
        pytest.param(
            answering_once(CREATED + b"Content-Length: " + b"9" * 4000 + b"\r\n\r\n{}"),
            BodyFault.TRUNCATED,
            id="length of 4000 digits",
        ),
        pytest.param(
            answering_once(CREATED + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}"),
            BodyFault.FRAMING,
            id="two lengths",
        ),
        pytest.param(_then_reset, BodyFault.TRUNCATED, id="reset in the body"),
        pytest.param(_then_hold(CREATED + b"Content-Length: 500\r\n\r\n{"), BodyFault.TRUNCATED, id="body hangs"),
        pytest.param(_then_hold(CREATED + b"Content-Le"), BodyFault.TRUNCATED, id="headers hang"),
        pytest.param(answering_once(CREATED + b"Content-Le"), BodyFault.TRUNCATED, id="cut headers"),
        pytest.param(answering_once(CREATED + b"X-A: 1\r\n" * 5000 + b"\r\n{}"), BodyFault.OVERSIZE, id="5000 headers"),
        pytest.param(
            answering_once(CREATED + b"X: " + b"a" * 99_999 + b"\r\n\r\n{}"), BodyFault.OVERSIZE, id="long header"
        ),
        pytest.param(
            answering_once(answer("201 Created", b"\x1f\x8bbad", "Content-Encoding: gzip")),
            BodyFault.ENCODING,
            id="bad gzip",
        ),
        pytest.param(answering_once(answer("201 Created", b"<html>")), BodyFault.NOT_JSON, id="not JSON"),
        pytest.param(answering_once(answer("201 Created", b"")), BodyFault.NOT_JSON, id="empty"),
        pytest.param(answering_once(answer("201 Created", b"[" * 100_000)), BodyFault.NOT_JSON, id="depth bomb"),
    ],
)
def test_the_status_survives_whatever_happens_after_it(
    make_client: MakeClient, script: object, fault: BodyFault
) -> None:
    with Peer(script) as peer:  # type: ignore[arg-type]
        reply = post(make_client, peer, read_timeout_seconds=1.0)

    assert (reply.status, reply.body_fault, reply.body, reply.fault, reply.written) == (201, fault, None, None, True)


def test_headers_that_drip_end_with_the_deadline_and_the_status_is_kept(make_client: MakeClient) -> None:
    def script(call: Call) -> None:
        call.read_request()
        call.send(b"HTTP/1.1 201 Created\r\n")
        call.drip(b"X: " + b"a" * 1000, every=0.02)

    with Peer(script) as peer:
        reply, seconds = timed(lambda: post(make_client, peer, read_timeout_seconds=0.3, deadline_seconds=0.6))

    assert (reply.status, reply.body_fault, reply.written) == (201, BodyFault.DEADLINE, True)
    assert 0.6 <= seconds < SOON_SECONDS


def test_a_status_line_that_drips_ends_with_the_deadline(make_client: MakeClient) -> None:
    def script(call: Call) -> None:
        call.read_request()
        call.drip(b"HTTP/1.1 201 " + b"a" * 1000, every=0.02)

    with Peer(script) as peer:
        reply, seconds = timed(lambda: post(make_client, peer, read_timeout_seconds=0.3, deadline_seconds=0.6))

    assert (reply.fault, reply.status, reply.written) == (WireFault.DEADLINE, None, True)
    assert 0.6 <= seconds < SOON_SECONDS


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 1000\r\n\r\n", b"\r\n", b"Transfer-Encoding: chunked\r\n\r\n400\r\n"]
)
def test_a_body_that_drips_ends_with_the_deadline(make_client: MakeClient, framing: bytes) -> None:
    def script(call: Call) -> None:
        call.read_request()
        call.send(CREATED + framing)
        call.drip(b" " * 1000, every=0.02)

    with Peer(script) as peer:
        reply, seconds = timed(lambda: post(make_client, peer, read_timeout_seconds=0.3, deadline_seconds=0.6))

    assert (reply.status, reply.body_fault) == (201, BodyFault.DEADLINE)
    assert 0.6 <= seconds < SOON_SECONDS


def test_a_silence_that_reaches_the_deadline_first_is_the_deadline(make_client: MakeClient) -> None:
    with Peer(_answer_nothing) as peer:
        reply, seconds = timed(lambda: post(make_client, peer, read_timeout_seconds=3.0, deadline_seconds=0.3))

    assert (reply.fault, reply.written) == (WireFault.DEADLINE, True)
    assert 0.3 <= seconds < SOON_SECONDS


@pytest.mark.parametrize(
    ("clocks", "fault"),
    [
        ({"read_timeout_seconds": 0.3}, WireFault.READ_TIMEOUT),
        ({"deadline_seconds": 0.3}, WireFault.DEADLINE),
    ],
)
def test_a_peer_that_reads_nothing_ends_a_long_send(
    make_client: MakeClient, clocks: dict[str, float], fault: WireFault
) -> None:
    def script(call: Call) -> None:
        call.peer.stopped.wait(10)

    with Peer(script) as peer:
        reply = make_client(peer.url, **clocks).create_lead(b"x" * 50_000_000)

    assert (reply.fault, reply.written) == (fault, False)  # its last byte never left


def test_an_answer_given_before_the_body_was_read_counts(make_client: MakeClient) -> None:
    def script(call: Call) -> None:
        call.sock.recv(1000)
        call.send(answer("413 Content Too Large", b"{}"))

    with Peer(script) as peer:
        client = make_client(peer.url)
        replies = [client.create_lead(b"x" * 20_000_000) for _ in range(2)]

    assert [reply.status for reply in replies] == [413] * 2
    assert peer.connections == 2


@pytest.mark.parametrize("framing", ["length", "chunked", "until close"])
def test_a_body_of_a_gigabyte_costs_no_more_than_the_cap(make_client: MakeClient, framing: str) -> None:
    sent = 0

    def script(call: Call) -> None:
        nonlocal sent
        call.read_request()
        piece = b"x" * 65536
        match framing:
            case "length":
                call.send(CREATED + b"Content-Length: 1073741824\r\n\r\n")
            case "chunked":
                call.send(CREATED + b"Transfer-Encoding: chunked\r\n\r\n")
                piece = b"10000\r\n" + piece + b"\r\n"
            case _:
                call.send(CREATED + b"\r\n")
        while sent < 2**30 and not call.peer.client_left.is_set():
            call.send(piece)
            sent += len(piece)

    with Peer(script) as peer:
        reply = post(make_client, peer)

    assert (reply.status, reply.body_fault, reply.body) == (201, BodyFault.OVERSIZE, None)
    assert reply.text == "x" * 2048
    assert sent < 32 * 2**20  # what the kernel's buffers swallowed


def test_the_list_may_be_larger_than_a_lead_and_not_endless(make_client: MakeClient) -> None:
    fits = json.dumps({"data": ["x" * 3_000_000]}).encode()
    too_long = json.dumps({"data": ["x" * 5_000_000]}).encode()
    with Peer(answering(answer(body=fits))) as peer:
        assert make_client(peer.url).list_leads(campaign_id=1).body_fault is None
        assert make_client(peer.url).create_lead(BODY).body_fault is BodyFault.OVERSIZE
    with Peer(answering(answer(body=too_long))) as peer:
        assert make_client(peer.url).list_leads(campaign_id=1).body_fault is BodyFault.OVERSIZE


def test_a_flood_of_interim_answers_ends_by_bytes_not_by_patience(make_client: MakeClient) -> None:
    def script(call: Call) -> None:
        call.read_request()
        while not call.peer.client_left.is_set():
            call.send(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)

    with Peer(script) as peer:
        reply, seconds = timed(lambda: post(make_client, peer))

    assert (reply.fault, reply.written) == (WireFault.PROTOCOL, True)
    assert seconds < SOON_SECONDS


@pytest.mark.parametrize("interim", [b"100 Continue", b"102 Processing", b"103 Early Hints"])
def test_an_interim_answer_is_skipped(make_client: MakeClient, interim: bytes) -> None:
    with Peer(answering(b"HTTP/1.1 " + interim + b"\r\nLink: x\r\n\r\n" + answer("201 Created"))) as peer:
        replies = [post(make_client, peer) for _ in range(2)]

    assert [(reply.status, reply.body_fault) for reply in replies] == [(201, None)] * 2


def test_an_interim_answer_is_no_status(make_client: MakeClient) -> None:
    with Peer(answering_once(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n")) as peer:
        reply = post(make_client, peer)

    assert (reply.status, reply.fault) == (None, WireFault.CLOSED)


@pytest.mark.parametrize(
    "data",
    [
        answer("201 Created", version="HTTP/1.0"),
        CREATED.replace(b"1.1", b"1.0") + b"\r\n" + ACCEPTED,
        CREATED + b"\r\n" + ACCEPTED,
        CREATED + b"Content-Length: %d\r\n\r\n\xef\xbb\xbf%b" % (len(ACCEPTED) + 3, ACCEPTED),
        CREATED + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(ACCEPTED), ACCEPTED),
        CREATED
        + b"Transfer-Encoding: chunked\r\n\r\n1;a=b\r\n%b\r\n%x\r\n%b\r\n0\r\nX: y\r\n\r\n"
        % (ACCEPTED[:1], len(ACCEPTED) - 1, ACCEPTED[1:]),
        (CREATED + b"Content-Length: %d\r\n\r\n" % len(ACCEPTED)).replace(b"\r\n", b"\n") + ACCEPTED,
        answer("201", None, "Content-Encoding: identity"),
        answer("201 Created", None, "Content-Encoding: "),
    ],
    ids=[
        "1.0",
        "1.0 to the end",
        "1.1 to the end",
        "BOM",
        "chunked",
        "extensions",
        "bare LF",
        "no reason",
        "empty coding",
    ],
)
def test_every_honest_framing_is_read(make_client: MakeClient, data: bytes) -> None:
    with Peer(answering_once(data)) as peer:
        reply = post(make_client, peer)

    assert (reply.status, reply.body_fault, reply.body) == (201, None, json.loads(ACCEPTED))


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_an_answer_without_a_body_does_not_wait_for_one(make_client: MakeClient, status: str) -> None:
    with Peer(answering(f"HTTP/1.1 {status}\r\n\r\n".encode())) as peer:
        reply, seconds = timed(lambda: post(make_client, peer))

    assert (reply.status, reply.body_fault) == (int(status[:3]), BodyFault.NOT_JSON)
    assert seconds < SOON_SECONDS
