"""Lists are read from a streaming replica, and what decides never is: on a real standby, whose replay is paused."""

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection

from dispatcher.api import Dispatcher
from dispatcher.cli.doctor import Grade
from dispatcher.cli.doctor_replica import replica_checks
from dispatcher.config.settings import Settings
from dispatcher.config.urls import normal_database_url
from dispatcher.embedded.postgres import ROLE, EmbeddedPostgres
from dispatcher.errors import LeadNotFound, StoreUnavailable
from dispatcher.metrics.exporter import Scrape
from dispatcher.operator import leads, overview
from dispatcher.operator.lead_filter import LeadFilter
from dispatcher.store.database import Database
from dispatcher.store.reading import Lag, Place, Reading, Replica, measure
from dispatcher.store.trouble import Cancelled, TryAgain
from tests.support.doubles import Clock
from tests.support.rows import BOB, Rows
from tests.support.waiting import wait_until

LEAD = {"phone_number": "+12025550133", "campaign_id": 42}


@pytest.fixture(scope="module")
def pair(
    server_dir: Path, postgres_seed: Path, postgres_bin_dir: Path | None
) -> Iterator[tuple[EmbeddedPostgres, EmbeddedPostgres]]:
    """A primary and its streaming standby: two copies of one stopped cluster."""
    places = [Path(tempfile.mkdtemp(prefix=name, dir=server_dir)) for name in ("primary-", "standby-")]
    for place in places:
        subprocess.run(["cp", "-a", f"{postgres_seed}/.", place], check=True)
    primary = EmbeddedPostgres(places[0], durable=False, bin_dir=postgres_bin_dir, options={"wal_level": "replica"})
    with primary:
        password = (primary.directory / "password").read_text().strip()
        source = f"host=127.0.0.1 port={primary.port} user={ROLE} password={password}"
        signal = places[1] / "data" / "standby.signal"
        signal.touch(0o600)
        owner = (places[1] / "data").stat()
        subprocess.run(["chown", f"{owner.st_uid}:{owner.st_gid}", signal], check=True)
        options = {"primary_conninfo": source, "wal_level": "replica"}
        with EmbeddedPostgres(places[1], durable=False, bin_dir=postgres_bin_dir, options=options) as standby:
            yield primary, standby


@pytest.fixture
def primary(pair: tuple[EmbeddedPostgres, EmbeddedPostgres]) -> Iterator[Database]:
    database = Database(normal_database_url(pair[0].url()))
    yield database
    database.close()


@pytest.fixture
def standby(pair: tuple[EmbeddedPostgres, EmbeddedPostgres], primary: Database) -> Iterator[Database]:
    database = Database(normal_database_url(pair[1].url()), read_only=True)
    rows = Rows(database)
    wait_until(lambda: measure(database, primary) == Lag(0.0), describe="the standby has everything")
    yield database
    rows.rows("SELECT pg_wal_replay_resume()")
    database.close()


@pytest.fixture
def settings(pair: tuple[EmbeddedPostgres, EmbeddedPostgres], redis_url: str) -> Settings:
    return Settings(database_url=pair[0].url(), database_read_url=pair[1].url(), redis_url=redis_url)


def pause_replay(standby: Database) -> None:
    rows = Rows(standby)
    rows.rows("SELECT pg_wal_replay_pause()")
    wait_until(
        lambda: rows.one("SELECT pg_get_wal_replay_pause_state() AS state").state == "paused", describe="it is paused"
    )


def count(reading: Reading) -> int:
    return leads_of(reading.read(leads.count_matching, LeadFilter()))


def leads_of(found: overview.Count) -> int:
    return found.value


def test_a_list_shows_what_the_standby_has_and_an_act_finds_what_the_primary_has(
    settings: Settings, primary: Database, standby: Database
) -> None:
    rows = Rows(primary)
    dispatcher = Dispatcher(settings)
    before = count(dispatcher.reading)
    pause_replay(standby)
    lead_id = rows.failed()
    assert count(dispatcher.reading) == before
    assert rows.one("SELECT count(*) AS leads FROM dispatcher.leads").leads == before + 1
    place = dispatcher.reading.place
    assert place is not None
    assert place.replica

    dispatcher.replay(lead_id)

    assert dispatcher.get(lead_id).state == "pending"
    assert count(dispatcher.reading) == before
    Rows(standby).rows("SELECT pg_wal_replay_resume()")
    wait_until(lambda: count(dispatcher.reading) == before + 1, describe="the standby has the lead")
    dispatcher.close()


