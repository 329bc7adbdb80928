"""Several leads of one person in one campaign, with `allow_dupplicate`: one at a time, and in nobody's way."""

import threading
from collections.abc import Callable

import pytest

from dispatcher.decisions.outcome import Kind
from dispatcher.decisions.states import State
from dispatcher.delivery import claims
from dispatcher.delivery.claimed import Claimed
from dispatcher.delivery.results import Result
from tests.database.queue import Queue, accepted, ids, phone, rejected, result, unknown
from tests.support.doubles import Rate
from tests.support.waiting import wait_until
from tests.support.world import World


def pile(world: World, count: int, *, seconds_ago: int = 60) -> None:
    world.queue.run(
        """
        INSERT INTO dispatcher.leads
            (id, account, campaign_id, phone_number, state, due_at, payload_hash, allow_dupplicate)
        SELECT gen_random_uuid(), 'default', 42, :phone, 'pending', now() - make_interval(secs => :ago), 'x', true
        FROM generate_series(1, :count)
        """,
        phone=phone(0),
        count=count,
        ago=seconds_ago,
    )


def due(queue: Queue) -> int:
    (row,) = queue.rows("SELECT count(*) AS n FROM dispatcher.leads WHERE state = 'pending' AND due_at <= now()")
    return int(row.n)


# The next one wakes ---------------------------------------------------------------------------------------------------


def given_back(queue: Queue, claimed: Claimed) -> None:
    with queue.database.transaction() as connection:
        claims.release(connection, [claimed.attempt_id])
    # What is given back is due again itself.
    queue.run("UPDATE dispatcher.leads SET state = 'cancelled' WHERE id = :id", id=claimed.lead_id)


def recorded(of: Callable[[Claimed], Result]) -> Callable[[Queue, Claimed], None]:
    def record(queue: Queue, claimed: Claimed) -> None:
        queue.record(of(claimed))

    return record


@pytest.mark.parametrize(
    "end",
    [
        recorded(accepted),
        recorded(rejected),
        recorded(lambda one: result(one, State.PENDING, Kind.NOT_SENT, due_in=600.0)),
        given_back,
    ],
    ids=["accepted", "refused", "tried again later", "given back"],
)
def test_however_a_lead_ends_the_next_one_of_its_person_is_due_at_once(
    world: World, end: Callable[[Queue, Claimed], None]
) -> None:
    """Issue: each was parked for 30 s, so that six leads of one number took three minutes."""
    pile(world, 6)
    (first,) = world.claim(8)
    assert (due(world.queue), world.claim(8)) == (0, ())

    end(world.queue, first)

    assert due(world.queue) == 1
    assert len(world.claim(8)) == 1


def test_a_lead_in_doubt_lets_the_next_one_go_when_the_doubt_is_over(world: World) -> None:
    first = world.queue.claimed(0, allow_dupplicate=True)
    second = world.queue.put(0, allow_dupplicate=True)
    assert world.claim(8) == ()
    world.queue.record(unknown(first))
    assert due(world.queue) == 0

    world.queue.run("UPDATE dispatcher.lead_attempts SET finished_at = now()")  # as a look-up or a person ends it

    assert [one.lead_id for one in world.claim(8)] == [second]


def test_one_run_delivers_a_whole_pile_and_leaves_no_lead_to_the_sweep(world: World) -> None:
    pile(world, 12)

    assert world.run() == 12
    assert world.queue.states() == {"accepted": 12}


def test_the_order_is_that_of_priority_and_due_time(world: World) -> None:
    late, urgent, early = (
        world.queue.put(0, allow_dupplicate=True, due_in=due_in, priority=priority)
        for due_in, priority in ((-10, 3), (-5, 9), (-20, 3))
    )
    world.run()

    order = world.queue.rows("SELECT lead_id FROM dispatcher.lead_attempts ORDER BY started_at")
    assert [one.lead_id for one in order] == [urgent, early, late]


def test_a_woken_lead_keeps_its_place_before_leads_that_came_due_later(world: World) -> None:
    pile(world, 2)
    (first,) = world.claim(8)
    for number in range(1, 9):
        world.queue.put(number, due_in=-9 + number)
    world.queue.record(accepted(first))

    opened = world.claim(8)

    assert {one.phone_number for one in opened} == {phone(number) for number in range(8)}


