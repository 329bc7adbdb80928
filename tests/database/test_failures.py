"""Replaying, resolving and cancelling: what is allowed, what is refused and why, and what is written about it."""

import threading
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from dispatcher.decisions.states import FailureClass
from dispatcher.errors import LeadNotFound, NotAllowed
from dispatcher.operator import failures as queries
from dispatcher.operator.failure_filter import FailureFilter
from dispatcher.operator.failures import FailedLead
from dispatcher.operator.replay import Failures
from tests.support.doubles import Bell
from tests.support.rows import ADA, BOB, Rows
from tests.support.waiting import wait_until

ACTOR = "ada@ops-1"


def listed(rows: Rows, wanted: FailureFilter) -> list[FailedLead]:
    return rows.database.read(queries.matching, wanted)


def proof(minutes_ago: float = 1) -> dict[str, Any]:
    at = datetime.now(UTC) - timedelta(minutes=minutes_ago)
    return {"lookups": [{"at": at.isoformat(), "verdict": "absent", "control": True}], "proof": True}


# Replay ---------------------------------------------------------------------------------------------------------------


def test_a_replayed_lead_is_pending_with_a_new_budget_and_its_failure_is_closed(
    failures: Failures, rows: Rows, bell: Bell
) -> None:
    lead_id = rows.failed(first_attempt_at=datetime(2026, 1, 1, tzinfo=UTC), resends=1, priority=4)

    failures.replay(lead_id, actor=ACTOR, note="number corrected at Voicery")

    lead, failure = rows.of(lead_id), rows.failure_of(lead_id)
    assert (lead.state, lead.failure_class, lead.attempts, lead.first_attempt_at) == ("pending", None, 0, None)
    assert (lead.resends, lead.priority, lead.finished_at, lead.last_error) == (1, 4, None, None)
    assert (failure.resolution, failure.resolved_by, failure.note) == (
        "replayed",
        ACTOR,
        "number corrected at Voicery",
    )
    assert bell.rung == [("default", 42)]
    assert [(actor, action, subject) for actor, action, subject, _ in rows.audited()] == [
        (ACTOR, "replay", str(lead_id))
    ]


def test_a_replayed_lead_may_fail_again_with_a_row_of_its_own(failures: Failures, rows: Rows) -> None:
    lead_id = rows.failed()
    failures.replay(lead_id, actor=ACTOR)

    rows.run("UPDATE dispatcher.leads SET state = 'failed', failure_class = 'expired' WHERE id = :id", id=lead_id)
    rows.run(
        "INSERT INTO dispatcher.failed_leads (lead_id, account, campaign_id, phone_number, failure_class, fingerprint,"
        " message, attempts) SELECT id, account, campaign_id, phone_number, 'expired', 'f', 'm', 0"
        " FROM dispatcher.leads WHERE id = :id",
        id=lead_id,
    )

    assert [one.failure_class for one in listed(rows, FailureFilter())] == [FailureClass.EXPIRED]