def test_what_only_the_standby_still_has_cannot_be_acted_on(
    settings: Settings, primary: Database, standby: Database
) -> None:
    rows = Rows(primary)
    lead_id = rows.failed(phone=BOB)
    wait_until(lambda: measure(standby, primary) == Lag(0.0), describe="the standby has the lead")
    dispatcher = Dispatcher(settings)
    assert dispatcher.reading.place == Place(replica=True, lag_seconds=0.0)
    pause_replay(standby)
    rows.run("DELETE FROM dispatcher.failed_leads WHERE lead_id = :id", id=lead_id)
    rows.run("DELETE FROM dispatcher.leads WHERE id = :id", id=lead_id)
    listed = dispatcher.reading.survey(leads.matching, LeadFilter(), most=100)

    assert lead_id in {one.id for one in listed}
    for act in (dispatcher.get, dispatcher.replay, dispatcher.cancel, dispatcher.explain):
        with pytest.raises(LeadNotFound):
            act(lead_id)
    dispatcher.close()


def test_a_lead_that_the_standby_lacks_is_a_duplicate_all_the_same(
    settings: Settings, primary: Database, standby: Database
) -> None:
    pause_replay(standby)
    dispatcher = Dispatcher(settings)

    assert dispatcher.submit(LEAD).state == "pending"
    assert dispatcher.submit(LEAD).state == "duplicate"
    dispatcher.close()


def test_the_standby_takes_no_write_and_neither_does_our_session_on_a_primary(
    pair: tuple[EmbeddedPostgres, EmbeddedPostgres], standby: Database
) -> None:
    promoted = Database(normal_database_url(pair[0].url()), read_only=True)
    for database in (standby, promoted):
        with pytest.raises(StoreUnavailable, match="takes no writes"):
            Rows(database).run("DELETE FROM dispatcher.leads")
    promoted.close()


def test_any_login_may_ask_how_far_the_standby_is_behind(
    pair: tuple[EmbeddedPostgres, EmbeddedPostgres], primary: Database, standby: Database
) -> None:
    Rows(primary).run("CREATE ROLE watcher LOGIN PASSWORD 'watcher'")
    wait_until(lambda: measure(standby, primary) == Lag(0.0), describe="the standby has the role")
    urls = [f"postgresql+psycopg://watcher:watcher@127.0.0.1:{server.port}/dispatcher" for server in pair]
    source, copy = map(Database, urls)

    assert measure(copy, source) == Lag(0.0)
    source.close()
    copy.close()


def test_a_server_that_is_no_standby_or_one_of_another_database_is_not_read_from(
    pair: tuple[EmbeddedPostgres, EmbeddedPostgres], primary: Database, standby: Database, database_url: str
) -> None:
    another = Database(normal_database_url(database_url))
    itself = measure(primary, primary)
    foreign = measure(standby, another)
    another.close()

    assert itself.seconds is None
    assert "no streaming replica" in (itself.fault or "")
    assert foreign.seconds is None
    assert "another database" in (foreign.fault or "")


def test_a_standby_still_tells_its_age_while_the_primary_is_away(standby: Database) -> None:
    away = Database("postgresql+psycopg://nobody@127.0.0.1:9/nothing")
    lag = measure(standby, away)
    away.close()

    assert lag.seconds is None or lag.seconds >= 0
    assert lag.fault is None or "does not say" in lag.fault


def test_what_lags_more_than_allowed_is_read_from_the_primary_and_used_again_later(
    primary: Database, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="dispatcher")
    clock, lags = Clock(), [3.0, 61.0, 0.0]
    replica = Replica(primary, primary, lag_max_seconds=60, lag=lambda *_: Lag(lags.pop(0)), clock=clock)

    assert replica.place() == Place(replica=True, lag_seconds=3.0)
    assert replica.place().lag_seconds == 3.0  # measured once a second
    clock.now += 1
    late = replica.place()
    clock.now += 5
    again = replica.place()

    assert (late.replica, late.lag_seconds) == (False, 61.0)
    assert "61 s behind" in late.sentence
    assert "DISPATCHER_READ_LAG_MAX is 60" in late.sentence
    assert again == Place(replica=True, lag_seconds=0.0)
    assert [record.message for record in caplog.records] == ["replica.not_used", "replica.used"]


