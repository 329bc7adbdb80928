"""Times of callers: instants are compared in UTC, and what is no instant is refused by one sentence."""

from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from dispatcher import moments
from dispatcher.errors import InvalidLead, NotAllowed
from dispatcher.importing.row import moment_of_cell
from dispatcher.lead.candidate import earliest, latest
from dispatcher.lead.options import SubmitOptions
from dispatcher.operator.failure_filter import FailureFilter
from dispatcher.store.statement import first_id, start_values

BERLIN, NEW_YORK = ZoneInfo("Europe/Berlin"), ZoneInfo("America/New_York")
NOW = datetime(2026, 10, 1, tzinfo=UTC)


def october(hour: int, minute: int, fold: int) -> datetime:
    """In the night of 25 October 2026, when Berlin's clocks go from 03:00 back to 02:00 (IANA tz database)."""
    return datetime(2026, 10, 25, hour, minute, fold=fold, tzinfo=BERLIN)


def refused(**options: Any) -> dict[str, str]:
    try:
        SubmitOptions(**options)
    except InvalidLead as refusal:
        return {error.field: error.fault for error in refusal.errors}
    return {}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (october(2, 30, 0), october(2, 15, 1)),
        (october(2, 30, 0), october(2, 30, 1)),
        (october(1, 59, 0), october(2, 0, 1)),
        (october(2, 59, 1), october(3, 0, 0)),
        (october(2, 30, 0), datetime(2026, 10, 25, 0, 31, tzinfo=UTC)),
        (datetime(2026, 11, 1, 1, 30, tzinfo=NEW_YORK), datetime(2026, 11, 1, 1, 10, fold=1, tzinfo=NEW_YORK)),
    ],
)
def test_the_hour_that_comes_twice_is_in_order(first: datetime, second: datetime) -> None:
    """PEP 495: times of one zone compare by their clocks, whatever their fold."""
    options = SubmitOptions(not_before=first, expires_at=second)

    assert (earliest(options, NOW), latest(options, NOW)) == (first.astimezone(UTC), second.astimezone(UTC))
    assert refused(not_before=second, expires_at=first) == {"expires_at": "leaves no time for a delivery"}
    assert refused(not_before=first, expires_at=first) == {"expires_at": "leaves no time for a delivery"}


def test_a_start_within_the_hour_that_comes_twice_is_the_right_instant() -> None:
    assert start_values(october(2, 30, 0))["at"] == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    assert start_values(october(2, 30, 1))["at"] == datetime(2026, 10, 25, 1, 30, tzinfo=UTC)
    now = october(2, 45, 0).astimezone(BERLIN)  # "now" of the same zone, half an hour before 02:15 comes again
    assert earliest(SubmitOptions(not_before=october(2, 15, 1)), now) == datetime(2026, 10, 25, 1, 15, tzinfo=UTC)


@pytest.mark.parametrize("fold", [0, 1])
def test_the_hour_that_is_skipped_is_an_instant_too(fold: int) -> None:
    """29 March 2026, 02:30 in Berlin: PEP 495 reads it by the offset before (0) or after (1) the change."""
    skipped = datetime(2026, 3, 29, 2, 30, fold=fold, tzinfo=BERLIN)
    assert SubmitOptions(not_before=skipped).not_before == datetime(2026, 3, 29, 1 - fold, 30, tzinfo=UTC)
    later = datetime(2026, 3, 29, 3, 45, tzinfo=BERLIN)
    assert refused(not_before=skipped, expires_at=later) == {}


class Broken(tzinfo):
    """A caller's own zone."""

    def __init__(self, offset: Any) -> None:
        self._offset = offset

    def utcoffset(self, dt: datetime | None) -> Any:
        if isinstance(self._offset, Exception):
            raise self._offset
        return self._offset


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        (datetime(2030, 1, 1), "has no time zone"),  # noqa: DTZ001 - that is the point
        (datetime(2030, 1, 1, tzinfo=Broken(None)), "has no time zone"),
        (datetime(2030, 1, 1, tzinfo=Broken(timedelta(days=2))), "is no time, or has a time zone without an offset"),
        (datetime(2030, 1, 1, tzinfo=Broken(5)), "is no time, or has a time zone without an offset"),
        (datetime(2030, 1, 1, tzinfo=Broken(ValueError())), "is no time, or has a time zone without an offset"),
        (datetime(2030, 1, 1).date(), "is of type date, not a time"),  # noqa: DTZ001 - as above
        (datetime.max.replace(tzinfo=timezone(timedelta(hours=-5))), "is not in a year from 2000 to 9998"),
        (datetime.min.replace(tzinfo=timezone(timedelta(hours=5))), "is not in a year from 2000 to 9998"),
        (datetime(1999, 12, 31, 23, tzinfo=UTC), "is not in a year from 2000 to 9998"),
        (timedelta.max, "lies more than ten years ahead"),
        (timedelta.min, "lies in the past"),
        (timedelta(microseconds=-1), "lies in the past"),
        ("2030-01-01T00:00Z", "is of type str, not a time"),
        (float("nan"), "is of type float, not a time"),
    ],
)
def test_what_is_no_instant_is_refused_alike_in_submit_and_replay(value: Any, fault: str) -> None:
    assert refused(not_before=value) == {"not_before": fault}
    assert refused(expires_at=value) == {"expires_at": fault}
    with pytest.raises(NotAllowed, match=f"^not_before: {fault}; pass an aware datetime, e.g. "):
        start_values(value)


def test_an_offset_with_seconds_is_an_instant() -> None:
    """Amsterdam until 1937, +00:19:32; Python has such offsets since 3.7."""
    zone = timezone(timedelta(hours=1, minutes=2, seconds=3))
    expected = datetime(2030, 1, 1, 10, 57, 57, tzinfo=UTC)
    assert SubmitOptions(not_before=datetime(2030, 1, 1, 12, tzinfo=zone)).not_before == expected
    assert moment_of_cell("2030-01-01T12:00+01:02:03", "not_before") == expected
    assert moments.future("2030-01-01T12:00+01:02:03", NOW) == expected


@pytest.mark.parametrize("text", ["0001-01-01T00:00+14:00", "9999-12-31T23:59-12:00", "1969-12-31T23:59Z"])
def test_a_year_out_of_range_is_said_so_on_the_command_line(text: str) -> None:
    for read in (moments.past, moments.future):
        with pytest.raises(ValueError, match=r"it is not in a year from 1970 to 9998; write e\.g\."):
            read(text, NOW)
    assert first_id(datetime(1970, 1, 1, tzinfo=timezone(timedelta(hours=14)))).version == 7


@pytest.mark.parametrize("name", ["submitted_since", "submitted_before", "failed_since", "failed_before"])
def test_a_filter_by_a_time_without_its_zone_is_refused(name: str) -> None:
    for value in (datetime(2026, 1, 1), timedelta(hours=1), "2026-01-01"):  # noqa: DTZ001 - as above
        with pytest.raises(ValueError, match=f"{name} is not an aware datetime"):
            FailureFilter.parse({name: value})
    assert getattr(FailureFilter.parse({name: NOW}), name) == NOW