def test_a_replay_forgets_an_expiry_that_has_passed_and_keeps_one_to_come(failures: Failures, rows: Rows) -> None:
    passed = rows.failed("expired", expires_at=datetime(2026, 1, 1, tzinfo=UTC))
    to_come = rows.failed(phone=BOB, expires_at=datetime(2100, 1, 1, tzinfo=UTC))

    failures.replay(passed, actor=ACTOR)
    failures.replay(to_come, actor=ACTOR)

    assert rows.of(passed).expires_at is None
    assert rows.of(to_come).expires_at == datetime(2100, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("kind", ["delay", "moment"])
def test_a_replay_may_wait_for_its_time(failures: Failures, rows: Rows, kind: str) -> None:
    delay = timedelta(hours=2)
    not_before = delay if kind == "delay" else datetime.now(UTC) + delay
    lead_id = rows.failed(expires_at=datetime(2100, 1, 1, tzinfo=UTC))

    failures.replay(lead_id, actor=ACTOR, not_before=not_before)

    lead = rows.of(lead_id)
    assert lead.state == "pending"
    assert abs(lead.due_at - datetime.now(UTC) - timedelta(hours=2)) < timedelta(minutes=5)
    assert rows.audited()[0][3]["not_before"] == str(not_before)


def test_a_time_that_has_passed_is_now(failures: Failures, rows: Rows) -> None:
    lead_id = rows.failed()

    failures.replay(lead_id, actor=ACTOR, not_before=datetime(2020, 1, 1, tzinfo=UTC))

    assert rows.of(lead_id).due_at > datetime.now(UTC) - timedelta(minutes=5)


def test_a_lead_that_expires_before_its_time_is_refused(failures: Failures, rows: Rows) -> None:
    lead_id = rows.failed(expires_at=datetime.now(UTC) + timedelta(hours=1))

    ((_, why),) = failures.replay_all([lead_id], actor=ACTOR, not_before=timedelta(hours=2), dry_run=True).refused
    assert "before it might go" in why
    with pytest.raises(NotAllowed, match="before it might go"):
        failures.replay(lead_id, actor=ACTOR, not_before=timedelta(hours=2))

    assert (rows.of(lead_id).state, rows.audited()) == ("failed", [])


def test_a_time_without_a_zone_is_refused(failures: Failures, rows: Rows) -> None:
    with pytest.raises(NotAllowed, match="zone"):
        failures.replay(rows.failed(), actor=ACTOR, not_before=datetime(2100, 1, 1))  # noqa: DTZ001 - the point


@pytest.mark.parametrize("state", ["pending", "accepted", "duplicate", "cancelled"])
def test_only_a_failed_lead_is_replayed(failures: Failures, rows: Rows, bell: Bell, state: str) -> None:
    lead_id = rows.lead(state)

    with pytest.raises(NotAllowed, match=r"Only a failed lead can be replayed; this one (is|was|goes|)"):
        failures.replay(lead_id, actor=ACTOR)

    assert rows.of(lead_id).state == state
    assert (bell.rung, rows.audited()) == ([], [])


def test_an_unknown_lead_is_not_replayed(failures: Failures, rows: Rows) -> None:
    lead_id = rows.unknown()

    with pytest.raises(NotAllowed, match="this one is unknown and is being looked up"):
        failures.replay(lead_id, actor=ACTOR, even_if_called=True)


def test_a_lead_nobody_knows_is_said_so(failures: Failures) -> None:
    with pytest.raises(LeadNotFound):
        failures.replay(uuid.uuid4(), actor=ACTOR)


def test_a_replay_names_the_other_live_lead_of_the_person(failures: Failures, rows: Rows) -> None:
    lead_id = rows.failed()
    other = rows.lead("accepted")

    with pytest.raises(NotAllowed, match=f"Lead {other} already stands for this person"):
        failures.replay(lead_id, actor=ACTOR, even_if_called=True)

    assert rows.of(lead_id).state == "failed"
    assert rows.failure_of(lead_id).resolution is None


def test_leads_that_allow_duplicates_have_no_rivals(failures: Failures, rows: Rows) -> None:
    lead_id = rows.failed(allow_dupplicate=True)
    rows.lead("accepted")

    failures.replay(lead_id, actor=ACTOR)

    assert rows.of(lead_id).state == "pending"


def test_a_rival_that_commits_in_the_middle_of_a_replay_wins_by_the_index(failures: Failures, rows: Rows) -> None:
    lead_id = rows.failed()
    refused: list[NotAllowed] = []

    def replay() -> None:
        try:
            failures.replay(lead_id, actor=ACTOR)
        except NotAllowed as error:
            refused.append(error)

    with rows.database.transaction() as rival:
        other = rival.execute(
            text(
                "INSERT INTO dispatcher.leads (id, account, campaign_id, phone_number, state, due_at, payload_hash)"
                " VALUES (gen_random_uuid(), 'default', 42, :phone, 'pending', now(), 'h') RETURNING id"
            ),
            {"phone": ADA},
        ).scalar_one()
        thread = threading.Thread(target=replay)
        thread.start()
        # The replay saw no rival, wrote, and now waits for the uncommitted one at the unique index.
        wait_until(
            lambda: rows.one("SELECT count(*) AS n FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'").n,
            describe="the replay to wait at the index",
        )
    thread.join(timeout=60)

    assert [str(error) for error in refused] == [
        f"Lead {other} already stands for this person in this campaign; dismiss this one, or cancel that one first."
    ]
    assert rows.of(lead_id).state == "failed"
    assert rows.audited() == []


# … of a lead that may have been called --------------------------------------------------------------------------------


def test_a_lead_whose_outcome_is_unknown_is_not_replayed(failures: Failures, rows: Rows) -> None:
    lead_id = rows.failed_unknown()

    with pytest.raises(NotAllowed, match=rf"may have been called.*dispatcher lookup {lead_id}.*--even-if-called"):
        failures.replay(lead_id, actor=ACTOR)

    assert rows.of(lead_id).state == "failed"


def test_whoever_takes_the_risk_is_recorded(failures: Failures, rows: Rows) -> None:
    lead_id = rows.failed_unknown()

    failures.replay(lead_id, actor=ACTOR, even_if_called=True)

    assert rows.of(lead_id).state == "pending"
    ((actor, action, _, detail),) = rows.audited()
    assert (actor, action, detail["even_if_called"]) == (ACTOR, "replay", True)
    assert "in_doubt_since" in detail


def test_even_if_called_is_not_recorded_where_there_was_no_risk(failures: Failures, rows: Rows) -> None:
    failures.replay(rows.failed(), actor=ACTOR, even_if_called=True)

    assert "even_if_called" not in rows.audited()[0][3]


def test_a_fresh_proof_of_absence_allows_the_replay(failures: Failures, rows: Rows) -> None:
    lead_id = rows.failed_unknown(evidence=proof(minutes_ago=9))

    failures.replay(lead_id, actor=ACTOR)

    assert rows.of(lead_id).state == "pending"


@pytest.mark.parametrize(
    "evidence",
    [
        proof(minutes_ago=11),
        proof() | {"proof": False},
        {"proof": True},
        {"proof": "true", "lookups": proof()["lookups"]},
        proof() | {"late_answer": {"outcome": "accepted", "voicery_lead_id": 7}},
    ],
    ids=["stale", "no proof", "without its look-ups", "not a boolean", "but Voicery said yes late"],
)
def test_anything_less_does_not(failures: Failures, rows: Rows, evidence: dict[str, Any]) -> None:
    lead_id = rows.failed_unknown(evidence=evidence)

    with pytest.raises(NotAllowed, match="may have been called"):
        failures.replay(lead_id, actor=ACTOR)


def test_an_earlier_attempt_in_doubt_forbids_it_too(failures: Failures, rows: Rows) -> None:
    latest = uuid.uuid4()
    lead_id = rows.failed("rejected", attempt_id=latest)
    rows.attempt(lead_id, uuid.uuid4(), outcome="created_id_unknown", minutes_ago=60)
    rows.attempt(lead_id, latest, outcome="rejected", minutes_ago=5)

    with pytest.raises(NotAllowed, match="may have been called"):
        failures.replay(lead_id, actor=ACTOR)


def test_an_earlier_attempt_proven_absent_does_not_however_long_ago(failures: Failures, rows: Rows) -> None:
    latest = uuid.uuid4()
    lead_id = rows.failed("rejected", attempt_id=latest)
    rows.attempt(lead_id, uuid.uuid4(), outcome="unknown", evidence=proof(minutes_ago=55), minutes_ago=60)
    rows.attempt(lead_id, latest, outcome="rejected", minutes_ago=5)

    failures.replay(lead_id, actor=ACTOR)

    assert rows.of(lead_id).state == "pending"


def test_class_outcome_unknown_is_believed_whatever_the_latest_attempt_says(failures: Failures, rows: Rows) -> None:
    latest = uuid.uuid4()
    lead_id = rows.failed("outcome_unknown", attempt_id=latest)
    rows.attempt(lead_id, latest, outcome="duplicate")

    with pytest.raises(NotAllowed, match="may have been called"):
        failures.replay(lead_id, actor=ACTOR)


# Many at once ---------------------------------------------------------------------------------------------------------


def test_a_bulk_replay_does_what_it_may_and_says_why_not(failures: Failures, rows: Rows) -> None:
    good, doubtful, stranger = rows.failed(), rows.failed_unknown(phone=BOB), uuid.uuid4()

    done = failures.replay_all([good, doubtful, stranger, good], actor=ACTOR)

    assert done.replayed == (good,)
    assert [lead_id for lead_id, _ in done.refused] == [doubtful, stranger]
    assert (rows.of(good).state, rows.of(doubtful).state) == ("pending", "failed")


def test_a_dry_run_says_the_same_and_changes_nothing(failures: Failures, rows: Rows, bell: Bell) -> None:
    good, doubtful = rows.failed(), rows.failed_unknown(phone=BOB)

    done = failures.replay_all([good, doubtful], actor=ACTOR, dry_run=True)

    assert (done.dry_run, done.replayed, [lead_id for lead_id, _ in done.refused]) == (True, (good,), [doubtful])
    assert (rows.of(good).state, bell.rung, rows.audited()) == ("failed", [], [])


# Resolve --------------------------------------------------------------------------------------------------------------


def test_an_unknown_lead_that_a_person_found_is_accepted(failures: Failures, rows: Rows) -> None:
    lead_id = rows.unknown()

    failures.resolve(lead_id, "accepted", note="seen in Voicery's list", actor=ACTOR)

    lead = rows.of(lead_id)
    attempt = rows.one("SELECT * FROM dispatcher.lead_attempts WHERE lead_id = :id", id=lead_id)
    assert (lead.state, lead.finished_at is not None) == ("accepted", True)
    assert (attempt.outcome, attempt.finished_at is not None) == ("unknown", True)
    assert attempt.evidence["operator"] == {"as": "accepted", "by": ACTOR, "note": "seen in Voicery's list"}
    assert rows.audited()[0][:3] == (ACTOR, "resolve", str(lead_id))


def test_a_failed_lead_of_unknown_outcome_is_accepted_and_its_failure_closes_as_found(
    failures: Failures, rows: Rows
) -> None:
    lead_id = rows.failed_unknown()

    failures.resolve(lead_id, "accepted", note="called on Monday", actor=ACTOR)

    assert (rows.of(lead_id).state, rows.of(lead_id).failure_class) == ("accepted", None)
    assert (rows.failure_of(lead_id).resolution, rows.failure_of(lead_id).note) == ("found", "called on Monday")


@pytest.mark.parametrize("failure_class", ["rejected", "exhausted", "expired", "bug"])
def test_what_voicery_cannot_have_is_not_accepted(failures: Failures, rows: Rows, failure_class: str) -> None:
    lead_id = rows.failed(failure_class)

    with pytest.raises(NotAllowed, match=f"this one failed as {failure_class}"):
        failures.resolve(lead_id, "accepted", note="I think so", actor=ACTOR)

    assert rows.of(lead_id).state == "failed"


def test_a_dismissed_failure_needs_no_attention_and_stays_failed(failures: Failures, rows: Rows) -> None:
    lead_id = rows.failed()

    failures.resolve(lead_id, "dismissed", note="test data", actor=ACTOR)

    lead, failure = rows.of(lead_id), rows.failure_of(lead_id)
    assert (lead.state, lead.resolved_at is not None) == ("failed", True)
    assert (failure.resolution, failure.resolved_by, failure.note) == ("dismissed", ACTOR, "test data")
    assert listed(rows, FailureFilter()) == []
    assert [one.lead_id for one in listed(rows, FailureFilter(resolved=True))] == [lead_id]
    with pytest.raises(NotAllowed, match="has been dismissed already"):
        failures.resolve(lead_id, "dismissed", note="again", actor=ACTOR)


def test_an_unknown_lead_that_is_given_up_frees_the_person(failures: Failures, rows: Rows) -> None:
    lead_id = rows.unknown()

    failures.resolve(lead_id, "dismissed", note="not worth it", actor=ACTOR)

    lead, failure = rows.of(lead_id), rows.failure_of(lead_id)
    assert (lead.state, lead.failure_class) == ("failed", "outcome_unknown")
    assert (failure.failure_class, failure.resolution, failure.resolved_by) == ("outcome_unknown", "dismissed", ACTOR)
    open_attempts = rows.one("SELECT count(*) AS n FROM dispatcher.lead_attempts WHERE finished_at IS NULL").n
    assert open_attempts == 0
    rows.lead("pending")  # the unique index has room for another lead of this person


@pytest.mark.parametrize("state", ["pending", "accepted", "duplicate", "cancelled"])
@pytest.mark.parametrize("as_", ["accepted", "dismissed"])
def test_there_is_nothing_to_resolve_elsewhere(failures: Failures, rows: Rows, state: str, as_: Any) -> None:
    lead_id = rows.lead(state)

    with pytest.raises(NotAllowed, match="Only"):
        failures.resolve(lead_id, as_, note="hm", actor=ACTOR)

    assert (rows.of(lead_id).state, rows.audited()) == (state, [])


def test_a_resolution_needs_a_note(failures: Failures, rows: Rows) -> None:
    lead_id = rows.failed()

    with pytest.raises(NotAllowed, match="needs a note"):
        failures.resolve(lead_id, "dismissed", note="  ", actor=ACTOR)


# Cancel ---------------------------------------------------------------------------------------------------------------


def test_a_pending_lead_is_cancelled(failures: Failures, rows: Rows) -> None:
    lead_id = rows.lead("pending")

    failures.cancel(lead_id, actor=ACTOR)

    assert rows.of(lead_id).state == "cancelled"
    assert rows.audited() == [(ACTOR, "cancel", str(lead_id), {})]


@pytest.mark.parametrize("state", ["accepted", "duplicate", "cancelled", "failed", "unknown", "sending"])
def test_nothing_else_is(failures: Failures, rows: Rows, state: str) -> None:
    match state:
        case "failed":
            lead_id = rows.failed()
        case "unknown":
            lead_id = rows.unknown()
        case _:
            lead_id = rows.lead(state, attempt_id=uuid.uuid4())

    with pytest.raises(NotAllowed, match="Only a pending lead can be cancelled; this one"):
        failures.cancel(lead_id, actor=ACTOR)

    assert (rows.of(lead_id).state, rows.audited()) == (state, [])


# Reading --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (FailureFilter(), {"a", "b", "c"}),
        (FailureFilter(failure_class=FailureClass.REJECTED), {"a", "b"}),
        (FailureFilter(campaign_id=7), {"b"}),
        (FailureFilter(account="other"), set()),
        (FailureFilter(fingerprint="f2"), {"c"}),
        (FailureFilter(http_status=422, campaign_id=42), {"a", "c"}),
        (FailureFilter(http_status=500), set()),
        (FailureFilter(text="PHONE"), {"a", "b"}),
        (FailureFilter(text="%"), set()),
        (FailureFilter(text="'; DROP TABLE dispatcher.leads; --"), set()),
        (FailureFilter(failed_since=datetime(2020, 1, 1, tzinfo=UTC)), {"a", "b", "c"}),
        (FailureFilter(failed_before=datetime(2020, 1, 1, tzinfo=UTC)), set()),
        (FailureFilter(batch_id=uuid.UUID(int=1)), {"a"}),
        (FailureFilter(variable=("plan", "pro")), {"a"}),
        (FailureFilter(variable=("seats", "5")), {"a", "b"}),
        (FailureFilter(variable=("seats", "5.0")), set()),
        (FailureFilter(variable=("trial", "true")), {"b"}),
        (FailureFilter(variable=("plan", "%")), set()),
        (FailureFilter(variable=("customer_name", "Ada Lovelace"), campaign_id=42), {"c"}),
        (FailureFilter(attempts_from=3), {"a", "b", "c"}),
        (FailureFilter(attempts_from=4), set()),
        (FailureFilter(replayed_before=True), {"b"}),
        (FailureFilter(replayed_before=False), {"a", "c"}),
        (FailureFilter(submitted_since=datetime(2026, 1, 1, tzinfo=UTC)), {"b", "c"}),
        (FailureFilter(submitted_before=datetime(2026, 1, 1, tzinfo=UTC)), {"a"}),
    ],
)
def test_filters(failures: Failures, rows: Rows, wanted: FailureFilter, found: set[str]) -> None:
    born = datetime(2025, 6, 1, tzinfo=UTC)
    replayed = rows.failed(campaign_id=7, variables='{"plan": "free", "seats": 5, "trial": true}')
    failures.replay(replayed, actor=ACTOR)
    rows.fail(replayed)
    leads = {
        rows.failed(batch_id=uuid.UUID(int=1), variables='{"plan": "pro", "seats": "5"}', created_at=born): "a",
        replayed: "b",
        rows.failed("expired", phone=BOB, message="It expired.", fingerprint="f2"): "c",
    }

    assert {leads[one.lead_id] for one in listed(rows, wanted)} == found
    assert {leads[lead_id] for lead_id in rows.database.read(queries.leads_matching, wanted)} == found
    assert sum(group.leads for group in rows.database.read(queries.groups, wanted)) == len(found)


