"""Which channels have leads that wait, however many those are."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import Connection, text

from dispatcher.lead.options import Channel
from dispatcher.store import inbox, timeline
from dispatcher.store.accounts import DUE, LIKELIEST, PROBES_IN_VAIN, WAITING_CHANNELS, WAITS_FOR_PROBE
from dispatcher.store.proof import end_unsent
from dispatcher.store.statement import Call, HotStatement
from dispatcher.sweep import clocks

BATCH: Final = 500

THROTTLED_TILL_NOW: Final = "(state = 'closed' AND reason = 'throttled' AND (until IS NULL OR until <= now()))"
"""Whether a gate that Voicery asked us to close has been closed for long enough."""

_TAKE = text(f"""
-- One row decides who sweeps; the same statement says which duties have work, so that an idle sweep is this alone.
-- Until when the commits of a timeline are here is noted on that timeline alone.
WITH before AS MATERIALIZED (
    SELECT swept_at, here, timeline IS NULL OR here IS NULL OR timeline <> here AS other,
        -- Older than what was confirmed to this sweep: the files of a copy, started as they were.
        coalesce(timeline_at < CAST(:confirmed_at AS timestamptz), false) AS older
    FROM dispatcher.sweeps CROSS JOIN (SELECT dispatcher.this_timeline() AS here) AS server WHERE name = 'sweep'
)
UPDATE dispatcher.sweeps AS sweep
SET holder = :holder, held_until = now() + make_interval(secs => :hold_seconds), swept_at = now(),
    timeline = CASE WHEN timeline IS NULL THEN here WHEN older AND NOT other THEN timeline || '/{timeline.OLDER}'
        ELSE timeline END,
    timeline_at = CASE WHEN timeline IS NULL OR NOT (other OR older) THEN now() ELSE timeline_at END,
    synchronous = CASE WHEN timeline IS NULL OR NOT (other OR older) THEN {timeline.WAITS} ELSE synchronous END
FROM before
WHERE name = 'sweep' AND (
    holder = :holder OR held_until IS NULL OR held_until < now()
    -- Longer than anybody holds it: written before the clock was set back, or by a primary whose clock was ahead.
    OR held_until > now() + make_interval(secs => :hold_seconds + 5)
)
RETURNING
    EXISTS (SELECT FROM dispatcher.leads WHERE state = 'pending') AS pending,
    EXISTS (SELECT FROM dispatcher.leads WHERE state = 'sending' AND lease_until < now()) AS run_out,
    EXISTS (SELECT FROM dispatcher.leads WHERE state = 'pending' AND expires_at <= now()) AS expired,
    EXISTS (SELECT FROM dispatcher.leads WHERE state = 'unknown') AS unknown,
    EXISTS (SELECT FROM dispatcher.gates WHERE {WAITS_FOR_PROBE} OR {THROTTLED_TILL_NOW}) AS gates,
    EXISTS (SELECT FROM dispatcher.alerts WHERE done_at IS NULL AND due_at <= now()) AS alerts,
    EXISTS (SELECT FROM dispatcher.operations WHERE finished_at IS NULL AND next_at <= now()) AS operations,
    {inbox.WAITS} AS inbox,
    (pruned_at IS NULL OR pruned_at < now() - interval '1 hour') AS old,
    coalesce(before.swept_at > now() + make_interval(secs => :ahead_seconds), false) AS clock_back,
    coalesce(timeline <> here, false) AS timeline_changed, timeline_at
