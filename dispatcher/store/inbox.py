"""The inbox: leads that were submitted by SQL (`dispatcher.submit_lead`) and that no worker has validated yet.

A row whose lead was stored is deleted: the lead has its id. A rejected one stays with its reasons, encrypted where keys
are set, and the repetition of an earlier submission stays with that one's id, without the lead. The function, the table
and the view `dispatcher.submissions` are in `migrations/versions/0010_inbox.py`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import orjson
from sqlalchemy import Connection, text

from dispatcher.errors import FieldError
from dispatcher.store import encryption
from dispatcher.store.encryption import Content

MOST_ROWS: Final = 2000
MOST_BYTES: Final = 8 * 1024 * 1024
"""Rows, and bytes of their leads, that are taken at once. A row has at most 256 KiB."""

_MOST_POSTPONED: Final = 5
_POSTPONE_SECONDS: Final = 10.0
_LOCK_WAIT: Final = "300ms"

WAITS: Final = (
    "EXISTS (SELECT FROM dispatcher.inbox WHERE state = 'waiting'"
    " AND (postponed_until IS NULL OR postponed_until <= now()))"
)
"""The condition that there is a row to take now."""

_WAITS = text(f"SELECT {WAITS}")

_ALONE = text("""
-- One at a time, so that the order of the calls is kept. Whoever waits for a lock of a caller's holds up the others.
SELECT pg_try_advisory_xact_lock(hashtextextended('dispatcher.inbox', 0)), set_config('lock_timeout', :wait, true)
""")

_COLUMNS: Final = "id, account, CAST(lead AS text) AS lead, tries, idempotency_key, priority, not_before, expires_at"

_COUNT_FIRST = text("""
-- Counted before they are taken, so that a row that ends its process is known by it. A locked one is left for later.
WITH first AS MATERIALIZED (
    SELECT id, position, bytes FROM dispatcher.inbox
    WHERE state = 'waiting' AND postponed_until IS NULL AND tries = 0 ORDER BY position LIMIT :most_rows
), few AS MATERIALIZED (
    SELECT id FROM (SELECT id, sum(bytes) OVER (ORDER BY position) - bytes AS before FROM first) AS summed
    WHERE before < :most_bytes
), free AS MATERIALIZED (
    SELECT id FROM dispatcher.inbox
    WHERE id = ANY (ARRAY(SELECT id FROM few)) AND state = 'waiting' AND tries = 0
    FOR UPDATE SKIP LOCKED
)
UPDATE dispatcher.inbox SET tries = 1 WHERE id = ANY (ARRAY(SELECT id FROM free)) RETURNING id
""")

_COUNT_SUSPECT = text("""
-- The rows before the first one that was never taken: no more of the inbox is read. In their order, but those that were
-- alone twice come last: one accident does not change the order, and one that ends each process stops no other.
WITH suspect AS MATERIALIZED (
    SELECT id, tries, position FROM dispatcher.inbox
    WHERE state = 'waiting' AND postponed_until IS NULL AND tries > 0 AND position < coalesce((
        SELECT position FROM dispatcher.inbox
        WHERE state = 'waiting' AND postponed_until IS NULL AND tries = 0 ORDER BY position LIMIT 1
    ), 9223372036854775807)
    ORDER BY greatest(tries, 2), position LIMIT 1
), free AS MATERIALIZED (
    SELECT id FROM dispatcher.inbox
    WHERE id = ANY (ARRAY(SELECT id FROM suspect)) AND state = 'waiting' AND tries > 0
    FOR UPDATE SKIP LOCKED
)
UPDATE dispatcher.inbox SET tries = tries + 1 WHERE id = ANY (ARRAY(SELECT id FROM free)) RETURNING id
""")

_COUNT_POSTPONED = text(f"""
WITH free AS MATERIALIZED (
    SELECT id FROM dispatcher.inbox WHERE state = 'waiting' AND postponed_until <= now()
    ORDER BY position LIMIT {_MOST_POSTPONED}
    FOR UPDATE SKIP LOCKED
)
UPDATE dispatcher.inbox SET tries = tries + 1, postponed_until = NULL
WHERE id = ANY (ARRAY(SELECT id FROM free)) RETURNING id
""")

_UNCOUNT = text("""
UPDATE dispatcher.inbox SET tries = tries - 1 WHERE id = ANY (CAST(:ids AS uuid[])) AND state = 'waiting' AND tries > 0
""")

_TAKE = text(f"""
SELECT {_COLUMNS} FROM dispatcher.inbox WHERE id = ANY (CAST(:ids AS uuid[])) AND state = 'waiting'
ORDER BY position
FOR UPDATE SKIP LOCKED
""")

_FORGET = text("DELETE FROM dispatcher.inbox WHERE id = ANY (CAST(:ids AS uuid[]))")

_REPEATED = text("""
UPDATE dispatcher.inbox AS waiting
SET state = 'repeated', lead_id = first.lead_id, lead = NULL, idempotency_key = NULL, postponed_until = NULL,
    ended_at = now()
