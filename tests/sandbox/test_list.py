"""The list endpoint: pagination, filters, and its lies on demand."""

from typing import Any

import pytest
import requests

from dispatcher.sandbox.fault import FaultName, Rule
from tests.sandbox.client import Client, Start, lead


def fill(api: Client, count: int, **more: Any) -> None:
    for n in range(count):
        assert api.post(lead(f"+1202555{100 + n:04d}", **more)).status_code == 200


def ids(answer: requests.Response) -> list[int]:
    return [row["id"] for row in answer.json()["data"]]


def test_pages_are_laravels_and_newest_come_first(start: Start) -> None:
    api = start()
    fill(api, 7)
    page = api.list(per_page=3, page=2)
    assert ids(page) == [4, 3, 2]
    body = page.json()
    assert {name: body[name] for name in ("current_page", "last_page", "per_page", "total", "from", "to")} == {
        "current_page": 2,
        "last_page": 3,
        "per_page": 3,
        "total": 7,
        "from": 4,
        "to": 6,
    }
    assert body["next_page_url"].endswith("per_page=3&page=3")
    assert body["prev_page_url"].endswith("per_page=3&page=1")


def test_the_last_page_has_no_next_and_one_beyond_it_is_empty(start: Start) -> None:
    api = start()
    fill(api, 2)
    assert api.list().json()["next_page_url"] is None
    assert api.list().json()["per_page"] == 15
    assert ids(api.list(page=9)) == []


@pytest.mark.parametrize("per_page", [0, 101, "x"])
def test_a_page_size_outside_1_to_100_is_refused(start: Start, per_page: Any) -> None:
    assert start().list(per_page=per_page).status_code == 422


def test_a_part_of_the_number_is_enough_so_neighbours_match_too(start: Start) -> None:
    api = start()
    api.post(lead("+12025550100"))
    api.post(lead("+112025550100"))
    api.post(lead("+12025550111"))
    assert ids(api.list(phone_number="+12025550100")) == [2, 1]
    assert ids(api.list(phone_number="5550111")) == [3]
    assert ids(api.list(phone_number="999")) == []


def test_filters_narrow_the_list(start: Start) -> None:
    api = start(utc_offset_hours=14)
    fill(api, 1)
    fill(api, 1, campaign_id=43)
    day = api.list().json()["data"][0]["created_at"][:10]
    assert ids(api.list(campaign_id=43)) == [2]
    assert ids(api.list(status="created")) == [2, 1]
    assert ids(api.list(status="completed")) == []
    assert ids(api.list(date_from=day, date_to=day)) == [2, 1]
    assert ids(api.list(date_to="2001-01-01")) == []
    assert ids(api.list(date_from="2999-01-01")) == []
    assert api.list(date_from="yesterday").status_code == 422


def test_rows_echo_variables_and_contacts(start: Start) -> None:
    api = start()
    api.post(lead(variables={"ref": "r1"}, secondary_contacts=[{"phone_number": "+12025550177"}]))
    row = api.list().json()["data"][0]
    assert row["variables"] == {"ref": "r1"}
    assert row["secondary_contacts"][0]["id"] == 2


def test_the_list_needs_a_token_too(start: Start) -> None:
    assert start().list(token="").status_code == 401


def test_a_stale_list_lacks_young_leads(start: Start) -> None:
    api = start(faults=(Rule(fault=FaultName.STALE, seconds=60), Rule(fault=FaultName.STALE, seconds=0)))
    fill(api, 1)
    assert ids(api.list()) == []
    assert ids(api.list()) == [1]


def test_missing_controls_hides_exactly_the_answered_leads(start: Start) -> None:
    api = start()
    fill(api, 1)
    api.sandbox.faults.add(Rule(fault=FaultName.INTERNAL_ERROR))
    api.post(lead("+12025550150"))
    api.sandbox.faults.add(Rule(fault=FaultName.MISSING_CONTROLS))
    assert ids(api.list()) == [2]
    assert ids(api.list()) == [2, 1]


@pytest.mark.parametrize(("rows", "second_page"), [(1, [2, 1]), (-1, [4, 3])])
def test_shifting_pages_skip_or_repeat_rows(start: Start, rows: int, second_page: list[int]) -> None:
    api = start()
    fill(api, 5)
    api.sandbox.faults.add(Rule(fault=FaultName.SHIFTING_PAGES, rows=rows, times=None))
    assert ids(api.list(per_page=2)) == [5, 4]
    assert ids(api.list(per_page=2, page=2)) == second_page


def test_a_bare_list_has_rows_and_no_pagination(start: Start) -> None:
    api = start(faults=(Rule(fault=FaultName.BARE_LIST),))
    fill(api, 1)
    assert list(api.list().json()) == ["data"]


@pytest.mark.parametrize(("fault", "status"), [("500", 500), ("404", 404), ("405", 405), ("502", 502)])
def test_the_list_can_answer_with_an_error_while_creations_go_on(start: Start, fault: str, status: int) -> None:
    api = start(faults=(Rule(fault=FaultName(fault), method="GET"),))
    assert api.post().status_code == 200
    assert api.list().status_code == status
    assert api.list().status_code == 200


