"""Commands that decide something; each is written to the audit log with who did it."""

from collections.abc import Callable, Iterable
from typing import Annotated, Literal

import typer

from dispatcher.cli import arguments, screen
from dispatcher.cli.arguments import opened
from dispatcher.decisions.states import State
from dispatcher.errors import LeadNotFound, NotAllowed
from dispatcher.lead.options import DEFAULT_ACCOUNT
from dispatcher.operator.leads import LeadFilter

LeadIds = Annotated[list[str], typer.Argument(metavar="ID", help="Ids of leads.", show_default=False)]
Note = Annotated[str, typer.Option("--note", help="How you know, or why; kept with the lead.", show_default=False)]
OneCampaign = Annotated[
    int | None,
    arguments.campaign_option("Only this campaign."),
]
OneAccount = Annotated[str, typer.Option("--account", help="Name of the account.")]


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
