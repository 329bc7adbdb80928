"""Explain in plain sentences the state of a lead and its next step. Pure functions; no personal data in the text.

For example: "It is not known whether it arrived: sent 14:02:11, no answer in 20 s; looked up 14:04:15: not there. It is
looked up at 14:06:20; nobody sends it again before its absence is proven. (Times are UTC.)"
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final, assert_never
from uuid import UUID

from dispatcher.decisions.gate import GateState
from dispatcher.decisions.outcome import Kind, Reason
from dispatcher.decisions.states import FailureClass, State
from dispatcher.lead.masking import mask_numbers
from dispatcher.moments import clock, span
from dispatcher.operator.failures import FailedLead, advice
from dispatcher.operator.lead_record import AttemptRecord, LeadRecord, LookUpRecord
from dispatcher.operator.overview import GateRecord

ATTEMPTS_TOLD: Final = 3
"""The number of attempts, counted from the latest, that an explanation lists."""

_VERDICTS: Final = {
    "match": "found",
    "possible": "something that may be this lead, and may not",
    "absent": "not there",
    "unavailable": "the list could not be had",
}


_SINCE: Final = {
    State.PENDING: "That one waits to be sent; if it ends without a call, its youngest duplicate takes its place.",
    State.SENDING: "That one is on its way.",
    State.UNKNOWN: "Of that one it is not known whether it arrived; it is looked up.",
    State.ACCEPTED: "Voicery accepted that one.",
    State.DUPLICATE: "Voicery has that person already, so that one was not called either.",
    State.FAILED: "That one has failed; `dispatcher explain` says why. Replay that one if a call is still wanted.",
    State.CANCELLED: "That one was cancelled; submit the lead again if a call is still wanted.",
}
"""What became of the lead that a duplicate was a duplicate of."""

ABSENCE_PROVEN: Final = (
    "A look-up has just proven that it had no effect: nobody was called. Replay it within 10 minutes of that, while the"
    " proof holds."
)


def explain(record: LeadRecord, gates: Sequence[GateRecord] = (), rate_limit: str | None = None) -> str:
    """Return one short paragraph.

    gates       the gates that hold the lead back, its account's first
    rate_limit  the limit of its campaign
    """
    before = [] if record.place_of is None else [_heir(record.place_of)]
    after = [] if record.place_to is None else [f"Lead {record.place_to}, which was a duplicate of it, took its place."]
    return " ".join([*before, *_sentences(record, gates, rate_limit, record.read_at), *after, "(Times are UTC.)"])


def _sentences(record: LeadRecord, gates: Sequence[GateRecord], rate_limit: str | None, now: datetime) -> Iterator[str]:
    match record.state:
        case State.PENDING:
            return _pending(record, gates, rate_limit, now)
        case State.SENDING:
            return _sending(record, now)
        case State.UNKNOWN:
            return _unknown(record, gates, now)
        case State.ACCEPTED:
            return _accepted(record, now)
        case State.DUPLICATE:
            return _duplicate(record, now)
        case State.FAILED:
            return _failed(record, now)
        case State.CANCELLED:
            return _cancelled(record, now)
        case _ as never:
            assert_never(never)


def _heir(original: UUID) -> str:
    return f"It was a duplicate of lead {original}, which ended without a call, and took its place."


# One for each state ---------------------------------------------------------------------------------------------------


def _pending(record: LeadRecord, gates: Sequence[GateRecord], rate_limit: str | None, now: datetime) -> Iterator[str]:
    if record.history:
        yield f"{_capital(_tale(record, now))}."
    else:
        yield f"It was submitted at {clock(record.created_at, now)} and has not been sent."
    shut = next(iter(gates), None)
    if record.expires_at is not None and record.expires_at <= now:
        yield f"It expired at {clock(record.expires_at, now)}; the sweep is about to mark it as failed."
    elif shut is not None:
        yield _held(shut, now)
    elif record.waits_behind is not None:
        yield f"It waits for lead {record.waits_behind} of the same person, which is on its way."
    elif record.due_at > now:
        yield f"It goes at {clock(record.due_at, now)}, in {span((record.due_at - now).total_seconds())}."
    else:
        yield "It goes as soon as a worker is free and the rate limit allows; `dispatcher status` shows both."
        if rate_limit is not None:
            yield f"Its campaign also has a limit of its own, {rate_limit}; `dispatcher limit` changes it."


def _sending(record: LeadRecord, now: datetime) -> Iterator[str]:
    worker = record.history[-1].worker if record.history else None
    yield f"Worker {worker or 'unknown'} claimed it at {clock(_started(record), now)} and has not reported yet."
    yield (
        f"If nothing is heard by {clock(record.lease_until, now)}, it becomes unknown and is looked up; "
        "it is never simply sent again."
    )


def _unknown(record: LeadRecord, gates: Sequence[GateRecord], now: datetime) -> Iterator[str]:
    yield f"It is not known whether it arrived: {_tale(record, now)}."
    latest = record.history[-1] if record.history else None
    if any(one.verdict == "possible" for one in (latest.look_ups if latest else ())):
        yield "A person should compare: `dispatcher show` has the evidence, `dispatcher resolve` decides."
    if gates and gates[0].reason is not Reason.PAUSED:
        yield f"{_capital(gates[0].scope)} is held back ({gates[0].reason}), which may delay look-ups."
    when = f"at {clock(record.due_at, now)}" if record.due_at > now else "at the next opportunity"
    if latest is not None and latest.outcome is Kind.CREATED_ID_UNKNOWN:
        yield f"It is looked up {when} to learn its id; it is never sent again."
    else:
        yield f"It is looked up {when}; nobody sends it again before its absence is proven."
        if latest is not None and latest.missing:
            yield f"Not proven so far: {_ended(mask_numbers(latest.missing))}"


def _accepted(record: LeadRecord, now: datetime) -> Iterator[str]:
    when = clock(record.finished_at, now)
    resolved = bool(record.failures) or not record.history or bool(record.history[-1].evidence.get("operator"))
    if record.voicery_lead_id is None and not resolved:
        yield f"Voicery accepted it at {when}, with an id that another lead holds; an incident says which."
    elif record.voicery_lead_id is None:
        yield f"A person resolved it as accepted at {when}{_said(record)}"
    else:
        status = f", status {record.voicery_status}" if record.voicery_status else ""
        yield f"Voicery accepted it at {when} as its lead {record.voicery_lead_id}{status}."
    if len(record.history) > 1 or (record.history and record.history[-1].look_ups):
        yield f"How: {_tale(record, now)}."
    yield "Nothing more happens here."


def _cancelled(record: LeadRecord, now: datetime) -> Iterator[str]:
    when = clock(record.finished_at, now)
    if any(attempt.in_doubt for attempt in record.history):
        yield f"It was cancelled at {when} before it was sent again: {_tale(record, now)}."
    else:
        yield f"It was cancelled at {when}; nobody was called."


def _duplicate(record: LeadRecord, now: datetime) -> Iterator[str]:
    when = clock(record.finished_at, now)
    if record.duplicate_of is not None and not record.history:
        yield f"When it was submitted at {when}, lead {record.duplicate_of} already stood for this person."
        if record.duplicate_of_state is not None:
            yield _SINCE[record.duplicate_of_state]
    elif record.duplicate_of is not None:
        yield f"Voicery answered at {when} with the id of lead {record.duplicate_of}, which stands for this person."
    else:
        yield f"Voicery refused it at {when} as a duplicate: it has a lead of this person in this campaign already."
    if any(attempt.in_doubt for attempt in record.history):
        yield f"That may be its own earlier POST: {_tale(record, now)}."
    yield "Nobody is called because of this one."


def _failed(record: LeadRecord, now: datetime) -> Iterator[str]:
    latest = record.failures[-1] if record.failures else None
    cause = mask_numbers((latest.message if latest else record.last_error) or "no cause was stored")
    yield f"It failed at {clock(record.finished_at, now)} ({record.failure_class}): {_ended(cause)}"
    if record.failure_class is FailureClass.OUTCOME_UNKNOWN and record.history:
        yield f"What happened: {_tale(record, now)}."
    if record.resolved_at is not None:
        yield f"{_decided(latest)} at {clock(record.resolved_at, now)}{_note(latest)} Nothing more happens."
    else:
        told = ABSENCE_PROVEN if record.absence_proven else advice(record.failure_class) if record.failure_class else ""
        yield f"{told} Nothing happens by itself.".lstrip()


# What happened --------------------------------------------------------------------------------------------------------


def _tale(record: LeadRecord, now: datetime) -> str:
    told = record.history[-ATTEMPTS_TOLD:]
    untold = len(record.history) - len(told)
    parts = [f"after {untold} earlier attempt{'s' if untold > 1 else ''}"] if untold else []
    for place, attempt in enumerate(told):
        parts += _attempt(attempt, now, again=bool(untold) or place > 0)
    return "; ".join(parts)


def _attempt(attempt: AttemptRecord, now: datetime, *, again: bool) -> Iterator[str]:
    verb = "sent again" if again else "sent"
    match attempt.outcome:
        case Kind.NOT_SENT | Kind.BUG | Kind.GIVEN_BACK:
            verb = "tried again" if again else "tried"
        case _:
            pass
    yield f"{verb} {clock(attempt.started_at, now)}, {_ending(attempt)}"
    for place, look_up in enumerate(attempt.look_ups):
        yield _look_up(look_up, now, again=place > 0)


def _ending(attempt: AttemptRecord) -> str:
    took = None if attempt.ended_at is None else (attempt.ended_at - attempt.started_at).total_seconds()
    match attempt.outcome:
        case None:
            return "no report yet"
        case Kind.ACCEPTED:
            return "accepted"
        case Kind.CREATED_ID_UNKNOWN:
            return "Voicery said yes but gave no id"
        case Kind.UNKNOWN if attempt.error == "lease_expired":
            return "its worker died or froze"
        case Kind.UNKNOWN if attempt.http_status is not None:
            return f"HTTP {attempt.http_status}"
        case Kind.UNKNOWN if took is not None:
            return f"no answer in {span(took)}" if _silent(attempt) else f"{_clause(attempt)} after {span(took)}"
        case _:
            return _clause(attempt)


def _look_up(look_up: LookUpRecord, now: datetime, *, again: bool) -> str:
    verb = "again" if again else "looked up"
    fresh = ", list fresh" if look_up.control and look_up.verdict == "absent" else ""
    return f"{verb} {clock(look_up.at, now)}: {_VERDICTS.get(look_up.verdict, look_up.verdict)}{fresh}"


def _silent(attempt: AttemptRecord) -> bool:
    return attempt.error is None or attempt.error.startswith("Voicery did not answer in time")


def _clause(attempt: AttemptRecord) -> str:
    """Return the cause without the words that every attempt of its kind shares."""
    error = attempt.error or str(attempt.outcome)
    for common in (", after the lead had been sent", "; nothing was sent"):
        error = error.split(common)[0]
    error = error.rstrip(".")
    return error if error.startswith("Voicery") else error[:1].lower() + error[1:]


# What holds it back ---------------------------------------------------------------------------------------------------


def _held(gate: GateRecord, now: datetime) -> str:
    why = f" ({mask_numbers(gate.note).rstrip('.')})" if gate.note else ""
    if gate.reason is Reason.PAUSED:
        return f"It waits because {gate.by or 'somebody'} paused {gate.scope}{why}; `dispatcher resume` lets it go."
    if gate.state is GateState.PROBING:
        return f"{_capital(gate.scope)} is tried with single leads after {gate.reason}; it goes when one is accepted."
    until = "" if gate.until is None else f" It is tried again at {clock(gate.until, now)}."
    return f"It waits, and spends no attempts, because {gate.scope} is held back: {gate.reason}{why}.{until}"


# Words ----------------------------------------------------------------------------------------------------------------


def _said(record: LeadRecord) -> str:
    latest = record.failures[-1] if record.failures else None
    if latest is not None and latest.note:
        return _note(latest)
    said = record.history[-1].evidence.get("operator") if record.history else None
    note = said.get("note") if isinstance(said, dict) else None
    return f": {_ended(mask_numbers(str(note)))}" if note else "."


def _decided(failure: FailedLead | None) -> str:
    return f"{(failure.resolved_by if failure else None) or 'A person'} dismissed it"


def _note(failure: FailedLead | None) -> str:
    return f": {_ended(mask_numbers(failure.note))}" if failure is not None and failure.note else "."


def _started(record: LeadRecord) -> datetime | None:
    return record.history[-1].started_at if record.history else record.updated_at


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _ended(text: str) -> str:
    return text if text.endswith((".", "!", "?", "…")) else text + "."
