"""A run begins narrow, widens while answers come well, and narrows when they do not."""

from collections.abc import Sequence
from typing import Any

import pytest

from dispatcher.decisions.outcome import Kind, Outcome
from dispatcher.delivery.results import Finished
from dispatcher.delivery.width import FIRST, SLOW_SECONDS, SLOW_TIMES, Width

MOST = 64
CLAIMED: Any = None  # no lead is looked at


def answers(*kinds: Kind, seconds: float = 0.1) -> Sequence[Finished]:
    return [Finished(CLAIMED, Outcome(kind=kind, message=""), seconds, 0.0) for kind in kinds]


@pytest.fixture
def wide() -> Width:
    """As wide as it may be, after answers of 0.1 s."""
    width = Width(MOST)
    while width.now < MOST:
        width.heed(answers(Kind.ACCEPTED))
        width.filled()
    return width


def test_it_begins_narrow_and_doubles_up_to_the_most() -> None:
    width, met = Width(3 * FIRST), []
    for _ in range(3):
        met.append(width.now)
        width.heed(answers(Kind.ACCEPTED, Kind.REJECTED, Kind.DUPLICATE))
        width.filled()
    assert met == [FIRST, 2 * FIRST, 3 * FIRST]


@pytest.mark.parametrize("most", [1, FIRST - 1])
def test_a_smaller_setting_counts_from_the_beginning_to_the_end(most: int) -> None:
    width = Width(most)
    assert width.now == most
    width.filled()
    width.heed(answers(Kind.UNKNOWN))
    assert width.now == most


@pytest.mark.parametrize("kind", [Kind.THROTTLED, Kind.UNKNOWN, Kind.NOT_SENT])
def test_trouble_halves_it_once_a_turn_and_then_it_grows_by_steps(wide: Width, kind: Kind) -> None:
    wide.heed(answers(kind, kind, Kind.ACCEPTED))
    assert wide.now == MOST // 2
    wide.filled()
    assert wide.now == MOST // 2 + FIRST


def test_it_is_never_narrower_than_at_the_beginning(wide: Width) -> None:
    for _ in range(10):
        wide.heed(answers(Kind.UNKNOWN))
    assert wide.now == FIRST


def test_answers_that_became_slow_halve_it(wide: Width) -> None:
    wide.heed([*answers(Kind.ACCEPTED, seconds=SLOW_SECONDS + 0.1), *answers(Kind.ACCEPTED)])
    assert wide.now == MOST // 2


def test_a_voicery_that_is_always_slow_is_no_reason() -> None:
    width = Width(MOST)
    for _ in range(5):
        width.heed(answers(Kind.ACCEPTED, seconds=SLOW_TIMES * SLOW_SECONDS))
        width.filled()
    assert width.now == MOST


def test_a_voicery_that_stays_slow_becomes_the_norm(wide: Width) -> None:
    for _ in range(300):
        wide.heed(answers(Kind.ACCEPTED, seconds=3.0))
    narrowed = wide.now
    wide.filled()
    wide.heed(answers(Kind.ACCEPTED, seconds=3.0))
    assert (narrowed, wide.now) == (FIRST, 2 * FIRST)


def test_a_quick_answer_is_never_slow_however_quick_others_are() -> None:
    width = Width(MOST)
    width.heed(answers(Kind.ACCEPTED, seconds=0.0001))
    width.filled()
    width.heed(answers(Kind.ACCEPTED, seconds=0.9 * SLOW_SECONDS))
    assert width.now == 2 * FIRST


def test_a_turn_without_an_answer_says_nothing(wide: Width) -> None:
    wide.heed([])
    assert wide.now == MOST
