"""What an operator decided: replay, resolve, cancel. Each is one fenced statement under a lock on the lead's row."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import orjson
from sqlalchemy import Connection, Row, TextClause, text

from dispatcher.decisions.states import FailureClass, State
from dispatcher.store.proof import FIRST_IN_QUEUE, PROVEN_AT
from dispatcher.store.schema import LIVE_STRICT
from dispatcher.store.statement import START, Start, start_values

PROOF_HOLDS: Final = timedelta(minutes=10)
"""A look-up that proved absence allows a replay for so long: later, a lead that appeared late would be called twice."""

_LOCK = text("""
SELECT lead.id, lead.account, lead.campaign_id, lead.state, lead.failure_class, lead.attempt_id, lead.allow_dupplicate,
    lead.resolved_at, lead.duplicate_of
FROM dispatcher.leads AS lead WHERE lead.id = :id
FOR NO KEY UPDATE
""")

_DOUBT = text("""
-- The latest POST that may have worked. Proof of absence clears one for good if a later POST was made on the strength
-- of it, the latest only while the proof is fresh. A yes that came late is never cleared.
SELECT attempt.started_at
FROM dispatcher.lead_attempts AS attempt
CROSS JOIN LATERAL (
    SELECT attempt.evidence -> 'late_answer' ->> 'outcome' AS late,
        coalesce(attempt.evidence -> 'proof' = 'true'::jsonb, false) AS proven,
        coalesce(CAST(attempt.evidence -> 'lookups' -> -1 ->> 'at' AS timestamptz) > now() - :holds, false) AS fresh
) AS known
WHERE attempt.lead_id = :id AND (
    known.late IN ('accepted', 'created_id_unknown')
    OR (
        (attempt.outcome IN ('unknown', 'created_id_unknown') OR (:outcome_unknown AND attempt.id = :attempt_id))
        AND NOT (known.proven AND (attempt.id <> :attempt_id OR known.fresh))
    )
)
ORDER BY attempt.started_at DESC
LIMIT 1
""")

_RIVAL = text(f"""
SELECT other.id, other.state
FROM dispatcher.leads AS lead JOIN dispatcher.leads AS other
  ON other.account = lead.account AND other.campaign_id = lead.campaign_id AND other.phone_number = lead.phone_number
WHERE lead.id = :id AND NOT lead.allow_dupplicate AND other.id <> lead.id
  AND other.id IN (SELECT id FROM dispatcher.leads
                   WHERE account = lead.account AND campaign_id = lead.campaign_id
                     AND phone_number = lead.phone_number AND {LIVE_STRICT})
