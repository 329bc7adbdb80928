"""`tail` and `top`: what happens, as it happens."""

import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Group
from rich.table import Table
from rich.text import Text

from dispatcher import moments
from dispatcher.cli import arguments, screen, status
from dispatcher.cli.arguments import opened
from dispatcher.lead.masking import mask_numbers, mask_phone

if TYPE_CHECKING:
    from dispatcher.api import Dispatcher
    from dispatcher.operator.activity import Throughput
    from dispatcher.operator.events import Event


_STYLES: Final = {
    "accepted": "green", "lead accepted": "green", "sending": "blue", "unknown": "yellow", "duplicate": "magenta",
    "lead duplicate": "magenta", "rejected": "red", "lead failed": "red", "incident": "bold red",
}  # fmt: skip
_WINDOW_SECONDS: Final = 300.0


def tail(
    since: Annotated[str, typer.Option("--since", help=f"Begin in the past, {moments.PAST_HELP}.")] = "10s",
    follow: Annotated[bool, typer.Option("--follow/--no-follow", help="Go on until Ctrl-C.")] = True,
    every: Annotated[float, typer.Option("--every", min=0.2, max=60, help="Seconds between two looks.")] = 1.0,
    campaign: Annotated[int | None, arguments.campaign_option("Only this campaign.")] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    reveal: screen.Reveal = False,
) -> None:
    """Follow what happens: attempts, leads that end, incidents, and what operators do. Ends with Ctrl-C."""
    from dispatcher.operator import events

    now = datetime.now(UTC)

    def wait() -> bool:
        if follow:
            time.sleep(every)
        return follow

    with opened() as dispatcher:
        arguments.told_place(dispatcher, json=False)
        for one in events.follow(dispatcher.reading, now - arguments.past(since, now, "--since"), wait=wait):
            if campaign is not None and one.campaign_id != campaign:
                continue
            if json:
                sys.stdout.write(screen.as_json(one.as_dict(reveal=reveal)) + "\n")
                sys.stdout.flush()
                continue
            _tell(one, reveal=reveal)


def _tell(one: "Event", *, reveal: bool) -> None:
    """Print an event: a line of 80 columns where it is about a lead, whose id is then shown by its end."""
    parts: list[str | tuple[str, str]] = [
        (f"{one.at.astimezone(UTC):%H:%M:%S}  ", "dim"),
        (f"{one.what:<14}", _STYLES.get(one.what, "")),
    ]
    if one.lead_id is not None:
        whole = screen.wide()
        parts.append(f"  {one.lead_id if whole else '…' + str(one.lead_id)[-12:]}")
    if one.campaign_id is not None and one.phone_number is not None:
        number = one.phone_number if reveal else mask_phone(one.phone_number)
        parts.append(f"  {one.campaign_id:>6}  {number:<8}")
    screen.entry(*parts, detail=mask_numbers(one.detail or ""))


def top(
    every: Annotated[float, typer.Option("--every", min=0.5, max=60, help="Seconds between two looks.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="One look, then end.")] = False,
) -> None:
    """Watch the queue live: leads by state, gates, rate, workers, and how fast each campaign goes. Ends with Ctrl-C."""
    with opened() as dispatcher:
        if once or not sys.stdout.isatty():
            screen.put(_view(dispatcher))
            return
        from rich.live import Live

        with Live(_view(dispatcher), console=screen.console(), auto_refresh=False, screen=True) as live:
            while True:
                time.sleep(every)
                live.update(_view(dispatcher), refresh=True)


def _view(dispatcher: "Dispatcher") -> Group:
    from dispatcher.operator import activity

    seen = status.read(dispatcher)
    title = Text(f"Voicery dispatcher  {moments.clock(seen.at)} UTC", style="bold")
    busy = dispatcher.reading.read(activity.throughput, seconds=_WINDOW_SECONDS)
    place = dispatcher.reading.place
    told = [] if place is None else [Text(place.sentence, style="yellow" if place.fault else "dim")]
    return Group(title, *told, Text(""), status.view(seen), Text(""), _throughput(busy))


def _throughput(busy: list["Throughput"]) -> Table | Text:
    if not busy:
        return Text("Nothing was sent in the last 5 minutes.", style="dim")
    figures = ("accepted", "a minute", "refused", "in doubt", "held")
    table = screen.rows("Campaign, last 5 minutes", *figures, right=figures)
    for one in busy:
        name = str(one.campaign_id) + ("" if one.account == "default" else f" ({one.account})")
        a_minute = f"{one.accepted * 60 / _WINDOW_SECONDS:.1f}"
        table.add_row(
            name, screen.number(one.accepted), a_minute, *map(screen.number, (one.refused, one.in_doubt, one.held))
        )
    return table
