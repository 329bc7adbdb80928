"""The overview is read once for all who look at it within a few seconds, and says of when its figures are."""

import re
import threading
from collections.abc import Callable

import pytest

from dispatcher.console.auth import Role
from dispatcher.console.chart import RANGES
from dispatcher.console.pages import overview
from dispatcher.console.recent import FIGURES_SECONDS, Recent
from dispatcher.operator import activity
from dispatcher.operator.activity import Activity
from dispatcher.store.reading import ReadConnection
from dispatcher.store.trouble import TryAgain
from tests.console.conftest import Browser, Seat
from tests.support.doubles import Clock
from tests.support.rows import BOB, Rows


def waiting(browser: Browser) -> int:
    """The number in the first tile of the overview."""
    return int(re.search(r"<span>Waiting</span><b>(\d+)</b>", browser.get("/").text)[1])  # type: ignore[index]


def as_of(browser: Browser, what: str) -> str:
    return re.search(rf"{what} as of ([-0-9: .]+) UTC", browser.get("/").text)[1]  # type: ignore[index]


def test_two_people_see_one_reading_and_its_time(seat: Seat, rows: Rows) -> None:
    first, second = seat.browser(Role.VIEWER), seat.browser(Role.ADMIN)
    rows.lead()
    assert waiting(first) == 1
    read = as_of(first, "Figures"), as_of(first, "chart")
    rows.lead(phone=BOB)

    assert waiting(second) == 1
    assert (as_of(second, "Figures"), as_of(second, "chart")) == read

    seat.clock.now += FIGURES_SECONDS
    assert waiting(second) == 2


def test_who_has_just_acted_sees_what_it_did(seat: Seat, rows: Rows) -> None:
    actor, other = seat.browser(Role.OPERATOR), seat.browser(Role.OPERATOR)
    lead = rows.lead()
    assert (waiting(actor), waiting(other)) == (1, 1)

    actor.post(f"/leads/{lead}/cancel")

    assert waiting(actor) == 0
    assert waiting(other) == 0  # what was read for the first is shown to the second


def test_who_is_confined_sees_no_figure_of_another_account(seat: Seat, rows: Rows) -> None:
    rows.lead(account="acme")
    rows.lead(account="globex", phone=BOB)

    assert waiting(seat.browser(Role.OPERATOR)) == 2
    assert waiting(seat.browser(Role.OPERATOR, accounts=["acme"])) == 1
    assert waiting(seat.browser(Role.OPERATOR, accounts=["initech"])) == 0
    assert waiting(seat.browser(Role.OPERATOR, accounts=["globex", "acme"])) == 2


@pytest.mark.parametrize("hours", RANGES)
def test_the_chart_is_kept_for_a_twentieth_of_a_slot(
    seat: Seat, rows: Rows, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    read: list[int] = []
    really = activity.read

    def noting(connection: ReadConnection, *, hours: int, slot_seconds: int) -> Activity:
        read.append(hours)
        return really(connection, hours=hours, slot_seconds=slot_seconds)

    monkeypatch.setattr(overview.attempts, "read", noting)
    browser, kept = seat.browser(Role.VIEWER), RANGES[hours].slot_seconds / 20
    browser.get(f"/?hours={hours}")
    seat.clock.now += kept - 0.1
    browser.get(f"/?hours={hours}")
    assert read.count(hours) == 1

    seat.clock.now += 0.1
    browser.get(f"/?hours={hours}")
    assert read.count(hours) == 2


def test_one_of_many_reads() -> None:
    recent, begun, go = Recent(Clock()), threading.Semaphore(0), threading.Event()
    answers: list[int] = []

    def read() -> int:
        begun.release()
        assert go.wait(30)
        return 7

    threads = [
        threading.Thread(target=lambda: answers.append(recent.get("q", read, seconds=1.0)), daemon=True)
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    assert begun.acquire(timeout=30)
    go.set()
    for thread in threads:
        thread.join(30)

    assert answers == [7] * 8
    assert not begun.acquire(blocking=False)


def test_an_error_is_nobody_elses() -> None:
    recent = Recent(Clock())

    def broken() -> int:
        raise TryAgain("busy")

    with pytest.raises(TryAgain):
        recent.get("q", broken, seconds=9.0)
    assert recent.get("q", lambda: 1, seconds=9.0) == 1


def test_the_age_counts_from_the_start_of_the_reading() -> None:
    clock = Clock()
    recent = Recent(clock)

    def slow(value: int) -> Callable[[], int]:
        def read() -> int:
            clock.now += 5
            return value

        return read

    assert recent.get("q", slow(1), seconds=3.0) == 1
    assert recent.get("q", slow(2), seconds=3.0) == 2


def test_what_nobody_asks_any_more_is_forgotten() -> None:
    clock = Clock()
    recent = Recent(clock)
    for question in range(50):
        recent.get(question, lambda: "x" * 1000, seconds=1.0)
        clock.now += 2

    assert len(recent._answers) == 1
