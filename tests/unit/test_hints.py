"""What an answer says about the rate."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.decisions.hints import RateHints, rate_hints
from dispatcher.decisions.reply import Reply

NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)


def hints(body: object = None, **headers: str) -> RateHints:
    lower = {name.replace("_", "-"): value for name, value in headers.items()}
    return rate_hints(Reply(status=429, headers=lower, body=body), NOW)


def http_date(seconds: float) -> str:
    return format_datetime(NOW + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("30", 30), (" 30 ", 30), ("0.5", 1), ("0", 1), ("-5", 1), ("3600", 3600), ("99999999", 3600), ("1e300", 3600),
        ("", None), ("soon", None), ("inf", None), ("nan", None), ("9" * 5000, None),
        (http_date(60), 60), (http_date(-60), 1), (http_date(86400), 3600),
        ("7, 30", 30), ("30,7", 30), ("7, soon", None), ("2026-11-23T12:01:00Z", 60), ("2026-11-23T13:01:00+01:00", 60),
        ("Mon, 23 Nov 2026 12:01:00 -0000", 60), ("Mon, 99 Nov 2026 12:01:00 GMT", None),
    ],
)  # fmt: skip
def test_retry_after(header: str, seconds: float | None) -> None:
    assert hints(retry_after=header).retry_after_seconds == seconds


def test_a_date_is_compared_with_the_answers_own_clock() -> None:
    assert hints(retry_after=http_date(3600 + 90), date=http_date(3600)).retry_after_seconds == 90


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(60, 60), ("60", 60), (0, 1), (-3, 1), (10**400, None), (True, None), (None, None), ([60], None), ("x", None)],
)
def test_retry_after_in_the_body(value: object, seconds: float | None) -> None:
    assert hints({"retry_after": value}).retry_after_seconds == seconds


def test_the_header_is_heard_before_the_body() -> None:
    assert hints({"retry_after": 60}, retry_after="7").retry_after_seconds == 7


@pytest.mark.parametrize("body", [None, [], "retry_after", [{"retry_after": 3}]])
def test_a_body_of_another_shape_says_nothing(body: object) -> None:
    assert hints(body).retry_after_seconds is None


@pytest.mark.parametrize(("header", "remaining"), [("0", 0), ("17", 17), ("-1", None), ("x", None), ("1e99", 2**31)])
def test_remaining(header: str, remaining: int | None) -> None:
    assert hints(x_ratelimit_remaining=header).remaining == remaining


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("30", 30), ("0", 0), ("-4", 0), ("999999", 3600), (str(int(NOW.timestamp()) + 25), 25), ("1000000001", 0),
     (str(int(NOW.timestamp() + 25) * 1000), 25), ("2026-11-23T12:00:25Z", 25), (http_date(25), 25), ("x", None)],
)  # fmt: skip
def test_reset_is_a_wait_or_a_point_in_time(header: str, seconds: float | None) -> None:
    assert hints(x_ratelimit_reset=header).reset_seconds == seconds


def test_an_answer_without_hints_says_nothing() -> None:
    assert hints() == RateHints(None, None, None)


header_values = (
    st.text(max_size=40)
    | st.floats().map(str)
    | st.integers().map(str)
    | st.datetimes().map(lambda moment: format_datetime(moment.replace(tzinfo=UTC), usegmt=True))
    | st.from_regex(r"[A-Z][a-z]{2}, \d{1,3} [A-Z][a-z]{2} \d{1,6} \d{1,3}:\d{1,3}:\d{1,3} [+-]\d{1,6}", fullmatch=True)
)


@given(
    st.dictionaries(
        st.sampled_from(["retry-after", "date", "x-ratelimit-remaining", "x-ratelimit-reset"]), header_values
    ),
    st.none() | st.dictionaries(st.just("retry_after"), st.integers() | st.floats() | st.text() | st.none()),
)
def test_no_header_raises_and_all_hints_lie_within_their_bounds(headers: dict[str, str], body: object) -> None:
    found = rate_hints(Reply(status=429, headers=headers, body=body), NOW)

    assert found.retry_after_seconds is None or 1 <= found.retry_after_seconds <= 3600
    assert found.remaining is None or found.remaining >= 0
    assert found.reset_seconds is None or 0 <= found.reset_seconds <= 3600
