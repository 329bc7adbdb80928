"""Failed leads of one cause, as one line: what happened, to how many, and what to do about it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, assert_never

from dispatcher.rules.states import FailureClass


@dataclass(frozen=True, slots=True)
class FailureGroup:
    """All that a filter matches and that failed for one cause. `message` is that of the latest."""

    fingerprint: str
    failure_class: FailureClass
    http_status: int | None
    message: str
    leads: int
    campaigns: tuple[int, ...]
    first_at: datetime
    last_at: datetime

    @property
    def advice(self) -> str:
        """The safe next action."""
        return advice(self.failure_class)

    def as_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        return {
            "fingerprint": self.fingerprint,
            "failure_class": self.failure_class,
            "http_status": self.http_status,
            "message": self.message,
            "leads": self.leads,
            "campaigns": list(self.campaigns),
            "first_at": self.first_at.isoformat(),
            "last_at": self.last_at.isoformat(),
            "advice": self.advice,
        }


def advice(failure_class: FailureClass) -> str:
    """What may safely be done about a failed lead of this class."""
    match failure_class:
        case FailureClass.REJECTED:
            return "Nobody was called. Submit a corrected lead, or replay once the cause is gone."
        case FailureClass.EXHAUSTED:
            return "It never reached Voicery: replaying is safe."
        case FailureClass.OUTCOME_UNKNOWN:
            return "The person may have been called: look it up before anything else."
        case FailureClass.EXPIRED:
            return "Nobody was called: replay it if it is still wanted."
        case FailureClass.BUG:
            return "Nobody was called. Report it, and replay after an upgrade."
        case _ as never:
            assert_never(never)
