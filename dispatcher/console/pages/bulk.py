"""Bulk actions on failed and on pending leads: a preview, a confirmation, a stored operation; and the export."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection
from starlette.responses import Response

from dispatcher import moments
from dispatcher.console import export as files
from dispatcher.console import filters
from dispatcher.console.auth import Role
from dispatcher.console.export_limit import MOST_ROWS, take
from dispatcher.console.filters import Filters
from dispatcher.console.request import BadRequest, Form, PageRequest, identifier, start_of, whole
from dispatcher.decisions.states import State
from dispatcher.errors import NotAllowed
from dispatcher.operator import edited_rows, failures
from dispatcher.operator.failure_filter import FailureFilter
from dispatcher.operator.lead_filter import LeadFilter
from dispatcher.operator.operation_work import OperationKind, Selection
from dispatcher.operator.operations import SelectionChanged

AnyFilters = Filters[FailureFilter] | Filters[LeadFilter]

TYPED_ABOVE: Final = 100
"""Above this number of leads the user has to type the number to confirm."""


def preview(request: PageRequest) -> Response:
    """Return what the action would do to the selection, or to all matching leads; changes nothing."""
    kind = _kind(request.form.get("verb"))
    asked, leads = _meant(request, kind)
    if isinstance(leads, Sequence) and not leads:
        request.say("Nothing was selected: tick some leads, or choose all that match.", "note")
        return request.go(_back(asked))
    return _preview(request, kind, asked, leads)


def start(request: PageRequest) -> Response:
    """Store the operation. Because of the action's id a second click starts no second operation."""
    kind = _kind(request.form.get("verb"))
    asked, leads = _meant(request, kind)
    even_if_called = request.form.get("even_if_called") == "yes"
    if even_if_called and not request.may(Role.ADMIN):
        raise NotAllowed("Only an admin may take the risk of a second call.")
    expected, typed = request.form.get("total"), request.form.get("typed")
    total = whole(expected, "The preview is incomplete; begin again.")
    if total > TYPED_ABOVE and "".join(typed.split()) != expected:
        return _preview(request, kind, asked, leads, fault=f"Type {expected} to confirm.")
    note = request.form.get("note") or None
    if kind is OperationKind.DISMISS and note is None:
        return _preview(request, kind, asked, leads, fault="A dismissal needs a note that says why.")
    if request.form.get("campaign_id") != request.form.get("previewed_campaign"):
        return _preview(request, kind, asked, leads, fault="The campaign is another one: look at its figures first.")
    try:
        terms = _terms(request.form)
    except BadRequest as fault:
        return _preview(request, kind, asked, leads, fault=str(fault))
    try:
        operation = request.services.operations.start(
            request.action_id(),
            kind,
            leads,
            actor=request.actor,
            note=note,
            even_if_called=even_if_called,
            expected=total,
            **terms,
        )
    except SelectionChanged as changed:
        return _preview(request, kind, asked, leads, fault=str(changed))
    return request.go(f"/operations/{operation.id}")


def export(request: PageRequest) -> Response:
    """Return the matching failures as a download, masked unless numbers are revealed. Limited and audited."""
    asked = filters.read_text(request.form.get("filters"))
    kind = request.form.get("format")
    if kind not in {"csv", "json", "edit"}:
        raise BadRequest("Export as csv, json or edit.")
    if kind == "edit":
        return _export_to_edit(request, asked)
    detail = {"format": kind, "whole_numbers": request.shows_numbers, "filters": asked.wanted.as_dict()}
    found = request.services.database.again(
        take,
        request.actor,
        "failed_leads",
        lambda connection, most: request.reading.beside(connection, failures.matching, asked.wanted, limit=most),
        detail,
    )
    if found is None:
        raise NotAllowed(f"More than {MOST_ROWS} failures match; narrow the filters, or export on the server.")
    return files.response(found, kind, reveal=request.shows_numbers)


