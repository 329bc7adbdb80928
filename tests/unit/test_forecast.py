"""The finish that a plan foretells is that of campaigns that take turns, each within its own limit."""

from typing import Any

import pytest

from dispatcher.config.account import parse_rate_limit
from dispatcher.importing.plan import forecast
from dispatcher.operator.campaigns import Queued

ACCOUNT = parse_rate_limit("100/minute; 20/10 seconds")  # 1.634 leads a second
MINUTE = 61.2


def queued(campaign_id: int | None, waiting: int = 0, rate_limit: str | None = None, *, paused: bool = False) -> Queued:
    return Queued(campaign_id, waiting, rate_limit, paused)


@pytest.mark.parametrize(
    ("new", "queues", "seconds"),
    [
        pytest.param({42: 1000}, [], 10 * MINUTE, id="alone"),
        pytest.param({42: 100}, [queued(42, 200)], 3 * MINUTE, id="behind its own"),
        pytest.param({42: 1}, [queued(7, 324_000)], 0.02 * MINUTE, id="one beside many of another"),
        pytest.param({42: 100}, [queued(7, 324_000)], 2 * MINUTE, id="turn by turn"),
        pytest.param({42: 100}, [queued(7, 50)], 1.5 * MINUTE, id="until the other has none"),
        pytest.param({42: 1}, [queued(7, 324_000, paused=True)], 0.01 * MINUTE, id="beside a paused one"),
        pytest.param({42: 40}, [queued(42, 0, "2/minute")], 20 * MINUTE, id="its own limit"),
        pytest.param({42: 400}, [queued(7, 9999, "20/minute")], 5 * MINUTE, id="another that is slowed"),
        pytest.param({42: 100, 7: 300}, [], 4 * MINUTE, id="two of one file"),
        pytest.param({42: 100, 7: 300}, [queued(42, 0, "1/minute")], 100 * MINUTE, id="two, one slowed"),
        pytest.param({42: 100}, [queued(42, 100, paused=True)], 2 * MINUTE, id="itself paused: from its resumption"),
        pytest.param({42: 100}, [queued(7, 100), queued(None, paused=True)], 2 * MINUTE, id="all paused"),
        pytest.param({}, [queued(7, 100)], None, id="nothing new"),
    ],
)
def test_the_last_is_sent_after(new: dict[int, int], queues: list[Queued], seconds: float | None) -> None:
    found = forecast(new, queues, ACCOUNT).finish_in_seconds

    assert found == (None if seconds is None else pytest.approx(seconds, rel=1e-3))


def test_without_a_limit_nothing_is_foretold() -> None:
    assert forecast({42: 1000}, [queued(7, 5)], ()).finish_in_seconds is None
    assert forecast({42: 4}, [queued(42, 0, "2/minute")], ()).finish_in_seconds == pytest.approx(2 * MINUTE)


@pytest.mark.parametrize(
    ("queues", "waiting", "paused"),
    [
        ([queued(7, 5), queued(42, 3)], 8, ()),
        ([queued(7, 5, paused=True), queued(42, 3)], 3, ()),
        ([queued(7, 5), queued(42, 3, paused=True)], 8, ("campaign 42",)),
        ([queued(7, 5), queued(None, paused=True)], 5, ("account",)),
    ],
)
def test_what_waits_and_what_is_paused_is_told(queues: list[Queued], waiting: int, paused: Any) -> None:
    found = forecast({42: 1}, queues, ACCOUNT)

    assert (found.waiting, found.paused) == (waiting, paused)


def test_a_thousand_campaigns_are_foretold_at_once() -> None:
    new = dict.fromkeys(range(1, 1001), 100)
    queues = [queued(campaign, 1000, "50/minute") for campaign in range(500, 1500)]

    found = forecast(new, queues, ACCOUNT).finish_in_seconds

    assert found == pytest.approx((499 * 100 + 501 * 1100 + 499 * 1000) / 100 * MINUTE, rel=1e-3)
