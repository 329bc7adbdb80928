"""The options of one submit: what each may be, and that all faults come at once."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest

from dispatcher.errors import InvalidLead
from dispatcher.lead.options import SubmitOptions, check_account

ID = UUID("0197c0de-0000-7000-8000-000000000001")
NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def faults(**options: Any) -> dict[str, str]:
    with pytest.raises(InvalidLead) as caught:
        SubmitOptions.parse(options)
    return {error.field: error.fault for error in caught.value.errors}


def test_no_options_are_the_defaults() -> None:
    options = SubmitOptions()

    assert (options.id, options.idempotency_key, options.priority) == (None, None, 0)
    assert (options.not_before, options.expires_at) == (None, None)
    assert SubmitOptions.parse({}) == options


def test_a_mapping_and_keyword_arguments_make_the_same_options() -> None:
    fields: dict[str, Any] = {
        "id": str(ID),
        "idempotency_key": "crm-17",
        "priority": 9,
        "not_before": NOON,
        "expires_at": HOUR,
    }

    options = SubmitOptions(**fields)

    assert options == SubmitOptions.parse(fields)
    assert SubmitOptions.parse(options) is options
    assert options.id == ID
    assert (options.not_before, options.expires_at) == (NOON, HOUR)


def test_every_fault_is_reported_at_once() -> None:
    bad = {
        "id": 7,
        "idempotency_key": "",
        "priority": 10,
        "not_before": "noon",
        "expires_at": NOON.replace(tzinfo=None),
    }

    assert faults(**bad, prio=1) == {
        "options.prio": "is not a known field",
        "id": "is not a UUID",
        "idempotency_key": "is empty",
        "priority": "is not an integer from 0 to 9",
        "not_before": "is of type str, not a time",
        "expires_at": "has no time zone",
    }


@pytest.mark.parametrize("priority", [True, -1, 10, 1.0, "5", None])
def test_a_priority_is_an_integer_from_0_to_9(priority: object) -> None:
    assert list(faults(priority=priority)) == ["priority"]


@pytest.mark.parametrize("value", ["", "   ", "x" * 201, "a\0", "a\nb", "\u202eevil", "\ud800", 17, b"x"])
def test_a_key_is_printable_text(value: object) -> None:
    assert list(faults(idempotency_key=value)) == ["idempotency_key"]


@pytest.mark.parametrize("value", ["x", "x" * 200, "zahlung 17 – é"])
def test_a_key_is_kept_as_it_is(value: str) -> None:
    assert SubmitOptions(idempotency_key=value).idempotency_key == value


@pytest.mark.parametrize("value", ["", "17", 17, "x" * 36])
def test_an_id_is_a_uuid(value: object) -> None:
    assert list(faults(id=value)) == ["id"]


@pytest.mark.parametrize("name", ["not_before", "expires_at"])
@pytest.mark.parametrize(
    ("value", "fault"),
    [
        (datetime(2030, 1, 1), "has no time zone"),  # noqa: DTZ001  (that is the point)
        (-HOUR, "lies in the past"),
        (timedelta(days=3661), "lies more than ten years ahead"),
        (timedelta.max, "lies more than ten years ahead"),
        (datetime(9999, 12, 31, 23, tzinfo=timezone(-HOUR * 5)), "is not in a year from 2000 to 9998"),
        (datetime(1, 1, 1, tzinfo=timezone(HOUR)), "is not in a year from 2000 to 9998"),
        (1893456000, "is of type int, not a time"),
        (NOON.date(), "is of type date, not a time"),
    ],
)
def test_a_time_is_one_that_the_database_can_keep(name: str, value: object, fault: str) -> None:
    assert faults(**{name: value}) == {name: fault}


@pytest.mark.parametrize(
    ("not_before", "expires_at"),
    [(NOON, NOON), (NOON, NOON - HOUR), (HOUR, HOUR), (HOUR * 2, HOUR), (None, timedelta(0)), (NOON, timedelta(0))],
)
def test_times_that_leave_no_time_are_refused(not_before: object, expires_at: object) -> None:
    assert faults(not_before=not_before, expires_at=expires_at) == {"expires_at": "leaves no time for a delivery"}


@pytest.mark.parametrize(
    ("not_before", "expires_at"),
    [
        (NOON, NOON + HOUR),
        (NOON, NOON.astimezone(timezone(-HOUR)) + HOUR),
        (timedelta(0), HOUR),
        (NOON, HOUR),  # only the database's clock can tell
        (HOUR, NOON),
        (None, NOON),
    ],
)
def test_times_in_order_are_kept(not_before: Any, expires_at: Any) -> None:
    options = SubmitOptions(not_before=not_before, expires_at=expires_at)

    assert (options.not_before, options.expires_at) == (not_before, expires_at)


@pytest.mark.parametrize("name", ["default", "a", "north_1", "x" * 40])
def test_a_name_of_an_account(name: str) -> None:
    assert check_account(name) == name


@pytest.mark.parametrize("name", ["", "x" * 41, "Sales", "a-b", "a b", "a\n", "é", None, 7])
def test_what_is_no_name_of_an_account(name: object) -> None:
    with pytest.raises(InvalidLead):
        check_account(name)
