"""The page of one lead: its data, its history, and the actions on it."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

from starlette.responses import Response

from dispatcher.console.export import curl
from dispatcher.console.request import BadRequest, PageRequest, start_of, whole
from dispatcher.console.timeline import timeline
from dispatcher.console.words import pretty
from dispatcher.decisions.states import State
from dispatcher.errors import InvalidLead, NotAllowed, NotConfigured
from dispatcher.lead.variables import NameTwice, read_json
from dispatcher.operator import audit_log, corrections, lead_facts, lead_search
from dispatcher.operator.lead_record import LeadRecord
from dispatcher.operator.operation_work import OperationKind
from dispatcher.operator.replay import ReplayTerms, refusal
from dispatcher.operator.resolve import Resolved

_TOO_LONG = 20_000


def show(request: PageRequest) -> Response:
    """Return the page of a lead."""
    lead_id = request.id()
    record = request.services.reads.get(lead_id)
    facts = request.services.database.read(lead_facts.read_one, lead_id, screening=request.services.screening)
    audit = request.services.database.read(audit_log.entries, subject=str(lead_id), most=200)
    return request.page(
        "lead.html",
        lead=record,
        explained=request.services.reads.explain(lead_id),
        open_failure=record.open_failure,
        in_doubt=facts.state is State.UNKNOWN or facts.in_doubt_since is not None,
        refused=refusal(facts, ReplayTerms(request.actor)) if facts.state is State.FAILED else None,
        facts_blocked=facts.blocked,
        timeline=timeline(record, audit),
        revisions=request.services.database.read(corrections.revisions, lead_id),
        kin=_kin(request, record),
        curl=curl(record, _base_url(request, record.account), reveal=request.shows_numbers),
        back=request.query.get("back", ""),
    )


def replay(request: PageRequest) -> Response:
    """Replay the lead if no earlier POST can have caused a call; at once, or not before a time."""
    at = request.form.get("at")
    not_before = start_of(at) if at else None
    return _act(
        request,
        lambda lead_id: request.services.failures.replay(
            lead_id,
            actor=request.actor,
            note=request.form.get("note") or None,
            not_before=not_before,
            failure_id=_failure(request),
        ),
        "Replayed: it is on its way again." if not_before is None else "Replayed: it waits until then.",
    )


def replay_even_if_called(request: PageRequest) -> Response:
    """Replay the lead although the person may have been called; the user has to confirm it."""
    if request.form.get("sure") != "yes":
        raise BadRequest("Tick that a second call is acceptable.")
    return _act(
        request,
        lambda lead_id: request.services.failures.replay(
            lead_id,
            actor=request.actor,
            even_if_called=True,
            note=request.form.get("note") or None,
            failure_id=_failure(request),
        ),
        "Replayed, although the person may have been called before.",
    )


def look_up(request: PageRequest) -> Response:
    """Request a look-up of the lead."""
    operation = request.services.operations.start(
        request.action_id(), OperationKind.LOOK_UP, [request.id()], actor=request.actor
    )
    request.say("A worker looks it up as soon as the rate limit allows; the evidence will be here.")
    return request.go(f"/operations/{operation.id}")


def resolve(request: PageRequest) -> Response:
    """Resolve the failure by the user's decision."""
    match request.form.get("as"):
        case "accepted":
            as_: Resolved = "accepted"
        case "dismissed":
            as_ = "dismissed"
        case _:
            raise BadRequest("Resolve as accepted or as dismissed.")
    return _act(
        request,
        lambda lead_id: request.services.failures.resolve(
            lead_id, as_, note=request.form.get("note"), actor=request.actor
        ),
        f"Resolved as {as_}.",
    )


def cancel(request: PageRequest) -> Response:
    """Cancel the lead before it is claimed."""
    return _act(
        request,
        lambda lead_id: request.services.failures.cancel(lead_id, actor=request.actor),
        "Cancelled; nobody is called.",
    )


def correction(request: PageRequest) -> Response:
    """Return the form for a correction. Number and variables are filled in only while numbers are revealed."""
    record = request.services.reads.get(request.id())
    fields = {
        "phone_number": record.phone_number if request.shows_numbers else "",
        "campaign_id": str(record.campaign_id),
        "variables": pretty(dict(record.variables)) if request.shows_numbers else "",
        "note": "",
    }
    return _correction(request, record, fields)


def correct(request: PageRequest) -> Response:
    """Correct the lead and replay it; the earlier version is kept."""
    lead_id = request.id()
    fields = {name: request.form.get(name) for name in ("phone_number", "campaign_id", "variables", "note")}
    try:
        request.services.corrections.correct(
            lead_id, _changes(fields), actor=request.actor, note=fields["note"] or None, failure_id=_failure(request)
        )
    except InvalidLead as fault:
        faults = [str(one) for one in fault.errors]
    except (NotAllowed, BadRequest) as refusal:
        faults = [str(refusal)]
    else:
        request.say("Corrected and replayed; the earlier version is kept below.")
        return request.go(f"/leads/{lead_id}")
    return _correction(request, request.services.reads.get(lead_id), fields, faults)


def _correction(
    request: PageRequest, record: LeadRecord, fields: dict[str, str], faults: list[str] | None = None
) -> Response:
    return request.page(
        "correct.html",
        status=400 if faults else 200,
        lead=record,
        fields=fields,
        faults=faults or [],
        open_failure=record.open_failure,
    )


def _changes(fields: dict[str, str]) -> dict[str, Any]:
    """Return the fields that were filled in; an empty field is not changed."""
    changes: dict[str, Any] = {}
    if fields["phone_number"]:
        changes["phone_number"] = fields["phone_number"]
    if fields["campaign_id"]:
        fault = "campaign_id: is not an integer; pass the campaign's id as Voicery shows it, e.g. 42"
        changes["campaign_id"] = whole(fields["campaign_id"], fault, most=10**20)  # `Lead` has the limit
    if fields["variables"]:
        try:
            changes["variables"] = read_json(fields["variables"][:_TOO_LONG])
        except NameTwice as twice:
            raise BadRequest(f"variables: {twice}") from None
        except ValueError:
            raise BadRequest('variables: are no JSON object; write them like {"customer_name": "Ada"}') from None
    return changes


def _act(request: PageRequest, act: Callable[[UUID], None], done: str) -> Response:
    """Perform the action, and show its result or its refusal on the page that requested it."""
    try:
        act(request.id())
    except NotAllowed as refusal:
        request.say(str(refusal), "bad")
    else:
        request.say(done)
    return request.go(request.form.get("return") or f"/leads/{request.id()}")


def _kin(request: PageRequest, record: LeadRecord) -> list[Any]:
    """Return other leads of the same number that have a failure, or stand for the person now."""
    return [
        found
        for found in request.services.database.read(lead_search.search, record.phone_number)
        if found.lead_id != record.id
    ]


def _failure(request: PageRequest) -> int | None:
    """Return the id of the failure that the page showed; the action applies only while that is open."""
    text = request.form.get("failure")
    if not text:
        return None
    return whole(text, "That is not the number of a failure; go back and reload.")


def _base_url(request: PageRequest, account: str) -> str:
    try:
        return request.services.settings.account(account).base_url
    except NotConfigured:
        return request.services.settings.account("default").base_url
