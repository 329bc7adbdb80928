"""Voicery fails in every way it can, before and after the lead came to be."""

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dispatcher.sandbox.fault import FaultName, Rule, When
from dispatcher.sandbox.server import Sandbox
from tests.faults.conftest import Case
from tests.faults.harness import IMPATIENT, Harness
from tests.faults.proxy import Proxy
from tests.support.waiting import wait_until

SILENT = ("hang", "reset", "close", "garbage", "500", "502", "504")


def faulty(harness: Harness, lead_ids: list[str], **rule: Any) -> None:
    """The fault strikes these leads' numbers."""
    listed = ",".join(f"'{one}'" for one in lead_ids)
    for (phone,) in harness.query(f"SELECT phone_number FROM dispatcher.leads WHERE id IN ({listed})"):
        harness.sandbox.faults.add(Rule(phone=re.escape(phone[1:]), **rule))


@pytest.mark.parametrize("fault", SILENT)
def test_f28_created_and_then_no_usable_answer_is_found(fault: str, case: Case, seed: int) -> None:
    harness = case()
    (lead_id,) = harness.submit(1)
    faulty(harness, [lead_id], fault=FaultName(fault), when=When.AFTER, seconds=5.0 if fault == "hang" else None)
    harness.engine()
    harness.settle()
    assert harness.story(lead_id) == [("accepted", False)]
    assert harness.posts_of(lead_id) == 1
    harness.assert_sound()


@pytest.mark.parametrize("fault", SILENT)
def test_f29_nothing_created_and_no_usable_answer_is_proven_absent_and_sent_again(
    fault: str, case: Case, seed: int
) -> None:
    harness = case()
    harness.precede()
    (lead_id,) = harness.submit(1)
    faulty(harness, [lead_id], fault=FaultName(fault), when=When.BEFORE, seconds=5.0 if fault == "hang" else None)
    harness.engine()
    harness.settle()
    assert harness.story(lead_id) == [("unknown", True), ("accepted", False)]
    assert harness.posts_of(lead_id) == 2
    harness.assert_sound()


def test_f29_without_a_control_nothing_is_sent_again(case: Case, seed: int) -> None:
    harness = case()
    (lead_id,) = harness.submit(1)
    faulty(harness, [lead_id], fault=FaultName.CLOSE, when=When.BEFORE)
    harness.engine(**IMPATIENT)
    endings = harness.settle(controls=False)
    assert endings == {"failed:outcome_unknown": 1}
    assert harness.posts_of(lead_id) == 1
    harness.assert_sound()


def test_f29_hold_never_sends_again(case: Case, seed: int) -> None:
    harness = case()
    (lead_id,) = harness.submit(1)
    faulty(harness, [lead_id], fault=FaultName.CLOSE, when=When.BEFORE)
    harness.engine(DISPATCHER_ON_UNKNOWN="hold", **IMPATIENT)
    harness.settle()
    assert harness.state_of(lead_id) == "failed"
    assert harness.posts_of(lead_id) == 1
    harness.assert_sound()


def test_f30_a_creation_that_comes_late_but_before_the_settle_time_is_found(case: Case, seed: int) -> None:
    harness = case()
    (lead_id,) = harness.submit(1)
    late = harness.random.uniform(0.2, 0.6)
    faulty(harness, [lead_id], fault=FaultName.LATE, seconds=late, answer=FaultName.CLOSE)
    harness.engine()
    harness.settle()
    assert harness.story(lead_id) == [("accepted", False)]
    assert harness.posts_of(lead_id) == 1
    harness.assert_sound()


@pytest.mark.parametrize(
    "fault", ["cut-body", "not-json", "huge-body", "slow-body", "no-id", "bad-gzip", "wrong-campaign"]
)
def test_f31_a_yes_without_a_usable_id_is_looked_up_and_never_sent_again(fault: str, case: Case, seed: int) -> None:
    harness = case()
    (lead_id,) = harness.submit(1)
    faulty(harness, [lead_id], fault=FaultName(fault), when=When.AFTER)
    harness.engine()
    harness.settle()
    assert harness.state_of(lead_id) == "accepted"
    assert harness.posts_of(lead_id) == 1
    harness.assert_sound()


def test_f31_a_yes_for_a_lead_that_is_not_there_is_held_for_a_person(case: Case, seed: int) -> None:
    harness = case()
    (lead_id,) = harness.submit(1)
    faulty(harness, [lead_id], fault=FaultName.ANSWER, when=When.BEFORE, status=200, body='{"message": "ok"}')
    harness.engine(**IMPATIENT)
    harness.settle()
    assert harness.state_of(lead_id) == "failed"
    assert harness.posts_of(lead_id) == 1
    harness.assert_sound()


@pytest.mark.parametrize("retry_after", ["1", "absurd", "-5", "Wed, 21 Oct 2015 07:28:00 GMT"])
def test_f32_a_429_holds_everyone_back_and_costs_nobody_an_attempt(retry_after: str, case: Case, seed: int) -> None:
    harness = case()
    ids = harness.submit(6)
    harness.sandbox.faults.add(Rule(fault=FaultName.THROTTLED, retry_after=retry_after, times=3))
    harness.engine()
    assert set(harness.settle(controls=False)) == {"accepted"}
    assert harness.query("SELECT max(attempts) FROM dispatcher.leads") == [(1,)]
    assert sum(map(harness.posts_of, ids)) <= 6 + 3
    harness.assert_sound()