FROM unnest(CAST(:ids AS uuid[]), CAST(:lead_ids AS uuid[])) AS first (id, lead_id) WHERE waiting.id = first.id
""")

_REJECTED = text("""
UPDATE dispatcher.inbox AS waiting
SET state = 'rejected', reasons = rejected.reasons, lead = coalesce(rejected.lead, waiting.lead),
    postponed_until = NULL, tries = 0, ended_at = now()
FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS rejected (id uuid, reasons jsonb, lead jsonb)
WHERE waiting.id = rejected.id AND waiting.state = 'waiting'
""")

_POSTPONED = text("""
UPDATE dispatcher.inbox SET postponed_until = now() + make_interval(secs => :seconds), tries = 0
WHERE id = ANY (CAST(:ids AS uuid[]))
""")

_LEADS = text("""
SELECT id, CAST(lead AS text) AS lead FROM dispatcher.inbox WHERE id = ANY (CAST(:ids AS uuid[])) FOR UPDATE
""")

_CHANGE = text("UPDATE dispatcher.inbox SET lead = CAST(:lead AS jsonb) WHERE id = :id")

_PRUNE = text("""
WITH looked AS MATERIALIZED (
    SELECT id FROM dispatcher.inbox WHERE ended_at < :before ORDER BY ended_at, id LIMIT :most
)
DELETE FROM dispatcher.inbox WHERE id = ANY (ARRAY(SELECT id FROM looked)) AND ended_at < :before
""")


@dataclass(frozen=True, slots=True)
class Waiting:
    """A row that was taken; the repr shows nothing of the person.

    lead    JSON, encrypted if it was rejected once
    tries   how often it was taken without an end, this time included
    """

    id: UUID
    account: str
    lead: str
    tries: int
    options: Mapping[str, Any]

    def __repr__(self) -> str:
        return f"Waiting(id={self.id}, account={self.account!r})"


def waits(connection: Connection) -> bool:
    """Return whether there is a row to take now."""
    return bool(connection.execute(_WAITS).scalar_one())


def alone(connection: Connection) -> bool:
    """Become the only transaction that takes rows, until it ends; return False if another one is at it."""
    return bool(connection.execute(_ALONE, {"wait": _LOCK_WAIT}).scalar_one())


def count_first(connection: Connection, *, most_rows: int = MOST_ROWS, most_bytes: int = MOST_BYTES) -> Sequence[UUID]:
    """Count a try of the rows that came first and were never taken; return their ids, at least one of any size."""
    return connection.scalars(_COUNT_FIRST, {"most_rows": most_rows, "most_bytes": most_bytes}).all()


def count_suspect(connection: Connection) -> Sequence[UUID]:
    """Count a try of one row that was taken before without an end; return its id, or none."""
    return connection.scalars(_COUNT_SUSPECT).all()


def count_postponed(connection: Connection) -> Sequence[UUID]:
    """Count a try of a few of the rows that were postponed until now; return their ids."""
    return connection.scalars(_COUNT_POSTPONED).all()


def uncount(connection: Connection, ids: Sequence[UUID]) -> None:
    """Take back a try of rows whose process lives: Postgres was away, or refused a lock."""
    if ids:
        connection.execute(_UNCOUNT, {"ids": list(ids)})


def take(connection: Connection, ids: Sequence[UUID]) -> list[Waiting]:
    """Lock and return rows whose try is counted, in the order of the calls."""
    return _rows(connection.execute(_TAKE, {"ids": list(ids)})) if ids else []


def stored(connection: Connection, ids: Sequence[UUID]) -> None:
    """Delete the rows whose leads this transaction stored."""
    if ids:
        forget(connection, ids)


def forget(connection: Connection, ids: Sequence[UUID]) -> int:
    """Delete rows and return their number."""
    return connection.execute(_FORGET, {"ids": list(ids)}).rowcount


def drop_contacts(connection: Connection, id: UUID, places: Sequence[int]) -> None:
    """Take secondary contacts out of a row's lead; their places count from 1."""
    ring = encryption.of(connection)
    for row in connection.execute(_LEADS, {"ids": [id]}).all():
        lead = json.loads(ring.decrypted_json_text(row.lead, id, Content.SUBMITTED))
        contacts = enumerate(lead["secondary_contacts"], 1)
        lead["secondary_contacts"] = [contact for place, contact in contacts if place not in places]
        written = ring.encrypted_json(json.dumps(lead), id, Content.SUBMITTED)
        connection.execute(_CHANGE, {"id": id, "lead": written})


