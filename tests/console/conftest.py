"""A console over a database of the test's own, and browsers of every role."""

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote_plus

import pytest
from starlette.testclient import TestClient

from dispatcher.config.setting import Secret
from dispatcher.config.settings import Settings
from dispatcher.config.urls import normal_database_url
from dispatcher.console.app import Console, build
from dispatcher.console.auth import Role, Session, Sessions, User, Users, hash_password
from dispatcher.console.guard import ConsoleOrigin, Guard, reached_at
from dispatcher.console.login import Login, OneTimeKey
from dispatcher.console.recent import Recent
from dispatcher.console.rendering import Renderer
from dispatcher.store.database import Database
from dispatcher.web.throttle import Throttle
from dispatcher.wiring import Services
from tests.support.doubles import Clock
from tests.support.rows import Rows

PASSWORD = "correct horse battery"
BASE = "http://127.0.0.1:8321"
NAMES = {Role.VIEWER: "vic", Role.OPERATOR: "olga", Role.ADMIN: "ada"}


@dataclass
class Seat:
    """The application with the parts that a test looks at."""

    app: Guard
    console: Console
    clock: Clock
    printed: list[str] = field(default_factory=list)

    def browser(
        self, role: Role | None = None, *, source: str = "127.0.0.1", accounts: Collection[str] | None = None
    ) -> "Browser":
        """A browser at an address; with a role it is logged in, for all accounts or for these."""
        client = TestClient(self.app, base_url=BASE, follow_redirects=False, client=(source, 50_000))
        if role is None:
            return Browser(client, None)
        cookie, session = self.console.sessions.begin(
            User(NAMES[role], role, accounts=None if accounts is None else frozenset(accounts)),
            by_key=accounts is not None,
        )
        client.cookies.set(self.console.cookie, cookie)
        return Browser(client, session)


class Browser:
    """Sends what a browser would: the cookie, the origin, and in forms the token."""

    def __init__(self, client: TestClient, session: Session | None) -> None:
        self.client = client
        self.session = session

    def get(self, path: str, **more: Any) -> Any:
        return self.client.get(path, **more)

    def post(
        self, path: str, fields: Any = (), *, token: str | None = None, headers: Mapping[str, str | None] | None = None
    ) -> Any:
        pairs = list(fields.items() if isinstance(fields, dict) else fields)
        if self.session is not None and token is None:
            token = self.session.csrf
        if token:
            pairs.append(("csrf", token))
        body = "&".join(f"{_quoted(name)}={_quoted(value)}" for name, value in pairs)
        given = {"origin": BASE, "content-type": "application/x-www-form-urlencoded", **(headers or {})}
        return self.client.post(path, content=body, headers={k: v for k, v in given.items() if v is not None})


def _quoted(text: object) -> str:
    return quote_plus(str(text))


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(normal_database_url(database_url))
    yield database
    database.close()


@pytest.fixture
def rows(database: Database) -> Rows:
    return Rows(database)


@pytest.fixture(scope="session")
def users() -> Secret:
    hashed = hash_password(PASSWORD)
    return Secret(" ".join(f"{name}:{role}:{hashed}" for role, name in NAMES.items()))


@pytest.fixture
def make_seat(database_url: str, users: Secret) -> Iterator[Callable[..., Seat]]:
    made: list[Services] = []
    consoles: list[Console] = []

    def make(*, origin: ConsoleOrigin | None = None, with_users: bool = True) -> Seat:
        clock = Clock()
        printed: list[str] = []
        people = Users(users if with_users else None, None)
        settings = Settings(database_url=normal_database_url(database_url))
        made.append(Services(settings))
        key = None if with_users else OneTimeKey(printed.append)
        if key is not None:
            key.print()
        console = Console(
            services=made[-1],
            login=Login(people, key, Throttle(clock)),
            sessions=Sessions(1800, clock),
            origin=origin or reached_at("127.0.0.1", 8321, users=with_users),
            renderer=Renderer(),
            recent=Recent(clock),
        )
        consoles.append(console)
        return Seat(build(console), console, clock, printed)

    yield make
    for console in consoles:
        console.uploads.close()
    for services in made:
        services.close()


@pytest.fixture
def closed_seat(users: Secret) -> Seat:
    """A console whose database nobody can reach: for what must be decided before it is asked."""
    settings = Settings(database_url="postgresql+psycopg://nobody@127.0.0.1:9/nothing")
    clock = Clock()
    login = Login(Users(users, None), None, Throttle(clock))
    origin = reached_at("127.0.0.1", 8321, users=True)
    console = Console(Services(settings), login, Sessions(1800, clock), origin, Renderer())
    return Seat(build(console), console, clock)


@pytest.fixture
def seat(make_seat: Callable[..., Seat]) -> Seat:
    return make_seat()


@pytest.fixture
def viewer(seat: Seat) -> Browser:
    return seat.browser(Role.VIEWER)


@pytest.fixture
def operator(seat: Seat) -> Browser:
    return seat.browser(Role.OPERATOR)


@pytest.fixture
def admin(seat: Seat) -> Browser:
    return seat.browser(Role.ADMIN)


def hidden(html: str, name: str) -> str:
    """The value of a hidden field of a page."""
    found = re.search(rf'name="{name}" value="([^"]*)"', html)
    assert found, f"no field {name}"
    return found[1].replace("&amp;", "&").replace("&#34;", '"').replace("&#39;", "'")