LIMIT 1
""")

_EXPIRES_BEFORE = text(f"""
SELECT expires_at FROM dispatcher.leads WHERE id = :id AND expires_at > now() AND expires_at <= {START}
""")

_REPLAY = text(f"""
WITH moved AS (
    -- A new budget; `resends` stays: at most one automatic resend in a lead's life.
    UPDATE dispatcher.leads AS lead
    SET state = 'pending', failure_class = NULL, attempts = 0, first_attempt_at = NULL,
        -- What rests on a proof goes first and only while that holds; a replay for later is looked up again when due.
        proven_at = CASE WHEN :overruled OR {PROVEN_AT} IS NULL THEN NULL
            WHEN {START} > now() THEN to_timestamp(0) ELSE {PROVEN_AT} END,
        due_at = CASE WHEN {START} > now() OR :overruled OR {PROVEN_AT} IS NULL THEN {START} ELSE {FIRST_IN_QUEUE} END,
        expires_at = CASE WHEN expires_at > now() THEN expires_at END,
        last_error = NULL, finished_at = NULL, resolved_at = NULL, updated_at = now()
    WHERE id = :id AND state = 'failed'
    RETURNING id
), closed AS (
    UPDATE dispatcher.failed_leads AS failure
    SET resolved_at = now(), resolution = 'replayed', resolved_by = :actor, note = :note
    FROM moved WHERE failure.lead_id = moved.id AND failure.resolved_at IS NULL
)
SELECT id FROM moved
""")

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

_CANCEL = text("""
UPDATE dispatcher.leads SET state = 'cancelled', finished_at = now(), updated_at = now()
WHERE id = :id AND state = 'pending'
RETURNING id
""")


@dataclass(frozen=True, slots=True)
class Locked:
    """A lead whose row this transaction holds."""

    id: UUID
    account: str
    campaign_id: int
    state: State
    failure_class: FailureClass | None
    attempt_id: UUID | None
    allow_dupplicate: bool
    dismissed: bool
    duplicate_of: UUID | None


def lock(connection: Connection, lead_id: UUID) -> Locked | None:
    """The lead, held until the transaction ends; None if there is none."""
    row = connection.execute(_LOCK, {"id": lead_id}).first()
    if row is None:
        return None
    return Locked(
        id=row.id,
        account=row.account,
        campaign_id=row.campaign_id,
        state=State(row.state),
        failure_class=None if row.failure_class is None else FailureClass(row.failure_class),
        attempt_id=row.attempt_id,
        allow_dupplicate=row.allow_dupplicate,
        dismissed=row.resolved_at is not None,
        duplicate_of=row.duplicate_of,
    )


def in_doubt_since(connection: Connection, lead: Locked) -> datetime | None:
    """When the latest POST that may have worked was made; None if none may have, or its absence is proven."""
    outcome_unknown = lead.failure_class is FailureClass.OUTCOME_UNKNOWN
    row = connection.execute(
        _DOUBT,
        {"id": lead.id, "attempt_id": lead.attempt_id, "outcome_unknown": outcome_unknown, "holds": PROOF_HOLDS},
    ).first()
    return None if row is None else row.started_at


def rival(connection: Connection, lead_id: UUID) -> UUID | None:
    """Another live lead that stands for the same person, against which this one may not become live."""
    row: Row[Any] | None = connection.execute(_RIVAL, {"id": lead_id}).first()
    return None if row is None else row.id


def replay(
    connection: Connection,
    lead: Locked,
    *,
    actor: str,
    note: str | None,
    not_before: Start = None,
    overruled: bool = False,
) -> bool:
    """Move failed → pending. Raises `StatementRefused` of `leads_one_live` where a rival was faster.

    `overruled`: the person may have been called, and somebody accepts a second call; no proof is asked for then.
    """
    values = {"id": lead.id, "actor": actor, "note": note, "overruled": overruled, **start_values(not_before)}
    return connection.execute(_REPLAY, values).first() is not None


def expires_before(connection: Connection, lead_id: UUID, not_before: Start) -> datetime | None:
    """When the lead expires, if that is to come but before it may go; None otherwise."""
    moment: datetime | None = connection.execute(_EXPIRES_BEFORE, {"id": lead_id, **start_values(not_before)}).scalar()
    return moment


def accept(connection: Connection, lead: Locked, *, actor: str, note: str) -> bool:
    """Move unknown, or failed(`outcome_unknown`), → accepted. Raises as `replay`."""
    return _decided(connection, _ACCEPT, lead, "accepted", actor=actor, note=note)


def give_up(connection: Connection, lead: Locked, *, actor: str, note: str) -> bool:
    """Move unknown → failed(`outcome_unknown`), already dismissed."""
    return _decided(connection, _GIVE_UP, lead, "dismissed", actor=actor, note=note)


def dismiss(connection: Connection, lead: Locked, *, actor: str, note: str) -> bool:
    """A failed lead stays failed and needs no attention any more."""
    return connection.execute(_DISMISS, {"id": lead.id, "actor": actor, "note": note}).first() is not None


def cancel(connection: Connection, lead_id: UUID) -> bool:
    """Move pending → cancelled."""
    return connection.execute(_CANCEL, {"id": lead_id}).first() is not None


def _decided(connection: Connection, statement: TextClause, lead: Locked, as_: str, *, actor: str, note: str) -> bool:
    said = orjson.dumps({"as": as_, "by": actor, "note": note}).decode()
    values = {"id": lead.id, "attempt_id": lead.attempt_id, "actor": actor, "note": note, "said": said}
    return connection.execute(statement, values).first() is not None
