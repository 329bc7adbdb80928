"""Two clients of the sandbox: `requests` for what an integration sees, a raw socket for what is on the wire."""

import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson
import requests

from dispatcher.sandbox.server import Sandbox

NUMBER = "+12025550100"
PATIENCE_SECONDS = 10.0


def lead(phone_number: str = NUMBER, campaign_id: object = 42, **more: Any) -> dict[str, Any]:
    return {"phone_number": phone_number, "campaign_id": campaign_id, **more}


@dataclass(frozen=True)
class Client:
    sandbox: Sandbox
    session: requests.Session

    def post(self, body: Any = None, token: str = "any", **options: Any) -> requests.Response:  # noqa: S107 - made up
        return self._call("POST", "/user/lead", token, json=lead() if body is None else body, **options)

    def list(self, token: str = "any", **query: Any) -> requests.Response:  # noqa: S107 - made up
        return self._call("GET", "/user/leads", token, params=query)

    def control(self, method: str, path: str, body: Any = None) -> requests.Response:
        url = f"{self.sandbox.origin}/_sandbox/{path}"
        return self.session.request(method, url, json=body, timeout=PATIENCE_SECONDS)

    def _call(self, method: str, path: str, token: str, **options: Any) -> requests.Response:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        options = {"timeout": PATIENCE_SECONDS, "allow_redirects": False, **options}
        return self.session.request(method, self.sandbox.base_url + path, headers=headers, **options)


@dataclass(frozen=True)
class Wire:
    """One POST over a socket of its own."""

    connection: socket.socket

    def send(self, body: dict[str, Any] | None = None) -> None:
        text = orjson.dumps(lead() if body is None else body)
        head = (
            f"POST /api/user/lead HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer t\r\nContent-Length: {len(text)}\r\n\r\n"
        )
        self.connection.sendall(head.encode() + text)

    def read_to_end(self) -> bytes:
        """Everything until the peer closes; a reset is raised."""
        received = b""
        while chunk := self.connection.recv(65536):
            received += chunk
        return received

    def is_silent(self, seconds: float = 0.2) -> bool:
        """Nothing has arrived, and the connection is open."""
        self.connection.settimeout(seconds)
        try:
            return self.connection.recv(1, socket.MSG_PEEK) is None
        except TimeoutError:
            return True
        finally:
            self.connection.settimeout(PATIENCE_SECONDS)


Start = Callable[..., Client]
Dial = Callable[..., Wire]
