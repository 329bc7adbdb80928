"""The outbox of alerts. Triggers fill it in the transaction of the very change (migration 0004); a task empties it.

Rows of one cause leave together, as one alert, and at most one of a cause is on its way at a time.
"""

from typing import Any, Final

from sqlalchemy import Connection, Row, text

from dispatcher.records.alert import Alert, AlertKind

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
    """The alerts that are due, at most one of a cause; nobody else takes them for `hold_seconds`.

    After one was sent, its cause is silent for `quiet_seconds`; what comes meanwhile is counted in the next.
    """
    connection.execute(_FOLLOW, {"quiet_seconds": quiet_seconds})
    return [_alert(row) for row in connection.execute(_TAKE, {"most": most, "hold_seconds": hold_seconds})]


def sent(connection: Connection, alert: Alert) -> None:
    """Note that its receiver has it."""
    connection.execute(_DONE, {"id": alert.id, "result": "sent"})


def give_up(connection: Connection, alert: Alert) -> None:
    """Note that nobody wanted it."""
    connection.execute(_DONE, {"id": alert.id, "result": "given_up"})


def try_again(connection: Connection, alert: Alert, *, seconds: float) -> None:
    """Send it again in so many seconds."""
    connection.execute(_AGAIN, {"id": alert.id, "seconds": seconds})


def prune(connection: Connection) -> None:
    """Forget what is older than a month, sent or not: the incidents and failed leads themselves remain."""
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
