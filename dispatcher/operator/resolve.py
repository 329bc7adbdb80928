"""Resolving and cancelling a lead. Each locks the lead, and its write repeats the state that it was judged by."""

from typing import Final, Literal, assert_never
from uuid import UUID

import orjson
from sqlalchemy import Connection, TextClause, text

from dispatcher.decisions.states import FailureClass, State
from dispatcher.errors import NotAllowed
from dispatcher.operator.lead_facts import STANDS, LeadFacts, read_one
from dispatcher.store import audit
from dispatcher.store.proof import doubtful

Resolved = Literal["accepted", "dismissed"]

NEEDS_NOTE: Final = "A resolution needs a note that says how you know; add one."

_ACCEPT = text("""
WITH moved AS (
    UPDATE dispatcher.leads
    SET state = 'accepted', failure_class = NULL, last_error = NULL, finished_at = now(), resolved_at = NULL,
        updated_at = now()
    WHERE id = :id AND attempt_id = :attempt_id
      AND (state = 'unknown' OR (state = 'failed' AND failure_class = 'outcome_unknown'))
    RETURNING id
), ended AS (
    UPDATE dispatcher.lead_attempts AS attempt
    SET finished_at = coalesce(attempt.finished_at, now()), ended_at = coalesce(attempt.ended_at, now()),
        evidence = attempt.evidence || jsonb_build_object('operator', CAST(:said AS jsonb))
    FROM moved WHERE attempt.id = :attempt_id AND attempt.lead_id = moved.id
), closed AS (
    UPDATE dispatcher.failed_leads AS failure
    SET resolved_at = now(), resolution = 'found', resolved_by = :actor, note = :note
    FROM moved WHERE failure.lead_id = moved.id AND failure.resolved_at IS NULL
)
SELECT id FROM moved
""")

_DISMISS = text("""
WITH moved AS (
    UPDATE dispatcher.leads SET resolved_at = now(), updated_at = now()
    WHERE id = :id AND state = 'failed' AND resolved_at IS NULL
    RETURNING id
), closed AS (
    UPDATE dispatcher.failed_leads AS failure
    SET resolved_at = now(), resolution = 'dismissed', resolved_by = :actor, note = :note
    FROM moved WHERE failure.lead_id = moved.id AND failure.resolved_at IS NULL
)
SELECT id FROM moved
""")

_GIVE_UP = text("""
WITH moved AS (
    UPDATE dispatcher.leads
    SET state = 'failed', failure_class = 'outcome_unknown', finished_at = now(), resolved_at = now(),
        updated_at = now()
    WHERE id = :id AND attempt_id = :attempt_id AND state = 'unknown'
    RETURNING id, account, campaign_id, phone_number, attempts, last_error
), ended AS (
    UPDATE dispatcher.lead_attempts AS attempt
    SET finished_at = now(), ended_at = coalesce(attempt.ended_at, now()),
        evidence = attempt.evidence || jsonb_build_object('operator', CAST(:said AS jsonb))
    FROM moved WHERE attempt.id = :attempt_id AND attempt.lead_id = moved.id AND attempt.finished_at IS NULL
), failed AS (
    INSERT INTO dispatcher.failed_leads (lead_id, account, campaign_id, phone_number, failure_class, http_status,
        fingerprint, message, response, attempts, resolved_at, resolution, resolved_by, note)
    SELECT moved.id, moved.account, moved.campaign_id, moved.phone_number, 'outcome_unknown', attempt.http_status,
        'outcome_unknown', coalesce(moved.last_error, attempt.error, 'Its outcome was not known.'), attempt.response,
        moved.attempts, now(), 'dismissed', :actor, :note
    FROM moved JOIN dispatcher.lead_attempts AS attempt ON attempt.id = :attempt_id
)
SELECT id FROM moved
""")

_CANCEL = text(f"""
WITH judged AS (
    -- Sent before and pending again: unless a proof holds, it goes on standing for its person, as when it expires.
    SELECT lead.id, EXISTS (
        SELECT FROM dispatcher.lead_attempts AS past WHERE past.lead_id = lead.id AND {doubtful("past")}
    ) AS in_doubt
    FROM dispatcher.leads AS lead WHERE lead.id = :id AND lead.state = 'pending'
), moved AS (
    UPDATE dispatcher.leads AS lead
    SET state = CASE WHEN judged.in_doubt THEN 'failed' ELSE 'cancelled' END,
        failure_class = CASE WHEN judged.in_doubt THEN 'outcome_unknown' END,
        last_error = CASE WHEN judged.in_doubt THEN :doubtful ELSE lead.last_error END,
        finished_at = now(), updated_at = now()
    FROM judged WHERE lead.id = judged.id AND lead.state = 'pending'
    RETURNING lead.id, lead.account, lead.campaign_id, lead.phone_number, lead.attempts, judged.in_doubt
), failed AS (
    INSERT INTO dispatcher.failed_leads
        (lead_id, account, campaign_id, phone_number, failure_class, fingerprint, message, attempts)
    SELECT id, account, campaign_id, phone_number, 'outcome_unknown', 'outcome_unknown:cancelled', :doubtful, attempts
    FROM moved WHERE in_doubt
)
SELECT in_doubt FROM moved
""")

CANCELLED_IN_DOUBT: Final = (
    "It was cancelled before it was sent again, and an earlier POST of it may have worked; look it up."
)


