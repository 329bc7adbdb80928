"""Everything that fails before the first byte of the request says so: `written` is False, and the server agrees."""

import socket
import ssl
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from dispatcher.decisions.reply import WireFault
from tests.voicery.conftest import SOON_SECONDS, Authority, MakeClient, timed
from tests.voicery.peer import Call, Peer, answer, answering

BODY = b'{"phone_number": "+12025550100", "campaign_id": 42}'


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def full_backlog() -> Iterator[int]:
    """A listener that accepts nobody and whose queue is full: a further SYN is dropped."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = []
        try:
            for _ in range(8):
                filler = socket.socket()
                fillers.append(filler)
                filler.setblocking(False)
                filler.connect_ex(listener.getsockname())
            yield int(listener.getsockname()[1])
        finally:
            for filler in fillers:
                filler.close()


def test_a_refused_port_is_refused_and_not_written(make_client: MakeClient) -> None:
    reply = make_client(f"http://127.0.0.1:{closed_port()}/api").create_lead(BODY)

    assert (reply.fault, reply.written, reply.status) == (WireFault.REFUSED, False, None)


def test_a_name_that_does_not_resolve_is_dns(make_client: MakeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)

    reply = make_client("https://voicery.invalid/api").create_lead(BODY)

    assert (reply.fault, reply.written, reply.detail) == (WireFault.DNS, False, "Name or service not known")


def test_a_resolver_that_hangs_is_left_after_the_connect_timeout(
    make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: released.wait(10) and [])
    started = time.monotonic()

    reply = make_client("https://voicery.invalid/api", connect_timeout_seconds=0.2).create_lead(BODY)

    released.set()
    assert (reply.fault, reply.written) == (WireFault.DNS, False)
    assert time.monotonic() - started < SOON_SECONDS


def test_a_label_too_long_for_any_name_is_dns_and_no_bug(make_client: MakeClient) -> None:
    reply = make_client("https://" + ".".join(["a" * 63] * 3 + ["b" * 61]) + "/api").create_lead(BODY)

    assert (reply.fault, reply.written) == (WireFault.DNS, False)


def test_an_unanswered_syn_is_a_connect_timeout(make_client: MakeClient) -> None:
    with full_backlog() as port:
        reply, seconds = timed(
            lambda: make_client(f"http://127.0.0.1:{port}/api", connect_timeout_seconds=0.3).create_lead(BODY)
        )

    assert (reply.fault, reply.written) == (WireFault.CONNECT_TIMEOUT, False)
    assert 0.3 <= seconds < SOON_SECONDS


def test_the_second_address_is_tried_when_the_first_refuses(
    make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Peer(answering(answer())) as peer:
        addresses = [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)) for port in (closed_port(), peer.port)
        ]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: addresses)

        reply = make_client("http://localhost/api").create_lead(BODY)

    assert reply.status == 200


def test_a_stalled_handshake_is_tls_and_not_written(make_client: MakeClient, authority: Authority) -> None:
    with Peer(Call.hold) as peer:
        client = make_client(peer.url.replace("http:", "https:"), connect_timeout_seconds=0.3)
        reply, seconds = timed(lambda: client.create_lead(BODY))

    assert (reply.fault, reply.written) == (WireFault.TLS, False)
    assert seconds < SOON_SECONDS


def test_a_handshake_that_drips_ends_with_the_connect_timeout(make_client: MakeClient) -> None:
    """A record header that never ends re-arms a per-read timeout for ever."""
    with Peer(lambda call: call.drip(b"\x16\x03\x03\x40\x00" + b"\x02" * 500, every=0.05)) as peer:
        client = make_client(peer.url.replace("http:", "https:"), connect_timeout_seconds=0.4)
        reply, seconds = timed(lambda: client.create_lead(BODY))

    assert (reply.fault, reply.written) == (WireFault.TLS, False)
    assert seconds < SOON_SECONDS


def test_a_peer_that_speaks_no_tls_is_tls(make_client: MakeClient) -> None:
    with Peer(lambda call: call.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as peer:
        reply = make_client(peer.url.replace("http:", "https:")).create_lead(BODY)

    assert (reply.fault, reply.written) == (WireFault.TLS, False)


def test_a_peer_that_resets_the_handshake_got_nothing(make_client: MakeClient) -> None:
    with Peer(Call.reset) as peer:
        reply = make_client(peer.url.replace("http:", "https:")).create_lead(BODY)

    # The reset may come before the handshake begins.
    assert reply.fault in (WireFault.TLS, WireFault.CONNECTION)
    assert not reply.written


@pytest.mark.parametrize(
    ("certificate", "detail"),
    [
        ({"host": "127.0.0.1", "self_signed": True}, "self"),
        ({"host": "127.0.0.1", "expired": True}, "expired"),
        ({"host": "127.0.0.2"}, "mismatch"),
        ({"host": "voicery.example"}, "mismatch"),
    ],
    ids=["self-signed", "expired", "another address", "another host"],
)
def test_a_wrong_certificate_gets_no_byte_of_the_request(
    make_client: MakeClient, authority: Authority, certificate: dict[str, object], detail: str
) -> None:
    with Peer(answering(answer()), tls=authority.issue(**certificate)) as peer:
        reply = make_client(peer.url, ca_bundle=str(authority.bundle)).create_lead(BODY)

    assert (reply.fault, reply.written) == (WireFault.TLS, False)
    assert detail in reply.detail
    assert "127.0.0" not in reply.detail
    assert "voicery.example" not in reply.detail
    assert peer.received == 0


def test_an_authority_outside_the_bundle_is_not_trusted(make_client: MakeClient, authority: Authority) -> None:
    with Peer(answering(answer()), tls=authority.issue("127.0.0.1")) as peer:
        reply = make_client(peer.url).create_lead(BODY)

    assert (reply.fault, reply.written, peer.received) == (WireFault.TLS, False, 0)


def test_tls_1_1_is_refused(make_client: MakeClient, authority: Authority) -> None:
    context = authority.issue("127.0.0.1")
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with Peer(answering(answer()), tls=context) as peer:
        reply = make_client(peer.url, ca_bundle=str(authority.bundle)).create_lead(BODY)

    assert (reply.fault, reply.written, peer.received) == (WireFault.TLS, False, 0)


def test_a_trusted_certificate_is_used_with_tls_1_2_or_newer(make_client: MakeClient, authority: Authority) -> None:
    versions = []

    def script(call: Call) -> None:
        versions.append(call.sock.version())  # type: ignore[attr-defined]  # a TLS socket
        answering(answer())(call)

    with Peer(script, tls=authority.issue("127.0.0.1")) as peer:
        client = make_client(peer.url, ca_bundle=str(authority.bundle))
        replies = [client.create_lead(BODY), client.create_lead(BODY)]

    assert [reply.status for reply in replies] == [200, 200]
    assert versions in (["TLSv1.2"], ["TLSv1.3"])  # one connection for both


def test_a_lease_that_is_too_short_gives_back_before_the_first_byte(make_client: MakeClient) -> None:
    with Peer(answering(answer())) as peer:
        client = make_client(peer.url)
        refused = client.create_lead(BODY, before_write=lambda: False)
        assert (refused.fault, refused.written, peer.received) == (WireFault.LEASE, False, 0)

        accepted = client.create_lead(BODY, before_write=lambda: True)

    assert accepted.status == 200
    assert peer.connections == 1  # the clean connection was kept


def test_before_write_is_asked_only_when_the_connection_stands(make_client: MakeClient, authority: Authority) -> None:
    asked = []

    def ask() -> bool:
        asked.append(True)
        return True

    with Peer(answering(answer()), tls=authority.issue("voicery.example")) as peer:
        client = make_client(peer.url, ca_bundle=str(authority.bundle))
        reply = client.create_lead(BODY, before_write=ask)

    assert reply.fault is WireFault.TLS
    assert asked == []


def test_an_exception_in_before_write_is_a_bug_and_not_written(make_client: MakeClient) -> None:
    def broken() -> bool:
        raise LookupError("+12025550100")

    with Peer(answering(answer())) as peer:
        reply = make_client(peer.url).create_lead(BODY, before_write=broken)

    assert (reply.fault, reply.written, reply.detail) == (WireFault.BUG, False, "LookupError")
    assert peer.received == 0
