"""What `list` and `tail` show: a lead in one line, and one thing that happened."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from dispatcher.leads.masking import mask_phone
from dispatcher.rules.states import State


@dataclass(frozen=True, slots=True)
class ListedLead:
    """One lead of a list."""

    id: UUID
    state: State
    failure_class: str | None
    account: str
    campaign_id: int
    phone_number: str = field(repr=False)
    priority: int
    attempts: int
    voicery_lead_id: int | None
    voicery_status: str | None
    idempotency_key: str | None = field(repr=False)
    batch_id: UUID | None
    created_at: datetime
    due_at: datetime
    finished_at: datetime | None
    last_error: str | None

    def as_dict(self, *, reveal: bool = False) -> dict[str, Any]:
        """As JSON takes it."""
        return {
            "id": str(self.id),
            "state": self.state,
            "failure_class": self.failure_class,
            "account": self.account,
            "campaign_id": self.campaign_id,
            "phone_number": self.phone_number if reveal else mask_phone(self.phone_number),
            "priority": self.priority,
            "attempts": self.attempts,
            "voicery_lead_id": self.voicery_lead_id,
            "voicery_status": self.voicery_status,
            "idempotency_key": self.idempotency_key,
            "batch_id": None if self.batch_id is None else str(self.batch_id),
            "created_at": self.created_at.isoformat(),
            "due_at": self.due_at.isoformat(),
            "finished_at": None if self.finished_at is None else self.finished_at.isoformat(),
            "last_error": self.last_error,
        }


@dataclass(frozen=True, slots=True)
class Happening:
    """One thing that happened. `key` is equal for the same thing seen twice; `what` is a state, an outcome, an action.

    lead_id, campaign_id, phone_number   None where it is not about a lead
    """

    key: str
    at: datetime
    what: str
    detail: str | None
    lead_id: UUID | None
    account: str | None
    campaign_id: int | None
    phone_number: str | None = field(repr=False)

    def as_dict(self, *, reveal: bool = False) -> dict[str, Any]:
        """As JSON takes it."""
        phone = self.phone_number
        return {
            "at": self.at.isoformat(),
            "what": self.what,
            "lead_id": None if self.lead_id is None else str(self.lead_id),
            "account": self.account,
            "campaign_id": self.campaign_id,
            "phone_number": phone if phone is None or reveal else mask_phone(phone),
            "detail": self.detail,
        }


@dataclass(frozen=True, slots=True)
class Throughput:
    """The attempts of one campaign that began in the last minutes, by how they ended."""

    account: str
    campaign_id: int
    accepted: int
    refused: int
    doubtful: int
    held: int
