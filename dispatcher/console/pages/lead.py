"""One lead: everything known of it, and every safe thing to do about it."""

import json
from collections.abc import Callable
from typing import Any
from uuid import UUID

from starlette.responses import Response

from dispatcher.console.export import curl
from dispatcher.console.timeline import timeline
from dispatcher.console.visit import BadRequest, Visit, start_of
from dispatcher.decisions.states import State
from dispatcher.errors import InvalidLead, NotAllowed, NotConfigured
from dispatcher.operator import audit_log, corrections, lead_facts, lead_search
from dispatcher.operator.lead_record import LeadRecord
from dispatcher.operator.operation_work import OperationKind
from dispatcher.operator.replay import ReplayTerms, refusal
from dispatcher.operator.resolve import Resolved

_TOO_LONG = 20_000


def show(visit: Visit) -> Response:
    """The lead."""
    lead_id = visit.id()
    record = visit.services.reads.get(lead_id)
    facts = visit.services.database.read(lead_facts.read_one, lead_id)
    audit = visit.services.database.read(audit_log.entries, subject=str(lead_id), most=200)
    return visit.page(
        "lead.html",
        lead=record,
        explained=visit.services.reads.explain(lead_id),
        open_failure=record.open_failure,
        in_doubt=facts.state is State.UNKNOWN or facts.in_doubt_since is not None,
        refused=refusal(facts, ReplayTerms(visit.actor)) if facts.state is State.FAILED else None,
        timeline=timeline(record, audit),
        revisions=visit.services.database.read(corrections.revisions, lead_id),
        kin=_kin(visit, record),
        curl=curl(record, _base_url(visit, record.account), reveal=visit.shows_numbers),
        back=visit.query.get("back", ""),
    )


def replay(visit: Visit) -> Response:
    """Send it again, if nobody can have been called by it; at once, or not before a time."""
    at = visit.form.get("at")
    not_before = start_of(at) if at else None
    return _act(
        visit,
        lambda lead_id: visit.services.failures.replay(
            lead_id,
            actor=visit.actor,
            note=visit.form.get("note") or None,
            not_before=not_before,
            failure_id=_failure(visit),
        ),
        "Replayed: it is on its way again." if not_before is None else "Replayed: it waits until then.",
    )


def replay_even_if_called(visit: Visit) -> Response:
    """Send it again though the person may have been called; somebody says so."""
    if visit.form.get("sure") != "yes":
        raise BadRequest("Tick that a second call is acceptable.")
    return _act(
        visit,
        lambda lead_id: visit.services.failures.replay(
            lead_id,
            actor=visit.actor,
            even_if_called=True,
            note=visit.form.get("note") or None,
            failure_id=_failure(visit),
        ),
        "Replayed, although the person may have been called before.",
    )


def look_up(visit: Visit) -> Response:
    """Have a worker ask Voicery for it."""
    operation = visit.services.operations.start(
        _uuid(visit.form.get("action")), OperationKind.LOOK_UP, [visit.id()], actor=visit.actor
    )
    visit.say("A worker looks it up as soon as the rate limit allows; the evidence will be here.")
    return visit.go(f"/operations/{operation.id}")


def resolve(visit: Visit) -> Response:
    """Decide what nobody else can."""
    match visit.form.get("as"):
        case "accepted":
            as_: Resolved = "accepted"
        case "dismissed":
            as_ = "dismissed"
        case _:
            raise BadRequest("Resolve as accepted or as dismissed.")
    return _act(
        visit,
        lambda lead_id: visit.services.failures.resolve(lead_id, as_, note=visit.form.get("note"), actor=visit.actor),
        f"Resolved as {as_}.",
    )


def cancel(visit: Visit) -> Response:
    """Withdraw it before it is claimed."""
    return _act(
        visit,
        lambda lead_id: visit.services.failures.cancel(lead_id, actor=visit.actor),
        "Cancelled; nobody is called.",
    )


def correction(visit: Visit) -> Response:
    """The form that corrects it. Whoever corrects must see what is there."""
    record = visit.services.reads.get(visit.id())
    fields = {
        "phone_number": record.phone_number if visit.shows_numbers else "",
        "campaign_id": str(record.campaign_id),
        "variables": json.dumps(dict(record.variables), ensure_ascii=False, indent=2) if visit.shows_numbers else "",
        "note": "",
    }
    return _correction(visit, record, fields)


def correct(visit: Visit) -> Response:
    """Change it and send it again; what was is kept."""
    lead_id = visit.id()
    fields = {name: visit.form.get(name) for name in ("phone_number", "campaign_id", "variables", "note")}
    try:
        visit.services.corrections.correct(
            lead_id, _changes(fields), actor=visit.actor, note=fields["note"] or None, failure_id=_failure(visit)
        )
    except InvalidLead as fault:
        faults = [str(one) for one in fault.errors]
    except (NotAllowed, BadRequest) as refusal:
        faults = [str(refusal)]
    else:
        visit.say("Corrected and replayed; the earlier version is kept below.")
        return visit.go(f"/leads/{lead_id}")
    return _correction(visit, visit.services.reads.get(lead_id), fields, faults)


def _correction(visit: Visit, record: LeadRecord, fields: dict[str, str], faults: list[str] | None = None) -> Response:
    return visit.page(
        "correct.html",
        status=400 if faults else 200,
        lead=record,
        fields=fields,
        faults=faults or [],
        open_failure=record.open_failure,
    )


def _changes(fields: dict[str, str]) -> dict[str, Any]:
    """What was filled in; an empty field stays as it is."""
    changes: dict[str, Any] = {}
    if fields["phone_number"]:
        changes["phone_number"] = fields["phone_number"]
    if fields["campaign_id"]:
        if not fields["campaign_id"].isascii() or not fields["campaign_id"].isdecimal():
            raise BadRequest("campaign_id: is not an integer; pass the campaign's id as Voicery shows it, e.g. 42")
        changes["campaign_id"] = int(fields["campaign_id"][:20])
    if fields["variables"]:
        try:
            changes["variables"] = json.loads(fields["variables"][:_TOO_LONG])
        except (ValueError, RecursionError):
            raise BadRequest('variables: are no JSON object; write them like {"customer_name": "Ada"}') from None
    return changes


def _act(visit: Visit, act: Callable[[UUID], None], done: str) -> Response:
    """Do it and say so where it was asked for; a refusal is said there too."""
    try:
        act(visit.id())
    except NotAllowed as refusal:
        visit.say(str(refusal), "bad")
    else:
        visit.say(done)
    return visit.go(visit.form.get("return") or f"/leads/{visit.id()}")


def _kin(visit: Visit, record: LeadRecord) -> list[Any]:
    """Other leads of the same number that failed once, or stand for the person now."""
    return [
        found
        for found in visit.services.database.read(lead_search.search, record.phone_number)
        if found.lead_id != record.id
    ]


def _failure(visit: Visit) -> int | None:
    """The failure that the page showed: the fence of the action."""
    text = visit.form.get("failure")
    if not text:
        return None
    if not text.isascii() or not text.isdecimal() or int(text) >= 2**63:
        raise BadRequest("That is no number of a failure.")
    return int(text)


def _base_url(visit: Visit, account: str) -> str:
    try:
        return visit.services.settings.account(account).base_url
    except NotConfigured:
        return visit.services.settings.account("default").base_url


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise BadRequest("That is no id.") from None
