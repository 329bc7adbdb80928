"""What becomes of a lead after an attempt: one pure function from an outcome to a move (design sections 4, 6 and 8)."""

from dataclasses import dataclass
from typing import Final, assert_never

from dispatcher.answers.outcome import Kind, Outcome
from dispatcher.rules.backoff import Uniform, delay_seconds
from dispatcher.rules.states import FailureClass, State

BUGS_BEFORE_FAILED: Final = 3
HELD_SECONDS: Final = 1.0
"""A lead that waits for a gate is due again after this; the gate, not the lead, decides when it goes."""


@dataclass(frozen=True, slots=True)
class Budget:
    """How long a lead is tried; durations in seconds. A lead is exhausted when *both* are used up."""

    max_attempts: int = 8
    retry_for_seconds: float = 86_400.0
    backoff_base_seconds: float = 2.0
    backoff_max_seconds: float = 900.0


@dataclass(frozen=True, slots=True)
class Past:
    """What the earlier attempts of a lead leave behind."""

    in_doubt: bool = False  # the outcome of an earlier POST was not known
    unproven: bool = False  # nor has its absence been proven since: it was sent again because somebody said so
    bugs: int = 0  # how many of them were faults of ours


NO_PAST: Final = Past()


@dataclass(frozen=True, slots=True)
class Standing:
    """Where the lead stands when the attempt ends."""

    attempts: int  # that count, this one included
    age_seconds: float  # since its first attempt
    past: Past = NO_PAST


@dataclass(frozen=True, slots=True)
class Move:
    """The state to enter. `due_in_seconds` from now: the next claim of a pending lead, None otherwise."""

    state: State
    failure_class: FailureClass | None = None
    due_in_seconds: float | None = None
    give_back: bool = False  # the attempt does not count


def after_attempt(outcome: Outcome, standing: Standing, budget: Budget, *, gate_closed: bool, uniform: Uniform) -> Move:
    """Decide the move. `gate_closed`: a gate holds the lead's channel back now, so waiting costs no attempt."""
    match outcome.kind:
        case Kind.ACCEPTED:
            return Move(State.ACCEPTED)
        case Kind.UNKNOWN | Kind.CREATED_ID_UNKNOWN:
            return Move(State.UNKNOWN)
        case Kind.DUPLICATE:
            # The refusal may be about our own earlier POST: a look-up tells.
            return Move(State.UNKNOWN) if standing.past.in_doubt else Move(State.DUPLICATE)
        case Kind.REJECTED:
            return _failed(FailureClass.REJECTED, standing)
        case Kind.THROTTLED | Kind.UNAUTHORIZED | Kind.NO_BALANCE | Kind.FORBIDDEN | Kind.MISCONFIGURED:
            return Move(State.PENDING, due_in_seconds=HELD_SECONDS, give_back=True)
        case Kind.GIVEN_BACK:
            return Move(State.PENDING, due_in_seconds=0.0, give_back=True)
        case Kind.BUG:
            if standing.past.bugs + 1 >= BUGS_BEFORE_FAILED:
                return _failed(FailureClass.BUG, standing)
            return _again(standing, budget, uniform)
        case Kind.NOT_SENT:
            if gate_closed:
                return Move(State.PENDING, due_in_seconds=HELD_SECONDS, give_back=True)
            if standing.attempts >= budget.max_attempts and standing.age_seconds >= budget.retry_for_seconds:
                return _failed(FailureClass.EXHAUSTED, standing)
            return _again(standing, budget, uniform)
        case _ as never:
            assert_never(never)


def _failed(failure_class: FailureClass, standing: Standing) -> Move:
    """Whatever became of this POST: a lead whose earlier one may have worked goes on standing for its person."""
    return Move(State.FAILED, FailureClass.OUTCOME_UNKNOWN if standing.past.unproven else failure_class)


def _again(standing: Standing, budget: Budget, uniform: Uniform) -> Move:
    delay = delay_seconds(
        max(standing.attempts, 1),
        base_seconds=budget.backoff_base_seconds,
        max_seconds=budget.backoff_max_seconds,
        uniform=uniform,
    )
    return Move(State.PENDING, due_in_seconds=delay)
