"""Health: whether due leads are being delivered, judged by one reading of the store.

A worker process can run and consume nothing, e.g. after a failed reconnect to Redis. The queue is therefore judged by
its results: delivery runs end, or no lead has been due for long.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import Connection, text

from dispatcher.config.account import RateWindow, parse_rate_limit
from dispatcher.errors import DispatcherError
from dispatcher.operator.record import Record
from dispatcher.store import encryption, timeline
from dispatcher.store.accounts import WAITING_CHANNELS
from dispatcher.store.database import Database
from dispatcher.store.encryption import KeyRing
from dispatcher.store.trouble import StatementRefused, TryAgain

WITHIN_SECONDS: Final = 60.0
"""Default limit of all ages, in seconds. A delivery run lasts a few seconds, one exchange at most half a minute."""


INBOX_PATIENCE: Final = 5
"""So many limits may a row of the inbox be old: a million at once take minutes, and a caller may commit late."""


@dataclass(frozen=True, slots=True)
class Heartbeat(Record):
    """One reading; ages in seconds by the database's clock, None without a value.

    due_age          since the longest waiting lead without a closed gate became due
    served_age       since the last delivery run ended, of any channel
    sending          leads that are being sent, within their lease
    attempt_age      since the last claim of a lead
    recorded_age     since a worker stored the outcome of a POST
    stuck            the number of the latest claims without a result that are older than the longest POST
    stuck_span       the time between the first and the last of these claims
    limit_seconds    the longest window of a campaign's own rate limit
    writable         whether Postgres accepts writes
    sweep_age        since the last sweep
    worker_age       since a worker was last seen: any, or one of the given host
    inbox_age        since the oldest lead was submitted by SQL that no worker has validated
    """

    JSON = ("due_age", "served_age", "sending", "sweep_age", "worker_age", "inbox_age")

    due_age: float | None = None
    served_age: float | None = None
    sending: int = 0
    attempt_age: float | None = None
    recorded_age: float | None = None
    stuck: int = 0
    stuck_span: float | None = None
    limit_seconds: float = 0.0
    writable: bool = True
    sweep_age: float | None = None
    worker_age: float | None = None
    inbox_age: float | None = None


@dataclass(frozen=True, slots=True)
class Health(Record):
    """The faults found, as sentences; without a fault the queue is healthy."""

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


def judge(
    seen: Heartbeat,
    *,
    within_seconds: float,
    host: str | None = None,
    rate_seconds: float = 0.0,
    held_seconds: float = 0.0,
) -> Health:
    """Judge one reading: healthy if Postgres accepts writes, a worker and a sweep were seen, and leads are delivered.

    within_seconds   the greatest age that counts as current
    host             only workers of this machine count
    rate_seconds     the longest window of a rate limit: a due lead may wait that long without a fault
    held_seconds     for how long Redis lets nothing through, because Voicery announced it
    """
    faults = []
    if not seen.writable:
        faults.append(
            "Postgres takes no writes: the server is a standby or was taken out of service; name the primary in "
            "DATABASE_URL."
        )
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
    if seen.inbox_age is not None and seen.inbox_age > INBOX_PATIENCE * within_seconds:
        faults.append(
            f"What was submitted by SQL has waited for {seen.inbox_age:.0f} s; the sweep of a worker takes it: see its "
            "log for `inbox.not_taken` and `inbox.failed`, and `dispatcher inbox`."
        )
    if seen.due_age is not None and held_seconds > within_seconds:
        faults.append(
            f"Redis lets nothing through for another {held_seconds:.0f} s: Voicery announced it with Retry-After, or "
            "somebody wrote it. If Voicery did not, delete the keys dispatcher:announced:* and see who can write "
            "to Redis."
        )
    if not faults:
        faults.extend(_delivery(seen, within_seconds, max(5 * within_seconds, rate_seconds, seen.limit_seconds)))
    return Health(seen, tuple(faults))


def _delivery(seen: Heartbeat, within_seconds: float, patience_seconds: float) -> Iterator[str]:
    """Return the faults of delivery runs that end without results."""
    recorded = _recent(seen.recorded_age, within_seconds)
    # The claims of one worker that was killed lie close together; claims without results, one after the other, do not.
    again = seen.due_age is not None or (seen.stuck_span or 0.0) > within_seconds
    if seen.stuck and again and not recorded:
        yield (
            f"{seen.stuck} leads were claimed and no worker stored a result {_since(seen.recorded_age)}; see the "
            "log of the workers and `dispatcher doctor`."
        )
    waits_long = seen.due_age is not None and seen.due_age > patience_seconds
    if waits_long and not recorded and not _recent(seen.attempt_age, patience_seconds):
        yield (
            f"A lead has been due for {seen.due_age:.0f} s, and runs come but claim nothing; see the log of the "
            "workers and `dispatcher doctor`."
        )


def _recent(age: float | None, within_seconds: float) -> bool:
    """Return whether the age is current. A time far in the future, from a clock that was set back, is not."""
    return age is not None and -within_seconds <= age <= within_seconds


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
    CAST(extract(epoch FROM now() - last.started_at) AS float8) AS attempt_age,
    CAST(extract(epoch FROM now() - last.recorded_at) AS float8) AS recorded_age,
    last.stuck, CAST(extract(epoch FROM last.span) AS float8) AS stuck_span,
    (SELECT string_agg(DISTINCT rate_limit, ';') FROM dispatcher.channels WHERE rate_limit <> 'off') AS limits,
    NOT (pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on') AS writable,
    CAST(extract(epoch FROM now() - (
        SELECT max(seen_at) FROM dispatcher.workers
        WHERE CAST(:host AS text) IS NULL OR starts_with(name, :host || ':')
    )) AS float8) AS worker_age,
    -- Not those that wait for another transaction.
    (SELECT CAST(extract(epoch FROM now() - created_at) AS float8) FROM dispatcher.inbox
     WHERE state = 'waiting' AND postponed_until IS NULL ORDER BY position LIMIT 1) AS inbox_age
FROM (
    -- The latest claims are enough: where leads are delivered, one of them has a result or is fresh.
    SELECT max(started_at) AS started_at,
        max(ended_at) FILTER (WHERE outcome IS NOT NULL AND NOT lost) AS recorded_at,
        count(*) FILTER (WHERE overdue) AS stuck,
        max(started_at) FILTER (WHERE overdue) - min(started_at) FILTER (WHERE overdue) AS span
    FROM (
        SELECT started_at, ended_at, outcome, error IS NOT DISTINCT FROM 'lease_expired' AS lost,
            finished_at IS NULL AND (ended_at IS NULL OR error IS NOT DISTINCT FROM 'lease_expired')
                AND started_at BETWEEN now() - interval '10 min' AND now() - make_interval(secs => :within_seconds)
                AS overdue
        FROM dispatcher.lead_attempts ORDER BY id DESC LIMIT 50
    ) AS recent
) AS last
""")


