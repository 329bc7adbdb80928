"""A campaign as an operator sees it: what waits, what failed, what holds it back, how fast it may go."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dispatcher.records.overview import GateRecord


@dataclass(frozen=True, slots=True)
class CampaignRecord:
    """`gate` is its own, None while open; `rate_limit` its own limit beside the account's, e.g. `30/minute`."""

    account: str
    campaign_id: int
    waiting: int = 0
    due: int = 0
    failed: int = 0
    served_at: datetime | None = None
    rate_limit: str | None = None
    gate: GateRecord | None = None

    def as_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        return {
            "account": self.account,
            "campaign_id": self.campaign_id,
            "waiting": self.waiting,
            "due": self.due,
            "failed": self.failed,
            "served_at": None if self.served_at is None else self.served_at.isoformat(),
            "rate_limit": self.rate_limit,
            "gate": None if self.gate is None else self.gate.as_dict(),
        }
