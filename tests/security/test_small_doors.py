"""Certificates without a host, pages of other sites, and requests that were never meant to be answered."""

import datetime as dt
import http.client
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote_plus

import pytest
import redis
from celery import Celery
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from dispatcher.broker.connection import REDIS_URL_OPTION, TlsConnection, connect
from dispatcher.broker.envelope import DoorbellChannel
from dispatcher.config.setting import Secret
from dispatcher.console.auth import Role
from dispatcher.console.routes import ROUTES
from dispatcher.decisions.reply import WireFault
from dispatcher.metrics.exporter import MetricsServer, Pages
from dispatcher.operator.health import Health
from dispatcher.sandbox.server import Sandbox
from dispatcher.voicery.client import VoiceryClient
from tests.console.conftest import Seat
from tests.console.test_access import ask, path_of
from tests.support.rows import Rows
from tests.voicery.conftest import CLOCKS
from tests.voicery.peer import Call, Peer

# Certificates ---------------------------------------------------------------------------------------------------------


def certificate(directory: Path, *, named: bool) -> tuple[Path, Path]:
    """A certificate for the common name 127.0.0.1, signed by itself; `named`: with a subjectAltName too."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1)).not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    )  # fmt: skip
    if named:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    chain, private = directory / "chain.pem", directory / "key.pem"
    chain.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return chain, private


@pytest.mark.parametrize("named", [True, False])
def test_a_certificate_that_names_its_host_in_the_common_name_alone_is_refused(tmp_path: Path, named: bool) -> None:
    chain, private = certificate(tmp_path, named=named)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(chain, private)

    def script(call: Call) -> None:
        call.read_request()
        call.send(b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}")

    with Peer(script, tls) as peer:
        client = VoiceryClient(
            base_url=f"https://localhost:{peer.port}/api", token=Secret("a-token"), ca_bundle=str(chain), **CLOCKS
        )
        reply = client.create_lead(b"{}")
        client.close()
    if named:
        assert reply.status == 201
    else:
        assert reply.fault is WireFault.TLS
        assert peer.received == 0


@pytest.mark.parametrize("named", [True, False])
def test_so_is_one_of_redis_before_the_password_leaves(tmp_path: Path, named: bool) -> None:
    chain, private = certificate(tmp_path, named=named)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(chain, private)
    received = bytearray()

    def answer(listening: socket.socket) -> None:
        with suppress(OSError), tls.wrap_socket(listening.accept()[0], server_side=True) as accepted:
            while some := accepted.recv(4096):
                received.extend(some)
                accepted.sendall(b"+OK\r\n" * some.count(b"*"))

    with socket.create_server(("localhost", 0)) as listening:
        thread = threading.Thread(target=answer, args=(listening,), daemon=True)
        thread.start()
        url = f"rediss://:the-password@localhost:{listening.getsockname()[1]}/0?ssl_ca_certs={chain}"
        client = connect(url, timeout_seconds=5)
        if named:
            client.ping()
            assert b"the-password" in received
        else:
            with pytest.raises(redis.ConnectionError, match="common name alone"):
                client.ping()
        client.close()
        thread.join(60)
    assert named or not received


def test_celery_connects_to_redis_in_the_same_way() -> None:
    app = Celery(broker="redis://localhost/0")
    app.conf.broker_transport_options = {REDIS_URL_OPTION: Secret("rediss://localhost:1/0")}
    channel = object.__new__(DoorbellChannel)
    channel.connection = SimpleNamespace(client=app.connection_for_write())
    with suppress(Exception):
        channel._connparams()
    assert channel.connection_class is TlsConnection


# Errors of the console ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/login"])
def test_a_page_that_fails_carries_the_id_of_its_log_line(
    closed_seat: Seat, path: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("+12025550101 and the password")

    monkeypatch.setattr(type(closed_seat.console.services), "overview", fail)
    monkeypatch.setattr(type(closed_seat.console.renderer), "bare", fail)
    browser = closed_seat.browser(Role.ADMIN if path == "/" else None)
    answer = browser.get(path)
    assert answer.status_code == 500
    (record,) = [one for one in caplog.records if one.getMessage() == "console.error"]
    assert record.report in answer.text  # type: ignore[attr-defined]
    assert "5550101" not in answer.text + caplog.text


HOSTILE = [
    "9" * 5000, "-1", "0", "1e9", "9" * 19, "9" * 20, "٣٤", "²", "\ud800".encode("utf-16", "surrogatepass").hex(),
    "0001-01-01T00:00+14:00", "9999-12-31T23:59-14:00", "9" * 400 + "h", "\x01", "\u202e", "%00", "a=" + "9" * 5000,
    "x" * 10_000, "[" * 10_000, '{"a": ' + "9" * 5000 + "}", "2026-11-28~" + "9" * 5000,
]  # fmt: skip
READ = {
    "/failed/rows": [
        "class", "campaign", "account", "cause", "http_status", "text", "phone", "reference", "batch", "variable",
        "attempts", "replayed_before", "since", "before", "submitted_since", "submitted_before", "resolved", "after",
    ],
    "/search": ["q"],
    "/audit": ["subject", "actor", "action", "before"],
    "/login": ["next", "key"],
}  # fmt: skip
FIELDS = [
    "verb", "scope", "total", "typed", "note", "campaign_id", "at", "spread", "per_minute", "action", "filters", "lead",
    "failure", "return", "as", "sure", "phone_number", "variables", "rate_limit", "reason", "incident", "format",
    "theme", "even_if_called",
]  # fmt: skip


@pytest.mark.parametrize("path", READ)
def test_no_text_in_an_address_makes_an_error_of_ours(seat: Seat, path: str) -> None:
    browser = seat.browser(None if path == "/login" else Role.ADMIN)
    for name in READ[path]:
        for text in HOSTILE:
            assert browser.get(f"{path}?{name}={quote_plus(text)}").status_code < 500, f"{path} {name} {text[:9]}"


def test_no_text_in_any_form_makes_an_error_of_ours(seat: Seat, rows: Rows) -> None:
    browser = seat.browser(Role.ADMIN)
    numbers = count()
    for route in ROUTES:
        if route.method != "POST":
            continue
        for text in HOSTILE:
            lead = rows.failed(phone=f"+4477009{next(numbers):05d}")
            fields = dict.fromkeys(FIELDS, text)
            sensible = {"verb": "replay", "scope": "all", "total": "1", "format": "csv", "as": "dismissed"}
            assert ask(browser, route, path_of(route, lead), fields=fields).status_code < 500, (
                f"{route.path} {text[:9]}"
            )
            answer = ask(browser, route, path_of(route, lead), fields=fields | sensible)
            assert answer.status_code < 500, f"{route.path} {text[:9]}"


def test_no_text_in_any_path_makes_an_error_of_ours(seat: Seat) -> None:
    browser = seat.browser(Role.ADMIN)
    for route in ROUTES:
        for text in ("9" * 5000, "9" * 19, "-1", "²", "a" * 5000, "%F0%9F%98%80"):
            path = route.path
            for name in ("{id}", "{account}", "{campaign}", "{number}"):
                path = path.replace(name, quote_plus(text, safe="%"))
            assert ask(browser, route, path).status_code < 500, f"{route.path} {text[:9]}"


@pytest.mark.parametrize("length", [b"9" * 5000, b"9" * 4000, "²".encode("latin-1"), b"-1", b"1_0"])
def test_a_content_length_that_is_no_number_is_refused(closed_seat: Seat, length: bytes) -> None:
    answer = closed_seat.browser(Role.ADMIN).client.get("/login", headers={b"content-length": length})
    assert answer.status_code in {400, 413}


# Pages of other sites -------------------------------------------------------------------------------------------------


def request(port: int, method: str, path: str, headers: dict[str, str], body: bytes | None = None) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request(method, path, body, {"Host": f"127.0.0.1:{port}", **headers})
    status = connection.getresponse().status
    connection.close()
    return status


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "evil.example:80"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": ""},
        {"Host": "localhost@evil.example"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_a_page_of_another_site_neither_reads_nor_changes_the_sandbox(headers: dict[str, str]) -> None:
    with Sandbox(control=True) as sandbox:
        rule = b'[{"fault": "hang"}]'
        assert request(sandbox.port, "GET", "/_sandbox/state", headers) == 404
        assert request(sandbox.port, "DELETE", "/_sandbox/faults", headers) == 404
        assert request(sandbox.port, "POST", "/_sandbox/faults", headers, rule) == 404
        assert sandbox.faults.snapshot() == []


@pytest.mark.parametrize(
    "headers", [{}, {"Host": "localhost"}, {"Host": "[::1]:80"}, {"Host": "127.0.0.2"}, {"Sec-Fetch-Site": "none"}]
)
def test_a_caller_of_this_machine_does(headers: dict[str, str]) -> None:
    with Sandbox(control=True) as sandbox:
        own = {"Origin": f"http://127.0.0.1:{sandbox.port}"} if not headers else {}
        assert request(sandbox.port, "GET", "/_sandbox/state", {**headers, **own}) == 200


@pytest.fixture
def figures() -> Iterator[Callable[..., int]]:
    servers: list[MetricsServer] = []

    def serve(host: str = "127.0.0.1", token: str | None = None) -> int:
        pages = Pages(lambda: b"figures 1\n", lambda: Health(None))
        server = MetricsServer(host, 0, pages, None if token is None else Secret(token))
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return int(server.server_port)

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("path", ["/metrics", "/readyz", "/healthz"])
def test_figures_for_this_machine_answer_to_its_names_alone(figures: Callable[..., int], path: str) -> None:
    port = figures()
    assert request(port, "GET", path, {}) == 200
    assert request(port, "GET", path, {"Host": f"localhost:{port}"}) == 200
    for host in ("evil.example", f"evil.example:{port}", "127.0.0.1.evil.example", "", "localhost@evil"):
        assert request(port, "GET", path, {"Host": host}) == 421, host


def test_figures_behind_a_token_answer_to_any_name(figures: Callable[..., int]) -> None:
    headers: dict[str, Any] = {"Host": "metrics.example.com", "Authorization": "Bearer a-token"}
    assert request(figures("0.0.0.0", "a-token"), "GET", "/metrics", headers) == 200  # noqa: S104 - what is tested
