"""Evidence that a POST had no effect: how old it may be, and what it belongs to. Each fault here calls somebody twice.

Voicery may finish a request after its answer was lost, and shows the lead later (`voicery-api.md`, "Not known").
"""

import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta

import orjson
import pytest
from sqlalchemy import text

from dispatcher.decisions.verdict import OnUnknown
from dispatcher.errors import NotAllowed
from dispatcher.operator.corrections import Corrections
from dispatcher.operator.replay import Failures
from dispatcher.sandbox.fault import FaultName, Rule
from tests.database.queue import Queue, phone
from tests.support.doubles import Rate
from tests.world.doubtful import ADA, CAMPAIGN, SETTLE, Doubtful, Terms, doubtful

BEFORE, AFTER = (20, 21), (30, 31)
PROOF_FOR = 600.0


@pytest.fixture
def world(queue: Queue) -> Iterator[Doubtful]:
    with doubtful(queue) as world:
        yield world


def proven(world: Doubtful, **lead: object) -> uuid.UUID:
    """A lead whose POST was lost, that was proven absent, and that waits to be sent again."""
    world.accept(*BEFORE)
    lead_id = world.lose(created=False, **lead)  # type: ignore[arg-type]
    world.accept(*AFTER)
    world.look_twice()
    assert world.queue.lead(lead_id).state == "pending"
    return lead_id


def bears_fruit(world: Doubtful, number: int = ADA) -> None:
    """The first POST has an effect after all: Voicery has the lead now."""
    posts = [one for one in world.sandbox.log if one.method == "POST"]
    body = next(one.body for one in posts if one.body["phone_number"] == phone(number))
    assert world.client.create_lead(orjson.dumps(body)).status == 200


# Proof has an age -----------------------------------------------------------------------------------------------------


def pause(world: Doubtful) -> None:
    world.queue.gate("closed", "paused", CAMPAIGN)
    world.later(30)
    world.queue.run("UPDATE dispatcher.gates SET state = 'open', reason = NULL")


def closed_account(world: Doubtful) -> None:
    world.queue.gate("closed", "outage")
    world.later(30)
    world.queue.run("UPDATE dispatcher.gates SET state = 'probing' WHERE state = 'closed'")


def backlog(world: Doubtful) -> None:
    world.later(PROOF_FOR + 1)


HELD: dict[str, Callable[[Doubtful], None]] = {
    "a pause": pause,
    "a gate that closed": closed_account,
    "a backlog": backlog,
}


@pytest.mark.parametrize("hold", HELD.values(), ids=HELD)
def test_a_proof_that_waited_behind_it_is_made_again_before_the_lead_is_sent(
    world: Doubtful, hold: Callable[[Doubtful], None]
) -> None:
    lead_id = proven(world)
    hold(world)
    bears_fruit(world)
    assert world.deliver() == 0
    assert world.queue.lead(lead_id).state == "unknown"
    world.look()
    assert world.queue.lead(lead_id).state == "accepted"
    world.deliver()
    assert world.created() == 1


@pytest.mark.parametrize("hold", HELD.values(), ids=HELD)
def test_what_is_still_absent_then_is_sent_once(world: Doubtful, hold: Callable[[Doubtful], None]) -> None:
    lead_id = proven(world)
    hold(world)
    world.queue.run("UPDATE dispatcher.gates SET state = 'open', reason = NULL")
    world.deliver()
    world.look()
    assert world.deliver() == 1
    lead = world.queue.lead(lead_id)
    assert (lead.state, lead.resends, world.created()) == ("accepted", 1, 1)


def test_a_fresh_proof_is_used_at_once_and_before_all_that_waits(world: Doubtful) -> None:
    world.accept(*BEFORE)
    lead_id = world.lose(created=False)
    world.accept(*AFTER)
    waiting = [world.submit(number, due_in=-3600.0) for number in range(40, 45)]
    world.look_twice()
    (first,) = world.queue.claim().opened
    assert first.lead_id == lead_id
    assert {world.queue.lead(one).state for one in waiting} == {"pending"}


def test_a_resend_that_never_left_is_looked_up_again_after_its_proof_has_grown_old(world: Doubtful) -> None:
    """Not sent, backoff, and again: the proof is that of the first POST."""
    lead_id = proven(world)
    world.sandbox.faults.add(Rule(fault=FaultName.THROTTLED, phone=phone(ADA).removeprefix("+")))
    world.deliver()
    assert world.queue.lead(lead_id).state == "pending"
    world.later(PROOF_FOR + 1)
    world.queue.run("UPDATE dispatcher.gates SET state = 'open', reason = NULL")
    world.rate = Rate()  # the 429 has slowed the other one down
    assert world.deliver() == 0
    lead = world.queue.lead(lead_id)
    assert (lead.state, world.queue.attempt(lead.attempt_id).number) == ("unknown", 1)


