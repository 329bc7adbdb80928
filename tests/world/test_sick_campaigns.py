"""One campaign that answers oddly, and what becomes of its neighbours and of the gates that probe."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from dispatcher.decisions.outcome import Kind, Outcome, Reason
from dispatcher.decisions.reply import Reply
from dispatcher.delivery import gates
from dispatcher.delivery.results import Finished
from dispatcher.lead.options import Channel
from dispatcher.lookup.lookup import LookUpRun
from dispatcher.operator import overview
from dispatcher.operator.pause import GateKeeper
from dispatcher.sweep import repairs
from tests.database.queue import SETTINGS, accepted
from tests.support.doubles import Bell, Rate
from tests.support.world import DEAD, HANGS_UP, World

HEALTHY, SICK, OTHER = 42, 1000, 43
NO_BALANCE = Reply(status=402, written=True)
NO_TOKEN = Reply(status=401, written=True)
SLOW_DOWN = Reply(status=429, headers={"retry-after": "60"}, written=True)
A_PAGE = Reply(
    status=407, text="<html><title>Proxy</title></html>", headers={"content-type": "text/html"}, written=True
)


class Listing:
    """A list that answers, and shows nothing."""

    def list_leads(self, **_: Any) -> Reply:
        return Reply(status=200, body={"data": [], "last_page": 1, "total": 0})


def by_turns(world: World, campaign_id: int, *answers: Reply | None) -> None:
    """Let Voicery answer the campaign so, one after the other, and again; None: it accepts."""
    create_lead, turns = world.voicery.create_lead, [0]

    def create(body: bytes, *, before_write: Callable[[], bool]) -> Reply:
        accepted = create_lead(body, before_write=before_write)
        if world.voicery.posts[-1]["campaign_id"] != campaign_id:
            return accepted
        turns[0] += 1
        return answers[(turns[0] - 1) % len(answers)] or accepted

    world.voicery.create_lead = create  # type: ignore[method-assign]


def pass_time(world: World) -> None:
    """Let every wait of a gate be over, and do what a sweep and a look-up run do then."""
    world.rate = Rate()
    world.queue.run("UPDATE dispatcher.gates SET until = now() - interval '1 s' WHERE until > now()")
    world.queue.run("UPDATE dispatcher.leads SET due_at = now() - interval '1 s' WHERE state = 'pending'")
    with world.database.autocommit() as connection:
        repairs.reopen_throttled(connection)
    LookUpRun(
        world.database,
        SETTINGS,
        Listing(),
        Rate(),
        Bell(),
        account="default",
        clock=lambda: 0.0,
        stopping=lambda: False,
    ).run()


def serve(world: World) -> None:
    """Run what the sweep would ring."""
    with world.database.autocommit() as connection:
        due = repairs.due_channels(connection)
    for channel in due:
        world.run(channel.campaign_id)


def served(world: World, campaign_id: int, *, rate_limit: str | None = None) -> None:
    world.queue.run(
        "INSERT INTO dispatcher.channels (account, campaign_id, served_at, accepted_at, rate_limit)"
        " VALUES ('default', :campaign_id, now(), now(), :rate_limit)",
        campaign_id=campaign_id,
        rate_limit=rate_limit,
    )


def test_a_campaign_that_answers_by_turns_loses_no_lead_and_holds_nobody_up(world: World) -> None:
    by_turns(world, SICK, DEAD, None)
    for number in range(6):
        world.queue.put(number, campaign_id=SICK)
    world.queue.put(0, campaign_id=HEALTHY)
    rounds = 0
    while world.queue.states().get("pending") and rounds < 20:
        serve(world)
        assert world.gate() == ("open", None)
        pass_time(world)
        rounds += 1
    assert world.queue.states() == {"accepted": 7}


@pytest.mark.parametrize("answer", [NO_BALANCE, NO_TOKEN, A_PAGE], ids=["402", "401", "a page that is not Voicery's"])
def test_what_one_campaign_alone_is_answered_again_closes_that_campaign_and_not_its_account(
    world: World, answer: Reply
) -> None:
    """A campaign of another workspace, or billed to one: its first such answer closes the account, and no later one."""
    world.voicery.campaigns[SICK] = answer
    for number in range(6):
        world.queue.put(number, campaign_id=SICK)
        world.queue.put(number, campaign_id=HEALTHY)
    world.run(SICK, slots=1)
    assert world.gate()[0] == "closed"
    assert world.gate(SICK)[0] == "open"
    pass_time(world)

    world.run(HEALTHY)
    for posted in (2, 3, 4):
        pass_time(world)
        world.run(SICK)
        assert world.gate() == ("open", None)
        assert world.gate(SICK)[0] == "closed"
        assert world.voicery.posted(SICK) >= posted
    assert world.queue.states()["accepted"] == 6


def test_an_account_without_balance_is_closed_again_though_leads_on_their_way_were_accepted(world: World) -> None:
    """Accepted after the first 402, but sent before it: nothing shows that other campaigns have balance."""
    world.queue.put(0, campaign_id=HEALTHY)
    world.queue.put(0, campaign_id=SICK)
    world.queue.put(1, campaign_id=SICK)
    on_its_way = world.claim(1, HEALTHY)
    world.voicery.campaigns[SICK] = NO_BALANCE
    world.run(SICK, slots=1)
    world.queue.record(accepted(on_its_way[0]))
    world.queue.run("UPDATE dispatcher.gates SET state = 'open', reason = NULL WHERE campaign_id IS NULL")

    world.run(SICK, slots=1)

    assert world.gate() == ("closed", "no_balance")


@pytest.mark.parametrize("scope", [SICK, None], ids=["campaign", "account"])
def test_what_probes_after_hanging_up_is_not_let_go_by_a_rate_limit(world: World, scope: int | None) -> None:
    """A gate that is closed for a rate limit opens without a probe: then every slot had a lead in doubt."""
    for number in range(8):
        world.queue.put(number, campaign_id=SICK)
    world.queue.gate("probing", "outage", scope)
    world.voicery.campaigns[SICK] = SLOW_DOWN
    world.run(SICK)
    pass_time(world)
    world.voicery.campaigns[SICK] = HANGS_UP

    world.run(SICK)

    assert world.queue.states()["unknown"] == 1


def test_a_likeliest_campaign_that_takes_no_lead_does_not_keep_its_account_half_open(world: World) -> None:
    world.queue.put(0, campaign_id=HEALTHY)
    served(world, HEALTHY, rate_limit="1/3600")
    world.queue.put(0, campaign_id=OTHER)
    world.queue.gate("closed", "outage", until_in=-1)
    pass_time(world)
    assert world.gate() == ("probing", "outage")
    with world.database.autocommit() as connection:
        assert [one.campaign_id for one in repairs.due_channels(connection)] == [HEALTHY]
    world.queue.run("UPDATE dispatcher.gates SET moved_at = now() - interval '1 min'")
    with world.database.autocommit() as connection:
        assert {one.campaign_id for one in repairs.due_channels(connection)} == {HEALTHY, OTHER}
    world.run(OTHER)
    assert world.gate() == ("open", None)


def test_of_campaigns_that_may_all_probe_their_account_one_does(world: World) -> None:
    campaigns = (HEALTHY, OTHER, SICK)
    for campaign_id in campaigns:
        world.queue.put(0, campaign_id=campaign_id)
    world.queue.gate("probing", "outage")
    world.queue.run("UPDATE dispatcher.gates SET moved_at = now() - interval '1 min'")
    with ThreadPoolExecutor(len(campaigns)) as workers:
        assert sum(map(len, workers.map(lambda campaign_id: world.claim(4, campaign_id), campaigns))) == 1


def test_a_probe_that_died_with_its_worker_is_followed_by_one_other(world: World) -> None:
    for number in range(3):
        world.queue.put(number, campaign_id=SICK)
    world.queue.gate("probing", "outage", SICK)
    assert len(world.claim(4, SICK)) == 1
    world.queue.run("UPDATE dispatcher.leads SET lease_until = now() - interval '1 s' WHERE state = 'sending'")
    assert world.claim(4, SICK) == ()
    with world.database.transaction() as connection:
        repairs.end_leases(connection, repairs.leases_run_out(connection), settle_seconds=1)

    assert len(world.claim(4, SICK)) == 1
    assert world.queue.states() == {"unknown": 1, "sending": 1, "pending": 1}


def test_a_gate_that_was_closed_by_hand_for_a_reason_of_its_own_is_paused(world: World) -> None:
    for number in range(2):
        world.queue.put(number, campaign_id=SICK)
    world.queue.put(0, campaign_id=HEALTHY)
    (on_its_way,) = world.claim(1, SICK)
    world.queue.gate("closed", "maintenance", SICK)
    pass_time(world)
    serve(world)
    assert world.queue.states() == {"accepted": 1, "sending": 1, "pending": 1}
    with world.database.transaction() as connection:
        assert [one.reason for one in overview.gates(connection)] == [Reason.PAUSED]
        outcome = Outcome(Kind.ACCEPTED, "Voicery accepted the lead.", voicery_lead_id=1)
        gates.apply(
            connection, Channel("default", SICK), [Finished(on_its_way, outcome, 0.0, 0.0)], SETTINGS.gate_limits
        )
    assert world.gate(SICK) == ("closed", "maintenance")

    GateKeeper(world.database).resume(SICK, "default", actor="ada@ops-1")

    assert world.gate(SICK) == ("open", None)


def test_a_gate_that_was_closed_by_hand_without_an_end_is_probed(world: World) -> None:
    world.queue.put(0, campaign_id=HEALTHY)
    world.queue.gate("closed", "outage", HEALTHY)
    with world.database.autocommit() as connection:
        assert repairs.due_lookups(connection) == ["default"]
    pass_time(world)
    serve(world)
    assert world.queue.states() == {"accepted": 1}
