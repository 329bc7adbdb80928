"""Write the audit log, in the transaction of an operator's action, and open incidents."""

from collections.abc import Mapping
from enum import StrEnum
from uuid import UUID

import orjson
from sqlalchemy import Connection, text

# Who is confined to accounts says so: what such a user did is shown to the users of these accounts.
_NOTE = text("""
INSERT INTO dispatcher.audit_log (actor, action, subject, detail)
SELECT :actor, :action, line.subject, line.detail || CASE
    WHEN nullif(current_setting('dispatcher.accounts', true), '') IS NULL THEN '{}'
    ELSE jsonb_build_object('accounts', string_to_array(current_setting('dispatcher.accounts', true), ',')) END
FROM jsonb_to_recordset(CAST(:lines AS jsonb)) AS line (subject text, detail jsonb)
""")


def note(connection: Connection, actor: str, action: str, subject: str, detail: Mapping[str, object]) -> None:
    """Record an operator's action on a subject. `detail` contains no personal data."""
    note_all(connection, actor, action, {subject: detail})


def note_all(connection: Connection, actor: str, action: str, details: Mapping[str, Mapping[str, object]]) -> None:
    """Record one action on several subjects, each with its detail, by one statement."""
    lines = [{"subject": subject, "detail": dict(detail)} for subject, detail in details.items()]
    if lines:
        connection.execute(_NOTE, {"actor": actor, "action": action, "lines": orjson.dumps(lines).decode()})


_OPEN = text("""
INSERT INTO dispatcher.incidents (kind, lead_id, message, evidence)
VALUES (:kind, :lead_id, :message, CAST(:evidence AS jsonb))
RETURNING id
""")


class IncidentKind(StrEnum):
    """The kinds of incidents."""

    CALLED_TWICE = "called_twice"  # two leads at Voicery stand for one of ours
    ID_ALREADY_HELD = "id_already_held"  # a POST with allow_dupplicate=true was answered with another lead's id
    POSSIBLE_MATCH = "possible_match"  # a lead at Voicery that may be ours
    OPEN_ATTEMPT = "open_attempt"  # an attempt was open although its lead had gone on
    LATE_ANSWER = "late_answer"  # an answer came after its attempt had been decided otherwise
    TIMELINE = "timeline"  # Postgres may lack commits: after a failover or a restore


def open_incident(
    connection: Connection, kind: IncidentKind, lead_id: UUID | None, message: str, evidence: Mapping[str, object]
) -> int:
    """Store an incident and return its id. `message` contains no personal data."""
    row = connection.execute(
        _OPEN,
        {"kind": kind, "lead_id": lead_id, "message": message, "evidence": orjson.dumps(evidence).decode()},
    ).one()
    return int(row.id)
