"""Why a lead is where it is, in words that a person understands."""

import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dispatcher.decisions.gate import GateState
from dispatcher.decisions.outcome import Kind, Reason
from dispatcher.decisions.states import FailureClass, Resolution, State
from dispatcher.operator.explain import explain
from dispatcher.operator.failures import FailedLead
from dispatcher.operator.lead_record import AttemptRecord, LeadRecord
from dispatcher.operator.overview import GateRecord

NOW = datetime(2026, 11, 23, 14, 10, 0, tzinfo=UTC)
LEAD_ID = uuid.UUID(int=1)
OTHER_ID = uuid.UUID(int=2)
SILENCE = "Voicery did not answer in time, after the lead had been sent; the person may have been called."


def at(clock: str) -> datetime:
    return datetime.fromisoformat(f"2026-11-23T{clock}+00:00")


def record(state: State, **changes: Any) -> LeadRecord:
    values: dict[str, Any] = {
        "id": LEAD_ID,
        "account": "default",
        "campaign_id": 42,
        "phone_number": "+12025550101",
        "variables": {},
        "allow_dupplicate": False,
        "state": state,
        "failure_class": None,
        "priority": 0,
        "due_at": at("14:00:00"),
        "expires_at": None,
        "attempts": 0,
        "resends": 0,
        "lease_until": None,
        "attempt_id": None,
        "voicery_lead_id": None,
        "voicery_status": None,
        "duplicate_of": None,
        "idempotency_key": None,
        "batch_id": None,
        "last_error": None,
        "created_at": at("14:00:00"),
        "updated_at": at("14:00:00"),
        "finished_at": None,
        "resolved_at": None,
        "read_at": NOW,
    }
    return LeadRecord(**values | changes)


def attempt(clock: str, outcome: Kind | None, *, took: float = 20, error: str | None = SILENCE, **more: Any) -> Any:
    started = at(clock)
    ended = None if outcome is None else started + timedelta(seconds=took)
    return AttemptRecord(
        id=uuid.uuid4(), number=1, started_at=started, ended_at=ended, outcome=outcome, error=error, **more
    )


def looked_up(*looks: tuple[str, str, bool]) -> dict[str, Any]:
    rows = [{"at": at(clock).isoformat(), "verdict": verdict, "control": control} for clock, verdict, control in looks]
    return {"lookups": rows, "proof": False}


def failure(failure_class: FailureClass, message: str, **more: Any) -> FailedLead:
    return FailedLead(
        id=1,
        lead_id=LEAD_ID,
        account="default",
        campaign_id=42,
        phone_number="+12025550101",
        failure_class=failure_class,
        http_status=422,
        fingerprint="f",
        message=message,
        response=None,
        attempts=1,
        failed_at=at("14:05:00"),
        **more,
    )


def gate(reason: Reason, **more: Any) -> GateRecord:
    return GateRecord("default", None, GateState.CLOSED, reason, **more)


def test_the_story_of_a_lead_that_was_sent_twice() -> None:
    first = attempt(
        "14:02:11",
        Kind.UNKNOWN,
        evidence=looked_up(("14:04:15", "absent", False), ("14:06:20", "absent", True)),
    )
    second = attempt("14:06:21", Kind.UNKNOWN, took=3, error="The connection was reset, after the lead had been sent.")

    told = explain(record(State.UNKNOWN, history=(first, second), due_at=at("14:12:00")))

    assert told == (
        "It is not known whether it arrived: sent 14:02:11, no answer in 20 s; looked up 14:04:15: not there; "
        "again 14:06:20: not there, list fresh; sent again 14:06:21, the connection was reset after 3 s. "
        "It is looked up at 14:12:00; nobody sends it again before its absence is proven. (Times are UTC.)"
    )