""")

_RELEASE = text("UPDATE dispatcher.sweeps SET held_until = now() WHERE name = 'sweep' AND holder = :holder")

_DUE_CHANNELS = text(f"""
WITH RECURSIVE {WAITING_CHANNELS}, ready AS (
    SELECT channel.account, channel.campaign_id, served.served_at,
        of_account.state IS NOT DISTINCT FROM 'probing' AND NOT coalesce({PROBES_IN_VAIN}, false) AS likeliest_only,
        row_number() OVER (PARTITION BY channel.account ORDER BY {LIKELIEST}) AS likeliest,
        gate.state IS DISTINCT FROM 'probing' AND coalesce(gate.closings, 0) = 0 AND served.accepted_at IS NOT NULL
            AS accepting
    FROM channel LEFT JOIN dispatcher.channels AS served USING (account, campaign_id)
    LEFT JOIN dispatcher.gates AS gate
        ON gate.account = channel.account AND COALESCE(gate.campaign_id, 0) = channel.campaign_id
    LEFT JOIN dispatcher.gates AS of_account
        ON of_account.account = channel.account AND COALESCE(of_account.campaign_id, 0) = 0
    WHERE gate.state IS DISTINCT FROM 'closed' AND of_account.state IS DISTINCT FROM 'closed' AND {DUE}
)
-- While an account probes, only its likeliest channel may claim, but not for ever.
SELECT account, campaign_id, accepting FROM ready WHERE NOT likeliest_only OR likeliest = 1
ORDER BY served_at NULLS FIRST, account, campaign_id
""")

_DUE_LOOKUPS = text(f"""
SELECT DISTINCT account FROM (
    SELECT account FROM dispatcher.leads WHERE state = 'unknown' AND due_at <= now()
    UNION ALL
    SELECT account FROM dispatcher.gates WHERE {WAITS_FOR_PROBE}
) AS due
ORDER BY account
""")

_LEASES_RUN_OUT = text("""
SELECT id FROM dispatcher.leads WHERE state = 'sending' AND lease_until < now() ORDER BY lease_until LIMIT :most
""")

_END_LEASES = text("""
WITH run_out AS (
    SELECT id, attempt_id, lease_until FROM dispatcher.leads
    WHERE id = ANY (CAST(:ids AS uuid[])) AND state = 'sending' AND lease_until < now()
    ORDER BY id
    FOR UPDATE SKIP LOCKED
), moved AS (
    UPDATE dispatcher.leads AS lead
    SET state = 'unknown', lease_until = NULL, due_at = run_out.lease_until + make_interval(secs => :settle_seconds),
        last_error = 'Its worker died or froze while the lead was on its way; the person may have been called.',
        updated_at = now()
    FROM run_out
    WHERE lead.id = run_out.id AND lead.attempt_id = run_out.attempt_id AND lead.state || '' = 'sending'
    RETURNING lead.id, lead.attempt_id, run_out.lease_until AS ended_at
), ended AS (
    UPDATE dispatcher.lead_attempts AS attempt
    SET outcome = 'unknown', error = 'lease_expired', ended_at = moved.ended_at
    FROM moved WHERE attempt.id = moved.attempt_id AND attempt.finished_at IS NULL
)
SELECT id FROM moved
""")

_LEFT_OPEN = text("""
-- An open attempt bars its person; only a lead on its way or in doubt has one.
SELECT attempt.id
FROM dispatcher.lead_attempts AS attempt JOIN dispatcher.leads AS lead ON lead.id = attempt.lead_id
WHERE attempt.finished_at IS NULL
  AND (lead.state NOT IN ('sending', 'unknown') OR lead.attempt_id IS DISTINCT FROM attempt.id)
LIMIT :most
""")

_CLOSE = text("""
WITH closed AS (
    UPDATE dispatcher.lead_attempts AS attempt
    SET finished_at = now(), ended_at = coalesce(attempt.ended_at, now()),
        outcome = coalesce(attempt.outcome, 'unknown'),
        evidence = attempt.evidence || jsonb_build_object('left_open_by', lead.state)
    FROM dispatcher.leads AS lead
    WHERE attempt.id = ANY (CAST(:ids AS uuid[])) AND attempt.finished_at IS NULL AND lead.id = attempt.lead_id
      AND (lead.state NOT IN ('sending', 'unknown') OR lead.attempt_id IS DISTINCT FROM attempt.id)
    RETURNING attempt.lead_id, attempt.id, lead.state
)
INSERT INTO dispatcher.incidents (kind, lead_id, message, evidence)
SELECT 'open_attempt', lead_id, 'An attempt of this lead was still open although the lead had gone on; it was closed.',
    jsonb_build_object('attempt_id', id, 'state', state)
