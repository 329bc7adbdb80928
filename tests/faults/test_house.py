"""Clocks that jump, several of everything at once, and leads that are wanted gone while they are on their way."""

import random
import signal
import threading

from dispatcher.errors import NotAllowed
from dispatcher.sandbox.fault import FaultName, Rule, When
from tests.faults.conftest import Case
from tests.support.waiting import wait_until


def test_f35_a_wrong_clock_of_the_application_moves_no_schedule(case: Case, seed: int) -> None:
    """The engine's wall clock is a day wrong; schedule and leases are the database's."""
    harness = case(faults=(Rule(fault=FaultName.CLOSE, when=When.BEFORE, nth=2),))
    harness.precede()
    harness.submit(4)
    harness.engine(FAKE_CLOCK_SECONDS=str(random.Random(seed).choice((-86400, 86400))))
    assert set(harness.settle()) == {"accepted"}
    harness.assert_sound()


def test_f36_two_of_everything_at_once(case: Case, seed: int) -> None:
    harness = case(chaos=0.2, seed=seed, chaos_late_seconds=0.3, latency_seconds=0.02)
    harness.submit(60)
    for _ in range(2):
        harness.engine(ready=False)
    wait_until(lambda: not harness.states()["pending"], 40, harness.states)
    harness.sandbox.calm()  # else each new control may be in doubt itself, and the end is a matter of luck
    harness.settle()
    harness.assert_sound()


def test_f38_what_is_on_its_way_can_not_be_cancelled(case: Case, seed: int) -> None:
    harness = case(latency_seconds=0.5)
    (lead_id,) = harness.submit(1)
    dispatcher = harness.dispatcher()  # made before: the moment to cancel in is short
    harness.engine()
    wait_until(lambda: harness.state_of(lead_id) == "sending")
    try:
        dispatcher.cancel(lead_id)
    except NotAllowed:
        refused = True
    else:
        refused = False
    assert refused
    assert set(harness.settle()) == {"accepted"}
    harness.assert_sound()


def test_a_thousand_leads_of_one_person_do_not_hold_up_the_hundred_behind_them(case: Case, seed: int) -> None:
    harness = case(faults=(Rule(fault=FaultName.CLOSE, when=When.AFTER),))
    person = next(harness.phones)
    many = 300
    dispatcher = harness.dispatcher()
    lead = {"phone_number": person, "campaign_id": 42, "allow_dupplicate": True}
    result = dispatcher.submit_many([lead] * many)
    assert not result.rejected
    harness.engine(DISPATCHER_SETTLE="4", DISPATCHER_UNKNOWN_FOR="60", DISPATCHER_PARK="600")
    wait_until(lambda: harness.states()["unknown"] == 1, 10)
    behind = harness.submit(100)
    listed = ",".join(f"'{one}'" for one in behind)
    statement = f"SELECT count(*) FROM dispatcher.leads WHERE state = 'accepted' AND id IN ({listed})"
    wait_until(lambda: harness.query(statement) == [(100,)], describe=harness.states)  # the person is parked for longer
    assert harness.states()["unknown"] <= 1


def test_two_sweeps_at_once_end_each_lease_once(case: Case, seed: int) -> None:
    harness = case()
    harness.precede()
    harness.submit(3)
    dying = harness.engine(failpoint="post.before_write:1", ready=False)
    dying.wait_dead()
    threads = [threading.Thread(target=harness.engine) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(harness.settle()) == {"accepted"}
    harness.assert_sound()
    for engine in harness.engines[2:]:
        engine.send(signal.SIGTERM)
        assert engine.wait_dead() == 0
