"""Results: written under the fence of their attempt, once, and for nobody else's."""

import uuid
from typing import Any

import pytest

from dispatcher.decisions.outcome import Kind
from dispatcher.decisions.policy import Past
from dispatcher.decisions.reply import CreatedContact
from dispatcher.decisions.states import FailureClass, State
from dispatcher.delivery import late_answers, results
from dispatcher.delivery.claimed import Claimed
from dispatcher.delivery.results import Result
from dispatcher.store.trouble import StatementRefused
from tests.database.queue import Queue, accepted, phone, rejected, result, unknown


def given_back(claimed: Claimed, **more: Any) -> Result:
    return result(claimed, State.PENDING, Kind.THROTTLED, give_back=True, **more)


def not_sent(claimed: Claimed, **more: Any) -> Result:
    return result(claimed, State.PENDING, Kind.NOT_SENT, **more)


def duplicate(claimed: Claimed, **more: Any) -> Result:
    return result(claimed, State.DUPLICATE, Kind.DUPLICATE, **more)


def lease_runs_out(queue: Queue) -> None:
    queue.run("UPDATE dispatcher.leads SET state = 'unknown', lease_until = NULL WHERE state = 'sending'")
    queue.run("UPDATE dispatcher.lead_attempts SET outcome = 'unknown', error = 'lease_expired', ended_at = now()")


def known(queue: Queue, *rows: Result) -> frozenset[uuid.UUID]:
    with queue.database.transaction() as connection:
        return results.already_recorded(connection, rows)


# Each move ------------------------------------------------------------------------------------------------------------


def test_a_yes(queue: Queue) -> None:
    claimed = queue.claimed()

    assert queue.record(accepted(claimed, 1001)).attempt_ids == {claimed.attempt_id}

    lead, attempt = queue.lead(claimed.lead_id), queue.attempt(claimed.attempt_id)
    assert (lead.state, lead.voicery_lead_id, lead.voicery_status) == ("accepted", 1001, "created")
    assert (lead.lease_until, lead.last_error, lead.finished_at is not None) == (None, None, True)
    assert (attempt.outcome, attempt.finished_at is not None) == ("accepted", True)


def test_a_yes_with_contacts(queue: Queue) -> None:
    lead_id = queue.put()
    queue.run(
        "INSERT INTO dispatcher.lead_contacts (lead_id, position, account, phone_number)"
        " VALUES (:id, 0, 'default', :p)",
        id=lead_id,
        p=phone(1),
    )
    (claimed,) = queue.claim().opened

    queue.record(accepted(claimed, contacts=(CreatedContact(0, 77, "created"),)))

    (contact,) = queue.rows("SELECT * FROM dispatcher.lead_contacts")
    assert (contact.voicery_lead_id, contact.voicery_status) == (77, "created")


def test_a_no_and_its_failed_row_in_one(queue: Queue) -> None:
    claimed = queue.claimed()

    queue.record(rejected(claimed, message="Voicery refused the phone number.", response="{}"))

    lead = queue.lead(claimed.lead_id)
    (failure,) = queue.rows("SELECT * FROM dispatcher.failed_leads")
    assert (lead.state, lead.failure_class, lead.last_error) == (
        "failed",
        "rejected",
        "Voicery refused the phone number.",
    )
    assert (failure.lead_id, failure.failure_class, failure.http_status, failure.attempts, failure.phone_number) == (
        claimed.lead_id,
        "rejected",
        422,
        1,
        phone(0),
    )
    assert failure.resolved_at is None


def test_an_attempt_that_counts_is_tried_again_when_due(queue: Queue) -> None:
    claimed = queue.claimed()

    queue.record(not_sent(claimed, due_in=60.0))

    lead = queue.lead(claimed.lead_id)
    assert (lead.state, lead.attempts, (lead.due_at - lead.updated_at).total_seconds()) == ("pending", 1, 60)


def test_an_attempt_that_is_given_back_does_not_count(queue: Queue) -> None:
    claimed = queue.claimed()
    queue.record(given_back(claimed))
    assert queue.lead(claimed.lead_id).attempts == 0

    (again,) = queue.claim().opened
    assert again.attempts == 1
    assert queue.attempt(again.attempt_id).number == 1


