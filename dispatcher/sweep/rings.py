"""Which channels a sweep rings: accepting ones first, and of the others as many as there is room for."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Final

from dispatcher.broker.doorbell import Bell
from dispatcher.broker.limiter import LimiterUnavailable, Rate
from dispatcher.lead.options import Channel

OTHERS_SHARE: Final = 0.1
"""Of the permits of an account, for campaigns that nobody knows to be accepted, while others of it have leads due."""


class Rings:
    """Rings channels, as many of an account as it has permits: more would wake workers that may send nothing."""

    def __init__(self, bell: Bell, rate_of: Callable[[str], Rate]) -> None:
        self._bell = bell
        self._rate_of = rate_of
        self._shares: dict[str, float] = {}  # by account, what was not used of `OTHERS_SHARE` yet

    def ring(self, due: Mapping[Channel, bool]) -> int:
        """Ring channels that have leads due, each with whether it is accepting. Return how many bells are rung now."""
        accounts = defaultdict[str, tuple[list[Channel], list[Channel]]](lambda: ([], []))
        for channel, accepting in due.items():
            accounts[channel.account][0 if accepting else 1].append(channel)
        return sum(self._ring(account, *channels) for account, channels in accounts.items())

    def _ring(self, account: str, accepting: list[Channel], others: list[Channel]) -> int:
        permits = self._permits(account)
        rung = 0
        for channel in accepting:
            rung += rung < permits and self._bell.ring(channel)
        return rung + self._ring_others(account, others, self._left(account, permits, rung, shared=bool(accepting)))

    def _left(self, account: str, permits: float, rung: int, *, shared: bool) -> float:
        """Return how many other channels may be rung: what is left, or their share where accepting ones need it all."""
        if not shared or permits == float("inf"):
            return permits - rung
        self._shares[account] = min(self._shares.get(account, 0.0) + permits * OTHERS_SHARE, max(1.0, permits))
        return self._shares[account] // 1

    def _ring_others(self, account: str, others: list[Channel], most: float) -> int:
        rung = 0
        for channel in others:
            if rung >= most or not self._bell.ring(channel):  # their queue is full, or Redis is away
                break
            rung += 1
        self._shares[account] = max(0.0, self._shares.get(account, 0.0) - rung)
        return rung

    def _permits(self, account: str) -> float:
        try:
            available = self._rate_of(account).available()
        except LimiterUnavailable:
            # Without Redis neither permits nor doorbells exist: nothing is lost by asking again in the next round.
            return 0
        return float("inf") if available is None else available