def _export_to_edit(request: PageRequest, asked: Filters[FailureFilter]) -> Response:
    """Return the open failures as a table that corrects them when it is uploaded again. It shows everything whole."""
    if not request.shows_numbers:
        raise NotAllowed("The file to edit holds numbers and variables whole: reveal them first.")
    if asked.wanted.resolved:
        raise NotAllowed("Only leads whose failure is open can be edited; leave the resolved ones out.")
    header: list[str] = []

    def read(connection: Connection, _: int) -> list[list[str]]:
        header[:], rows = request.reading.beside(connection, edited_rows.table, asked.wanted)
        return rows

    detail = {"format": "edit", "whole_numbers": True, "filters": asked.wanted.as_dict()}
    rows = request.services.database.again(take, request.actor, "failed_leads", read, detail)
    return files.to_edit(header, rows or [])


def _preview(
    request: PageRequest, kind: OperationKind, asked: AnyFilters, leads: Selection, *, fault: str = ""
) -> Response:
    campaign_id = _campaign(request.form.get("campaign_id"))
    seen = request.services.operations.preview(kind, leads, campaign_id=campaign_id)
    return request.page(
        "preview.html",
        status=400 if fault else 200,
        kind=kind,
        asked=asked,
        leads=leads if isinstance(leads, Sequence) else [],
        everything=not isinstance(leads, Sequence),
        seen=seen,
        typed_above=TYPED_ABOVE,
        back=_back(asked),
        fault=fault,
        action=request.form.get("action"),
        typed={name: request.form.get(name) for name in ("note", "campaign_id", "at", "spread", "per_minute")},
    )


def _meant(request: PageRequest, kind: OperationKind) -> tuple[AnyFilters, Selection]:
    """Return the selected leads; for all that match, those that match now, not later ones."""
    if kind is OperationKind.CANCEL:
        return _pending_meant(request)
    asked = filters.read_text(request.form.get("filters"))
    if request.form.get("scope") != "all":
        return asked, _selected(request)
    if asked.wanted.resolved:
        raise BadRequest("These have been dealt with; select the leads that are meant.")
    if asked.wanted.failed_before is None:
        now = datetime.now(UTC)
        given = {**asked.given, "before": now.isoformat()}
        asked = Filters(given, replace(asked.wanted, failed_before=now))
    return asked, asked.wanted


def _pending_meant(request: PageRequest) -> tuple[AnyFilters, Selection]:
    asked = filters.read_leads_text(request.form.get("filters"))
    if request.form.get("scope") != "all":
        return asked, _selected(request)
    given, wanted = dict(asked.given), asked.wanted
    if wanted.due is None:
        given["state"], wanted = State.PENDING.value, replace(wanted, states=(State.PENDING,))
    if wanted.created_before is None:
        now = datetime.now(UTC)
        given["before"], wanted = now.isoformat(), replace(wanted, created_before=now)
    return Filters(given, wanted), wanted


def _selected(request: PageRequest) -> list[UUID]:
    return list(dict.fromkeys(map(identifier, request.form.all("lead"))))


def _back(asked: AnyFilters) -> str:
    query = asked.with_(before="") if "T" in asked.given.get("before", "") else asked.query
    page = "/failed/rows" if isinstance(asked.wanted, FailureFilter) else "/leads"
    return f"{page}?{query}" if query else page


def _kind(text: str) -> OperationKind:
    try:
        return OperationKind(text)
    except ValueError:
        raise BadRequest("That action does not exist.") from None


def _terms(form: Form) -> dict[str, Any]:
    """Return the start, pace and campaign of the operation. Raises `BadRequest`."""
    at, spread, per_minute = form.get("at"), form.get("spread"), form.get("per_minute")
    if spread and per_minute:
        raise BadRequest("Choose one pace: leads per minute, or spread over a time.")
    return {
        "not_before": start_of(at) if at else None,
        "spread": _spread(spread) if spread else None,
        "per_minute": _pace(per_minute),
        "campaign_id": _campaign(form.get("campaign_id")),
    }


def _pace(text: str) -> int | None:
    fault = "The pace is a whole number of leads a minute, or empty."
    return whole(text, fault, least=1, most=100_000) if text else None


def _spread(text: str) -> timedelta:
    try:
        return moments.duration(text)
    except ValueError as fault:
        raise BadRequest(f"Spread over “{text[:40]}”: {fault}.") from None


def _campaign(text: str) -> int | None:
    return whole(text, "The campaign is its id, a whole number, or empty.", least=1) if text else None
