"""Bulk work acts on as many leads as were confirmed, and nobody empties the console by downloads."""

import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from dispatcher.console.auth import Role
from dispatcher.console.export_limit import EXPORT_SECONDS, EXPORTS, MOST_ROWS, ROW_SECONDS, ROWS, wait_of
from dispatcher.operator.failure_filter import FailureFilter
from dispatcher.operator.operation_work import OperationKind
from dispatcher.operator.operations import Operations, SelectionChanged
from tests.console.conftest import Browser, Seat
from tests.support.rows import Rows


def stored(rows: Rows) -> int:
    return int(rows.one("SELECT count(*) AS n FROM dispatcher.operations").n)


def start(browser: Browser, **fields: Any) -> Any:
    given = {"verb": "replay", "scope": "all", "filters": "", "action": str(uuid.uuid4()), "campaign_id": "",
             "previewed_campaign": "", **fields}  # fmt: skip
    return browser.post("/operations", given)


@pytest.mark.parametrize("total", ["1", "0", "4", "6", "100"])
def test_a_total_that_was_not_confirmed_takes_no_lead(seat: Seat, rows: Rows, total: str) -> None:
    for number in range(5):
        rows.failed(phone=f"+44770090010{number}")
    answer = start(seat.browser(Role.OPERATOR), total=total)
    assert answer.status_code == 400
    assert "5 leads are selected now" in answer.text
    assert stored(rows) == 0
    assert [one[1] for one in rows.audited()] == []
    assert start(seat.browser(Role.OPERATOR), total="5").status_code == 303
    assert stored(rows) == 1


def test_a_selection_by_id_is_compared_too(seat: Seat, rows: Rows) -> None:
    leads = [rows.failed(phone=f"+44770090010{number}") for number in range(3)]
    browser = seat.browser(Role.OPERATOR)
    fields = [("verb", "replay"), ("scope", "selected"), ("filters", ""), ("action", str(uuid.uuid4())),
              ("campaign_id", ""), ("previewed_campaign", ""), *(("lead", lead) for lead in leads)]  # fmt: skip
    assert browser.post("/operations", [*fields, ("total", "1")]).status_code == 400
    assert stored(rows) == 0
    assert browser.post("/operations", [*fields, ("total", "3")]).status_code == 303


def test_the_total_is_compared_where_the_leads_are_stored(rows: Rows) -> None:
    rows.failed(phone="+447700900100")
    operations = Operations(rows.database)
    with pytest.raises(SelectionChanged, match="1 leads are selected now, and 2 were confirmed"):
        operations.start(uuid.uuid4(), OperationKind.REPLAY, FailureFilter(), actor="olga", expected=2)
    assert stored(rows) == 0
    assert rows.one("SELECT count(*) AS n FROM dispatcher.operation_leads").n == 0


def test_a_repeated_click_is_the_same_operation_whatever_its_total(rows: Rows) -> None:
    rows.failed(phone="+447700900100")
    operations, one = Operations(rows.database), uuid.uuid4()
    for expected in (1, 7):
        operation = operations.start(one, OperationKind.REPLAY, FailureFilter(), actor="olga", expected=expected)
        assert operation.total == 1


def test_thirty_exports_in_a_row_are_too_many(seat: Seat, rows: Rows) -> None:
    rows.failed(phone="+447700900100")
    browser, other = seat.browser(Role.OPERATOR), seat.browser(Role.ADMIN)
    answers = [browser.post("/failed/export", {"format": "csv", "filters": ""}) for _ in range(30)]
    assert [one.status_code for one in answers].count(200) == EXPORTS
    refused = answers[-1]
    assert refused.status_code == 429
    assert 0 < int(refused.headers["retry-after"]) <= EXPORT_SECONDS
    assert [one[1] for one in rows.audited()] == ["export"] * EXPORTS
    again = seat.browser(Role.OPERATOR)
    assert again.post("/failed/export", {"format": "json", "filters": ""}).status_code == 429, "another session"
    assert other.post("/failed/export", {"format": "csv", "filters": ""}).status_code == 200, "another user"


def test_exports_of_rejected_rows_count_too(seat: Seat, rows: Rows) -> None:
    rows.run(
        "INSERT INTO dispatcher.imports (batch_id, file_name, account, actor, rejected)"
        " VALUES (gen_random_uuid(), 'leads.csv', 'default', 'ada', 0)"
    )
    number = rows.one("SELECT id FROM dispatcher.imports").id
    browser = seat.browser(Role.OPERATOR)
    for _ in range(EXPORTS):
        assert browser.post(f"/imports/{number}/export").status_code == 200
    assert browser.post(f"/imports/{number}/export").status_code == 429
    assert browser.post("/failed/export", {"format": "csv", "filters": ""}).status_code == 429


def test_an_export_is_whole_or_refused(seat: Seat, rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dispatcher.console.export_limit.MOST_ROWS", 2)
    for number in range(3):
        rows.failed(phone=f"+44770090010{number}")
    answer = seat.browser(Role.OPERATOR).post("/failed/export", {"format": "csv", "filters": ""})
    assert answer.status_code == 409
    assert "narrow the filters" in answer.text
    assert [one[1] for one in rows.audited()] == ["export_refused"]


def test_rows_are_counted_over_an_hour() -> None:
    whole = [(EXPORT_SECONDS * number, MOST_ROWS) for number in range(ROWS // MOST_ROWS)]
    assert wait_of(whole) == ROW_SECONDS - whole[-1][0]
    assert wait_of(whole[:-1]) == 0
    assert wait_of([(age + ROW_SECONDS, rows) for age, rows in whole]) == 0
    assert wait_of([(1.0, 1)] * EXPORTS) == EXPORT_SECONDS - 1
    assert wait_of([(1.0, 1)] * (EXPORTS - 1)) == 0


def test_parallel_exports_in_two_consoles_are_counted_together(make_seat: Callable[..., Seat], rows: Rows) -> None:
    rows.failed(phone="+447700900100")
    browsers = [make_seat().browser(Role.OPERATOR) for _ in range(2)]
    with ThreadPoolExecutor(6) as pool:
        form = {"format": "csv", "filters": ""}
        sent = [pool.submit(browsers[number % 2].post, "/failed/export", form) for number in range(2 * EXPORTS)]
        statuses = [one.result().status_code for one in sent]
    assert sorted(statuses) == [200] * EXPORTS + [429] * EXPORTS
