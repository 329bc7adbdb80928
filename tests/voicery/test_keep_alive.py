"""A connection is used again only while it can be trusted, and a dead one costs no POST."""

import os
import threading

import pytest

from dispatcher.decisions.reply import WireFault
from tests.support.waiting import wait_until
from tests.voicery.conftest import Authority, MakeClient
from tests.voicery.peer import Call, Peer, answer, answering, answering_once

BODY = b'{"phone_number": "+12025550100", "campaign_id": 42}'


def test_exchanges_in_a_row_share_one_connection(make_client: MakeClient) -> None:
    with Peer(answering(answer())) as peer:
        client = make_client(peer.url)
        statuses = [client.create_lead(BODY).status for _ in range(5)] + [client.list_leads(campaign_id=1).status]

    assert statuses == [200] * 6
    assert peer.connections == 1


def test_threads_share_the_client_and_no_connection_at_the_same_time(make_client: MakeClient) -> None:
    def script(call: Call) -> None:
        while request := call.read_request():
            call.send(answer(body=request.partition(b"\r\n\r\n")[2]))

    wrong: list[object] = []

    def work(number: int) -> None:
        for turn in range(50):
            body = {"lead": number * 1000 + turn}
            if client.create_lead(str(body).replace("'", '"').encode()).body != body:
                wrong.append(body)

    with Peer(script) as peer:
        client = make_client(peer.url)
        threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)

    assert wrong == []
    assert len(peer.requests) == 300
    assert peer.connections <= 6


def test_a_stale_connection_is_replaced_and_the_lead_posted_once(make_client: MakeClient) -> None:
    closed = threading.Event()

    def script(call: Call) -> None:
        call.read_request()
        call.send(answer())
        if call.number == 1:
            call.sock.close()
            closed.set()
        else:
            call.hold()

    with Peer(script) as peer:
        client = make_client(peer.url)
        first = client.create_lead(BODY)
        closed.wait(5)
        second = client.create_lead(BODY)

    assert (first.status, second.status) == (200, 200)
    assert (len(peer.requests), peer.connections) == (2, 2)


def test_a_stale_connection_whose_replacement_is_refused_was_never_written(make_client: MakeClient) -> None:
    with Peer(answering_once(answer())) as peer:
        client = make_client(peer.url)
        client.create_lead(BODY)
    reply = client.create_lead(BODY)

    assert (reply.fault, reply.written) == (WireFault.REFUSED, False)


def test_a_close_that_crosses_the_post_is_written_and_not_repeated(make_client: MakeClient) -> None:
    """The keep-alive race: the server took the second request, then closed."""

    def script(call: Call) -> None:
        call.read_request()
        call.send(answer())
        call.read_request()

    with Peer(script) as peer:
        client = make_client(peer.url)
        client.create_lead(BODY)
        reply = client.create_lead(BODY)

    assert (reply.fault, reply.written) == (WireFault.CLOSED, True)
    assert (len(peer.requests), peer.connections) == (2, 1)


def test_a_connection_idle_for_too_long_is_not_used_again(make_client: MakeClient) -> None:
    with Peer(answering(answer())) as peer:
        client = make_client(peer.url, idle_seconds=0.0)
        client.create_lead(BODY)
        client.create_lead(BODY)

    assert (len(peer.requests), peer.connections) == (2, 2)


@pytest.mark.parametrize(
    "data",
    [
        answer("200 OK", None, "Connection: close"),
        answer(version="HTTP/1.0"),
        answer() + b"HTTP/1.1 200 OK\r\n",  # bytes that belong to no request
        answer(body=b"x" * 300_000),  # an unread rest
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        answer("200 OK", b"x", "Content-Encoding: gzip").replace(b"Content-Length: 1", b"Content-Length: 2"),
    ],
    ids=["Connection: close", "HTTP/1.0", "surplus bytes", "oversize", "broken chunk", "cut"],
)
def test_a_connection_in_doubt_is_not_used_again(make_client: MakeClient, data: bytes) -> None:
    with Peer(answering(data)) as peer:
        client = make_client(peer.url, read_timeout_seconds=1.0)
        client.create_lead(BODY)
        client.create_lead(BODY)

    assert peer.connections == 2


def test_surplus_bytes_never_become_the_answer_of_the_next_lead(make_client: MakeClient) -> None:
    late = threading.Event()

    def script(call: Call) -> None:
        call.read_request()
        call.send(answer(body=b"1"))
        if call.number == 1:
            call.send(answer(body=b'"of nobody"'))
            late.set()
            call.hold()

    with Peer(script) as peer:
        client = make_client(peer.url)
        client.create_lead(BODY)
        late.wait(5)
        second = client.create_lead(BODY)

    assert second.body == 1
    assert peer.connections == 2


def test_tls_connections_are_kept_too_and_a_closed_one_is_noticed(
    make_client: MakeClient, authority: Authority
) -> None:
    closed = threading.Event()

    def script(call: Call) -> None:
        for _ in range(2):
            call.read_request()
            call.send(answer())
        call.sock.close()
        closed.set()

    with Peer(script, tls=authority.issue("127.0.0.1")) as peer:
        client = make_client(peer.url, ca_bundle=str(authority.bundle))
        statuses = [client.create_lead(BODY).status for _ in range(2)]
        closed.wait(5)
        statuses.append(client.create_lead(BODY).status)

    assert statuses == [200, 200, 200]
    assert peer.connections == 2


def test_close_ends_the_idle_connections(make_client: MakeClient) -> None:
    left = threading.Event()

    def script(call: Call) -> None:
        answering(answer())(call)
        left.set()

    with Peer(script) as peer:
        client = make_client(peer.url)
        client.create_lead(BODY)
        client.close()
        assert left.wait(60)
        assert client.create_lead(BODY).status == 200


def test_a_forked_child_does_not_use_its_parents_connection(make_client: MakeClient) -> None:
    with Peer(answering(answer())) as peer:
        client = make_client(peer.url)
        client.create_lead(BODY)
        child = os.fork()
        if child == 0:  # nothing but the exchange: pytest lives in the parent
            os._exit(0 if client.create_lead(BODY).status == 200 else 1)
        _, status = wait_until(lambda: (result := os.waitpid(child, os.WNOHANG))[0] and result) or (0, 1)
        assert os.waitstatus_to_exitcode(status) == 0
        assert peer.connections == 2
        assert client.create_lead(BODY).status == 200
        assert peer.connections == 2
