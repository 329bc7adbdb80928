"""The overview of the queue, and the search."""

from dataclasses import dataclass
from typing import Final

from starlette.responses import Response

from dispatcher.console.auth import Role
from dispatcher.console.chart import NARROW, RANGES, Range, chart
from dispatcher.console.recent import FIGURES_SECONDS
from dispatcher.console.request import BadRequest, PageRequest, whole
from dispatcher.decisions.states import State
from dispatcher.operator import activity as attempts
from dispatcher.operator import lead_search
from dispatcher.operator.activity import Activity
from dispatcher.operator.overview import Overview, RateUse

_PACE_SLOT: Final = 300
_NO_RANGE: Final = f"The chart shows the last {', '.join(map(str, RANGES))} hours; choose one of them."


@dataclass(frozen=True, slots=True)
class Drain:
    """The time until no due lead waits but those that a gate holds back, in seconds.

    seconds    None: neither a pace nor a rate limit is known
    measured   at the pace of the last minutes; otherwise at the allowed rate
    """

    seconds: float | None
    measured: bool


def show(request: PageRequest) -> Response:
    """Return the start page of the console."""
    span = _range(request)
    overview = request.recently("overview", FIGURES_SECONDS, lambda: request.services.overview(request.reading))
    activity = _activity(request, span)
    # At the pace of a quarter of an hour, whatever the chart shows.
    latest = activity if span.slot_seconds <= _PACE_SLOT else _activity(request, RANGES[1])
    return request.page(
        "overview.html",
        overview=overview,
        charts={
            "broad": chart(activity, label_minutes=span.label_minutes),
            "narrow": chart(activity, width=NARROW, label_minutes=span.narrow_minutes),
        },
        span=span,
        charted_at=activity.at,
        ranges=RANGES,
        pace=latest.accepted_per_minute,
        drain=_drain(overview, latest),
        tightest=_tightest(overview.rate),
        states=State,
    )


def _range(request: PageRequest) -> Range:
    asked = whole(request.query.get("hours", "6"), _NO_RANGE)
    if asked not in RANGES:
        raise BadRequest(_NO_RANGE)
    return RANGES[asked]


def _activity(request: PageRequest, span: Range) -> Activity:
    def read() -> Activity:
        return request.reading.read(attempts.read, hours=span.hours, slot_seconds=span.slot_seconds)

    return request.recently(f"attempts of {span.hours} h", span.kept_seconds, read)


def search(request: PageRequest) -> Response:
    """Return the leads found; redirect to the lead if there is only one."""
    text = request.query.get("q", "")
    phone = lead_search.phone_in(text)
    masked = not request.may(Role.OPERATOR)
    if phone is not None:
        if masked:
            request.say("Your role sees no whole numbers and finds nobody by one; an operator does.", "note")
        else:
            request.note_person_looked_up(phone)
    elif not masked and lead_search.ending_in(text) is not None:
        request.note_person_looked_up(lead_search.ending_in(text) or "")
    found = request.reading.read(lead_search.search, text, masked=masked)
    if len(found) == 1:
        return request.go(f"/leads/{found[0].lead_id}")
    return request.page("search.html", text=text, found=found)


def _drain(overview: Overview, activity: Activity) -> Drain:
    pace = activity.accepted_per_minute
    if pace > 0:
        return Drain(60.0 * overview.moving / pace, measured=True)
    allowed = [use.permits / use.seconds for use in overview.rate or ()]
    if not allowed:
        return Drain(None, measured=False)
    return Drain(overview.moving / min(allowed), measured=False)


def _tightest(rate: tuple[RateUse, ...] | None) -> RateUse | None:
    """Return the window with the largest used share."""
    return max(rate or (), key=lambda use: use.used / use.permits, default=None)
