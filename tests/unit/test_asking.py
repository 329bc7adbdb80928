"""What the list says about the rate, and what a caller is told when the rate allows no look-up."""

from typing import Any

import pytest

from dispatcher.broker.limiter import LimiterUnavailable
from dispatcher.decisions.reply import Reply
from dispatcher.errors import DispatcherError
from dispatcher.lookup.asking import LeadList, NoPermit
from tests.support.doubles import Rate


class Client:
    def __init__(self, reply: Reply) -> None:
        self.reply = reply

    def list_leads(self, **_: Any) -> Reply:
        return self.reply


LEFT = {"x-ratelimit-remaining": "3", "x-ratelimit-reset": "20"}


@pytest.mark.parametrize(
    ("status", "headers", "slowed"),
    [
        (200, {}, []),
        (200, LEFT, [(3, 20.0)]),
        (200, {"retry-after": "20"}, []),
        (429, {}, [(0, 10.0)]),
        (429, LEFT, [(0, 10.0)]),
        (429, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "0"}, [(0, 10.0)]),
        (429, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "20"}, [(0, 20.0)]),
        (429, {**LEFT, "retry-after": "30"}, [(0, 30.0)]),
        (503, LEFT, [(3, 20.0)]),
    ],
)
def test_what_the_list_says_about_the_rate_holds_for_all_workers(
    status: int, headers: dict[str, str], slowed: list[tuple[int, float]]
) -> None:
    rate = Rate()
    reply = Reply(status=status, headers=headers, body={"data": [], "last_page": 1, "total": 0})

    LeadList(None, Client(reply), rate, account="default").page(42, "+12025550101")  # type: ignore[arg-type]

    assert rate.slowed == slowed


def test_an_answer_counts_also_where_nobody_can_be_told_of_the_rate() -> None:
    class Unreachable(Rate):
        def slow(self, *, remaining: int, reset_seconds: float) -> None:
            raise LimiterUnavailable

    reply = Reply(status=200, headers=LEFT, body={"data": [], "last_page": 1, "total": 0})
    asked = LeadList(None, Client(reply), Unreachable(), account="default")  # type: ignore[arg-type]

    assert asked.page(42, "+12025550101") is not None


def test_no_permit_is_an_error_that_says_when_to_ask_again() -> None:
    refusal = NoPermit(12.4)

    assert isinstance(refusal, DispatcherError)
    assert str(refusal) == "The rate limit allows no look-up for another 12 s; ask again then."
