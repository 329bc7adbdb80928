"""Read the audit log: actor, action and subject. `store.audit` writes it in the transaction of the action."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from sqlalchemy import text

from dispatcher.operator.record import FOREIGN_JSON, Record
from dispatcher.store.reading import ReadConnection


@dataclass(frozen=True, slots=True)
class AuditRecord(Record):
    """One action. `subject` is a lead's id, or e.g. `account:default/campaign:42`.

    actor     who acted, as the process says: the user of its uid at its machine, or the user of the console
    db_user   the login to Postgres, as Postgres says
    """

    id: int
    at: datetime
    actor: str
    action: str
    subject: str
    detail: Mapping[str, Any] = field(repr=False, metadata=FOREIGN_JSON)
    db_user: str | None = None


_AUDIT = text("""
SELECT id, at, actor, action, subject, detail, db_user FROM dispatcher.audit_log
WHERE id < :before AND id >= :least AND (CAST(:actor AS text) IS NULL OR actor = :actor)
  AND (CAST(:action AS text) IS NULL OR action = :action)
ORDER BY id DESC LIMIT :most
""")

_AUDIT_OF = text("""
SELECT id, at, actor, action, subject, detail, db_user FROM dispatcher.audit_log
WHERE subject = :subject AND id < :before
ORDER BY id DESC LIMIT :most
""")

_LAST = text("SELECT max(id) FROM dispatcher.audit_log /* whole */")

_NEWEST: Final = 2**63 - 1


def newest(connection: ReadConnection) -> int:
    """Return the highest id, of whatever account; 0 if there is no entry."""
    return int(connection.execute(_LAST).scalar() or 0)


def entries(
    connection: ReadConnection,
    *,
    before: int | None = None,
    subject: str | None = None,
    actor: str | None = None,
    action: str | None = None,
    most: int = 100,
    least: int = 0,
) -> list[AuditRecord]:
    """Return the actions that match, the newest first, at most `most`; with `before` only those below this id.

    least   without a subject: only those from this id on
    """
    values = {"before": before or _NEWEST, "most": most, "least": least}
    if subject is not None:
        rows = connection.execute(_AUDIT_OF, {**values, "subject": subject})
    else:
        rows = connection.execute(_AUDIT, {**values, "actor": actor, "action": action})
    return list(map(AuditRecord.of, rows.mappings()))
