"""What becomes of a lead after an attempt: one pure function from an outcome to a move, and the waits it uses.

How long a lead, or a gate, waits before the next try.

A lead (full jitter with a floor, so that a burst of failures spreads out and never comes back at once):

    delay(n) = uniform(base / 2, min(maximum, base * 2 ** (n - 1)))

With the defaults (base 2 s, maximum 900 s) the upper ends are 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900 … s and the
lower end is always 1 s. `docs/guarantees.md` states the same numbers; keep them in step.

A gate (no jitter: one waiter per gate, and an operator should be able to predict it):

    wait(n) = min(maximum, base * 2 ** (n - 1))

With the defaults (base 5 s, maximum 300 s): 5, 10, 20, 40, 80, 160, 300, 300 … s.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, assert_never

from dispatcher.decisions.outcome import Kind, Outcome
from dispatcher.decisions.states import FailureClass, State

Uniform = Callable[[float, float], float]
"""A source of chance: `uniform(low, high)` as `random.uniform`."""

_DOUBLINGS_MAX: Final = 64  # 2.0 ** 1024 overflows; 64 doublings of a millisecond outlive the sun


def delay_seconds(attempt: int, *, base_seconds: float, max_seconds: float, uniform: Uniform) -> float:
    """The wait after the `attempt`-th (1-based) counted attempt of a lead, in seconds."""
    high = wait_seconds(attempt, base_seconds=base_seconds, max_seconds=max_seconds)
    return uniform(min(base_seconds / 2, high), high)


def wait_seconds(failure: int, *, base_seconds: float, max_seconds: float) -> float:
    """The wait of a gate after its `failure`-th (1-based) closing without an acceptance between, in seconds."""
    if failure < 1:
        raise ValueError("attempts and failures are counted from 1")
    return min(max_seconds, base_seconds * 2.0 ** min(failure - 1, _DOUBLINGS_MAX))


BUGS_BEFORE_FAILED: Final = 3
HELD_SECONDS: Final = 1.0
"""A lead that waits for a gate is due again after this; the gate, not the lead, decides when it goes."""


@dataclass(frozen=True, slots=True)
class Budget:
    """How long a lead is tried; durations in seconds. A lead is exhausted when *both* are used up."""

    max_attempts: int
    retry_for_seconds: float
    backoff_base_seconds: float
    backoff_max_seconds: float


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
