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
from dispatcher.operator.failures import FailedLead, advice
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
    found = request.reading.read(failures.matching, asked.wanted, limit=PAGE_ROWS + 1, after=after)
    page, more = found[:PAGE_ROWS], len(found) > PAGE_ROWS
    alone = after is None and not more
    return request.page(
        "rows.html",
        asked=asked,
        rows=page,
        summaries=request.reading.read(failures.summaries, [row.lead_id for row in page]),
        total=Count(len(page)) if alone else request.reading.read(failures.count_matching, asked.wanted),
        following=_next(page[-1]) if more else None,
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


def _next(row: FailedLead) -> str:
    return f"{row.failed_at.isoformat()}~{row.id}"


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
