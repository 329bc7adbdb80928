"""Answers that come after the lease of their attempt has ended: kept with it, and used where the lead still can.

A look-up or a person may have decided the lead meanwhile. What only an acceptance can tell, the id at Voicery, is taken
if no other lead has it; what nobody can use any more opens an incident.
"""

from typing import Final

from sqlalchemy import Connection, text

from dispatcher.decisions.outcome import Kind
from dispatcher.delivery.results import Result, json_text, record_contacts
from dispatcher.logs import events
from dispatcher.store.audit import IncidentKind, open_incident

_WITHDRAW = text("""
-- It waits to be sent again, which this answer makes needless: taken as by a claim, and accepted in this transaction.
UPDATE dispatcher.leads AS lead
SET state = 'sending', lease_until = now(), updated_at = now()
WHERE lead.id = :lead_id AND lead.attempt_id = :attempt_id AND lead.state = 'pending'
  AND NOT EXISTS (SELECT FROM dispatcher.leads AS other
                  WHERE other.account = lead.account AND other.voicery_lead_id = :voicery_lead_id)
""")

_ADOPT = text("""
-- `sending` with an attempt that is over: withdrawn just now. `accepted` without an id: a person resolved it. A
-- dismissed failure no longer stands for its person.
WITH found AS (
    UPDATE dispatcher.leads AS lead
    SET state = 'accepted', failure_class = NULL, voicery_lead_id = :voicery_lead_id, voicery_status = :voicery_status,
        lease_until = NULL, last_error = NULL, finished_at = now(), updated_at = now()
    WHERE lead.id = :lead_id AND lead.attempt_id = :attempt_id
      AND (lead.state = 'sending' OR (lead.state = 'accepted' AND lead.voicery_lead_id IS NULL)
           OR (lead.state = 'failed' AND lead.failure_class = 'outcome_unknown' AND lead.resolved_at IS NULL))
      AND NOT EXISTS (SELECT FROM dispatcher.leads AS other
                      WHERE other.account = lead.account AND other.voicery_lead_id = :voicery_lead_id)
    RETURNING lead.id
), closed AS (
    UPDATE dispatcher.failed_leads AS failure
    SET resolved_at = now(), resolution = 'found', resolved_by = 'dispatcher', note = 'Voicery answered late.'
    FROM found WHERE failure.lead_id = found.id AND failure.resolved_at IS NULL
), known AS (
    UPDATE dispatcher.lead_attempts AS attempt
    SET outcome = 'accepted', finished_at = coalesce(attempt.finished_at, now())
    FROM found WHERE attempt.id = :attempt_id
)
SELECT id FROM found
""")

_STANDS = text("""
SELECT state, voicery_lead_id FROM dispatcher.leads WHERE id = :lead_id AND attempt_id = :attempt_id
""")

_NOTE = text("""
UPDATE dispatcher.lead_attempts
SET evidence = evidence || jsonb_build_object('late_answer', CAST(:answer AS jsonb)),
    -- Still in doubt: now we know that Voicery said yes, so it will never be sent again, only looked up for its id.
    outcome = CASE WHEN finished_at IS NULL AND :outcome = 'created_id_unknown' THEN :outcome ELSE outcome END
WHERE id = :attempt_id
RETURNING finished_at
""")

_CALLED: Final = frozenset({Kind.ACCEPTED, Kind.CREATED_ID_UNKNOWN})


def use(connection: Connection, result: Result) -> bool:
    """Store an answer that came after its lease. Return whether the lead took its id.

    The answer is kept with its attempt. An acceptance that the lead can no longer take opens an incident.
    """
    claimed, outcome = result.claimed, result.outcome
    answer = {"outcome": outcome.kind, "message": outcome.message, "voicery_lead_id": outcome.voicery_lead_id}
    noted = connection.execute(
        _NOTE, {"attempt_id": claimed.attempt_id, "answer": json_text(answer), "outcome": outcome.kind}
    ).first()
    in_doubt = noted is not None and noted.finished_at is None
    if in_doubt or outcome.kind not in _CALLED:
        return False
    if _adopt(connection, result):
        return True
    if _is_known(connection, result):
        return False
    open_incident(
        connection,
        IncidentKind.LATE_ANSWER,
        claimed.lead_id,
        "Voicery accepted a POST of this lead after its outcome had been decided; the person may be called twice.",
        answer | {"attempt_id": str(claimed.attempt_id)},
    )
    return False


def _adopt(connection: Connection, result: Result) -> bool:
    claimed, voicery_lead_id = result.claimed, result.outcome.voicery_lead_id
    if voicery_lead_id is None:
        return False
    lead = {"lead_id": claimed.lead_id, "attempt_id": claimed.attempt_id, "voicery_lead_id": voicery_lead_id}
    with connection.begin_nested() as both:  # or neither: the id may be taken between the two
        connection.execute(_WITHDRAW, lead)
        if connection.execute(_ADOPT, lead | {"voicery_status": result.outcome.voicery_status}).first() is None:
            both.rollback()
            return False
    record_contacts(connection, [result])
    return True


def _is_known(connection: Connection, result: Result) -> bool:
    """Return whether a look-up has already found the lead that this answer reports."""
    claimed = result.claimed
    lead = connection.execute(_STANDS, {"lead_id": claimed.lead_id, "attempt_id": claimed.attempt_id}).first()
    if lead is None or lead.state != "accepted":
        return False
    return result.outcome.voicery_lead_id in {None, lead.voicery_lead_id}


def log(result: Result, *, adopted: bool) -> None:
    """Log a result that came after its lease; `adopted`: the lead took its id."""
    events.warning(
        "lease.lost",
        lead_id=str(result.claimed.lead_id),
        attempt_id=str(result.claimed.attempt_id),
        outcome=result.outcome.kind.value,
        adopted=adopted,
    )
