"""One delivery run with a made-up Voicery: it drains, winds down, survives, and rings when there is a reason."""

import itertools
import json
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from dispatcher.decisions.reply import Reply, WireFault
from dispatcher.delivery.claimed import Claimed
from dispatcher.delivery.delivery import YIELD_TO_OTHERS_LEADS, DeliveryRun, Job, Slots, request_body
from dispatcher.delivery.recorder import Recorder
from dispatcher.delivery.results import Finished
from dispatcher.delivery.width import Width
from dispatcher.errors import StoreUnavailable
from dispatcher.store.database import Database
from tests.database.queue import CHANNEL, SETTINGS, Queue, phone
from tests.support.doubles import Bell, Clock, Rate, logged


class Client:
    """Voicery: says yes with the next id, or what a test wants it to."""

    def __init__(self, answer: Callable[[dict[str, Any]], Reply] | None = None) -> None:
        self._answer = answer
        self._lock = threading.Lock()
        self.posts: list[dict[str, Any]] = []
        self.refused = 0

    def create_lead(self, body: bytes, *, before_write: Callable[[], bool]) -> Reply:
        if not before_write():
            self.refused += 1
            return Reply(fault=WireFault.LEASE)
        lead = json.loads(body)
        with self._lock:
            self.posts.append(lead)
            number = 1000 + len(self.posts)
        if self._answer is not None:
            return self._answer(lead)
        return yes(number)


def yes(voicery_lead_id: int) -> Reply:
    return Reply(status=200, body={"data": {"id": voicery_lead_id, "status": "created"}}, written=True)