def test_no_answer_leaves_the_attempt_open_and_is_looked_up_a_settle_time_after_the_wire_was_done(queue: Queue) -> None:
    claimed = queue.claimed()
    queue.run("UPDATE dispatcher.lead_attempts SET started_at = now() - interval '1 min'")

    queue.record(unknown(claimed, ended_ago=10.0, settle=120.0))

    lead, attempt = queue.lead(claimed.lead_id), queue.attempt(claimed.attempt_id)
    assert (lead.state, attempt.outcome, attempt.finished_at) == ("unknown", "unknown", None)
    assert (lead.due_at - lead.updated_at).total_seconds() == pytest.approx(110, abs=1)
    assert (lead.due_at - attempt.ended_at).total_seconds() == pytest.approx(120)


def test_a_refused_duplicate(queue: Queue) -> None:
    claimed = queue.claimed()

    queue.record(duplicate(claimed))

    lead = queue.lead(claimed.lead_id)
    assert (lead.state, lead.duplicate_of, lead.finished_at is not None) == ("duplicate", None, True)


def test_exhausted(queue: Queue) -> None:
    claimed = queue.claimed()

    queue.record(result(claimed, State.FAILED, Kind.NOT_SENT, failure_class=FailureClass.EXHAUSTED, fingerprint="f"))

    assert queue.lead(claimed.lead_id).failure_class == "exhausted"


# The fence ------------------------------------------------------------------------------------------------------------


def test_an_attempt_that_is_not_the_leads_latest_writes_nothing(queue: Queue) -> None:
    first = queue.claimed()
    queue.record(given_back(first))
    (second,) = queue.claim().opened

    assert queue.record(accepted(first)).attempt_ids == frozenset()

    lead = queue.lead(first.lead_id)
    assert (lead.state, lead.attempt_id) == ("sending", second.attempt_id)
    assert queue.attempt(first.attempt_id).outcome == "throttled"


def test_an_attempt_that_is_finished_is_not_written_again(queue: Queue) -> None:
    claimed = queue.claimed()
    queue.record(accepted(claimed, 1001))

    assert queue.record(rejected(claimed)).attempt_ids == frozenset()
    assert queue.lead(claimed.lead_id).state == "accepted"
    assert queue.rows("SELECT * FROM dispatcher.failed_leads") == []


@pytest.mark.parametrize(
    ("row", "state"), [(accepted, "accepted"), (rejected, "failed"), (not_sent, "pending"), (duplicate, "duplicate")]
)
def test_the_truth_of_the_attempt_in_doubt_is_written_after_its_lease_too(queue: Queue, row: Any, state: str) -> None:
    claimed = queue.claimed()
    lease_runs_out(queue)

    assert queue.record(row(claimed)).attempt_ids == {claimed.attempt_id}
    assert queue.lead(claimed.lead_id).state == state
    assert queue.attempt(claimed.attempt_id).finished_at is not None


def test_no_news_after_the_lease_changes_nothing(queue: Queue) -> None:
    claimed = queue.claimed()
    lease_runs_out(queue)
    before = queue.lead(claimed.lead_id)

    assert queue.record(unknown(claimed)).attempt_ids == frozenset()
    assert queue.lead(claimed.lead_id) == before


# Ids that another lead holds ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("allow_dupplicate", [False, True])
def test_an_id_of_another_lead_makes_a_duplicate_and_where_it_may_not_happen_an_incident(
    queue: Queue, allow_dupplicate: bool
) -> None:
    holder = queue.put(0, "accepted", voicery_lead_id=1001, allow_dupplicate=True)
    claimed = queue.claimed(allow_dupplicate=allow_dupplicate)

    recorded = queue.record(accepted(claimed, 1001))

    lead = queue.lead(claimed.lead_id)
    assert (lead.state, lead.duplicate_of, lead.voicery_lead_id) == ("duplicate", holder, None)
    assert recorded.held_by == {claimed.attempt_id: holder}
    incidents = queue.rows("SELECT kind, lead_id, evidence FROM dispatcher.incidents")
    if allow_dupplicate:
        evidence = {"voicery_lead_id": 1001, "held_by": str(holder)}
        assert [tuple(row) for row in incidents] == [("id_already_held", lead.id, evidence)]
    else:
        assert incidents == []


def test_an_id_of_another_account_is_another_id(queue: Queue) -> None:
    queue.put(1, "accepted", voicery_lead_id=1001, account="other")

    claimed = queue.claimed()
    queue.record(accepted(claimed, 1001))

    assert queue.lead(claimed.lead_id).state == "accepted"


