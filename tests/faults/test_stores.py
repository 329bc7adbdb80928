"""Postgres crashes, is cut off at the very commit, is away when an answer comes, has no connection left."""

import contextlib
import random
import signal
import threading
import time
from collections.abc import Iterator
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from dispatcher.embedded.postgres import EmbeddedPostgres
from tests.faults.conftest import Case
from tests.faults.proxy import Proxy
from tests.faults.test_signals import stopped
from tests.support.waiting import wait_until


def through(proxy: Proxy, url: str) -> str:
    parts = urlsplit(url)
    credentials = parts.netloc.rsplit("@", 1)[0]
    return urlunsplit(parts._replace(netloc=f"{credentials}@127.0.0.1:{proxy.port}", query="sslmode=disable"))


@pytest.fixture
def proxy(database_url: str) -> Iterator[Proxy]:
    parts = urlsplit(database_url)
    with Proxy((parts.hostname or "", parts.port or 5432)) as made:
        yield made


def test_f20_postgres_crashes_again_and_again_under_load(case: Case, own_postgres: EmbeddedPostgres, seed: int) -> None:
    harness = case({"DATABASE_URL": own_postgres.url()}, latency_seconds=0.05)
    harness.submit(60)
    harness.engine()
    for nth in range(1, 4):
        wait_until(lambda: harness.created() >= 12 * nth, 30)  # noqa: B023 - asked at once
        time.sleep(random.Random(seed * 10 + nth).uniform(0, 0.1))  # the instant is the seed's choice
        own_postgres.restart("immediate")
    endings = harness.settle()
    assert set(endings) <= {"accepted", "failed:outcome_unknown"}, endings
    harness.assert_sound()


def is_claim(data: bytes) -> bool:
    """By its parameters, for a prepared statement comes without its text: the gate states that shut a channel."""
    return b"closed" in data and b"probing" in data


def test_f21_a_claim_whose_commit_is_not_acknowledged_is_given_back_and_not_in_doubt(
    case: Case, proxy: Proxy, database_url: str, seed: int
) -> None:
    harness = case()
    harness.engine(DATABASE_URL=through(proxy, database_url))
    harness.submit(1)
    wait_until(lambda: harness.states()["accepted"] == 1)
    proxy.swallow_answer_to(is_claim)
    harness.submit(3, allow_dupplicate=True)
    wait_until(lambda: proxy.cuts == 1, 10)
    harness.settle(controls=False)
    assert harness.posts() == len(harness.submitted)
    harness.assert_sound()


@pytest.mark.parametrize("place", ["record.before"])
def test_f22_a_result_whose_commit_is_not_acknowledged_is_repeated(
    place: str, case: Case, proxy: Proxy, database_url: str, seed: int
) -> None:
    harness = case(latency_seconds=0.1)
    harness.engine(DATABASE_URL=through(proxy, database_url))
    harness.submit(1)
    wait_until(lambda: harness.states()["accepted"] == 1)
    ids = harness.submit(2)
    wait_until(lambda: harness.created() >= 2, 10)
    proxy.swallow_answer_to(lambda data: b"jsonb_to_recordset" in data or b"voicery_lead_id" in data)
    harness.submit(1)
    wait_until(lambda: proxy.cuts == 1, 10)
    harness.settle(controls=False)
    assert all(harness.posts_of(lead_id) == 1 for lead_id in ids)
    assert set(harness.endings()) == {"accepted"}
    harness.assert_sound()


def test_f23_postgres_is_gone_right_after_the_yes_and_the_result_is_kept_until_it_is_back(
    case: Case, own_postgres: EmbeddedPostgres, seed: int
) -> None:
    harness = case({"DATABASE_URL": own_postgres.url()}, latency_seconds=0.4)
    ids = harness.submit(3)
    harness.engine(DISPATCHER_LEASE="30")
    wait_until(lambda: harness.posts() >= 1 or harness.created() >= 1, 10)
    own_postgres.stop("immediate")
    wait_until(lambda: harness.created() >= 3, 10)
    posts = harness.posts()
    time.sleep(3 if seed < 100 else 60)  # how long Postgres is away
    assert harness.posts() == posts, "nothing is claimed while a result is owed"
    own_postgres.start()
    wait_until(lambda: harness.states()["accepted"] == 3, 20, harness._logs)
    assert [harness.story(lead_id) for lead_id in ids] == [[("accepted", False)]] * 3
    harness.assert_sound()


