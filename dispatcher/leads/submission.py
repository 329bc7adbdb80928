"""What a producer gets back from `submit`."""

from dataclasses import dataclass
from uuid import UUID

from dispatcher.errors import FieldError


@dataclass(frozen=True, slots=True)
class Submission:
    """The lead is durable. It carries no personal data, so it may be logged.

    id            the lead that stands for this submission
    state         "pending": it will be delivered; "duplicate": another lead already stands for this person
    created       False when the same id or idempotency key was submitted before: then this is that first submission
    duplicate_of  the lead that stands for the person, where state is "duplicate"
    """

    id: UUID
    state: str
    created: bool
    duplicate_of: UUID | None = None


@dataclass(frozen=True, slots=True)
class BatchResult:
    """What `submit_many` did. Nothing is listed but the refused items: a batch may have millions.

    submitted   leads that will be delivered
    duplicates  leads stored as duplicates of another lead
    repeated    items that were submitted before, by the same id or idempotency key
    rejected    (index of the item, its faults); nothing of these is stored
    """

    batch_id: UUID
    submitted: int
    duplicates: int
    repeated: int
    rejected: tuple[tuple[int, tuple[FieldError, ...]], ...] = ()
