"""Incidents, the audit log and revisions, read; incidents marked as seen; a lead found by any of its names."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, Row, text

from dispatcher.decisions.states import State
from dispatcher.errors import FieldError
from dispatcher.lead.phone import canonical_phone
from dispatcher.operator import activity, overview
from dispatcher.operator.activity import Activity
from dispatcher.operator.overview import GateRecord, Overview
from dispatcher.store import audit as audit_log
from dispatcher.store.database import Database
from dispatcher.store.schema import LIVE_STRICT


@dataclass(frozen=True, slots=True)
class IncidentRecord:
    """Something that must never happen and a person must see."""

    id: int
    at: datetime
    kind: str
    lead_id: UUID | None
    message: str
    evidence: Mapping[str, Any] = field(repr=False)
    seen_at: datetime | None = None
    seen_by: str | None = None


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """Who did what to what."""

    id: int
    at: datetime
    actor: str
    action: str
    subject: str
    detail: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Revision:
    """What a lead was before somebody corrected it."""

    revision: int
    campaign_id: int
    phone_number: str = field(repr=False)
    variables: Mapping[str, Any] = field(repr=False)
    replaced_at: datetime
    replaced_by: str
    note: str | None = None


@dataclass(frozen=True, slots=True)
class ImportRecord:
    """One file that was imported. `finished_at` None: it still runs, or was cut short."""

    id: int
    batch_id: UUID
    file_name: str
    account: str
    actor: str
    submitted: int
    duplicates: int
    repeated: int
    rejected: int
    started_at: datetime
    updated_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """One fault of one row of a file."""

    line: int
    field: str
    reason: str
    original: str = dataclasses.field(repr=False)


@dataclass(frozen=True, slots=True)
class Glance:
    """What a list of failed leads shows of a lead beside its failure."""

    lead_id: UUID
    state: State
    created_at: datetime
    idempotency_key: str | None
    voicery_lead_id: int | None
    batch_id: UUID | None
    touched_by: str | None  # the actor of the latest line in the audit log


@dataclass(frozen=True, slots=True)
class Found:
    """A lead that a search led to, and by which of its names."""

    lead_id: UUID
    state: State
    campaign_id: int
    by: str


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

_AUDIT = text("""
SELECT id, at, actor, action, subject, detail FROM dispatcher.audit_log
WHERE id < :before AND (CAST(:actor AS text) IS NULL OR actor = :actor)
  AND (CAST(:action AS text) IS NULL OR action = :action)
ORDER BY id DESC LIMIT :most
""")

_AUDIT_OF = text("""
SELECT id, at, actor, action, subject, detail FROM dispatcher.audit_log
WHERE subject = :subject AND id < :before
ORDER BY id DESC LIMIT :most
""")

_REVISIONS = text("""
SELECT revision, campaign_id, phone_number, variables, replaced_at, replaced_by, note FROM dispatcher.lead_revisions
WHERE lead_id = :lead_id ORDER BY revision
""")

_GLANCES = text("""
SELECT lead.id AS lead_id, lead.state, lead.created_at, lead.idempotency_key, lead.voicery_lead_id, lead.batch_id,
    (SELECT actor FROM dispatcher.audit_log WHERE subject = CAST(lead.id AS text) ORDER BY id DESC LIMIT 1)
        AS touched_by
FROM dispatcher.leads AS lead WHERE lead.id = ANY (CAST(:ids AS uuid[]))
""")

_IMPORTS = text("""
SELECT id, batch_id, file_name, account, actor, submitted, duplicates, repeated, rejected, started_at, updated_at,
    finished_at