def test_a_list_that_is_away_when_the_proof_is_made_again_holds_the_lead(world: Doubtful) -> None:
    lead_id = proven(world)
    backlog(world)
    world.deliver()
    world.sandbox.faults.add(Rule(fault=FaultName.UNAVAILABLE, method="GET", times=None))
    for _ in range(3):
        world.later(SETTLE)
        world.look()
    assert world.deliver() == 0
    assert world.queue.lead(lead_id).state == "unknown"


def test_a_pause_that_is_lifted_while_a_claim_waits_for_it_counts(world: Doubtful) -> None:
    """The claim's own snapshot is older than the resume that it waited for."""
    proven(world)
    holds = "SELECT dispatcher.proof_holds(now(), interval '600 s', 'default', 42)"
    with world.queue.database.transaction() as claim:
        claim.execute(text("SET TRANSACTION ISOLATION LEVEL READ COMMITTED"))
        asked_at = claim.execute(text("SELECT clock_timestamp()")).scalar()
        world.queue.gate("closed", "paused", CAMPAIGN)
        world.queue.run("UPDATE dispatcher.gates SET state = 'open', reason = NULL")
        held = claim.execute(
            text("SELECT dispatcher.proof_holds(:at, interval '600 s', 'default', 42)"), {"at": asked_at}
        ).scalar()
    assert held is False
    assert world.queue.rows(holds)[0][0] is True


def failed_with_proof(world: Doubtful) -> uuid.UUID:
    world.accept(*BEFORE)
    lead_id = world.lose(created=False)
    world.accept(*AFTER)
    for _ in range(2):
        world.later(SETTLE)
        world.look(unknown_for_seconds=SETTLE, on_unknown=OnUnknown.HOLD)
    assert world.queue.lead(lead_id).state == "failed"
    assert world.look_up(lead_id).decision.proof
    return lead_id


def failures(world: Doubtful) -> Failures:
    return Failures(world.queue.database, world.bell)  # type: ignore[arg-type]


def test_a_replay_for_later_is_looked_up_again_when_it_is_due(world: Doubtful) -> None:
    lead_id = failed_with_proof(world)
    failures(world).replay(lead_id, actor="ada", not_before=timedelta(minutes=5))
    world.later(301)
    bears_fruit(world)
    assert world.deliver() == 0
    world.look()
    assert (world.queue.lead(lead_id).state, world.created()) == ("accepted", 1)


def test_a_replay_on_a_proof_waits_no_longer_than_the_proof_holds(world: Doubtful) -> None:
    lead_id = failed_with_proof(world)
    failures(world).replay(lead_id, actor="ada")
    world.later(PROOF_FOR + 1)
    bears_fruit(world)
    assert world.deliver() == 0
    world.look()
    assert (world.queue.lead(lead_id).state, world.created()) == ("accepted", 1)


def test_a_replay_on_a_proof_goes_although_the_setting_forbids_resends(world: Doubtful) -> None:
    lead_id = failed_with_proof(world)
    failures(world).replay(lead_id, actor="ada")
    world.later(PROOF_FOR + 1)
    world.deliver()
    world.look(on_unknown=OnUnknown.HOLD)
    assert world.deliver() == 1
    assert (world.queue.lead(lead_id).state, world.created()) == ("accepted", 1)


def test_a_replay_that_accepts_a_second_call_asks_for_no_proof(world: Doubtful) -> None:
    world.accept(*BEFORE)
    lead_id = world.lose(created=True)
    for _ in range(2):
        world.later(SETTLE)
        world.sandbox.faults.add(Rule(fault=FaultName.UNAVAILABLE, method="GET"))
        world.look(unknown_for_seconds=SETTLE / 4, on_unknown=OnUnknown.HOLD)
    world.queue.run("UPDATE dispatcher.leads SET allow_dupplicate = true WHERE id = :id", id=lead_id)
    failures(world).replay(lead_id, actor="ada", even_if_called=True)
    world.later(PROOF_FOR + 1)
    assert world.deliver() == 1


