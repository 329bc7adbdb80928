"""The console with a replica: lists are read there, confined as on the primary; acts are those of the primary."""

from collections.abc import Iterator

import pytest
from sqlalchemy import text

from dispatcher.config.setting import Secret
from dispatcher.config.settings import Settings
from dispatcher.config.urls import normal_database_url
from dispatcher.console.app import ROUTES, Console, build
from dispatcher.console.auth import Role, Sessions, Users
from dispatcher.console.guard import reached_at
from dispatcher.console.login import Login
from dispatcher.console.rendering import Renderer
from dispatcher.errors import NotAllowed, StoreUnavailable
from dispatcher.operator import failures
from dispatcher.operator.failure_filter import FailureFilter
from dispatcher.store.confinement import NotConfinable
from dispatcher.store.database import Database
from dispatcher.store.reading import Lag, Replica
from dispatcher.web.throttle import Throttle
from dispatcher.wiring import Services
from tests.console.conftest import Seat
from tests.support.databases import Databases
from tests.support.doubles import Clock
from tests.support.rows import BOB, Rows

LISTS = ("/", "/failed", "/failed/rows", "/leads", "/search?q=", "/incidents", "/workers", "/imports", "/audit")


@pytest.fixture
def replica_url(databases: Databases, template_database: str) -> Iterator[str]:
    """A second database, with rows of its own, in the part of the replica."""
    with databases.one(template_database) as url:
        yield url


@pytest.fixture
def kept(replica_url: str) -> Iterator[Rows]:
    """The rows of the replica."""
    database = Database(normal_database_url(replica_url))
    yield Rows(database)
    database.close()


@pytest.fixture
def lags() -> list[Lag]:
    """What the replica says of itself, the last entry now."""
    return [Lag(3.0)]


@pytest.fixture
def seat(database_url: str, replica_url: str, users: Secret, lags: list[Lag]) -> Iterator[Seat]:
    settings = Settings(database_url=database_url, database_read_url=replica_url)
    services, clock = Services(settings), Clock()
    replica = services.databases.replica
    assert replica is not None
    services.databases.__dict__["replica"] = Replica(
        replica.database, services.database, lag_max_seconds=60, lag=lambda *_: lags[-1], clock=clock
    )
    origin = reached_at("127.0.0.1", 8321, users=True)
    login = Login(Users(users, None), None, Throttle(clock))
    console = Console(services, login, Sessions(1800, clock), origin, Renderer())
    yield Seat(build(console), console, clock)
    console.uploads.close()
    services.close()


def test_every_list_shows_the_rows_of_the_replica_and_how_old_they_are(seat: Seat, rows: Rows, kept: Rows) -> None:
    rows.failed(message="of the primary", fingerprint="p")
    kept.failed(phone=BOB, message="of the replica", fingerprint="r")
    browser = seat.browser(Role.OPERATOR)

    for path in ("/failed", "/failed/rows"):
        page = browser.get(path).text
        assert "of the replica" in page
        assert "of the primary" not in page
    for path in LISTS:
        assert "As of 3 s ago, from the replica." in browser.get(path).text


def test_a_lead_and_every_act_are_those_of_the_primary(seat: Seat, rows: Rows, kept: Rows) -> None:
    known = rows.failed(message="of the primary")
    foreign = kept.failed(phone=BOB)
    browser = seat.browser(Role.ADMIN)

    assert browser.get(f"/leads/{known}").status_code == 200
    assert browser.get(f"/leads/{foreign}").status_code == 404
    assert browser.post(f"/leads/{foreign}/replay").status_code == 404
    preview = browser.post("/failed/preview", {"verb": "replay", "lead": str(foreign)})
    assert "There is nothing that this could safely do." in preview.text
    assert browser.post(f"/leads/{known}/replay").status_code == 303
    assert rows.one("SELECT state FROM dispatcher.leads WHERE id = :id", id=known).state == "pending"
    assert kept.one("SELECT state FROM dispatcher.leads").state == "failed"


