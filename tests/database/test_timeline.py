"""Postgres goes on by another timeline: nothing is claimed until what may be missing is held."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from dispatcher.operator import health
from dispatcher.operator.recovery import Recovery
from dispatcher.store import timeline
from dispatcher.store.database import Database
from dispatcher.sweep.sweep import Sweep
from dispatcher.sweep.timelines import Watch
from tests.database.queue import Queue
from tests.support.doubles import Bell, Rate

NOTE = "UPDATE dispatcher.sweeps SET timeline_at = now() - CAST(:age AS interval), synchronous = :covered, timeline = "
EARLIER = f"{NOTE} regexp_replace(dispatcher.this_timeline(), '[0-9]+$', '0')"
OF_ANOTHER_SERVER = f"{NOTE} '9' || dispatcher.this_timeline()"


@pytest.fixture
def recovery(database: Database) -> Recovery:
    return Recovery(database, lambda: None, lease_seconds=60)


@pytest.fixture
def sweep(database: Database, recovery: Recovery) -> Callable[..., Sweep]:
    return lambda name="one": Sweep(
        database,
        Bell(),
        lambda _: Rate(),
        name=name,
        worker=f"{name}:1",
        settle_seconds=120,
        interval_seconds=1,
        timelines=Watch(database, recovery.recover),
    )


def note(queue: Queue, statement: str, *, age: str = "10 s", covered: bool = False) -> None:
    queue.run(statement, age=age, covered=covered)


def row(queue: Queue) -> Any:
    return queue.one("SELECT *, dispatcher.this_timeline() AS here FROM dispatcher.sweeps")


def test_each_sweep_notes_until_when_commits_are_here(queue: Queue, sweep: Callable[[], Sweep]) -> None:
    one = sweep()
    assert one.once()
    first = row(queue)
    assert one.once()
    second = row(queue)

    assert first.timeline == second.timeline == first.here
    assert first.timeline_at < second.timeline_at
    assert first.synchronous is False


def test_on_a_later_timeline_what_may_have_been_sent_is_held_and_the_rest_goes_on(
    database: Database, queue: Queue, sweep: Callable[[], Sweep]
) -> None:
    lead_id = queue.put()
    note(queue, EARLIER)
    noted = row(queue)
    assert queue.claim().met == 0
    assert any("another timeline" in fault for fault in health.probe(database).faults)
    one = sweep()

    assert one.once()

    assert queue.lead(lead_id).state == "unknown"
    assert queue.attempt(queue.lead(lead_id).attempt_id).started_at == noted.timeline_at - timeline.MARGIN
    assert row(queue).timeline == noted.here
    (incident,) = queue.rows("SELECT * FROM dispatcher.incidents")
    assert incident.kind == "timeline"
    assert (noted.timeline_at - timeline.MARGIN).isoformat() in incident.message
    fresh = queue.put(1)
    assert [claimed.lead_id for claimed in queue.claim().opened] == [fresh]
    assert one.once()
    assert len(queue.rows("SELECT FROM dispatcher.incidents")) == 1


def test_where_commits_waited_for_a_standby_nothing_is_held(queue: Queue, sweep: Callable[[], Sweep]) -> None:
    lead_id = queue.put()
    note(queue, EARLIER, covered=True)

    assert sweep().once()

    assert queue.rows("SELECT FROM dispatcher.incidents") == []
    assert [claimed.lead_id for claimed in queue.claim().opened] == [lead_id]
    (noted,) = queue.rows("SELECT detail FROM dispatcher.audit_log WHERE action = 'timeline'")
    assert noted.detail["lost"] is False


def test_a_new_worker_trusts_a_standby_for_less_long_than_one_that_has_seen_a_sweep(
    queue: Queue, sweep: Callable[..., Sweep]
) -> None:
    lead_id = queue.put()
    note(queue, EARLIER, age="90 s", covered=True)

    assert sweep().once()

    assert queue.lead(lead_id).state == "unknown"


def test_a_sweep_that_was_confirmed_more_than_is_here_holds(queue: Queue, sweep: Callable[[], Sweep]) -> None:
    lead_id = queue.put()
    one = sweep()
    assert one.once()
    note(queue, EARLIER, age="1 s", covered=True)

    assert one.once()

    assert queue.lead(lead_id).state == "unknown"


def test_nothing_is_claimed_without_a_standby_until_a_sweep_has_noted_that_no_commit_waits_for_one(
    queue: Queue, sweep: Callable[[], Sweep]
) -> None:
    lead_id = queue.put()
    one = sweep()
    assert one.once()
    queue.run("UPDATE dispatcher.sweeps SET synchronous = true")

    assert queue.claim().met == 0

    assert one.once()
    assert row(queue).synchronous is False
    assert [claimed.lead_id for claimed in queue.claim().opened] == [lead_id]


def test_a_sweep_that_takes_over_knows_the_rounds_that_it_saw_another_one_do(
    queue: Queue, sweep: Callable[..., Sweep]
) -> None:
    """So it sees that a promoted standby lacks some, although these say that commits waited for it."""
    lead_id = queue.put()
    one, other = sweep(), sweep("other")
    assert one.once()
    assert not other.once()
    note(queue, EARLIER, age="1 s", covered=True)
    queue.run("UPDATE dispatcher.sweeps SET held_until = now()")

    assert other.once()

    assert queue.lead(lead_id).state == "unknown"


def test_a_copy_that_is_started_under_a_running_sweep_on_its_own_timeline_is_noticed(
    queue: Queue, sweep: Callable[[], Sweep]
) -> None:
    lead_id = queue.put()
    one = sweep()
    assert one.once()
    queue.run("UPDATE dispatcher.sweeps SET timeline_at = timeline_at - interval '1 min'")

    assert one.once()

    assert queue.lead(lead_id).state == "unknown"
    assert row(queue).timeline == row(queue).here


def test_on_another_server_nothing_is_claimed_until_an_operator_says_what_is_missing(
    queue: Queue, sweep: Callable[[], Sweep], recovery: Recovery
) -> None:
    lead_id = queue.put()
    note(queue, OF_ANOTHER_SERVER, covered=True)
    one = sweep()

    assert one.once()
    assert one.once()

    assert queue.lead(lead_id).state == "pending"
    assert queue.claim().met == 0
    assert len(queue.rows("SELECT FROM dispatcher.incidents")) == 1
    recovery.nothing_lost(actor="ada")
    assert [claimed.lead_id for claimed in queue.claim().opened] == [lead_id]


def test_recover_lets_claims_go_on_where_it_was_meant_for_all_accounts(queue: Queue, recovery: Recovery) -> None:
    queue.put()
    note(queue, OF_ANOTHER_SERVER)
    since: datetime = row(queue).timeline_at
    recovery.recover(since, "default", actor="ada")
    assert row(queue).timeline != row(queue).here

    recovery.recover(since, None, actor="ada")

    assert row(queue).timeline == row(queue).here


def test_a_server_that_does_not_tell_its_timeline_is_used_as_before(queue: Queue, sweep: Callable[[], Sweep]) -> None:
    lead_id = queue.put()
    note(queue, EARLIER)
    queue.run(
        "CREATE OR REPLACE FUNCTION dispatcher.this_timeline() RETURNS text LANGUAGE sql"
        " AS $$ SELECT CAST(NULL AS text) $$"
    )

    assert sweep().once()

    assert [claimed.lead_id for claimed in queue.claim().opened] == [lead_id]
