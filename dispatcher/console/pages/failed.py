"""Failed leads: by cause first, then row by row."""

from datetime import datetime
from typing import Final

from starlette.responses import Response

from dispatcher.console import filters
from dispatcher.console.visit import BadRequest, Visit
from dispatcher.decisions.states import FailureClass
from dispatcher.operator import failures
from dispatcher.operator.failures import FailedLead, advice
from dispatcher.operator.overview import Count

PAGE_ROWS: Final = 50


def causes(visit: Visit) -> Response:
    """One line for each cause."""
    asked = filters.read(visit.query)
    groups = visit.services.database.read(failures.groups, asked.wanted)
    return visit.page(
        "causes.html",
        asked=asked,
        groups=groups,
        total=sum(group.leads for group in groups),
        classes=list(FailureClass),
    )


def rows(visit: Visit) -> Response:
    """The failures themselves, the latest first, a page at a time."""
    asked = filters.read(visit.query)
    after = _cursor(visit.query.get("after"))
    found = visit.services.database.read(failures.matching, asked.wanted, limit=PAGE_ROWS + 1, after=after)
    page, more = found[:PAGE_ROWS], len(found) > PAGE_ROWS
    alone = after is None and not more
    return visit.page(
        "rows.html",
        asked=asked,
        rows=page,
        summaries=visit.services.database.read(failures.summaries, [row.lead_id for row in page]),
        total=Count(len(page)) if alone else visit.services.database.read(failures.count_matching, asked.wanted),
        following=_next(page[-1]) if more else None,
        first=after is None,
        classes=list(FailureClass),
        advice=advice,
    )


def _next(row: FailedLead) -> str:
    return f"{row.failed_at.isoformat()}~{row.id}"


def _cursor(text: str | None) -> tuple[datetime, int] | None:
    if not text:
        return None
    moment, _, number = text.partition("~")
    try:
        at = datetime.fromisoformat(moment)
        place = int(number)
    except ValueError:
        raise BadRequest("That page does not exist; begin with the first.") from None
    if at.tzinfo is None or not 0 <= place < 2**63:
        raise BadRequest("That page does not exist; begin with the first.")
    return at, place
