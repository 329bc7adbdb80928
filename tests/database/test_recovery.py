"""`recover`: what a repetition, an interruption and another recovery at the same time leave behind."""

import contextlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from sqlalchemy import text

from dispatcher.config.settings import Settings
from dispatcher.errors import StoreUnavailable
from dispatcher.operator import holding, recovery
from dispatcher.operator.recovery import Recovered, Recovery
from dispatcher.operator.retention import Pruning
from dispatcher.store.database import Database
from dispatcher.sweep.timelines import Watch
from tests.database.queue import Queue, phone
from tests.database.test_timeline import EARLIER, note, row

SINCE = datetime.now(UTC) - timedelta(minutes=30)


@pytest.fixture
def recovering(database: Database) -> Recovery:
    return Recovery(database, lambda: None, lease_seconds=60)


def once(recovering: Recovery, since: datetime = SINCE) -> Recovered:
    (one,) = recovering.recover(since, None, actor="ada")
    return one


def _dies(*_: object) -> None:
    raise StoreUnavailable("The connection was lost.")


SETTLERS: dict[str, Callable[[Database, Recovery], object]] = {
    "another sweep": lambda database, recovering: Watch(database, recovering.recover).settle(None),
    "an operator, since another time": lambda _, recovering: once(recovering),
    "an operator, who lost nothing": lambda _, recovering: recovering.nothing_lost(actor="ada"),
}


@pytest.mark.parametrize("settler", SETTLERS)
@pytest.mark.parametrize("dies_first", [False, True])
def test_a_sweep_that_dies_while_somebody_else_settles_the_same_change_leaves_no_account_paused(
    database: Database,
    queue: Queue,
    recovering: Recovery,
    monkeypatch: pytest.MonkeyPatch,
    settler: str,
    dies_first: bool,
) -> None:
    queue.put()
    note(queue, EARLIER)

    def settled_by_the_other() -> None:
        with monkeypatch.context() as undone:
            undone.setattr(recovery, "_begin", begin)
            SETTLERS[settler](database, recovering)

    def recover(*arguments: Any, **named: Any) -> object:
        if not dies_first:  # this one has read that the timeline changed, and does not know that it was settled
            settled_by_the_other()
        return recovering.recover(*arguments, **named)

    begin = recovery._begin
    monkeypatch.setattr(recovery, "_begin", _dies)
    with contextlib.suppress(StoreUnavailable):
        Watch(database, recover).settle(None)
    if dies_first:
        settled_by_the_other()

    assert queue.rows("SELECT FROM dispatcher.gates WHERE state <> 'open'") == []
    fresh = queue.put(1)
    assert fresh in [claimed.lead_id for claimed in queue.claim(2).opened]


def test_a_complete_recovery_that_is_repeated_says_how_it_stands_and_leaves_alone_what_is_sent_since(
    queue: Queue, recovering: Recovery
) -> None:
    held, later = queue.put(1), queue.put(2, due_in=3600)
    assert once(recovering).held_now == 1
    queue.run("UPDATE dispatcher.leads SET due_at = now() WHERE id = :id", id=later)
    (claimed,) = queue.claim().opened
    assert claimed.lead_id == later

    again = once(recovering, SINCE.astimezone(timezone(timedelta(hours=5, minutes=30))))

    assert (again.held_now, again.still_held, again.since) == (0, 1, SINCE)
    assert (queue.lead(later).state, queue.lead(held).state) == ("sending", "unknown")
    assert recovering.recover(SINCE, None, actor="ada", dry_run=True)[0].held_now == 0


@pytest.mark.parametrize("interrupted", [False, True])
def test_an_account_that_is_new_since_the_recovery_has_nothing_to_be_held(
    queue: Queue, recovering: Recovery, monkeypatch: pytest.MonkeyPatch, interrupted: bool
) -> None:
    queue.put(1)
    with monkeypatch.context() as dying:
        if interrupted:
            dying.setattr(holding, "_batch", _dies)
        with contextlib.suppress(StoreUnavailable):
            once(recovering)
    new = queue.put(2, account="new")

    told = {one.account: one.held_now for one in recovering.recover(SINCE, None, actor="ada")}

    assert told == {"default": int(interrupted), "new": 0}
    assert queue.lead(new).state == "pending"


