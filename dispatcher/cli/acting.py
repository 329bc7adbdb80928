"""Commands that decide something; each is written to the audit log with who did it."""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal
from uuid import UUID, uuid4

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

from dispatcher.cli import filters, screen
from dispatcher.cli.opening import opened
from dispatcher.config.actor import whoami
from dispatcher.errors import LeadNotFound, NotAllowed
from dispatcher.leads.masking import mask_numbers
from dispatcher.leads.options import DEFAULT_ACCOUNT
from dispatcher.records.failure_filter import FailureFilter
from dispatcher.records.lead_filter import LeadFilter
from dispatcher.records.operation import OperationKind
from dispatcher.rules.states import State

if TYPE_CHECKING:
    from dispatcher.operating.failures import Replayed
    from dispatcher.runtime import Dispatcher

LeadIds = Annotated[list[str], typer.Argument(metavar="ID", help="Ids of leads.", show_default=False)]
Note = Annotated[str, typer.Option("--note", help="How you know, or why; kept with the lead.", show_default=False)]
OneCampaign = Annotated[int | None, typer.Option("--campaign", min=1, help="Only this campaign.", show_default=False)]
OneAccount = Annotated[str, typer.Option("--account", help="Name of the account.")]

REFUSALS_SHOWN: Final = 20
WORTH_A_BAR: Final = 100


@filters.filtered
def replay(
    wanted: dict[str, Any],
    ids: Annotated[list[str] | None, typer.Argument(metavar="ID", help="Ids of leads.", show_default=False)] = None,
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
    per_minute: Annotated[
        int | None, typer.Option("--per-minute", min=1, help="With --background: at most so many a minute.")
    ] = None,
    json: screen.Json = False,
) -> None:
    """Send failed leads again, as if they were new: these ids, or all that the filters match.

    Refused where the person may have been called, or where another live lead stands for the person; then the reason is
    printed and the exit code is 1, also with --dry-run.
    """
    if bool(ids) == bool(wanted or everything):
        raise typer.BadParameter("name ids, or filters, or --all")
    if per_minute is not None and not background:
        raise typer.BadParameter("--per-minute needs --background")
    if background and not dry_run:
        leads = list(map(_uuid, ids)) if ids else FailureFilter.parse(wanted)
        _store(leads, even_if_called=even_if_called, note=note, per_minute=per_minute, yes=yes, json=json)
        return
    with opened() as dispatcher:
        meant: list[UUID | str] = [*(ids or dispatcher.failed_ids(**wanted))]
        if not ids and not dry_run and not yes:
            _confirm(dispatcher, meant, even_if_called=even_if_called)
        with _progress(len(meant), quiet=json) as progress:
            done = dispatcher.replay_all(
                meant, even_if_called=even_if_called, note=note, dry_run=dry_run, progress=progress
            )
    _report(done, json=json)


def lookup(
    ids: Annotated[list[str] | None, typer.Argument(metavar="ID", help="Ids of leads.", show_default=False)] = None,
    unknown: Annotated[bool, typer.Option("--unknown", help="All leads whose outcome is unknown now.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say which would be asked about.")] = False,
    json: screen.Json = False,
) -> None:
    """Ask Voicery now whether leads arrived whose answer was lost. Needs the token; counts against the rate limit."""
    if bool(ids) == unknown:
        raise typer.BadParameter("name ids, or --unknown")
    if dry_run:
        _show_in_doubt(ids or None, json=json)
        return
    with opened() as dispatcher:
        findings = dispatcher.look_up(ids or None)
        told = {finding.lead_id: dispatcher.explain(finding.lead_id) for finding in findings}
    if json:
        screen.emit_items(
            {
                "id": str(one.lead_id),
                "verdict": one.verdict,
                "proof": one.decision.proof,
                "explanation": told[one.lead_id],
            }
            for one in findings
        )
    elif not findings:
        screen.say("None of them is in doubt: there is nothing to look up.")
    else:
        for one in findings:
            screen.say((str(one.lead_id), "bold"), f"  {one.verdict}" + (", proven" if one.decision.proof else ""))
            screen.indented(told[one.lead_id], columns=2)


def _show_in_doubt(ids: list[str] | None, *, json: bool) -> None:
    wanted = LeadFilter(states=(State.UNKNOWN,))
    with opened() as dispatcher:
        if ids is None:
            found = [(one.id, one.state) for one in dispatcher.watch.leads(wanted, most=100)]
        else:
            found = [(record.id, record.state) for record in map(dispatcher.get, ids)]
    if json:
        screen.emit_items(({"id": str(one), "state": state} for one, state in found), dry_run=True)
    else:
        for one, state in found:
            screen.say((str(one), "bold"), f"  {state}")
        screen.say(f"Voicery would be asked about {screen.plural(len(found), 'lead')}.")


def resolve(
    ids: LeadIds,
    note: Note,
    as_: Annotated[
        Literal["accepted", "dismissed"],
        typer.Option(
            "--as", help="accepted: Voicery has it (only if the outcome is unknown). dismissed: it is settled."
        ),
    ] = "dismissed",
    dry_run: screen.DryRun = False,
) -> None:
    """Decide about leads that nobody else can decide about, with a note that says how you know."""
    with opened(rehearsing=dry_run) as dispatcher:
        _each(ids, lambda one: dispatcher.resolve(one, as_, note), f"resolved as {as_}")