def test_f32_a_503_is_unknown_and_closes_the_gate(case: Case, seed: int) -> None:
    harness = case()
    harness.precede()
    harness.submit(12)
    harness.sandbox.faults.add(Rule(fault=FaultName.UNAVAILABLE, when=When.BEFORE, retry_after="1", times=6))
    harness.engine()
    assert set(harness.settle()) == {"accepted"}
    harness.assert_sound()


LISTS = {
    "stale": Rule(fault=FaultName.STALE, seconds=3.0, times=None),
    "controls missing": Rule(fault=FaultName.MISSING_CONTROLS, times=None),
    "500": Rule(fault=FaultName.INTERNAL_ERROR, method="GET", times=6),
    "shifting": Rule(fault=FaultName.SHIFTING_PAGES, times=None),
    "bare": Rule(fault=FaultName.BARE_LIST, times=None),
}


@pytest.mark.parametrize("lie", LISTS.values(), ids=LISTS)
@pytest.mark.parametrize("when", [When.BEFORE, When.AFTER])
def test_f33_a_list_that_lies_causes_no_false_absence_and_no_false_match(
    lie: Rule, when: When, case: Case, seed: int
) -> None:
    harness = case()
    ids = harness.submit(5)  # so many doubts that a campaign page is asked for too
    faulty(harness, ids, fault=FaultName.CLOSE, when=when)
    harness.sandbox.faults.add(lie)
    harness.engine(**IMPATIENT)
    endings = harness.settle()
    assert set(endings) <= {"accepted", "failed:outcome_unknown"}
    harness.assert_sound()


@pytest.mark.parametrize("status", [404, 405])
def test_f33_where_no_list_exists_nothing_is_ever_proven(status: int, case: Case, seed: int) -> None:
    harness = case(faults=(Rule(fault=FaultName(str(status)), method="GET", times=None),))
    (lead_id,) = harness.submit(1)
    faulty(harness, [lead_id], fault=FaultName.CLOSE, when=When.BEFORE)
    harness.engine(**IMPATIENT)
    harness.settle()
    assert harness.state_of(lead_id) == "failed"
    assert harness.posts_of(lead_id) == 1
    harness.assert_sound()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_f34_a_redirect_is_never_followed(status: int, case: Case, seed: int) -> None:
    with Sandbox() as elsewhere:
        harness = case()
        harness.submit(2)
        harness.sandbox.faults.add(
            Rule(fault=FaultName.REDIRECT, status=status, location=f"{elsewhere.base_url}/user/lead", times=1)
        )
        harness.engine()
        harness.settle()
        assert elsewhere.log == []
        harness.assert_sound()


def test_f26_a_voicery_that_refuses_connections_costs_no_doubt(case: Case, seed: int) -> None:
    harness = case()
    with Proxy(("127.0.0.1", harness.sandbox.port)) as proxy:
        proxy.refusing = True
        harness.environment["VOICERY_BASE_URL"] = f"http://127.0.0.1:{proxy.port}/api"
        harness.submit(10)
        harness.engine(VOICERY_BASE_URL="http://127.0.0.1:9/api").wait_ready()
        wait_until(lambda: "not_sent" in outcomes(harness), 20)
        harness.engines[0].leave()
        proxy.refusing = False
        harness.engine()
        harness.settle(controls=False)
        assert outcomes(harness) <= {"not_sent", "accepted", "given_back", "unknown"}
        harness.assert_sound()


def test_f26_a_name_that_does_not_resolve_costs_no_doubt(case: Case, seed: int) -> None:
    harness = case()
    harness.submit(5)
    lost = harness.engine(VOICERY_BASE_URL="https://voicery.invalid/api", DISPATCHER_CONNECT_TIMEOUT="0.3")
    wait_until(lambda: "not_sent" in outcomes(harness), 20)
    wait_until(lambda: not harness.states()["sending"], 20)
    lost.leave()
    assert outcomes(harness) == {"not_sent"}
    harness.engine()
    assert set(harness.settle(controls=False)) == {"accepted"}
    harness.assert_sound()


@contextmanager
def stalling() -> Iterator[tuple[str, list[bytes]]]:
    """A server that takes connections and says nothing: its base URL, and what it was sent."""
    received: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))
    stop = threading.Event()

    def serve() -> None:
        listener.settimeout(0.1)
        taken = []
        while not stop.is_set():
            try:
                sock, _ = listener.accept()
            except TimeoutError:
                continue
            sock.settimeout(0.2)
            taken.append(sock)
            try:
                received.append(sock.recv(65536))
            except OSError:
                continue
        for sock in taken:
            sock.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"https://127.0.0.1:{listener.getsockname()[1]}/api", received
    finally:
        stop.set()
        thread.join()
        listener.close()


def test_f27_a_stalled_handshake_is_never_unknown_and_carries_no_data(case: Case, seed: int, tmp_path: Path) -> None:
    harness = case()
    harness.submit(3)
    with stalling() as (url, received):
        lost = harness.engine(VOICERY_BASE_URL=url)
        wait_until(lambda: "not_sent" in outcomes(harness) and not harness.states()["sending"], 20)
        lost.leave()
    assert outcomes(harness) == {"not_sent"}
    phones = [phone.encode() for (phone,) in harness.query("SELECT phone_number FROM dispatcher.leads")]
    assert not any(phone in data for data in received for phone in phones)
    harness.engine()
    assert set(harness.settle(controls=False)) == {"accepted"}
    harness.assert_sound()


def outcomes(harness: Harness) -> set[str]:
    return {outcome for (outcome,) in harness.query("SELECT outcome FROM dispatcher.lead_attempts") if outcome}
