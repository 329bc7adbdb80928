"""The sweep: what time does to leads, gates and workers, and who may do it."""

import uuid
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from sqlalchemy import text

from dispatcher.errors import StoreUnavailable
from dispatcher.lead.options import Channel
from dispatcher.store.database import Database
from dispatcher.store.trouble import StatementRefused
from dispatcher.sweep import repairs
from dispatcher.sweep.sweep import Sweep
from tests.database.queue import Queue, phone, unknown
from tests.support.doubles import Bell, Rate

Sweeper = Callable[..., Sweep]


@pytest.fixture
def sweeper(database: Database, bell: Bell) -> Sweeper:
    def make(name: str = "one", rate: Rate | None = None) -> Sweep:
        return Sweep(
            database,
            bell,
            lambda _: rate or Rate(),
            name=name,
            worker=f"{name}:1",
            settle_seconds=120,
            interval_seconds=1,
        )

    return make


def lease_over(queue: Queue, number: int = 0) -> uuid.UUID:
    claimed = queue.claimed(number)
    queue.run("UPDATE dispatcher.leads SET lease_until = now() - interval '10 s' WHERE id = :id", id=claimed.lead_id)
    queue.run(
        "UPDATE dispatcher.lead_attempts SET started_at = now() - interval '1 min' WHERE lead_id = :id",
        id=claimed.lead_id,
    )
    return claimed.lead_id


# Leases ---------------------------------------------------------------------------------------------------------------


def test_a_lease_that_runs_out_leads_to_unknown_and_never_to_pending(queue: Queue, sweeper: Sweeper) -> None:
    lead_id = lease_over(queue)
    running = queue.claimed(1).lead_id

    assert sweeper().once()

    lead = queue.lead(lead_id)
    attempt = queue.attempt(lead.attempt_id)
    assert (lead.state, lead.attempts, lead.lease_until) == ("unknown", 1, None)
    assert (attempt.outcome, attempt.error, attempt.finished_at) == ("unknown", "lease_expired", None)
    assert (lead.due_at - attempt.ended_at).total_seconds() == 120
    assert queue.lead(running).state == "sending"
    assert queue.claim().met == 0


def test_an_expired_lead_fails_with_its_row(queue: Queue, sweeper: Sweeper) -> None:
    lead_id = queue.put(expires_at="2020-01-01")
    kept = queue.put(1, expires_at="2100-01-01")

    sweeper().once()

    lead = queue.lead(lead_id)
    (failure,) = queue.rows("SELECT * FROM dispatcher.failed_leads")
    assert (lead.state, lead.failure_class, failure.lead_id, failure.phone_number) == (
        "failed",
        "expired",
        lead_id,
        phone(0),
    )
    assert phone(0) not in failure.message
    assert queue.lead(kept).state == "pending"


@pytest.mark.parametrize(("proof", "failure_class"), [(True, "expired"), (False, "outcome_unknown")])
def test_a_lead_whose_earlier_post_may_have_worked_expires_as_what_it_is(
    queue: Queue, sweeper: Sweeper, proof: bool, failure_class: str
) -> None:
    claimed = queue.claimed()
    queue.record(unknown(claimed))
    queue.run("UPDATE dispatcher.lead_attempts SET finished_at = now(), evidence = jsonb_build_object('proof', :proof)",
              proof=proof)  # fmt: skip
    queue.run("UPDATE dispatcher.leads SET state = 'pending', expires_at = '2020-01-01'")  # as by a resend

    sweeper().once()

    (failure,) = queue.rows("SELECT * FROM dispatcher.failed_leads")
    lead = queue.lead(claimed.lead_id)
    assert (lead.failure_class, failure.failure_class, failure.message) == (failure_class,) * 2 + (lead.last_error,)
    assert ("nobody was called" in failure.message) is proof
    assert failure.fingerprint == ("expired" if proof else "outcome_unknown:expired")


def test_a_lead_on_its_way_does_not_expire(queue: Queue, sweeper: Sweeper) -> None:
    claimed = queue.claimed(expires_at="2100-01-01")
    queue.run("UPDATE dispatcher.leads SET expires_at = now() - interval '1 s'")

    sweeper().once()

    assert queue.lead(claimed.lead_id).state == "sending"


def test_one_bad_row_does_not_stop_the_rest(queue: Queue, sweeper: Sweeper) -> None:
    leases = [lease_over(queue, number) for number in range(3)]
    expired = [queue.put(number + 10, expires_at="2020-01-01") for number in range(3)]
    queue.run(f"""
        CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF NEW.id IN ('{leases[1]}', '{expired[1]}') THEN RAISE EXCEPTION 'bad row' USING ERRCODE = '23514'; END IF;
            RETURN NEW;
        END $$;
        CREATE TRIGGER refuse BEFORE UPDATE ON dispatcher.leads FOR EACH ROW EXECUTE FUNCTION public.refuse();
    """)

    assert sweeper().once()

    assert [queue.lead(one).state for one in leases] == ["unknown", "sending", "unknown"]
    assert [queue.lead(one).state for one in expired] == ["failed", "pending", "failed"]


