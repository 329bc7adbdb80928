"""`campaigns` and `limit`."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from dispatcher import moments
from dispatcher.cli import arguments, screen
from dispatcher.cli.arguments import opened
from dispatcher.config.account import whoami
from dispatcher.lead.options import DEFAULT_ACCOUNT


def campaigns(json: screen.Json = False, csv: screen.Csv = False) -> None:
    """List the campaigns: what waits, what failed, what holds them back, how fast they may go."""
    with opened() as dispatcher:
        found = dispatcher.campaigns.all()
    if screen.emit_list((one.as_dict() for one in found), json=json, csv=csv):
        return
    table = screen.rows("Campaign", "waiting", "due", "failed", "limit", "held back", "served")
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
    campaign: Annotated[
        int,
        arguments.campaign_option("Id of the campaign."),
    ],
    account: Annotated[str, typer.Option("--account", help="Name of the account.")] = DEFAULT_ACCOUNT,
    dry_run: screen.DryRun = False,
) -> None:
    """Give a campaign a limit of its own beside the account's. The next delivery run keeps it, within seconds."""
    rate = arguments.rate_limit(rate)
    with opened(rehearsing=dry_run) as dispatcher:
        dispatcher.campaigns.limit(campaign, account, rate, actor=whoami())
    off = rate.strip().lower() in {"off", "none", ""}
    said = "has no limit of its own any more" if off else f"may send {rate.strip()}"
    screen.say(("✓ ", "green"), f"Campaign {campaign} {said}; the account's limit holds too.")