def test_who_has_just_changed_something_sees_it_until_the_replica_must_have_it(
    seat: Seat, rows: Rows, kept: Rows
) -> None:
    known = rows.failed(message="of the primary", fingerprint="p")
    kept.failed(phone=BOB, message="of the replica", fingerprint="r")
    writer, other = seat.browser(Role.OPERATOR), seat.browser(Role.OPERATOR)
    writer.post(f"/leads/{known}/cancel")  # refused or not

    assert "of the primary" in writer.get("/failed").text
    assert "of the replica" in other.get("/failed").text
    seat.clock.now += 60
    assert "of the primary" in writer.get("/failed").text
    seat.clock.now += 2
    assert "of the replica" in writer.get("/failed").text


@pytest.mark.parametrize("lag", [Lag(61.0), Lag(None, "The replica is gone.")])
def test_a_late_replica_is_not_read_from_and_every_page_says_so(
    seat: Seat, rows: Rows, kept: Rows, lags: list[Lag], lag: Lag
) -> None:
    rows.failed(message="of the primary", fingerprint="p")
    kept.failed(phone=BOB, message="of the replica", fingerprint="r")
    lags.append(lag)

    page = seat.browser(Role.VIEWER).get("/failed").text

    assert "of the primary" in page
    assert "Lists are read from the primary, not from the replica" in page


def test_an_export_is_read_from_the_replica_and_noted_on_the_primary(seat: Seat, rows: Rows, kept: Rows) -> None:
    rows.failed(message="of the primary", fingerprint="p")
    kept.failed(phone=BOB, message="of the replica", fingerprint="r")

    export = seat.browser(Role.OPERATOR).post("/failed/export", {"format": "csv", "filters": ""}).text

    assert "of the replica" in export
    assert "of the primary" not in export
    assert rows.one("SELECT detail ->> 'rows' AS rows FROM dispatcher.audit_log WHERE action = 'export'").rows == "1"
    assert kept.rows("SELECT FROM dispatcher.audit_log") == []


def test_a_confined_user_sees_nothing_of_another_account_on_the_replica_or_when_it_fails(
    seat: Seat, rows: Rows, kept: Rows, lags: list[Lag]
) -> None:
    for store, place in ((rows, "primary"), (kept, "replica")):
        store.failed(account="acme", message=f"own on the {place}", fingerprint=f"own-{place}")
        store.failed(account="globex", phone=BOB, message=f"globex-{place}", fingerprint=f"globex-{place}")
    browser = seat.browser(Role.VIEWER, accounts=["acme"])

    for lag, place in ((Lag(3.0), "replica"), (Lag(61.0), "primary")):
        lags.append(lag)
        seat.clock.now += 5
        assert f"own on the {place}" in browser.get("/failed").text
        for route in ROUTES:
            if route.method == "GET" and "{" not in route.path:
                assert "globex" not in browser.get(route.path).text, (route.path, place)
        for path in LISTS:
            assert "globex" not in browser.get(path).text, (path, place)


def test_the_replica_is_confined_by_its_connections_not_by_its_queries(seat: Seat, kept: Rows) -> None:
    kept.failed(account="globex")
    confined = seat.console.services.confined(frozenset({"acme"}))

    assert confined.reading.read(failures.groups, FailureFilter()) == []
    assert confined.reading.survey(failures.matching, FailureFilter(), limit=9) == []
    with confined.database.transaction() as connection:
        assert confined.reading.beside(connection, failures.matching, FailureFilter(), limit=9) == []
    with pytest.raises(NotConfinable):
        confined.reading.read(lambda connection: connection.execute(text("SELECT * FROM dispatcher.accounts")).all())
    everything = seat.console.services.reading.read(failures.groups, FailureFilter())
    assert [group.leads for group in everything] == [1]


def test_a_connection_for_reading_refuses_writes(seat: Seat) -> None:
    for services in (seat.console.services, seat.console.services.confined(frozenset({"acme"}))):
        elsewhere = services.reading._elsewhere
        assert elsewhere is not None
        for run in (elsewhere.read, elsewhere.again):
            with pytest.raises((StoreUnavailable, NotAllowed)):
                run(lambda connection: connection.execute(text("DELETE FROM dispatcher.leads")))
