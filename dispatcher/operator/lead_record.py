"""One lead as it is stored: its row, contacts, attempts and failures.

A record holds a person's data: `repr` and `as_dict()` mask it, and `as_dict(reveal=True)` shows it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from dispatcher.decisions.outcome import IN_DOUBT, MAY_HAVE_BEEN_CALLED, Kind
from dispatcher.decisions.states import FailureClass, State
from dispatcher.lead.masking import mask_phone
from dispatcher.operator import failures, inbox_list
from dispatcher.operator.failures import FailedLead
from dispatcher.operator.record import FOREIGN_JSON, FOREIGN_TEXT, INTERNAL, PHONE, REFERENCE, VARIABLES, Record
from dispatcher.store import encryption
from dispatcher.store.encryption import OF_CONTACT, Content, contact_owner
from dispatcher.store.proof import IN_DOUBT_SINCE


@dataclass(frozen=True, slots=True)
class ContactRecord(Record):
    """A secondary contact, in the order submitted; the id and status are Voicery's, None until it accepted.

    dropped_at   when a POST left it out, because it must not be called; None if it is sent
    """

    position: int
    phone_number: str = field(repr=False, metadata=PHONE)
    variables: Mapping[str, Any] = field(repr=False, metadata=VARIABLES)
    voicery_lead_id: int | None = None
    voicery_status: str | None = None
    dropped_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class LookUpRecord:
    """One look-up of an attempt in doubt. `control`: Voicery's list was shown to be fresh."""

    at: datetime | None
    verdict: str  # "match", "possible", "absent" or "unavailable"
    control: bool = False


@dataclass(frozen=True, slots=True)
class AttemptRecord(Record):
    """One POST, or one that was about to be made. `finished_at` is None while its outcome is not known."""

    id: UUID
    number: int
    started_at: datetime
    ended_at: datetime | None = None
    finished_at: datetime | None = None
    outcome: Kind | None = None
    http_status: int | None = None
    error: str | None = field(default=None, metadata=FOREIGN_TEXT)
    response: str | None = field(default=None, repr=False, metadata=FOREIGN_TEXT)
    evidence: Mapping[str, Any] = field(default_factory=dict, repr=False, metadata=FOREIGN_JSON)
    worker: str | None = None

    @property
    def in_doubt(self) -> bool:
        """Whether its answer was lost and absence was never proven. Whether a replay is safe is said by `replay`."""
        return self.outcome in IN_DOUBT and not self.proven_absent

    @property
    def proven_absent(self) -> bool:
        """Whether look-ups proved that this POST had no effect."""
        return self.evidence.get("proof") is True

    @property
    def cause(self) -> str | None:
        """The error, without a doubt that look-ups have cleared."""
        return self.error.replace(MAY_HAVE_BEEN_CALLED, "") if self.error and self.proven_absent else self.error

    @property
    def missing(self) -> str:
        """What the latest look-up lacked for a proof of absence; empty if nothing was noted."""
        given = self.evidence.get("lookups")
        latest = given[-1] if isinstance(given, list) and given else None
        missing = latest.get("missing") if isinstance(latest, Mapping) else None
        return missing if isinstance(missing, str) else ""

    @property
    def look_ups(self) -> tuple[LookUpRecord, ...]:
        """The look-ups made for it, the earliest first; entries that cannot be read are left out."""
        given = self.evidence.get("lookups")
        rows = given if isinstance(given, list) else []
        return tuple(
            LookUpRecord(_moment(row.get("at")), str(row.get("verdict")), control=row.get("control") is True)
            for row in rows
            if isinstance(row, Mapping)
        )


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class LeadRecord(Record):
    """One lead as it is stored. `attempts` counts those that use up its budget; `history` has every one made.

    read_at             when this was true, by the database's clock
    duplicate_of_state  the state of the lead `duplicate_of`
    place_of            the lead whose place this one took: it was its duplicate, and that lead ended without a call
    place_to            the duplicate of this lead that took its place
    waits_behind        another lead of the same person and campaign, which is on its way, so that this one has to wait
    in_doubt_since      when its latest POST that may have reached the person was made; None if none may have
    """

    id: UUID
    state: State
    failure_class: FailureClass | None
    account: str
    campaign_id: int
    phone_number: str = field(metadata=PHONE)
    variables: Mapping[str, Any] = field(metadata=VARIABLES)
    allow_dupplicate: bool
    priority: int
    attempts: int
    resends: int
    voicery_lead_id: int | None
    voicery_status: str | None
    duplicate_of: UUID | None
    duplicate_of_state: State | None = None
    place_of: UUID | None = None
    place_to: UUID | None = None
    waits_behind: UUID | None = None
    idempotency_key: str | None = field(metadata=REFERENCE)
    batch_id: UUID | None
    last_error: str | None = field(metadata=FOREIGN_TEXT)
    created_at: datetime
    updated_at: datetime
    due_at: datetime
    expires_at: datetime | None
    lease_until: datetime | None
    finished_at: datetime | None
    resolved_at: datetime | None
    in_doubt_since: datetime | None = field(default=None, metadata=INTERNAL)
    attempt_id: UUID | None = field(metadata=INTERNAL)
    read_at: datetime = field(metadata=INTERNAL)
    contacts: tuple[ContactRecord, ...] = ()
    history: tuple[AttemptRecord, ...] = ()
    failures: tuple[FailedLead, ...] = ()

    @property
    def open_failure(self) -> FailedLead | None:
        """Its failure that has not been resolved."""
        return next((one for one in reversed(self.failures) if one.resolved_at is None), None)

    @property
    def absence_proven(self) -> bool:
        """Whether it failed because its outcome was unknown, and a proof that still holds says that nobody was called.

        Such a lead may be replayed.
        """
        proven = bool(self.history) and self.history[-1].proven_absent
        return self.failure_class is FailureClass.OUTCOME_UNKNOWN and proven and self.in_doubt_since is None

    def __repr__(self) -> str:
        return (
            f"LeadRecord(id={self.id}, state={self.state.value!r}, phone_number={mask_phone(self.phone_number)!r}, "
            f"campaign_id={self.campaign_id}, attempts={self.attempts}, voicery_lead_id={self.voicery_lead_id})"
        )


