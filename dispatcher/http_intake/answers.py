"""What the intake says of leads: of one that was submitted, of the items of a batch, and of one that is asked for."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, RowMapping, text

from dispatcher.http_intake.problems import faults_of
from dispatcher.intake.bulk import Chunk
from dispatcher.lead.candidate import Admission
from dispatcher.lead.masking import mask_phone
from dispatcher.lead.options import Submission

MEANINGS: Final[Mapping[str, str]] = {
    "pending": "The lead is stored and will be delivered to Voicery.",
    "sending": "A worker is sending the lead to Voicery now.",
    "unknown": "The lead was sent and Voicery's answer was lost; Voicery is asked what became of it.",
    "accepted": "Voicery has accepted the lead.",
    "duplicate": "Another lead of this campaign stands for the number already; this one is not sent.",
    "failed": "The lead was not accepted; an operator of the dispatcher decides what becomes of it.",
    "blocked": "The person, or a secondary contact, must not be called; the lead is not sent.",
    "cancelled": "An operator withdrew the lead; it is not sent.",
}

# Only what the producer role may read.
_READ = text("""
SELECT id, account, campaign_id, phone_number, state, failure_class, duplicate_of, due_at, created_at, finished_at
FROM dispatcher.leads WHERE id = :id
""")


def submitted(submission: Submission) -> dict[str, Any]:
    """Return what is said of one lead that was submitted."""
    duplicate_of = submission.duplicate_of
    meaning = "blocked" if submission.state == "failed" else submission.state
    return {
        "id": str(submission.id),
        "state": submission.state,
        "created": submission.created,
        "duplicate_of": None if duplicate_of is None else str(duplicate_of),
        "meaning": MEANINGS[meaning],
    }


def items_of(chunk: Chunk, admission: Admission, bodies: Mapping[int, object]) -> Iterator[dict[str, Any]]:
    """Yield what became of each item of a chunk, in order.

    bodies   the items by their index, for the places of faults
    """
    new = {one.candidate.index: one for one in admission.new_leads}
    rejected = dict([*chunk.rejections, *admission.rejections])
    repeated = iter(admission.repeated)  # in the items' order
    indexes = {candidate.index for candidate in chunk.candidates} | set(rejected)
    for index in sorted(indexes):
        if index in rejected:
            yield {"index": index, "result": "rejected", "errors": faults_of(rejected[index], bodies.get(index))}
        elif index in new:
            one = new[index]
            result = {"pending": "submitted", "duplicate": "duplicate", "failed": "blocked"}[one.state]
            more = {} if one.duplicate_of is None else {"duplicate_of": str(one.duplicate_of)}
            yield {"index": index, "result": result, "id": str(one.candidate.id), **more}
        else:
            yield {"index": index, "result": "repeated", "id": str(next(repeated))}


def read(connection: Connection, lead_id: UUID) -> RowMapping | None:
    """Return the row of a lead, as far as the intake shows it."""
    return connection.execute(_READ, {"id": lead_id}).mappings().first()


def state_of(row: RowMapping) -> dict[str, Any]:
    """Return what is said of a lead that is asked for."""
    meaning = "blocked" if row["failure_class"] == "blocked" else row["state"]
    return {
        "id": str(row["id"]),
        "state": row["state"],
        "meaning": MEANINGS[meaning],
        "campaign_id": row["campaign_id"],
        "phone_number": mask_phone(row["phone_number"]),
        "failure_class": row["failure_class"],
        "duplicate_of": None if row["duplicate_of"] is None else str(row["duplicate_of"]),
        "due_at": _time(row["due_at"]),
        "created_at": _time(row["created_at"]),
        "finished_at": _time(row["finished_at"]),
    }


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
