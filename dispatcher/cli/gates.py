"""`campaigns`, `limit`, `pause` and `resume`: what holds a campaign back, and how fast it may go."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from dispatcher import moments
from dispatcher.cli import arguments, screen
from dispatcher.cli.arguments import opened
from dispatcher.lead.options import DEFAULT_ACCOUNT

OneCampaign = Annotated[int | None, arguments.campaign_option("Only this campaign.")]


def campaigns(json: screen.Json = False, csv: screen.Csv = False) -> None:
    """List the campaigns: what waits, what failed, what holds them back, how fast they may go."""
    with opened() as dispatcher:
        found = dispatcher.campaigns.all()
    if screen.emit_list((one.as_dict() for one in found), json=json, csv=csv):
        return
    table = screen.rows(
        "Campaign", "waiting", "due", "failed", "limit", "held back", "served",
        right=("waiting", "due", "failed"), whole=("served",),
    )  # fmt: skip
    now = datetime.now(UTC)
    for one in found:
        name = str(one.campaign_id) + ("" if one.account == DEFAULT_ACCOUNT else f" ({one.account})")
        held = "" if one.gate is None else one.gate.reason.value
        table.add_row(
            name, screen.number(one.waiting), screen.number(one.due), screen.number(one.failed),
            one.rate_limit or "–", held, moments.ago(one.served_at, now),
        )  # fmt: skip
    screen.put(table)


def limit(
    rate: Annotated[str, typer.Argument(help="E.g. 30/minute, or '5/second; 1000/hour', or off.", show_default=False)],
    campaign: Annotated[int, arguments.campaign_option("Id of the campaign.")],
    account: arguments.Account = DEFAULT_ACCOUNT,
    dry_run: screen.DryRun = False,
    json: screen.Json = False,
) -> None:
    """Give a campaign a limit of its own beside the account's. The next delivery run keeps it, within seconds."""
    rate = arguments.rate_limit(rate)
    with opened(rehearsing=dry_run) as dispatcher:
        dispatcher.campaigns.limit(campaign, account, rate, actor=arguments.actor())
    off = rate.strip().lower() in {"off", "none", ""}
    said = "has no limit of its own any more" if off else f"may send {rate.strip()}"
    told = {
        "account": account,
        "campaign_id": campaign,
        "rate_limit": None if off else rate.strip(),
        "dry_run": dry_run,
    }
    screen.done(told, (("✓ ", "green"), f"Campaign {campaign} {said}; the account's limit holds too."), json=json)


def pause(
    campaign: OneCampaign = None,
    account: arguments.Account = DEFAULT_ACCOUNT,
    reason: Annotated[
        str | None, typer.Option("--reason", help="Shown by `status` and the console.", show_default=False)
    ] = None,
    dry_run: screen.DryRun = False,
    json: screen.Json = False,
) -> None:
    """Hold a campaign back, or the whole account, until `resume`; nothing is lost, and nothing more is sent."""
    with opened(rehearsing=dry_run) as dispatcher:
        on_their_way = dispatcher.pause(campaign, account, reason)
    if json:
        screen.emit({"account": account, "campaign_id": campaign, "on_their_way": on_their_way, "dry_run": dry_run})
        return
    scope = f"campaign {campaign}" if campaign is not None else f"account {account}"
    screen.say(("✓ ", "green"), f"{scope.capitalize()} is paused; nothing more is claimed.")
    if on_their_way:
        screen.indented(f"{screen.plural(on_their_way, 'lead')} still on the way; `dispatcher status` shows when done.")


def resume(
    campaign: OneCampaign = None,
    account: arguments.Account = DEFAULT_ACCOUNT,
    dry_run: screen.DryRun = False,
    json: screen.Json = False,
) -> None:
    """Let a campaign, or the account, flow again at once, whatever had held it back."""
    with opened(rehearsing=dry_run) as dispatcher:
        resumed = dispatcher.resume(campaign, account)
    if json:
        opened_gates = [
            {"account": one.account, "campaign_id": one.campaign_id, "reason": one.reason} for one in resumed.opened
        ]
        screen.emit({"opened": opened_gates, "still_paused": list(resumed.still_paused), "dry_run": dry_run})
        return
    if not resumed.opened:
        screen.say("Nothing of it was held back.")
    for one in resumed.opened:
        scope = f"account {one.account}" if one.campaign_id is None else f"campaign {one.campaign_id}"
        screen.say(("✓ ", "green"), f"{scope.capitalize()} flows again (it was held back: {one.reason}).")
    for campaign_id in resumed.still_paused:
        screen.say(
            ("! ", "yellow"), f"Campaign {campaign_id} stays paused: `dispatcher resume --campaign {campaign_id}`."
        )