@pytest.mark.parametrize(
    ("lead", "gates", "words"),
    [
        (record(State.PENDING), (), "was submitted at 14:00:00 and has not been sent. It goes as soon as a worker"),
        (record(State.PENDING, due_at=at("16:10:00")), (), "It goes at 16:10:00, in 2 h."),
        (record(State.PENDING, due_at=NOW + timedelta(days=3)), (), "It goes at 2026-11-26 14:10:00, in 3 days."),
        (record(State.PENDING, waits_behind=OTHER_ID), (), f"It waits for lead {OTHER_ID} of the same person"),
        (record(State.PENDING, expires_at=at("14:09:00")), (), "It expired at 14:09:00"),
        (
            record(State.PENDING),
            (gate(Reason.PAUSED, by="ada", note="lunch"),),
            "because ada paused account default (lunch); `dispatcher resume` lets it go.",
        ),
        (
            record(State.PENDING),
            (gate(Reason.OUTAGE, until=at("14:11:00"), note="Voicery answered HTTP 500."),),
            (
                "spends no attempts, because account default is held back: outage (Voicery answered HTTP 500). "
                "It is tried again at 14:11:00."
            ),
        ),
        (
            record(State.PENDING),
            (replace(gate(Reason.OUTAGE), state=GateState.PROBING),),
            "is tried with single leads after outage",
        ),
        (
            record(
                State.PENDING, history=(attempt("14:01:00", Kind.NOT_SENT, error="It was slow; nothing was sent."),)
            ),
            (),
            "Tried 14:01:00, it was slow. It goes as soon as",
        ),
        (
            record(State.SENDING, lease_until=at("14:11:30"), history=(attempt("14:10:00", None, worker="host:7"),)),
            (),
            "Worker host:7 claimed it at 14:10:00 and has not reported yet. If nothing is heard by 14:11:30, it",
        ),
        (
            record(State.UNKNOWN, history=(attempt("14:02:00", Kind.UNKNOWN, error="lease_expired"),)),
            (),
            "sent 14:02:00, its worker died or froze. It is looked up at the next opportunity",
        ),
        (
            record(State.UNKNOWN, history=(attempt("14:02:00", Kind.UNKNOWN, http_status=502),)),
            (),
            "sent 14:02:00, HTTP 502",
        ),
        (
            record(State.UNKNOWN, history=(attempt("14:02:00", Kind.CREATED_ID_UNKNOWN),)),
            (),
            (
                "Voicery said yes but gave no id. It is looked up at the next opportunity to learn its id; "
                "it is never sent again."
            ),
        ),
        (
            record(
                State.UNKNOWN,
                history=(attempt("14:02:00", Kind.UNKNOWN, evidence=looked_up(("14:04:00", "possible", True))),),
            ),
            (gate(Reason.OUTAGE),),
            "looked up 14:04:00: something that may be this lead, and may not. A person should compare",
        ),
        (
            record(State.ACCEPTED, finished_at=at("14:01:00"), voicery_lead_id=77, voicery_status="queued"),
            (),
            "Voicery accepted it at 14:01:00 as its lead 77, status queued. Nothing more",
        ),
        (
            record(
                State.ACCEPTED,
                finished_at=at("14:01:00"),
                failures=(failure(FailureClass.OUTCOME_UNKNOWN, "m", note="seen by Bob"),),
            ),
            (),
            "A person resolved it as accepted at 14:01:00: seen by Bob.",
        ),
        (
            record(State.DUPLICATE, finished_at=at("14:00:00"), duplicate_of=OTHER_ID),
            (),
            f"When it was submitted at 14:00:00, lead {OTHER_ID} already stood for this person. Nobody is called",
        ),
        (
            record(State.DUPLICATE, duplicate_of=OTHER_ID, duplicate_of_state=State.FAILED),
            (),
            "That one has failed; `dispatcher explain` says why. Replay that one",
        ),
        (
            record(State.DUPLICATE, duplicate_of=OTHER_ID, duplicate_of_state=State.ACCEPTED),
            (),
            "Voicery accepted that one.",
        ),
        (
            record(State.PENDING, place_of=OTHER_ID),
            (),
            f"It was a duplicate of lead {OTHER_ID}, which ended without a call, and took its place. It was submitted",
        ),
        (
            record(State.CANCELLED, finished_at=at("14:00:00"), place_to=OTHER_ID),
            (),
            f"nobody was called. Lead {OTHER_ID}, which was a duplicate of it, took its place.",
        ),
        (record(State.DUPLICATE, finished_at=at("14:00:00")), (), "Voicery refused it at 14:00:00 as a duplicate"),
        (
            record(State.DUPLICATE, duplicate_of=OTHER_ID, history=(attempt("14:00:00", Kind.ACCEPTED),)),
            (),
            f"with the id of lead {OTHER_ID}",
        ),
        (
            record(
                State.FAILED,
                failure_class=FailureClass.REJECTED,
                finished_at=at("14:05:00"),
                failures=(failure(FailureClass.REJECTED, "Voicery refused the phone number: too short"),),
            ),
            (),
            "It failed at 14:05:00 (rejected): Voicery refused the phone number: too short. Nobody was called.",
        ),
        (
            record(
                State.FAILED,
                failure_class=FailureClass.OUTCOME_UNKNOWN,
                finished_at=at("14:05:00"),
                history=(attempt("14:02:00", Kind.UNKNOWN, evidence=looked_up(("14:04:00", "unavailable", False))),),
            ),
            (),
            (
                "What happened: sent 14:02:00, no answer in 20 s; looked up 14:04:00: the list could not be had. "
                "The person may have been called: look it up"
            ),
        ),
        (
            record(
                State.FAILED,
                failure_class=FailureClass.REJECTED,
                resolved_at=at("14:06:00"),
                failures=(
                    failure(
                        FailureClass.REJECTED, "m", resolution=Resolution.DISMISSED, resolved_by="ada", note="test"
                    ),
                ),
            ),
            (),
            "ada dismissed it at 14:06:00: test. Nothing more happens.",
        ),
        (record(State.CANCELLED, finished_at=at("14:01:00")), (), "It was cancelled at 14:01:00; nobody was called."),
        (
            record(State.CANCELLED, finished_at=at("14:05:00"), history=(attempt("14:02:11", Kind.UNKNOWN),)),
            (),
            "It was cancelled at 14:05:00 before it was sent again: sent 14:02:11, no answer in 20 s.",
        ),
    ],
)
def test_each_state_says_why_and_what_next(lead: LeadRecord, gates: tuple[GateRecord, ...], words: str) -> None:
    told = explain(lead, gates)

    assert words in told
    assert told.endswith("(Times are UTC.)")
    assert "None" not in told


