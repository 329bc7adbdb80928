"""The HTTP server of `dispatcher metrics`. Loopback, or with a token.

/metrics   metrics for Prometheus
/healthz   200 while this process answers
/readyz    200 while due leads are being claimed, else 503 with the reasons
"""

import hmac
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, cast

import orjson
import redis
from sqlalchemy import text

from dispatcher.broker.connection import ACCEPTING_QUEUE, PREFIX, QUEUE, connect
from dispatcher.config.setting import Secret
from dispatcher.config.settings import Settings
from dispatcher.config.urls import is_loopback, names_loopback
from dispatcher.errors import CannotListen, NotConfigured, StoreUnavailable
from dispatcher.metrics.metrics import CONTENT_TYPE, Figures, exposition
from dispatcher.operator import overview
from dispatcher.operator.health import Health
from dispatcher.operator.overview import RateUse
from dispatcher.store import counters
from dispatcher.store.counters import Counted
from dispatcher.store.reading import ReadConnection, Reading
from dispatcher.store.trouble import StatementRefused, TryAgain
from dispatcher.wiring import Services

_AGES = text("""
SELECT
    (SELECT CAST(extract(epoch FROM now() - min(ended_at)) AS float8) FROM dispatcher.lead_attempts
     WHERE finished_at IS NULL AND ended_at IS NOT NULL) AS unknown_age,
    (SELECT count(*) FROM dispatcher.alerts WHERE done_at IS NULL) AS alerts_unsent,
    (SELECT CAST(extract(epoch FROM now() - min(at)) AS float8) FROM dispatcher.alerts
     WHERE done_at IS NULL) AS alert_age,
    -- A long list is not counted at each scrape.
    (SELECT CASE WHEN few.n <= 100000 THEN few.n ELSE greatest(few.n, list.reltuples) END
     FROM (SELECT count(*) AS n FROM (SELECT FROM dispatcher.blocks LIMIT 100001) AS first) AS few,
        pg_class AS list WHERE list.oid = to_regclass('dispatcher.blocks')) AS blocks
""")

_INCIDENTS = text("SELECT kind, count(*) AS unseen FROM dispatcher.incidents WHERE seen_at IS NULL GROUP BY kind")


def read_figures(connection: ReadConnection) -> Figures:
    """Return the figures that Postgres holds, without those of Redis."""
    ages = connection.execute(_AGES).one()
    return Figures(
        overview=overview.read(connection),
        counted=tuple(counters.read(connection)),
        unknown_age_seconds=max(0.0, ages.unknown_age or 0.0),
        incidents={row.kind: row.unseen for row in connection.execute(_INCIDENTS)},
        alerts_unsent=ages.alerts_unsent,
        alert_age_seconds=max(0.0, ages.alert_age or 0.0),
        blocks=int(ages.blocks or 0),
    )


KEPT_SECONDS: Final = 5.0
"""A reading is reused for this long, so that several scrapers cost one reading."""


