"""Saving filters under a name, and removing them."""

from starlette.responses import Response

from dispatcher.console import filters
from dispatcher.console.auth import Role
from dispatcher.console.filters import Filters
from dispatcher.console.request import BadRequest, PageRequest, whole
from dispatcher.errors import NotAllowed
from dispatcher.operator import saved_filters
from dispatcher.operator.record import mask_reference
from dispatcher.operator.saved_filters import Page

_LISTS = {"leads": "/leads", "failed": "/failed/rows"}
_PERSONAL = ("phone", "variable")


def save(request: PageRequest) -> Response:
    """Save the filters of a list."""
    page = _page(request.form.get("page"))
    asked = _asked(request, page)
    back = f"{_LISTS[page]}?{asked.query}"
    personal = [name for name, value in asked.given.items() if name in _PERSONAL or mask_reference(value) != value]
    if personal:
        request.say(f"A saved filter names no person: take away {', '.join(personal)} first.", "bad")
        return request.go(back)
    try:
        request.services.database.again(
            saved_filters.save, request.person.name, page, request.form.get("name"), asked.query
        )
    except NotAllowed as refusal:
        request.say(str(refusal), "bad")
    else:
        request.say("Saved: it stands above the list.")
    return request.go(back)


def remove(request: PageRequest) -> Response:
    """Remove a saved filter of this user."""
    number = whole(str(request.http.path_params["number"]), "That is not a saved filter; go back and reload.")
    name = request.services.database.again(saved_filters.remove, request.person.name, number)
    request.say(f"Removed: {name}." if name else "It was removed already.", "good" if name else "note")
    return request.go(request.form.get("return", "/"))


def _asked(request: PageRequest, page: Page) -> Filters:  # type: ignore[type-arg]  # of either list
    masked = not request.may(Role.OPERATOR)
    read = filters.read_leads_text if page == "leads" else filters.read_text
    return read(request.form.get("filters"), masked=masked)


def _page(text: str) -> Page:
    match text:
        case "leads":
            return "leads"
        case "failed":
            return "failed"
        case _:
            raise BadRequest("Filters are saved for the list of leads or of failed leads.")
