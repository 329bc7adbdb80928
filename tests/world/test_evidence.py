"""Evidence that a POST had no effect: how old it may be, and what it belongs to. Each fault here calls somebody twice.

Voicery may finish a request after its answer was lost, and shows the lead later (`voicery-api.md`, "Not known").
"""

import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta

import orjson
import pytest
import uuid_utils.compat
from sqlalchemy import text

from dispatcher.decisions.absence import OnUnknown
from dispatcher.delivery import late_answers
from dispatcher.delivery.claimed import Claimed
from dispatcher.errors import NotAllowed
from dispatcher.intake.submit import Entry, submit
from dispatcher.lead.lead import Lead
from dispatcher.lead.options import SubmitOptions
from dispatcher.operator import lead_record, resolve
from dispatcher.operator.corrections import Corrections
from dispatcher.operator.explain import explain
from dispatcher.operator.replay import Failures
from dispatcher.sandbox.fault import FaultName, Rule
from dispatcher.sweep import places, repairs
from dispatcher.sweep.sweep import Sweep
from tests.database.queue import Queue, accepted, phone, rejected, unknown
from tests.faults.invariants import check
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
    corrections = Corrections(world.queue.database)
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
    Corrections(world.queue.database).correct(lead_id, edit, actor="ada")
    world.later(PROOF_FOR + 1)
    bears_fruit(world)
    assert world.deliver() == 0
    world.look()
    lead = world.queue.lead(lead_id)
    assert (lead.state, world.created(), world.created(99)) == ("accepted", 1, 0)


def test_the_old_number_of_a_corrected_lead_is_not_free_while_its_post_is_looked_up(world: Doubtful) -> None:
    lead_id = failed_with_proof(world)
    Corrections(world.queue.database).correct(lead_id, {"phone_number": phone(99)}, actor="ada")
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


# Whose answer it is ---------------------------------------------------------------------------------------------------


def test_the_id_of_another_persons_lead_is_an_incident_and_the_lead_goes_on_standing(world: Doubtful) -> None:
    (taken,) = world.accept(60)
    other = world.queue.claimed(61)
    world.queue.record(accepted(other, taken))
    lead = world.queue.lead(other.lead_id)
    assert (lead.state, lead.voicery_lead_id, lead.duplicate_of) == ("accepted", None, None)
    assert [one.kind for one in world.queue.rows("SELECT kind FROM dispatcher.incidents")] == ["id_already_held"]


def test_the_id_of_the_same_persons_lead_makes_a_duplicate(world: Doubtful) -> None:
    (taken,) = world.accept(60)
    again = world.queue.claimed(60, allow_dupplicate=True)
    world.queue.record(accepted(again, taken))
    assert world.queue.lead(again.lead_id).state == "duplicate"


def test_cancelling_a_lead_that_was_to_be_sent_again_without_proof_frees_nobody(world: Doubtful) -> None:
    lead_id = held(world)
    failures(world).replay(lead_id, actor="ada", even_if_called=True)
    with world.queue.database.transaction() as connection:
        resolve.cancel(connection, lead_id, actor="ada")
    lead = world.queue.lead(lead_id)
    assert (lead.state, lead.failure_class) == ("failed", "outcome_unknown")


def test_a_late_answer_to_a_lead_that_a_person_resolved_leaves_its_id_and_no_incident(world: Doubtful) -> None:
    claimed = world.queue.claimed(ADA)
    world.queue.record(unknown(claimed))
    with world.queue.database.transaction() as connection:
        resolve.resolve(connection, claimed.lead_id, "accepted", note="seen there", actor="ada")
        assert late_answers.use(connection, accepted(claimed, 77))
    lead = world.queue.lead(claimed.lead_id)
    assert (lead.state, lead.voicery_lead_id) == ("accepted", 77)
    assert world.queue.rows("SELECT kind FROM dispatcher.incidents") == []


