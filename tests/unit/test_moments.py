"""Times as people type and read them."""

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher import moments

NOW = datetime(2026, 11, 23, 14, 10, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("now", NOW),
        ("90s", NOW - timedelta(seconds=90)),
        ("30m", NOW - timedelta(minutes=30)),
        ("30 min", NOW - timedelta(minutes=30)),
        ("2h", NOW - timedelta(hours=2)),
        (" 1.5H ", NOW - timedelta(minutes=90)),
        ("3d", NOW - timedelta(days=3)),
        ("1w", NOW - timedelta(days=7)),
        ("today", datetime(2026, 11, 23, tzinfo=UTC)),
        ("Yesterday", datetime(2026, 11, 22, tzinfo=UTC)),
        ("2026-11-20", datetime(2026, 11, 20, tzinfo=UTC)),
        ("2026-11-20T08:30", datetime(2026, 11, 20, 8, 30, tzinfo=UTC)),
        ("2026-11-20T08:30+02:00", datetime(2026, 11, 20, 6, 30, tzinfo=UTC)),
        ("2026-11-20T08:30Z", datetime(2026, 11, 20, 8, 30, tzinfo=UTC)),
    ],
)
def test_moments_that_have_passed(text: str, moment: datetime) -> None:
    assert moments.past(text, NOW) == moment


@pytest.mark.parametrize("text", ["", "2", "h", "-2h", "2x", "tomorrow", "20-11-2026", "9999999d", "1e3s", "١h"])
@pytest.mark.parametrize("parse", [moments.past, moments.future])
def test_what_is_no_time_is_said_so(text: str, parse: Callable[[str, datetime], object]) -> None:
    with pytest.raises(ValueError, match=r"^it is"):
        parse(text, NOW)


def test_moments_to_come() -> None:
    assert moments.future("2h", NOW) == timedelta(hours=2)
    zone = timezone(timedelta(hours=1))
    assert moments.future("2026-12-24T18:00+01:00", NOW) == datetime(2026, 12, 24, 18, tzinfo=zone)
    with pytest.raises(ValueError, match="no time zone"):
        moments.future("2026-12-24T18:00", NOW)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("tomorrow 09:00", datetime(2026, 11, 24, 9, tzinfo=UTC)),
        ("Today 17:30", datetime(2026, 11, 23, 17, 30, tzinfo=UTC)),
        ("tomorrow 09:00z", datetime(2026, 11, 24, 9, tzinfo=UTC)),
        ("tomorrow 09:00+02:00", datetime(2026, 11, 24, 7, tzinfo=UTC)),
        ("tomorrow 00:30+12:00", datetime(2026, 11, 24, 12, 30, tzinfo=UTC)),  # it is the 24th there already
    ],
)
def test_a_time_of_day_is_utc_or_of_its_zone(text: str, moment: datetime) -> None:
    assert moments.future(text, NOW) == moment


@pytest.mark.parametrize("text", ["tomorrow", "tomorrow noon", "today 25:00", "yesterday 09:00"])
def test_a_day_to_come_needs_its_time(text: str) -> None:
    with pytest.raises(ValueError, match=r"^it is"):
        moments.future(text, NOW)


@pytest.mark.parametrize(("text", "length"), [("1h", timedelta(hours=1)), ("30 min", timedelta(minutes=30))])
def test_lengths_of_time_are_read(text: str, length: timedelta) -> None:
    assert moments.duration(text) == length


@pytest.mark.parametrize("text", ["", "0s", "1", "tomorrow 09:00", "-1h"])
def test_what_is_no_length_is_said_so(text: str) -> None:
    with pytest.raises(ValueError, match="not a length"):
        moments.duration(text)


@given(st.text(max_size=30))
def test_nothing_typed_breaks_it(text: str) -> None:
    try:
        moment = moments.past(text, NOW)
    except ValueError:
        return
    assert moment.tzinfo is not None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(math.inf, "∞"), (0.04, "0.0 s"), (0.34, "0.3 s"), (59, "59 s"), (119, "119 s"), (120, "2 min"), (7199, "120 min"),
     (7200, "2 h"), (172_799, "48 h"), (172_800, "2 days")],
)  # fmt: skip
def test_lengths_of_time(seconds: float, text: str) -> None:
    assert moments.span(seconds) == text


def test_never() -> None:
    assert moments.ago(None, NOW) == "never"
    assert moments.span(None) == "–"


def test_a_moment_a_little_ahead_is_another_clock() -> None:
    assert moments.ago(NOW + timedelta(seconds=3), NOW) == "0.0 s ago"
    assert moments.ago(NOW + timedelta(hours=3), NOW) == "in 3 h"
