"""`status`: the state of the whole queue, for 80 columns."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from rich.console import Group
from rich.table import Table
from rich.text import Text

from dispatcher import moments
from dispatcher.cli import screen
from dispatcher.cli.arguments import opened, told_place
from dispatcher.cli.leads import STYLES
from dispatcher.decisions.states import State
from dispatcher.lead.masking import mask_numbers

if TYPE_CHECKING:
    from dispatcher.api import Dispatcher
    from dispatcher.operator.overview import GateRecord, Overview

CAMPAIGNS_SHOWN = 5
WORKERS_SHOWN = 8
_SDK: Final = "opentelemetry.sdk.metrics"


def read(dispatcher: "Dispatcher") -> "Overview":
    """Return the overview as the replica has it, where there is one, with the use of the rate limit."""
    from dispatcher.operator import overview

    seen = dispatcher.reading.survey(overview.read)
    with _redis_without_telemetry():
        return replace(seen, rate=dispatcher.rate_use())


@contextmanager
def _redis_without_telemetry() -> Iterator[None]:
    """Inside, redis-py does not load OpenTelemetry's SDK where that is installed: for metrics that nobody reads here.

    It is a twelfth of this command's CPU. What the process has loaded already stays.
    """
    hidden = _SDK not in sys.modules
    if hidden:
        sys.modules[_SDK] = None  # type: ignore[assignment]  # the documented way to make an import fail
    try:
        yield
    finally:
        if hidden:
            del sys.modules[_SDK]


def show_overview(seen: "Overview") -> None:
    """Print it."""
    screen.put(view(seen))


def view(seen: "Overview") -> Group:
    """Return the whole overview, to be printed."""
    table = screen.facts()
    table.add_row("Gates", _gates(seen))
    if len(seen.channels) > 1 or any(one.waiting for one in seen.channels):
        table.add_row("Waiting", _waiting(seen))
    table.add_row("Rate", _rate(seen))
    table.add_row("Workers", _workers(seen))
    table.add_row("Sweep", _sweep(seen))
    if seen.inbox.waiting or seen.inbox.rejected:
        table.add_row("Inbox", _inbox(seen))
    if seen.incidents:
        noun = screen.plural(seen.incidents, "incident")
        table.add_row(
            "Incidents", screen.line((f"{noun} that a person must look at: `dispatcher incidents`", "bold red"))
        )
    return Group(_leads(seen), Text(""), table)


def _leads(seen: "Overview") -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(style="dim", overflow="fold")
    for state in State:
        count = seen.counts[state]
        style = STYLES[state] if count.value else "dim"
        table.add_row(
            Text(state.value, style=style),
            Text(screen.number(count.value, exact=count.exact), style=f"bold {style}" if count.value else "dim"),
            Text(_remark(seen, state)),
        )
    return table


def _remark(seen: "Overview", state: State) -> str:
    count = seen.counts[state].value
    match state:
        case State.PENDING if seen.oldest_waiting_seconds is not None:
            held = f", {screen.number(seen.held)} of them held back" if seen.held else ""
            return f"{screen.number(seen.due)} due{held}, the oldest for {moments.span(seen.oldest_waiting_seconds)}"
        case State.PENDING if seen.next_due_at is not None:
            return f"the next in {moments.span((seen.next_due_at - seen.at).total_seconds())}"
        case State.UNKNOWN if count:
            return "sent, and the answer was lost; being looked up"
        case State.ACCEPTED:
            return f"{screen.number(seen.accepted_today)} today (UTC)"
        case State.FAILED if count:
            classes = ", ".join(f"{name} {screen.number(number)}" for name, number in sorted(seen.failures.items()))
            return f"{classes}: `dispatcher failed --group`"
        case _:
            return ""


def _gates(seen: "Overview") -> Text:
    if not seen.gates:
        return Text("all open", style="green")
    return Text("\n").join(_gate(gate, seen) for gate in seen.gates)


def _gate(gate: "GateRecord", seen: "Overview") -> Text:
    until = (
        "" if gate.until is None else f", tried again in {moments.span(max(0, (gate.until - seen.at).total_seconds()))}"
    )
    by = f" by {gate.by}" if gate.by else ""
    note = f": {mask_numbers(gate.note)}" if gate.note else ""
    since = f" since {moments.span((seen.at - gate.closed_at).total_seconds())}" if gate.closed_at else ""
    state = gate.reason.value if gate.state.value == "closed" else f"probing after {gate.reason}"
    return screen.line((f"{gate.scope} {state}", "bold yellow"), f"{by}{since}{until}{note}")


def _waiting(seen: "Overview") -> Text:
    shown = [
        f"campaign {one.campaign_id}" + ("" if one.account == "default" else f" ({one.account})")
        + f" {screen.number(one.waiting)}"
        for one in seen.channels[:CAMPAIGNS_SHOWN]
    ]  # fmt: skip
    more = len(seen.channels) - CAMPAIGNS_SHOWN
    return screen.line(" · ".join(shown) + (f" · {more} more" if more > 0 else ""))


def _rate(seen: "Overview") -> Text:
    if seen.rate is None:
        return Text("not known: Redis cannot be asked, and nothing is sent meanwhile", style="yellow")
    if not seen.rate:
        return Text("no limit")
    several = len({use.account for use in seen.rate}) > 1
    return screen.line(
        " · ".join(
            (f"{use.account}: " if several else "") + f"{use.used} of {use.permits} in {use.seconds:g} s"
            for use in seen.rate
        )
    )


def _workers(seen: "Overview") -> Text:
    if not seen.workers:
        return Text("none has ever been seen: start `celery -A dispatcher worker`", style="yellow")
    shown = [
        screen.line(
            one.name,
            ("  silent, last seen" if one.silent else "  seen", "yellow" if one.silent else "dim"),
            (f" {moments.ago(one.seen_at, seen.at)}, {screen.plural(one.claims, 'lead')} claimed", "dim"),
        )
        for one in seen.workers[:WORKERS_SHOWN]
    ]
    more = len(seen.workers) - WORKERS_SHOWN
    return Text("\n").join([*shown, Text(f"{more} more", style="dim")] if more > 0 else shown)


def _inbox(seen: "Overview") -> Text:
    counts = seen.inbox
    since = "" if counts.oldest_seconds is None else f", the oldest for {moments.span(counts.oldest_seconds)}"
    rejected = f" · {screen.number(counts.rejected)} rejected: `dispatcher inbox`" if counts.rejected else ""
    return screen.line(f"{screen.number(counts.waiting)} waiting{since}", (rejected, "yellow"))


def _sweep(seen: "Overview") -> Text:
    late = seen.swept_at is None or (seen.at - seen.swept_at).total_seconds() > 60
    return Text(moments.ago(seen.swept_at, seen.at), style="yellow" if late else "")


def status(json: screen.Json = False) -> None:
    """Show the whole queue: leads by state, what is held back and why, the rate used, who works."""
    with opened() as dispatcher:
        seen = read(dispatcher)
        place = told_place(dispatcher, json=json)
    if json:
        screen.emit({**seen.as_dict(), **place})
    else:
        show_overview(seen)