class Scrape:
    """Answer scrapes. Thread-safe.

    `rate_use` says how much of the rate limit is used, `doorbells` how many messages wait; None without Redis.
    """

    def __init__(
        self,
        reading: Reading,
        *,
        rate_use: Callable[[], tuple[RateUse, ...] | None],
        doorbells: Callable[[], int | None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reading_from = reading
        self._rate_use = rate_use
        self._doorbells = doorbells
        self._clock = clock
        self._reading = threading.Lock()
        self._highest: dict[tuple[str, str, str], float] = {}
        self._text = b""
        self._read_at = float("-inf")

    def text(self) -> bytes:
        """Return the exposition. Never raises: an unreachable store is a metric."""
        with self._reading:
            if self._clock() - self._read_at >= KEPT_SECONDS:
                self._text = exposition(self._figures())
                self._read_at = self._clock()
            return self._text

    def _figures(self) -> Figures | None:
        try:
            read = self._reading_from.survey(read_figures)
        except (StoreUnavailable, TryAgain, StatementRefused):
            return None
        overview = replace(read.overview, rate=self._rate_use())
        place = self._reading_from.place
        counted = read.counted if place is None else tuple(map(self._not_less, read.counted))
        return replace(read, overview=overview, counted=counted, doorbells=self._doorbells(), replica=place)

    def _not_less(self, one: Counted) -> Counted:
        """Return the counter as it was, where a replica that is behind the last reading shows less: no reset."""
        key = (one.name, one.account, one.label)
        self._highest[key] = max(one.value, self._highest.get(key, 0.0))
        return replace(one, value=self._highest[key])


def scrape(services: Services) -> Scrape:
    """Return what answers scrapes with the figures of these services."""
    waiting = partial(doorbells_waiting, services.settings)
    return Scrape(services.reading, rate_use=services.rate_use, doorbells=waiting)


def doorbells_waiting(settings: Settings) -> int | None:
    """Return the number of messages that wait for a worker; None if Redis is unreachable."""
    if settings.redis_url is None:
        return None
    try:
        with connect(settings.redis_url.reveal()) as client:
            return sum(int(client.llen(PREFIX + queue)) for queue in (ACCEPTING_QUEUE, QUEUE))
    except redis.RedisError:
        return None


_IDLE_SECONDS: Final = 10.0  # then an idle connection is closed

CONNECTIONS: Final = 50
CONNECTION_SECONDS: Final = 30.0
"""The most open connections, and how long each may last: it carries one request."""


@dataclass(frozen=True, slots=True)
class Pages:
    """The contents of the pages. Neither function raises."""

    metrics: Callable[[], bytes]
    health: Callable[[], Health]


class MetricsServer(ThreadingHTTPServer):
    """Serves until `shutdown`. Raises `CannotListen`; `NotConfigured` if others can reach it without a token."""

    daemon_threads = True

    def __init__(self, host: str, port: int, pages: Pages, token: Secret | None = None) -> None:
        if not is_loopback(host) and token is None:
            raise NotConfigured(
                f"Others could read the figures at {host}; set DISPATCHER_METRICS_TOKEN, which Prometheus sends as "
                "a bearer token, or serve them at 127.0.0.1."
            )
        self.pages = pages
        self.token = token
        self._open: dict[socket.socket, float] = {}
        self._counting = threading.Lock()
        try:
            super().__init__((host, port), _Handler)
        except OSError as error:
            raise CannotListen("The exporter", host, port, error) from error

    def verify_request(self, request: object, client_address: object) -> bool:  # noqa: ARG002  (the interface)
        """Return whether there is a place left: a request that is never finished must not cost a thread for ever."""
        with self._counting:
            if len(self._open) >= CONNECTIONS:
                return False
            self._open[cast("socket.socket", request)] = time.monotonic()
            return True

    def service_actions(self) -> None:
        """End the connections whose time is over; called between two requests, at least every half second."""
        over = time.monotonic() - CONNECTION_SECONDS
        with self._counting:
            for connection in [one for one, begun in self._open.items() if begun < over]:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def shutdown_request(self, request: Any) -> None:  # noqa: ANN401  (the interface)
        """Close a connection, and count it no longer."""
        with self._counting:
            self._open.pop(request, None)
        super().shutdown_request(request)


class _Handler(BaseHTTPRequestHandler):
    server: MetricsServer
    timeout = _IDLE_SECONDS
    server_version = "dispatcher"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer one page. Probes need no token: they show no figure.

        Without a token only this machine's names are answered to: else a page whose name was pointed at this machine
        (DNS rebinding) could read the figures in a browser here.
        """
        hosts = self.headers.get_all("Host", [])
        if self.server.token is None and hosts and (len(hosts) > 1 or not names_loopback(hosts[0])):
            self._answer(HTTPStatus.MISDIRECTED_REQUEST, "text/plain", b"This server does not answer to that name.\n")
            return
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
        """Log nothing: scrapes come every few seconds."""

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
