"""The inbox as operators see it: what was submitted by SQL and waits, or was rejected; taken again, or discarded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, text

from dispatcher.errors import LeadNotFound, NotAllowed
from dispatcher.lead.masking import mask_phone, safe_name
from dispatcher.operator.record import FOREIGN_JSON, FOREIGN_TEXT, MASKED, REFERENCE, Record, mask_inside, masked
from dispatcher.store import audit, encryption
from dispatcher.store.database import Database
from dispatcher.store.reading import ReadConnection

_AS_THEY_ARE: Final = frozenset({"campaign_id", "allow_dupplicate", "allow_duplicate"})


def mask_lead(lead: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was submitted with the names of its fields; of the values, the campaign, flags and masked numbers."""
    return {safe_name(name, place): _masked(name, value) for place, (name, value) in enumerate(lead.items())}


def _masked(name: str, value: object) -> object:
    match value:
        case str() if name == "phone_number":
            return mask_phone(value)
        case bool() | int() if name in _AS_THEY_ARE:
            return mask_inside(value)
        case dict():
            return {safe_name(one, place): MASKED for place, one in enumerate(value)}
        case _:
            return MASKED


@dataclass(frozen=True, slots=True)
class InboxRecord(Record):
    """A row of the inbox. `lead` is what was submitted, valid or not; None of a repetition, or if it does not decrypt.

    id                of the lead that it will become
    state             "waiting", "rejected", or "repeated": it repeated an earlier submission, that of `lead_id`
    reasons           why it is no lead: each a field, its fault and the remedy
    postponed_until   another transaction holds what it needs; it is taken again then
    caller            the login that submitted it
    """

    id: UUID
    state: str
    account: str
    lead: Mapping[str, Any] | None = field(repr=False, metadata=masked(mask_lead))
    idempotency_key: str | None = field(repr=False, metadata=REFERENCE)
    priority: int | None
    not_before: datetime | None
    expires_at: datetime | None
    reasons: tuple[Mapping[str, str], ...] | None = field(metadata=FOREIGN_JSON)
    lead_id: UUID | None
    postponed_until: datetime | None
    caller: str = field(metadata=FOREIGN_TEXT)
    created_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class InboxCounts(Record):
    """How many rows wait, since when the oldest of them, in seconds, and how many were rejected."""

    waiting: int = 0
    oldest_seconds: float | None = None
    rejected: int = 0


_LATEST = text("""
-- Each by its own index.
(SELECT * FROM dispatcher.inbox WHERE state = 'waiting' AND (CAST(:account AS text) IS NULL OR account = :account)
 ORDER BY position LIMIT CASE WHEN :waiting THEN :most ELSE 0 END)
UNION ALL
(SELECT * FROM dispatcher.inbox WHERE ended_at IS NOT NULL AND state = ANY (CAST(:ended AS text[]))
   AND (CAST(:account AS text) IS NULL OR account = :account)
 ORDER BY ended_at DESC, id DESC LIMIT :most)
LIMIT :most
""")

_COUNTS = text("""
SELECT (SELECT count(*) FROM dispatcher.inbox WHERE state = 'waiting') AS waiting,
    (SELECT CAST(greatest(0, extract(epoch FROM now() - created_at)) AS float8) FROM dispatcher.inbox
     WHERE state = 'waiting' ORDER BY position LIMIT 1) AS oldest_seconds,
    (SELECT count(*) FROM dispatcher.inbox WHERE ended_at IS NOT NULL AND state = 'rejected') AS rejected
""")

_ONES: Final = "state = 'rejected' AND (CAST(:ids AS uuid[]) IS NULL OR id = ANY (CAST(:ids AS uuid[])))"

_RETRY = text(f"""
UPDATE dispatcher.inbox SET state = 'waiting', ended_at = NULL, reasons = NULL WHERE {_ONES} RETURNING id
""")

_DISCARD = text(f"DELETE FROM dispatcher.inbox WHERE {_ONES} RETURNING id")


def latest(
    connection: Connection, *, states: Sequence[str] = ("waiting", "rejected"), account: str | None = None, most: int
) -> list[InboxRecord]:
    """Return rows in these states: those that wait, the oldest first, then the others, the latest first."""
    values = {"waiting": "waiting" in states, "ended": list(states), "account": account, "most": most}
    ring = encryption.of(connection)
    rows = connection.execute(_LATEST, values).mappings()
    return [InboxRecord.of({"lead": None} | encryption.readable_row(ring, "inbox", row)[0]) for row in rows]


def counts(connection: ReadConnection) -> InboxCounts:
    """Return how many rows wait and how many were rejected."""
    return InboxCounts.of(connection.execute(_COUNTS).mappings().one())


_STATE = text("SELECT state, lead_id FROM dispatcher.inbox WHERE id = :id")


def not_a_lead(connection: Connection, lead_id: UUID) -> LeadNotFound:
    """Return the refusal of an id that no lead has; it tells what the inbox knows of it."""
    row = connection.execute(_STATE, {"id": lead_id}).first()
    match None if row is None else (row.state, row.lead_id):
        case ("waiting", _):
            return LeadNotFound(
                lead_id, "it was submitted by SQL and is not validated yet; `dispatcher inbox` lists it"
            )
        case ("rejected", _):
            return LeadNotFound(lead_id, "it was submitted by SQL and rejected; `dispatcher inbox` says why")
        case ("repeated", first):
            return LeadNotFound(lead_id, f"it was submitted by SQL and repeated lead {first}; look at that one")
        case _:
            return LeadNotFound(lead_id)


class Inbox:
    """Acts on rejected rows. `actor` is written to the audit log; `ids`: None for all that were rejected."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def latest(
        self, *, states: Sequence[str] = ("waiting", "rejected"), account: str | None = None, most: int = 100
    ) -> list[InboxRecord]:
        """See the function of this name."""
        return self._database.read(latest, states=states, account=account, most=most)

    def counts(self) -> InboxCounts:
        """See the function of this name."""
        return self._database.read(counts)

    def retry(self, ids: Sequence[UUID] | None, *, actor: str) -> int:
        """Let rejected rows be validated again, e.g. after an update; return their number.

        Raises `NotAllowed` if one of the ids is of no rejected row; nothing is changed then.
        """
        return self._database.again(_acted, _RETRY, "inbox_retry", ids, actor)

    def discard(self, ids: Sequence[UUID] | None, *, actor: str) -> int:
        """Delete rejected rows and return their number. Raises `NotAllowed` as `retry` does."""
        return self._database.again(_acted, _DISCARD, "inbox_discard", ids, actor)


def _acted(connection: Connection, statement: Any, action: str, ids: Sequence[UUID] | None, actor: str) -> int:  # noqa: ANN401 - SQLAlchemy's clause
    wanted = None if ids is None else list(ids)
    done = set(connection.execute(statement, {"ids": wanted}).scalars())
    missing = set(wanted or ()) - done
    if missing:
        which = f"the id {min(missing)}" if len(wanted or ()) > 1 else "this id"
        raise NotAllowed(f"No rejected row of the inbox has {which}; `dispatcher inbox` lists them.")
    if wanted is not None:
        audit.note_all(connection, actor, action, {str(one): {} for one in sorted(done)})
    elif done:
        audit.note(connection, actor, action, "inbox", {"rows": len(done)})
    return len(done)
