"""What every test of the adapter uses: a client with short clocks, and certificates of its own authority."""

import datetime as dt
import ipaddress
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from dispatcher.decisions.reply import Reply
from dispatcher.hub import Hub
from dispatcher.voicery.client import VoiceryClient

MakeClient = Callable[..., VoiceryClient]

TOKEN = "canary-token-0123456789"
SOON_SECONDS = 30.0  # on a busy machine, too; far from the clocks of `make_client`


CLOCKS: Final = {"connect_timeout_seconds": 90.0, "read_timeout_seconds": 90.0, "deadline_seconds": 95.0}
"""For a client that no test waits for."""


class HubClient(VoiceryClient):
    """The client as a delivery run uses it: each exchange in a greenlet of a hub."""

    def create_lead(self, body: bytes, *, before_write: Callable[[], bool] | None = None) -> Reply:
        return in_a_hub(lambda: super(HubClient, self).create_lead(body, before_write=before_write))

    def list_leads(self, **query: Any) -> Reply:
        return in_a_hub(lambda: super(HubClient, self).list_leads(**query))


def timed(exchange: Callable[[], Reply]) -> tuple[Reply, float]:
    """What `exchange` returns, and after how many seconds."""
    started = time.monotonic()
    reply = exchange()
    return reply, time.monotonic() - started


def in_a_hub(exchange: Callable[[], Reply]) -> Reply:
    """What `exchange` returns when it runs in a greenlet."""
    hub = Hub()
    replies: list[Reply] = []
    try:
        hub.spawn(lambda: replies.append(exchange()))
        while not replies:
            hub.turn(10.0)
    finally:
        hub.close()
    return replies[0]


@pytest.fixture(params=[VoiceryClient, HubClient], ids=["in a thread", "in a hub"])
def make_client(request: pytest.FixtureRequest) -> Iterator[MakeClient]:
    """Makes clients whose every clock is far longer than a loopback needs, and far shorter than a patient test."""
    clients = []

    def make(base_url: str, **settings: Any) -> VoiceryClient:
        client: VoiceryClient = request.param(base_url=base_url, **{"token": lambda: TOKEN, **CLOCKS, **settings})
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.close()


@dataclass(frozen=True)
class Authority:
    """A certificate authority of one test run; `bundle` is the PEM file a client may trust."""

    bundle: Path
    issue: Callable[..., ssl.SSLContext]


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority that issues server contexts: `issue("127.0.0.1", expired=False, self_signed=False)`."""
    directory = tmp_path_factory.mktemp("tls")
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
    now = dt.datetime.now(dt.UTC)
    ca_certificate = (
        x509.CertificateBuilder()
        .subject_name(ca_name)
        .issuer_name(ca_name)
        .public_key(ca_key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=2))
        .not_valid_after(now + dt.timedelta(days=2))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    bundle = directory / "authority.pem"
    bundle.write_bytes(ca_certificate.public_bytes(serialization.Encoding.PEM))

    def issue(host: str, *, expired: bool = False, self_signed: bool = False) -> ssl.SSLContext:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test server")])
        try:
            alternative: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(host))
        except ValueError:
            alternative = x509.DNSName(host)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name if self_signed else ca_name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=2))
            .not_valid_after(now + dt.timedelta(days=-1 if expired else 1))
            .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
            .sign(key if self_signed else ca_key, hashes.SHA256())
        )
        path = directory / f"{certificate.serial_number}.pem"
        path.write_bytes(
            certificate.public_bytes(serialization.Encoding.PEM)
            + key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context

    return Authority(bundle, issue)
