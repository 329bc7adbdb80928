"""The attempts of the last hours, counted. Found by their ids, which begin with the time they were made (UUIDv7)."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import Connection, text

from dispatcher.store.statement import first_id


@dataclass(frozen=True, slots=True)
class Slot:
    """The attempts that began in one stretch of time.

    held counts those that had no effect through no fault of the lead: not sent, throttled, behind a gate.
    """

    at: datetime
    accepted: int = 0
    refused: int = 0
    doubtful: int = 0
    held: int = 0

    @property
    def total(self) -> int:
        """All attempts."""
        return self.accepted + self.refused + self.doubtful + self.held


@dataclass(frozen=True, slots=True)
class Activity:
    """Slots without gaps, the earliest first."""

    slots: tuple[Slot, ...]
    slot_seconds: int

    @property
    def accepted_per_minute(self) -> float:
        """How fast leads were accepted in the last whole quarter of an hour."""
        latest = self.slots[-1 - 900 // self.slot_seconds : -1]
        seconds = len(latest) * self.slot_seconds
        return 60.0 * sum(slot.accepted for slot in latest) / seconds if seconds else 0.0


_SKEW: Final = timedelta(minutes=15)
"""A worker's clock may be so far behind the database's and its attempts still be found."""

_COUNTED: Final = text("""
WITH counted AS (
    SELECT date_bin(make_interval(secs => :slot), started_at, TIMESTAMPTZ '2000-01-01') AS at,
        count(*) FILTER (WHERE outcome = 'accepted') AS accepted,
        count(*) FILTER (WHERE outcome IN ('rejected', 'duplicate', 'bug')) AS refused,
        count(*) FILTER (WHERE outcome IN ('unknown', 'created_id_unknown')) AS doubtful,
        count(*) FILTER (WHERE outcome NOT IN ('accepted', 'rejected', 'duplicate', 'bug', 'unknown',
                                               'created_id_unknown')) AS held
    FROM dispatcher.lead_attempts
    WHERE id >= :from_id AND started_at >= now() - make_interval(secs => :length)
    GROUP BY 1
)
SELECT slot.at, coalesce(accepted, 0) AS accepted, coalesce(refused, 0) AS refused, coalesce(doubtful, 0) AS doubtful,
    coalesce(held, 0) AS held
FROM generate_series(
    date_bin(make_interval(secs => :slot), now() - make_interval(secs => :length - :slot), TIMESTAMPTZ '2000-01-01'),
    now(), make_interval(secs => :slot)
) AS slot (at) LEFT JOIN counted USING (at)
ORDER BY slot.at
""")


def read(connection: Connection, *, hours: int, slot_seconds: int) -> Activity:
    """The last hours in slots; the last one is not over yet."""
    earliest = datetime.now(UTC) - timedelta(hours=hours) - _SKEW
    rows = connection.execute(_COUNTED, {"from_id": first_id(earliest), "length": hours * 3600, "slot": slot_seconds})
    return Activity(
        tuple(Slot(row.at, row.accepted, row.refused, row.doubtful, row.held) for row in rows), slot_seconds
    )
