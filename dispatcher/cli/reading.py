"""Commands that only look: `status`, `show`, `explain`, `failed`."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from dispatcher.cli import filters, lead_screen, screen, status_screen
from dispatcher.cli.opening import opened
from dispatcher.leads.masking import mask_phone
from dispatcher.records import moments
from dispatcher.records.failure_group import FailureGroup
from dispatcher.records.record import FailedLead

LeadId = Annotated[str, typer.Argument(metavar="ID", help="Id of the lead.", show_default=False)]


def status(json: screen.Json = False) -> None:
    """Show the whole queue: leads by state, what is held back and why, the rate used, who works."""
    with opened() as dispatcher:
        seen = dispatcher.overview()
    if json:
        screen.emit(seen.as_dict())
    else:
        status_screen.show(seen)


def show(id: LeadId, json: screen.Json = False, reveal: screen.Reveal = False) -> None:
    """Show one lead with its contacts, every attempt and every failure."""
    with opened() as dispatcher:
        record = dispatcher.get(id)
    if json:
        screen.emit(record.as_dict(reveal=reveal))
    else:
        lead_screen.show(record, reveal=reveal)


def explain(id: LeadId, json: screen.Json = False) -> None:
    """Say in plain words why a lead is where it is, and what happens next."""
    with opened() as dispatcher:
        record = dispatcher.get(id)
        told = dispatcher.explain(id)
    if json:
        screen.emit({"id": str(record.id), "state": record.state, "explanation": told})
    else:
        screen.say((record.state.value, f"bold {lead_screen.STYLES[record.state]}"))
        screen.say(told)


@filters.filtered
def failed(
    wanted: dict[str, Any],
    group: Annotated[bool, typer.Option("--group", help="One entry for each cause, the most frequent first.")] = False,
    resolved: Annotated[bool, typer.Option("--resolved", help="Those already replayed, found or dismissed.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, max=100_000, help="At most so many, the latest first.")] = 20,
    json: screen.Json = False,
    csv: screen.Csv = False,
    reveal: screen.Reveal = False,
) -> None:
    """List the leads that failed and that nobody has dealt with yet, and what to do about them."""
    if resolved:
        wanted["resolved"] = True
    with opened() as dispatcher:
        if group:
            _show_groups(dispatcher.failed_groups(**wanted), json=json, csv=csv)
        else:
            found = dispatcher.failed(limit=limit + 1, **wanted)
            _show_failed(found, limit, json=json, csv=csv, reveal=reveal)


def _show_failed(found: Sequence[FailedLead], limit: int, *, json: bool, csv: bool, reveal: bool) -> None:
    shown, more = found[:limit], len(found) > limit
    if screen.emit_list((one.as_dict(reveal=reveal) for one in shown), json=json, csv=csv, more=more):
        return
    if not shown:
        screen.say(("✓ ", "green"), "No failed lead needs anybody.")
        return
    now = datetime.now(UTC)
    for one in shown:
        phone = one.phone_number if reveal else mask_phone(one.phone_number)
        screen.say(
            (str(one.lead_id), "bold"), ("  ", ""), f"campaign {one.campaign_id}  {phone}  ",
            (moments.ago(one.failed_at, now), "dim"),
        )  # fmt: skip
        status = f" (HTTP {one.http_status})" if one.http_status else ""
        done = f" [{one.resolution} by {one.resolved_by}]" if one.resolution else ""
        screen.indented(f"{one.failure_class}{status}: {one.message}{done}", columns=2)
    if more:
        screen.say((f"There are more: --limit {limit * 10}, or --group for the causes.", "dim"))
    else:
        screen.say((f"{screen.plural(len(shown), 'lead')}. `dispatcher explain ID` says what to do next.", "dim"))


def _show_groups(groups: Sequence[FailureGroup], *, json: bool, csv: bool) -> None:
    if screen.emit_list((group.as_dict() for group in groups), json=json, csv=csv):
        return
    if not groups:
        screen.say(("✓ ", "green"), "No failed lead needs anybody.")
        return
    now = datetime.now(UTC)
    for group in groups:
        status = f" (HTTP {group.http_status})" if group.http_status else ""
        screen.say((screen.plural(group.leads, "lead"), "bold red"), f"  {group.failure_class}{status}")
        screen.indented(group.message, columns=2)
        screen.indented(f"→ {group.advice}", "cyan", columns=2)
        where = ", ".join(str(campaign) for campaign in group.campaigns[:8])
        more = " …" if len(group.campaigns) > 8 else ""
        noun = "campaign" if len(group.campaigns) == 1 else "campaigns"
        screen.indented(
            f"{noun} {where}{more} · last {moments.ago(group.last_at, now)} · --cause {group.fingerprint}",
            "dim",
            columns=2,
        )
