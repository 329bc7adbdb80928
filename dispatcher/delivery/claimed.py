"""A claimed lead, decrypted, and what becomes of one that cannot be."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from dispatcher.decisions.outcome import Kind, Outcome, Reason, Scope, Signal
from dispatcher.errors import DispatcherError
from dispatcher.lead.options import Channel
from dispatcher.store.encryption import Content, KeyMissing, KeyRing, NotAuthentic, contact_owner, key_id_in


@dataclass(frozen=True, slots=True)
class Claimed:
    """A lead that this worker alone may POST, once, under `attempt_id`. The repr names no person."""

    lead_id: UUID
    attempt_id: UUID
    account: str
    campaign_id: int
    phone_number: str
    variables: str  # JSON text, exactly as it was stored
    allow_dupplicate: bool
    contacts: tuple[tuple[str, str], ...]  # (number, variables as JSON text) in the order submitted
    attempts: int
    age_seconds: float
    positions: tuple[int, ...] = ()  # of the contacts
    contacts_hidden: bool = False  # their numbers are encrypted, so that the claim could not ask whether one is blocked
    fault: DispatcherError | None = None  # why it cannot be decrypted: nothing of it may be sent

    @property
    def key_missing(self) -> bool:
        """Whether it cannot be decrypted because this process lacks the key."""
        return isinstance(self.fault, KeyMissing)

    def __repr__(self) -> str:
        return f"Claimed(lead_id={self.lead_id}, attempt_id={self.attempt_id}, attempts={self.attempts})"


def claimed_of(channel: Channel, row: Row[Any], ring: KeyRing) -> Claimed:
    """Return the lead of a row of a claim, decrypted; where that fails, with the fault in its place."""
    stored = row.contacts or ()
    variables, fault = "", None
    contacts: tuple[tuple[str, str], ...] = ()
    try:
        variables = ring.decrypted_json_text(row.variables, row.id, Content.VARIABLES)
        contacts = tuple(
            (
                ring.decrypted(number, contact_owner(row.id, place), Content.CONTACT_NUMBER),
                ring.decrypted_json_text(its_variables, contact_owner(row.id, place), Content.CONTACT_VARIABLES),
            )
            for place, number, its_variables in stored
        )
    except (KeyMissing, NotAuthentic) as error:
        fault = error
    return Claimed(
        lead_id=row.id,
        attempt_id=row.attempt_id,
        account=channel.account,
        campaign_id=channel.campaign_id,
        phone_number=row.phone_number,
        variables=variables,
        allow_dupplicate=row.allow_dupplicate,
        contacts=contacts,
        attempts=row.attempts,
        age_seconds=row.age_seconds,
        positions=tuple(place for place, _, _ in stored),
        contacts_hidden=any(key_id_in(number) is not None for _, number, _ in stored),
        fault=fault,
    )


def undecryptable(why: str, *, key_missing: bool) -> Outcome:
    """Return the outcome of a lead that could not be decrypted, and of which therefore nothing was sent.

    key_missing   no lead can be sent by this process; otherwise this one was changed in the database
    """
    if key_missing:
        return Outcome(
            kind=Kind.MISCONFIGURED,
            message=why,
            signal=Signal(Reason.MISCONFIGURED, Scope.ACCOUNT),
            fingerprint="key_missing",
        )
    return Outcome(
        kind=Kind.BUG,
        message=f"Nothing was sent. {why}",
        counts=True,
        fingerprint="not_authentic",
    )
