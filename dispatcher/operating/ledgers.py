"""What an operator may read back, and the search that leads to a lead by any of its names."""

from typing import Final
from uuid import UUID

from sqlalchemy import Connection

from dispatcher.errors import FieldError
from dispatcher.leads.phone import canonical_phone
from dispatcher.records.activity import Activity
from dispatcher.records.ledger import AuditRecord, Found, Glance, ImportRecord, IncidentRecord, RejectedRow, Revision
from dispatcher.records.overview import GateRecord, Overview
from dispatcher.store import activity, audit, ledger, overview
from dispatcher.store.database import Database

_NEWEST: Final = 2**63 - 1
_FOUND_MOST: Final = 50


class Ledgers:
    """Incidents, audit log, revisions, activity and search."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def incidents(self, *, most: int = 200) -> list[IncidentRecord]:
        """Those that nobody has seen first, then the newest."""
        with self._database.autocommit() as connection:
            return ledger.incidents(connection, most=most)

    def unseen(self) -> int:
        """How many incidents nobody has marked as seen."""
        with self._database.autocommit() as connection:
            return ledger.unseen(connection)

    def see(self, ids: list[int], *, actor: str) -> int:
        """Mark incidents as seen; how many were not yet."""

        def act(connection: Connection) -> int:
            seen = ledger.see(connection, ids, actor)
            for one in seen:
                audit.note(connection, actor, "incident_seen", f"incident:{one}", {})
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
            return ledger.audit(
                connection, before=before or _NEWEST, most=most, subject=subject, actor=actor, action=action
            )

    def note(self, actor: str, action: str, subject: str, detail: dict[str, object]) -> None:
        """Write down an action that changes nothing in the queue: a login, a reveal, an export."""
        with self._database.autocommit() as connection:
            audit.note(connection, actor, action, subject, detail)

    def revisions(self, lead_id: UUID) -> tuple[Revision, ...]:
        """What a lead was before it was corrected, the earliest first."""
        with self._database.autocommit() as connection:
            return ledger.revisions(connection, lead_id)

    def glances(self, lead_ids: list[UUID]) -> dict[UUID, Glance]:
        """What a list shows of these leads."""
        with self._database.autocommit() as connection:
            return ledger.glances(connection, lead_ids)

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
            return ledger.imports(connection, most=most, import_id=import_id)

    def rejected_rows(self, import_id: int, *, most: int = 10_000) -> list[RejectedRow]:
        """What was refused of a file, in its order."""
        with self._database.autocommit() as connection:
            return ledger.rejected_rows(connection, import_id, most=most)

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
        return ledger.by_ids(connection, [UUID(wanted)])
    except ValueError:
        found = ledger.by_reference(connection, wanted, most=_FOUND_MOST)
    phone = canonical_phone(wanted, "search")
    if not isinstance(phone, FieldError):
        found += ledger.by_phone(connection, phone, most=_FOUND_MOST)
    elif wanted.isascii() and wanted.isdecimal() and int(wanted) < 2**63:
        found += ledger.by_voicery_id(connection, int(wanted), most=_FOUND_MOST)
    return found
