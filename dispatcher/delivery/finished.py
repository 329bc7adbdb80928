"""One attempt whose wire is done: what a slot hands to the recorder."""

from dataclasses import dataclass

from dispatcher.answers.outcome import Outcome
from dispatcher.store.claims import Claimed


@dataclass(frozen=True, slots=True)
class Finished:
    """One attempt whose wire is done. `ended_at` is a reading of the recorder's clock."""

    claimed: Claimed
    outcome: Outcome
    ended_at: float
    started_at: float
    retry_after_seconds: float | None = None