def test_a_late_answer_whose_id_is_taken_meanwhile_leaves_nothing_half(
    world: Doubtful, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The id is free when the lead is withdrawn, and taken when it is adopted."""
    lead_id = proven(world)
    attempt = world.queue.rows("SELECT attempt_id FROM dispatcher.leads WHERE id = :id", id=lead_id)[0].attempt_id
    claimed = Claimed(lead_id, attempt, "default", CAMPAIGN, phone(ADA), "{}", False, (), 1, 0.0)
    monkeypatch.setattr(
        late_answers,
        "_ADOPT",
        text(
            "SELECT CAST(:lead_id AS uuid) FROM dispatcher.leads WHERE false"
            " AND CAST(:attempt_id AS uuid) IS NULL AND CAST(:voicery_lead_id AS bigint) > 0 AND :voicery_status = ''"
        ),
    )
    with world.queue.database.transaction() as connection:
        assert not late_answers.use(connection, accepted(claimed, 77))
    assert world.queue.lead(lead_id).state == "pending"


def test_an_open_attempt_whose_lead_has_gone_on_is_closed_and_told(world: Doubtful) -> None:
    claimed = world.queue.claimed(ADA)
    world.queue.run("UPDATE dispatcher.leads SET state = 'failed', failure_class = 'bug', lease_until = NULL")
    with world.queue.database.transaction() as connection:
        left = repairs.left_open(connection)
        assert left == [claimed.attempt_id]
        assert repairs.close_attempts(connection, left) == 1
    assert world.queue.attempt(claimed.attempt_id).outcome == "unknown"
    assert [one.kind for one in world.queue.rows("SELECT kind FROM dispatcher.incidents")] == ["open_attempt"]


def test_the_open_attempts_of_leads_on_their_way_and_in_doubt_are_left_alone(world: Doubtful) -> None:
    world.queue.claimed(60)
    world.queue.record(unknown(world.queue.claimed(61)))
    with world.queue.database.transaction() as connection:
        assert repairs.left_open(connection) == []


# Duplicates that wait -------------------------------------------------------------------------------------------------


def waiting(world: Doubtful, original: uuid.UUID, **columns: object) -> uuid.UUID:
    return world.submit(ADA, state="duplicate", duplicate_of=original, **columns)


def end_cancelled(world: Doubtful, lead_id: uuid.UUID) -> None:
    with world.queue.database.transaction() as connection:
        resolve.cancel(connection, lead_id, actor="ada")


def end_expired(world: Doubtful, lead_id: uuid.UUID) -> None:
    world.queue.run("UPDATE dispatcher.leads SET expires_at = now() WHERE id = :id", id=lead_id)
    with world.queue.database.transaction() as connection:
        assert repairs.expire(connection, [lead_id]) == 1


def end_refused(world: Doubtful, lead_id: uuid.UUID) -> None:
    (claimed,) = world.queue.claim().opened
    assert claimed.lead_id == lead_id
    world.queue.record(rejected(claimed))


ENDS = {"cancelled": end_cancelled, "expired": end_expired, "refused": end_refused}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_when_the_original_ends_without_a_call_its_youngest_duplicate_takes_its_place(
    world: Doubtful, end: Callable[[Doubtful, uuid.UUID], None]
) -> None:
    original = world.submit(ADA)
    older, youngest = (waiting(world, original, payload_hash=name) for name in ("older", "youngest"))
    end(world, original)
    lead = world.queue.lead(youngest)
    assert (lead.state, lead.duplicate_of, lead.finished_at) == ("pending", None, None)
    assert world.queue.lead(older).duplicate_of == youngest
    (audited,) = world.queue.rows("SELECT * FROM dispatcher.audit_log WHERE action = 'take_place'")
    assert (audited.subject, audited.detail["of"]) == (str(youngest), str(original))
    world.deliver()
    assert (world.queue.lead(youngest).state, world.created()) == ("accepted", 1)
    assert world.queue.lead(older).state == "duplicate"


def test_a_duplicate_of_the_payload_that_was_refused_is_not_sent_to_be_refused_again(world: Doubtful) -> None:
    original = world.submit(ADA)
    twin = waiting(world, original)
    end_refused(world, original)
    assert world.queue.lead(twin).state == "duplicate"


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_a_duplicate_that_is_committed_after_its_original_ended_takes_its_place(
    world: Doubtful, end: Callable[[Doubtful, uuid.UUID], None]
) -> None:
    """What ends the original cannot see a duplicate whose transaction is still open: the sweep notices it."""
    original = world.submit(ADA)
    database = world.queue.database
    with database.transaction() as caller:
        stored = submit(caller, entry(ADA), "another payload")
        assert stored is not None
        assert stored.duplicate_of == original
        end(world, original)
    assert world.queue.lead(stored.lead_id).state == "duplicate", "else this proves nothing"
    sweep(world)
    assert world.queue.lead(stored.lead_id).state == "pending"
    assert explained(world, stored.lead_id).startswith(f"It was a duplicate of lead {original}, which ended without")
    assert f"Lead {stored.lead_id}, which was a duplicate of it, took its place." in explained(world, original)
    world.deliver()
    assert (world.queue.lead(stored.lead_id).state, world.created()) == ("accepted", 1)


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_a_duplicate_is_not_stranded_by_a_transaction_that_was_open_for_hours(
    world: Doubtful, monkeypatch: pytest.MonkeyPatch, end: Callable[[Doubtful, uuid.UUID], None]
) -> None:
    """A caller's job that submits first and commits at its end: its original ended hours before."""
    monkeypatch.setattr(places, "LOOKED_AT", 2)  # more wait than one pass looks at
    original = world.submit(ADA)
    stored = waiting(world, original, payload_hash="another payload")
    world.queue.run("ALTER TABLE dispatcher.leads DISABLE TRIGGER USER")  # as if it were not committed yet
    end(world, original)
    world.queue.run("ALTER TABLE dispatcher.leads ENABLE TRIGGER USER")
    world.queue.run("UPDATE dispatcher.leads SET finished_at = now() - interval '3 h' WHERE id = :id", id=original)
    live = world.submit(1)
    others = [world.submit(1, state="duplicate", duplicate_of=live) for _ in range(5)]
    assert world.queue.lead(stored).state == "duplicate", "else this proves nothing"

    made = sweeper(world)
    for minute in range(5):
        made._clock = lambda minute=minute: 60.0 * minute  # type: ignore[misc]
        assert made.once()

    assert world.queue.lead(stored).state == "pending"
    assert {world.queue.lead(one).duplicate_of for one in others} == {live}


def test_a_duplicate_whose_original_ended_while_another_lead_became_live_waits_for_that_one(world: Doubtful) -> None:
    original = world.submit(ADA)
    database = world.queue.database
    with database.transaction() as caller:
        stored = submit(caller, entry(ADA), "another payload")
        assert stored is not None
        end_cancelled(world, original)
        second = world.submit(ADA, payload_hash="second")
    sweep(world)
    assert (world.queue.lead(stored.lead_id).state, world.queue.lead(stored.lead_id).duplicate_of) == (
        "duplicate",
        second,
    )
    end_cancelled(world, second)
    assert world.queue.lead(stored.lead_id).state == "pending"


def test_the_sweep_leaves_duplicates_alone_whose_original_stands_or_was_refused_with_their_payload(
    world: Doubtful,
) -> None:
    waits = waiting(world, world.submit(ADA))
    refused = world.submit(8)
    twin = world.submit(8, state="duplicate", duplicate_of=refused)
    (claimed,) = [one for one in world.queue.claim(2).opened if one.lead_id == refused]
    world.queue.record(rejected(claimed))
    sweep(world)
    assert [world.queue.lead(one).state for one in (waits, twin)] == ["duplicate", "duplicate"]


def sweeper(world: Doubtful) -> Sweep:
    return Sweep(
        world.queue.database,
        world.bell,  # type: ignore[arg-type]
        lambda _: world.rate,  # type: ignore[arg-type,return-value]
        name="one",
        worker="one:1",
        settle_seconds=SETTLE,
        interval_seconds=1,
    )


def sweep(world: Doubtful) -> None:
    assert sweeper(world).once()


def entry(number: int) -> Entry:
    lead = Lead(phone_number=phone(number), campaign_id=CAMPAIGN, variables={"customer_name": "Another"})
    return Entry(uuid_utils.compat.uuid7(), "default", lead, SubmitOptions())


def explained(world: Doubtful, lead_id: uuid.UUID) -> str:
    with world.queue.database.autocommit() as connection:
        return explain(lead_record.read(connection, lead_id))


def test_while_the_original_may_have_called_its_duplicates_wait(world: Doubtful) -> None:
    original = world.lose(created=True)
    twin = waiting(world, original, payload_hash="other")
    world.queue.run("UPDATE dispatcher.lead_attempts SET finished_at = now()")
    world.queue.run(
        "UPDATE dispatcher.leads SET state = 'failed', failure_class = 'outcome_unknown' WHERE state = 'unknown'"
    )
    assert world.queue.lead(twin).state == "duplicate"


def test_an_attempt_that_is_open_again_was_closed_while_another_one_of_its_person_was_made(
    queue: Queue, database_url: str
) -> None:
    """Seen under `kill -9`: two leads of one person, and the proof of the first grew old after the second was sent."""
    with doubtful(queue, Terms(reference_variable="lead_ref")) as world:
        first = proven(world, flag=True)
        queue.run("UPDATE dispatcher.leads SET due_at = now() + interval '1 h' WHERE id = :id", id=first)
        second = world.submit(ADA, flag=True)
        assert world.deliver() == 1
        world.later(3600)
        assert world.deliver() == 0
        assert queue.lead(first).state == "unknown"
        world.look_twice()
        world.deliver()
        both = [str(first), str(second)]
        assert check(database_url, world.sandbox.log, "lead_ref", both).violations == []
        queue.run(
            "UPDATE dispatcher.lead_attempts SET started_at = now() - interval '200 s', ended_at = now(),"
            " finished_at = now() WHERE lead_id = :id",
            id=second,
        )
        (noticed,) = check(database_url, world.sandbox.log, "lead_ref", both).violations
    assert "two attempts of one person were open at once" in noticed
