"""Only our own settings decide where a lead goes, and nothing that we say gives a person or the token away."""

import http.client
import logging
import pickle
import socket
import threading
from pathlib import Path
from typing import Any

import psutil
import pytest

from dispatcher.decisions.reply import BodyFault, WireFault
from dispatcher.errors import NotConfigured
from dispatcher.voicery import client as client_module
from dispatcher.voicery.client import VoiceryClient
from dispatcher.voicery.transport import BearerAuth
from tests.voicery.conftest import CLOCKS, SOON_SECONDS, TOKEN, Authority, MakeClient, timed
from tests.voicery.peer import Call, Peer, answer, answering, answering_once

PHONE = "+12025550100"
BODY = b'{"phone_number": "+12025550100", "campaign_id": 42}'


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_an_answer_and_the_other_host_hears_nothing(make_client: MakeClient, status: int) -> None:
    with Peer(answering(answer())) as other:
        location = f"Location: http://127.0.0.1:{other.port}/api/user/lead?phone={PHONE}"
        with Peer(answering(answer(f"{status} Moved", b"{}", location, "Set-Cookie: a=b"))) as peer:
            client = make_client(peer.url)
            posted = client.create_lead(BODY)
            listed = client.list_leads(campaign_id=42, phone_number=PHONE)

    assert (posted.status, listed.status) == (status, status)
    assert posted.headers["location"] == "/api/user/lead"
    assert other.connections == 0
    assert len(peer.requests) == 2
    assert b"cookie" not in peer.requests[1].lower()


def test_the_environment_changes_nothing(
    make_client: MakeClient, authority: Authority, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password else\ndefault login a password b\n")
    netrc.chmod(0o600)
    keys = tmp_path / "keys.log"
    nowhere = tmp_path / "nowhere.pem"
    with Peer(answering(answer())) as proxy, Peer(answering(answer()), tls=authority.issue("127.0.0.1")) as peer:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"):
            monkeypatch.setenv(name, str(nowhere))
        monkeypatch.setenv("NETRC", str(netrc))
        monkeypatch.setenv("SSLKEYLOGFILE", str(keys))
        client = make_client(peer.url, ca_bundle=str(authority.bundle))

        statuses = [client.create_lead(BODY).status, client.list_leads(campaign_id=1).status]

    assert statuses == [200, 200]
    assert all(f"Authorization: Bearer {TOKEN}\r\n".encode() in request for request in peer.requests)
    assert proxy.connections == 0
    assert not keys.exists()


def test_an_authority_named_only_by_the_environment_is_not_trusted(
    make_client: MakeClient, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.setenv(name, str(authority.bundle))
    with Peer(answering(answer()), tls=authority.issue("127.0.0.1")) as peer:
        reply = make_client(peer.url).create_lead(BODY)

    assert (reply.fault, peer.received) == (WireFault.TLS, 0)


def _relay(target: int) -> object:
    """A CONNECT proxy that reads the tunnel's request and then joins both sides."""

    def pump(source: socket.socket, sink: socket.socket) -> None:
        try:
            while piece := source.recv(65536):
                sink.sendall(piece)
        except OSError:
            pass

    def script(call: Call) -> None:
        call.read_request()
        with socket.create_connection(("127.0.0.1", target)) as onward:
            call.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=pump, args=(onward, call.sock), daemon=True)
            back.start()
            pump(call.sock, onward)

    return script


def test_a_proxy_that_is_set_sees_the_host_and_no_token_or_lead(make_client: MakeClient, authority: Authority) -> None:
    with (
        Peer(answering(answer()), tls=authority.issue("127.0.0.1")) as peer,
        Peer(_relay(peer.port)) as proxy,  # type: ignore[arg-type]
    ):
        client = make_client(
            peer.url, ca_bundle=str(authority.bundle), proxy=f"http://user:p%40ss@127.0.0.1:{proxy.port}"
        )
        reply = client.create_lead(BODY)

    assert (reply.status, len(peer.requests)) == (200, 1)
    assert proxy.requests == [
        f"CONNECT 127.0.0.1:{peer.port} HTTP/1.1\r\nHost: 127.0.0.1:{peer.port}\r\n"
        "Proxy-Authorization: Basic dXNlcjpwQHNz\r\n\r\n".encode()
    ]


@pytest.mark.parametrize(
    "data",
    [b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\nsurplus", b"garbage\r\n", b""],
    ids=["407", "surplus bytes", "garbage", "closed"],
)
def test_a_proxy_that_fails_means_not_written(
    make_client: MakeClient, data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[http.client.HTTPResponse] = []

    class Response(http.client.HTTPResponse):
        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            read.append(self)

    monkeypatch.setattr(http.client, "HTTPResponse", Response)
    with Peer(answering_once(data)) as proxy:
        reply = make_client("https://voicery.example/api", proxy=f"http://127.0.0.1:{proxy.port}").create_lead(BODY)

    assert (reply.fault, reply.written) == (WireFault.CONNECTION, False)
    # When it is freed it flushes what it still has; since Python 3.13 it then complains that this is closed.
    assert [response.fp for response in read] == [None]


def test_a_proxy_that_drips_ends_with_the_connect_timeout(make_client: MakeClient) -> None:
    def script(call: Call) -> None:
        call.read_request()
        call.drip(b"HTTP/1.1 200 " + b"x" * 1000, every=0.02)

    with Peer(script) as proxy:
        client = make_client(
            "https://voicery.example/api", proxy=f"http://127.0.0.1:{proxy.port}", connect_timeout_seconds=0.4
        )
        reply, seconds = timed(lambda: client.create_lead(BODY))

    assert (reply.fault, reply.written) == (WireFault.CONNECT_TIMEOUT, False)
    assert seconds < SOON_SECONDS


def test_the_token_is_read_at_each_use(make_client: MakeClient) -> None:
    tokens = iter(["checked-at-construction", "old", "new"])
    with Peer(answering(answer())) as peer:
        client = make_client(peer.url, token=lambda: next(tokens))
        client.create_lead(BODY)
        client.create_lead(BODY)

    assert b"Authorization: Bearer old\r\n" in peer.requests[0]
    assert b"Authorization: Bearer new\r\n" in peer.requests[1]


UNUSABLE_TOKENS = ["", "a\r\nX-Evil: 1", "a\nb", "a\0b", "tok\u20acn", "with space", "caf\u00e9"]


@pytest.mark.parametrize("token", UNUSABLE_TOKENS)
def test_an_unusable_token_is_refused_when_the_client_is_made(token: str) -> None:
    with pytest.raises(NotConfigured, match="VOICERY_API_TOKEN") as caught:
        VoiceryClient(base_url="https://voicery.example/api", token=lambda: token, **CLOCKS)

    assert not token or token not in str(caught.value)


@pytest.mark.parametrize("token", UNUSABLE_TOKENS)
def test_a_token_that_became_unusable_is_a_bug_reply_and_nothing_is_sent(make_client: MakeClient, token: str) -> None:
    tokens = iter(["good", token])
    with Peer(answering(answer())) as peer:
        reply = make_client(peer.url, token=lambda: next(tokens)).create_lead(BODY)

    assert (reply.fault, reply.written, reply.detail) == (WireFault.BUG, False, "NotConfigured")
    assert peer.connections == 0


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"base_url": "http://voicery.example/api"}, "https"),
        ({"base_url": "https://a:b@voicery.example/api"}, "user name"),
        ({"base_url": "https://voicery.example/api", "proxy": "http://user:hush@proxy"}, "proxy"),
        ({"base_url": "https://voicery.example/api", "proxy": "socks5://user:hush@proxy:1"}, "proxy"),
        ({"base_url": "http://127.0.0.1/api", "proxy": "http://127.0.0.1:8080"}, "https"),
        ({"base_url": "https://voicery.example/api", "ca_bundle": "/nonexistent.pem"}, "CA bundle"),
        ({"base_url": "https://voicery.example/api", "ca_bundle": __file__}, "CA bundle"),
    ],
)
def test_an_unusable_setting_is_named_and_not_repeated(settings: dict[str, str], words: str) -> None:
    with pytest.raises(NotConfigured, match=words) as caught:
        VoiceryClient(token=lambda: TOKEN, **CLOCKS, **settings)  # type: ignore[arg-type]

    assert "hush" not in str(caught.value)
    assert "voicery.example" not in str(caught.value)