def test_a_lead_that_expired_while_it_waited_does_not_hold_up_the_next(world: World) -> None:
    first = world.queue.claimed(0, allow_dupplicate=True)
    expiring = world.queue.put(0, allow_dupplicate=True, due_in=-9)
    fresh = world.queue.put(0, allow_dupplicate=True, due_in=-5)
    assert world.claim(8) == ()
    world.queue.run("UPDATE dispatcher.leads SET expires_at = now() - interval '1 s' WHERE id = :id", id=expiring)

    world.queue.record(accepted(first))

    assert [one.lead_id for one in world.claim(8)] == [fresh]


def test_a_pile_outlives_a_worker_that_dies_with_its_lead(world: World) -> None:
    """Nothing wakes the next one then, but the park ends by itself."""
    pile(world, 3)
    (first,) = world.claim(8)
    parked = world.queue.rows("SELECT due_at - now() AS wait FROM dispatcher.leads WHERE state = 'pending'")
    assert all(0 < one.wait.total_seconds() <= 30 for one in parked)

    world.queue.record(accepted(first))
    world.queue.run("UPDATE dispatcher.leads SET due_at = was_due_at WHERE state = 'pending'")

    assert world.run() == 2


def test_a_lead_whose_person_became_free_while_it_was_being_parked_is_not_parked(world: World) -> None:
    """The attempt ahead ends between the look at it and the commit of the park: then nothing would wake the lead."""
    first = world.queue.claimed(0, allow_dupplicate=True)
    world.queue.put(0, allow_dupplicate=True)
    opened: list[tuple[Claimed, ...]] = []

    with world.database.transaction() as connection:
        connection.exec_driver_sql("SELECT FROM dispatcher.lead_attempts FOR UPDATE")
        thread = threading.Thread(target=lambda: opened.append(world.claim(8)))
        thread.start()
        wait_until(
            lambda: world.queue.rows("SELECT FROM pg_locks WHERE NOT granted"), describe="the claim to meet the lock"
        )
        connection.exec_driver_sql("UPDATE dispatcher.lead_attempts SET finished_at = now(), outcome = 'accepted'")
    thread.join(60)
    world.queue.run(
        "UPDATE dispatcher.leads SET state = 'accepted', lease_until = NULL WHERE id = :id", id=first.lead_id
    )

    assert len(opened[0]) + due(world.queue) == 1


# In nobody's way ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [400, 1000])
def test_a_pile_at_the_head_lets_others_go_in_the_same_turn(world: World, count: int) -> None:
    """Issue: 400 leads of one number at the head let the next person wait; 27 leads a second went."""
    pile(world, count)
    others = {world.queue.put(number, due_in=-1) for number in range(1, 8)}

    opened = world.claim(8)

    assert {one.lead_id for one in opened if one.phone_number != phone(0)} == others
    assert len(opened) == 8
    assert due(world.queue) == 0


def test_a_pile_uses_up_no_permits_of_others(world: World) -> None:
    pile(world, 400)
    for number in range(1, 4):
        world.queue.put(number, due_in=-1)
    world.rate = Rate(4, limited=True)

    world.run(slots=4)

    assert world.rate.left == 0
    assert {lead["phone_number"] for lead in world.voicery.posts} == {phone(number) for number in range(4)}


def test_piles_of_several_persons_go_side_by_side(world: World) -> None:
    for number in range(3):
        for _ in range(40):
            world.queue.put(number, allow_dupplicate=True, due_in=-60 + number)

    opened = world.claim(8)

    assert sorted(one.phone_number for one in opened) == [phone(number) for number in range(3)]
    assert world.run(slots=8) == 0, "all three persons have a lead on its way"


def test_a_claim_that_is_lost_on_its_way_past_a_pile_is_given_back_whole(world: World) -> None:
    """The first claim of the turn was acknowledged, a later one was not: none of their leads was sent."""
    pile(world, 20)
    for number in range(1, 4):
        world.queue.put(number, due_in=-1)
    recorder = world.recorder()
    attempt_ids = ids(4)
    claim = recorder._claim(attempt_ids)
    assert claim.opened
    recorder._unacknowledged = tuple(attempt_ids)

    recorder.turn((), ())

    assert world.queue.states() == {"pending": 23}