_READ = text(f"""
SELECT lead.id, lead.account, lead.campaign_id, lead.phone_number, lead.variables, lead.allow_dupplicate, lead.state,
    lead.failure_class, lead.priority, lead.due_at, lead.expires_at, lead.attempts, lead.resends, lead.lease_until,
    lead.attempt_id, lead.voicery_lead_id, lead.voicery_status, lead.duplicate_of, lead.idempotency_key, lead.batch_id,
    lead.last_error, lead.created_at, lead.updated_at, lead.finished_at, lead.resolved_at, now() AS read_at,
    {IN_DOUBT_SINCE} AS in_doubt_since,
    (SELECT original.state FROM dispatcher.leads AS original WHERE original.id = lead.duplicate_of)
        AS duplicate_of_state,
    (SELECT CAST(place.detail ->> 'of' AS uuid) FROM dispatcher.audit_log AS place
     WHERE place.subject = CAST(lead.id AS text) AND place.action = 'take_place' ORDER BY place.id DESC LIMIT 1
    ) AS place_of,
    (SELECT CAST(place.detail ->> 'to' AS uuid) FROM dispatcher.audit_log AS place
     WHERE place.subject = CAST(lead.id AS text) AND place.action = 'give_place' ORDER BY place.id DESC LIMIT 1
    ) AS place_to,
    -- Whose turn it is among the leads of one person: the one with the open attempt.
    (SELECT ahead.lead_id FROM dispatcher.lead_attempts AS ahead
     WHERE lead.state = 'pending' AND ahead.account = lead.account AND ahead.campaign_id = lead.campaign_id
       AND ahead.phone_number = lead.phone_number AND ahead.finished_at IS NULL AND ahead.lead_id <> lead.id
    ) AS waits_behind
FROM dispatcher.leads AS lead WHERE lead.id = :id
""")

_CONTACTS = text("""
SELECT position, phone_number, variables, voicery_lead_id, voicery_status, dropped_at
FROM dispatcher.lead_contacts WHERE lead_id = :id ORDER BY position
""")

_ATTEMPTS = text("""
SELECT id, number, started_at, ended_at, finished_at, outcome, http_status, error, response, evidence, worker
FROM dispatcher.lead_attempts WHERE lead_id = :id ORDER BY started_at, id
""")


def read(connection: Connection, lead_id: UUID) -> LeadRecord:
    """Return everything about one lead, as of this transaction. Raises `LeadNotFound`."""
    row = connection.execute(_READ, {"id": lead_id}).mappings().first()
    if row is None:
        raise inbox_list.not_a_lead(connection, lead_id)
    ring = encryption.of(connection)
    contacts = [
        ring.row(one, contact_owner(lead_id, one["position"]), **OF_CONTACT)
        for one in connection.execute(_CONTACTS, {"id": lead_id}).mappings()
    ]
    attempts = connection.execute(_ATTEMPTS, {"id": lead_id}).mappings()
    return replace(
        LeadRecord.of(ring.row(row, lead_id, variables=Content.VARIABLES)),
        contacts=tuple(map(ContactRecord.of, contacts)),
        history=tuple(AttemptRecord.of(ring.row(one, lead_id, response=Content.RESPONSE)) for one in attempts),
        failures=failures.of_lead(connection, lead_id),
    )


def _moment(text: object) -> datetime | None:
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None
