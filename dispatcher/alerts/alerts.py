"""The outbox of alerts. Database triggers fill it in the transaction of the change; a task sends and empties it.

Rows of one cause leave together, as one alert, and at most one of a cause is on its way at a time.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, assert_never
from uuid import UUID

import orjson
from sqlalchemy import Connection, Row, text

VERSION: Final = 1


class AlertKind(StrEnum):
    """The kinds of alerts."""

    OUTCOME_UNKNOWN = "outcome_unknown"  # leads failed whose POST may have had an effect
    INCIDENT = "incident"  # an invariant was violated
    GATE_CLOSED = "gate_closed"  # a gate closed, other than by a pause or a rate limit


@dataclass(frozen=True, slots=True)
class Alert:
    """The events of one cause since its last alert. `id` is the first event's and stays the same over retries."""

    id: int
    kind: AlertKind
    account: str | None
    campaign_id: int | None
    reason: str | None
    lead_id: UUID | None
    count: int
    first_at: datetime
    last_at: datetime
    tries: int = 1

    @property
    def text(self) -> str:
        """The alert as one sentence."""
        match self.kind:
            case AlertKind.OUTCOME_UNKNOWN:
                leads = "1 lead has" if self.count == 1 else f"{self.count} leads have"
                return (
                    f"{leads} failed as outcome_unknown in campaign {self.campaign_id} of account {self.account}: "
                    "whether the person was called is not known. See `dispatcher failed --class outcome_unknown`."
                )
            case AlertKind.INCIDENT:
                times = "" if self.count == 1 else f" ({self.count} times)"
                return f"Incident {self.reason}{times}. See `dispatcher show {self.lead_id}`."
            case AlertKind.GATE_CLOSED:
                where = f"account {self.account}"
                if self.campaign_id is not None:
                    where = f"campaign {self.campaign_id} of {where}"
                return f"Leads of {where} are held back: {self.reason}. See `dispatcher status`."
            case _:
                assert_never(self.kind)

    def body(self) -> bytes:
        """Return the request's body as JSON; `type` and `timestamp` are of Standard Webhooks, `text` is for Slack."""
        return orjson.dumps(
            {
                "version": VERSION,
                "type": f"dispatcher.{self.kind}",
                "timestamp": self.last_at.isoformat(),
                "id": str(self.id),
                "kind": self.kind,
                "text": self.text,
                "account": self.account,
                "campaign_id": self.campaign_id,
                "reason": self.reason,
                "lead_id": None if self.lead_id is None else str(self.lead_id),
                "count": self.count,
                "first_at": self.first_at.isoformat(),
                "last_at": self.last_at.isoformat(),
            }
        )


_KEPT: Final = "30 days"

_FOLLOW = text("""
-- What came while its cause is being sent, waits for another try, or was sent a moment ago, waits as long as that.
UPDATE dispatcher.alerts AS late
SET due_at = held.until
FROM (
    SELECT open.cause, max(greatest(
        open.due_at,
        (SELECT max(sent.done_at) + make_interval(secs => :quiet_seconds) FROM dispatcher.alerts AS sent
         WHERE sent.cause = open.cause AND sent.result = 'sent')
    )) AS until
    FROM dispatcher.alerts AS open WHERE open.done_at IS NULL GROUP BY open.cause
) AS held
WHERE late.done_at IS NULL AND late.cause = held.cause AND late.due_at <= now() AND held.until > now()
""")

_TAKE = text("""
WITH due AS (
    SELECT cause FROM dispatcher.alerts WHERE done_at IS NULL
    GROUP BY cause HAVING max(due_at) <= now() ORDER BY min(id) LIMIT :most
), taken AS (
    -- Two that take at once: the second finds due_at moved, and takes nothing.
    UPDATE dispatcher.alerts AS alert
    SET tries = tries + 1, due_at = now() + make_interval(secs => :hold_seconds)
    FROM due WHERE alert.cause = due.cause AND alert.done_at IS NULL AND alert.due_at <= now()
    RETURNING alert.*
)
SELECT min(id) AS id, max(id) AS last_id, cause, min(kind) AS kind, min(account) AS account,
    min(campaign_id) AS campaign_id, min(reason) AS reason,
    (array_agg(lead_id ORDER BY id) FILTER (WHERE lead_id IS NOT NULL))[1] AS lead_id,
    count(*) AS events, min(at) AS first_at, max(at) AS last_at, max(tries) AS tries
FROM taken GROUP BY cause ORDER BY min(id)
""")

_DONE = text("""
UPDATE dispatcher.alerts
SET done_at = now(), result = CASE WHEN :result = 'sent' AND id <> :id THEN 'folded' ELSE :result END
WHERE cause = (SELECT cause FROM dispatcher.alerts WHERE id = :id) AND done_at IS NULL AND tries > 0
""")

_AGAIN = text("""
UPDATE dispatcher.alerts SET due_at = now() + make_interval(secs => :seconds)
WHERE cause = (SELECT cause FROM dispatcher.alerts WHERE id = :id) AND done_at IS NULL AND tries > 0
""")

_PRUNE = text(f"DELETE FROM dispatcher.alerts WHERE at < now() - interval '{_KEPT}'")


def take(connection: Connection, *, most: int, hold_seconds: float, quiet_seconds: float) -> list[Alert]:
    """Take the alerts that are due, at most one a cause; no other run takes them for `hold_seconds`.

    After an alert was sent, its cause is silent for `quiet_seconds`; further events are counted in the next alert.
    """
    connection.execute(_FOLLOW, {"quiet_seconds": quiet_seconds})
    return [_alert(row) for row in connection.execute(_TAKE, {"most": most, "hold_seconds": hold_seconds})]


def sent(connection: Connection, alert: Alert) -> None:
    """Record that the receiver took the alert."""
    connection.execute(_DONE, {"id": alert.id, "result": "sent"})


def give_up(connection: Connection, alert: Alert) -> None:
    """Record that the alert was given up."""
    connection.execute(_DONE, {"id": alert.id, "result": "given_up"})


def try_again(connection: Connection, alert: Alert, *, seconds: float) -> None:
    """Make the alert due again in `seconds`."""
    connection.execute(_AGAIN, {"id": alert.id, "seconds": seconds})


def prune(connection: Connection) -> None:
    """Delete alerts older than 30 days, sent or not; incidents and failed leads remain."""
    connection.execute(_PRUNE)


def _alert(row: Row[Any]) -> Alert:
    return Alert(
        id=row.id,
        kind=AlertKind(row.kind),
        account=row.account,
        campaign_id=row.campaign_id,
        reason=row.reason,
        lead_id=row.lead_id,
        count=row.events,
        first_at=row.first_at,
        last_at=row.last_at,
        tries=row.tries,
    )
