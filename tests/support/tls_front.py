"""A TLS server with a certificate of its own, in front of a Redis."""

import contextlib
import datetime as dt
import ipaddress
import socket
import ssl
import threading
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class TlsFront:
    """TLS in front of a Redis; remembers what clients said in the clear of the tunnel.

    `say_instead` replaces bytes by others of the same length: a sentinel then names another front as the primary.
    """

    def __init__(
        self,
        directory: Path,
        upstream: str | None,
        name: str = "127.0.0.1",
        say_instead: tuple[bytes, bytes] = (b"", b""),
    ) -> None:
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
        self._say_instead = say_instead
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

    def _pump(self, source: Any, sink: Any) -> None:
        with contextlib.suppress(OSError):
            while chunk := source.recv(4096):
                sink.sendall(chunk.replace(*self._say_instead) if self._say_instead[0] else chunk)
