"""What is known of one lead, as values: the lead with its contacts, every attempt, every failure.

They hold a person's data, so `repr` and `as_dict()` mask it; `as_dict(reveal=True)` shows it to whoever may see it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from dispatcher.decisions.outcome import IN_DOUBT, Kind
from dispatcher.decisions.states import FailureClass, Resolution, State
from dispatcher.lead.phone import mask_numbers, mask_phone

MASKED: Final = "•••"


@dataclass(frozen=True, slots=True)
class ContactRecord:
    """A secondary contact, in the order submitted; the id and status are Voicery's, None until it accepted."""

    position: int
    phone_number: str = field(repr=False)
    variables: Mapping[str, Any] = field(repr=False)
    voicery_lead_id: int | None = None
    voicery_status: str | None = None

    def as_dict(self, *, reveal: bool = False) -> dict[str, Any]:
        """As JSON takes it."""
        return {
            "position": self.position,
            "phone_number": self.phone_number if reveal else mask_phone(self.phone_number),
            "variables": _variables(self.variables, reveal=reveal),
            "voicery_lead_id": self.voicery_lead_id,
            "voicery_status": self.voicery_status,
        }


@dataclass(frozen=True, slots=True)
class LookUp:
    """One look at Voicery's list for an attempt in doubt. `control`: the list was shown to be fresh."""

    at: datetime | None
    verdict: str  # "match", "possible", "absent" or "unavailable"
    control: bool = False


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """One POST, or the promise of one. `finished_at` is None while its outcome is not known."""

    id: UUID
    number: int
    started_at: datetime
    ended_at: datetime | None = None
    finished_at: datetime | None = None
    outcome: Kind | None = None
    http_status: int | None = None
    error: str | None = None
    response: str | None = field(default=None, repr=False)
    evidence: Mapping[str, Any] = field(default_factory=dict, repr=False)
    worker: str | None = None

    @property
    def in_doubt(self) -> bool:
        """Whether the person may have been called by it: the answer was lost, and absence was never proven."""
        return self.outcome in IN_DOUBT and not self.proven_absent

    @property
    def proven_absent(self) -> bool:
        """Whether look-ups proved that this POST had no effect."""
        return self.evidence.get("proof") is True

    @property
    def look_ups(self) -> tuple[LookUp, ...]:
        """The look-ups made for it, the earliest first; what cannot be read is left out."""
        given = self.evidence.get("lookups")
        rows = given if isinstance(given, list) else []
        return tuple(
            LookUp(_moment(row.get("at")), str(row.get("verdict")), control=row.get("control") is True)
            for row in rows
            if isinstance(row, Mapping)
        )

    def as_dict(self, *, reveal: bool = False) -> dict[str, Any]:
        """As JSON takes it."""
        return {
            "id": str(self.id),
            "number": self.number,
            "started_at": self.started_at.isoformat(),
            "ended_at": _iso(self.ended_at),
            "finished_at": _iso(self.finished_at),
            "outcome": self.outcome,
            "http_status": self.http_status,
            "error": self.error,
            "response": _foreign(self.response, reveal=reveal),
            "evidence": dict(self.evidence),
            "worker": self.worker,
        }


@dataclass(frozen=True, slots=True)
class FailedLead:
    """One row of `dispatcher.failed_leads`: why a lead failed, and what a person did about it."""

    id: int
    lead_id: UUID
    account: str
    campaign_id: int
    phone_number: str = field(repr=False)
    failure_class: FailureClass
    http_status: int | None
    fingerprint: str
    message: str
    response: str | None = field(repr=False)
    attempts: int
    failed_at: datetime
    resolved_at: datetime | None = None
    resolution: Resolution | None = None
    resolved_by: str | None = None
    note: str | None = field(default=None, repr=False)

    def as_dict(self, *, reveal: bool = False) -> dict[str, Any]:
        """As JSON takes it."""
        return {
            "id": self.id,
            "lead_id": str(self.lead_id),
            "account": self.account,
            "campaign_id": self.campaign_id,
            "phone_number": self.phone_number if reveal else mask_phone(self.phone_number),
            "failure_class": self.failure_class,
            "http_status": self.http_status,
            "fingerprint": self.fingerprint,
            "message": self.message,
            "response": _foreign(self.response, reveal=reveal),
            "attempts": self.attempts,
            "failed_at": self.failed_at.isoformat(),
            "resolved_at": _iso(self.resolved_at),
            "resolution": self.resolution,
            "resolved_by": self.resolved_by,
            "note": self.note,
        }


