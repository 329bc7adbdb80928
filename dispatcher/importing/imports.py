"""The record of an import: who imported what, how far it got, and which rows were refused."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import Connection, text

from dispatcher.decisions.storable import storable_text
from dispatcher.operator.record import FOREIGN_TEXT, MASKED, Record, masked
from dispatcher.store import counters, encryption
from dispatcher.store.counters import IMPORT_ROWS, Tally
from dispatcher.store.encryption import Content, KeyRing, row_owner
from dispatcher.store.reading import ReadConnection

MAX_REJECTIONS: Final = 10_000
"""Refused rows of one import that are kept at most; FILE.rejected.csv has all of them."""

MAX_ORIGINAL: Final = 2000
"""Characters of a refused row that are kept at most."""

_BEGIN: Final = text("""
INSERT INTO dispatcher.imports (batch_id, file_name, account, actor) VALUES (:batch_id, :file_name, :account, :actor)
RETURNING id
""")

_ADD: Final = text("""
UPDATE dispatcher.imports SET submitted = submitted + :submitted, duplicates = duplicates + :duplicates,
    repeated = repeated + :repeated, rejected = rejected + :rejected, blocked = blocked + :blocked, updated_at = now()
WHERE id = :id AND submitted + duplicates + repeated + rejected + blocked = :before
""")

_REJECT: Final = text("""
INSERT INTO dispatcher.import_rejections (import_id, line, field, reason, original)
VALUES (:import_id, :line, :field, :reason, :original)
""")

_FINISH: Final = text("UPDATE dispatcher.imports SET finished_at = now(), updated_at = now() WHERE id = :id")

_LATEST: Final = text("""
-- One that was killed cannot say so: it has no end and does not go on.
SELECT one.*, CASE
    WHEN one.finished_at IS NOT NULL THEN 'finished'
    WHEN EXISTS (SELECT FROM dispatcher.imports AS later WHERE later.batch_id = one.batch_id AND later.id > one.id)
        THEN 'gone on with'
    WHEN one.updated_at > now() - make_interval(secs => :patience) THEN 'running'
    ELSE 'cut short' END AS state
FROM dispatcher.imports AS one WHERE CAST(:id AS bigint) IS NULL OR one.id = :id ORDER BY one.id DESC LIMIT :most
""")

_PATIENCE_SECONDS: Final = 120
"""What an import may take for its next rows before it counts as cut short: it waits for Postgres at times."""

_CAMPAIGNS: Final = text("""
-- That of a lead which was corrected may be another one today.
SELECT campaign_id FROM dispatcher.leads WHERE account = :account AND batch_id = :batch_id
UNION SELECT revision.campaign_id FROM dispatcher.lead_revisions AS revision JOIN dispatcher.leads AS lead
    ON lead.id = revision.lead_id
WHERE lead.account = :account AND lead.batch_id = :batch_id
""")

_LAST_ID: Final = text("""
SELECT id FROM dispatcher.leads WHERE id BETWEEN :first AND :last ORDER BY id DESC LIMIT 1
""")

_PAYLOADS: Final = text("""
-- Earlier versions too: the row of a lead that was corrected still says what it said.
SELECT id, payload_hash FROM dispatcher.leads WHERE id BETWEEN :first AND :last
UNION ALL SELECT lead_id, payload_hash FROM dispatcher.lead_revisions WHERE lead_id BETWEEN :first AND :last
""")

_REJECTIONS: Final = text("""
-- The original is stored once a row, beside its first fault.
SELECT line, field, reason, first_value(original) OVER (PARTITION BY line ORDER BY id) AS original
FROM dispatcher.import_rejections WHERE import_id = :id ORDER BY id LIMIT :most
""")


@dataclass(frozen=True, slots=True)
class ImportRecord(Record):
    """One file that was imported.

    state   "finished", "running", "cut short", or "gone on with": it was cut short, and a later import has its batch
    """

    id: int
    batch_id: UUID
    file_name: str = dataclasses.field(metadata=FOREIGN_TEXT)
    account: str
    actor: str
    submitted: int
    duplicates: int
    repeated: int
    rejected: int
    started_at: datetime
    updated_at: datetime
    finished_at: datetime | None
    blocked: int = 0
    state: str = ""


@dataclass(frozen=True, slots=True)
class RejectedRow(Record):
    """One fault of one refused row; the row's first has the original. The repr names no person."""

    line: int
    field: str = dataclasses.field(metadata=FOREIGN_TEXT)
    reason: str = dataclasses.field(repr=False, metadata=FOREIGN_TEXT)
    original: str = dataclasses.field(repr=False, metadata=masked(lambda _: MASKED))


