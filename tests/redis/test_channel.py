"""A channel's permits: within all windows, and in steps small enough that campaigns share a limit fairly."""

import pytest

from dispatcher.broker.connection import connect
from dispatcher.broker.limiter import Limiter, Rate
from dispatcher.config.account import parse_rate_limit

from .conftest import RedisServer


@pytest.mark.parametrize(
    ("limit", "own", "granted"),
    [
        ("100/minute; 20/10 seconds", None, 4),
        ("100/minute; 20/10 seconds", "10/minute", 2),
        ("3/minute", None, 1),
        ("6000/minute", None, 8),
        ("off", None, 8),
    ],
)
def test_one_turn_takes_a_fifth_of_the_smallest_window(
    server: RedisServer, limit: str, own: str | None, granted: int
) -> None:
    limiter = Limiter(connect(server.url))
    own_windows = parse_rate_limit(own) if own else ()
    rate = Rate(limiter, "default", parse_rate_limit(limit), campaign_id=42, campaign_windows=own_windows)

    assert rate.take(8).granted == granted
