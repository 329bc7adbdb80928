"""Duplicates that still wait for an original that ended without a call: they take its place."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from sqlalchemy import Connection, text

BATCH: Final = 500
STRANDED_SECONDS: Final = 900.0
"""So long after the end of a lead a duplicate that was submitted before it is noticed within a minute of its commit."""
LOOKED_AT: Final = 5000
"""Of all waiting duplicates, so many are looked at in one pass, whenever their originals ended."""

# Both sides are named, so that each query can begin with the one it has an index for.
_ENDED: Final = """ended.state IN ('failed', 'cancelled')
    AND NOT ended.allow_dupplicate AND ended.failure_class IS DISTINCT FROM 'outcome_unknown'"""
_WAITS: Final = """waiting.duplicate_of = ended.id AND waiting.state = 'duplicate' AND waiting.attempt_id IS NULL
    AND (waiting.expires_at IS NULL OR waiting.expires_at > now())
    AND NOT (ended.failure_class IS NOT DISTINCT FROM 'rejected' AND waiting.payload_hash = ended.payload_hash)"""

_STRANDED = text(f"""
-- Originals that ended without a call, beside duplicates that were committed after that: what ends a lead cannot see
-- what is not committed.
SELECT ended.id FROM dispatcher.leads AS ended
WHERE ended.finished_at > now() - make_interval(secs => :seconds) AND {_ENDED}
  AND EXISTS (SELECT FROM dispatcher.leads AS waiting WHERE {_WAITS})
LIMIT :most
""")

_AMONG = text(f"""
-- The same, however long ago they ended: a caller's transaction may have been open for hours. Along the index of the
-- waiting duplicates, the youngest originals first.
WITH looked AS MATERIALIZED (
    SELECT id, duplicate_of FROM dispatcher.leads
    WHERE state = 'duplicate' AND attempt_id IS NULL AND duplicate_of IS NOT NULL
      AND duplicate_of < coalesce(CAST(:before AS uuid), 'ffffffff-ffff-ffff-ffff-ffffffffffff')
    ORDER BY duplicate_of DESC LIMIT :looked_at
)
SELECT
    ARRAY(
        SELECT DISTINCT ended.id
        FROM looked JOIN dispatcher.leads AS ended ON ended.id = looked.duplicate_of AND {_ENDED}
        JOIN dispatcher.leads AS waiting ON waiting.id = looked.id AND {_WAITS}
    ) AS ids,
    (SELECT duplicate_of FROM looked ORDER BY duplicate_of LIMIT 1) AS least,
    (SELECT count(*) FROM looked) AS looked_at
""")

_PASS_ON = text("""
SELECT place.next_id FROM (
    SELECT dispatcher.next_takes_place(id) AS next_id FROM unnest(CAST(:ids AS uuid[])) AS ended (id)
) AS place WHERE place.next_id IS NOT NULL
""")


def stranded(connection: Connection) -> list[UUID]:
    """Return leads that ended without a call of late and whose duplicates still wait for them, at most `BATCH`."""
    return [row.id for row in connection.execute(_STRANDED, {"seconds": STRANDED_SECONDS, "most": BATCH})]


def stranded_among(connection: Connection, before: UUID | None) -> tuple[list[UUID], UUID | None]:
    """Return those among the next `LOOKED_AT` waiting duplicates, and where to go on; None: from the beginning.

    before   where the last call left off
    """
    row = connection.execute(_AMONG, {"before": before, "looked_at": LOOKED_AT}).one()
    return list(row.ids), row.least if row.looked_at == LOOKED_AT else None


def pass_on(connection: Connection, ids: Sequence[UUID]) -> int:
    """Let the youngest duplicate of each take its place; return how many did."""
    return len(connection.execute(_PASS_ON, {"ids": list(ids)}).all())
