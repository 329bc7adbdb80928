"""Redis as people have it: TLS, the parameters of its URL, and a memory that is gone."""

import bisect
import contextlib
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import uuid_utils.compat

from dispatcher.broker.connection import connect
from dispatcher.broker.limiter import History, Limiter, LimiterUnavailable
from dispatcher.celery import WorkerApp, worker_configuration
from dispatcher.config.account import RateWindow
from dispatcher.config.urls import normal_database_url, normal_redis_url
from dispatcher.lead.options import Channel
from dispatcher.store import accounts
from dispatcher.store.database import Database
from tests.support.doubles import Clock
from tests.support.rows import Rows
from tests.support.tls_front import TlsFront

PASSWORD = "never-to-strangers"


@pytest.fixture
def stranger(tmp_path: Path) -> Iterator[TlsFront]:
    """A TLS server whose certificate no authority has signed."""
    front = TlsFront(tmp_path, None)
    yield front
    front.close()


@pytest.fixture
def front(tmp_path: Path, redis_url: str) -> Iterator[TlsFront]:
    """A Redis behind TLS."""
    made = TlsFront(tmp_path, redis_url)
    yield made
    made.close()


def ping_as_producer(url: str) -> None:
    connect(normal_redis_url(url)).ping()


def ping_as_worker(url: str) -> None:
    app = WorkerApp(configuration=lambda: worker_configuration(normal_redis_url(url)))
    with app.connection_for_read() as connection:
        connection.default_channel.client.ping()


PINGS = pytest.mark.parametrize("ping", [ping_as_producer, ping_as_worker])


# Source: Celery's `rediss://` without `ssl_cert_reqs` means CERT_NONE (kombu 5.7, `connection.ssl`).
@PINGS
def test_no_password_is_told_to_a_server_without_a_valid_certificate(ping: Any, stranger: TlsFront) -> None:
    with pytest.raises(Exception, match=r"(?i)certificate"):
        ping(f"rediss://:{PASSWORD}@127.0.0.1:{stranger.port}/0")

    assert stranger.heard == b""


@PINGS
def test_a_certificate_of_another_host_is_refused(ping: Any, tmp_path: Path) -> None:
    other = TlsFront(tmp_path, None, "redis.example.org")
    with pytest.raises(Exception, match=r"(?i)certificate|mismatch"):
        ping(f"rediss://:{PASSWORD}@127.0.0.1:{other.port}/0?ssl_ca_certs={other.certificate}")

    assert other.heard == b""
    other.close()


@PINGS
@pytest.mark.parametrize(
    "query",
    [
        "ssl_ca_certs={certificate}",
        "ssl_cert_reqs=none",
        "ssl_cert_reqs=CERT_NONE",  # as Heroku's and Celery's documents write it
        "ssl_ca_certs={certificate}&ssl_min_version=TLSv1_2&health_check_interval=30&client_name=leads",
    ],
)
def test_a_parameter_means_the_same_to_doorbell_limiter_and_broker(
    ping: Any, front: TlsFront, redis_url: str, query: str
) -> None:
    user = urlsplit(redis_url).netloc.rpartition("@")[0]
    ping(f"rediss://{user}@127.0.0.1:{front.port}/0?{query.format(certificate=front.certificate)}")


@PINGS
def test_health_check_interval_in_a_plain_url_reaches_all(ping: Any, redis_url: str) -> None:
    ping(f"{redis_url}?health_check_interval=30")


@PINGS
def test_the_database_in_the_query_is_the_database_of_all(ping: Any, redis_url: str) -> None:
    parts = urlsplit(redis_url)
    ping(f"redis://{parts.netloc}?db=1")
    app = WorkerApp(configuration=lambda: worker_configuration(normal_redis_url(f"redis://{parts.netloc}?db=1")))
    with app.connection_for_read() as connection:
        assert connection.default_channel.client.connection_pool.connection_kwargs["db"] == 1


