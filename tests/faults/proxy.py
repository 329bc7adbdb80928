"""A TCP proxy that a test controls: pass, cut, black hole, delay, and cut exactly at a COMMIT of Postgres."""

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

_CHUNK = 65536
_ANSWER_SECONDS = 5.0
Watch = Callable[[bytes], bool]


class Proxy:
    """Forwards `127.0.0.1:port` to `target`. Change its behaviour at any time; connections that exist obey at once."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._closed = False
        self._swallow: Watch | None = None
        self._muted: dict[tuple[socket.socket, socket.socket], threading.Event] = {}
        self.refusing = False
        self.black_hole = False
        self.delay_seconds = 0.0
        self.cuts = 0

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed = True
        self._listener.close()
        self.cut_all()

    def cut_all(self, *, reset: bool = False) -> None:
        """End every connection, with FIN or RST."""
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for sock in pair:
                _end(sock, reset=reset)

    def swallow_answer_to(self, watch: Watch) -> None:
        """Once: forward the client's bytes for which `watch` says yes, and cut before anything comes back."""
        self._swallow = watch

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.refusing:
                _end(client, reset=True)
                continue
            try:
                server = socket.create_connection(self._target, timeout=5)
            except OSError:
                _end(client, reset=True)
                continue
            server.settimeout(None)
            pair = (client, server)
            with self._lock:
                self._pairs.append(pair)
            threading.Thread(target=self._pump, args=(client, server, pair, True), daemon=True).start()
            threading.Thread(target=self._pump, args=(server, client, pair, False), daemon=True).start()

    def _pump(
        self, source: socket.socket, sink: socket.socket, pair: tuple[socket.socket, socket.socket], from_client: bool
    ) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_CHUNK):
                while self.black_hole and not self._closed:
                    time.sleep(0.02)
                if self.delay_seconds:
                    time.sleep(self.delay_seconds)
                if from_client and self._swallow is not None and self._swallow(data):
                    self._swallow = None
                    self._muted[pair] = answered = threading.Event()
                    sink.sendall(data)
                    answered.wait(_ANSWER_SECONDS)  # the server has done its work, and nobody hears of it
                    self.cuts += 1
                    break
                if not from_client and pair in self._muted:
                    self._muted[pair].set()
                    continue
                sink.sendall(data)
        for sock in pair:
            _end(sock)


def _end(sock: socket.socket, *, reset: bool = False) -> None:
    with contextlib.suppress(OSError):
        if reset:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            sock.shutdown(socket.SHUT_RDWR)
    with contextlib.suppress(OSError):
        sock.close()
