"""Sick campaigns beside healthy ones of the same account."""

import threading
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import closing
from typing import Any

import pytest
from kombu.asynchronous import Hub, get_event_loop, set_event_loop

from dispatcher.config.settings import Settings
from dispatcher.decisions.reply import Reply
from dispatcher.delivery.delivery import DeliveryRun
from dispatcher.lead.options import Channel
from dispatcher.lookup.lookup import LookUpRun
from dispatcher.sweep import repairs
from dispatcher.wiring import Services
from dispatcher.worker import deliverer
from dispatcher.worker.process import ThreadPool
from tests.database.queue import SETTINGS, Queue
from tests.support.doubles import Bell, Clock, Rate
from tests.support.world import DEAD, FULL_STOP, HANGS_UP, World

HEALTHY = 42
OTHER = 43


def dead(world: World, count: int, answer: Reply = DEAD, *, leads: int = 1) -> list[int]:
    """Campaigns with waiting leads that Voicery answers so."""
    campaigns = list(range(1000, 1000 + count))
    for campaign_id in campaigns:
        world.voicery.campaigns[campaign_id] = answer
        for number in range(leads):
            world.queue.put(number, campaign_id=campaign_id)
    return campaigns


def served_before(world: World, campaign_id: int, *, minutes_ago: int = 1) -> None:
    world.queue.run(
        "INSERT INTO dispatcher.channels (account, campaign_id, served_at, accepted_at)"
        " VALUES ('default', :campaign_id, now(), now() - make_interval(mins => :ago))",
        campaign_id=campaign_id,
        ago=minutes_ago,
    )


# An account closes by what is the account's ---------------------------------------------------------------------------


@pytest.mark.parametrize("count", [3, 12, 40])
@pytest.mark.parametrize("answer", [DEAD, Reply(status=403, written=True)], ids=["404", "403"])
def test_dead_campaigns_before_the_healthy_one_was_served_do_not_close_their_account(
    world: World, count: int, answer: Reply
) -> None:
    """Issue: 12 campaigns of 404 with one lead each, served first, left 8 of 3 000 healthy leads in 180 s."""
    for number in range(30):
        world.queue.put(number, campaign_id=HEALTHY)
    for campaign_id in dead(world, count, answer):
        world.run(campaign_id)
        assert world.gate(campaign_id)[0] == "closed"

    assert world.gate() == ("open", None)
    assert world.run(HEALTHY) == 30
    assert world.queue.states() == {"accepted": 30, "pending": count}


def test_dead_campaigns_close_their_account_where_no_other_campaign_may_get_through(world: World) -> None:
    """A wrong base URL: everything is 404."""
    for campaign_id in dead(world, 3):
        world.run(campaign_id)

    assert world.gate() == ("closed", "misconfigured")


def test_a_campaign_that_failed_too_is_not_waited_for(world: World) -> None:
    world.queue.put(0, campaign_id=HEALTHY)
    world.voicery.campaigns[HEALTHY] = HANGS_UP
    world.run(HEALTHY)
    world.queue.put(1, campaign_id=HEALTHY)

    for campaign_id in dead(world, 3):
        world.run(campaign_id)

    assert world.gate() == ("closed", "misconfigured")


def test_a_lead_on_its_way_in_another_campaign_is_waited_for(world: World) -> None:
    world.queue.put(0, campaign_id=HEALTHY)
    assert len(world.claim(1, HEALTHY)) == 1

    for campaign_id in dead(world, 3):
        world.run(campaign_id)

    assert world.gate() == ("open", None)


def test_an_outage_of_three_campaigns_closes_the_account_though_another_waits(world: World) -> None:
    """Each lead that is tried stays in doubt: the account is not held open for a campaign that may work."""
    world.queue.put(0, campaign_id=HEALTHY)

    for campaign_id in dead(world, 3, HANGS_UP, leads=5):
        world.run(campaign_id)

    assert world.gate() == ("closed", "outage")


def test_an_acceptance_since_the_first_failure_keeps_the_account_open(world: World) -> None:
    world.queue.put(0, campaign_id=HEALTHY)
    first, *others = dead(world, 3, HANGS_UP, leads=5)
    world.queue.run("UPDATE dispatcher.leads SET due_at = now() + interval '1 h' WHERE phone_number LIKE '%0104'")
    world.run(first)  # four failures: it is failing, and open
    assert world.gate(first)[0] == "open"
    world.run(HEALTHY)
    world.queue.run("UPDATE dispatcher.leads SET due_at = now() WHERE state = 'pending'")

    for campaign_id in (first, *others):
        world.run(campaign_id)
        assert world.gate(campaign_id)[0] == "closed"

    assert world.gate() == ("open", None)


