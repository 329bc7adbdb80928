"""What becomes of a lead after an attempt."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.config.settings import Settings
from dispatcher.decisions.outcome import IN_DOUBT, Kind, Outcome, Rules, Sent, classify
from dispatcher.decisions.policy import HELD_SECONDS, Budget, Move, Past, Standing, after_attempt
from dispatcher.decisions.reply import BodyFault, Reply, WireFault
from dispatcher.decisions.states import LEGAL_MOVES, FailureClass, State

BUDGET = Settings().budget
FRESH = Standing(attempts=1, age_seconds=0.0)
SPENT = Standing(attempts=8, age_seconds=86_400.0)
HELD = Move(State.PENDING, due_in_seconds=HELD_SECONDS, give_back=True)

A_GATE_ANSWERS = [Kind.THROTTLED, Kind.UNAUTHORIZED, Kind.NO_BALANCE, Kind.FORBIDDEN, Kind.MISCONFIGURED]


def moved(kind: Kind, standing: Standing = FRESH, *, gate_closed: bool = False, budget: Budget = BUDGET) -> Move:
    return after_attempt(
        Outcome(kind, "A sentence."), standing, budget, gate_closed=gate_closed, uniform=lambda low, high: high
    )


@pytest.mark.parametrize(
    ("kind", "move"),
    [
        (Kind.ACCEPTED, Move(State.ACCEPTED)),
        (Kind.UNKNOWN, Move(State.UNKNOWN)),
        (Kind.CREATED_ID_UNKNOWN, Move(State.UNKNOWN)),
        (Kind.DUPLICATE, Move(State.DUPLICATE)),
        (Kind.REJECTED, Move(State.FAILED, FailureClass.REJECTED)),
        (Kind.GIVEN_BACK, Move(State.PENDING, due_in_seconds=0.0, give_back=True)),
        (Kind.BUG, Move(State.PENDING, due_in_seconds=2.0)),
        (Kind.NOT_SENT, Move(State.PENDING, due_in_seconds=2.0)),
        *((kind, HELD) for kind in A_GATE_ANSWERS),
    ],
)
def test_the_first_attempt(kind: Kind, move: Move) -> None:
    assert moved(kind) == move


@pytest.mark.parametrize("kind", [*A_GATE_ANSWERS, Kind.GIVEN_BACK])
def test_what_a_gate_answers_for_never_exhausts_a_lead(kind: Kind) -> None:
    move = moved(kind, Standing(attempts=1000, age_seconds=1e9))

    assert (move.state, move.give_back) == (State.PENDING, True)


def test_a_lead_that_a_gate_holds_is_ready_within_a_second_of_its_opening() -> None:
    assert moved(Kind.THROTTLED).due_in_seconds == 1.0


def test_a_lead_is_exhausted_when_attempts_and_time_are_both_used_up() -> None:
    assert moved(Kind.NOT_SENT, SPENT) == Move(State.FAILED, FailureClass.EXHAUSTED)
    assert moved(Kind.NOT_SENT, replace(SPENT, attempts=7)).state is State.PENDING
    assert moved(Kind.NOT_SENT, replace(SPENT, age_seconds=86_399.9)).state is State.PENDING


def test_an_attempt_costs_nothing_while_the_gate_is_closed() -> None:
    assert moved(Kind.NOT_SENT, gate_closed=True) == HELD
    assert moved(Kind.NOT_SENT, SPENT, gate_closed=True) == HELD


def test_the_third_bug_fails_a_lead_whatever_else_it_went_through() -> None:
    tried = [moved(Kind.BUG, Standing(attempts=7, age_seconds=0.0, past=Past(bugs=bugs))) for bugs in (0, 1, 2)]

    assert [move.state for move in tried] == [State.PENDING, State.PENDING, State.FAILED]
    assert tried[2].failure_class is FailureClass.BUG


def test_a_duplicate_after_an_attempt_in_doubt_is_looked_up() -> None:
    assert moved(Kind.DUPLICATE, replace(FRESH, past=Past(in_doubt=True))) == Move(State.UNKNOWN)


@pytest.mark.parametrize("kind", [Kind.REJECTED, Kind.NOT_SENT, Kind.BUG])
def test_a_lead_that_was_sent_again_without_proof_does_not_fail_as_if_nobody_had_been_called(kind: Kind) -> None:
    spent = replace(SPENT, past=Past(in_doubt=True, bugs=2))
    assert moved(kind, spent).failure_class in (FailureClass.REJECTED, FailureClass.EXHAUSTED, FailureClass.BUG)

    unproven = replace(spent, past=replace(spent.past, unproven=True))
    assert moved(kind, unproven) == Move(State.FAILED, FailureClass.OUTCOME_UNKNOWN)


def test_the_backoff_grows_with_the_attempts() -> None:
    waits = [moved(Kind.NOT_SENT, Standing(n, 0.0)).due_in_seconds for n in range(1, 12)]

    assert waits == [2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900]


pasts = st.builds(Past, st.booleans(), st.booleans(), st.integers(0, 5))
standings = st.builds(Standing, st.integers(0, 100), st.floats(0, 1e6), pasts)
budgets = st.builds(Budget, st.integers(1, 20), st.floats(0, 1e5), st.floats(0.1, 10), st.floats(10, 1000))


@given(st.sampled_from(Kind), standings, budgets, st.booleans())
def test_every_move_is_legal_and_complete(kind: Kind, standing: Standing, budget: Budget, gate_closed: bool) -> None:
    move = moved(kind, standing, gate_closed=gate_closed, budget=budget)

    assert (State.SENDING, move.state) in LEGAL_MOVES
    assert (move.failure_class is not None) == (move.state is State.FAILED)
    assert (move.due_in_seconds is not None) == (move.state is State.PENDING)
    assert not move.give_back or move.state is State.PENDING


@given(st.sampled_from(sorted(IN_DOUBT)), standings, budgets, st.booleans())
def test_nothing_in_doubt_is_ever_sent_again_or_failed_by_this(
    kind: Kind, standing: Standing, budget: Budget, gate_closed: bool
) -> None:
    assert moved(kind, standing, gate_closed=gate_closed, budget=budget) == Move(State.UNKNOWN)


SENT = Sent(42, "+12025550101")
RULES = Rules(duplicate=Settings.model_fields["duplicate_rule"].default)
PROVEN_NO = frozenset({301, 307, 308}) | (frozenset(range(400, 500)) - {408, 425, 460, 499})


@given(
    st.none() | st.integers(100, 999), st.none() | st.sampled_from(WireFault), st.none() | st.sampled_from(BodyFault),
    standings, budgets, st.booleans(),
)  # fmt: skip
def test_what_was_written_becomes_pending_only_by_a_proven_no(
    status: int | None,
    fault: WireFault | None,
    body_fault: BodyFault | None,
    standing: Standing,
    budget: Budget,
    gate_closed: bool,
) -> None:
    reply = Reply(status=status, fault=fault, body_fault=body_fault, written=True)
    outcome = classify(reply, SENT, RULES)
    move = after_attempt(outcome, standing, budget, gate_closed=gate_closed, uniform=lambda low, high: high)

    if move.state is State.PENDING:
        assert fault is None
        assert status in PROVEN_NO
