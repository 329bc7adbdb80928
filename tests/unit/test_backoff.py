"""How long a lead and a gate wait."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.decisions import policy
from dispatcher.decisions.policy import delay_seconds, wait_seconds

DOCS = Path(__file__).parents[2] / "docs"

attempts = st.integers(1, 10_000)
bases = st.floats(0.001, 1_000)
maxima = st.floats(0.001, 100_000)


def lowest(low: float, high: float) -> float:
    return low


def highest(low: float, high: float) -> float:
    return high


def test_a_leads_first_upper_ends_are_those_of_the_formula() -> None:
    ends = [delay_seconds(n, base_seconds=2, max_seconds=900, uniform=highest) for n in range(1, 12)]

    assert ends == [2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900]


def test_a_lead_never_waits_less_than_half_of_the_base() -> None:
    ends = {delay_seconds(n, base_seconds=2, max_seconds=900, uniform=lowest) for n in range(1, 12)}

    assert ends == {1}


def test_a_gates_first_waits_are_those_of_the_formula() -> None:
    waits = [wait_seconds(n, base_seconds=5, max_seconds=300) for n in range(1, 9)]

    assert waits == [5, 10, 20, 40, 80, 160, 300, 300]


@given(attempts, bases, maxima, st.floats(0, 1))
def test_a_delay_lies_in_its_range(attempt: int, base: float, maximum: float, chance: float) -> None:
    delay = delay_seconds(
        attempt, base_seconds=base, max_seconds=maximum, uniform=lambda low, high: low + (high - low) * chance
    )

    assert 0 < delay <= maximum * (1 + 1e-9)
    assert delay >= min(base / 2, maximum) * (1 - 1e-9)


@given(attempts, bases, maxima)
def test_the_range_is_never_upside_down(attempt: int, base: float, maximum: float) -> None:
    seen: list[tuple[float, float]] = []

    def note(low: float, high: float) -> float:
        seen.append((low, high))
        return low

    delay_seconds(attempt, base_seconds=base, max_seconds=maximum, uniform=note)

    ((low, high),) = seen
    assert low <= high


@given(attempts, bases, maxima)
def test_a_wait_never_shrinks_and_never_passes_the_maximum(failure: int, base: float, maximum: float) -> None:
    now = wait_seconds(failure, base_seconds=base, max_seconds=maximum)
    then = wait_seconds(failure + 1, base_seconds=base, max_seconds=maximum)

    assert now <= then <= maximum


@pytest.mark.parametrize("count", [0, -1])
def test_counting_from_zero_is_a_bug(count: int) -> None:
    with pytest.raises(ValueError, match="counted from 1"):
        wait_seconds(count, base_seconds=1, max_seconds=1)


@pytest.mark.parametrize("text", [policy.__doc__ or "", *(page.read_text() for page in DOCS.glob("guarantees.md"))])
def test_the_documents_state_the_numbers_of_the_code(text: str) -> None:
    lead = ", ".join(f"{delay_seconds(n, base_seconds=2, max_seconds=900, uniform=highest):g}" for n in range(1, 12))
    gate = ", ".join(f"{wait_seconds(n, base_seconds=5, max_seconds=300):g}" for n in range(1, 9))

    words = re.sub(r"\s+", " ", text)
    assert lead in words
    assert gate in words