def test_an_old_proof_of_a_rejected_resend_is_not_good_for_ever(world: Doubtful) -> None:
    """Proven, sent again, refused; days later somebody corrects and replays it."""
    lead_id = proven(world)
    world.sandbox.faults.add(Rule(fault=FaultName.UNPROCESSABLE, phone=phone(ADA).removeprefix("+")))
    world.deliver()
    assert world.queue.lead(lead_id).state == "failed"
    world.later(86_400)
    bears_fruit(world)
    failures(world).replay(lead_id, actor="ada")
    assert world.deliver() == 0
    world.look()
    assert (world.queue.lead(lead_id).state, world.created()) == ("accepted", 1)


# Evidence belongs to the attempt --------------------------------------------------------------------------------------

EDITS = {
    "the number": {"phone_number": phone(99)},
    "the campaign": {"campaign_id": 77},
    "a variable": {"variables": {"customer_name": "Another"}},
}


def held(world: Doubtful) -> uuid.UUID:
    """A lead that is failed as `outcome_unknown`, and that Voicery has."""
    lead_id = world.lose(created=True)
    world.queue.run("UPDATE dispatcher.lead_attempts SET finished_at = now() WHERE lead_id = :id", id=lead_id)
    failed = "UPDATE dispatcher.leads SET state = 'failed', failure_class = 'outcome_unknown' WHERE id = :id"
    world.queue.run(failed, id=lead_id)
    return lead_id


@pytest.mark.parametrize("replay", [True, False])
@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_a_lead_in_doubt_is_not_corrected(world: Doubtful, edit: dict[str, object], *, replay: bool) -> None:
    lead_id = held(world)
    before = world.queue.lead(lead_id)
    corrections = Corrections(world.queue.database, failures(world))
    with pytest.raises(NotAllowed, match=r"may have worked.*dispatcher lookup.*dispatcher resolve"):
        corrections.correct(lead_id, edit, actor="ada", replay=replay)
    after = world.queue.lead(lead_id)
    assert (after.phone_number, after.campaign_id, after.variables) == (
        before.phone_number,
        before.campaign_id,
        before.variables,
    )


def test_a_corrected_lead_is_looked_up_as_it_was_sent(world: Doubtful) -> None:
    """Corrected on a fresh proof; when that has grown old, the look-up asks for what was sent, not for what is now."""
    lead_id = failed_with_proof(world)
    edit = {"phone_number": phone(99), "variables": {"customer_name": "Another"}}
    Corrections(world.queue.database, failures(world)).correct(lead_id, edit, actor="ada")
    world.later(PROOF_FOR + 1)
    bears_fruit(world)
    assert world.deliver() == 0
    world.look()
    lead = world.queue.lead(lead_id)
    assert (lead.state, world.created(), world.created(99)) == ("accepted", 1, 0)


def test_the_old_number_of_a_corrected_lead_is_not_free_while_its_post_is_looked_up(world: Doubtful) -> None:
    lead_id = failed_with_proof(world)
    Corrections(world.queue.database, failures(world)).correct(lead_id, {"phone_number": phone(99)}, actor="ada")
    world.later(PROOF_FOR + 1)
    world.deliver()
    assert world.queue.lead(lead_id).state == "unknown"
    again = world.submit(ADA)
    assert world.deliver() == 0
    assert (world.queue.lead(again).state, world.sent_to()) == ("pending", 1)


# What a match is ------------------------------------------------------------------------------------------------------


def test_a_row_made_by_hand_is_not_ours(queue: Queue) -> None:
    for terms in (Terms(), Terms(reference_variable="ref")):
        with doubtful(queue, terms) as world:
            number = 70 if terms.reference_variable else 71
            world.accept(number + 10)
            lead_id = world.lose(created=False, number=number, flag=True)
            body = {"phone_number": phone(number), "campaign_id": CAMPAIGN, "variables": {}}
            assert world.client.create_lead(orjson.dumps(body)).status == 200
            world.later(SETTLE)
            world.look()
            assert queue.lead(lead_id).state == "failed"


# The watermark --------------------------------------------------------------------------------------------------------


def test_erasing_the_person_with_the_greatest_id_does_not_lower_the_watermark(world: Doubtful) -> None:
    first, last = world.accept(60, 61)
    world.queue.run("DELETE FROM dispatcher.leads WHERE voicery_lead_id = :id", id=last)
    (account,) = world.queue.rows("SELECT watermark FROM dispatcher.accounts WHERE name = 'default'")
    assert account.watermark == last
    world.submit(62)
    (claimed,) = world.queue.claim().opened
    assert world.queue.attempt(claimed.attempt_id).watermark == last > first
