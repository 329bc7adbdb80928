"""What was written down: incidents, the audit log, earlier versions of a corrected lead, where a search led."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from dispatcher.rules.states import State


@dataclass(frozen=True, slots=True)
class IncidentRecord:
    """Something that must never happen and a person must see."""

    id: int
    at: datetime
    kind: str
    lead_id: UUID | None
    message: str
    evidence: Mapping[str, Any] = field(repr=False)
    seen_at: datetime | None = None
    seen_by: str | None = None


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """Who did what to what."""

    id: int
    at: datetime
    actor: str
    action: str
    subject: str
    detail: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Revision:
    """What a lead was before somebody corrected it."""

    revision: int
    campaign_id: int
    phone_number: str = field(repr=False)
    variables: Mapping[str, Any] = field(repr=False)
    replaced_at: datetime
    replaced_by: str
    note: str | None = None


@dataclass(frozen=True, slots=True)
class ImportRecord:
    """One file that was imported. `finished_at` None: it still runs, or was cut short."""

    id: int
    batch_id: UUID
    file_name: str
    account: str
    actor: str
    submitted: int
    duplicates: int
    repeated: int
    rejected: int
    started_at: datetime
    updated_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """One fault of one row of a file."""

    line: int
    field: str
    reason: str
    original: str = dataclasses.field(repr=False)


@dataclass(frozen=True, slots=True)
class Glance:
    """What a list of failed leads shows of a lead beside its failure."""

    lead_id: UUID
    state: State
    created_at: datetime
    idempotency_key: str | None
    voicery_lead_id: int | None
    batch_id: UUID | None
    touched_by: str | None  # the actor of the latest line in the audit log


@dataclass(frozen=True, slots=True)
class Found:
    """A lead that a search led to, and by which of its names."""

    lead_id: UUID
    state: State
    campaign_id: int
    by: str
