"""Redis as people have it: TLS, the parameters of its URL, and a memory that is gone."""

import contextlib
import datetime as dt
import ipaddress
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from dispatcher.broker.connection import connect
from dispatcher.celery import WorkerApp, worker_configuration
from dispatcher.config.urls import normal_redis_url

PASSWORD = "never-to-strangers"


class TlsFront:
    """TLS in front of a Redis; remembers what clients said in the clear of the tunnel."""

    def __init__(self, directory: Path, upstream: str | None, name: str = "127.0.0.1") -> None:
        self.heard = b""
        self.certificate = directory / f"{name}.pem"
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        address: x509.GeneralName = x509.DNSName(name)
        with contextlib.suppress(ValueError):
            address = x509.IPAddress(ipaddress.ip_address(name))
        now = dt.datetime.now(dt.UTC)
        made = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([address]), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        self.certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
        key_path = directory / f"{name}.key"
        key_path.write_bytes(private)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(self.certificate, key_path)
        self._upstream = upstream
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(plain,), daemon=True).start()

    def _serve(self, plain: socket.socket) -> None:
        with contextlib.suppress(OSError), plain, self._context.wrap_socket(plain, server_side=True) as client:
            if self._upstream is None:
                self.heard += client.recv(4096)
                return
            parts = urlsplit(self._upstream)
            with socket.create_connection((parts.hostname, parts.port or 6379)) as server:
                threading.Thread(target=self._pump, args=(server, client), daemon=True).start()
                self._pump(client, server)

    @staticmethod
    def _pump(source: Any, sink: Any) -> None:
        with contextlib.suppress(OSError):
            while chunk := source.recv(4096):
                sink.sendall(chunk)


@pytest.fixture
def stranger(tmp_path: Path) -> Iterator[TlsFront]:
    """A TLS server whose certificate no authority has signed."""
    front = TlsFront(tmp_path, None)
    yield front
    front.close()


@pytest.fixture
def front(tmp_path: Path, redis_url: str) -> Iterator[TlsFront]:
    """A Redis behind TLS."""
    made = TlsFront(tmp_path, redis_url)
    yield made
    made.close()


def ping_as_producer(url: str) -> None:
    connect(normal_redis_url(url)).ping()


def ping_as_worker(url: str) -> None:
    app = WorkerApp(configuration=lambda: worker_configuration(normal_redis_url(url)))
    with app.connection_for_read() as connection:
        connection.default_channel.client.ping()


PINGS = pytest.mark.parametrize("ping", [ping_as_producer, ping_as_worker])


# Source: Celery's `rediss://` without `ssl_cert_reqs` means CERT_NONE (kombu 5.7, `connection.ssl`).
@PINGS
def test_no_password_is_told_to_a_server_without_a_valid_certificate(ping: Any, stranger: TlsFront) -> None:
    with pytest.raises(Exception, match=r"(?i)certificate"):
        ping(f"rediss://:{PASSWORD}@127.0.0.1:{stranger.port}/0")

    assert stranger.heard == b""


@PINGS
def test_a_certificate_of_another_host_is_refused(ping: Any, tmp_path: Path) -> None:
    other = TlsFront(tmp_path, None, "redis.example.org")
    with pytest.raises(Exception, match=r"(?i)certificate|mismatch"):
        ping(f"rediss://:{PASSWORD}@127.0.0.1:{other.port}/0?ssl_ca_certs={other.certificate}")

    assert other.heard == b""
    other.close()


@PINGS
@pytest.mark.parametrize(
    "query",
    [
        "ssl_ca_certs={certificate}",
        "ssl_cert_reqs=none",
        "ssl_cert_reqs=CERT_NONE",  # as Heroku's and Celery's documents write it
        "ssl_ca_certs={certificate}&ssl_min_version=TLSv1_2&health_check_interval=30&client_name=leads",
    ],
)
def test_a_parameter_means_the_same_to_doorbell_limiter_and_broker(
    ping: Any, front: TlsFront, redis_url: str, query: str
) -> None:
    user = urlsplit(redis_url).netloc.rpartition("@")[0]
    ping(f"rediss://{user}@127.0.0.1:{front.port}/0?{query.format(certificate=front.certificate)}")


@PINGS
def test_health_check_interval_in_a_plain_url_reaches_all(ping: Any, redis_url: str) -> None:
    ping(f"{redis_url}?health_check_interval=30")


@PINGS
def test_the_database_in_the_query_is_the_database_of_all(ping: Any, redis_url: str) -> None:
    parts = urlsplit(redis_url)
    ping(f"redis://{parts.netloc}?db=1")
    app = WorkerApp(configuration=lambda: worker_configuration(normal_redis_url(f"redis://{parts.netloc}?db=1")))
    with app.connection_for_read() as connection:
        assert connection.default_channel.client.connection_pool.connection_kwargs["db"] == 1


def test_the_workers_configuration_shows_no_password() -> None:
    configuration = worker_configuration(f"redis://user:{PASSWORD}@127.0.0.1:6379/0?password={PASSWORD}")

    assert PASSWORD not in repr(configuration)


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("redis://h/0?socket_timeout=5", "sets socket_timeout, which the dispatcher bounds itself; remove it"),
        ("redis://h/0?retry_on_timeout=true", "sets retry_on_timeout, which the dispatcher bounds itself"),
        ("redis://h/0?ssl_cert_reqs=none", "sets ssl_cert_reqs without TLS; write rediss://"),
        ("unix:///run/redis.sock?ssl_ca_certs=/x", "sets ssl_ca_certs without TLS"),
        ("rediss://h/0?ssl_cert_req=none", "did you mean ssl_cert_reqs"),
        ("rediss://h/0?ssl_cert_reqs=maybe", "value of ssl_cert_reqs that cannot be used; give required"),
        ("rediss://h/0?ssl_ca_certs=/nowhere.pem", "ssl_ca_certs that cannot be used; give the path of a PEM file"),
        ("rediss://h/0?ssl_check_hostname=perhaps", "ssl_check_hostname that cannot be used; give true or false"),
        ("rediss://h/0?ssl_min_version=TLSv1", "ssl_min_version that cannot be used; give TLSv1_2"),
        ("redis://h?db=one", "value of db that cannot be used"),
        ("redis://h?db=1&virtual_host=2", "gives the parameter db twice"),
        ("redis://h/0?fruit=apple", "a parameter that is not known; known are"),
    ],
)
def test_a_parameter_that_cannot_work_is_refused_at_start_by_name(url: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        normal_redis_url(url)
