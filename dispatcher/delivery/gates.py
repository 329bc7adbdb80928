"""Gates: what holds a channel or an account back. Locked in this order: account, channel, leads."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Row, text

from dispatcher.decisions.gate import (
    CHANNELS_BEFORE_ACCOUNT,
    Gate,
    GateLimits,
    GateState,
    after_acceptance,
    after_failure,
    after_refusal,
    closed,
)
from dispatcher.decisions.outcome import Kind, Reason, Scope
from dispatcher.delivery.results import Finished
from dispatcher.lead.options import Channel

_COLUMNS: Final = (
    "account, campaign_id, state, reason, failures, refusals, refusal, closings, probes, by, note,"
    " CAST(extract(epoch FROM until - now()) AS float8) AS wait_seconds"
)

_ENSURE = text("""
INSERT INTO dispatcher.gates (account, campaign_id) VALUES (:account, NULL), (:account, :campaign_id)
ON CONFLICT (account, COALESCE(campaign_id, 0)) DO NOTHING
""")

_LOCK = text(f"""
SELECT {_COLUMNS} FROM dispatcher.gates
WHERE account = :account AND COALESCE(campaign_id, 0) IN (0, :campaign_id)
ORDER BY COALESCE(campaign_id, 0)
FOR NO KEY UPDATE
""")

_LOCK_ONE = text(f"""
SELECT {_COLUMNS} FROM dispatcher.gates WHERE account = :account AND COALESCE(campaign_id, 0) = :key
FOR NO KEY UPDATE
""")

_READ = text(f"""
SELECT {_COLUMNS} FROM dispatcher.gates
WHERE account = :account AND COALESCE(campaign_id, 0) IN (0, :campaign_id)
ORDER BY COALESCE(campaign_id, 0)
""")

_SAVE = text("""
UPDATE dispatcher.gates
SET state = :state, reason = :reason, failures = :failures, refusals = :refusals, refusal = :refusal,
    closings = :closings, probes = :probes, by = :by, note = :note,
    closed_at = CASE WHEN :state = 'open' THEN NULL WHEN state = 'open' THEN now() ELSE closed_at END,
    until = now() + make_interval(secs => CAST(:wait_seconds AS float8))
WHERE account = :account AND COALESCE(campaign_id, 0) = :key
""")

_ALIKE = text("""
SELECT count(*) FROM dispatcher.gates
WHERE account = :account AND campaign_id IS NOT NULL AND state = 'closed' AND reason = :reason
""")

_NEEDED = text("""
SELECT EXISTS (
    SELECT FROM dispatcher.gates
    WHERE account = :account AND COALESCE(campaign_id, 0) IN (0, :campaign_id)
      AND (state <> 'open' OR failures > 0 OR refusals > 0 OR closings > 0)
)
""")

_SENDING = text("""
SELECT EXISTS (
    SELECT FROM dispatcher.leads
    WHERE state = 'sending' AND account = :account
      AND (CAST(:campaign_id AS bigint) IS NULL OR campaign_id = :campaign_id)
)
""")

_WAITING_FOR_PROBE = text("""
SELECT campaign_id FROM dispatcher.gates
WHERE account = :account AND state = 'closed' AND until <= now() AND reason NOT IN ('paused', 'throttled')
ORDER BY COALESCE(campaign_id, 0)
""")

_HOLD_CLAIMS = text(
    # Claims hold it shared (`store.claims.hold_pauses`): once this is granted, nothing is claimed until we commit.
    "SELECT pg_advisory_xact_lock(hashtextextended('dispatcher.pause:' || :account, 0))"
)

_ENSURE_ONE = text("""
INSERT INTO dispatcher.gates (account, campaign_id) VALUES (:account, CAST(:campaign_id AS bigint))
ON CONFLICT (account, COALESCE(campaign_id, 0)) DO NOTHING
""")

_LOCK_ALL = text(f"""
SELECT {_COLUMNS} FROM dispatcher.gates WHERE account = :account
ORDER BY COALESCE(campaign_id, 0)
FOR NO KEY UPDATE
""")

_ON_THEIR_WAY = text("""
SELECT count(*) FROM dispatcher.leads
WHERE state = 'sending' AND account = :account
  AND (CAST(:campaign_id AS bigint) IS NULL OR campaign_id = :campaign_id)
