"""`replay`: failed leads sent again, at once or as an operation that the workers do."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Final
from uuid import UUID, uuid4

import typer

from dispatcher import moments
from dispatcher.cli import arguments, failed, screen
from dispatcher.cli.arguments import opened

if TYPE_CHECKING:
    from dispatcher.api import Dispatcher
    from dispatcher.operator.failure_filter import FailureFilter
    from dispatcher.operator.preview import Preview
    from dispatcher.operator.replay import Replayed


REFUSALS_SHOWN: Final = 20
WORTH_A_BAR: Final = 100


@failed.filtered
def replay(
    wanted: dict[str, Any],
    ids: arguments.SomeLeadIds = None,
    everything: Annotated[bool, typer.Option("--all", help="Every open failure.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would happen.")] = False,
    even_if_called: Annotated[
        bool,
        typer.Option(
            "--even-if-called", help="Also leads whose earlier POST may have worked: people may be called twice."
        ),
    ] = False,
    note: Annotated[str | None, typer.Option("--note", help="Why; kept with the failure.", show_default=False)] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before replaying what filters match.")] = False,
    background: Annotated[
        bool, typer.Option("--background", help="Store it as an operation that the workers do; see `operations`.")
    ] = False,
    at: Annotated[
        str | None,
        typer.Option("--at", help=f"Not before then, {moments.START_HELP}.", show_default=False),
    ] = None,
    spread: Annotated[
        str | None,
        typer.Option("--spread", help="In the background, evenly over this time, e.g. 1h.", show_default=False),
    ] = None,
    per_minute: Annotated[
        int | None, typer.Option("--per-minute", min=1, help="In the background, at most this number a minute.")
    ] = None,
    to_campaign: Annotated[
        int | None,
        arguments.campaign_option("In the background, in this campaign instead of theirs.", "--to-campaign"),
    ] = None,
    json: screen.Json = False,
) -> None:
    """Send failed leads again, as if they were new: these ids, or all that the filters match.

    Refused where the person may have been called, or where another live lead stands for the person; then the reason is
    printed and the exit code is 1, also with --dry-run. In the background they stay failed until their turn comes.
    """
    if bool(ids) == bool(wanted or everything):
        raise typer.BadParameter("name ids, or filters, or --all")
    if spread is not None and per_minute is not None:
        raise typer.BadParameter("choose one of --spread and --per-minute")
    terms = _Terms(
        even_if_called=even_if_called,
        note=note,
        not_before=None if at is None else arguments.future(at, datetime.now(UTC), "--at"),
        spread=None if spread is None else arguments.duration(spread, "--spread"),
        per_minute=per_minute,
        campaign_id=to_campaign,
    )
    if background or terms.paced or to_campaign is not None:
        from dispatcher.operating import lead_id_of
        from dispatcher.operator.failure_filter import FailureFilter

        leads = list(map(lead_id_of, ids)) if ids else FailureFilter.parse(wanted)
        _store(leads, terms, yes=yes, dry_run=dry_run, json=json)
        return
    with opened() as dispatcher:
        meant: list[UUID | str] = [*(ids or dispatcher.failed_ids(**wanted))]
        if not ids and not dry_run and not yes:
            _confirm(dispatcher, meant, terms)
        with _progress(len(meant), quiet=json) as progress:
            done = dispatcher.replay_all(
                meant,
                even_if_called=even_if_called,
                note=note,
                not_before=terms.not_before,
                dry_run=dry_run,
                progress=progress,
            )
    _report(done, terms, json=json)


@dataclass(frozen=True, slots=True)
class _Terms:
    """The options of a replay."""

    even_if_called: bool
    note: str | None
    not_before: datetime | timedelta | None
    spread: timedelta | None
    per_minute: int | None
    campaign_id: int | None

    @property
    def paced(self) -> bool:
        """Whether it is spread over time, which only the workers can do."""
        return self.spread is not None or self.per_minute is not None

    @property
    def said(self) -> str:
        """The options in words, for the question that confirms them."""
        parts = (
            "" if self.campaign_id is None else f" in campaign {self.campaign_id}",
            "" if self.not_before is None else f", {_when(self.not_before)}",
            "" if self.spread is None else f", spread over {moments.span(self.spread.total_seconds())}",
            "" if self.per_minute is None else f", {self.per_minute} a minute",
        )
        return "".join(parts)


def _when(not_before: datetime | timedelta) -> str:
    if isinstance(not_before, timedelta):
        return f"in {moments.span(not_before.total_seconds())}"
    return f"not before {moments.clock(not_before)} UTC"


def _store(leads: "list[UUID] | FailureFilter", terms: _Terms, *, yes: bool, dry_run: bool, json: bool) -> None:
    """Leave a replay to the workers."""
    from dispatcher.operator.operation_work import OperationKind

    with opened() as dispatcher:
        preview = dispatcher.operations.preview(
            OperationKind.REPLAY, leads, even_if_called=terms.even_if_called, campaign_id=terms.campaign_id
        )
        if dry_run:
            _show_preview(preview, terms, json=json)
            return
        left = preview.total - preview.safe
        beside = f" ({screen.number(left)} would be refused)" if left else ""
        screen.confirm(f"Replay {screen.plural(preview.safe, 'lead')} in the background{terms.said}{beside}?", yes=yes)
        operation = dispatcher.operations.start(
            uuid4(),
            OperationKind.REPLAY,
            leads,
            actor=arguments.actor(),
            note=terms.note,
            even_if_called=terms.even_if_called,
            not_before=terms.not_before,
            per_minute=terms.per_minute,
            spread=terms.spread,
            campaign_id=terms.campaign_id,
            expected=None if yes else preview.total,
        )
    if json:
        screen.emit(operation.as_dict())
    else:
        screen.say(("✓ ", "green"), f"The workers replay {screen.plural(operation.total, 'lead')}{terms.said};")
        screen.indented(f"`dispatcher operations {operation.id}` shows how far they are, --stop ends it.", columns=2)


def _show_preview(preview: "Preview", terms: _Terms, *, json: bool) -> None:
    if json:
        screen.emit(preview.as_dict() | {"dry_run": True})
    else:
        screen.say(("✓ ", "green"), f"{screen.plural(preview.safe, 'lead')} would be replayed{terms.said}.")
        if preview.needs_look_up:
            screen.warn(
                ("? ", "yellow"), f"{screen.plural(preview.needs_look_up, 'lead')} may have been called: look up first."
            )
        if preview.refused:
            screen.warn(("✗ ", "red"), f"{screen.plural(preview.refused, 'lead')} would be refused.")
    if preview.safe < preview.total:
        screen.fail()


def _confirm(dispatcher: "Dispatcher", meant: list[UUID | str], terms: _Terms) -> None:
    preview = dispatcher.replay_all(
        meant, even_if_called=terms.even_if_called, not_before=terms.not_before, dry_run=True
    )
    if not preview.replayed:
        return
    refused = f" ({screen.number(len(preview.refused))} would be refused)" if preview.refused else ""
    screen.confirm(f"Replay {screen.plural(len(preview.replayed), 'lead')}{terms.said}{refused}?", yes=False)


@contextmanager
def _progress(total: int, *, quiet: bool) -> Iterator[Callable[[], None]]:
    """Show a bar on a terminal, if there is enough to do; call what this yields after each lead."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    hidden = quiet or total < WORTH_A_BAR or not sys.stderr.isatty()
    with Progress(*columns, console=screen.error_console(), disable=hidden, transient=True) as progress:
        task = progress.add_task("replaying", total=total)
        yield lambda: progress.advance(task)


def _report(done: "Replayed", terms: _Terms, *, json: bool) -> None:
    if json:
        items: list[dict[str, Any]] = [{"id": str(one), "replayed": True} for one in done.replayed]
        items += [{"id": str(one), "replayed": False, "reason": reason} for one, reason in done.refused]
        screen.emit_items(items, dry_run=done.dry_run)
    else:
        verb = "would be replayed" if done.dry_run else "replayed"
        mark = ("✓ ", "green") if done.replayed else ""
        screen.say(mark, f"{screen.plural(len(done.replayed), 'lead')} {verb}{terms.said}.")
        for lead_id, reason in done.refused[:REFUSALS_SHOWN]:
            screen.warn(("✗ ", "red"), f"{lead_id}: {reason}")
        if len(done.refused) > REFUSALS_SHOWN:
            screen.warn(f"… and {len(done.refused) - REFUSALS_SHOWN} more; --json has all.")
    if done.refused:
        screen.fail()
