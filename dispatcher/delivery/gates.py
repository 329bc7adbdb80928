"""The gates of accounts and channels in Postgres. Locked in this order: account, channel, leads."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Connection, Row, text

from dispatcher.decisions.gate import (
    CHANNELS_BEFORE_ACCOUNT,
    SEEM_OF_ACCOUNT,
    Gate,
    GateLimits,
    GateState,
    Neighbours,
    after_outcome,
    closed,
    is_of_account,
)
from dispatcher.decisions.outcome import Reason, Scope
from dispatcher.lead.options import Channel
from dispatcher.logs import events
from dispatcher.store.accounts import DUE, LIKELIEST, PROBES_IN_VAIN, WAITING_CHANNELS_OF_ACCOUNT, WAITS_FOR_PROBE

if TYPE_CHECKING:
    from dispatcher.delivery.results import Finished  # loads what a pause does without

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
    failing_since = CASE WHEN :failing THEN coalesce(failing_since, closed_at, now()) END,
    until = now() + make_interval(secs => CAST(:wait_seconds AS float8))
WHERE account = :account AND COALESCE(campaign_id, 0) = :key
""")

# What a look-up found is no acceptance: its POST was not answered.
_ACCEPTED_AFTER: Final = """
EXISTS (
    SELECT FROM dispatcher.leads AS lead
    WHERE lead.state = 'accepted' AND lead.account = :account AND lead.finished_at > {moment} AND NOT EXISTS (
        SELECT FROM dispatcher.lead_attempts AS attempt
        WHERE attempt.id = lead.attempt_id AND attempt.evidence ? 'lookups'
    )
)
"""

_CLOSED_ALIKE = text(f"""
WITH alike AS MATERIALIZED (
    SELECT count(*) AS channels, min(coalesce(failing_since, closed_at)) AS since FROM dispatcher.gates
    WHERE account = :account AND campaign_id IS NOT NULL AND state = 'closed' AND reason = :reason
)
SELECT channels, channels >= :enough AND {_ACCEPTED_AFTER.format(moment="alike.since")} AS accepted_since FROM alike
""")

_UNTRIED = text(f"""
WITH RECURSIVE {WAITING_CHANNELS_OF_ACCOUNT}, failed AS MATERIALIZED (
    SELECT campaign_id FROM dispatcher.gates
    WHERE account = :account AND campaign_id IS NOT NULL AND (state <> 'open' OR failures > 0 OR refusals > 0)
)
SELECT EXISTS (
    SELECT FROM dispatcher.leads AS lead
    WHERE lead.state = 'sending' AND lead.account = :account
      AND NOT EXISTS (SELECT FROM failed WHERE failed.campaign_id = lead.campaign_id)
) OR EXISTS (
    SELECT FROM channel
    WHERE NOT EXISTS (SELECT FROM failed WHERE failed.campaign_id = channel.campaign_id) AND {DUE}
)
""")

_LIKELIEST = text(f"""
WITH RECURSIVE {WAITING_CHANNELS_OF_ACCOUNT}
SELECT channel.campaign_id
FROM channel LEFT JOIN dispatcher.channels AS served USING (account, campaign_id)
LEFT JOIN dispatcher.gates AS gate
    ON gate.account = channel.account AND COALESCE(gate.campaign_id, 0) = channel.campaign_id
WHERE gate.state IS DISTINCT FROM 'closed' AND {DUE}
ORDER BY {LIKELIEST}
LIMIT 1
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

_WAITING_FOR_PROBE = text(f"""
SELECT campaign_id FROM dispatcher.gates
WHERE account = :account AND {WAITS_FOR_PROBE}
ORDER BY COALESCE(campaign_id, 0)
""")

_PROBES_IN_VAIN = text(f"""
SELECT EXISTS (
    SELECT FROM dispatcher.gates AS of_account
    WHERE account = :account AND campaign_id IS NULL AND {PROBES_IN_VAIN}
)
""")

_HOLD_CLAIMS = text(
    # Claims hold it shared (`claims.hold_pauses`): once this is granted, nothing is claimed until the commit.
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

_ACCEPTED_SINCE_FAILING = text(f"""
SELECT {_ACCEPTED_AFTER.format(moment="coalesce(gate.failing_since, gate.closed_at)")}
FROM dispatcher.gates AS gate WHERE gate.account = :account AND COALESCE(gate.campaign_id, 0) = :campaign_id
""")

_BEGUN_AND_ACCEPTED_SINCE_FAILING = text("""
-- What was on its way when the channel failed first tells nothing of the time after.
SELECT EXISTS (
    SELECT FROM dispatcher.gates AS gate
    JOIN dispatcher.leads AS lead ON lead.account = gate.account AND lead.finished_at > gate.failing_since
    JOIN dispatcher.lead_attempts AS attempt ON attempt.id = lead.attempt_id
    WHERE gate.account = :account AND COALESCE(gate.campaign_id, 0) = :campaign_id
      AND lead.state = 'accepted' AND attempt.started_at > gate.failing_since AND NOT attempt.evidence ? 'lookups'
)
""")


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
    """Return one gate that has a row, locked until the transaction ends."""
    row = connection.execute(_LOCK_ONE, {"account": account, "key": campaign_id or 0}).one()
    return _gate(row)


def needed(connection: Connection, channel: Channel) -> bool:
    """Return whether an acceptance has anything to reset in the channel's gates."""
    return bool(connection.execute(_NEEDED, channel._asdict()).scalar())


def sending(connection: Connection, account: str, campaign_id: int | None) -> bool:
    """Return whether a lead of the gate's scope is on its way. The caller holds the gate's row."""
    return bool(connection.execute(_SENDING, {"account": account, "campaign_id": campaign_id}).scalar())


def waiting_for_probe(connection: Connection, account: str) -> list[int | None]:
    """Return the campaigns whose closed gates have waited long enough; None stands for the account's own gate."""
    return [row.campaign_id for row in connection.execute(_WAITING_FOR_PROBE, {"account": account})]


def hold_claims(connection: Connection, account: str) -> None:
    """Block claims of the account until this transaction ends. Call it before the gate is changed."""
    connection.execute(_HOLD_CLAIMS, {"account": account})


def ensure(connection: Connection, account: str, campaign_id: int | None) -> None:
    """Insert the gate's row if it is missing."""
    connection.execute(_ENSURE_ONE, {"account": account, "campaign_id": campaign_id})


def lock_all(connection: Connection, account: str) -> list[Gate]:
    """Return every gate of the account that has a row, its own first, locked until the transaction ends."""
    return [_gate(row) for row in connection.execute(_LOCK_ALL, {"account": account})]


def on_their_way(connection: Connection, account: str, campaign_id: int | None) -> int:
    """Return the number of leads of the gate's scope that are claimed and not answered."""
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
            "failing": not gate.untroubled,
        },
    )


