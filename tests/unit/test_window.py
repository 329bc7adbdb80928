"""A window put together from the pages of a list that grows, shrinks or moves while it is read."""

from collections.abc import Callable

import pytest

from dispatcher.decisions.listing import ListedLead, Page
from dispatcher.decisions.window import PAGES_MOST, Pass, Window

CAMPAIGN = 42
OLDEST = 1


def read(ids: Callable[[int], list[int]], *, back_to: int = OLDEST) -> Window:
    """Read a list, the newest lead first; `ids(n)` are its ids when its n-th page is asked for, from 1 on."""
    reading = Pass(CAMPAIGN, back_to)
    asked = 0
    while not reading.over:
        asked += 1
        of = ids(asked)
        size, start = reading.per_page, (reading.page - 1) * reading.per_page
        rows = tuple(ListedLead(one, CAMPAIGN, "+12025550100") for one in of[start : start + size])
        reading.add(Page(rows, complete=len(of) <= size, total=len(of), per_page=size))
    return reading.window()


def newest_first(most: int) -> list[int]:
    return list(range(most, 0, -1))


@pytest.mark.parametrize("before_page", range(2, 8))
@pytest.mark.parametrize("each", [1, 3, 40])
def test_a_list_that_grows_while_it_is_read_is_read_without_a_gap(before_page: int, each: int) -> None:
    """Also where it grew before a page that is not the last: what was added stands before all that follow."""
    window = read(lambda asked: newest_first(600 + each * (asked >= before_page)))
    assert window.fault is None
    assert [row.voicery_lead_id for row in window.rows] == newest_first(600)


def test_a_list_that_grows_before_every_page_is_read_without_a_gap() -> None:
    window = read(lambda asked: newest_first(600 + 2 * asked))
    assert window.fault is None
    assert [row.voicery_lead_id for row in window.rows] == newest_first(602)


@pytest.mark.parametrize("grows_by", [0, 1, 7, 20])
@pytest.mark.parametrize("most", [99, 100, 101, 199, 1_234, 3_000])
def test_a_long_list_is_read_without_a_gap_however_it_grows(most: int, grows_by: int) -> None:
    window = read(lambda asked: newest_first(most + grows_by * (asked - 1)))
    assert window.fault is None
    assert [row.voicery_lead_id for row in window.rows] == newest_first(most)
    assert window.pages <= most // (85 - grows_by) + 2


def test_a_window_of_more_pages_than_the_most_is_given_up() -> None:
    window = read(lambda _: newest_first(100 * PAGES_MOST))
    assert (window.pages, window.fault) == (PAGES_MOST, f"The window would be longer than {PAGES_MOST} pages")


def test_no_page_is_larger_than_voicery_allows_and_a_window_is_as_long_as_promised() -> None:
    """voicery-api.md: `per_page` 1-100; docs/guarantees.md: 60 pages."""
    assert (Pass(CAMPAIGN, OLDEST).per_page, PAGES_MOST) == (100, 60)


def test_an_empty_list_is_read_whole_and_a_list_that_was_not_read_has_no_pages() -> None:
    window = read(lambda _: [])
    assert (window.fault, window.rows, window.pages) == (None, (), 1)
    assert Window(CAMPAIGN, fault="It was not read").pages == 0


@pytest.mark.parametrize(("most", "pages"), [(300, 4), (301, 1)])
def test_a_list_in_another_order_is_read_to_its_end_only_if_it_is_short(most: int, pages: int) -> None:
    window = read(lambda _: newest_first(most)[::-1])
    assert window.pages == pages
    assert (window.fault is None, len(window.rows) == most) == (most == 300, most == 300)


@pytest.mark.parametrize("before_page", range(2, 13))
@pytest.mark.parametrize("place", [50, 500, 999])
def test_a_lead_that_leaves_a_long_list_while_another_comes_is_noticed_before_or_behind_it(
    before_page: int, place: int
) -> None:
    """The count stays: only the rows that two pages share tell of it."""

    def ids(asked: int) -> list[int]:
        listed = newest_first(1_000)
        return listed if asked < before_page else [1_001, *(one for one in listed if one != place)]

    window = read(ids)
    gone = place not in [row.voicery_lead_id for row in window.rows]
    assert window.fault is not None or not gone


@pytest.mark.parametrize("before_page", range(2, 7))
def test_a_list_that_lost_a_lead_is_not_believed(before_page: int) -> None:
    window = read(lambda asked: [one for one in newest_first(600) if asked < before_page or one != 590])
    assert window.fault == "The list lost leads while it was read"


@pytest.mark.parametrize("before_page", range(2, 7))
def test_a_list_that_moved_a_lead_to_its_front_is_not_believed(before_page: int) -> None:
    window = read(lambda asked: newest_first(600) if asked < before_page else [3, *newest_first(600)[:-3], 2, 1])
    assert window.fault is not None


def page(*ids: int | None, total: int | None = 250, per_page: int | None = None) -> Page:
    rows = tuple(ListedLead(one, CAMPAIGN, "+12025550100") for one in ids)
    return Page(rows, complete=False, total=total, per_page=per_page)


