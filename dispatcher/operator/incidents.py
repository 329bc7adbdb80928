"""Incidents: events that must never happen. They stay listed until an operator has marked them as seen.

The statements that open one are in `store.audit`, because deliveries and look-ups open them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from dispatcher.operator.record import FOREIGN_JSON, FOREIGN_TEXT, Record
from dispatcher.store import audit
from dispatcher.store.reading import ReadConnection


@dataclass(frozen=True, slots=True)
class IncidentRecord(Record):
    """One incident. `seen_by` is the operator who marked it as seen."""

    id: int
    at: datetime
    kind: str
    lead_id: UUID | None
    message: str = field(metadata=FOREIGN_TEXT)
    evidence: Mapping[str, Any] = field(repr=False, metadata=FOREIGN_JSON)
    seen_at: datetime | None = None
    seen_by: str | None = None


_INCIDENTS = text("""
(SELECT * FROM dispatcher.incidents WHERE seen_at IS NULL ORDER BY at DESC LIMIT :most)
UNION ALL
(SELECT * FROM dispatcher.incidents WHERE seen_at IS NOT NULL ORDER BY id DESC LIMIT :most)
LIMIT :most
""")

_UNSEEN = text("SELECT count(*) FROM dispatcher.incidents WHERE seen_at IS NULL")

_SEE = text("""
UPDATE dispatcher.incidents SET seen_at = now(), seen_by = :actor
WHERE seen_at IS NULL AND id = ANY (CAST(:ids AS bigint[]))
RETURNING id
""")


def latest(connection: ReadConnection, *, most: int = 200) -> list[IncidentRecord]:
    """Return the incidents that have not been seen first, then the newest, at most `most`."""
    return list(map(IncidentRecord.of, connection.execute(_INCIDENTS, {"most": most}).mappings()))


def unseen(connection: ReadConnection) -> int:
    """Return the number of incidents that have not been marked as seen."""
    return int(connection.execute(_UNSEEN).scalar() or 0)


def mark_seen(connection: Connection, ids: Sequence[int], *, actor: str) -> int:
    """Mark incidents as seen; return the number of those that had not been."""
    seen = list(connection.execute(_SEE, {"ids": list(ids), "actor": actor}).scalars())
    audit.note_all(connection, actor, "incident_seen", {f"incident:{one}": {} for one in seen})
    return len(seen)