@dataclass(frozen=True, slots=True, repr=False)
class LeadRecord:
    """One lead as it is stored. `attempts` counts those that use up its budget; `history` has every one made.

    `read_at` is when this was true, by the database's clock. `waits_behind`: another lead of the same person and
    campaign, which is on its way, so that this one has to wait.
    """

    id: UUID
    account: str
    campaign_id: int
    phone_number: str
    variables: Mapping[str, Any]
    allow_dupplicate: bool
    state: State
    failure_class: FailureClass | None
    priority: int
    due_at: datetime
    expires_at: datetime | None
    attempts: int
    resends: int
    lease_until: datetime | None
    attempt_id: UUID | None
    voicery_lead_id: int | None
    voicery_status: str | None
    duplicate_of: UUID | None
    idempotency_key: str | None
    batch_id: UUID | None
    last_error: str | None
    created_at: datetime
    updated_at: datetime
    finished_at: datetime | None
    resolved_at: datetime | None
    read_at: datetime
    waits_behind: UUID | None = None
    contacts: tuple[ContactRecord, ...] = ()
    history: tuple[AttemptRecord, ...] = ()
    failures: tuple[FailedLead, ...] = ()

    def __repr__(self) -> str:
        return (
            f"LeadRecord(id={self.id}, state={self.state.value!r}, phone_number={mask_phone(self.phone_number)!r}, "
            f"campaign_id={self.campaign_id}, attempts={self.attempts}, voicery_lead_id={self.voicery_lead_id})"
        )

    def as_dict(self, *, reveal: bool = False) -> dict[str, Any]:
        """As JSON takes it."""
        return {
            "id": str(self.id),
            "state": self.state,
            "failure_class": self.failure_class,
            "account": self.account,
            "campaign_id": self.campaign_id,
            "phone_number": self.phone_number if reveal else mask_phone(self.phone_number),
            "variables": _variables(self.variables, reveal=reveal),
            "allow_dupplicate": self.allow_dupplicate,
            "priority": self.priority,
            "attempts": self.attempts,
            "resends": self.resends,
            "voicery_lead_id": self.voicery_lead_id,
            "voicery_status": self.voicery_status,
            "duplicate_of": _text(self.duplicate_of),
            "waits_behind": _text(self.waits_behind),
            "idempotency_key": self.idempotency_key,
            "batch_id": _text(self.batch_id),
            "last_error": self.last_error,
            "created_at": self.created_at.isoformat(),
            "updated_at": self.updated_at.isoformat(),
            "due_at": self.due_at.isoformat(),
            "expires_at": _iso(self.expires_at),
            "lease_until": _iso(self.lease_until),
            "finished_at": _iso(self.finished_at),
            "resolved_at": _iso(self.resolved_at),
            "contacts": [contact.as_dict(reveal=reveal) for contact in self.contacts],
            "history": [attempt.as_dict(reveal=reveal) for attempt in self.history],
            "failures": [failure.as_dict(reveal=reveal) for failure in self.failures],
        }


def _variables(variables: Mapping[str, Any], *, reveal: bool) -> dict[str, Any]:
    """Names are the campaign's, values the person's."""
    return dict(variables) if reveal else dict.fromkeys(variables, MASKED)


def _foreign(text: str | None, *, reveal: bool) -> str | None:
    """What Voicery said, which may echo the person's number."""
    return text if text is None or reveal else mask_numbers(text)


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def _text(value: UUID | None) -> str | None:
    return None if value is None else str(value)


def _moment(text: object) -> datetime | None:
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None
