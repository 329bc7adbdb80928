"""The pages of failed leads: by cause, and row by row."""

from datetime import datetime
from typing import Final

from starlette.responses import Response

from dispatcher.console import filters
from dispatcher.console.auth import Role
from dispatcher.console.filters import Filters
from dispatcher.console.request import NO_PAGE, BadRequest, PageRequest, whole
from dispatcher.decisions.states import FailureClass
from dispatcher.operator import failures, saved_filters
from dispatcher.operator.failure_filter import FailureFilter
from dispatcher.operator.failures import advice
from dispatcher.operator.overview import Count

PAGE_ROWS: Final = 50


def causes(request: PageRequest) -> Response:
    """Return one line for each cause."""
    asked = _asked(request)
    groups = request.reading.read(failures.groups, asked.wanted)
    return request.page(
        "causes.html",
        asked=asked,
        groups=groups,
        trends=request.reading.read(failures.trends, asked.wanted) if groups else {},
        total=sum(group.leads for group in groups),
        saved=request.services.database.read(saved_filters.of, request.person.name, "failed"),
        classes=list(FailureClass),
    )


def rows(request: PageRequest) -> Response:
    """Return one page of failures, the latest first."""
    asked = _asked(request)
    after = _cursor(request.query.get("after"))
    page = request.reading.read(failures.page, asked.wanted, limit=PAGE_ROWS, after=after)
    if after is None and not page.more:  # nothing is read once more to be counted
        total = Count(len(page.failures), exact=page.read_until is None)
    else:
        total = request.reading.read(failures.count_matching, asked.wanted)
    last = (page.failures[-1].failed_at, page.failures[-1].id) if page.more else None
    return request.page(
        "rows.html",
        asked=asked,
        rows=page.failures,
        summaries=request.reading.read(failures.summaries, [row.lead_id for row in page.failures]),
        total=total,
        following=None if last is None else _next(*last),
        read_until=None if page.read_until is None else _next(*page.read_until),
        bound=failures.MOST_READ,
        first=after is None,
        classes=list(FailureClass),
        saved=request.services.database.read(saved_filters.of, request.person.name, "failed"),
        advice=advice,
    )


def _asked(request: PageRequest) -> Filters[FailureFilter]:
    """Return the filters of the URL. A filter by a person's number is audited."""
    asked = filters.read(request.query, masked=not request.may(Role.OPERATOR))
    if asked.wanted.phone_number is not None:
        request.note_person_looked_up(asked.wanted.phone_number)
    return asked


def _next(failed_at: datetime, id: int) -> str:
    return f"{failed_at.isoformat()}~{id}"


def _cursor(text: str | None) -> tuple[datetime, int] | None:
    if not text:
        return None
    moment, _, number = text.partition("~")
    try:
        at = datetime.fromisoformat(moment)
    except ValueError:
        raise BadRequest(NO_PAGE) from None
    if at.tzinfo is None:
        raise BadRequest(NO_PAGE)
    return at, whole(number, NO_PAGE)