def begin(connection: Connection, batch_id: UUID, file_name: str, account: str, actor: str) -> int:
    """Note the start of an import, and return its id."""
    values = {
        "batch_id": batch_id,
        "file_name": storable_text(file_name),
        "account": account,
        "actor": storable_text(actor),
    }
    return int(connection.execute(_BEGIN, values).scalar_one())


def add(
    connection: Connection,
    import_id: int,
    *,
    before: int,
    submitted: int,
    duplicates: int,
    repeated: int,
    rejected: int,
    blocked: int = 0,
    fields: Sequence[RejectedRow] = (),
) -> None:
    """Add what became of some rows, to this import and to what all imports together have done.

    `before` is how many rows were added before: where these have been added as well, a repetition does nothing.
    """
    counts = {
        "submitted": submitted,
        "duplicates": duplicates,
        "repeated": repeated,
        "rejected": rejected,
        "blocked": blocked,
    }
    if not connection.execute(_ADD, {"id": import_id, "before": before, **counts}).rowcount:
        return
    tally = Tally()
    for result, count in counts.items():
        if count:
            tally.add(IMPORT_ROWS, result, count)
    counters.add(connection, counters.NO_ACCOUNT, tally)
    if fields:
        ring, owner = encryption.of(connection), row_owner(import_id)
        rows = [
            {
                "import_id": import_id,
                "line": field.line,
                "field": storable_text(field.field),
                "reason": storable_text(field.reason),
                "original": _stored(ring, owner, field.original),
            }
            for field in fields
        ]
        connection.execute(_REJECT, rows)


def finish(connection: Connection, import_id: int) -> None:
    """Note the end of an import; one without an end was cut short."""
    connection.execute(_FINISH, {"id": import_id})


def latest(connection: ReadConnection, *, most: int = 100, import_id: int | None = None) -> list[ImportRecord]:
    """Return the imports, the newest first, at most `most`; or the one of this id."""
    rows = connection.execute(_LATEST, {"id": import_id, "most": most, "patience": _PATIENCE_SECONDS}).mappings()
    return list(map(ImportRecord.of, rows))


def rejections(connection: ReadConnection, import_id: int, *, most: int = MAX_REJECTIONS) -> list[RejectedRow]:
    """Return the refused rows of one import that were kept, in the order of its lines, at most `most`."""
    ring = encryption.of(connection)
    rows = connection.execute(_REJECTIONS, {"id": import_id, "most": most}).mappings()
    return [RejectedRow.of(ring.row(row, row_owner(import_id), original=Content.ROW)) for row in rows]


def campaigns(connection: Connection, account: str, batch_id: UUID) -> list[int]:
    """Return the campaigns that leads of a batch are in, or were."""
    return list(connection.execute(_CAMPAIGNS, {"account": account, "batch_id": batch_id}).scalars())


def last_id(connection: Connection, first: UUID, last: UUID) -> UUID | None:
    """Return the greatest id of a lead between these two; None if there is none."""
    found: UUID | None = connection.execute(_LAST_ID, {"first": first, "last": last}).scalar()
    return found


def payloads(connection: Connection, first: UUID, last: UUID) -> dict[UUID, set[str]]:
    """Return the leads whose ids are between these two, with the hashes of all that their payloads have been."""
    found: dict[UUID, set[str]] = {}
    for lead_id, payload_hash in connection.execute(_PAYLOADS, {"first": first, "last": last}):
        found.setdefault(lead_id, set()).add(payload_hash)
    return found


def _stored(ring: KeyRing, owner: str, original: str) -> str:
    kept = storable_text(original)[:MAX_ORIGINAL]
    return ring.encrypted(kept, owner, Content.ROW) if kept else ""