def test_the_token_is_masked_and_not_pickled() -> None:
    auth = BearerAuth(lambda: TOKEN)

    assert TOKEN not in f"{auth!r} {auth}"
    with pytest.raises(TypeError):
        pickle.dumps(auth)


def test_no_reply_and_no_log_record_tells_the_token_the_number_or_the_address(
    make_client: MakeClient, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)
    scripts = [
        answering_once(b""),
        answering_once(b"garbage\r\n"),
        answering_once(b"HTTP/1.1 201 Created\r\nContent-Length: 9\r\n\r\n{"),
        Call.reset,
        answering(answer("422 Unprocessable", b"{}")),
    ]
    said = []
    for script in scripts:
        with Peer(script) as peer:
            client = make_client(peer.url)
            said += [client.create_lead(BODY), client.list_leads(campaign_id=42, phone_number=PHONE)]
        said.append(client.create_lead(BODY))  # refused

    told = f"{said}{[record.getMessage() for record in caplog.records]}"
    assert TOKEN not in told
    assert "2025550100" not in told
    assert "127.0.0.1" not in told
    assert caplog.records == []


def test_a_bug_after_the_status_line_keeps_the_status(make_client: MakeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError(PHONE)

    monkeypatch.setattr(client_module.bodies, "read", broken)
    with Peer(answering(answer("201 Created"))) as peer:
        reply = make_client(peer.url).create_lead(BODY)

    assert (reply.status, reply.fault, reply.body_fault, reply.written) == (201, None, BodyFault.BUG, True)
    assert reply.detail == "ZeroDivisionError"


def test_an_interrupt_passes_and_leaves_no_connection_behind(make_client: MakeClient) -> None:
    """A TERM in a prefork child raises SystemExit in the middle of an exchange."""

    def interrupted() -> bool:
        raise SystemExit(PHONE)

    descriptors = _open_descriptors()
    with Peer(answering(answer())) as peer:
        client = make_client(peer.url)
        with pytest.raises(SystemExit):
            client.create_lead(BODY, before_write=interrupted)
        assert peer.received == 0
    assert _open_descriptors() == descriptors


def _open_descriptors() -> int:
    return psutil.Process().num_fds()
