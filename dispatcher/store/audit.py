"""The audit log: every action of an operator, written in the transaction of the action."""

from collections.abc import Mapping
from enum import StrEnum
from uuid import UUID

import orjson
from sqlalchemy import Connection, text

_NOTE = text("""
INSERT INTO dispatcher.audit_log (actor, action, subject, detail)
VALUES (:actor, :action, :subject, CAST(:detail AS jsonb))
""")


def note(connection: Connection, actor: str, action: str, subject: str, detail: Mapping[str, object]) -> None:
    """Say who did what to what. `detail` holds no personal data."""
    connection.execute(
        _NOTE, {"actor": actor, "action": action, "subject": subject, "detail": orjson.dumps(dict(detail)).decode()}
    )


_OPEN = text("""
INSERT INTO dispatcher.incidents (kind, lead_id, message, evidence)
VALUES (:kind, :lead_id, :message, CAST(:evidence AS jsonb))
RETURNING id
""")


class IncidentKind(StrEnum):
    """What happened."""

    CALLED_TWICE = "called_twice"  # two leads at Voicery stand for one of ours
    ID_ALREADY_HELD = "id_already_held"  # a POST with allow_dupplicate=true was answered with another lead's id
    POSSIBLE_MATCH = "possible_match"  # a lead at Voicery may be ours, and may not
    LATE_ANSWER = "late_answer"  # an answer came after its attempt had been decided otherwise


def open_incident(
    connection: Connection, kind: IncidentKind, lead_id: UUID | None, message: str, evidence: Mapping[str, object]
) -> int:
    """Store an incident and return its id. `message` names no person."""
    row = connection.execute(
        _OPEN,
        {"kind": kind, "lead_id": lead_id, "message": message, "evidence": orjson.dumps(evidence).decode()},
    ).one()
    return int(row.id)
