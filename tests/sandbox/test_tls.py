"""TLS, and TLS that never comes."""

import datetime as dt
import os
import socket
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from dispatcher.errors import NotConfigured
from dispatcher.sandbox.fault import FaultName, Rule
from dispatcher.sandbox.options import SandboxOptions
from tests.sandbox.client import PATIENCE_SECONDS, Dial, Start, Wire


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate for localhost, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    directory = tmp_path_factory.mktemp("tls")
    certificate, key_file = directory / "certificate.pem", directory / "key.pem"
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    pkcs8, unencrypted = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    key_file.write_bytes(key.private_bytes(serialization.Encoding.PEM, pkcs8, unencrypted))
    return certificate, key_file


def test_it_speaks_tls_with_the_given_certificate(start: Start, dial: Dial, certificate: tuple[Path, Path]) -> None:
    api = start(certificate=certificate[0], key=certificate[1])
    assert api.sandbox.base_url.startswith("https://")
    trusting = ssl.create_default_context(cafile=certificate[0])
    wire = dial(api.sandbox, trusting)
    wire.send()
    assert wire.connection.recv(15) == b"HTTP/1.1 200 OK"


def test_a_client_that_does_not_trust_it_sends_nothing(
    start: Start, dial: Dial, certificate: tuple[Path, Path]
) -> None:
    api = start(certificate=certificate[0], key=certificate[1])
    with pytest.raises(ssl.SSLCertVerificationError):
        dial(api.sandbox, ssl.create_default_context())
    assert api.sandbox.log == []


def test_a_reset_over_tls_is_a_tcp_reset(start: Start, dial: Dial, certificate: tuple[Path, Path]) -> None:
    """Read below TLS: Python's `ssl` shows its users an end of file here, whatever the TCP peer did."""
    api = start(certificate=certificate[0], key=certificate[1], faults=(Rule(fault=FaultName.RESET),))
    wire = dial(api.sandbox, ssl.create_default_context(cafile=certificate[0]))
    wire.send()
    below = Wire(socket.socket(fileno=os.dup(wire.connection.fileno())))
    below.connection.settimeout(PATIENCE_SECONDS)
    with below.connection, pytest.raises(ConnectionResetError):
        below.read_to_end()
    assert len(api.sandbox.leads) == 1


def test_a_close_over_tls_is_an_end_without_a_byte(start: Start, dial: Dial, certificate: tuple[Path, Path]) -> None:
    api = start(certificate=certificate[0], key=certificate[1], faults=(Rule(fault=FaultName.CLOSE),))
    wire = dial(api.sandbox, ssl.create_default_context(cafile=certificate[0]))
    wire.send()
    assert wire.read_to_end() == b""
    assert len(api.sandbox.leads) == 1


def test_a_tls_stall_accepts_and_never_shakes_hands(start: Start, dial: Dial) -> None:
    api = start(tls_stall=True)
    wire = dial(api.sandbox)
    wire.connection.sendall(b"\x16\x03\x01")
    assert wire.is_silent()
    assert api.sandbox.log == []


def test_a_certificate_without_its_key_is_refused(certificate: tuple[Path, Path]) -> None:
    with pytest.raises(NotConfigured):
        SandboxOptions(certificate=certificate[0])