def test_of_a_long_history_the_end_is_told() -> None:
    history = tuple(attempt(f"14:0{minute}:00", Kind.NOT_SENT, error="Refused.") for minute in range(6))

    told = explain(record(State.PENDING, history=history))

    assert told.startswith("After 3 earlier attempts; tried again 14:03:00, refused; tried again 14:04:00")


@pytest.mark.parametrize("evidence", [{"lookups": "x"}, {"lookups": [3, {"at": "never", "verdict": 1}]}, {"proof": 1}])
def test_evidence_that_nobody_expected_breaks_nothing(evidence: dict[str, Any]) -> None:
    lead = record(State.UNKNOWN, history=(attempt("14:02:00", Kind.UNKNOWN, evidence=evidence),))

    assert "sent 14:02:00" in explain(lead)
    assert lead.history[0].in_doubt


def test_a_lead_that_waits_for_its_turn_names_the_limit_of_its_campaign() -> None:
    told = explain(record(State.PENDING), rate_limit="2/minute")

    assert "Its campaign also has a limit of its own, 2/minute; `dispatcher limit` changes it." in told
    assert "limit of its own" not in explain(record(State.PENDING))


def test_a_lead_that_is_not_proven_absent_says_what_is_missing() -> None:
    looks = looked_up(("14:04:00", "absent", False), ("14:06:00", "absent", False))
    looks["lookups"][-1]["missing"] = "No lead of this campaign has been accepted since"
    told = explain(record(State.UNKNOWN, history=(attempt("14:02:00", Kind.UNKNOWN, evidence=looks),)))
    assert "before its absence is proven. Not proven so far: No lead of this campaign has been accepted since." in told

    looks["lookups"][-1]["missing"] = ["of another type"]
    told = explain(record(State.UNKNOWN, history=(attempt("14:02:00", Kind.UNKNOWN, evidence=looks),)))
    assert "so far" not in told