def after_neighbours(connection: Connection, account: Gate, channel: Gate, limits: GateLimits) -> Gate:
    """Return the account's gate, closed too where this channel (already saved) fails for the account's reason."""
    if channel.state is not GateState.CLOSED or channel.reason is None or account.state is not GateState.OPEN:
        return account
    neighbours = _neighbours(connection, account.account, channel.reason)
    if not is_of_account(channel.reason, neighbours):
        return account
    why = f"{neighbours.closed_alike} campaigns are held back for the same reason, and no other gets leads through."
    return closed(account, channel.reason, limits, message=why)


def _neighbours(connection: Connection, account: str, reason: Reason) -> Neighbours:
    """Count the account's channels that are closed for `reason`; the dearer questions only where they decide."""
    where = {"account": account, "reason": reason, "enough": CHANNELS_BEFORE_ACCOUNT}
    alike = connection.execute(_CLOSED_ALIKE, where).one()
    open_question = alike.channels >= CHANNELS_BEFORE_ACCOUNT and not alike.accepted_since
    untried = open_question and bool(connection.execute(_UNTRIED, {"account": account}).scalar())
    return Neighbours(alike.channels, accepted_since=alike.accepted_since, untried=untried)


def likeliest(connection: Connection, account: str) -> int | None:
    """Return the campaign whose lead is the best probe of its account; None where no open or probing one has any."""
    found = connection.execute(_LIKELIEST, {"account": account}).scalar()
    return None if found is None else int(found)


def accepted_since_failing(connection: Connection, channel: Channel) -> bool:
    """Return whether Voicery accepted a POST of the account, of any campaign, since this channel's first failure."""
    return bool(connection.execute(_ACCEPTED_SINCE_FAILING, channel._asdict()).scalar())


def probes_in_vain(connection: Connection, account: str) -> bool:
    """Return whether the likeliest campaign has had its time to probe the account, so that any other may."""
    return bool(connection.execute(_PROBES_IN_VAIN, {"account": account}).scalar())


def _others_accepted(connection: Connection, account: Gate, channel: Gate, finished: "Sequence[Finished]") -> bool:
    """Return whether what seems to be of the account may be of this channel alone; asked only where that decides."""
    signals = [one.outcome.signal for one in finished if one.outcome.signal is not None]
    seems = any(signal.scope is Scope.ACCOUNT and signal.reason in SEEM_OF_ACCOUNT for signal in signals)
    if not seems or channel.untroubled or account.state is GateState.CLOSED:
        return False
    where = {"account": channel.account, "campaign_id": channel.campaign_id}
    return bool(connection.execute(_BEGUN_AND_ACCEPTED_SINCE_FAILING, where).scalar())


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
class Changes:
    """What outcomes did to the gates of their channel.

    `closed`: a gate holds the channel back now. `needs_gates`: an acceptance has something to reset. `moved`: the gates
    that were opened, closed or set to probing.
    """

    closed: bool = False
    needs_gates: bool = False
    moved: tuple[Gate, ...] = ()


def apply(connection: Connection, channel: Channel, finished: "Sequence[Finished]", limits: GateLimits) -> Changes:
    """Apply outcomes to the gates of their channel and account. Locks the gates, so it precedes the leads."""
    silent = all(one.outcome.signal is None for one in finished)
    if silent and not needed(connection, channel):
        return Changes()
    before = lock(connection, channel)
    of_account, of_channel = before
    others_accepted = _others_accepted(connection, of_account, of_channel, finished)
    for one in finished:
        of_account, of_channel = after_outcome(
            of_account,
            of_channel,
            one.outcome,
            limits,
            retry_after_seconds=one.hints.retry_after_seconds,
            others_accepted=others_accepted,
        )
    if of_channel != before[1]:
        save(connection, of_channel)
        of_account = after_neighbours(connection, of_account, of_channel, limits)
    if of_account != before[0]:
        save(connection, of_account)
    after = (of_account, of_channel)
    return Changes(
        closed=any(gate.state is GateState.CLOSED for gate in after),
        needs_gates=not all(gate.untroubled for gate in after),
        moved=tuple(new for old, new in zip(before, after, strict=True) if old.state is not new.state),
    )


def log_moved(gate: Gate) -> None:
    """Log a gate that opened, closed or began to probe."""
    tell = events.info if gate.state is GateState.OPEN else events.warning
    tell(
        f"gate.{'opened' if gate.state is GateState.OPEN else gate.state.value}",
        account=gate.account,
        campaign_id=gate.campaign_id,
        reason=gate.reason.value if gate.reason else None,
        wait_seconds=gate.wait_seconds,
    )
