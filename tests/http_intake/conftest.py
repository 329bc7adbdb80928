"""An intake that listens, over a database of the module's own; each test has a campaign of its own."""

import itertools
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import pytest
import requests
import uvicorn

from dispatcher.config.settings import Settings
from dispatcher.config.urls import normal_database_url
from dispatcher.http_intake.app import Bounds, Intake, build
from dispatcher.http_intake.guard import Guard
from dispatcher.http_intake.keys import Issued, Keys, KeyTerms
from dispatcher.store.database import Database
from dispatcher.web.connections import Limits, bounded
from dispatcher.wiring import Services
from tests.support.databases import Databases
from tests.support.doubles import Bell
from tests.support.rows import ADA, Rows
from tests.support.waiting import wait_until

CAMPAIGNS: Final = itertools.count(1000)


@dataclass
class Served:
    """A running intake. `source`: the address that requests come from."""

    port: int
    intake: Intake
    guard: Guard
    database: Database
    server: uvicorn.Server
    session: requests.Session = field(default_factory=requests.Session)

    @property
    def rows(self) -> Rows:
        return Rows(self.database)

    def key(self, *campaigns: int, account: str = "default", **terms: Any) -> Issued:
        terms.setdefault("rate_limit", "off")
        return Keys(self.database).create(KeyTerms("test", account, campaigns or None, **terms), actor="test")

    def ask(
        self, method: str, path: str, key: str | None = None, *, headers: Mapping[str, str] | None = None, **more: Any
    ) -> requests.Response:
        bearer = {} if key is None else {"Authorization": f"Bearer {key}"}
        return self.session.request(
            method, f"http://127.0.0.1:{self.port}{path}", headers={**bearer, **(headers or {})}, timeout=30, **more
        )

    def submit(self, key: str, body: Any, idempotency_key: str | None = None) -> requests.Response:
        more = {} if idempotency_key is None else {"Idempotency-Key": idempotency_key}
        return self.ask("POST", "/v1/leads", key, json=body, headers=more)


@contextmanager
def serving(url: str, bounds: Bounds | None = None, limits: Limits | None = None, **settings: Any) -> Iterator[Served]:
    known = Settings(database_url=normal_database_url(url), redis_url="redis://127.0.0.1:1/0", **settings)
    services = Services(known, name="dispatcher-intake", bell=Bell())
    intake = Intake(services, bounds or Bounds())
    guard = build(intake)
    config = uvicorn.Config(
        guard, log_level="critical", lifespan="on", http=bounded(limits or Limits(per_source=200)), ws="none",
        timeout_graceful_shutdown=1, server_header=False,
    )  # fmt: skip
    with socket.create_server(("0.0.0.0", 0)) as listening:  # noqa: S104 - for 127.0.0.2 as well
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        wait_until(lambda: server.started, 20, "the intake to listen")
        with closing(Database(normal_database_url(url))) as database:
            yield Served(int(listening.getsockname()[1]), intake, guard, database, server)
        server.should_exit = True
        thread.join(60)


@pytest.fixture(scope="module")
def module_database_url(databases: Databases, template_database: str) -> Iterator[str]:
    with databases.one(template_database) as url:
        yield url


@pytest.fixture(scope="module")
def served(module_database_url: str) -> Iterator[Served]:
    with serving(module_database_url) as running:
        yield running


@pytest.fixture
def campaign() -> int:
    return next(CAMPAIGNS)


@pytest.fixture
def lead(campaign: int) -> dict[str, Any]:
    return {"phone_number": ADA, "campaign_id": campaign, "variables": {"customer_name": "Ada"}}


@pytest.fixture
def key(served: Served, campaign: int) -> str:
    """A key for the test's campaign."""
    return served.key(campaign).secret
