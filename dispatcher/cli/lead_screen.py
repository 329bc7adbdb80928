"""One lead with all that happened to it, for 80 columns."""

import json
from collections.abc import Mapping
from typing import Any, Final

from rich.text import Text

from dispatcher.cli import screen
from dispatcher.leads.masking import mask_phone
from dispatcher.records import moments
from dispatcher.records.record import MASKED, AttemptRecord, LeadRecord
from dispatcher.rules.states import State

STYLES: Final[Mapping[State, str]] = {
    State.PENDING: "cyan",
    State.SENDING: "blue",
    State.UNKNOWN: "yellow",
    State.ACCEPTED: "green",
    State.DUPLICATE: "magenta",
    State.FAILED: "red",
    State.CANCELLED: "dim",
}


def show(record: LeadRecord, *, reveal: bool) -> None:
    """Print it."""
    screen.say((str(record.id), "bold"))
    table = screen.facts()
    for name, value in _facts(record, reveal=reveal):
        if value is not None:
            table.add_row(name, value if isinstance(value, Text) else screen.line(value))
    screen.put(table)
    if record.contacts:
        screen.say("")
        contacts = screen.rows("Contact", "Voicery id", "status", "variables")
        for contact in record.contacts:
            contacts.add_row(
                contact.phone_number if reveal else mask_phone(contact.phone_number),
                str(contact.voicery_lead_id or "–"),
                screen.plain(contact.voicery_status or "–"),
                _variables(contact.variables, reveal=reveal),
            )
        screen.put(contacts)
    for attempt in record.history:
        _attempt(attempt)
    for failure in record.failures:
        screen.say("")
        screen.say(("Failed ", "red"), f"{moments.clock(failure.failed_at)}  {failure.failure_class}")
        screen.indented(failure.message, columns=2)
        if failure.resolution is not None:
            note = f": {failure.note}" if failure.note else ""
            screen.indented(f"{failure.resolution} by {failure.resolved_by}{note}", "dim", columns=2)


def _facts(record: LeadRecord, *, reveal: bool) -> list[tuple[str, str | Text | None]]:
    state = record.state.value + (f" ({record.failure_class})" if record.failure_class else "")
    voicery = None
    if record.voicery_lead_id is not None:
        voicery = f"lead {record.voicery_lead_id}" + (f", {record.voicery_status}" if record.voicery_status else "")
    return [
        ("State", Text(state, style=STYLES[record.state])),
        ("Phone", record.phone_number if reveal else mask_phone(record.phone_number)),
        (
            "Campaign",
            f"{record.campaign_id}" + ("" if record.account == "default" else f" of account {record.account}"),
        ),
        ("Variables", _variables(record.variables, reveal=reveal)),
        ("Voicery", voicery),
        ("Duplicate of", None if record.duplicate_of is None else str(record.duplicate_of)),
        ("Waits behind", None if record.waits_behind is None else str(record.waits_behind)),
        ("Duplicates", "allowed (allow_dupplicate)" if record.allow_dupplicate else None),
        ("Priority", str(record.priority) if record.priority else None),
        ("Key", record.idempotency_key),
        ("Batch", None if record.batch_id is None else str(record.batch_id)),
        ("Submitted", moments.clock(record.created_at)),
        ("Due", moments.clock(record.due_at) if record.state in (State.PENDING, State.UNKNOWN) else None),
        ("Expires", moments.clock(record.expires_at) if record.expires_at else None),
        ("Finished", moments.clock(record.finished_at) if record.finished_at else None),
        ("Attempts", str(record.attempts)),
        ("Last error", record.last_error),
    ]


def _attempt(attempt: AttemptRecord) -> None:
    screen.say("")
    took = ""
    if attempt.ended_at is not None:
        took = f" after {moments.span((attempt.ended_at - attempt.started_at).total_seconds())}"
    status = f" HTTP {attempt.http_status}" if attempt.http_status else ""
    outcome = attempt.outcome.value if attempt.outcome else "on its way"
    screen.say((f"Attempt {attempt.number} ", "bold"), f"{moments.clock(attempt.started_at)}  {outcome}{status}{took}")
    if attempt.error:
        screen.indented(attempt.error, columns=2)
    for look in attempt.look_ups:
        fresh = ", list fresh" if look.control else ""
        screen.indented(f"looked up {moments.clock(look.at)}: {look.verdict}{fresh}", columns=2)
    screen.indented(f"by {attempt.worker or 'an unknown worker'}", "dim", columns=2)


def _variables(variables: Mapping[str, Any], *, reveal: bool) -> str:
    if not variables:
        return "none"
    return screen.plain(
        ", ".join(
            f"{name}={json.dumps(value, ensure_ascii=False) if reveal else MASKED}" for name, value in variables.items()
        )
    )