def test_a_row_that_somebody_holds_is_left_for_the_next_round(
    queue: Queue, database: Database, sweeper: Sweeper
) -> None:
    held, free = lease_over(queue, 0), lease_over(queue, 1)
    with database.transaction() as other:
        other.execute(text("SELECT FROM dispatcher.leads WHERE id = :id FOR UPDATE"), {"id": held})
        sweeper().once()
        assert queue.lead(free).state == "unknown"
    assert queue.lead(held).state == "sending"

    sweeper().once()
    assert queue.lead(held).state == "unknown"


# One sweeper ----------------------------------------------------------------------------------------------------------


def test_one_sweeper_works_and_the_others_wait_until_it_lets_go(sweeper: Sweeper) -> None:
    one, other = sweeper("one"), sweeper("other")

    assert (one.once(), other.once(), one.once()) == (True, False, True)

    one.run(stopping=lambda: True, wait=lambda _: None)  # released
    assert (other.once(), one.once()) == (True, False)


def test_a_dead_sweeper_is_replaced(queue: Queue, sweeper: Sweeper) -> None:
    assert sweeper("dead").once()
    queue.run("UPDATE dispatcher.sweeps SET held_until = now() - interval '1 ms'")

    assert sweeper("next").once()


def test_every_sweeper_notes_its_worker(queue: Queue, sweeper: Sweeper) -> None:
    queue.run("INSERT INTO dispatcher.workers (name, seen_at) VALUES ('gone', now() - interval '2 days')")
    sweeper("one").once()
    sweeper("other").once()

    assert {row.name for row in queue.rows("SELECT name FROM dispatcher.workers")} == {"one:1", "other:1"}


@pytest.mark.parametrize("fault", [StoreUnavailable("away"), StatementRefused("23514", None)])
def test_the_sweep_outlives_a_store_that_fails(sweeper: Sweeper, fault: Exception) -> None:
    sweep = sweeper()
    rounds = iter([fault, fault, None])

    def once() -> bool:
        if (one := next(rounds)) is not None:
            raise one
        return True

    sweep.once = once  # type: ignore[method-assign]
    stops = iter([False, False, False, True])
    sweep.run(stopping=lambda: next(stops), wait=lambda _: None)

    assert next(rounds, "done") == "done"


# Ringing --------------------------------------------------------------------------------------------------------------


def due(database: Database) -> list[tuple[str, int]]:
    with database.autocommit() as connection:
        return list(repairs.due_channels(connection))


def served(queue: Queue, campaign_id: int, seconds_ago: int, *, accepted: bool = False) -> None:
    queue.run(
        "INSERT INTO dispatcher.channels (account, campaign_id, served_at, accepted_at)"
        " VALUES ('default', :id, now() - make_interval(secs => :ago), CASE WHEN :accepted THEN now() END)",
        accepted=accepted,
        id=campaign_id,
        ago=seconds_ago,
    )


def test_the_channels_with_due_leads_the_longest_unserved_first(queue: Queue, database: Database) -> None:
    for number, campaign_id in enumerate([5, 5, 6, 7, 7]):
        queue.put(number, campaign_id=campaign_id)
    queue.put(20, campaign_id=8, due_in=60)
    queue.put(21, campaign_id=9, state="accepted")
    queue.put(22, campaign_id=5, account="other", priority=9)
    served(queue, 5, 10)
    served(queue, 7, 20)

    assert due(database) == [("default", 6), ("other", 5), ("default", 7), ("default", 5)]


@pytest.mark.parametrize("priority", range(10))
def test_a_due_lead_of_any_priority_is_seen_behind_leads_of_later(
    queue: Queue, database: Database, priority: int
) -> None:
    queue.put(0, priority=priority)
    for other in range(10):
        queue.put(other + 1, priority=other, due_in=60)

    assert due(database) == [("default", 42)]


def test_no_channel_behind_a_closed_gate_is_rung_and_every_probing_one(queue: Queue, database: Database) -> None:
    for number, campaign_id in enumerate([5, 6, 7]):
        queue.put(number, campaign_id=campaign_id)
    queue.gate("closed", "paused", 5)
    queue.gate("probing", "outage", 6)
    assert due(database) == [("default", 6), ("default", 7)]

    queue.gate("closed", "paused")
    assert due(database) == []


@pytest.mark.parametrize(("rate", "rung"), [(Rate(), 3), (Rate(2), 2), (Rate(0), 0), (Rate(away=True), 0)])
def test_only_as_many_channels_are_rung_as_there_are_permits(
    queue: Queue, sweeper: Sweeper, bell: Bell, rate: Rate, rung: int
) -> None:
    for number, campaign_id in enumerate([5, 6, 7]):
        queue.put(number, campaign_id=campaign_id)

    sweeper(rate=rate).once()

    assert bell.rung == [("default", 5), ("default", 6), ("default", 7)][:rung]


