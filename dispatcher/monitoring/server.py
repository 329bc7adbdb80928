"""Three pages for machines, over plain HTTP: `/metrics`, `/healthz`, `/readyz`. Loopback, or with a token.

/metrics   the figures for Prometheus
/healthz   200 while this process answers
/readyz    200 while what is due is being taken, else 503 with the reasons
"""

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

import orjson

from dispatcher.config.base_url import is_loopback
from dispatcher.config.secret import Secret
from dispatcher.errors import NotConfigured
from dispatcher.monitoring.metrics import CONTENT_TYPE
from dispatcher.records.health import Health

_IDLE_SECONDS: Final = 10.0  # a connection that says nothing is closed


@dataclass(frozen=True, slots=True)
class Pages:
    """What the three pages show. Neither function raises."""

    metrics: Callable[[], bytes]
    health: Callable[[], Health]


class MetricsServer(ThreadingHTTPServer):
    """Serves until `shutdown`. Raises `NotConfigured` for an address that others can reach without a token."""

    daemon_threads = True

    def __init__(self, host: str, port: int, pages: Pages, token: Secret | None = None) -> None:
        if not is_loopback(host) and token is None:
            raise NotConfigured(
                f"Others could read the figures at {host}; set DISPATCHER_METRICS_TOKEN, which Prometheus sends as "
                "a bearer token, or serve them at 127.0.0.1."
            )
        self.pages = pages
        self.token = token
        super().__init__((host, port), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: MetricsServer
    timeout = _IDLE_SECONDS
    server_version = "dispatcher"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer one page. Probes need no token: they tell no figure."""
        match self.path.partition("?")[0]:
            case "/metrics" if not self._may_read():
                self._answer(HTTPStatus.UNAUTHORIZED, "text/plain", b"A bearer token is needed.\n")
            case "/metrics":
                self._answer(HTTPStatus.OK, CONTENT_TYPE, self.server.pages.metrics())
            case "/healthz":
                self._answer(HTTPStatus.OK, "text/plain", b"ok\n")
            case "/readyz":
                health = self.server.pages.health()
                status = HTTPStatus.OK if health.ok else HTTPStatus.SERVICE_UNAVAILABLE
                self._answer(status, "application/json", orjson.dumps(health.as_dict()))
            case _:
                self._answer(HTTPStatus.NOT_FOUND, "text/plain", b"There are /metrics, /healthz and /readyz.\n")

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: a scrape every few seconds is no news."""

    def _may_read(self) -> bool:
        if self.server.token is None:
            return True
        given = self.headers.get("Authorization", "")
        return hmac.compare_digest(given.encode(), f"Bearer {self.server.token.reveal()}".encode())

    def _answer(self, status: HTTPStatus, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        if status is HTTPStatus.UNAUTHORIZED:
            self.send_header("WWW-Authenticate", "Bearer")
        self.end_headers()
        self.wfile.write(body)
