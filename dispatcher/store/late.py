"""Late answers: the result of a POST whose attempt was decided without it. Used as evidence, never thrown away."""

from typing import Final

import orjson
from sqlalchemy import Connection, text

from dispatcher.outcome import Kind
from dispatcher.store.incidents import IncidentKind, open_incident
from dispatcher.store.results import Result

_ADOPT = text("""
WITH found AS (
    UPDATE dispatcher.leads AS lead
    SET state = 'accepted', failure_class = NULL, voicery_lead_id = :voicery_lead_id, voicery_status = :voicery_status,
        last_error = NULL, finished_at = now(), updated_at = now()
    WHERE lead.id = :lead_id AND lead.attempt_id = :attempt_id
      AND lead.state = 'failed' AND lead.failure_class = 'outcome_unknown'
      AND NOT EXISTS (SELECT FROM dispatcher.leads AS other
                      WHERE other.account = lead.account AND other.voicery_lead_id = :voicery_lead_id)
    RETURNING lead.id
)
UPDATE dispatcher.failed_leads AS failure
SET resolved_at = now(), resolution = 'found', resolved_by = 'dispatcher', note = 'Voicery answered late.'
FROM found WHERE failure.lead_id = found.id AND failure.resolved_at IS NULL
RETURNING failure.lead_id
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
        _NOTE,
        {"attempt_id": result.attempt_id, "answer": orjson.dumps(answer).decode(), "outcome": result.outcome},
    ).first()
    in_doubt = noted is not None and noted.finished_at is None
    if in_doubt or result.outcome not in _CALLED:
        return False
    if result.voicery_lead_id is not None:
        adopted = connection.execute(
            _ADOPT,
            {
                "lead_id": result.lead_id,
                "attempt_id": result.attempt_id,
                "voicery_lead_id": result.voicery_lead_id,
                "voicery_status": result.voicery_status,
            },
        ).first()
        if adopted is not None:
            return True
    open_incident(
        connection,
        IncidentKind.LATE_ANSWER,
        result.lead_id,
        "Voicery accepted a POST of this lead after its outcome had been decided; the person may be called twice.",
        answer | {"attempt_id": str(result.attempt_id)},
    )
    return False