def repeated(connection: Connection, first: Mapping[UUID, UUID]) -> None:
    """Note of rows, by their ids, of which lead they are repetitions; their own leads are emptied."""
    if first:
        connection.execute(_REPEATED, {"ids": list(first), "lead_ids": list(first.values())})


def rejected(connection: Connection, faults: Mapping[UUID, Sequence[FieldError]]) -> None:
    """Note why rows, by their ids, are no leads; encrypt them where the database has a key."""
    if faults:
        sealed = _sealed(connection, list(faults))
        rows = [
            {"id": one, "reasons": [reason_of(fault) for fault in its], "lead": sealed.get(one)}
            for one, its in faults.items()
        ]
        connection.execute(_REJECTED, {"rows": orjson.dumps(rows).decode()})


def _sealed(connection: Connection, ids: Sequence[UUID]) -> dict[UUID, str]:
    """Return the leads of rows as they are stored from now on; none without a key, and none that is encrypted."""
    ring = encryption.of(connection)
    if ring.key_id is None:
        return {}
    encryption.register(connection, ring)
    return {
        row.id: ring.encrypted(row.lead, row.id, Content.SUBMITTED)
        for row in connection.execute(_LEADS, {"ids": list(ids)})
        if row.lead is not None and not row.lead.startswith('"')
    }


def postponed(connection: Connection, ids: Sequence[UUID]) -> None:
    """Leave the rows alone for ten seconds: an open transaction of somebody else holds what they need."""
    if ids:
        connection.execute(_POSTPONED, {"ids": list(ids), "seconds": _POSTPONE_SECONDS})


def prune(connection: Connection, before: datetime, *, most: int) -> int:
    """Delete at most `most` rows that ended before `before`, rejected ones and repetitions; return their number."""
    return connection.execute(_PRUNE, {"before": before, "most": most}).rowcount


def reason_of(fault: FieldError) -> dict[str, str]:
    """Return a fault as a row keeps it."""
    return {"field": fault.field, "fault": fault.fault, "remedy": fault.remedy}


def _rows(found: Any) -> list[Waiting]:  # noqa: ANN401 - SQLAlchemy's result
    return [
        Waiting(
            row.id,
            row.account,
            row.lead,
            row.tries,
            {
                "id": row.id,
                "idempotency_key": row.idempotency_key,
                "priority": row.priority,
                "not_before": row.not_before,
                "expires_at": row.expires_at,
            },
        )
        for row in found
    ]