""")

_ACCEPTED_SINCE_CLOSED = text("""
SELECT EXISTS (
    SELECT FROM dispatcher.leads
    WHERE state = 'accepted' AND account = :account AND finished_at > (
        SELECT closed_at FROM dispatcher.gates WHERE account = :account AND campaign_id = :campaign_id
    )
)
""")

_SPREADING: Final = frozenset({Reason.OUTAGE, Reason.FORBIDDEN, Reason.MISCONFIGURED, Reason.REJECTING})


def read(connection: Connection, channel: Channel) -> tuple[Gate, Gate]:
    """Return the gates of the account and of the channel, unlocked."""
    return _pair(channel, connection.execute(_READ, channel._asdict()).all())


def lock(connection: Connection, channel: Channel) -> tuple[Gate, Gate]:
    """Return the gates of the account and of the channel, made where missing, locked until the transaction ends."""
    where = channel._asdict()
    rows = connection.execute(_LOCK, where).all()
    if len(rows) < 2:
        connection.execute(_ENSURE, where)
        rows = connection.execute(_LOCK, where).all()
    return _pair(channel, rows)


def lock_one(connection: Connection, account: str, campaign_id: int | None) -> Gate:
    """One gate that has a row, locked until the transaction ends."""
    row = connection.execute(_LOCK_ONE, {"account": account, "key": campaign_id or 0}).one()
    return _gate(row)


def needed(connection: Connection, channel: Channel) -> bool:
    """Return whether an acceptance has anything to reset in the channel's gates."""
    return bool(connection.execute(_NEEDED, channel._asdict()).scalar())


def sending(connection: Connection, account: str, campaign_id: int | None) -> bool:
    """Whether a lead of the gate's scope is on its way. The caller holds the gate's row."""
    return bool(connection.execute(_SENDING, {"account": account, "campaign_id": campaign_id}).scalar())


def waiting_for_probe(connection: Connection, account: str) -> list[int | None]:
    """The account's closed gates whose wait is over; None stands for the account's own."""
    return [row.campaign_id for row in connection.execute(_WAITING_FOR_PROBE, {"account": account})]


def hold_claims(connection: Connection, account: str) -> None:
    """Let no lead of the account be claimed until this transaction ends. Say this before the gate is changed."""
    connection.execute(_HOLD_CLAIMS, {"account": account})


def ensure(connection: Connection, account: str, campaign_id: int | None) -> None:
    """Make the gate's row where it is missing."""
    connection.execute(_ENSURE_ONE, {"account": account, "campaign_id": campaign_id})


def lock_all(connection: Connection, account: str) -> list[Gate]:
    """Every gate of the account that has a row, its own first, locked until the transaction ends."""
    return [_gate(row) for row in connection.execute(_LOCK_ALL, {"account": account})]


def on_their_way(connection: Connection, account: str, campaign_id: int | None) -> int:
    """How many leads of the gate's scope have been claimed and not been answered yet."""
    return int(connection.execute(_ON_THEIR_WAY, {"account": account, "campaign_id": campaign_id}).scalar() or 0)


def save(connection: Connection, gate: Gate) -> None:
    """Write a gate that this transaction has locked."""
    connection.execute(
        _SAVE,
        {
            "account": gate.account,
            "key": gate.campaign_id or 0,
            "state": gate.state,
            "reason": gate.reason,
            "failures": gate.failures,
            "refusals": gate.refusals,
            "refusal": gate.refusal,
            "closings": gate.closings,
            "probes": gate.probes,
            "wait_seconds": gate.wait_seconds,
            "by": gate.by,
            "note": gate.note,
        },
    )