def test_a_replica_that_cannot_be_reached_is_told_and_the_primary_read(primary: Database) -> None:
    away = Database("postgresql+psycopg://reader:hunter2@127.0.0.1:9/nothing")
    replica = Replica(away, primary, lag_max_seconds=60)
    reading = Reading(primary, replica, away)

    assert reading.read(leads.count_matching, LeadFilter()).value >= 0
    place = reading.place
    assert place is not None
    assert not place.replica
    assert "host and port of DATABASE_READ_URL" in (place.fault or "")
    assert "hunter2" not in place.sentence
    away.close()


@pytest.mark.parametrize("failure", [TryAgain("40001"), StoreUnavailable("Postgres has crashed and restarts.")])
def test_a_query_that_fails_on_the_replica_is_answered_by_the_primary(primary: Database, failure: Exception) -> None:
    class Failing(Database):
        def read(self, *_arguments: object, **_options: object) -> None:  # type: ignore[override]
            raise failure

    failing = Failing("postgresql+psycopg://nobody@127.0.0.1:9/nothing")
    replica = Replica(failing, primary, lag_max_seconds=60, lag=lambda *_: Lag(0.0))
    reading = Reading(primary, replica, failing)

    assert reading.read(leads.count_matching, LeadFilter()).value >= 0
    assert not replica.place().replica


def test_a_query_that_takes_too_long_is_not_repeated_on_the_primary(primary: Database) -> None:
    class Slow(Database):
        def read(self, *_arguments: object, **_options: object) -> None:  # type: ignore[override]
            raise Cancelled("A statement was cancelled.")

    slow = Slow("postgresql+psycopg://nobody@127.0.0.1:9/nothing")
    reading = Reading(primary, Replica(slow, primary, lag_max_seconds=60, lag=lambda *_: Lag(0.0)), slow)

    with pytest.raises(Cancelled):
        reading.read(leads.count_matching, LeadFilter())


def test_a_statement_that_is_cut_off_is_told_apart(primary: Database) -> None:
    def slowly(connection: Connection) -> None:
        connection.exec_driver_sql("SET LOCAL statement_timeout = '10ms'")
        connection.exec_driver_sql("SELECT pg_sleep(5)")

    with pytest.raises(Cancelled):
        primary.again(slowly)


def test_a_replica_is_no_older_than_when_it_had_everything(primary: Database) -> None:
    clock, lags = Clock(), [0.0, 3600.0, 3700.0]
    replica = Replica(primary, primary, lag_max_seconds=60, lag=lambda *_: Lag(lags.pop(0)), clock=clock)

    replica.place()
    clock.now += 10
    idle = replica.place()
    clock.now += 100
    late = replica.place()

    assert idle == Place(replica=True, lag_seconds=10.0)
    assert (late.replica, late.lag_seconds) == (False, 110.0)


def test_a_counter_of_the_metrics_never_goes_back_when_the_replica_is_used_again(
    primary: Database, standby: Database
) -> None:
    rows = Rows(primary)
    rows.run("INSERT INTO dispatcher.tallies (name, account, label, value) VALUES ('sweeps', '', '', 5)")
    wait_until(lambda: measure(standby, primary) == Lag(0.0), describe="the standby has it")
    pause_replay(standby)
    rows.run("UPDATE dispatcher.tallies SET value = 9 WHERE name = 'sweeps'")
    clock, lags = Clock(), [99.0, 2.0]
    replica = Replica(standby, primary, lag_max_seconds=60, lag=lambda *_: Lag(lags.pop(0)), clock=clock)
    scraping = Scrape(Reading(primary, replica, standby), rate_use=tuple, doorbells=lambda: 0, clock=clock)

    by_primary = scraping.text()
    clock.now += 5
    by_replica = scraping.text()

    assert b"dispatcher_sweeps_total 9.0" in by_primary
    assert b"dispatcher_replica_used 0.0" in by_primary
    assert b"dispatcher_sweeps_total 9.0" in by_replica
    assert b"dispatcher_replica_used 1.0" in by_replica
    assert b"dispatcher_replica_lag_seconds 2.0" in by_replica


def test_doctor_tells_a_replica_that_is_used_and_one_that_is_not(settings: Settings, standby: Database) -> None:
    (good,) = replica_checks(settings)
    (wrong,) = replica_checks(settings.model_copy(update={"database_read_url": settings.database_url}))

    assert (good.name, good.verdict) == ("Replica", Grade.GOOD)
    assert "behind" in good.found
    assert wrong.verdict is Grade.DOUBTFUL
    assert "no streaming replica" in wrong.found
    assert replica_checks(settings.model_copy(update={"database_read_url": None})) == []
