"""One page of Voicery's list, in every form that it may have."""

from typing import Any

import pytest

from dispatcher.decisions.listing import read_page
from dispatcher.decisions.reply import BodyFault, Reply, WireFault

ROW = {
    "id": 7,
    "campaign_id": 42,
    "phone_number": "+12025550101",
    "status": "created",
    "variables": {"a": 1},
    "secondary_contacts": [{"id": 8}],
}


def reply(body: Any, **more: Any) -> Reply:
    return Reply(status=200, body=body, **more)


def test_a_row_is_read_as_it_is_documented() -> None:
    page = read_page(reply({"data": [ROW], "last_page": 1, "total": 1}))
    assert page is not None
    (row,) = page.rows
    assert (row.voicery_lead_id, row.campaign_id, row.phone_number, row.status) == (7, 42, "+12025550101", "created")
    assert (row.variables, row.contacts) == ({"a": 1}, ({"id": 8},))
    assert page.complete


ODD_ROWS: dict[str, tuple[dict[str, Any], str, object]] = {
    "id as digits": ({"id": "7"}, "voicery_lead_id", 7),
    "id as a word": ({"id": "7f3a"}, "voicery_lead_id", None),
    "no id": ({"id": None}, "voicery_lead_id", None),
    "campaign nested": ({"campaign_id": None, "campaign": {"id": 42}}, "campaign_id", 42),
    "no campaign": ({"campaign_id": None}, "campaign_id", None),
    "number as integer": ({"phone_number": 12025550101}, "phone_number", "12025550101"),
    "no number": ({"phone_number": None}, "phone_number", ""),
    "number without digits": ({"phone_number": "hidden"}, "phone_number", ""),
    "variables as a list": ({"variables": []}, "variables", None),
    "status too long": ({"status": "x" * 200}, "status", "x" * 100),
    "contacts as text": ({"secondary_contacts": "none"}, "contacts", ()),
}


@pytest.mark.parametrize(("change", "name", "expected"), ODD_ROWS.values(), ids=ODD_ROWS)
def test_an_odd_row_is_read_with_distrust(change: dict[str, Any], name: str, expected: object) -> None:
    page = read_page(reply({"data": [{**ROW, **change}], "total": 1}))
    assert page is not None
    assert getattr(page.rows[0], name) == expected


def test_a_row_shows_nobody_when_it_is_printed() -> None:
    page = read_page(reply([ROW]))
    assert page is not None
    assert "0101" not in repr(page.rows)


COMPLETE: dict[str, tuple[Any, bool]] = {
    "one of one page": ({"data": [ROW], "last_page": 1}, True),
    "one of two pages": ({"data": [ROW], "last_page": 2}, False),
    "all of the total": ({"data": [ROW], "total": 1}, True),
    "a part of the total": ({"data": [ROW], "total": 2}, False),
    "a last page that the total contradicts": ({"data": [ROW], "last_page": 1, "total": 2}, False),
    "a next page": ({"data": [ROW], "next_page_url": "https://x/?page=2"}, False),
    "a next page beside a last one": ({"data": [ROW], "last_page": 1, "next_page_url": "https://x/?page=2"}, False),
    "a cursor": ({"data": [ROW], "meta": {"next_cursor": "abc"}}, False),
    "nested counts": ({"data": [ROW], "meta": {"last_page": 2}}, False),
    "wrapped": ({"data": {"data": [ROW], "last_page": 2}}, False),
    "without counts": ({"data": [ROW]}, False),
    "a bare list": ([ROW], False),
    "an empty list of no page": ({"data": [], "last_page": 0, "total": 0}, True),
    "a count that is true": ({"data": [ROW], "total": True}, False),
    "a count that is a fraction": ({"data": [ROW], "total": 1.5}, False),
    "shorter than a page size that it names": ({"data": [ROW], "per_page": 20}, False),
    "empty and without counts": ({"data": []}, False),
    "a long page that says it is the only one": (
        {"data": [{**ROW, "id": number} for number in range(20)], "last_page": 1},
        True,
    ),
    "a row twice": ({"data": [ROW, ROW], "total": 2}, False),
    "more rows than it counts": ({"data": [ROW], "total": 0}, False),
    "an empty list that counts itself": ({"data": [], "total": 0}, True),
    "pages counted in text": ({"data": [ROW], "last_page": "2"}, False),
    "a total in text": ({"data": [ROW], "total": "1"}, True),
    "counts that are no counts": ({"data": [ROW], "last_page": 2.5}, False),
    "a total that is no count beside a last page": ({"data": [ROW], "last_page": 1, "total": "many"}, False),
}


@pytest.mark.parametrize(("body", "complete"), COMPLETE.values(), ids=COMPLETE)
def test_a_page_is_all_there_is_only_if_nothing_says_otherwise(body: Any, *, complete: bool) -> None:
    page = read_page(reply(body))
    assert page is not None
    assert page.complete is complete


UNREADABLE = {
    "no answer": Reply(fault=WireFault.RESET),
    "another status": Reply(status=500, body={"data": []}),
    "another 2xx": Reply(status=202, body={"data": []}),
    "cut off": Reply(status=200, body={"data": []}, body_fault=BodyFault.TRUNCATED),
    "no list": Reply(status=200, body={"data": "none"}),
    "no JSON object": Reply(status=200, body="<html>"),
    "rows that are no objects": Reply(status=200, body={"data": [1]}),
    "empty body": Reply(status=200),
}


def test_the_first_page_is_asked_for_unless_another_is_named() -> None:
    assert read_page(reply({"data": [ROW], "total": 1, "current_page": 1})) is not None
    assert read_page(reply({"data": [ROW], "total": 1, "current_page": 2})) is None
    assert read_page(reply({"data": [ROW], "total": 1, "current_page": 2}), page=2) is not None


@pytest.mark.parametrize("answer", UNREADABLE.values(), ids=UNREADABLE)
def test_what_is_no_whole_page_is_none(answer: Reply) -> None:
    assert read_page(answer) is None