def test_one_id_twice_in_one_batch_is_refused_as_a_whole(queue: Queue) -> None:
    first, second = queue.claimed(0), queue.claimed(1)

    with pytest.raises(StatementRefused) as refusal:
        queue.record(accepted(first, 1001), accepted(second, 1001))

    assert refusal.value.constraint == "leads_voicery_lead_id"
    assert queue.states() == {"sending": 2}


@pytest.mark.parametrize("poison", ["\x00", "\ud800"])
def test_words_that_cannot_be_stored_are_refused_not_a_crash(queue: Queue, poison: str) -> None:
    claimed = queue.claimed()

    with pytest.raises(StatementRefused):
        queue.record(accepted(claimed, voicery_status=poison))
    assert queue.states() == {"sending": 1}


# An unacknowledged commit ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", [accepted, rejected, given_back, not_sent, duplicate, unknown])
def test_what_was_recorded_already_is_recognised(queue: Queue, row: Any) -> None:
    claimed = queue.claimed()
    assert known(queue, row(claimed)) == frozenset()

    queue.record(row(claimed))

    assert queue.record(row(claimed)).attempt_ids == frozenset()
    assert known(queue, row(claimed)) == {claimed.attempt_id}


def test_what_the_sweep_said_is_not_what_we_recorded(queue: Queue) -> None:
    claimed = queue.claimed()
    lease_runs_out(queue)

    assert known(queue, unknown(claimed)) == frozenset()


def test_the_past_is_what_other_attempts_left_behind(queue: Queue) -> None:
    first = queue.claimed()
    queue.record(unknown(first))

    def past(attempt_id: uuid.UUID) -> Past:
        with queue.database.transaction() as connection:
            return results.past(connection, first.lead_id, attempt_id)

    assert past(first.attempt_id) == Past()
    assert past(uuid.uuid4()) == Past(in_doubt=True, unproven=True)
    queue.run("UPDATE dispatcher.lead_attempts SET evidence = '{\"proof\": true}'")
    assert past(uuid.uuid4()) == Past(in_doubt=True)
    queue.run("UPDATE dispatcher.lead_attempts SET outcome = 'bug', finished_at = now()")
    assert past(uuid.uuid4()) == Past(bugs=1)


# Late answers ---------------------------------------------------------------------------------------------------------


def used(queue: Queue, row: Result) -> bool:
    with queue.database.transaction() as connection:
        return late_answers.use(connection, row)


def incidents(queue: Queue) -> list[str]:
    return [row.kind for row in queue.rows("SELECT kind FROM dispatcher.incidents")]


def given_up(queue: Queue, claimed: Claimed) -> None:
    """Patience is over: as resolution leaves it."""
    lease_runs_out(queue)
    queue.run(
        "UPDATE dispatcher.leads SET state = 'failed', failure_class = 'outcome_unknown', finished_at = now()"
        " WHERE id = :id",
        id=claimed.lead_id,
    )
    queue.run("UPDATE dispatcher.lead_attempts SET finished_at = now() WHERE id = :id", id=claimed.attempt_id)
    queue.run(
        """
        INSERT INTO dispatcher.failed_leads
            (lead_id, account, campaign_id, phone_number, failure_class, fingerprint, message, attempts)
        SELECT id, account, campaign_id, phone_number, failure_class, 'f', 'm', 1 FROM dispatcher.leads WHERE id = :id
        """,
        id=claimed.lead_id,
    )


def test_a_late_yes_is_adopted_by_the_lead_that_was_given_up(queue: Queue) -> None:
    lead_id = queue.put()
    queue.run(
        "INSERT INTO dispatcher.lead_contacts (lead_id, position, account, phone_number)"
        " VALUES (:id, 0, 'default', :p)",
        id=lead_id,
        p=phone(1),
    )
    (claimed,) = queue.claim().opened
    given_up(queue, claimed)

    assert used(queue, accepted(claimed, 1001, contacts=(CreatedContact(0, 77, "created"),)))

    lead, attempt = queue.lead(claimed.lead_id), queue.attempt(claimed.attempt_id)
    assert (lead.state, lead.failure_class, lead.voicery_lead_id) == ("accepted", None, 1001)
    assert attempt.outcome == "accepted"
    assert attempt.evidence["late_answer"]["voicery_lead_id"] == 1001
    (failure,) = queue.rows("SELECT * FROM dispatcher.failed_leads")
    assert failure.resolution == "found"
    (contact,) = queue.rows("SELECT * FROM dispatcher.lead_contacts")
    assert contact.voicery_lead_id == 77
    assert incidents(queue) == []


