"""What was sent in the last hours, as counts: the chart of the console."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Slot:
    """The attempts that began in one stretch of time.

    held counts those that had no effect through no fault of the lead: not sent, throttled, behind a gate.
    """

    at: datetime
    accepted: int = 0
    refused: int = 0
    doubtful: int = 0
    held: int = 0

    @property
    def total(self) -> int:
        """All attempts."""
        return self.accepted + self.refused + self.doubtful + self.held


@dataclass(frozen=True, slots=True)
class Activity:
    """Slots without gaps, the earliest first."""

    slots: tuple[Slot, ...]
    slot_seconds: int

    @property
    def accepted_per_minute(self) -> float:
        """How fast leads were accepted in the last whole quarter of an hour."""
        latest = self.slots[-1 - 900 // self.slot_seconds : -1]
        seconds = len(latest) * self.slot_seconds
        return 60.0 * sum(slot.accepted for slot in latest) / seconds if seconds else 0.0
