"""Folding outcomes into gates: what the attempts of a turn say about their channel and account (design section 9)."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from dispatcher.answers.outcome import Kind, Reason, Scope
from dispatcher.delivery.finished import Finished
from dispatcher.rules.gate import Gate, GateLimits, GateState, after_acceptance, after_failure, after_refusal
from dispatcher.store import gates


@dataclass(frozen=True, slots=True)
class Folded:
    """`closed`: a gate holds the channel back now. `troubled`: an acceptance has something to reset.

    `moved`: the gates that were opened, closed or set to probing by this.
    """

    closed: bool = False
    troubled: bool = False
    moved: tuple[Gate, ...] = ()


def fold_into_gates(
    connection: Connection, account: str, campaign_id: int, finished: Sequence[Finished], limits: GateLimits
) -> Folded:
    """Let every outcome speak to its gate. Locks the gates, so it goes before the leads in its transaction."""
    silent = all(one.outcome.signal is None for one in finished)
    if silent and not gates.troubled(connection, account, campaign_id):
        return Folded()
    before = gates.lock(connection, account, campaign_id)
    of_account, of_channel = before
    for one in finished:
        of_account, of_channel = _heed(of_account, of_channel, one, limits)
    if of_channel != before[1]:
        gates.save(connection, of_channel)
    of_account = gates.spread(connection, of_account, of_channel, limits)
    if of_account != before[0]:
        gates.save(connection, of_account)
    after = (of_account, of_channel)
    return Folded(
        closed=any(gate.state is GateState.CLOSED for gate in after),
        troubled=not all(gate.untroubled for gate in after),
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
