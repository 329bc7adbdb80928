"""The attempts of the last hours, counted by time or by campaign.

They are found by their ids, which begin with the time at which they were made (UUIDv7).
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import text

from dispatcher.operator.record import Record
from dispatcher.store.reading import ReadConnection
from dispatcher.store.statement import first_id


@dataclass(frozen=True, slots=True)
class Slot(Record):
    """The attempts that began in one span of time, by how they ended.

    in_doubt   their answers were lost
    held       they had no effect, through no fault of the lead: not sent, throttled, behind a gate
    """

    at: datetime
    accepted: int = 0
    refused: int = 0
    in_doubt: int = 0
    held: int = 0

    @property
    def total(self) -> int:
        """The number of all attempts."""
        return self.accepted + self.refused + self.in_doubt + self.held


@dataclass(frozen=True, slots=True)
class Activity:
    """Slots without gaps, the earliest first, as they were at the time `at`."""

    slots: tuple[Slot, ...]
    slot_seconds: int
    at: datetime

    @property
    def accepted_per_minute(self) -> float:
        """The number of leads accepted per minute in the last full 15 minutes."""
        latest = self.slots[-1 - 900 // self.slot_seconds : -1]
        seconds = len(latest) * self.slot_seconds
        return 60.0 * sum(slot.accepted for slot in latest) / seconds if seconds else 0.0


@dataclass(frozen=True, slots=True)
class Throughput(Record):
    """The attempts of one campaign that began in the last minutes, by how they ended (as in `Slot`)."""

    account: str
    campaign_id: int
    accepted: int
    refused: int
    in_doubt: int
    held: int


LONGEST_EXCHANGE: Final = timedelta(minutes=15)
"""The longest time between the start and the end of an attempt, including the error of a worker's clock."""

_BY_OUTCOME: Final = """
count(*) FILTER (WHERE outcome = 'accepted') AS accepted,
count(*) FILTER (WHERE outcome IN ('rejected', 'duplicate', 'bug')) AS refused,
count(*) FILTER (WHERE outcome IN ('unknown', 'created_id_unknown')) AS in_doubt,
count(*) FILTER (WHERE outcome NOT IN ('accepted', 'rejected', 'duplicate', 'bug', 'unknown', 'created_id_unknown'))
    AS held
"""

_COUNTED: Final = text(f"""
WITH counted AS (
    -- By outcome first, so that its text is compared once for each outcome of a slot and not once for each attempt.
    SELECT at, {_BY_OUTCOME.replace("count(*)", "sum(attempts)")}
    FROM (
        SELECT date_bin(make_interval(secs => :slot), started_at, TIMESTAMPTZ '2000-01-01') AS at, outcome,
            count(*) AS attempts
        FROM dispatcher.lead_attempts
        WHERE id >= :from_id AND started_at >= now() - make_interval(secs => :length)
        GROUP BY 1, 2
    ) AS ended
    GROUP BY at
)
SELECT slot.at, CAST(coalesce(accepted, 0) AS bigint) AS accepted, CAST(coalesce(refused, 0) AS bigint) AS refused,
    CAST(coalesce(in_doubt, 0) AS bigint) AS in_doubt, CAST(coalesce(held, 0) AS bigint) AS held
FROM generate_series(
    date_bin(make_interval(secs => :slot), now() - make_interval(secs => :length - :slot), TIMESTAMPTZ '2000-01-01'),
    now(), make_interval(secs => :slot)
) AS slot (at) LEFT JOIN counted USING (at)
ORDER BY slot.at
""")

_THROUGHPUT: Final = text(f"""
SELECT account, campaign_id, {_BY_OUTCOME}
FROM dispatcher.lead_attempts
WHERE id >= :begun_from AND started_at >= now() - make_interval(secs => :seconds)
GROUP BY account, campaign_id
ORDER BY count(*) DESC
""")


def read(connection: ReadConnection, *, hours: int = 6, slot_seconds: int = 300) -> Activity:
    """Return the attempts of the last hours in slots; the last slot is not over yet."""
    now = datetime.now(UTC)
    earliest = now - timedelta(hours=hours) - LONGEST_EXCHANGE
    values = {"from_id": first_id(earliest), "length": hours * 3600, "slot": slot_seconds}
    return Activity(tuple(map(Slot.of, connection.execute(_COUNTED, values).mappings())), slot_seconds, now)


def throughput(connection: ReadConnection, *, seconds: float = 300.0) -> list[Throughput]:
    """Return the attempts of each campaign in the last seconds, the busiest first."""
    begun_from = first_id(datetime.now(UTC) - timedelta(seconds=seconds) - LONGEST_EXCHANGE)
    values = {"begun_from": begun_from, "seconds": seconds}
    return list(map(Throughput.of, connection.execute(_THROUGHPUT, values).mappings()))
