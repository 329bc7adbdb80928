"""Which items of a batch become leads: the rules of `submit`, applied in order to many at once (design section 8).

Pure: what the tables hold comes in as `Facts`; what they shall hold goes out as an `Admission`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from uuid import UUID

from dispatcher.errors import FieldError
from dispatcher.leads.candidate import Candidate, Rejection, earliest, latest

_OTHER_PAYLOAD: Final = "which was submitted with another payload"
CHANGED_UNDER_ID: Final = f"is that of a lead {_OTHER_PAYLOAD}"
CHANGED_REMEDY: Final = "submit changed items as a batch of their own"


@dataclass(frozen=True, slots=True)
class Held:
    """A lead that already has an item's key or id. `payload_hash` is None where it is another account's."""

    lead_id: UUID
    payload_hash: str | None


@dataclass(frozen=True, slots=True)
class Facts:
    """What the tables say about a chunk of items; `decide` adds what it decides."""

    now: datetime
    live: dict[tuple[int, str], UUID] = field(default_factory=dict)  # (campaign, phone number) → the lead
    keys: dict[str, Held] = field(default_factory=dict)
    ids: dict[UUID, Held] = field(default_factory=dict)


@dataclass(slots=True)  # not frozen for the reason of `Candidate`
class Birth:
    """A lead to be stored: pending, or at once the duplicate of another."""

    candidate: Candidate
    due_at: datetime
    expires_at: datetime | None
    duplicate_of: UUID | None


@dataclass(frozen=True, slots=True)
class Admission:
    """What becomes of each item of a chunk."""

    births: list[Birth] = field(default_factory=list)
    repeated: list[UUID] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)

    @property
    def campaign_ids(self) -> set[int]:
        """The channels that have work by this."""
        return {birth.candidate.campaign_id for birth in self.births if birth.duplicate_of is None}

    def followed_by(self, other: "Admission") -> "Admission":
        """This one's items, then the other's."""
        return Admission(
            self.births + other.births,
            self.repeated + other.repeated,
            self.rejections + other.rejections,
        )

    def confirming(self, unsure: "Admission") -> "Admission":
        """The same, where leads that `unsure` wrote and this one found are new leads after all."""
        found = set(self.repeated)
        births = [birth for birth in unsure.births if birth.candidate.id in found]
        ours = {birth.candidate.id for birth in births}
        repeated = []
        for lead_id in self.repeated:
            if lead_id in ours:
                ours.remove(lead_id)  # once: the item itself; again would be a real repetition of it
            else:
                repeated.append(lead_id)
        return Admission(self.births + births, repeated, self.rejections)


def decide(candidates: Iterable[Candidate], facts: Facts) -> Admission:
    """Decide about items in their order, each as `submit` would after those before it.

    The key is asked first, then the id; only a lead that is neither held counts as new, and only then do its key and
    its id become held, and its person, unless the lead allows duplicates, gets a live lead.
    """
    admission = Admission()
    for candidate in candidates:
        held = _holder(candidate, facts)
        if held is None:
            admission.births.append(_born(candidate, facts))
        elif held.payload_hash == candidate.payload_hash:
            admission.repeated.append(held.lead_id)
        else:
            admission.rejections.append((candidate.index, (_conflict(candidate, held, facts),)))
    return admission


def _holder(candidate: Candidate, facts: Facts) -> Held | None:
    key = candidate.options.idempotency_key
    held = facts.keys.get(key) if key is not None else None
    return held or facts.ids.get(candidate.id)


def _born(candidate: Candidate, facts: Facts) -> Birth:
    duplicate_of = None if candidate.allow_dupplicate else facts.live.get(candidate.person)
    key = candidate.options.idempotency_key
    if key is not None or not candidate.derived_id:
        held = Held(candidate.id, candidate.payload_hash)
        facts.ids[candidate.id] = held
        if key is not None:
            facts.keys[key] = held
    if duplicate_of is None and not candidate.allow_dupplicate:
        facts.live[candidate.person] = candidate.id
    options = candidate.options
    return Birth(candidate, earliest(options, facts.now), latest(options, facts.now), duplicate_of)


def _conflict(candidate: Candidate, held: Held, facts: Facts) -> FieldError:
    key = candidate.options.idempotency_key
    if key is not None and key in facts.keys:
        fault = f"belongs to lead {held.lead_id}, {_OTHER_PAYLOAD}"
        return FieldError("idempotency_key", fault, "submit a changed lead under a key of its own")
    if held.payload_hash is None:
        return FieldError("id", "belongs to a lead of another account", "submit it under an id of its own")
    if candidate.derived_id:
        fault = f"is item {candidate.index} of this batch, {_OTHER_PAYLOAD}"
        return FieldError("batch_id", fault, CHANGED_REMEDY)
    return FieldError("id", CHANGED_UNDER_ID, "submit it under an id of its own")
