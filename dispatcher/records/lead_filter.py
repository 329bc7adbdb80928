"""Which leads are meant: the filter of `dispatcher list`."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from dispatcher.rules.states import State


@dataclass(frozen=True, slots=True)
class LeadFilter:
    """All that is given must hold (AND). Times are aware; `created_since` is included, `created_before` is not.

    phone_number   how the number ends: all of it, or the last digits
    """

    states: tuple[State, ...] = ()
    account: str | None = None
    campaign_id: int | None = None
    batch_id: UUID | None = None
    idempotency_key: str | None = None
    voicery_lead_id: int | None = None
    phone_number: str | None = None
    created_since: datetime | None = None
    created_before: datetime | None = None
