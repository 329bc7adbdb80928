"""The signs of life that are in Postgres, in one statement that a probe may ask every few seconds."""

from sqlalchemy import Connection, text

from dispatcher.records.health import Pulse
from dispatcher.store.waiting import WAITING_CHANNELS

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
