"""Late answers: the result of a POST whose attempt was decided without it. Used as evidence, never thrown away."""

from typing import Final

from sqlalchemy import Connection, text

from dispatcher.answers.outcome import Kind
from dispatcher.store.incidents import IncidentKind, open_incident
from dispatcher.store.results import Result, json_text, record_contacts

_WITHDRAW = text("""
-- It waits to be sent again, which this answer makes needless: taken as by a claim, and accepted in this transaction.
UPDATE dispatcher.leads AS lead
SET state = 'sending', lease_until = now(), updated_at = now()
WHERE lead.id = :lead_id AND lead.attempt_id = :attempt_id AND lead.state = 'pending'
  AND NOT EXISTS (SELECT FROM dispatcher.leads AS other
                  WHERE other.account = lead.account AND other.voicery_lead_id = :voicery_lead_id)
""")

_ADOPT = text("""
-- `sending` with an attempt that is over: withdrawn just now. A dismissed failure no longer stands for its person.
WITH found AS (
    UPDATE dispatcher.leads AS lead
    SET state = 'accepted', failure_class = NULL, voicery_lead_id = :voicery_lead_id, voicery_status = :voicery_status,
        lease_until = NULL, last_error = NULL, finished_at = now(), updated_at = now()
    WHERE lead.id = :lead_id AND lead.attempt_id = :attempt_id
      AND (lead.state = 'sending'
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


def use_late(connection: Connection, result: Result) -> bool:
    """Keep the answer on its attempt; adopt the id where the fence allows, else open an incident. True if adopted."""
    answer = {"outcome": result.outcome, "message": result.message, "voicery_lead_id": result.voicery_lead_id}
    noted = connection.execute(
        _NOTE, {"attempt_id": result.attempt_id, "answer": json_text(answer), "outcome": result.outcome}
    ).first()
    in_doubt = noted is not None and noted.finished_at is None
    if in_doubt or result.outcome not in _CALLED:
        return False
    if _adopt(connection, result):
        return True
    if _is_known(connection, result):
        return False
    open_incident(
        connection,
        IncidentKind.LATE_ANSWER,
        result.lead_id,
        "Voicery accepted a POST of this lead after its outcome had been decided; the person may be called twice.",
        answer | {"attempt_id": str(result.attempt_id)},
    )
    return False


def _adopt(connection: Connection, result: Result) -> bool:
    if result.voicery_lead_id is None:
        return False
    lead = {
        "lead_id": result.lead_id,
        "attempt_id": result.attempt_id,
        "voicery_lead_id": result.voicery_lead_id,
    }
    connection.execute(_WITHDRAW, lead)
    if connection.execute(_ADOPT, lead | {"voicery_status": result.voicery_status}).first() is None:
        return False
    record_contacts(connection, [result])
    return True


def _is_known(connection: Connection, result: Result) -> bool:
    """Whether a look-up has already found what this answer speaks of."""
    lead = connection.execute(_STANDS, {"lead_id": result.lead_id, "attempt_id": result.attempt_id}).first()
    return lead is not None and lead.state == "accepted" and result.voicery_lead_id in {None, lead.voicery_lead_id}
