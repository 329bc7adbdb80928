"""The worker dies: at every named place, for both values of the flag, in the middle of other work."""

import pytest

from dispatcher.sandbox.fault import FaultName, Rule, When
from tests.faults.conftest import Case
from tests.support.waiting import wait_until

PLACES = {
    "F12 before the claim": "claim.before",
    "F12 as the run begins": "deliver.begin",
    "F13 after the claim was committed": "claim.after",
    "F13 before it connects": "post.before_connect",
    "F13 connected, before the first byte": "post.before_write",
    "F14 when the bytes are written": "post.written",
    "F15 with the answer in its hands": "post.after_answer",
    "F15 before the result is recorded": "record.before",
    "after the result is recorded": "record.after",
    "as the sweep begins": "sweep.begin",
}


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_a_worker_dies_at(place: str, case: Case, seed: int) -> None:
    harness = case(latency_seconds=0.02)
    harness.precede()
    harness.submit(6)
    dying = harness.engine(failpoint=f"{place}:{harness.random.randint(1, 3)}", ready=False)
    harness.submit_until(lambda: not dying.running)
    assert dying.wait_dead() == 137
    harness.engine()
    endings = harness.settle()
    assert set(endings) == {"accepted"}, endings
    harness.assert_sound()


@pytest.mark.parametrize("place", ["lookup.taken", "lookup.before_decision", "lookup.after_decision"])
def test_a_worker_dies_in_a_look_up_at(place: str, case: Case, seed: int) -> None:
    harness = case()
    harness.precede()
    harness.sandbox.faults.add(Rule(fault=FaultName.CLOSE, when=When.AFTER if seed % 2 else When.BEFORE, times=2))
    harness.submit(3)
    dying = harness.engine(failpoint=f"{place}:1", ready=False)
    harness.submit_until(lambda: not dying.running)
    assert dying.wait_dead() == 137
    # A run that died holds its look-ups for two minutes; here nobody waits for that.
    harness.execute("UPDATE dispatcher.leads SET due_at = now() WHERE state = 'unknown'")
    harness.engine()
    endings = harness.settle()
    assert set(endings) == {"accepted"}, endings
    harness.assert_sound()


def test_f13_what_never_left_is_proven_absent_and_sent_again(case: Case, seed: int) -> None:
    harness = case()
    harness.precede()
    (lead_id,) = harness.submit(1)
    dying = harness.engine(failpoint="post.before_write:1", ready=False)
    assert dying.wait_dead() == 137
    assert harness.posts() == 1, "the one before"
    harness.engine()
    harness.settle()
    assert harness.story(lead_id) == [("unknown", True), ("accepted", False)]
    harness.assert_sound()


def test_f14_what_arrived_is_found_by_its_reference(case: Case, seed: int) -> None:
    harness = case()
    (lead_id,) = harness.submit(1)
    dying = harness.engine(failpoint="post.written:1", ready=False)
    assert dying.wait_dead() == 137
    wait_until(lambda: harness.created() == 1)
    harness.engine()
    harness.settle()
    assert harness.story(lead_id) == [("accepted", False)]
    harness.assert_sound()


def test_f15_an_answer_that_died_with_its_worker_is_looked_up(case: Case, seed: int) -> None:
    harness = case()
    (lead_id,) = harness.submit(1)
    dying = harness.engine(failpoint="record.before:1", ready=False)
    assert dying.wait_dead() == 137
    harness.engine()
    harness.settle()
    assert harness.story(lead_id) == [("accepted", False)]
    assert harness.posts_of(lead_id) == 1
    harness.assert_sound()


def test_f19_a_lead_that_kills_its_worker_each_time_is_sent_at_most_twice_and_holds_nobody_up(
    case: Case, seed: int
) -> None:
    """Its worker dies when the bytes of each POST are written; a supervisor starts it again."""
    harness = case()
    harness.precede()
    poison = harness.submit(1)[0]
    for _ in range(2):
        dying = harness.engine(failpoint="post.written:1", ready=False)
        harness.submit_until(lambda: not dying.running)  # noqa: B023 - asked at once
        assert dying.wait_dead() == 137
    harness.engine()
    endings = harness.settle()
    assert set(endings) == {"accepted"}, endings
    assert harness.posts_of(poison) <= 2
    harness.assert_sound(max_attempts=3)
