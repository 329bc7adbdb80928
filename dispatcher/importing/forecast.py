"""When the last lead of an import would be sent, if it began now.

Campaigns under one limit take turns. While one sends its own leads, those that wait and then the new ones, another
sends at most as many, at most what it has, and at most what its own limit lets through:

    T = max(own / r, (own + Σ others min(theirs, own, T · r of the other)) / R)

R and r are leads a second: the smallest permits / (1.02 · seconds) of the account's windows, and of the campaign's own.
At R = 100/minute: 100 leads alone take 61 s; beside 324 000 of another campaign 122 s; with r = 10/minute 612 s.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from dispatcher.config.rate import RateWindow, parse_rate_limit
from dispatcher.store.campaigns import Queued

_WINDOW_MARGIN: Final = 1.02  # the limiter's windows are so much longer than announced
_HALVINGS: Final = 30


@dataclass(frozen=True, slots=True)
class Forecast:
    """How an account's campaigns would send what waits in them and what is new.

    waiting            leads that wait already in campaigns that nobody has paused
    finish_in_seconds  until the last of the new ones is sent; None where no limit applies
    paused             what an operator holds back of the new ones: `account`, or `campaign 8`; the time then counts
                       from when it is resumed
    """

    waiting: int = 0
    finish_in_seconds: float | None = None
    paused: tuple[str, ...] = ()


def forecast(new: Mapping[int, int], queues: Sequence[Queued], windows: Sequence[RateWindow]) -> Forecast:
    """`new` are leads by campaign, `queues` what waits in the account, `windows` the account's."""
    account_paused = any(queue.paused for queue in queues if queue.campaign_id is None)
    channels = {queue.campaign_id: queue for queue in queues if queue.campaign_id is not None}
    going = {
        campaign_id: channel.waiting
        for campaign_id, channel in channels.items()
        if account_paused or campaign_id in new or not channel.paused
    }
    lines = {
        campaign_id: _Line(
            going.get(campaign_id, 0) + new.get(campaign_id, 0),
            _per_second(_own_windows(channels.get(campaign_id))),
        )
        for campaign_id in {*going, *new}
    }
    total = _per_second(windows)
    finish = 0.0
    for campaign_id in sorted(new, key=lambda one: lines[one].leads, reverse=True):
        finish = max(finish, _seconds(campaign_id, lines, total, known=finish))
    paused = [f"campaign {one}" for one in sorted(new) if one in channels and channels[one].paused]
    return Forecast(
        waiting=sum(going.values()),
        finish_in_seconds=finish or None,
        paused=(*(["account"] if account_paused and new else []), *paused),
    )


@dataclass(frozen=True, slots=True)
class _Line:
    """What one campaign has to send, and how many a second its own limit allows."""

    leads: int
    per_second: float


def _seconds(campaign_id: int, lines: Mapping[int, _Line], total: float, *, known: float) -> float:
    """Until the last of a campaign is sent; anything up to `known` where it is not later than that."""
    own = lines[campaign_id]
    others = [line for one, line in lines.items() if one != campaign_id and line.leads]

    def needed(seconds: float) -> float:
        return (own.leads + sum(min(line.leads, own.leads, seconds * line.per_second) for line in others)) / total

    alone = own.leads / own.per_second
    latest = needed(math.inf)
    if latest <= max(alone, known) or needed(latest) == latest:
        return max(alone, latest)
    earliest = own.leads / total
    for _ in range(_HALVINGS):  # `needed` grows ever slower: it meets the time itself once
        middle = (earliest + latest) / 2
        earliest, latest = (middle, latest) if needed(middle) > middle else (earliest, middle)
    return max(alone, latest)


def _own_windows(queue: Queued | None) -> Sequence[RateWindow]:
    return () if queue is None or queue.rate_limit is None else parse_rate_limit(queue.rate_limit)


def _per_second(windows: Sequence[RateWindow]) -> float:
    return min((window.permits / (window.seconds * _WINDOW_MARGIN) for window in windows), default=math.inf)