@pytest.mark.parametrize("how", ["before", "by a look-up"])
def test_an_acceptance_before_the_first_failure_or_found_by_a_look_up_is_none(world: World, how: str) -> None:
    world.queue.put(0, campaign_id=HEALTHY)
    if how == "before":
        world.run(HEALTHY)
    first, *others = dead(world, 3, HANGS_UP, leads=5)
    world.run(first)
    if how != "before":
        world.run(HEALTHY)
        world.queue.run(
            "UPDATE dispatcher.lead_attempts SET evidence = '{\"lookups\": []}' WHERE campaign_id = :id", id=HEALTHY
        )

    for campaign_id in others:
        world.run(campaign_id)

    assert world.gate() == ("closed", "outage")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Reply(status=401, written=True), "unauthorized"),
        (Reply(status=402, written=True), "no_balance"),
        (Reply(status=429, written=True), "throttled"),
        (FULL_STOP, "outage"),
    ],
    ids=["401", "402", "429", "not reached"],
)
def test_what_is_the_accounts_closes_it_whatever_others_achieve(world: World, answer: Reply, reason: str) -> None:
    world.queue.put(0, campaign_id=HEALTHY)
    (sick,) = dead(world, 1, answer, leads=5)
    world.run(HEALTHY)

    world.run(sick)

    assert world.gate() == ("closed", reason)


# The time of a process ------------------------------------------------------------------------------------------------