class Setting:
    """Everything that a run is made of; a test changes what it is about."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.client = Client()
        self.rate: Any = Rate()
        self.bell = Bell()
        self.clock: Callable[[], float] = time.monotonic
        self.stop = threading.Event()
        self.slots = 4
        self.width: Width | None = None  # that of an earlier run of the channel
        self.settings = SETTINGS.model_copy(update={"run_for_seconds": 30.0})
        self.recorder: Any = None
        self.yields_to_others_after = 2.0

    def set(self, **values: Any) -> None:
        self.settings = self.settings.model_copy(update=values)

    def new_recorder(self) -> Recorder:
        return Recorder(
            self.database,
            CHANNEL,
            self.settings,
            worker="test:1",
            uniform=lambda low, high: high,
            clock=self.clock,
        )

    def run(self) -> int:
        recorder = self.recorder or self.new_recorder()

        def slots_of(work: Callable[[Job], Finished]) -> Slots[Job, Finished]:
            return Slots(self.width or Width(self.slots), work)

        return DeliveryRun(
            CHANNEL,
            self.settings,
            recorder=recorder,
            client=self.client,
            rate=self.rate,
            bell=self.bell,
            slots_of=slots_of,
            clock=self.clock,
            stopping=self.stop.is_set,
            yields_to_others_after=self.yields_to_others_after,
            wait=lambda _: None,
        ).run()


@pytest.fixture
def setting(database: Database) -> Setting:
    return Setting(database)


def filled(queue: Queue, count: int) -> None:
    for number in range(count):
        queue.put(number)


# Draining -------------------------------------------------------------------------------------------------------------


def test_a_run_delivers_every_due_lead_once(queue: Queue, setting: Setting) -> None:
    filled(queue, 30)

    assert setting.run() == 30

    assert queue.states() == {"accepted": 30}
    assert sorted(post["phone_number"] for post in setting.client.posts) == sorted(phone(n) for n in range(30))


def test_a_drained_channel_is_not_rung_again(queue: Queue, setting: Setting) -> None:
    filled(queue, 3)
    setting.run()

    assert setting.bell.heard == ["clear"]


def test_a_first_full_claim_invites_others_once(queue: Queue, setting: Setting) -> None:
    filled(queue, 30)
    setting.run()

    assert setting.bell.heard == ["clear", "ring"]


def test_nobody_is_invited_while_a_limit_binds_all(queue: Queue, setting: Setting) -> None:
    filled(queue, 30)
    setting.rate.limited = True
    setting.run()

    assert setting.bell.heard == ["clear"]


def test_unused_permits_are_given_back(queue: Queue, setting: Setting) -> None:
    filled(queue, 3)
    setting.rate = Rate(100)
    setting.run()

    assert setting.rate.left == 97


def test_a_backlog_widens_the_run_and_few_leads_do_not(queue: Queue, setting: Setting) -> None:
    few, backlog = Width(20), Width(20)
    filled(queue, 3)
    setting.width = few
    setting.run()
    for number in range(3, 40):
        queue.put(number)
    setting.width = backlog
    setting.run()

    assert (few.now, backlog.now) == (8, 20)
    assert queue.states() == {"accepted": 40}


def test_permits_widen_no_run(queue: Queue, setting: Setting) -> None:
    filled(queue, 30)
    setting.width, setting.rate = Width(20), Rate(7)
    setting.run()

    assert setting.width.now == 8
    assert queue.states() == {"accepted": 7, "pending": 23}


def test_a_lost_answer_halves_the_next_turn(queue: Queue, setting: Setting) -> None:
    filled(queue, 20)
    setting.width = Width(20)
    setting.width.filled()
    setting.width.filled()
    setting.client = Client(lambda _: Reply(fault=WireFault.READ_TIMEOUT, written=True))
    setting.run()

    assert setting.width.now == 10
    assert queue.states() == {"unknown": 20}


# Winding down ---------------------------------------------------------------------------------------------------------


def test_a_process_that_stops_finishes_what_is_on_its_way_and_claims_nothing_more(
    queue: Queue, setting: Setting
) -> None:
    filled(queue, 20)

    def answer(lead: dict[str, Any]) -> Reply:
        setting.stop.set()
        return yes(2000 + int(lead["phone_number"][-3:]))

    setting.client = Client(answer)
    claimed = setting.run()

    assert queue.states() == {"accepted": claimed, "pending": 20 - claimed}
    assert claimed <= 2 * setting.slots
    assert setting.bell.heard[-1] == "ring"  # leads remain: somebody else goes on


def test_a_run_whose_time_is_over_rings_for_the_rest(queue: Queue, setting: Setting) -> None:
    filled(queue, 20)
    setting.set(run_for_seconds=0.0)

    assert setting.run() == 0
    assert setting.bell.heard == ["clear", "ring"]


def test_a_run_makes_room_when_another_channel_waits(queue: Queue, setting: Setting) -> None:
    filled(queue, 40)
    now = [0.0]

    def clock() -> float:
        now[0] += 0.02
        return now[0]

    setting.clock = clock
    setting.bell.others_wait = True
    claimed = setting.run()

    assert 0 < claimed < 40
    assert queue.states() == {"accepted": claimed, "pending": 40 - claimed}
    assert setting.bell.heard[-1] == "ring"


def test_under_a_limit_a_run_makes_room_after_its_first_leads(queue: Queue, setting: Setting) -> None:
    filled(queue, 40)
    setting.rate.limited = True
    setting.bell.others_wait = True

    assert setting.run() == setting.slots

    assert queue.states() == {"accepted": setting.slots, "pending": 40 - setting.slots}
    assert setting.bell.heard[-1] == "ring"


@pytest.mark.parametrize("limited", [False, True])
def test_a_run_without_an_acceptance_notes_that_and_one_that_claimed_nothing_notes_nothing(
    queue: Queue, setting: Setting, *, limited: bool
) -> None:
    setting.rate.limited = limited
    setting.run()
    assert setting.bell.notes == []

    queue.put()
    setting.run()
    queue.put(1)
    setting.client = Client(lambda _: Reply(status=404, written=True))
    setting.run()
    assert setting.bell.notes == [(CHANNEL, True), (CHANNEL, False)]


def test_under_a_limit_an_accepting_campaign_makes_room_at_once_only_for_others_of_that_kind(
    queue: Queue, setting: Setting
) -> None:
    """Otherwise each of two hundred dead campaigns takes a turn between two turns of the healthy one."""
    filled(queue, 40)
    setting.rate.limited = True
    setting.bell.others_wait, setting.bell.accepting_wait = True, False
    setting.bell.served(CHANNEL, accepted=True)
    setting.yields_to_others_after = 1000.0

    assert YIELD_TO_OTHERS_LEADS <= setting.run() < YIELD_TO_OTHERS_LEADS + setting.slots


@pytest.mark.parametrize(("after", "all_of_them"), [(0.0, False), (1000.0, True)])
def test_an_accepting_campaign_makes_room_for_others_when_their_time_has_come(
    queue: Queue, setting: Setting, *, after: float, all_of_them: bool
) -> None:
    filled(queue, 40)
    ticks = itertools.count()
    setting.clock = lambda: 0.02 * next(ticks)
    setting.bell.others_wait, setting.bell.accepting_wait = True, False
    setting.bell.served(CHANNEL, accepted=True)
    setting.yields_to_others_after = after

    assert (setting.run() == 40) is all_of_them


# The rate -------------------------------------------------------------------------------------------------------------


def test_without_the_limiter_nothing_is_sent_and_nobody_is_rung(queue: Queue, setting: Setting) -> None:
    filled(queue, 3)
    setting.rate = Rate(away=True)

    assert setting.run() == 0
    assert setting.client.posts == []
    assert setting.bell.heard == ["clear"]


def test_a_run_that_may_send_nothing_more_ends_and_leaves_the_ringing_to_the_sweep(
    queue: Queue, setting: Setting
) -> None:
    filled(queue, 10)
    setting.rate = Rate(4)
    setting.rate.limited = True

    assert setting.run() == 4
    assert queue.states() == {"accepted": 4, "pending": 6}
    assert setting.bell.heard == ["clear"]


def test_a_429_slows_everyone(queue: Queue, setting: Setting) -> None:
    queue.put()
    setting.client = Client(lambda _: Reply(status=429, headers={"retry-after": "60"}, written=True))
    setting.run()

    assert setting.rate.slowed == [(0, 60.0)]
    assert queue.states() == {"pending": 1}


def test_what_an_answer_says_about_the_rate_is_heard(queue: Queue, setting: Setting) -> None:
    queue.put()
    headers = {"x-ratelimit-remaining": "7", "x-ratelimit-reset": "30"}
    setting.client = Client(lambda _: Reply(status=200, headers=headers, body={"data": {"id": 7}}, written=True))
    setting.run()

    assert setting.rate.slowed == [(7, 30.0)]


# Leases and bugs ------------------------------------------------------------------------------------------------------


def test_too_short_a_lease_gives_the_attempt_back(queue: Queue, setting: Setting) -> None:
    queue.put()
    setting.set(lease_seconds=30.5)  # the deadline and less than the margin
    setting.client = Client()
    now = [0.0]

    def clock() -> float:
        now[0] += 1.0
        return now[0]

    setting.clock = clock
    setting.run()

    assert setting.client.posts == []
    assert setting.client.refused > 0
    lead_states = queue.states()
    assert lead_states == {"pending": 1}
    (lead,) = queue.rows("SELECT attempts FROM dispatcher.leads")
    assert lead.attempts == 0


def test_a_client_that_raises_leaves_the_lead_in_doubt_and_the_run_alive(queue: Queue, setting: Setting) -> None:
    filled(queue, 2)

    def answer(lead: dict[str, Any]) -> Reply:
        if lead["phone_number"] == phone(0):
            raise RuntimeError("a bug")
        return yes(7)

    setting.client = Client(answer)
    setting.run()

    assert queue.states() == {"accepted": 1, "unknown": 1}


def test_variables_that_are_no_object_are_our_bug_and_nobody_is_called(queue: Queue, setting: Setting) -> None:
    queue.put(variables="[1]")
    setting.set(reference_variable="lead")
    setting.run()

    assert setting.client.posts == []
    (row,) = queue.rows("SELECT outcome FROM dispatcher.lead_attempts LIMIT 1")
    assert row.outcome == "bug"


# A store that is away -------------------------------------------------------------------------------------------------


class AwayFor:
    """A recorder whose store is away for some turns after the first, each of which takes `seconds` of the clock."""

    def __init__(self, recorder: Recorder, turns: int, clock: Clock | None = None, seconds: float = 0.0) -> None:
        self._recorder = recorder
        self._turns = turns
        self._clock = clock or Clock()
        self._seconds = seconds
        self._begun = False

    @property
    def owes(self) -> int:
        return self._recorder.owes

    def abandon(self) -> None:
        self._recorder.abandon()

    def turn(self, finished: Any, attempt_ids: Any) -> Any:
        if self._begun and self._turns > 0:
            self._turns -= 1
            self._clock.now += self._seconds
            self._recorder._kept.extend(finished)
            raise StoreUnavailable("away")
        self._begun = True
        return self._recorder.turn(finished, attempt_ids)


@pytest.mark.parametrize("turns", [1, 5])
def test_results_survive_a_store_that_is_away(queue: Queue, setting: Setting, turns: int) -> None:
    filled(queue, 20)
    setting.recorder = AwayFor(setting.new_recorder(), turns)

    claimed = setting.run()

    assert queue.states() == {"accepted": claimed, "pending": 20 - claimed}
    assert len(setting.client.posts) == claimed


def test_results_that_the_store_does_not_take_for_ten_minutes_are_given_up_by_name(
    queue: Queue, setting: Setting, caplog: pytest.LogCaptureFixture
) -> None:
    filled(queue, 20)
    clock = Clock()
    setting.clock = clock
    setting.recorder = AwayFor(setting.new_recorder(), 1000, clock, seconds=200.0)

    claimed = setting.run()

    given_up = logged(caplog, "recording.abandoned")
    assert {one["lead_id"] for one in given_up} == {str(row.id) for row in queue.rows(
        "SELECT id FROM dispatcher.leads WHERE state = 'sending'"
    )}  # fmt: skip
    assert len(given_up) == claimed > 0
    assert all(one.keys() == {"lead_id", "attempt_id", "account", "campaign_id", "reason"} for one in given_up)
    assert {one["reason"] for one in given_up} == {"store_unavailable"}


# The body -------------------------------------------------------------------------------------------------------------


def claimed_lead(queue: Queue, **columns: Any) -> Claimed:
    queue.put(variables='{"name": "Ada \\u00e9 \\"x\\"", "n": 1.50}', **columns)
    return queue.claim().opened[0]


def test_the_body_is_what_voicery_documents(queue: Queue) -> None:
    claimed = claimed_lead(queue, allow_dupplicate=True)

    assert json.loads(request_body(claimed, None)) == {
        "phone_number": phone(0),
        "campaign_id": 42,
        "variables": {"name": 'Ada é "x"', "n": 1.5},
        "allow_dupplicate": True,
    }


def test_the_reference_joins_the_variables(queue: Queue) -> None:
    claimed = claimed_lead(queue)

    body = json.loads(request_body(claimed, "lead_ref"))

    assert body["variables"] == {"name": 'Ada é "x"', "n": 1.5, "lead_ref": str(claimed.lead_id)}
    assert body["allow_dupplicate"] is False