def cancel(ids: LeadIds, dry_run: screen.DryRun = False) -> None:
    """Withdraw leads that no worker has claimed yet."""
    with opened(rehearsing=dry_run) as dispatcher:
        _each(ids, dispatcher.cancel, "cancelled")


def pause(
    campaign: OneCampaign = None,
    account: OneAccount = DEFAULT_ACCOUNT,
    reason: Annotated[str | None, typer.Option("--reason", help="Shown to whoever asks.", show_default=False)] = None,
    dry_run: screen.DryRun = False,
) -> None:
    """Hold a campaign back, or the whole account, until `resume`; nothing is lost, and nothing more is sent."""
    with opened(rehearsing=dry_run) as dispatcher:
        on_their_way = dispatcher.pause(campaign, account, reason)
    scope = f"campaign {campaign}" if campaign is not None else f"account {account}"
    screen.say(("✓ ", "green"), f"{scope.capitalize()} is paused; nothing more is claimed.")
    if on_their_way:
        screen.indented(f"{screen.plural(on_their_way, 'lead')} still on the way; `dispatcher status` shows when done.")


def resume(campaign: OneCampaign = None, account: OneAccount = DEFAULT_ACCOUNT, dry_run: screen.DryRun = False) -> None:
    """Let a campaign, or the account, flow again at once, whatever had held it back."""
    with opened(rehearsing=dry_run) as dispatcher:
        resumed = dispatcher.resume(campaign, account)
    if not resumed.opened:
        screen.say("Nothing of it was held back.")
    for one in resumed.opened:
        scope = f"account {one.account}" if one.campaign_id is None else f"campaign {one.campaign_id}"
        screen.say(("✓ ", "green"), f"{scope.capitalize()} flows again (it was held back: {one.reason}).")
    for campaign_id in resumed.still_paused:
        screen.say(
            ("! ", "yellow"), f"Campaign {campaign_id} stays paused: `dispatcher resume --campaign {campaign_id}`."
        )


def _store(
    leads: list[UUID] | FailureFilter,
    *,
    even_if_called: bool,
    note: str | None,
    per_minute: int | None,
    yes: bool,
    json: bool,
) -> None:
    """Leave a replay to the workers."""
    with opened() as dispatcher:
        preview = dispatcher.operations.preview(OperationKind.REPLAY, leads, even_if_called=even_if_called)
        refused = preview.total - preview.safe
        beside = f" ({screen.number(refused)} would be refused)" if refused else ""
        screen.confirm(f"Replay {screen.plural(preview.safe, 'lead')} in the background{beside}?", yes=yes)
        operation = dispatcher.operations.start(
            uuid4(),
            OperationKind.REPLAY,
            leads,
            actor=whoami(),
            note=note,
            even_if_called=even_if_called,
            per_minute=per_minute,
        )
    if json:
        screen.emit(operation.as_dict())
    else:
        screen.say(("✓ ", "green"), f"The workers replay {screen.plural(operation.total, 'lead')};")
        screen.indented(f"`dispatcher operations {operation.id}` shows how far they are, --stop ends it.", columns=2)


def _uuid(given: str) -> UUID:
    try:
        return UUID(given)
    except ValueError:
        raise LeadNotFound(mask_numbers(given)) from None


def _confirm(dispatcher: "Dispatcher", meant: list[UUID | str], *, even_if_called: bool) -> None:
    preview = dispatcher.replay_all(meant, even_if_called=even_if_called, dry_run=True)
    if not preview.replayed:
        return
    refused = f" ({screen.number(len(preview.refused))} would be refused)" if preview.refused else ""
    screen.confirm(f"Replay {screen.plural(len(preview.replayed), 'lead')}{refused}?", yes=False)


@contextmanager
def _progress(total: int, *, quiet: bool) -> Iterator[Callable[[], None]]:
    """A bar on a terminal, if it takes long enough to be seen; what is yielded moves it on by one."""
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    hidden = quiet or total < WORTH_A_BAR or not sys.stderr.isatty()
    with Progress(*columns, console=screen.error_console(), disable=hidden, transient=True) as progress:
        task = progress.add_task("replaying", total=total)
        yield lambda: progress.advance(task)


def _report(done: "Replayed", *, json: bool) -> None:
    if json:
        items: list[dict[str, Any]] = [{"id": str(one), "replayed": True} for one in done.replayed]
        items += [{"id": str(one), "replayed": False, "reason": reason} for one, reason in done.refused]
        screen.emit_items(items, dry_run=done.dry_run)
    else:
        verb = "would be replayed" if done.dry_run else "replayed"
        mark = ("✓ ", "green") if done.replayed else ""
        screen.say(mark, f"{screen.plural(len(done.replayed), 'lead')} {verb}.")
        for lead_id, reason in done.refused[:REFUSALS_SHOWN]:
            screen.warn(("✗ ", "red"), f"{lead_id}: {reason}")
        if len(done.refused) > REFUSALS_SHOWN:
            screen.warn(f"… and {len(done.refused) - REFUSALS_SHOWN} more; --json has all.")
    if done.refused:
        screen.fail()


def _each(ids: Iterable[str], act: Callable[[str], None], done: str) -> None:
    """Do it to each; one refusal does not keep the others from it, but the exit code says it."""
    refused = False
    for one in ids:
        try:
            act(one)
        except (LeadNotFound, NotAllowed) as error:
            screen.warn(("✗ ", "red"), str(error))
            refused = True
        else:
            screen.say(("✓ ", "green"), f"{one} {done}.")
    if refused:
        screen.fail()