FROM dispatcher.imports WHERE CAST(:id AS bigint) IS NULL OR id = :id
ORDER BY id DESC LIMIT :most
""")

_REJECTED = text("""
-- The original is stored once a row, beside its first fault.
SELECT line, field, reason, first_value(original) OVER (PARTITION BY line ORDER BY id) AS original
FROM dispatcher.import_rejections WHERE import_id = :id ORDER BY id LIMIT :most
""")

_FIND = text("SELECT id, state, campaign_id FROM dispatcher.leads WHERE id = ANY (CAST(:ids AS uuid[]))")

_BY_REFERENCE = text("""
SELECT lead.id, lead.state, lead.campaign_id
FROM (SELECT DISTINCT account FROM dispatcher.channels UNION SELECT 'default') AS known
JOIN dispatcher.idempotency_keys AS held ON held.account = known.account AND held.key = :reference
JOIN dispatcher.leads AS lead ON lead.id = held.lead_id
LIMIT :most
""")

_BY_VOICERY_ID = text("""
SELECT lead.id, lead.state, lead.campaign_id
FROM (SELECT DISTINCT account FROM dispatcher.channels UNION SELECT 'default') AS known
JOIN dispatcher.leads AS lead ON lead.account = known.account AND lead.voicery_lead_id = :voicery_id
LIMIT :most
""")

_BY_PHONE = text(f"""
-- Failed ever, or standing for the person now: both have an index; a lead has no other by its number.
SELECT lead.id, lead.state, lead.campaign_id FROM dispatcher.leads AS lead
WHERE lead.id IN (
    SELECT lead_id FROM dispatcher.failed_leads WHERE phone_number = :phone
    UNION
    SELECT live.id FROM dispatcher.channels AS known
    CROSS JOIN LATERAL (
        SELECT id FROM dispatcher.leads
        WHERE account = known.account AND campaign_id = known.campaign_id AND phone_number = :phone AND {LIVE_STRICT}
    ) AS live
)
LIMIT :most
""")


def incidents(connection: Connection, *, most: int) -> list[IncidentRecord]:
    """Those that nobody has seen first, then the newest."""
    return [IncidentRecord(**row) for row in connection.execute(_INCIDENTS, {"most": most}).mappings()]


def unseen(connection: Connection) -> int:
    """How many incidents nobody has marked as seen."""
    return int(connection.execute(_UNSEEN).scalar() or 0)


def see(connection: Connection, ids: list[int], actor: str) -> list[int]:
    """Mark incidents as seen; those that were not yet."""
    return [row.id for row in connection.execute(_SEE, {"ids": ids, "actor": actor})]


def audit_entries(
    connection: Connection, *, before: int, most: int, subject: str | None, actor: str | None, action: str | None
) -> list[AuditRecord]:
    """Lines of the audit log below an id, the newest first."""
    if subject is not None:
        rows = connection.execute(_AUDIT_OF, {"subject": subject, "before": before, "most": most})
    else:
        rows = connection.execute(_AUDIT, {"actor": actor, "action": action, "before": before, "most": most})
    return [AuditRecord(**row) for row in rows.mappings()]


def revisions(connection: Connection, lead_id: UUID) -> tuple[Revision, ...]:
    """What a lead was before, the earliest first."""
    return tuple(Revision(**row) for row in connection.execute(_REVISIONS, {"lead_id": lead_id}).mappings())


def glances(connection: Connection, ids: list[UUID]) -> dict[UUID, Glance]:
    """What a list shows of these leads."""
    rows = connection.execute(_GLANCES, {"ids": ids}).mappings()
    return {row["lead_id"]: Glance(**{**row, "state": State(row["state"])}) for row in rows}


def imports(connection: Connection, *, most: int, import_id: int | None = None) -> list[ImportRecord]:
    """The newest first; or the one of this id."""
    rows = connection.execute(_IMPORTS, {"id": import_id, "most": most}).mappings()
    return [ImportRecord(**row) for row in rows]


def rejected_rows(connection: Connection, import_id: int, *, most: int) -> list[RejectedRow]:
    """What was refused of a file, in its order."""
    rows = connection.execute(_REJECTED, {"id": import_id, "most": most}).mappings()
    return [RejectedRow(**row) for row in rows]


def by_ids(connection: Connection, ids: list[UUID]) -> list[Found]:
    """The leads of these ids."""
    return [_found(row, "id") for row in connection.execute(_FIND, {"ids": ids})]


def by_reference(connection: Connection, reference: str, *, most: int) -> list[Found]:
    """The leads that producers submitted under this idempotency key."""
    rows = connection.execute(_BY_REFERENCE, {"reference": reference, "most": most})
    return [_found(row, "reference") for row in rows]


def by_voicery_id(connection: Connection, voicery_id: int, *, most: int) -> list[Found]:
    """The leads that Voicery knows by this id."""
    rows = connection.execute(_BY_VOICERY_ID, {"voicery_id": voicery_id, "most": most})
    return [_found(row, "Voicery's id") for row in rows]


def by_phone(connection: Connection, phone: str, *, most: int) -> list[Found]:
    """The leads of this number that failed once, or stand for the person now."""
    rows = connection.execute(_BY_PHONE, {"phone": phone, "most": most})
    return [_found(row, "number") for row in rows]


def _found(row: Row[Any], by: str) -> Found:
    return Found(row.id, State(row.state), row.campaign_id, by)


_NEWEST: Final = 2**63 - 1
_FOUND_MOST: Final = 50


class Ledgers:
    """Incidents, audit log, revisions, activity and search."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def incidents(self, *, most: int = 200) -> list[IncidentRecord]:
        """Those that nobody has seen first, then the newest."""
        with self._database.autocommit() as connection:
            return incidents(connection, most=most)

    def unseen(self) -> int:
        """How many incidents nobody has marked as seen."""
        with self._database.autocommit() as connection:
            return unseen(connection)

    def see(self, ids: list[int], *, actor: str) -> int:
        """Mark incidents as seen; how many were not yet."""

        def act(connection: Connection) -> int:
            seen = see(connection, ids, actor)
            for one in seen:
                audit_log.note(connection, actor, "incident_seen", f"incident:{one}", {})
            return len(seen)

        return self._database.again(act)

    def audit(
        self,
        *,
        before: int | None = None,
        subject: str | None = None,
        actor: str | None = None,
        action: str | None = None,
        most: int = 100,
    ) -> list[AuditRecord]:
        """Who did what, the newest first; `before` goes on behind that line."""
        with self._database.autocommit() as connection:
            return audit_entries(
                connection, before=before or _NEWEST, most=most, subject=subject, actor=actor, action=action
            )

    def note(self, actor: str, action: str, subject: str, detail: dict[str, object]) -> None:
        """Write down an action that changes nothing in the queue: a login, a reveal, an export."""
        with self._database.autocommit() as connection:
            audit_log.note(connection, actor, action, subject, detail)

    def revisions(self, lead_id: UUID) -> tuple[Revision, ...]:
        """What a lead was before it was corrected, the earliest first."""
        with self._database.autocommit() as connection:
            return revisions(connection, lead_id)

    def glances(self, lead_ids: list[UUID]) -> dict[UUID, Glance]:
        """What a list shows of these leads."""
        with self._database.autocommit() as connection:
            return glances(connection, lead_ids)

    def workers(self) -> Overview:
        """Who works and who sweeps; nothing is counted."""
        with self._database.autocommit() as connection:
            return overview.workers(connection)

    def gates(self) -> tuple[GateRecord, ...]:
        """Every gate that is not open."""
        with self._database.autocommit() as connection:
            return overview.gates(connection)

    def imports(self, *, most: int = 100, import_id: int | None = None) -> list[ImportRecord]:
        """The files that were imported, the newest first; or the one of this id."""
        with self._database.autocommit() as connection:
            return imports(connection, most=most, import_id=import_id)

    def rejected_rows(self, import_id: int, *, most: int = 10_000) -> list[RejectedRow]:
        """What was refused of a file, in its order."""
        with self._database.autocommit() as connection:
            return rejected_rows(connection, import_id, most=most)

    def activity(self, *, hours: int = 6, slot_seconds: int = 300) -> Activity:
        """What was sent in the last hours."""
        with self._database.autocommit() as connection:
            return activity.read(connection, hours=hours, slot_seconds=slot_seconds)

    def search(self, text: str) -> list[Found]:
        """The leads that this may mean: an id, a reference, Voicery's id, a whole number."""
        wanted = text.strip()
        if not wanted or len(wanted) > 200 or "\0" in wanted:
            return []
        with self._database.autocommit() as connection:
            return _search(connection, wanted)


def _search(connection: Connection, wanted: str) -> list[Found]:
    try:
        return by_ids(connection, [UUID(wanted)])
    except ValueError:
        found = by_reference(connection, wanted, most=_FOUND_MOST)
    phone = canonical_phone(wanted, "search")
    if not isinstance(phone, FieldError):
        found += by_phone(connection, phone, most=_FOUND_MOST)
    elif wanted.isascii() and wanted.isdecimal() and int(wanted) < 2**63:
        found += by_voicery_id(connection, int(wanted), most=_FOUND_MOST)
    return found
