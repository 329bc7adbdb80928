"""The history of a lead as one list: its submission, attempts, look-ups, failures and operators' actions."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from dispatcher.console.words import failure_class, outcome, took
from dispatcher.decisions.outcome import Kind
from dispatcher.decisions.states import FailureClass, State
from dispatcher.operator.audit_log import AuditRecord
from dispatcher.operator.lead_record import AttemptRecord, LeadRecord

_VERDICTS: Final = {
    "match": "found at Voicery",
    "possible": "something that may be this lead",
    "absent": "not there",
    "unavailable": "the list could not be had",
}
_GOOD: Final = frozenset({Kind.ACCEPTED})
_DOUBT: Final = frozenset({Kind.UNKNOWN, Kind.CREATED_ID_UNKNOWN})
_BAD: Final = frozenset({Kind.REJECTED, Kind.BUG, Kind.DUPLICATE})


@dataclass(frozen=True, slots=True)
class Moment:
    """One line of the timeline. `tone` is the name of its colour."""

    at: datetime
    what: str
    detail: str = ""
    tone: str = "calm"


def timeline(record: LeadRecord, audit: Sequence[AuditRecord]) -> list[Moment]:
    """Return the moments of a lead, the earliest first."""
    moments = [Moment(record.created_at, "Submitted", f"pending, priority {record.priority}")]
    for attempt in record.history:
        moments += _attempt(attempt)
    for failure in record.failures:
        # What was in doubt then, and no longer is, is not told as if it were.
        cleared = record.absence_proven and failure.failure_class is FailureClass.OUTCOME_UNKNOWN
        what = "Outcome unknown" if cleared else failure_class(failure.failure_class)
        moments.append(Moment(failure.failed_at, what, failure.message, "bad"))
        if failure.resolved_at is not None:
            who = f"by {failure.resolved_by}" if failure.resolved_by else ""
            moments.append(Moment(failure.resolved_at, f"Failure {failure.resolution}", _joined(who, failure.note)))
    moments += [_audited(line) for line in audit if line.action not in {"replay", "resolve"}]
    if record.finished_at is not None and record.state in (State.ACCEPTED, State.DUPLICATE, State.CANCELLED):
        tone = "good" if record.state is State.ACCEPTED else "calm"
        known = f"Voicery's lead {record.voicery_lead_id}" if record.voicery_lead_id is not None else ""
        moments.append(Moment(record.finished_at, record.state.value.capitalize(), known, tone))
    return sorted(moments, key=lambda moment: moment.at)


def _attempt(attempt: AttemptRecord) -> Iterator[Moment]:
    yield Moment(attempt.started_at, f"Attempt {attempt.number}", f"claimed by {attempt.worker or 'a worker'}", "busy")
    if attempt.ended_at is not None:
        status = f"HTTP {attempt.http_status}" if attempt.http_status is not None else ""
        detail = _joined(status, took(attempt.started_at, attempt.ended_at))
        yield Moment(attempt.ended_at, outcome(attempt.outcome).capitalize(), detail, _tone(attempt.outcome))
    for look_up in attempt.look_ups:
        if look_up.at is not None:
            fresh = "the list was shown to be fresh" if look_up.control else ""
            yield Moment(
                look_up.at, "Looked up", _joined(_VERDICTS.get(look_up.verdict, look_up.verdict), fresh), "doubt"
            )


def _audited(line: AuditRecord) -> Moment:
    note = line.detail.get("note")
    return Moment(line.at, line.action.replace("_", " ").capitalize(), _joined(f"by {line.actor}", note))


def _tone(kind: Kind | None) -> str:
    if kind in _GOOD:
        return "good"
    if kind in _DOUBT:
        return "doubt"
    return "bad" if kind in _BAD else "calm"


def _joined(*parts: object) -> str:
    return ", ".join(str(part) for part in parts if part)
