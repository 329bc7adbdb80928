"""Health: is what is due being taken? A pure judgement of one reading of the stores.

A worker can look alive and consume nothing, e.g. after a broken reconnect to Redis. What counts is that the queue is
served: delivery runs come, or nothing has waited for long.
"""

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, text

from dispatcher.store.accounts import WAITING_CHANNELS

WITHIN_SECONDS: Final = 60.0
"""By default so old may things be. A delivery run lasts a few seconds and one exchange at most half a minute."""


@dataclass(frozen=True, slots=True)
class Pulse:
    """One reading; ages in seconds by the database's clock, None where there is nothing.

    due_age          since when the longest waiting lead behind no gate could have gone
    served_age       since the last delivery run ended, of any channel
    sending          leads that are on their way within their lease
    sweep_age        since the last sweep
    worker_age       since a worker was last seen: any, or one of the host that was asked about
    """

    due_age: float | None = None
    served_age: float | None = None
    sending: int = 0
    sweep_age: float | None = None
    worker_age: float | None = None


@dataclass(frozen=True, slots=True)
class Health:
    """What is wrong, in plain sentences; nothing means healthy."""

    pulse: Pulse | None
    faults: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.faults

    def as_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        ages = {} if self.pulse is None else {name: getattr(self.pulse, name) for name in Pulse.__slots__}
        return {"ok": self.ok, "faults": list(self.faults), **ages}


def judge(pulse: Pulse, *, within_seconds: float, host: str | None = None) -> Health:
    """Healthy if a worker was seen and a sweep was made within that time, and what is due does not lie untouched."""
    faults = []
    if not _recent(pulse.worker_age, within_seconds):
        whose = "No worker" if host is None else f"No worker of {host}"
        faults.append(f"{whose} has been seen {_since(pulse.worker_age)}; start `celery -A dispatcher worker`.")
    if not _recent(pulse.sweep_age, within_seconds):
        faults.append(f"There was no sweep {_since(pulse.sweep_age)}; a worker runs one beside itself, see its log.")
    waits_long = pulse.due_age is not None and pulse.due_age > within_seconds
    if waits_long and not pulse.sending and not _recent(pulse.served_age, within_seconds):
        faults.append(
            f"A lead has been due for {pulse.due_age:.0f} s and no delivery run came {_since(pulse.served_age)}; "
            "restart the workers and see `dispatcher doctor`."
        )
    return Health(pulse, tuple(faults))


def _recent(age: float | None, within_seconds: float) -> bool:
    return age is not None and age <= within_seconds


def _since(age: float | None) -> str:
    return "yet" if age is None else f"for {age:.0f} s"


_PULSE = text(f"""
-- One probe a channel and a priority, however many leads wait.
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


def read(connection: Connection, host: str | None = None) -> Pulse:
    """How everything does now. `host`: only workers of this machine count as seen."""
    row = connection.execute(_PULSE, {"host": host}).one()
    return Pulse(row.due_age, row.served_age, row.sending, row.sweep_age, row.worker_age)
