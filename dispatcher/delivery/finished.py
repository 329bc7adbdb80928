"""One attempt whose wire is done: what a slot hands to the recorder."""

from dataclasses import dataclass

from dispatcher.answers.hints import NO_HINTS, RateHints
from dispatcher.answers.outcome import Kind, Outcome
from dispatcher.store.claims import Claimed


@dataclass(frozen=True, slots=True)
class Finished:
    """One attempt whose wire is done. `ended_at` and `started_at` are readings of the recorder's clock."""

    claimed: Claimed
    outcome: Outcome
    ended_at: float
    started_at: float
    hints: RateHints = NO_HINTS

    @property
    def slowdown(self) -> tuple[int, float] | None:
        """What the answer says about the rate: so many requests are left for so many seconds; None if nothing."""
        return self.hints.slowdown(throttled=self.outcome.kind is Kind.THROTTLED)
