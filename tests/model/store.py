"""The store in memory: the same fences as the statements of `dispatcher.store`, over plain objects."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from dispatcher.decisions.absence import LookUp
from dispatcher.decisions.gate import Gate
from dispatcher.decisions.outcome import Kind, Outcome
from dispatcher.decisions.policy import Move
from dispatcher.decisions.states import FailureClass, State, may_move


class Broken(AssertionError):
    """An invariant does not hold."""


@dataclass(slots=True)
class Attempt:
    """A row of `lead_attempts`. `phone`: as it was sent. `granted`: its resend waits only for a fresh proof."""

    id: int
    lead: "Lead"
    watermark: int
    started_at: float
    phone: str = ""
    granted: str | None = None
    reopened_at: float | None = None
    ended_at: float | None = None
    finished_at: float | None = None
    outcome: Kind | None = None
    look_ups: list[LookUp] = field(default_factory=list)
    proof: bool = False


@dataclass(slots=True)
class Lead:
    """A row of `leads`. `overruled`: a person sent it although it may have been called."""

    id: int
    phone: str
    allow_dupplicate: bool
    state: State = State.PENDING
    due_at: float = 0.0
    lease_until: float = 0.0
    attempts: int = 0
    resends: int = 0
    first_attempt_at: float | None = None
    attempt: Attempt | None = None
    history: list[Attempt] = field(default_factory=list)
    failure_class: FailureClass | None = None
    voicery_lead_id: int | None = None
    finished_at: float | None = None
    overruled: bool = False
    proven_at: float | None = None
    replayed: bool = False
    campaign: int = 42

    def move(self, entering: State) -> None:
        if not may_move(self.state, entering):
            raise Broken(f"I3: lead {self.id} may not move {self.state} -> {entering}")
        self.state = entering


@dataclass(slots=True)
class Store:
    """`one_open`: the unique indexes on open attempts. `fenced`: whether a result must be of the present attempt.

    `blocked`: who must not be called, with the number of attempts when the block was committed. `heeds_blocks`: whether
    the claim asks for it.

    `proof_for`: how long a proof allows a POST; for ever if infinite. `moved_at`: when a gate moved.
    """

    one_open: bool = True
    fenced: bool = True
    heeds_blocks: bool = True
    blocked: dict[str, int] = field(default_factory=dict)
    proof_for: float = 40.0
    moved_at: float = -1.0
    leads: list[Lead] = field(default_factory=list)
    attempts: int = 0
    account: Gate = field(default_factory=lambda: Gate("default", None))
    channel: Gate = field(default_factory=lambda: Gate("default", 42))
    gate_until: dict[int | None, float] = field(default_factory=dict)
    incidents: list[str] = field(default_factory=list)

    def open_attempts(self) -> Iterator[Attempt]:
        for lead in self.leads:
            for attempt in lead.history:
                if attempt.finished_at is None:
                    yield attempt

    def is_stale(self, lead: Lead, now: float) -> bool:
        """Whether the proof on whose word a lead may be sent again no longer holds."""
        if lead.proven_at is None or self.proof_for == math.inf:
            return False
        return now - lead.proven_at >= self.proof_for or self.moved_at > lead.proven_at

    def _doubt_again(self, lead: Lead, now: float) -> None:
        past = [one for one in lead.history if one.outcome in (Kind.UNKNOWN, Kind.CREATED_ID_UNKNOWN)][-1]
        if past.phone in {attempt.phone for attempt in self.open_attempts()}:
            return
        lead.move(State.UNKNOWN)
        lead.attempt, lead.due_at = past, now
        past.finished_at, past.granted, past.reopened_at = None, "person" if lead.replayed else "policy", now

    def claim(self, now: float, most: int, lease: float, park: float) -> list[Attempt]:
        """Open attempts for due leads; park those behind an open lead of the same person."""
        due = sorted((one for one in self.leads if one.state is State.PENDING and one.due_at <= now), key=_due)[:most]
        busy = {attempt.phone for attempt in self.open_attempts()}
        mark = max((lead.voicery_lead_id or 0 for lead in self.leads), default=0)
        opened = []
        for lead in due:
            if self.heeds_blocks and lead.phone in self.blocked:
                self._end_blocked(lead, now)
                continue
            stale = self.is_stale(lead, now)
            if stale or (self.one_open and lead.phone in busy):
                lead.due_at = now + park
                if stale:
                    self._doubt_again(lead, now)
                continue
            busy.add(lead.phone)
            self.attempts += 1
            attempt = Attempt(self.attempts, lead, mark, now, lead.phone)
            lead.move(State.SENDING)
            lead.attempts += 1
            lead.attempt = attempt
            lead.history.append(attempt)
            lead.lease_until = now + lease
            if lead.first_attempt_at is None:
                lead.first_attempt_at = now
            opened.append(attempt)
        return opened

    def _end_blocked(self, lead: Lead, now: float) -> None:
        """One whose earlier POST may have worked goes on standing for its person."""
        doubtful = any(past.outcome in (Kind.UNKNOWN, Kind.CREATED_ID_UNKNOWN) for past in lead.history)
        lead.move(State.FAILED)
        lead.failure_class = FailureClass.OUTCOME_UNKNOWN if doubtful else FailureClass.BLOCKED
        lead.finished_at = now

    def record(
        self, now: float, attempt: Attempt, outcome: Outcome, move: Move, ended_at: float, settle: float
    ) -> None:
        """Write one result under its fence; a result that comes too late is evidence."""
        lead = attempt.lead
        entering = move.state
        mine = lead.attempt is attempt and (
            lead.state is State.SENDING or (lead.state is State.UNKNOWN and entering is not State.UNKNOWN)
        )
        if not mine and (self.fenced or lead.state not in (State.SENDING, State.UNKNOWN)):
            self._late(now, attempt, outcome)
            return
        if outcome.voicery_lead_id is not None and self._holder(lead, outcome.voicery_lead_id):
            entering = State.DUPLICATE
        lead.move(entering)
        if move.give_back:
            lead.attempts -= 1
        if entering is State.PENDING:
            lead.due_at = now + (move.due_in_seconds or 0.0)
        if entering is State.UNKNOWN:
            lead.due_at = ended_at + settle
        lead.failure_class = move.failure_class if entering is State.FAILED else None
        if entering is State.ACCEPTED:
            lead.voicery_lead_id = outcome.voicery_lead_id
        if entering in (State.ACCEPTED, State.DUPLICATE, State.FAILED):
            lead.finished_at = now
        if attempt.finished_at is None:
            attempt.outcome = outcome.kind
            attempt.ended_at = ended_at
            attempt.finished_at = None if entering is State.UNKNOWN else now

    def _late(self, now: float, attempt: Attempt, outcome: Outcome) -> None:
        lead = attempt.lead
        if attempt.finished_at is None:
            if outcome.kind is Kind.CREATED_ID_UNKNOWN:
                attempt.outcome = outcome.kind
            return
        if outcome.kind not in (Kind.ACCEPTED, Kind.CREATED_ID_UNKNOWN):
            return
        new = outcome.voicery_lead_id is not None and not self._holder(lead, outcome.voicery_lead_id)
        held = lead.state is State.FAILED and lead.failure_class is FailureClass.OUTCOME_UNKNOWN
        if new and lead.attempt is attempt and (lead.state is State.PENDING or held):
            if lead.state is State.PENDING:
                lead.move(State.SENDING)
            lead.move(State.ACCEPTED)
            lead.failure_class = None
            lead.voicery_lead_id = outcome.voicery_lead_id
            lead.finished_at = now
            attempt.outcome = Kind.ACCEPTED
        elif lead.state is not State.ACCEPTED:
            self.incidents.append(f"late answer of {lead.id}")

    def _holder(self, lead: Lead, voicery_lead_id: int) -> bool:
        return any(other.voicery_lead_id == voicery_lead_id for other in self.leads if other is not lead)

    def end_leases(self, now: float, settle: float, entering: State = State.UNKNOWN) -> None:
        """The sweep's: a lease that ran out leaves its lead in doubt."""
        for lead in self.leads:
            if lead.state is State.SENDING and lead.lease_until < now and lead.attempt is not None:
                lead.move(entering)
                lead.due_at = lead.lease_until + settle
                lead.attempt.outcome = Kind.UNKNOWN
                lead.attempt.ended_at = lead.lease_until
                if entering is not State.UNKNOWN:
                    lead.attempt.finished_at = now


def _due(lead: Lead) -> tuple[float, int]:
    return lead.due_at, lead.id