# Lies -----------------------------------------------------------------------------------------------------------------


def lying(start: Start, fault: FaultName, count: int = 4, **more: Any) -> Client:
    """A sandbox with leads 1 to `count`, whose list tells this lie for good."""
    api = start()
    fill(api, count, variables={"ref": "r"})
    api.sandbox.faults.add(Rule(fault=fault, times=None, **more))
    return api


@pytest.mark.parametrize(
    ("fault", "more", "shown"),
    [
        (FaultName.OLDEST_FIRST, {}, [1, 2, 3, 4]),
        (FaultName.CUT_LIST, {"rows": 2}, [4, 3]),
        (FaultName.HOLES, {"rows": 1}, [3, 1]),
        (FaultName.DOUBLED_ROWS, {}, [4, 4, 3, 3, 2, 2, 1, 1]),
        (FaultName.SHORT_PAGES, {"rows": 1}, [4, 3, 2]),
    ],
)
def test_a_list_shows_other_rows_than_there_are(
    start: Start, fault: FaultName, more: dict[str, Any], shown: list[int]
) -> None:
    assert ids(lying(start, fault, **more).list()) == shown


def test_a_shuffled_list_has_all_rows_in_no_order(start: Start) -> None:
    shown = ids(lying(start, FaultName.SHUFFLED_LIST, 8).list())
    assert sorted(shown) == list(range(1, 9))
    assert shown not in (sorted(shown), sorted(shown, reverse=True))


@pytest.mark.parametrize(
    ("fault", "total"), [(FaultName.CUT_LIST, 1), (FaultName.SHORT_PAGES, 4), (FaultName.WRONG_TOTAL, 5)]
)
def test_a_list_counts_what_it_does_not_show_or_not_what_there_is(start: Start, fault: FaultName, total: int) -> None:
    assert lying(start, fault).list().json()["total"] == total


@pytest.mark.parametrize(
    ("form", "number", "found"),
    [
        ("national", "0025550100", []),
        ("mobile", "+121025550100", []),
        ("spaced", "+12 025 550 100", [1]),  # as with Voicery, separators do not matter for a search
    ],
)
def test_a_list_shows_and_finds_numbers_in_another_form(start: Start, form: str, number: str, found: list[int]) -> None:
    api = lying(start, FaultName.OTHER_FORM, 1, body=form)
    assert [row["phone_number"] for row in api.list().json()["data"]] == [number]
    assert ids(api.list(phone_number="+12025550100")) == found


def test_a_list_masks_the_end_of_numbers(start: Start) -> None:
    (row,) = lying(start, FaultName.MASKED_NUMBERS, 1).list().json()["data"]
    assert row["phone_number"] == "+1202555•••"


def test_a_list_does_not_echo_variables(start: Start) -> None:
    (row,) = lying(start, FaultName.NO_VARIABLES, 1).list().json()["data"]
    assert row["variables"] == {}


def test_a_list_hides_leads_of_a_status(start: Start) -> None:
    api = lying(start, FaultName.HIDDEN_STATUS, 2)
    api.sandbox.set_status(1, "completed")
    assert ids(api.list()) == [2]


@pytest.mark.parametrize(
    ("ignored", "query"), [("phone_number", {"phone_number": "5550101"}), ("campaign_id", {"campaign_id": 43})]
)
def test_a_list_ignores_a_filter(start: Start, ignored: str, query: dict[str, Any]) -> None:
    api = lying(start, FaultName.FILTER_IGNORED, 2, body=ignored)
    assert ids(api.list(**query)) == [2, 1]


def test_a_cached_list_lacks_what_came_after_it_was_first_asked_for(start: Start) -> None:
    api = lying(start, FaultName.CACHED_LIST, 2)
    assert ids(api.list()) == [2, 1]
    api.post(lead("+12025550150"))
    assert ids(api.list()) == [2, 1]


def test_a_list_shows_only_what_the_same_token_created(start: Start) -> None:
    api = lying(start, FaultName.OWN_TOKEN, 1)
    api.post(lead("+12025550150"), token="another")
    assert (ids(api.list()), ids(api.list(token="another"))) == ([1], [2])


def test_a_list_answers_every_page_with_its_first(start: Start) -> None:
    api = lying(start, FaultName.FIRST_PAGE_ONLY)
    assert (ids(api.list(per_page=2)), ids(api.list(per_page=2, page=2))) == ([4, 3], [4, 3])


def test_a_creation_is_filed_under_the_next_campaign_while_the_client_hears_nothing(start: Start) -> None:
    api = start(faults=(Rule(fault=FaultName.MISFILED, answer=FaultName.CLOSE),))
    with pytest.raises(requests.ConnectionError):
        api.post()
    assert (ids(api.list(campaign_id=42)), ids(api.list(campaign_id=43))) == ([], [1])