def test_f23_and_if_the_process_dies_too_the_look_up_finds_it(
    case: Case, own_postgres: EmbeddedPostgres, seed: int
) -> None:
    harness = case({"DATABASE_URL": own_postgres.url()}, latency_seconds=0.4)
    ids = harness.submit(3)
    engine = harness.engine()
    wait_until(lambda: harness.posts() >= 1 or harness.created() >= 1, 10)
    own_postgres.stop("immediate")
    wait_until(lambda: harness.created() >= 3, 10)
    engine.kill()
    assert not [path for path in harness.directory.rglob("*") if path.is_file() and path.suffix != ".log"]
    own_postgres.start()
    harness.engine()
    assert set(harness.settle()) == {"accepted"}
    assert all(harness.posts_of(lead_id) == 1 for lead_id in ids)
    harness.assert_sound()


def test_f18_a_partition_that_heals_while_the_worker_is_frozen(
    case: Case, proxy: Proxy, database_url: str, seed: int
) -> None:
    """It sleeps with the answer in its hands, is cut off, and wakes when another one has found the lead by the list."""
    harness = case()
    harness.precede()
    (lead_id,) = harness.submit(1)
    frozen = harness.engine(
        failpoint="post.after_answer:1:stop", ready=False, DATABASE_URL=through(proxy, database_url)
    )
    wait_until(lambda: stopped(frozen.pid), 20)
    proxy.refusing = True
    proxy.cut_all()
    harness.engine()
    wait_until(lambda: harness.state_of(lead_id) == "unknown", 20)
    harness.settle()
    assert harness.state_of(lead_id) == "accepted"
    proxy.refusing = False
    frozen.send(signal.SIGCONT)
    (later,) = harness.submit(1)
    wait_until(lambda: harness.state_of(later) == "accepted", 20, lambda: frozen.log)
    wait_until(lambda: "lease.lost" in frozen.log, 30, lambda: frozen.log)
    assert harness.posts_of(lead_id) == 1
    harness.settle()
    harness.assert_sound()


def test_f24_a_long_transaction_beside_hinders_nobody(case: Case, database_url: str, seed: int) -> None:
    harness = case()
    with psycopg.connect(database_url) as beside:
        beside.execute("SELECT count(*) FROM dispatcher.leads")
        harness.submit(30)
        harness.engine()
        assert set(harness.settle()) == {"accepted"}
    harness.assert_sound()


def test_f25_without_a_free_connection_nothing_is_sent_and_nothing_is_lost(
    case: Case, own_postgres: EmbeddedPostgres, seed: int
) -> None:
    harness = case({"DATABASE_URL": own_postgres.url()})
    harness.submit(5)
    with contextlib.ExitStack() as held:
        with contextlib.suppress(psycopg.OperationalError):
            for _ in range(200):
                held.enter_context(psycopg.connect(own_postgres.url()))
        harness.engine()
        time.sleep(1)  # it has had the time to send, had it been wrong
        assert harness.posts() == 0
    assert set(harness.settle(controls=False)) == {"accepted"}
    harness.assert_sound()


def test_i10_no_transaction_is_open_while_voicery_is_asked(case: Case, database_url: str, seed: int) -> None:
    harness = case(latency_seconds=1.5)
    harness.submit(8)
    harness.engine(DISPATCHER_READ_TIMEOUT="5", DISPATCHER_DEADLINE="6", DISPATCHER_LEASE="12")
    idle: list[tuple[float, str]] = []
    samples = 0
    stop = threading.Event()

    def sample() -> None:
        nonlocal samples
        with psycopg.connect(database_url, autocommit=True) as connection:
            while not stop.is_set():
                rows = connection.execute(
                    "SELECT extract(epoch FROM clock_timestamp() - state_change), query FROM pg_stat_activity"
                    " WHERE datname = current_database() AND state LIKE 'idle in transaction%'"
                    " AND clock_timestamp() - state_change > interval '700 ms'"  # a busy machine takes some too
                ).fetchall()
                samples += 1
                idle.extend((float(seconds), query) for seconds, query in rows)
                stop.wait(0.02)

    sampling = threading.Thread(target=sample)
    sampling.start()
    harness.settle(controls=False)
    stop.set()
    sampling.join()
    assert samples > 20
    assert idle == []