def test_accepting_campaigns_are_rung_first_and_the_others_by_their_share_of_the_permits(
    queue: Queue, sweeper: Sweeper, bell: Bell
) -> None:
    """Under a limit each dead campaign that is rung takes a permit from a healthy one."""
    for number in range(20):
        queue.put(number, campaign_id=1000 + number)
    queue.put(20, campaign_id=5)
    served(queue, 5, 0, accepted=True)
    sweep = sweeper(rate=Rate(8))

    rounds = []
    for _ in range(5):
        sweep.once()
        rounds.append(len(bell.rung))
        assert bell.rung[0] == ("default", 5)
        bell.rung.clear()

    assert rounds == [1, 2, 2, 2, 2], "of 8 permits a round, 0.8 for the others"


def test_without_an_accepting_campaign_all_permits_are_for_the_others(
    queue: Queue, sweeper: Sweeper, bell: Bell
) -> None:
    for number in range(20):
        queue.put(number, campaign_id=1000 + number)
    served(queue, 1000, 0, accepted=True)
    queue.gate("probing", "misconfigured", 1000)

    sweeper(rate=Rate(8)).once()

    assert len(bell.rung) == 8


def test_a_full_queue_is_rung_no_further(queue: Queue, sweeper: Sweeper) -> None:
    class Full(Bell):
        def ring(self, channel: Channel) -> bool:
            super().ring(channel)
            return channel.campaign_id == 5

    for number in range(20):
        queue.put(number, campaign_id=1000 + number)
    queue.put(20, campaign_id=5)
    served(queue, 5, 0, accepted=True)
    bell = Full()

    Sweep(
        queue.database,
        bell,
        lambda _: Rate(),
        name="one",
        worker="one:1",
        settle_seconds=120,
        interval_seconds=1,
    ).once()

    assert bell.rung == [("default", 5), ("default", 1000)]


def test_leases_run_out_though_redis_is_away(queue: Queue, sweeper: Sweeper) -> None:
    lead_id = lease_over(queue)

    sweeper(rate=Rate(away=True)).once()

    assert queue.lead(lead_id).state == "unknown"


def test_look_ups_are_rung_when_they_are_due(queue: Queue, sweeper: Sweeper, bell: Bell) -> None:
    queue.put(0, "unknown", attempt_id=uuid.uuid4(), due_in=60)
    sweeper().once()
    assert bell.lookups == []

    queue.put(1, "unknown", attempt_id=uuid.uuid4())
    sweeper().once()
    assert bell.lookups == ["default"]


# Gates ----------------------------------------------------------------------------------------------------------------


def gate_states(queue: Queue) -> Sequence[Any]:
    return [
        tuple(row)
        for row in queue.rows(
            "SELECT campaign_id, state, reason FROM dispatcher.gates ORDER BY campaign_id NULLS FIRST"
        )
    ]


def test_only_a_throttled_gate_reopens_by_itself_when_its_time_is_over(
    queue: Queue, sweeper: Sweeper, bell: Bell
) -> None:
    queue.gate("closed", "throttled", None, until_in=-1)
    queue.gate("closed", "throttled", 5, until_in=60)
    queue.gate("closed", "paused", 6)
    queue.gate("closed", "outage", 7, until_in=-1)

    sweeper().once()

    assert gate_states(queue) == [
        (None, "open", None),
        (5, "closed", "throttled"),
        (6, "closed", "paused"),
        (7, "closed", "outage"),
    ]
    assert bell.lookups == ["default"]  # the outage is probed by a look-up run


def test_a_pause_is_never_probed(queue: Queue, sweeper: Sweeper, bell: Bell) -> None:
    queue.gate("closed", "paused")

    sweeper().once()

    assert bell.lookups == []


def test_an_idle_sweep_is_one_statement(queue: Queue, database: Database, sweeper: Sweeper) -> None:
    sweep = sweeper()
    sweep.once()
    seen: list[str] = []
    autocommit = database.autocommit

    def counted() -> Any:
        seen.append("statement")
        return autocommit()

    database.autocommit = counted  # type: ignore[method-assign]
    database.transaction = lambda: pytest.fail("a transaction")  # type: ignore[method-assign]
    sweep.once()

    assert seen == ["statement"]


def test_served_counts_claims_and_remembers_when(queue: Queue, database: Database) -> None:
    for _ in range(2):
        statement, values = repairs.served(Channel("default", 42), "w:1", 3, accepted=True)
        with database.autocommit() as connection:
            statement.count(connection, values)

    (worker,) = queue.rows("SELECT claims FROM dispatcher.workers")
    assert worker.claims == 6
    (channel,) = queue.rows("SELECT served_at FROM dispatcher.channels")
    assert channel.served_at is not None