FROM closed
RETURNING lead_id
""")

_EXPIRED = text("""
SELECT id FROM dispatcher.leads WHERE state = 'pending' AND expires_at <= now() ORDER BY expires_at LIMIT :most
""")

_EXPIRE = text(f"""
WITH picked AS (
    SELECT id, CAST(:message AS text) AS message FROM dispatcher.leads
    WHERE id = ANY (CAST(:ids AS uuid[])) AND state = 'pending' AND expires_at <= now()
    ORDER BY id
    FOR UPDATE SKIP LOCKED
), {end_unsent("expired", "expired")}""")

_REOPEN_THROTTLED = text(f"""
WITH over AS MATERIALIZED (
    SELECT account, COALESCE(campaign_id, 0) AS key FROM dispatcher.gates WHERE {THROTTLED_TILL_NOW}
    FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE dispatcher.gates AS gate
SET state = 'open', reason = NULL, closed_at = NULL, until = NULL, note = NULL, failures = 0,
    failing_since = NULL
FROM over WHERE gate.account = over.account AND COALESCE(gate.campaign_id, 0) = over.key
RETURNING gate.account, gate.campaign_id
""")

_WAIT_BRIEFLY = text("SELECT set_config('lock_timeout', '100ms', true)")

_WORKER_SEEN = text("""
INSERT INTO dispatcher.workers (name) VALUES (:name)
ON CONFLICT (name) DO UPDATE SET seen_at = now()
""")

_WORKERS_GONE = text("DELETE FROM dispatcher.workers WHERE seen_at < now() - interval '1 day'")

_SERVED = HotStatement("""
WITH channel AS (
    INSERT INTO dispatcher.channels (account, campaign_id, served_at, accepted_at)
    VALUES (:account, :campaign_id, now(), CASE WHEN :accepted THEN now() END)
    ON CONFLICT (account, campaign_id) DO UPDATE
    SET served_at = now(), accepted_at = coalesce(excluded.accepted_at, channels.accepted_at)
)
INSERT INTO dispatcher.workers (name, claims) VALUES (:worker, :claims)
ON CONFLICT (name) DO UPDATE SET seen_at = now(), claims = workers.claims + :claims
""")

EXPIRED_MESSAGE: Final = "It expired before its turn came; nobody was called. Replay it if it is still wanted."

DOUBTFUL_MESSAGE: Final = "It expired before it was sent again, and an earlier POST of it may have worked; look it up."


@dataclass(frozen=True, slots=True)
class Duties:
    """Which duties have work now."""

    pending: bool
    run_out: bool
    expired: bool
    unknown: bool
    gates: bool
    alerts: bool
    operations: bool
    inbox: bool  # leads that were submitted by SQL wait
    old: bool  # something may be older than its retention
    clock_back: bool  # the last round was dated later than this one
    timeline_changed: bool  # Postgres may lack commits, and nothing is claimed
    timeline_at: datetime | None  # until when they are known to be there


def take(
    connection: Connection, holder: str, *, hold_seconds: float, confirmed_at: datetime | None = None
) -> Duties | None:
    """Become, or stay, the one who sweeps for `hold_seconds`. None: another one is.

    confirmed_at   the `timeline_at` of the last round that this sweep did or saw
    """
    values = {"holder": holder, "hold_seconds": hold_seconds, "ahead_seconds": clocks.AHEAD_SECONDS}
    row = connection.execute(_TAKE, {**values, "confirmed_at": confirmed_at}).first()
    return None if row is None else Duties(**row._mapping)  # noqa: SLF001 - SQLAlchemy's name for a public view


def release(connection: Connection, holder: str) -> None:
    """Let another one sweep at once."""
    connection.execute(_RELEASE, {"holder": holder})


def due_channels(connection: Connection) -> dict[Channel, bool]:
    """Return the channels with leads that may be claimed now, the longest unserved first.

    Each with whether it is accepting: it had acceptances, and its gate has not closed since.
    """
    return {Channel(row.account, row.campaign_id): row.accepting for row in connection.execute(_DUE_CHANNELS)}


def due_lookups(connection: Connection) -> list[str]:
    """The accounts with unknown leads to be looked up now, or gates to be probed."""
    return [row.account for row in connection.execute(_DUE_LOOKUPS)]


def leases_run_out(connection: Connection) -> list[UUID]:
    """Leads whose lease has run out, at most `BATCH`."""
    return [row.id for row in connection.execute(_LEASES_RUN_OUT, {"most": BATCH})]


def end_leases(connection: Connection, ids: Sequence[UUID], *, settle_seconds: float) -> int:
    """Turn leads whose lease has run out into `unknown`, never into pending: their POST may have happened."""
    return len(connection.execute(_END_LEASES, {"ids": list(ids), "settle_seconds": settle_seconds}).all())


def left_open(connection: Connection) -> list[UUID]:
    """Return open attempts whose lead is neither on its way nor in doubt by them, at most `BATCH`."""
    return [row.id for row in connection.execute(_LEFT_OPEN, {"most": BATCH})]


def close_attempts(connection: Connection, ids: Sequence[UUID]) -> int:
    """Close such attempts, each with an incident; return how many. One without an outcome counts as unknown."""
    return len(connection.execute(_CLOSE, {"ids": list(ids)}).all())


def expired(connection: Connection) -> list[UUID]:
    """Pending leads past their `expires_at`, at most `BATCH`."""
    return [row.id for row in connection.execute(_EXPIRED, {"most": BATCH})]


def expire(connection: Connection, ids: Sequence[UUID]) -> int:
    """Fail pending leads that are past their `expires_at`: as `expired`, or in doubt if they are."""
    return len(
        connection.execute(_EXPIRE, {"ids": list(ids), "message": EXPIRED_MESSAGE, "doubtful": DOUBTFUL_MESSAGE}).all()
    )


def reopen_throttled(connection: Connection) -> list[tuple[str, int | None]]:
    """Open the gates that Voicery asked us to close until now. A refused request had no effect: no probe is needed."""
    return [(row.account, row.campaign_id) for row in connection.execute(_REOPEN_THROTTLED)]


def wait_briefly(connection: Connection) -> None:
    """Let the rest of this transaction wait for no lock for longer than a tenth of a second."""
    connection.execute(_WAIT_BRIEFLY)


def worker_seen(connection: Connection, name: str) -> None:
    """Note that this worker lives."""
    connection.execute(_WORKER_SEEN, {"name": name})
    connection.execute(_WORKERS_GONE)


def served(channel: Channel, worker: str, claims: int, *, accepted: bool) -> Call:
    """Return what notes that a run has served this channel, how many leads it claimed, and whether any was accepted."""
    return _SERVED, {**channel._asdict(), "worker": worker, "claims": claims, "accepted": accepted}
