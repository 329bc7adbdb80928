"""The rate limit: exact in every window, per token, and told to the client."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.errors import NotConfigured
from dispatcher.sandbox.ratelimit import PermitWindow, SlidingLog, parse_rate_limit
from tests.sandbox.client import Start

WINDOWS = st.lists(st.builds(PermitWindow, st.integers(1, 5), st.integers(1, 20)), min_size=1, max_size=3).map(tuple)
GAPS = st.lists(st.integers(0, 80).map(lambda eighths: eighths / 8), max_size=60)


def test_the_limit_reads_as_written_in_the_settings() -> None:
    assert parse_rate_limit("100/minute; 20/10 seconds") == (PermitWindow(100, 60), PermitWindow(20, 10))
    assert parse_rate_limit("1/Hour") == (PermitWindow(1, 3600),)
    assert parse_rate_limit("off") == parse_rate_limit("") == ()


@pytest.mark.parametrize("text", ["100", "0/minute", "5/0 seconds", "5/fortnight", "5/minute;;", "-1/second"])
def test_what_is_no_limit_is_refused(text: str) -> None:
    with pytest.raises(NotConfigured):
        parse_rate_limit(text)


@given(WINDOWS, GAPS)
def test_no_window_ever_holds_more_than_its_permits_and_none_is_refused_without_need(
    windows: tuple[PermitWindow, ...], gaps: list[float]
) -> None:
    log, now = SlidingLog(windows), 0.0
    taken: list[float] = []
    for gap in gaps:
        now += gap
        full = any(sum(at > now - window.seconds for at in taken) >= window.permits for window in windows)
        verdict = log.take("t", now)
        assert verdict.allowed == (not full)
        if verdict.allowed:
            taken.append(now)


@given(WINDOWS, GAPS)
def test_who_waits_as_long_as_told_is_let_in(windows: tuple[PermitWindow, ...], gaps: list[float]) -> None:
    log, now = SlidingLog(windows), 0.0
    for gap in gaps:
        now += gap
        verdict = log.take("t", now)
        if not verdict.allowed:
            now += verdict.reset_seconds
            assert log.take("t", now).allowed


def test_tokens_do_not_share_a_limit() -> None:
    log = SlidingLog((PermitWindow(1, 60),))
    assert log.take("a", 0).allowed
    assert not log.take("a", 1).allowed
    assert log.take("b", 1).allowed


def test_the_client_is_told_its_rate_and_when_to_come_back(start: Start) -> None:
    api = start(rate_limit="2/minute")
    first, second, third = api.list(), api.list(), api.list()
    assert [answer.status_code for answer in (first, second, third)] == [200, 200, 429]
    assert [answer.headers["X-RateLimit-Remaining"] for answer in (first, second, third)] == ["1", "0", "0"]
    assert third.headers["X-RateLimit-Limit"] == "2"
    assert int(third.headers["X-RateLimit-Reset"]) > 1_700_000_000
    assert 1 <= int(third.headers["Retry-After"]) <= 60
    assert third.json() == {"message": "Too Many Attempts.", "retry_after": int(third.headers["Retry-After"])}


def test_creations_and_lists_share_the_limit_and_a_throttled_one_creates_nothing(start: Start) -> None:
    api = start(rate_limit="1/minute")
    api.list()
    assert api.post().status_code == 429
    assert api.sandbox.leads == []
    assert api.list(token="other").status_code == 200


def test_without_a_limit_no_rate_is_told(start: Start) -> None:
    assert not [name for name in start().post().headers if name.startswith("X-RateLimit")]
