"""One gate as a value: what closes it, how long it waits, what opens it.

A gate belongs to an account (`campaign_id` None) or to a channel. It is *open*, *closed* or *probing*; while probing
one lead at a time may be claimed. Nothing here reads a clock or a database: `gates` and `store` do.

    open     --signal, often enough-->  closed     (waits)
    closed   --wait over, list answers-->  probing (or after three bad probes)
    probing  --acceptance-->  open                 (the wait starts over)
    probing  --failure-->  closed                  (for longer)
    any      --pause-->  closed(paused)            (only a person resumes)

A failure of one campaign closes the campaign's channel, also one that seems to be of the account (`SEEM_OF_ACCOUNT`)
where others are accepted meanwhile. It closes the account too while the account is probing, or where the account's
channels fail alike and none of them had an acceptance meanwhile (`is_of_account`).
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from dispatcher.decisions.outcome import Kind, Outcome, Reason, Scope, Signal
from dispatcher.decisions.policy import wait_seconds

BAD_PROBES_BEFORE_A_LEAD: Final = 3
"""After this number of failed probes of the list endpoint a lead is tried anyway: the list alone may be broken."""

CHANNELS_BEFORE_ACCOUNT: Final = 3
"""This number of channels of an account, closed for one reason, may close the account: see `is_of_account`."""

_WITHOUT_EFFECT: Final = frozenset({Reason.FORBIDDEN, Reason.MISCONFIGURED, Reason.REJECTING})
"""Answers to one campaign that leave no lead in doubt: Voicery was reached and said no."""

SEEM_OF_ACCOUNT: Final = frozenset({Reason.UNAUTHORIZED, Reason.NO_BALANCE, Reason.FORBIDDEN, Reason.MISCONFIGURED})
"""Answers that speak of the account, and yet may be given to one of its campaigns alone. Not 429: its limit is the
token's, and to go on with other campaigns would break it."""


class GateState(StrEnum):
    """Whether leads flow."""

    OPEN = "open"
    CLOSED = "closed"
    PROBING = "probing"


@dataclass(frozen=True, slots=True)
class GateLimits:
    """The settings a gate depends on; durations in seconds."""

    wait_seconds: float
    wait_max_seconds: float
    outage_after: int
    rejecting_after: int


@dataclass(frozen=True, slots=True)
class Gate:
    """`failures`, `refusals`, `closings` count since the last acceptance; `probes` since the gate closed."""

    account: str
    campaign_id: int | None
    state: GateState = GateState.OPEN
    reason: Reason | None = None
    failures: int = 0
    refusals: int = 0
    refusal: str | None = None
    closings: int = 0
    probes: int = 0
    wait_seconds: float | None = None  # set by a change: how long from now it stays closed; None: for a person to open
    by: str | None = None
    note: str | None = None

    @property
    def untroubled(self) -> bool:
        """Whether an acceptance has nothing to reset: then its row is not written."""
        return self.state is GateState.OPEN and not (self.failures or self.refusals or self.closings)


def after_acceptance(gate: Gate) -> Gate:
    """Open a probing gate and forget what was counted. A closed one stays closed: that lead was on its way before."""
    match gate.state:
        case GateState.OPEN | GateState.PROBING:
            return Gate(gate.account, gate.campaign_id)
        case GateState.CLOSED:
            return gate


def after_failure(
    gate: Gate, reason: Reason, limits: GateLimits, *, message: str, retry_after_seconds: float | None = None
) -> Gate:
    """Count one failure of `reason`; close the gate where that is enough. A closed gate keeps its reason.

    So does one that probes and is told to slow down: whether it is well again was not answered, and a gate that is
    closed for a rate limit opens without a probe.
    """
    if gate.state is GateState.CLOSED:
        return gate
    if gate.state is GateState.PROBING and reason is Reason.THROTTLED and gate.reason is not None:
        return closed(_no_longer(gate), gate.reason, limits, message=message, retry_after_seconds=retry_after_seconds)
    counted = replace(gate, failures=gate.failures + 1)
    enough = gate.state is GateState.PROBING or reason is not Reason.OUTAGE or counted.failures >= limits.outage_after
    if not enough:
        return counted
    return closed(counted, reason, limits, message=message, retry_after_seconds=retry_after_seconds)


def after_refusal(gate: Gate, fingerprint: str, limits: GateLimits, *, message: str) -> Gate:
    """Count equal refusals in a row: many of them are a wrong setting, not many wrong leads.

    A refusal is an answer too: it ends a row of failures, and opens a gate that probes for anything but refusals.
    """
    if gate.state is GateState.CLOSED:
        return gate
    refusals = gate.refusals + 1 if gate.refusal == fingerprint else 1
    if refusals >= limits.rejecting_after:
        counted = replace(gate, refusals=refusals, refusal=fingerprint)
        return closed(counted, Reason.REJECTING, limits, message=message)
    if gate.state is GateState.PROBING and gate.reason is Reason.REJECTING:
        return replace(Gate(gate.account, gate.campaign_id), refusals=1, refusal=fingerprint, closings=gate.closings)
    return replace(after_acceptance(gate), refusals=refusals, refusal=fingerprint)