def test_a_backup_that_is_restored_later_is_recovered_anew_since_the_same_moment(
    queue: Queue, recovering: Recovery
) -> None:
    lead_id = queue.put(1)
    once(recovering)
    queue.run("UPDATE dispatcher.lead_attempts SET finished_at = now()")  # proven absent, and due
    queue.run("UPDATE dispatcher.leads SET state = 'pending' WHERE id = :id", id=lead_id)
    later = queue.put(2)
    queue.run("CREATE OR REPLACE FUNCTION dispatcher.this_timeline() RETURNS text LANGUAGE sql AS $$ SELECT '1/1/7' $$")

    assert once(recovering).held_now == 2

    assert {queue.lead(one).state for one in (lead_id, later)} == {"unknown"}
    assert row(queue).timeline == "1/1/7"


def test_a_recovery_since_before_the_first_lead_holds_all_and_is_interrupted_and_gone_on_with(
    queue: Queue, recovering: Recovery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches of one, of each state; between two of them it dies, each time at another place."""
    leads = [queue.claimed(1).lead_id, *(queue.put(number, priority=number % 3) for number in (2, 3, 4))]
    queue.run("UPDATE dispatcher.leads SET campaign_id = 43 WHERE id = :id", id=leads[-1])
    monkeypatch.setattr(holding, "BATCH", 1)
    batch, calls = holding._batch, 0

    def dies_later(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls % 4 == 0:
            raise StoreUnavailable("The connection was lost.")
        return batch(*arguments)

    monkeypatch.setattr(holding, "_batch", dies_later)
    ends = 0
    while True:
        try:
            told = once(recovering, datetime(1999, 12, 31, tzinfo=UTC))
        except StoreUnavailable:
            ends += 1
            assert queue.claim().met == 0
            if ends == 3:
                monkeypatch.setattr(holding, "_batch", batch)
        else:
            break

    assert ends == 3
    assert told.still_held == 4
    assert {queue.lead(one).state for one in leads} == {"unknown"}
    assert queue.rows("SELECT FROM dispatcher.gates WHERE state <> 'open'") == []


def test_of_a_backup_older_than_the_retention_what_is_held_stays_and_nothing_is_sent(
    database: Database, queue: Queue, recovering: Recovery
) -> None:
    old = {"finished_at": "now() - interval '101 days'"}
    queue.insert_lead({"due_at": "now()", **old}, phone_number=phone(1), state="accepted", voicery_lead_id=70)
    waiting = queue.put(2)
    queue.run("UPDATE dispatcher.leads SET created_at = now() - interval '102 days' WHERE id = :id", id=waiting)
    note(queue, EARLIER, age="100 days")

    assert Watch(database, recovering.recover).settle(None)
    Pruning(database, Settings()).work(lambda: True)

    assert queue.lead(waiting).state == "unknown"
    held = queue.attempt(queue.lead(waiting).attempt_id)
    assert (held.finished_at, held.watermark) == (None, 70)
    assert held.started_at < datetime.now(UTC) - timedelta(days=99)
    assert queue.claim().met == 0


def test_a_lead_that_is_moved_behind_the_walk_is_held_by_the_next_one(
    queue: Queue, recovering: Recovery, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = queue.put(1), queue.put(2, priority=5)
    monkeypatch.setattr(holding, "BATCH", 1)
    moved = []

    def move(_leads: int) -> None:
        if not moved:
            moved.append(1)
            queue.run(
                "UPDATE dispatcher.leads SET priority = 0, due_at = due_at - interval '1 h' WHERE id = :id", id=second
            )

    recovering.recover(SINCE, None, actor="ada", progress=move)

    assert {queue.lead(one).state for one in (first, second)} == {"unknown"}


def test_no_batch_reads_finished_leads(database: Database) -> None:
    with database.transaction() as connection:
        connection.execute(text("SET LOCAL enable_seqscan = off"))
        values = {
            "account": "default", "since": SINCE, "since_text": "", "here": None, "before": SINCE, "lease_seconds": 60,
            "watermark": 0, "token": None, "reference": None, "most": 1000,
        }  # fmt: skip
        plans = []
        for key, statement in holding._HOLDS.items():
            after = {name: holding._BEFORE_ALL[name][1] for name in key}
            rows = connection.execute(text(f"EXPLAIN {statement.text}"), {**values, **after})
            plans.append("\n".join(rows.scalars()))
    for plan, index in zip(plans, ("leads_leased", "leads_unknown", "leads_due"), strict=True):
        assert f"Index Scan using {index} on leads lead" in plan
        assert "Seq Scan on leads" not in plan