def resolve(connection: Connection, lead_id: UUID, as_: Resolved, *, note: str, actor: str) -> None:
    """Record that a lead is `accepted` or `dismissed`, with a line in the audit log.

    Raises `LeadNotFound`; `NotAllowed` without a note, or with the reason; `StatementRefused` of `leads_one_live` if a
    rival was committed meanwhile.
    """
    if not note.strip():
        raise NotAllowed(NEEDS_NOTE)
    decide(connection, read_one(connection, lead_id, lock=True), as_, note=note.strip(), actor=actor)


def decide(connection: Connection, lead: LeadFacts, as_: Resolved, *, note: str, actor: str) -> None:
    """`resolve`, of a lead that is locked."""
    if as_ == "accepted" and lead.state is State.FAILED and lead.rival is not None:
        raise NotAllowed(STANDS.format(rival=lead.rival))
    if not _decide(connection, lead, as_, note=note, actor=actor):
        raise NotAllowed(f"{_resolvable(as_)}; {why_not_failed(lead)}")
    audit.note(connection, actor, "resolve", str(lead.id), {"as": as_, "note": note, "from": lead.state})


def dismissible(lead: LeadFacts) -> bool:
    """Whether the lead can be dismissed: its failure is open, or its outcome is unknown."""
    return lead.state is State.UNKNOWN or (lead.state is State.FAILED and not lead.dismissed)


def cancel(connection: Connection, lead_id: UUID, *, actor: str) -> None:
    """Move a lead from pending to cancelled. Raises `LeadNotFound`, `NotAllowed` with the reason.

    One that was to be sent again, and whose earlier POST may have worked, becomes failed as `outcome_unknown` instead.
    """
    withdraw(connection, read_one(connection, lead_id, lock=True), actor=actor)


def withdraw(connection: Connection, lead: LeadFacts, *, actor: str, note: str | None = None) -> None:
    """`cancel`, of a lead that is locked."""
    row = connection.execute(_CANCEL, {"id": lead.id, "doubtful": CANCELLED_IN_DOUBT}).first()
    if row is None:
        raise NotAllowed(f"Only a pending lead can be cancelled; {_why_not_pending(lead)}")
    detail: dict[str, object] = {"in_doubt": True} if row.in_doubt else {}
    audit.note(connection, actor, "cancel", str(lead.id), detail | ({"note": note} if note else {}))


def _decide(connection: Connection, lead: LeadFacts, as_: Resolved, *, note: str, actor: str) -> bool:
    """Write the decision; return False if the lead's state leaves nothing to decide."""
    if as_ == "accepted":
        return _write(connection, _ACCEPT, lead, as_, note=note, actor=actor)
    if not dismissible(lead):
        return False
    statement = _GIVE_UP if lead.state is State.UNKNOWN else _DISMISS
    return _write(connection, statement, lead, as_, note=note, actor=actor)


def _write(
    connection: Connection, statement: TextClause, lead: LeadFacts, as_: Resolved, *, note: str, actor: str
) -> bool:
    said = orjson.dumps({"as": as_, "by": actor, "note": note}).decode()
    values = {"id": lead.id, "attempt_id": lead.attempt_id, "actor": actor, "note": note, "said": said}
    return connection.execute(statement, values).first() is not None


def _resolvable(as_: Resolved) -> str:
    match as_:
        case "accepted":
            return "Only a lead whose outcome is unknown can be resolved as accepted"
        case "dismissed":
            return "Only an open failure or an unknown lead can be dismissed"
        case _ as never:
            assert_never(never)


def why_not_failed(lead: LeadFacts) -> str:
    """Return what a lead is instead, and what happens or may be done next: the end of a refusal."""
    match lead.state:
        case State.PENDING:
            return "this one is pending and goes by itself."
        case State.SENDING:
            return "this one is on its way; ask again in a minute."
        case State.UNKNOWN:
            return f"this one is unknown and is being looked up; `dispatcher explain {lead.id}` tells how far that is."
        case State.ACCEPTED:
            return "this one was accepted: Voicery has it."
        case State.DUPLICATE:
            return f"this one is a duplicate{_of(lead)}; submit it with allow_dupplicate=true if both are wanted."
        case State.FAILED if lead.dismissed:
            return "this failure has been dismissed already."
        case State.FAILED if lead.failure_class is not FailureClass.OUTCOME_UNKNOWN:
            return f"this one failed as {lead.failure_class}, which means that Voicery does not have it; dismiss it."
        case State.FAILED:
            return "this one has failed."
        case State.CANCELLED:
            return "this one was cancelled; submit it anew."
        case _ as never:
            assert_never(never)


def _why_not_pending(lead: LeadFacts) -> str:
    match lead.state:
        case State.PENDING:
            return "this one was claimed just now."
        case State.SENDING:
            return "this one is on its way to Voicery and can no longer be held back."
        case State.UNKNOWN:
            return "this one has been sent, and whether it arrived is being looked up."
        case State.ACCEPTED:
            return "this one was accepted; withdraw it at Voicery."
        case State.DUPLICATE:
            return f"this one is a duplicate{_of(lead)} and calls nobody."
        case State.FAILED:
            return "this one has failed and calls nobody; dismiss it with `dispatcher resolve`."
        case State.CANCELLED:
            return "this one is cancelled already."
        case _ as never:
            assert_never(never)


def _of(lead: LeadFacts) -> str:
    return "" if lead.duplicate_of is None else f" of lead {lead.duplicate_of}"
