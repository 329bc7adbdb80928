"""Signals to engines and workers: asked to leave, ended at random instants, frozen past their lease."""

import random
import signal
import time

import psutil

from tests.faults.conftest import Case
from tests.faults.proxy import Proxy
from tests.support.waiting import wait_until


def test_f16_sigterm_in_mid_post_finishes_what_is_in_flight(case: Case, seed: int) -> None:
    harness = case(latency_seconds=0.4)
    harness.submit(12)
    # A busy machine may answer late; nothing is to be in doubt for that.
    engine = harness.engine(DISPATCHER_READ_TIMEOUT="10", DISPATCHER_DEADLINE="12", DISPATCHER_LEASE="20")
    wait_until(lambda: harness.states()["sending"] > 0, 10)
    engine.send(signal.SIGTERM)
    assert engine.wait_dead() == 0
    assert not harness.states()["sending"]
    assert not harness.states()["unknown"]
    harness.engine()
    assert set(harness.settle(controls=False)) == {"accepted"}
    harness.assert_sound()


def test_f17_ended_at_random_instants(case: Case, seed: int) -> None:
    harness = case(latency_seconds=0.05)
    harness.precede()
    dice = random.Random(seed)
    for _ in range(4):
        harness.submit(10)
        engine = harness.engine()
        time.sleep(dice.uniform(0, 0.4))  # the instant is the seed's choice
        engine.kill()
    harness.engine()
    assert set(harness.settle()) == {"accepted"}
    harness.assert_sound()


def test_f18_a_worker_frozen_with_its_claim_sends_nothing_when_it_wakes(case: Case, seed: int) -> None:
    harness = case()
    harness.precede()
    (lead_id,) = harness.submit(1)
    frozen = harness.engine(failpoint="post.before_connect:1:stop", ready=False)
    wait_until(lambda: stopped(frozen.pid), 20)
    harness.engine()
    wait_until(lambda: harness.state_of(lead_id) == "unknown", 20)
    harness.settle()
    assert harness.state_of(lead_id) == "accepted"
    sent = harness.posts_of(lead_id)
    frozen.send(signal.SIGCONT)
    wait_until(lambda: "lease.lost" in frozen.log or (harness.submit(1) and False), 15, lambda: frozen.log)
    assert harness.posts_of(lead_id) == sent == 1
    harness.settle()
    harness.assert_sound()


def test_f18_an_answer_that_came_back_after_the_lease_is_adopted(case: Case, seed: int) -> None:
    """The worker sleeps with the answer in its hands; meanwhile the list cannot be had, so the lead is held."""
    harness = case()
    # Of both: the longer one counts. While the list does not answer at all, a lead is held after several times as long.
    impatient = {"DISPATCHER_UNKNOWN_FOR": "1.6"}
    (lead_id,) = harness.submit(1)
    with Proxy(("127.0.0.1", harness.sandbox.port)) as nobody:
        nobody.refusing = True
        frozen = harness.engine(failpoint="post.after_answer:1:stop", ready=False, **impatient)
        wait_until(lambda: stopped(frozen.pid), 20)
        other = harness.engine(VOICERY_BASE_URL=f"http://127.0.0.1:{nobody.port}/api", **impatient)
        wait_until(lambda: harness.state_of(lead_id) == "failed", 40, lambda: other.log)
        frozen.send(signal.SIGCONT)
        wait_until(lambda: harness.state_of(lead_id) == "accepted", 20, lambda: frozen.log)
        other.kill()
    assert harness.posts_of(lead_id) == 1
    resolved = harness.query(f"SELECT resolution FROM dispatcher.failed_leads WHERE lead_id = '{lead_id}'")
    assert resolved == [("found",)]
    harness.settle()
    harness.assert_sound()


def stopped(pid: int) -> bool:
    return psutil.Process(pid).status() == psutil.STATUS_STOPPED
