"""A synchronous standby: what its primary confirmed is there when it is promoted."""

import threading
from pathlib import Path

import pytest
import uuid_utils.compat
from sqlalchemy import Connection

from dispatcher.api import Dispatcher
from dispatcher.config.settings import Settings
from dispatcher.config.urls import normal_database_url
from dispatcher.delivery.recorder import Recorder
from dispatcher.embedded.redis import EmbeddedRedis
from dispatcher.errors import StoreUnavailable
from dispatcher.lead.options import Channel, Submission
from dispatcher.moments import steady_clock
from dispatcher.store.database import Database
from tests.standby.conftest import MakePair
from tests.standby.failover import run
from tests.support.standby import Pair
from tests.support.waiting import wait_until

LEAD = {"phone_number": "+12025550133", "campaign_id": 42}
WAITING = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'"


@pytest.fixture
def pair(make_pair: MakePair) -> Pair:
    return make_pair(synchronous=True)


def cancel_waiting(pair: Pair) -> int:
    """Cancel the one commit that waits for the standby; return its process."""
    ((pid,),) = wait_until(lambda: pair.execute(pair.primary, WAITING), describe="a commit that waits")
    pair.execute(pair.primary, f"SELECT pg_cancel_backend({pid})")
    assert isinstance(pid, int)
    return pid


def test_a_commit_that_somebody_cancelled_while_it_waited_for_the_standby_counts_as_not_confirmed(
    pair: Pair, own_redis: EmbeddedRedis
) -> None:
    settings = Settings(database_url=pair.url, redis_url=own_redis.url())
    dispatcher = Dispatcher(settings)
    dispatcher.submit({**LEAD, "phone_number": "+12025550134"})
    pair.stop_streaming()
    submitted: list[Submission] = []
    submitting = threading.Thread(target=lambda: submitted.append(dispatcher.submit(LEAD)))
    submitting.start()
    cancel_waiting(pair)
    wait_until(lambda: pair.execute(pair.primary, WAITING), describe="the repetition, which waits too")
    assert not submitted

    recorder = Recorder(
        dispatcher.database, Channel("default", 42), settings, worker="one", uniform=lambda _a, b: b, clock=steady_clock
    )
    refused: list[StoreUnavailable] = []

    def claim() -> None:
        try:
            recorder.turn((), [uuid_utils.compat.uuid7()])
        except StoreUnavailable as error:
            refused.append(error)

    submits = {pid for (pid,) in pair.execute(pair.primary, WAITING)}
    claiming = threading.Thread(target=claim)
    claiming.start()
    (one,) = wait_until(lambda: {pid for (pid,) in pair.execute(pair.primary, WAITING)} - submits)
    pair.execute(pair.primary, f"SELECT pg_cancel_backend({one})")
    claiming.join(60)
    assert "not be on the standby" in str(refused[0])
    assert recorder.owes

    pair.stream_again()
    submitting.join(60)
    assert [one.created for one in submitted] == [True]
    turn = recorder.turn((), [uuid_utils.compat.uuid7()])
    assert len(turn.opened) == 1, "the claim that was given back"
    ends = pair.execute(pair.standby, "SELECT outcome FROM dispatcher.lead_attempts ORDER BY started_at")
    assert ends == [("given_back",), (None,)]
    dispatcher.close()


def test_the_primary_dies_under_load_and_the_standby_is_promoted(
    pair: Pair, own_redis: EmbeddedRedis, tmp_path: Path
) -> None:
    account = run(tmp_path, pair, own_redis.url(), seed=1, workers=1, before=20)
    assert account.sound, account


def test_a_former_primary_that_takes_writes_again_is_left_also_by_a_process_that_has_just_started(
    pair: Pair, own_redis: EmbeddedRedis
) -> None:
    dispatcher = Dispatcher(Settings(database_url=pair.url, redis_url=own_redis.url()))
    alone = Database(normal_database_url(pair.primary.url()))
    alone.read(port)
    pair.kill(pair.primary, "kill")
    pair.promote()
    lead_id = dispatcher.submit(LEAD).id
    pair.primary.start()
    assert pair.execute(pair.primary, "SELECT pg_is_in_recovery()") == [(False,)]
    dispatcher.database.close()

    assert dispatcher.get(lead_id).state == "pending"
    assert dispatcher.database.read(port) == pair.standby.port
    fresh = Database(normal_database_url(pair.url))
    assert fresh.read(port) == pair.standby.port
    assert alone.read(port) == pair.primary.port, "of one address nobody knows that there is another"
    pair.kill(pair.standby, "immediate")
    fresh.close()
    with pytest.raises(StoreUnavailable, match="former primary"):
        fresh.read(port)
    for database in (alone, fresh):
        database.close()
    dispatcher.close()


def port(connection: Connection) -> int:
    return int(connection.exec_driver_sql("SELECT current_setting('port')").scalar_one())
