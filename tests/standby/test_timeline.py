"""Postgres goes on without its last commits: a standby that was behind is promoted, or a backup recovered."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dispatcher.api import Dispatcher
from dispatcher.config.settings import Settings
from dispatcher.embedded.postgres import EmbeddedPostgres
from dispatcher.embedded.redis import EmbeddedRedis
from dispatcher.operator import health
from tests.process.rig import CAMPAIGN, Rig
from tests.standby.conftest import MakePair
from tests.standby.failover import deployment
from tests.support.standby import Pair
from tests.support.waiting import wait_until
from tests.support.worker_process import WorkerProcess

PATIENT = {"DISPATCHER_UNKNOWN_FOR": "60"}
SENT, NEVER = 6, 3


@pytest.fixture
def pair(make_pair: MakePair, request: pytest.FixtureRequest) -> Pair:
    return make_pair(synchronous=getattr(request, "param", False))


@pytest.fixture
def rig(pair: Pair, own_redis: EmbeddedRedis, tmp_path: Path) -> Iterator[Rig]:
    """A queue some of whose leads were accepted, so that a window of the list has a beginning."""
    with deployment(tmp_path, pair.url, own_redis.url(), "--latency", "0.05") as made:
        made.environment |= PATIENT
        made.submit(2)
        yield made


@pytest.fixture
def worker_before(pair: Pair, rig: Rig) -> WorkerProcess:
    """The worker that sends until the primary dies; what it has accepted by now was an hour ago."""
    made = rig.start_worker("-c", "1")
    rig.wait_accepted(2)
    for times in ("leads SET finished_at = finished_at", "lead_attempts SET started_at = started_at"):
        pair.execute(pair.primary, f"UPDATE dispatcher.{times} - interval '1 hour'")
    return made


def submit(rig: Rig, count: int) -> list[str]:
    dispatcher = Dispatcher(Settings.from_environment(rig.environment))
    leads = [
        {"phone_number": next(rig.numbers), "campaign_id": CAMPAIGN, "allow_dupplicate": True} for _ in range(count)
    ]
    stored = [str(dispatcher.submit(lead).id) for lead in leads]
    dispatcher.close()
    return stored


def keep_from_being_sent(pair: Pair, leads: list[str]) -> None:
    """Schedule them for later, on the primary alone."""
    ids = ",".join(leads)
    pair.execute(
        pair.primary, f"UPDATE dispatcher.leads SET due_at = now() + interval '1 day' WHERE id = ANY ('{{{ids}}}')"
    )


def settle(rig: Rig, sent: list[str], never: list[str]) -> None:
    """Wait until every lead has its end, and judge: each of them was created once."""
    states = rig.wait_settled(60)
    created = rig.sandbox.created_of()
    assert {lead: created[lead] for lead in sent + never} == dict.fromkeys(sent + never, 1)
    assert set(created.values()) == {1}
    assert set(states) == {"accepted"}
    ends = dict(rig.query("SELECT lead_id::text, outcome FROM dispatcher.lead_attempts WHERE error = 'recovered'"))
    assert {ends[lead] for lead in sent} == {"accepted"}, "adopted"
    assert {ends[lead] for lead in never} == {"unknown"}, "proven absent, and sent by another attempt"
    ((message,),) = rig.query("SELECT message FROM dispatcher.incidents WHERE kind = 'timeline'")
    assert "dispatcher recover --since 2" in str(message)


def promote_behind(pair: Pair, rig: Rig, when_stopped: Callable[[], object]) -> None:
    """Send leads that the standby has, with claims that it lacks; then promote it, and see that none is sent again."""
    with pair.claims_held():
        sent, never = submit(rig, SENT), submit(rig, NEVER)
        wait_until(pair.streams, describe="the standby has the leads")
        pair.stop_streaming()
        when_stopped()
        keep_from_being_sent(pair, never)
    wait_until(lambda: rig.sandbox.created_of().keys() >= set(sent), describe="the leads are sent")
    pair.kill(pair.primary, "immediate")
    pair.promote()
    settle(rig, sent, never)


def test_a_standby_that_was_behind_is_promoted_and_nobody_is_called_twice(
    pair: Pair, rig: Rig, worker_before: WorkerProcess
) -> None:
    promote_behind(pair, rig, lambda: None)
    assert worker_before.running


@pytest.mark.parametrize("pair", [True], indirect=True)
def test_a_synchronous_standby_that_was_switched_off_is_promoted_and_nobody_is_called_twice(
    pair: Pair, rig: Rig, worker_before: WorkerProcess
) -> None:
    promote_behind(pair, rig, pair.wait_for_no_standby)
    assert worker_before.running


def test_a_backup_from_before_a_drain_is_recovered_and_nobody_is_called_twice(
    pair: Pair, rig: Rig, worker_before: WorkerProcess
) -> None:
    with pair.claims_held():
        sent, never = submit(rig, SENT), submit(rig, NEVER)
        backup = pair.backup()
        keep_from_being_sent(pair, never)
    wait_until(lambda: rig.sandbox.created_of().keys() >= set(sent), describe="the leads are sent")
    worker_before.kill()
    pair.kill(pair.primary, "immediate")
    restored: EmbeddedPostgres = pair.restored(backup, recovered=True)
    rig.environment["DATABASE_URL"] = restored.url()
    dispatcher = Dispatcher(Settings.from_environment(rig.environment))
    told = health.probe(dispatcher.database)
    dispatcher.close()
    assert "another timeline" in " ".join(told.faults)
    rig.start_worker("-c", "1")

    settle(rig, sent, never)
    restored.remove()
