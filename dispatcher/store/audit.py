"""The audit log: every action of an operator, written in the transaction of the action."""

from collections.abc import Mapping

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
