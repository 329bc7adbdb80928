"""The circuit breaker, on a clock of its own."""

import pytest

from dispatcher.broker.doorbell import Breaker
from tests.support.doubles import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(5.0, clock=clock)


def test_it_allows_everyone_until_something_fails(breaker: Breaker) -> None:
    assert all(breaker.allows() for _ in range(3))


def test_after_a_failure_nobody_tries_for_its_time(breaker: Breaker, clock: Clock) -> None:
    breaker.failed()
    clock.now += 4.999
    assert not breaker.allows()


def test_then_exactly_one_caller_is_the_trial(breaker: Breaker, clock: Clock) -> None:
    breaker.failed()
    clock.now += 5.0
    assert [breaker.allows() for _ in range(3)] == [True, False, False]


def test_a_trial_that_works_closes_it_for_everyone(breaker: Breaker, clock: Clock) -> None:
    breaker.failed()
    clock.now += 5.0
    breaker.allows()
    breaker.succeeded()
    assert all(breaker.allows() for _ in range(3))


def test_a_trial_that_fails_opens_it_for_the_whole_time_again(breaker: Breaker, clock: Clock) -> None:
    breaker.failed()
    clock.now += 5.0
    breaker.allows()
    clock.now += 3.0
    breaker.failed()
    clock.now += 4.999
    assert not breaker.allows()
    clock.now += 0.001
    assert breaker.allows()


def test_a_trial_that_never_reports_is_replaced(breaker: Breaker, clock: Clock) -> None:
    breaker.failed()
    clock.now += 5.0
    assert breaker.allows()
    clock.now += 5.0
    assert breaker.allows()


def test_only_the_first_failure_of_a_row_is_news(breaker: Breaker) -> None:
    assert [breaker.failed() for _ in range(3)] == [True, False, False]
    breaker.succeeded()
    assert breaker.failed()
