"""A server that answers with given bytes, whatever they are."""

import re
import socket
import threading
from contextlib import suppress

_WHOLE = re.compile(rb'"end":1\}|\AGET .*\r\n\r\n', re.DOTALL)


class Server:
    """Takes a whole GET, or a POST that ends in `\"end\":1}`, answers with what it was given, and closes."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/api"
        self.answer = b""
        self.requests = 0
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                with connection, suppress(OSError):
                    received, ended = b"", False
                    while not ended:
                        piece = connection.recv(65536)
                        received += piece
                        ended = not piece or _WHOLE.search(received) is not None
                    self.requests += 1
                    connection.sendall(self.answer)

    def close(self) -> None:
        self._listener.close()
