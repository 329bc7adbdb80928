"""Repair what Postgres stored by a clock that was ahead: a primary's before a failover, or before a clock was set back.

Leases, waits, look-ups and gates dated by it would hold leads back for as long as that clock was ahead. What the store
wrote itself is bounded by what it can have meant; times that a caller gave (`not_before`, `expires_at`) stay.
"""

from typing import Final

from sqlalchemy import Connection, text

AHEAD_SECONDS: Final = 5.0
"""A stored time further ahead than this was written by another clock: it is longer than any statement's own."""
ASKED_MOST_SECONDS: Final = 3600.0
"""The longest wait that an answer of Voicery can impose on a gate."""

_ATTEMPTS: Final = """
-- Of open attempts: the person is barred by them, and a settle time counts from their end.
UPDATE dispatcher.lead_attempts
SET started_at = least(started_at, now()), ended_at = CASE WHEN ended_at > now() THEN now() ELSE ended_at END
WHERE finished_at IS NULL AND greatest(started_at, ended_at) > {later}
"""

_LEASES: Final = """
-- Before the attempts: a lease lasts from now on as long as it was meant to, which is longer than it can still be held.
UPDATE dispatcher.leads AS lead
SET lease_until = now() + (lead.lease_until - attempt.started_at), updated_at = now()
FROM dispatcher.lead_attempts AS attempt
WHERE lead.state = 'sending' AND attempt.id = lead.attempt_id AND attempt.started_at > {later}
"""

_LOOK_UPS: Final = """
-- A look-up too early costs a request.
UPDATE dispatcher.leads SET due_at = least(due_at, now() + make_interval(secs => :settle_seconds)), updated_at = now()
WHERE state = 'unknown' AND due_at > now() + make_interval(secs => :settle_seconds)
"""

_PROOFS: Final = """
-- Their age cannot be told: the claim has them looked up again.
UPDATE dispatcher.leads SET proven_at = now() - interval '1 day'
WHERE state = 'pending' AND proven_at > {later}
"""

_WAITS: Final = """
-- Due when they were submitted, waiting for the next attempt, or parked. A `not_before` is the caller's.
UPDATE dispatcher.leads AS lead
SET due_at = now() + greatest(lead.due_at - lead.updated_at, interval '0'),
    parked_until = CASE WHEN lead.parked_until = lead.due_at
        THEN now() + greatest(lead.due_at - lead.updated_at, interval '0') ELSE lead.parked_until END,
    was_due_at = CASE WHEN lead.was_due_at > now() THEN now() ELSE lead.was_due_at END, updated_at = now()
WHERE lead.state = 'pending' AND lead.updated_at > {later} AND lead.due_at >= lead.updated_at AND (
    lead.due_at = lead.created_at OR lead.parked_until = lead.due_at OR EXISTS (
        SELECT FROM dispatcher.lead_attempts AS attempt
        WHERE attempt.id = lead.attempt_id AND attempt.finished_at = lead.updated_at
    )
)
"""

_GATES: Final = """
UPDATE dispatcher.gates AS gate
SET until = CASE WHEN gate.until > bound.until THEN bound.until ELSE gate.until END,
    moved_at = CASE WHEN gate.moved_at > now() THEN now() ELSE gate.moved_at END,
    closed_at = CASE WHEN gate.closed_at > now() THEN now() ELSE gate.closed_at END,
    failing_since = CASE WHEN gate.failing_since > now() THEN now() ELSE gate.failing_since END
FROM (VALUES
    (true, now() + make_interval(secs => :asked_most)), (false, now() + make_interval(secs => :wait_max))
) AS bound (throttled, until)
WHERE bound.throttled = (gate.reason IS NOT DISTINCT FROM 'throttled')
  AND (gate.until > bound.until OR greatest(gate.moved_at, gate.closed_at, gate.failing_since) > {later})
"""

_LIST_OFF: Final = """
UPDATE dispatcher.accounts SET list_off_until = now() + interval '1 hour'
WHERE list_off_until > now() + interval '1 hour'
"""

_OTHERS: Final = (
    "UPDATE dispatcher.workers SET seen_at = now() WHERE seen_at > {later}",
    "UPDATE dispatcher.operations SET next_at = now() WHERE finished_at IS NULL AND next_at > {later}",
    "UPDATE dispatcher.alerts SET due_at = now() WHERE done_at IS NULL AND due_at > {later}",
    "UPDATE dispatcher.sweeps SET pruned_at = now() WHERE pruned_at > {later}",
)

_MENDS: Final = tuple(
    text(statement.format(later="now() + make_interval(secs => :ahead)"))
    for statement in (_LEASES, _ATTEMPTS, _LOOK_UPS, _PROOFS, _WAITS, _GATES, _LIST_OFF, *_OTHERS)
)


_LATER = text("""
-- Times that are never written but as the time of their statement: of what waits, and of those who work. The latest of
-- each state, because only one state a query is found by its index; with EXISTS, or three states at once, all leads are
-- read, those that ended too.
SELECT coalesce(greatest(
    (SELECT max(updated_at) FROM dispatcher.leads WHERE state = 'pending'),
    (SELECT max(updated_at) FROM dispatcher.leads WHERE state = 'sending'),
    (SELECT max(updated_at) FROM dispatcher.leads WHERE state = 'unknown')
) > now() + make_interval(secs => :ahead), false) OR EXISTS (
    SELECT FROM dispatcher.gates
    WHERE greatest(moved_at, closed_at, failing_since) > now() + make_interval(secs => :ahead)
) OR EXISTS (
    SELECT FROM dispatcher.workers WHERE seen_at > now() + make_interval(secs => :ahead)
)
""")


def later_times(connection: Connection) -> bool:
    """Return whether a row is dated later than now, by a clock that was ahead. Reads every lead that waits."""
    return bool(connection.execute(_LATER, {"ahead": AHEAD_SECONDS}).scalar())


def mend(connection: Connection, *, settle_seconds: float, gate_wait_max_seconds: float) -> int:
    """Bound every stored time that is ahead of now; return the number of rows that were."""
    values = {
        "ahead": AHEAD_SECONDS,
        "settle_seconds": settle_seconds,
        "asked_most": ASKED_MOST_SECONDS,
        "wait_max": gate_wait_max_seconds,
    }
    return sum(
        connection.execute(mend, {name: value for name, value in values.items() if f":{name}" in mend.text}).rowcount
        for mend in _MENDS
    )