def test_an_accepting_campaign_makes_room_by_what_others_have_taken(
    environment: Mapping[str, str], queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a busy machine, or where a dead campaign answers slowly, one of its runs takes longer than on an idle one."""
    clock, after, runs = Clock(0.0), [], iter([(0.05, False), (0.25, False), (2.0, True), (2.0, True)])

    class Run(DeliveryRun):
        def run(self) -> int:
            after.append(self._yields_to_others_after)
            took, self.accepted = next(runs)
            clock.now += took
            return 1

    monkeypatch.setattr(deliverer, "DeliveryRun", Run)
    monkeypatch.setattr(deliverer, "steady_clock", clock)
    services = Services(Settings.from_environment({**environment, "DISPATCHER_RATE_LIMIT": "off"}), connections=2)
    with closing(deliverer.Deliverer(services, stopping=lambda: False, worker="test:1")) as worker:
        for campaign_id in (1000, 1001, HEALTHY, HEALTHY):
            worker.deliver("default", campaign_id)
        noted = """SELECT (SELECT claims FROM dispatcher.workers), (SELECT count(*) FROM dispatcher.channels),
            (SELECT value FROM dispatcher.tallies WHERE name = 'runs' AND label = 'deliver')"""
        with services.database.autocommit() as connection:
            assert connection.exec_driver_sql(noted).one() == (4, 3, 4.0)

    assert after == [pytest.approx(seconds) for seconds in (2.0, 2.0, 6.0, 2.0)]


# Probes ---------------------------------------------------------------------------------------------------------------


def test_an_api_that_hangs_up_costs_one_lead_in_doubt_a_probe(world: World) -> None:
    """Issue: a probing account stayed so after a failure of a channel, and 20 leads were in doubt instead of 1."""
    campaigns = dead(world, 4, HANGS_UP, leads=5)

    for probe in range(1, 4):
        world.queue.gate("probing", "outage")
        for campaign_id in campaigns:
            world.run(campaign_id)
        assert world.queue.states()["unknown"] == probe
        assert world.gate() == ("closed", "outage")


def test_a_campaign_that_probes_is_closed_by_a_failure_of_its_account_too(world: World) -> None:
    (sick,) = dead(world, 1, FULL_STOP, leads=3)
    world.queue.gate("probing", "outage", sick)

    world.run(sick)

    assert world.gate(sick) == ("closed", "outage")
    assert world.gate() == ("open", None)
    assert world.voicery.posted(sick) == 1


def test_the_probe_of_an_account_goes_to_the_campaign_that_had_acceptances(world: World) -> None:
    campaigns = dead(world, 12)
    world.queue.put(0, campaign_id=HEALTHY)
    world.queue.put(1, campaign_id=HEALTHY)
    served_before(world, HEALTHY)
    world.queue.gate("probing", "outage")

    for campaign_id in campaigns:
        assert world.run(campaign_id) == 0
    assert world.run(HEALTHY) == 2

    assert world.voicery.posts == [lead for lead in world.voicery.posts if lead["campaign_id"] == HEALTHY]
    assert world.gate() == ("open", None)


@pytest.mark.parametrize(
    ("sick", "better"),
    [
        ("UPDATE dispatcher.gates SET state = 'probing', reason = 'misconfigured', closings = 3", "open"),
        ("UPDATE dispatcher.gates SET failures = 1", "without a failure"),
        ("UPDATE dispatcher.channels SET accepted_at = NULL WHERE campaign_id = 42", "with acceptances"),
        (
            "UPDATE dispatcher.channels SET accepted_at = now() - interval '1 h' WHERE campaign_id = 42",
            "with the latest acceptance",
        ),
    ],
    ids=lambda text: text if text.startswith(("open", "with")) else "",
)
def test_the_better_probe_is_a_campaign(world: World, sick: str, better: str) -> None:
    for campaign_id in (HEALTHY, OTHER):
        world.queue.put(0, campaign_id=campaign_id)
        served_before(world, campaign_id)
    world.queue.gate("open", None, HEALTHY)
    world.queue.run(sick)
    world.queue.gate("probing", "outage")

    assert world.claim(4, HEALTHY) == ()
    assert len(world.claim(4, OTHER)) == 1


def test_a_campaign_without_due_leads_or_behind_a_closed_gate_is_no_probe(world: World) -> None:
    for campaign_id in (HEALTHY, OTHER, 44):
        served_before(world, campaign_id)
    world.queue.put(0, campaign_id=HEALTHY, due_in=60)
    world.queue.put(0, campaign_id=OTHER)
    world.queue.put(0, campaign_id=44)
    world.queue.gate("closed", "misconfigured", OTHER)
    world.queue.gate("probing", "outage")

    assert world.claim(4, OTHER) == ()
    assert len(world.claim(4, 44)) == 1


def test_while_an_account_probes_the_sweep_rings_its_likeliest_campaign_only(world: World) -> None:
    dead(world, 12)
    world.queue.put(0, campaign_id=HEALTHY)
    served_before(world, HEALTHY)
    world.queue.gate("probing", "outage")

    with world.database.autocommit() as connection:
        assert list(repairs.due_channels(connection)) == [("default", HEALTHY)]


class List:
    """A list that answers; remembers which campaigns it was asked about."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def list_leads(self, *, campaign_id: int, **_: Any) -> Reply:
        self.asked.append(campaign_id)
        return Reply(status=200, body={"data": [], "last_page": 1, "total": 0})


def test_many_gates_that_are_due_ask_the_list_once_and_about_the_likeliest_campaign(world: World) -> None:
    """Two hundred questions would use up the look-ups' share of the rate, and a dead campaign's list may be 404."""
    campaigns = dead(world, 20)
    world.queue.put(0, campaign_id=HEALTHY)
    served_before(world, HEALTHY)
    for campaign_id in (None, *campaigns):
        world.queue.gate("closed", "misconfigured", campaign_id, until_in=-1)
    listing, bell = List(), Bell()

    LookUpRun(
        world.database,
        SETTINGS,
        listing,
        Rate(),
        bell,
        account="default",
        clock=lambda: 0.0,
        stopping=lambda: False,
    ).run()

    assert listing.asked == [HEALTHY]
    assert world.queue.rows("SELECT DISTINCT state FROM dispatcher.gates") == [("probing",)]
    assert bell.rung[-1] == Channel("default", HEALTHY)


# Pools ----------------------------------------------------------------------------------------------------------------


def test_the_end_of_a_task_in_a_threads_pool_wakes_the_workers_loop() -> None:
    """Else its threads start their next runs together, about once a second (measured: 70 % of the drain was lost)."""
    before, hub = get_event_loop(), Hub()
    set_event_loop(hub)
    pool, ended = ThreadPool(1), threading.Event()
    pool.on_start()
    noted: list[str] = []
    hub.call_soon = lambda _: (noted.append("woken"), ended.set())  # type: ignore[method-assign,assignment]
    try:
        result = pool.on_apply(lambda: None, (), {}, callback=lambda _: noted.append("noted"))
        assert isinstance(result.f, Future)
        assert ended.wait(60)
    finally:
        pool.on_stop()
        set_event_loop(before)
    assert noted[-1] == "woken", "Celery has noted the end of the task before the loop looks"
