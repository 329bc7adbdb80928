"""A peer for one test: a real listening socket whose behaviour is a script, and which remembers every byte it got."""

import json
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

BOUND_SECONDS = 10.0  # no script outlives this


@dataclass
class Call:
    """One accepted connection, as the script sees it."""

    sock: socket.socket
    peer: "Peer"
    number: int  # 1 for the first connection
    buffer: bytes = b""

    def read_request(self) -> bytes:
        """One whole request, headers and body, or what came of it before the client left."""
        while not (whole := _whole_request(self.buffer)):
            if not (piece := self._receive()):
                return b""
            self.buffer += piece
        request, self.buffer = self.buffer[:whole], self.buffer[whole:]
        self.peer.requests.append(request)
        return request

    def _receive(self) -> bytes:
        try:
            piece = self.sock.recv(65536)
        except OSError:
            return b""
        self.peer.received += len(piece)
        return piece

    def send(self, data: bytes) -> None:
        try:
            self.sock.sendall(data)
        except OSError:
            self.peer.client_left.set()

    def drip(self, data: bytes, every: float) -> None:
        """One byte at a time, `every` seconds apart, until the client leaves."""
        for byte in data:
            if self.peer.client_left.is_set() or self.peer.stopped.wait(every):
                return
            self.send(bytes([byte]))

    def reset(self) -> None:
        """Close with a RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def hold(self) -> None:
        """Say nothing until the client leaves or the test is over."""
        while not self.peer.stopped.is_set() and self._receive():
            pass


@dataclass
class Peer:
    """`with Peer(script) as peer:` listens on a free loopback port; each connection runs `script(call)` in a thread."""

    script: Callable[[Call], None]
    tls: ssl.SSLContext | None = None
    requests: list[bytes] = field(default_factory=list)
    received: int = 0  # bytes above TLS
    connections: int = 0
    port: int = 0
    stopped: threading.Event = field(default_factory=threading.Event)
    client_left: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._listener.settimeout(BOUND_SECONDS)
        self._accepted: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stopped.set()
        with socket.socket() as knock:  # wakes accept()
            knock.connect_ex(("127.0.0.1", self.port))
        for sock in self._accepted:
            with suppress(OSError):
                socket.socket.shutdown(
                    sock, socket.SHUT_RDWR
                )  # ends a script that waits for a client which keeps its connection
        for thread in self._threads:
            thread.join(BOUND_SECONDS)
        self._listener.close()

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}/api"

    def _accept(self) -> None:
        while not self.stopped.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            if self.stopped.is_set():
                sock.close()
                return
            self.connections += 1
            self._accepted.append(sock)
            thread = threading.Thread(target=self._serve, args=(sock, self.connections), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket, number: int) -> None:
        sock.settimeout(BOUND_SECONDS)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            if self.tls is not None:
                sock = self.tls.wrap_socket(sock, server_side=True)
                self._accepted.append(sock)
            self.script(Call(sock, self, number))
        except OSError:  # the client left in mid-script, or refused our certificate
            pass
        finally:
            sock.close()


def answer(status: str = "200 OK", body: bytes | None = None, *headers: str, version: str = "HTTP/1.1") -> bytes:
    """A whole answer with a Content-Length; by default that of an accepted lead."""
    body = ACCEPTED if body is None else body
    lines = [f"{version} {status}", "Content-Type: application/json", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def answering(data: bytes) -> Callable[[Call], None]:
    """A script that gives every request of a connection the same answer, and keeps the connection."""

    def script(call: Call) -> None:
        while call.read_request():
            call.send(data)

    return script


def answering_once(data: bytes) -> Callable[[Call], None]:
    """A script that answers one request and closes."""

    def script(call: Call) -> None:
        call.read_request()
        call.send(data)

    return script


def _whole_request(data: bytes) -> int:
    """The length of the request at the start of `data`; 0 while it is incomplete."""
    head, separator, rest = data.partition(b"\r\n\r\n")
    if not separator:
        return 0
    length = 0
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    return len(head) + 4 + length if len(rest) >= length else 0


ACCEPTED = json.dumps({"message": "Lead created", "data": {"id": 7, "campaign_id": 42, "status": "created"}}).encode()