def closed(
    gate: Gate, reason: Reason, limits: GateLimits, *, message: str, retry_after_seconds: float | None = None
) -> Gate:
    """The gate, closed for the next wait of its series, or for as long as Voicery asked if that is longer."""
    closings = gate.closings + 1
    wait = wait_seconds(closings, base_seconds=limits.wait_seconds, max_seconds=limits.wait_max_seconds)
    if retry_after_seconds is not None:
        wait = retry_after_seconds if reason is Reason.THROTTLED else max(wait, retry_after_seconds)
    return replace(
        gate,
        state=GateState.CLOSED,
        reason=reason,
        closings=closings,
        probes=0,
        wait_seconds=wait,
        by=None,
        note=message,
    )


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The channels of an account when one of them has closed.

    `closed_alike`: those closed for the same reason, that one included. `accepted_since`: whether any channel had an
    acceptance since the first failure of these. `untried`: whether an open channel that has not failed has leads that
    are due or on their way, so that it may yet have one.
    """

    closed_alike: int
    accepted_since: bool
    untried: bool


def is_of_account(reason: Reason, neighbours: Neighbours) -> bool:
    """Whether failures of several channels for one reason are the account's own, and close it.

    While a channel that may be healthy has not been heard, only failures that leave leads in doubt close its account:
    trying it costs nothing otherwise.
    """
    if reason is not Reason.OUTAGE and reason not in _WITHOUT_EFFECT:
        return False
    if neighbours.closed_alike < CHANNELS_BEFORE_ACCOUNT or neighbours.accepted_since:
        return False
    return reason is Reason.OUTAGE or not neighbours.untried


def after_outcome(
    account: Gate,
    channel: Gate,
    outcome: Outcome,
    limits: GateLimits,
    *,
    retry_after_seconds: float | None = None,
    others_accepted: bool = False,
) -> tuple[Gate, Gate]:
    """Both gates of an attempt's channel after its outcome. Any failure closes whichever of the two was probing.

    others_accepted   a POST that began after this channel's first failure was accepted, of any campaign: then what
                      seems to be of the account and is answered to this channel again is of this channel alone
    """
    signal = outcome.signal
    if signal is None:
        if outcome.kind in (Kind.ACCEPTED, Kind.DUPLICATE):
            return after_acceptance(account), after_acceptance(channel)
        return account, channel

    def failed(gate: Gate) -> Gate:
        return after_failure(
            gate, signal.reason, limits, message=outcome.message, retry_after_seconds=retry_after_seconds
        )

    if signal.reason is Reason.REJECTING:
        refused = after_refusal(channel, outcome.fingerprint, limits, message=outcome.message)
        if account.state is GateState.PROBING and account.reason is Reason.REJECTING:
            return failed(_no_longer(account)), refused
        return after_acceptance(account), refused
    alone = others_accepted and signal.reason in SEEM_OF_ACCOUNT and not channel.untroubled
    if signal.scope is Scope.ACCOUNT and not alone:
        return failed(account), failed(channel) if channel.state is GateState.PROBING else _noted(channel, signal)
    if account.state is GateState.PROBING:
        return failed(_no_longer(account) if signal.reason in _WITHOUT_EFFECT else account), failed(channel)
    return account, failed(channel)


def _noted(channel: Gate, signal: Signal) -> Gate:
    """An open channel that remembers having failed: so it is told whether others are accepted and it alone is not."""
    if channel.state is not GateState.OPEN or signal.reason not in SEEM_OF_ACCOUNT:
        return channel
    return replace(channel, failures=max(1, channel.failures))


def _no_longer(gate: Gate) -> Gate:
    """A probing gate whose next wait is no longer than the last: what it was closed for was not answered."""
    return replace(gate, closings=max(0, gate.closings - 1))


def after_probe(gate: Gate, *, answered: bool, limits: GateLimits) -> Gate:
    """The list endpoint was asked on behalf of a closed gate: let one lead try, or wait longer."""
    if gate.state is not GateState.CLOSED or gate.reason is Reason.PAUSED:
        return gate
    probes = gate.probes + 1
    if answered or probes >= BAD_PROBES_BEFORE_A_LEAD:
        return replace(gate, state=GateState.PROBING, probes=probes, wait_seconds=None)
    closings = gate.closings + 1
    wait = wait_seconds(closings, base_seconds=limits.wait_seconds, max_seconds=limits.wait_max_seconds)
    return replace(gate, closings=closings, probes=probes, wait_seconds=wait)