def test_the_workers_configuration_shows_no_password() -> None:
    configuration = worker_configuration(f"redis://user:{PASSWORD}@127.0.0.1:6379/0?password={PASSWORD}")

    assert PASSWORD not in repr(configuration)


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("redis://h/0?socket_timeout=5", "sets socket_timeout, which the dispatcher bounds itself; remove it"),
        ("redis://h/0?retry_on_timeout=true", "sets retry_on_timeout, which the dispatcher bounds itself"),
        ("redis://h/0?ssl_cert_reqs=none", "sets ssl_cert_reqs without TLS; write rediss://"),
        ("unix:///run/redis.sock?ssl_ca_certs=/x", "sets ssl_ca_certs without TLS"),
        ("rediss://h/0?ssl_cert_req=none", "did you mean ssl_cert_reqs"),
        ("rediss://h/0?ssl_cert_reqs=maybe", "value of ssl_cert_reqs that cannot be used; give required"),
        ("rediss://h/0?ssl_ca_certs=/nowhere.pem", "ssl_ca_certs that cannot be used; give the path of a PEM file"),
        ("rediss://h/0?ssl_check_hostname=perhaps", "ssl_check_hostname that cannot be used; give true or false"),
        ("rediss://h/0?ssl_min_version=TLSv1", "ssl_min_version that cannot be used; give TLSv1_2"),
        ("redis://h?db=one", "value of db that cannot be used"),
        ("redis://h?db=1&virtual_host=2", "gives the parameter db twice"),
        ("redis://h/0?fruit=apple", "a parameter that is not known; known are"),
    ],
)
def test_a_parameter_that_cannot_work_is_refused_at_start_by_name(url: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        normal_redis_url(url)


# A memory that is gone ------------------------------------------------------------------------------------------------

WINDOWS = (RateWindow(20, 10.0), RateWindow(60, 60.0))
HERE = Channel("default", 42)


class Told:
    """What Postgres would tell of the requests of the last seconds."""

    def __init__(self, *posts: tuple[float, int], listing: bool = False) -> None:
        self.history = History(posts, listing)
        self.asked = 0

    def __call__(self, _channel: Channel, _seconds: float) -> History:
        self.asked += 1
        return self.history


def limiter_with(redis_url: str, told: Told, clock: Clock) -> Limiter:
    return Limiter(connect(redis_url), history=told, now_microseconds=lambda: int(clock.now * 1_000_000))


# `evicted`: Redis docs, key eviction: with allkeys-lru and the like a full server drops single keys, any of them.
@pytest.mark.parametrize("loss", ["flushall", "evicted", "never_known"])
def test_a_limiter_without_memory_does_not_grant_what_was_used_already(redis_url: str, loss: str) -> None:
    clock, told = Clock(1_000.0), Told()
    limiter = limiter_with(redis_url, told, clock)
    if loss == "flushall":
        assert limiter.take(HERE, 20, WINDOWS).granted == 20
        connect(redis_url).flushall()
    if loss == "evicted":
        assert limiter.take(HERE, 20, WINDOWS).granted == 20
        connect(redis_url).delete("dispatcher:permits:default")
    told.history = History(((0.5, 12), (3.0, 8), (30.0, 5)))

    first = limiter.take(HERE, 20, WINDOWS)
    # What was granted before the loss may still become a claim.
    assert (first.granted, first.next_in_seconds) == (0, pytest.approx(1.0))
    clock.now += 1.0
    assert limiter.take(HERE, 20, WINDOWS).granted == 0
    clock.now += 7.3  # the eight of three seconds ago have left the window of ten, with its margin
    assert limiter.take(HERE, 20, WINDOWS).granted == 8


def test_a_limiter_that_never_sent_starts_at_once(redis_url: str) -> None:
    told = Told()
    limiter = limiter_with(redis_url, told, Clock(1_000.0))

    assert [limiter.take(HERE, 5, WINDOWS).granted for _ in range(5)] == [5, 5, 5, 5, 0]
    assert told.asked == 1


def test_permits_that_were_given_back_and_a_window_that_passed_are_no_loss(redis_url: str) -> None:
    clock, told = Clock(1_000.0), Told()
    limiter = limiter_with(redis_url, told, clock)

    for pause in (0.0, 0.0, 70.0, 100.0):
        clock.now += pause
        permits = limiter.take(HERE, 20, WINDOWS)
        assert permits.granted == 20
        limiter.give_back(permits, 20)
    assert told.asked == 1


def test_where_look_ups_may_have_been_sent_their_share_counts_as_used(redis_url: str) -> None:
    clock = Clock(1_000.0)
    limiter = limiter_with(redis_url, Told((1.0, 4), listing=True), clock)

    limiter.take(HERE, 20, WINDOWS)
    clock.now += 1.0
    assert limiter.take(HERE, 20, WINDOWS).granted == 20 - 4 - 12  # a fifth of the 60
    assert limiter.take_lookups("default", 1, WINDOWS, leads_wait=True).granted == 0


@pytest.mark.parametrize("before", ["none_yet", "long_ago"])
def test_the_first_look_up_in_a_while_waits_for_no_window(redis_url: str, before: str) -> None:
    """Their log lapses without them; the account's, which leads use, is known and keeps the limit."""
    clock, told = Clock(1_000.0), Told()
    limiter = limiter_with(redis_url, told, clock)
    limiter.take(HERE, 5, WINDOWS)
    if before == "long_ago":
        assert limiter.take_lookups("default", 1, WINDOWS, leads_wait=True).granted == 1
    for key in ("", ":known"):
        connect(redis_url).delete(f"dispatcher:permits:default:lookups{key}")
    told.history = History(((1.0, 5),), listing=True)  # a gate has closed

    assert limiter.take_lookups("default", 1, WINDOWS, leads_wait=True).granted == 1
    assert limiter.take_lookups("default", 20, WINDOWS, leads_wait=True).granted == 3  # a fifth of the 20


@pytest.mark.parametrize(("seconds", "bounded"), [(10.0, False), (13.0, True)])
def test_a_window_that_is_longer_by_what_delays_differ_bounds_what_arrives(
    redis_url: str, seconds: float, bounded: bool
) -> None:
    """Decision 131: a way that takes now nothing and now three seconds brings together what left apart."""
    clock, dice, arrived = Clock(1_000.0), random.Random(1), list[float]()
    limiter = limiter_with(redis_url, Told(), clock)
    for _ in range(150):
        granted = limiter.take(HERE, 5, [RateWindow(20, seconds)]).granted
        arrived += [clock.now + dice.choice((0.0, 3.0)) for _ in range(granted)]
        clock.now += dice.choice((0.1, 0.5, 3.0))
    arrived.sort()
    most = max(bisect.bisect_left(arrived, at + 10.0) - place for place, at in enumerate(arrived))

    assert len(arrived) > 100
    assert (most <= 20) is bounded


def test_the_share_of_look_ups_counts_as_used_also_where_leads_notice_the_loss(redis_url: str) -> None:
    clock = Clock(1_000.0)
    limiter = limiter_with(redis_url, Told((1.0, 4), listing=True), clock)

    limiter.take(HERE, 1, WINDOWS)
    clock.now += 1.0
    assert limiter.take(HERE, 1, WINDOWS).granted == 1
    assert limiter.take_lookups("default", 1, WINDOWS, leads_wait=True).granted == 0


def test_without_posts_look_ups_may_have_used_all(redis_url: str) -> None:
    clock = Clock(1_000.0)
    limiter = limiter_with(redis_url, Told(listing=True), clock)

    limiter.take(HERE, 20, WINDOWS)
    clock.now += 1.0
    assert limiter.take(HERE, 20, WINDOWS).granted == 0


def test_a_campaigns_own_limit_is_remembered_too(redis_url: str) -> None:
    clock = Clock(1_000.0)
    limiter = limiter_with(redis_url, Told((1.0, 3)), clock)
    own = (RateWindow(5, 60.0),)

    limiter.take(HERE, 5, WINDOWS, own)
    clock.now += 1.0
    assert limiter.take(HERE, 5, WINDOWS, own).granted == 2


def test_two_workers_that_notice_the_loss_together_count_it_once(redis_url: str) -> None:
    clock, told = Clock(1_000.0), Told((1.0, 10))
    one, other = (limiter_with(redis_url, told, clock) for _ in range(2))

    for limiter in (one, other):
        assert limiter.take(HERE, 1, WINDOWS).granted == 0
    clock.now += 1.0
    assert [limiter.take(HERE, 5, WINDOWS).granted for limiter in (one, other)] == [5, 5]
    assert one.take(HERE, 5, WINDOWS).granted == 0


def test_nothing_is_granted_while_nobody_can_tell(redis_url: str) -> None:
    def away(_channel: Channel, _seconds: float) -> History:
        raise LimiterUnavailable("Postgres is away")

    with pytest.raises(LimiterUnavailable):
        Limiter(connect(redis_url), history=away).take(HERE, 1, WINDOWS)


def test_postgres_tells_the_attempts_of_the_window(database_url: str) -> None:
    with contextlib.closing(Database(normal_database_url(database_url))) as database:
        rows = Rows(database)
        for campaign, age, count in ((42, 5, 3), (43, 20, 2), (42, 400, 7)):
            for number in range(count):
                attempt_id = uuid_utils.compat.uuid7()
                phone = f"+1202555{campaign}{age % 10}{number}"
                lead_id = rows.lead("accepted", phone=phone, campaign_id=campaign, attempt_id=attempt_id)
                rows.run(
                    "INSERT INTO dispatcher.lead_attempts (id, lead_id, number, account, campaign_id, phone_number,"
                    " watermark, started_at, ended_at, finished_at) VALUES (:id, :lead_id, 1, 'default', :campaign,"
                    " :phone, 0, now() - make_interval(secs => :age), now(), now())",
                    id=attempt_id, lead_id=lead_id, campaign=campaign, phone=phone, age=age,
                )  # fmt: skip
        ask = accounts.history(database)

        everything, campaign = ask(Channel("default", 0), 60.0), ask(Channel("default", 42), 60.0)

    assert sorted(count for _, count in everything.posts) == [2, 3]
    assert {round(age, -1) for age, _ in everything.posts} == {0, 20}
    assert [count for _, count in campaign.posts] == [3]
    assert not everything.listing