def read(connection: Connection, host: str | None = None, *, within_seconds: float = WITHIN_SECONDS) -> Heartbeat:
    """Return a reading as of now. `host`: only workers of this machine count as seen."""
    row = connection.execute(_HEARTBEAT, {"host": host, "within_seconds": within_seconds}).mappings().one()
    windows = parse_rate_limit(row["limits"]) if row["limits"] else ()
    return replace(Heartbeat.of(row), limit_seconds=max((window.seconds for window in windows), default=0.0))


def probe(
    database: Database,
    *,
    within_seconds: float = WITHIN_SECONDS,
    host: str | None = None,
    rate_limit: Sequence[RateWindow] = (),
    held: Callable[[], float] = lambda: 0.0,
    ring: KeyRing | None = None,
) -> Health:
    """Return the health of the queue. Never raises: an unreachable store, or one with another schema, is unhealthy.

    host         a worker of this machine must have been seen
    rate_limit   while it is used up, a due lead may wait without a fault
    held         returns for how many seconds Redis lets nothing through; must not raise
    ring         the keys that a worker of these settings has; None: they are not looked at
    """
    try:
        seen = database.read(read, host, within_seconds=within_seconds)
        lacking = [] if ring is None else database.read(encryption.unheld, ring)
        line = database.read(timeline.read)
    except DispatcherError as error:
        return Health(None, (str(error),))
    except (TryAgain, StatementRefused):
        return Health(None, ("Postgres refused the question; see `dispatcher doctor`.",))
    rate_seconds = max((window.seconds for window in rate_limit), default=0.0)
    judged = judge(seen, within_seconds=within_seconds, host=host, rate_seconds=rate_seconds, held_seconds=held())
    more = [encryption.missing(lacking)] if lacking else []
    more += [line.sentence] if line.changed else []
    return replace(judged, faults=(*judged.faults, *more))
