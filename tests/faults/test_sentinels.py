"""Redis behind sentinels: the primary dies in the middle of a drain, and the promoted replica knows too little."""

import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from dispatcher.broker.connection import connect
from dispatcher.broker.doorbell import Doorbell
from dispatcher.broker.limiter import History, Limiter, LimiterUnavailable
from dispatcher.celery import WorkerApp, worker_configuration
from dispatcher.cli.doctor import Grade
from dispatcher.cli.doctor_sentinels import judge_sentinels
from dispatcher.config.account import RateWindow
from dispatcher.config.urls import normal_redis_url
from dispatcher.embedded.redis import EmbeddedRedis
from dispatcher.lead.options import Channel
from tests.faults.conftest import Case
from tests.support.sentinels import MASTER, PASSWORD, SENTINEL_PASSWORD, Watched
from tests.support.tls_front import TlsFront
from tests.support.waiting import wait_until
from tests.support.worker_process import WorkerProcess

LOG = "dispatcher:permits:default"
WINDOW = 7  # seconds, longer than the failover takes


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    with Watched(tmp_path) as made:
        yield made


def lose_permits(watched: Watched) -> None:
    """Make the replica one whose link carried the marks and not the last permits: replication is asynchronous."""
    replica = watched.server(watched.replica_port)
    wait_until(lambda: replica.exists(f"{LOG}:known"), 5)
    replica.config_set("replica-read-only", "no")
    replica.delete(LOG)
    assert replica.exists(f"{LOG}:known")


def test_f60_the_primary_dies_in_mid_drain_and_a_replica_that_knows_too_little_is_promoted(
    case: Case, watched: Watched, worker: Callable[..., WorkerProcess], seed: int
) -> None:
    limit = {"REDIS_URL": watched.url, "DISPATCHER_RATE_LIMIT": f"12/{WINDOW} seconds"}
    harness = case(limit, rate_limit=f"12/{WINDOW} seconds", latency_seconds=0.02)
    worker(harness.environment, "-c", "2")
    harness.submit(18)
    wait_until(lambda: harness.created() == 12, 20)
    lose_permits(watched)
    watched.kill(watched.primary_port)
    watched.await_promotion()
    assert set(harness.settle()) == {"accepted"}
    harness.assert_sound()
    assert [entry.status for entry in harness.sandbox.log if entry.status == 429] == []
    assert harness.posts() == len(harness.submitted)


def test_f61_a_promoted_replica_asks_postgres_and_every_client_follows_it(watched: Watched) -> None:
    url, windows, here = normal_redis_url(watched.url), (RateWindow(20, 60.0),), Channel("default", 42)
    told: list[tuple[float, int]] = []
    limiter = Limiter(connect(url), history=lambda _channel, _seconds: History(told))
    bell = Doorbell(url, pause_seconds=0.0)
    assert limiter.take(here, 20, windows).granted == 20
    assert bell.ring(here)
    assert port_of_worker(url) == watched.primary_port
    lose_permits(watched)
    told.append((1.0, 18))

    # The primary lives on as a replica: a client whose connection is open learns it by a refusal.
    watched.sentinel(watched.sentinel_ports[0]).sentinel_failover(MASTER)
    watched.await_promotion()

    def granted() -> int:
        with contextlib.suppress(LimiterUnavailable):
            return limiter.take(here, 20, windows).granted
        return 0

    wait_until(lambda: granted() == 2, 10)
    wait_until(lambda: bell.ring(Channel("default", 43)), 10)
    assert watched.server(watched.replica_port).llen("dispatcher:dispatcher") >= 1
    assert port_of_worker(url) == watched.replica_port


def port_of_worker(url: str) -> object:
    """The port of the server that a worker's broker connection leads to."""
    app = WorkerApp(configuration=lambda: worker_configuration(url))
    with app.connection_for_read() as connection:
        return connection.default_channel.client.info("server")["tcp_port"]


