"""Times as people type them."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.cli import moments

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
@pytest.mark.parametrize("parse", [lambda text: moments.past(text, NOW), moments.future], ids=["past", "future"])
def test_what_is_no_time_is_said_so(text: str, parse: object) -> None:
    with pytest.raises(typer.BadParameter):
        parse(text)  # type: ignore[operator]


def test_moments_to_come() -> None:
    assert moments.future("2h") == timedelta(hours=2)
    zone = timezone(timedelta(hours=1))
    assert moments.future("2026-12-24T18:00+01:00") == datetime(2026, 12, 24, 18, tzinfo=zone)
    with pytest.raises(typer.BadParameter, match="no time zone"):
        moments.future("2026-12-24T18:00")


@given(st.text(max_size=30))
def test_nothing_typed_breaks_it(text: str) -> None:
    try:
        moment = moments.past(text, NOW)
    except typer.BadParameter:
        return
    assert moment.tzinfo is not None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (0.34, "0.3 s"), (59, "59 s"), (119, "119 s"), (120, "2 min"), (7199, "120 min"),
     (7200, "2 h"), (172_799, "48 h"), (172_800, "2 days")],
)  # fmt: skip
def test_lengths_of_time(seconds: float, text: str) -> None:
    assert moments.span(seconds) == text


def test_never() -> None:
    assert moments.ago(None, NOW) == "never"
    assert moments.ago(NOW + timedelta(seconds=3), NOW) == "0.0 s ago"