def spread(connection: Connection, account: Gate, channel: Gate, limits: GateLimits) -> Gate:
    """The account's gate, closed too where enough of its channels (already saved) are closed for this one's reason."""
    if channel.state is not GateState.CLOSED or channel.reason not in _SPREADING or account.state is GateState.CLOSED:
        return account
    alike = connection.execute(_ALIKE, {"account": account.account, "reason": channel.reason}).scalar() or 0
    if alike < CHANNELS_BEFORE_ACCOUNT:
        return account
    return closed(account, channel.reason, limits, message=f"{alike} campaigns are held back for the same reason.")


def accepted_since_closed(connection: Connection, channel: Channel) -> bool:
    """Return whether Voicery accepted a lead of the account, of any campaign, after this channel's gate closed."""
    return bool(connection.execute(_ACCEPTED_SINCE_CLOSED, channel._asdict()).scalar())


def _pair(channel: Channel, rows: Sequence[Row[Any]]) -> tuple[Gate, Gate]:
    gates = {row.campaign_id: _gate(row) for row in rows}
    return gates.get(None) or Gate(channel.account, None), gates.get(channel.campaign_id) or Gate(*channel)


def _gate(row: Row[Any]) -> Gate:
    return Gate(
        account=row.account,
        campaign_id=row.campaign_id,
        state=GateState(row.state),
        reason=None if row.reason is None else Reason(row.reason),
        failures=row.failures,
        refusals=row.refusals,
        refusal=row.refusal,
        closings=row.closings,
        probes=row.probes,
        wait_seconds=row.wait_seconds,
        by=row.by,
        note=row.note,
    )


@dataclass(frozen=True, slots=True)
class Folded:
    """`closed`: a gate holds the channel back now. `needs_gates`: an acceptance has something to reset.

    `moved`: the gates that were opened, closed or set to probing by this.
    """

    closed: bool = False
    needs_gates: bool = False
    moved: tuple[Gate, ...] = ()


def fold_into_gates(
    connection: Connection, channel: Channel, finished: Sequence[Finished], limits: GateLimits
) -> Folded:
    """Apply each outcome to its gate. Locks the gates, so it precedes the leads in its transaction."""
    silent = all(one.outcome.signal is None for one in finished)
    if silent and not needed(connection, channel):
        return Folded()
    before = lock(connection, channel)
    of_account, of_channel = before
    for one in finished:
        of_account, of_channel = _heed(of_account, of_channel, one, limits)
    if of_channel != before[1]:
        save(connection, of_channel)
    of_account = spread(connection, of_account, of_channel, limits)
    if of_account != before[0]:
        save(connection, of_account)
    after = (of_account, of_channel)
    return Folded(
        closed=any(gate.state is GateState.CLOSED for gate in after),
        needs_gates=not all(gate.untroubled for gate in after),
        moved=tuple(new for old, new in zip(before, after, strict=True) if old.state is not new.state),
    )


def _heed(account: Gate, channel: Gate, finished: Finished, limits: GateLimits) -> tuple[Gate, Gate]:
    outcome = finished.outcome
    match outcome.signal:
        case None if outcome.kind in (Kind.ACCEPTED, Kind.DUPLICATE):
            return after_acceptance(account), after_acceptance(channel)
        case None:
            return account, channel
        case signal if signal.reason is Reason.REJECTING:
            refused = after_refusal(channel, outcome.fingerprint, limits, message=outcome.message)
            return after_acceptance(account), refused
        case signal:
            changed = after_failure(
                account if signal.scope is Scope.ACCOUNT else channel,
                signal.reason,
                limits,
                message=outcome.message,
                retry_after_seconds=finished.hints.retry_after_seconds,
            )
            return (changed, channel) if signal.scope is Scope.ACCOUNT else (account, changed)
