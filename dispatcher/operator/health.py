"""Health: whether due leads are being delivered, judged by one reading of the store.

A worker can look alive and consume nothing, e.g. after a broken reconnect to Redis. What counts is that the queue is
served: delivery runs end, or no lead has been due for long.
"""

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, text

from dispatcher.errors import DispatcherError
from dispatcher.operator.record import Record
from dispatcher.store.accounts import WAITING_CHANNELS
from dispatcher.store.database import Database, StatementRefused, TryAgain

WITHIN_SECONDS: Final = 60.0
"""Default limit of all ages. A delivery run lasts a few seconds, one exchange at most half a minute."""


@dataclass(frozen=True, slots=True)
class Heartbeat(Record):
    """One reading; ages in seconds by the database's clock, None without a value.

    due_age          since the longest waiting lead without a closed gate became due
    served_age       since the last delivery run ended, of any channel
    sending          leads that are being sent, within their lease
    sweep_age        since the last sweep
    worker_age       since a worker was last seen: any, or one of the given host
    """

    due_age: float | None = None
    served_age: float | None = None
    sending: int = 0
    sweep_age: float | None = None
    worker_age: float | None = None


@dataclass(frozen=True, slots=True)
class Health(Record):
    """The faults found, as sentences; none means healthy."""

    heartbeat: Heartbeat | None
    faults: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether no fault was found."""
        return not self.faults

    def as_dict(self, *, reveal: bool = False) -> dict[str, Any]:
        """Return `ok`, `faults` and the fields of the reading, if there is one."""
        reading = {} if self.heartbeat is None else self.heartbeat.as_dict(reveal=reveal)
        return {"ok": self.ok, "faults": list(self.faults), **reading}


def judge(seen: Heartbeat, *, within_seconds: float, host: str | None = None) -> Health:
    """Return the faults of a reading: no worker or no sweep within that time, or due leads that are not delivered."""
    faults = []
    if not _recent(seen.worker_age, within_seconds):
        whose = "No worker" if host is None else f"No worker of {host}"
        faults.append(f"{whose} has been seen {_since(seen.worker_age)}; start `celery -A dispatcher worker`.")
    if not _recent(seen.sweep_age, within_seconds):
        faults.append(f"There was no sweep {_since(seen.sweep_age)}; a worker runs one beside itself, see its log.")
    waits_long = seen.due_age is not None and seen.due_age > within_seconds
    if waits_long and not seen.sending and not _recent(seen.served_age, within_seconds):
        faults.append(
            f"A lead has been due for {seen.due_age:.0f} s and no delivery run came {_since(seen.served_age)}; "
            "restart the workers and see `dispatcher doctor`."
        )
    return Health(seen, tuple(faults))


def _recent(age: float | None, within_seconds: float) -> bool:
    return age is not None and age <= within_seconds


def _since(age: float | None) -> str:
    return "yet" if age is None else f"for {age:.0f} s"


_HEARTBEAT = text(f"""
-- One index probe for each channel and priority, regardless of the number of waiting leads.
WITH RECURSIVE {WAITING_CHANNELS}, waiting AS (
    SELECT min(oldest.due_at) AS since
    FROM channel
    CROSS JOIN (VALUES (9), (8), (7), (6), (5), (4), (3), (2), (1), (0)) AS level (priority)
    CROSS JOIN LATERAL (
        SELECT lead.due_at FROM dispatcher.leads AS lead
        WHERE lead.state = 'pending' AND lead.account = channel.account AND lead.campaign_id = channel.campaign_id
          AND lead.priority = level.priority AND lead.due_at <= now()
        ORDER BY lead.due_at LIMIT 1
    ) AS oldest
    WHERE NOT EXISTS (
        SELECT FROM dispatcher.gates AS gate
        WHERE gate.account = channel.account AND COALESCE(gate.campaign_id, 0) IN (0, channel.campaign_id)
          AND gate.state <> 'open'
    )
)
SELECT
    CAST(extract(epoch FROM now() - (SELECT since FROM waiting)) AS float8) AS due_age,
    CAST(extract(epoch FROM now() - (SELECT max(served_at) FROM dispatcher.channels)) AS float8) AS served_age,
    (SELECT count(*) FROM dispatcher.leads WHERE state = 'sending' AND lease_until > now()) AS sending,
    CAST(extract(epoch FROM now() - (SELECT swept_at FROM dispatcher.sweeps WHERE name = 'sweep')) AS float8)
        AS sweep_age,
    CAST(extract(epoch FROM now() - (
        SELECT max(seen_at) FROM dispatcher.workers
        WHERE CAST(:host AS text) IS NULL OR starts_with(name, :host || ':')
    )) AS float8) AS worker_age
""")


def read(connection: Connection, host: str | None = None) -> Heartbeat:
    """Return a reading as of now. `host`: only workers of this machine count as seen."""
    return Heartbeat.of(connection.execute(_HEARTBEAT, {"host": host}).mappings().one())


def probe(database: Database, *, within_seconds: float = WITHIN_SECONDS, host: str | None = None) -> Health:
    """Return the health of the queue. Never raises: an unreachable store, or one with another schema, is unhealthy.

    `host`: a worker of this machine must have been seen.
    """
    try:
        with database.autocommit() as connection:
            return judge(read(connection, host), within_seconds=within_seconds, host=host)
    except DispatcherError as error:
        return Health(None, (str(error),))
    except (TryAgain, StatementRefused):
        return Health(None, ("Postgres refused the question; see `dispatcher doctor`.",))
