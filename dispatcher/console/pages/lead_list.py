"""The page of leads in any state, by filters."""

from typing import Final

from starlette.responses import Response

from dispatcher.console import filters
from dispatcher.console.auth import Role
from dispatcher.console.request import NO_PAGE, PageRequest, identifier
from dispatcher.decisions.states import State
from dispatcher.operator import leads, saved_filters
from dispatcher.operator.overview import Count

PAGE_ROWS: Final = 50


def show(request: PageRequest) -> Response:
    """Return one page of leads. A filter by a person's number is audited."""
    asked = filters.read_leads(request.query, masked=not request.may(Role.OPERATOR))
    if asked.wanted.phone_number is not None:
        request.note_person_looked_up(asked.wanted.phone_number)
    given = request.query.get("after")
    after = identifier(given, NO_PAGE) if given else None
    reading = request.reading
    page = reading.read(leads.page, asked.wanted, most=PAGE_ROWS, after=after)
    if after is None and not page.more:  # nothing is read once more to be counted
        total = Count(len(page.leads), exact=page.read_until is None)
    else:
        total = reading.read(leads.count_matching, asked.wanted)
    return request.page(
        "leads.html",
        asked=asked,
        page=page,
        total=total,
        first=after is None,
        bound=leads.MOST_READ,
        states=list(State),
        saved=request.services.database.read(saved_filters.of, request.person.name, "leads"),
        cancellable=asked.wanted.in_flight or not asked.wanted.states or State.PENDING in asked.wanted.states,
    )