@pytest.fixture(scope="module")
def steady(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """Servers that no test kills."""
    with Watched(tmp_path_factory.mktemp("steady")) as made:
        yield made


def test_with_sentinels_tls_is_spoken_to_them_and_to_the_primary(steady: Watched, tmp_path: Path) -> None:
    primary = TlsFront(tmp_path, f"redis://127.0.0.1:{steady.primary_port}")
    other = (str(steady.primary_port).encode(), str(primary.port).encode())
    upstream = f"redis://127.0.0.1:{steady.sentinel_ports[0]}"
    sentinel = TlsFront(tmp_path, upstream, "localhost", say_instead=other)
    trusted = tmp_path / "trusted.pem"
    trusted.write_bytes(primary.certificate.read_bytes() + sentinel.certificate.read_bytes())
    address = f"sentinels://:{PASSWORD}@localhost:{sentinel.port}/0?master={MASTER}"
    address += f"&sentinel_password={SENTINEL_PASSWORD}&ssl_ca_certs="

    url = normal_redis_url(f"{address}{trusted}")
    assert connect(url).info("server")["tcp_port"] == port_of_worker(url) == steady.primary_port
    for certificates in (sentinel.certificate, primary.certificate):
        with pytest.raises(redis.ConnectionError, match=r"(?i)certificate|No sentinel"):
            connect(normal_redis_url(f"{address}{certificates}")).ping()
    primary.close()
    sentinel.close()


@pytest.mark.parametrize(
    ("change", "verdict", "said"),
    [
        (lambda url: url, Grade.GOOD, "3 of 3 watch"),
        (lambda url: url.replace(MASTER, "another"), Grade.BAD, "0 of 3"),
        (lambda url: url.replace(SENTINEL_PASSWORD, "wrong"), Grade.BAD, "0 of 3"),
        (lambda url: url.replace("127.0.0.1", "127.0.0.1:1,127.0.0.1", 1), Grade.DOUBTFUL, "not 127.0.0.1"),
        (lambda url: re.sub(r"127[^,]*,", "", url), Grade.DOUBTFUL, "1 of 1"),
    ],
)
def test_the_doctor_asks_each_sentinel(
    steady: Watched, change: Callable[[str], str], verdict: Grade, said: str
) -> None:
    first, *rest = judge_sentinels(normal_redis_url(change(steady.url)))

    assert (first.verdict, said in first.found) == (verdict, True), first
    assert not [word for word in (PASSWORD, SENTINEL_PASSWORD) if word in first.found]
    assert [check.name for check in rest] == ([] if verdict is Grade.BAD else ["Redis replicas"])


def test_the_doctor_is_content_where_a_primary_alone_takes_no_writes(steady: Watched) -> None:
    with steady.server(steady.primary_port) as primary:
        primary.config_set("min-replicas-to-write", 1)
        assert [check.verdict for check in judge_sentinels(normal_redis_url(steady.url))] == [Grade.GOOD]
        primary.config_set("min-replicas-to-write", 0)


@pytest.mark.parametrize("demote", [("replicaof", "127.0.0.1", "1"), ("config", "set", "min-replicas-to-write", "3")])
def test_a_server_that_takes_no_writes_any_more_is_left(own_redis: EmbeddedRedis, demote: tuple[str, ...]) -> None:
    """Of one address too: a name that leads to the primary leads elsewhere after a failover."""
    client = connect(own_redis.url())
    client.set("dispatcher:x", 1)
    (before,) = (client.client_id(),)
    with redis.Redis.from_url(own_redis.url()) as admin:
        admin.execute_command(*demote)
    script = client.register_script("return redis.call('SET', KEYS[1], 1)")
    for write in (lambda: client.set("dispatcher:x", 1), lambda: script(keys=["dispatcher:x"])):
        with pytest.raises(redis.ConnectionError, match="takes no writes"):
            write()
    assert client.client_id() != before
