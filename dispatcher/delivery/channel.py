"""One channel's share of the things that all channels share: permits and the doorbell."""

from collections.abc import Sequence
from typing import Final

from dispatcher.broker.doorbell import Doorbell
from dispatcher.broker.limiter import Limiter, Permits
from dispatcher.config.rate import RateWindow

TURNS_A_WINDOW: Final = 5
"""One turn takes at most this part of the smallest window: campaigns that share a limit take turns in small steps."""


class ChannelRate:
    """The permits of one channel: within the account's windows and the campaign's own."""

    def __init__(
        self,
        limiter: Limiter,
        account: str,
        campaign_id: int,
        account_windows: Sequence[RateWindow],
        campaign_windows: Sequence[RateWindow] = (),
    ) -> None:
        self._limiter = limiter
        self._account = account
        self._campaign_id = campaign_id
        self._account_windows = account_windows
        self._campaign_windows = campaign_windows
        smallest = min((window.permits for window in (*account_windows, *campaign_windows)), default=None)
        self._most = None if smallest is None else max(1, smallest // TURNS_A_WINDOW)

    @property
    def limited(self) -> bool:
        """Whether any limit applies."""
        return bool(self._account_windows or self._campaign_windows)

    def take(self, wanted: int) -> Permits:
        """Up to `wanted` permits, and no more than one turn may have. Raises `LimiterUnavailable`."""
        share = wanted if self._most is None else min(wanted, self._most)
        return self._limiter.take(
            self._account, self._campaign_id, share, self._account_windows, self._campaign_windows
        )

    def give_back(self, permits: Permits, unused: int) -> None:
        """Return permits that were not used."""
        self._limiter.give_back(permits, unused)

    def slow(self, *, remaining: int, reset_seconds: float) -> None:
        """Slow all workers of the account. Raises `LimiterUnavailable`; does nothing where no limit applies."""
        if self.limited:
            self._limiter.slow(self._account, remaining=remaining, reset_seconds=reset_seconds)


class ChannelBell:
    """The doorbell of one channel."""

    def __init__(self, doorbell: Doorbell, account: str, campaign_id: int) -> None:
        self._doorbell = doorbell
        self._account = account
        self._campaign_id = campaign_id

    def ring(self) -> bool:
        """Say that the channel has work."""
        return self._doorbell.ring(self._account, self._campaign_id)

    def clear(self) -> None:
        """Say that somebody is looking."""
        self._doorbell.clear(self._account, self._campaign_id)

    def waiting(self) -> bool:
        """Whether any message waits for a worker."""
        return self._doorbell.waiting()