def test_equal_causes_are_one_group_the_largest_first(rows: Rows) -> None:
    rows.failed("expired", phone=BOB, message="It expired.", fingerprint="f2")
    rows.failed(campaign_id=7, message="Voicery refused the phone number: older.")
    rows.failed(message="Voicery refused the phone number: newer.")

    first, second = rows.database.read(queries.groups, FailureFilter())

    assert (first.leads, first.campaigns, first.failure_class) == (2, (7, 42), FailureClass.REJECTED)
    assert first.message == "Voicery refused the phone number: newer."
    assert (second.leads, second.fingerprint) == (1, "f2")


def test_a_failed_lead_shows_nobody_unless_asked(rows: Rows) -> None:
    rows.failed()
    (one,) = listed(rows, FailureFilter())

    assert ADA not in repr(one)
    assert ADA not in str(one.as_dict())
    assert one.as_dict()["phone_number"] == "+•••0101"
    assert one.as_dict(reveal=True)["phone_number"] == ADA


def test_a_page_of_rows_reads_no_more_than_its_rows_however_many_there_are(rows: Rows) -> None:
    rows.run("""
        INSERT INTO dispatcher.leads (id, account, campaign_id, phone_number, state, failure_class, due_at,
            payload_hash, finished_at, attempts, attempt_id)
        SELECT gen_random_uuid(), 'default', 42, '+4477009' || 10000 + n, 'failed', 'rejected', now(), 'h', now(), 1,
            gen_random_uuid()
        FROM generate_series(1, 3000) AS n
    """)
    rows.run("""
        INSERT INTO dispatcher.failed_leads (lead_id, account, campaign_id, phone_number, failure_class, fingerprint,
            message, attempts)
        SELECT id, account, campaign_id, phone_number, 'rejected', 'f', 'm', 1 FROM dispatcher.leads
    """)
    rows.run("ANALYZE dispatcher.failed_leads")
    with rows.database.transaction() as connection:
        connection.execute(text("SET LOCAL enable_seqscan = off"))
        assert len(queries.matching(connection, FailureFilter(), limit=20)) == 20
        read = connection.execute(
            text("SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'failed_leads'")
        ).scalar()

    assert read is not None
    assert read <= 100