def test_a_late_yes_for_a_dismissed_lead_is_an_incident_and_changes_nothing(queue: Queue) -> None:
    claimed = queue.claimed()
    given_up(queue, claimed)
    queue.run("UPDATE dispatcher.leads SET resolved_at = now()")
    queue.run("UPDATE dispatcher.failed_leads SET resolved_at = now(), resolution = 'dismissed'")
    queue.put()  # somebody submitted the person again

    assert not used(queue, accepted(claimed, 1001))

    assert queue.lead(claimed.lead_id).state == "failed"
    assert incidents(queue) == ["late_answer"]


def test_a_late_yes_stops_the_second_post_that_was_still_waiting(queue: Queue) -> None:
    claimed = queue.claimed()
    lease_runs_out(queue)
    queue.run("UPDATE dispatcher.lead_attempts SET finished_at = now()")
    queue.run("UPDATE dispatcher.leads SET state = 'pending', resends = 1, due_at = now() - interval '1 s'")

    assert queue.record(accepted(claimed, 1001)).attempt_ids == frozenset()
    assert used(queue, accepted(claimed, 1001))

    lead = queue.lead(claimed.lead_id)
    assert (lead.state, lead.voicery_lead_id, lead.lease_until) == ("accepted", 1001, None)
    assert queue.claim().met == 0
    assert incidents(queue) == []


def test_a_late_yes_while_the_second_post_is_on_its_way_is_an_incident(queue: Queue) -> None:
    first = queue.claimed()
    lease_runs_out(queue)
    queue.run("UPDATE dispatcher.lead_attempts SET finished_at = now()")
    queue.run("UPDATE dispatcher.leads SET state = 'pending', due_at = now() - interval '1 s'")
    (second,) = queue.claim().opened

    assert not used(queue, accepted(first, 1001))

    assert queue.lead(first.lead_id).attempt_id == second.attempt_id
    assert queue.lead(first.lead_id).state == "sending"
    assert incidents(queue) == ["late_answer"]


def test_a_late_yes_that_a_look_up_has_found_before_is_no_incident(queue: Queue) -> None:
    claimed = queue.claimed()
    lease_runs_out(queue)
    queue.run("UPDATE dispatcher.leads SET state = 'accepted', voicery_lead_id = 1001")
    queue.run("UPDATE dispatcher.lead_attempts SET finished_at = now()")

    used(queue, accepted(claimed, 1001))
    used(queue, result(claimed, State.UNKNOWN, Kind.CREATED_ID_UNKNOWN))
    assert incidents(queue) == []

    used(queue, accepted(claimed, 1002))
    assert incidents(queue) == ["late_answer"]


def test_a_late_yes_with_an_id_of_another_lead_is_an_incident(queue: Queue) -> None:
    queue.put(1, "accepted", voicery_lead_id=1001)
    claimed = queue.claimed()
    given_up(queue, claimed)

    assert not used(queue, accepted(claimed, 1001))
    assert queue.lead(claimed.lead_id).state == "failed"
    assert incidents(queue) == ["late_answer"]


def test_a_late_yes_without_an_id_keeps_a_lead_in_doubt_from_being_sent_again(queue: Queue) -> None:
    claimed = queue.claimed()
    lease_runs_out(queue)

    assert not used(queue, result(claimed, State.UNKNOWN, Kind.CREATED_ID_UNKNOWN))

    attempt = queue.attempt(claimed.attempt_id)
    assert (attempt.outcome, attempt.finished_at) == ("created_id_unknown", None)
    assert incidents(queue) == []


@pytest.mark.parametrize("row", [rejected, not_sent, duplicate, unknown])
def test_a_late_no_is_only_evidence(queue: Queue, row: Any) -> None:
    claimed = queue.claimed()
    given_up(queue, claimed)

    assert not used(queue, row(claimed))

    assert queue.lead(claimed.lead_id).state == "failed"
    assert queue.attempt(claimed.attempt_id).evidence["late_answer"]["outcome"] == row(claimed).outcome.kind
    assert incidents(queue) == []