FIRST = page(*range(250, 150, -1))
JOINS = tuple(range(151, 52, -1))  # the second page, of 99, begins with the last row of the first
PAGES: dict[str, tuple[list[Page | None], str]] = {
    "none at all": ([None], "The list could not be had"),
    "none after the first": ([FIRST, None], "The list could not be had"),
    "no count": ([page(*range(250, 150, -1), total=None)], "The list does not say how many leads it has"),
    "no count after the first": ([FIRST, page(*JOINS, total=None)], "The list does not say how many leads it has"),
    "another size": ([FIRST, page(*range(150, 50, -1), per_page=100)], "The list does not heed the size of a page"),
    "a row too few": ([page(*range(250, 151, -1))], "The list shows another number of leads than it counts"),
    "a row too many": ([page(*range(250, 149, -1))], "The list shows another number of leads than it counts"),
    "a row beyond the count": ([page(2, 1, total=1)], "The list shows another number of leads than it counts"),
    "a lower count": ([FIRST, page(*JOINS, total=249)], "The list lost leads while it was read"),
    "an id that is none": ([page(*range(250, 151, -1), None)], "The list has ids that are no integers"),
    "an id twice in a page": ([page(*range(250, 151, -1), 152)], "The list shows a lead twice"),
    "an id of an earlier page": ([FIRST, page(*JOINS[:-1], 249)], "The list shows a lead twice"),
    "pages that do not join": ([FIRST, page(*range(150, 51, -1))], "The list moved leads between two of its pages"),
    "more leads than a page": ([FIRST, page(*range(300, 201, -1), total=400)], "The list moved leads between two"),
}


@pytest.mark.parametrize(("pages", "fault"), PAGES.values(), ids=PAGES.keys())
def test_a_page_that_contradicts_what_was_read_ends_the_pass(pages: list[Page | None], fault: str) -> None:
    reading = Pass(CAMPAIGN, OLDEST)
    for one in pages:
        assert not reading.over
        reading.add(one)
    assert reading.over
    assert (reading.window().fault or "").startswith(fault)


def test_the_first_page_of_a_list_may_have_a_size_of_its_own() -> None:
    reading = Pass(CAMPAIGN, OLDEST)
    reading.add(page(*range(3, 0, -1), total=3, per_page=50))
    assert (reading.over, reading.window().fault) == (True, None)


def test_a_pass_ends_with_the_lead_that_it_has_to_reach() -> None:
    window = read(lambda _: newest_first(3_000), back_to=2_950)
    assert (window.pages, window.fault) == (1, None)


def test_a_pass_that_was_not_finished_is_not_believed_in_an_order_that_may_hide_the_rest() -> None:
    reading = Pass(CAMPAIGN, OLDEST)
    reading.add(page(*range(1, 101)))
    assert not reading.over
    assert "order" in (reading.window().fault or "")


def by_time(seconds: dict[int, int], *, back_to: int, shown: bool = True) -> Window:
    """Read a list that is ordered by time of creation alone: of one second, the oldest comes first."""
    listed = sorted(seconds, key=lambda one: (-seconds[one], one))
    reading = Pass(CAMPAIGN, back_to)
    while not reading.over:
        size, start = reading.per_page, (reading.page - 1) * reading.per_page
        rows = tuple(
            ListedLead(one, CAMPAIGN, "+12025550100", created_at=f"12:00:{seconds[one]:02d}" if shown else None)
            for one in listed[start : start + size]
        )
        reading.add(Page(rows, complete=False, total=len(listed), per_page=size))
    return reading.window()


@pytest.mark.parametrize("newer", [98, 99, 100])
def test_leads_of_the_same_second_are_read_to_the_last_of_them(newer: int) -> None:
    """A page may end between the lead to reach and a later one that was created in the same second."""
    seconds = dict.fromkeys(range(1, 21), 0) | {20: 1, 21: 1} | {one: one for one in range(22, 22 + newer)}
    window = by_time(seconds, back_to=20)
    assert window.fault is None
    assert 21 in [row.voicery_lead_id for row in window.rows]


def test_a_long_list_in_the_order_of_its_times_of_creation_is_believed() -> None:
    seconds = {one: one // 7 for one in range(1, 500)}
    window = by_time(seconds, back_to=100)
    assert window.fault is None
    assert {row.voicery_lead_id for row in window.rows} >= set(range(100, 500))
    assert window.pages <= 6


def test_a_long_list_in_an_order_that_it_does_not_show_is_not() -> None:
    window = by_time({one: one // 7 for one in range(1, 500)}, back_to=100, shown=False)
    assert window.fault is not None
    assert "order" in window.fault


def test_a_lead_out_of_the_order_of_times_is_noticed() -> None:
    window = by_time({one: one // 7 for one in range(1, 500)} | {490: 3}, back_to=100)
    assert window.fault is not None
    assert "order" in window.fault
