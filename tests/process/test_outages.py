"""Redis and Postgres go away and come back; nobody lifts a finger."""

import pytest
import redis

from dispatcher.embedded.postgres import EmbeddedPostgres
from dispatcher.embedded.redis import EmbeddedRedis
from tests.process.rig import Rig
from tests.support.waiting import wait_until

SLOW = pytest.mark.parametrize("sandbox_options", [("--latency", "0.2")], ids=["slow"])


def flush(server: EmbeddedRedis) -> None:
    with redis.Redis.from_url(server.url()) as client:
        client.flushall()


@SLOW
@pytest.mark.parametrize("disturb", [EmbeddedRedis.restart, flush], ids=["restart", "flushall"])
def test_redis_is_restarted_or_emptied_under_load(own_rig: Rig, own_redis: EmbeddedRedis, disturb: object) -> None:
    own_rig.submit(200)
    own_rig.start_worker()
    wait_until(lambda: own_rig.sandbox.created() >= 40, 20)
    assert callable(disturb)
    disturb(own_redis)
    assert own_rig.sandbox.created() < 200
    own_rig.wait_settled()
    own_rig.assert_accounted(200)


def test_redis_is_away_when_everything_starts(own_rig: Rig, own_redis: EmbeddedRedis) -> None:
    own_redis.stop()
    own_rig.submit(20)
    worker = own_rig.start_worker(ready=False)
    wait_until(lambda: "Trying again" in worker.log, 20, lambda: worker.log)
    assert own_rig.states() == {"pending": 20}
    own_redis.start()
    own_rig.wait_settled(30)
    own_rig.assert_accounted(20)


@SLOW
def test_postgres_crashes_under_load(own_rig: Rig, own_postgres: EmbeddedPostgres) -> None:
    own_rig.submit(200)
    own_rig.start_worker()
    wait_until(lambda: own_rig.sandbox.created() >= 40, 20)
    own_postgres.restart("immediate")
    assert own_rig.sandbox.created() < 200
    own_rig.wait_settled()
    own_rig.assert_accounted(200)
