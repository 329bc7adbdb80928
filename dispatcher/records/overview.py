"""The state of the whole queue as one value: what waits, what is held back and why, who works."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from dispatcher.answers.outcome import Reason
from dispatcher.rules.gate import GateState
from dispatcher.rules.states import FailureClass, State


@dataclass(frozen=True, slots=True)
class Count:
    """How many; `exact` False where the planner's statistics had to do, because counting would read a large table."""

    value: int
    exact: bool = True


@dataclass(frozen=True, slots=True)
class GateRecord:
    """A gate that is not open. `campaign_id` None: of the whole account. `until` None: only a person opens it."""

    account: str
    campaign_id: int | None
    state: GateState
    reason: Reason
    closed_at: datetime | None = None
    until: datetime | None = None
    by: str | None = None
    note: str | None = None

    @property
    def scope(self) -> str:
        """`campaign 42`, or `account default`; a campaign of another account names that too."""
        if self.campaign_id is None:
            return f"account {self.account}"
        return f"campaign {self.campaign_id}" + ("" if self.account == "default" else f" of account {self.account}")

    def as_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        return {
            "account": self.account,
            "campaign_id": self.campaign_id,
            "state": self.state,
            "reason": self.reason,
            "closed_at": _iso(self.closed_at),
            "until": _iso(self.until),
            "by": self.by,
            "note": self.note,
        }


@dataclass(frozen=True, slots=True)
class ChannelWaiting:
    """The waiting leads of one campaign."""

    account: str
    campaign_id: int
    waiting: int
    due: int


@dataclass(frozen=True, slots=True)
class WorkerSeen:
    """A worker, when it was last seen, and how many leads it has claimed since it started."""

    name: str
    seen_at: datetime
    claims: int


@dataclass(frozen=True, slots=True)
class RateUse:
    """How much of one window of an account's rate limit is used now."""

    account: str
    permits: int
    seconds: float
    used: int


@dataclass(frozen=True, slots=True)
class Overview:
    """The queue at the instant `at` (the database's clock).

    counts                   leads by state; `failed` counts the failures that nobody has resolved yet
    due                      pending leads that could go now
    oldest_due_at            since when the longest waiting of these could have gone
    next_due_at              when the next scheduled lead becomes due
    accepted_today           since midnight UTC
    failures                 open failures by class
    incidents                things that should not have happened and nobody has marked as seen
    rate                     None: Redis could not be asked; empty: no limit
    """

    at: datetime
    counts: Mapping[State, Count]
    due: int = 0
    oldest_due_at: datetime | None = None
    next_due_at: datetime | None = None
    accepted_today: int = 0
    failures: Mapping[FailureClass, int] = field(default_factory=dict)
    incidents: int = 0
    channels: tuple[ChannelWaiting, ...] = ()
    gates: tuple[GateRecord, ...] = ()
    workers: tuple[WorkerSeen, ...] = ()
    swept_at: datetime | None = None
    sweeper: str | None = None
    rate: tuple[RateUse, ...] | None = ()

    @property
    def oldest_waiting_seconds(self) -> float | None:
        """How long the longest waiting lead could have gone by now; None if none is due."""
        return None if self.oldest_due_at is None else max(0.0, (self.at - self.oldest_due_at).total_seconds())

    def as_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        return {
            "at": self.at.isoformat(),
            "leads": {state: count.value for state, count in self.counts.items()},
            "approximate": [state for state, count in self.counts.items() if not count.exact],
            "due": self.due,
            "oldest_waiting_seconds": self.oldest_waiting_seconds,
            "next_due_at": _iso(self.next_due_at),
            "accepted_today": self.accepted_today,
            "failures": dict(self.failures),
            "incidents": self.incidents,
            "channels": [
                {"account": one.account, "campaign_id": one.campaign_id, "waiting": one.waiting, "due": one.due}
                for one in self.channels
            ],
            "gates": [gate.as_dict() for gate in self.gates],
            "workers": [
                {"name": one.name, "seen_at": one.seen_at.isoformat(), "claims": one.claims} for one in self.workers
            ],
            "sweep": {"at": _iso(self.swept_at), "by": self.sweeper},
            "rate": None
            if self.rate is None
            else [
                {"account": one.account, "permits": one.permits, "seconds": one.seconds, "used": one.used}
                for one in self.rate
            ],
        }


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
