"""`list` and `edit`: leads by any filter, and a failed lead put right."""

from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

import typer

from dispatcher.cli import lead_screen, screen, typed
from dispatcher.cli.opening import opened
from dispatcher.config.actor import whoami
from dispatcher.leads.json_text import read_json
from dispatcher.leads.masking import mask_phone
from dispatcher.records import moments
from dispatcher.records.lead_filter import LeadFilter
from dispatcher.rules.states import State

_PANEL = "Filters (all that are given must hold)"


def list_leads(
    state: Annotated[
        list[State] | None,
        typer.Option("--state", help="One state, or several.", rich_help_panel=_PANEL, show_default=False),
    ] = None,
    campaign: Annotated[
        int | None,
        typed.campaign_option("Id of the campaign.", rich_help_panel=_PANEL),
    ] = None,
    account: Annotated[
        str | None, typer.Option("--account", help="Name of the account.", rich_help_panel=_PANEL)
    ] = None,
    batch: Annotated[UUID | None, typer.Option("--batch", help="Id of the import.", rich_help_panel=_PANEL)] = None,
    key: Annotated[str | None, typer.Option("--key", help="Idempotency key.", rich_help_panel=_PANEL)] = None,
    voicery_id: Annotated[
        int | None, typer.Option("--voicery-id", help="The lead's id at Voicery.", rich_help_panel=_PANEL)
    ] = None,
    phone: Annotated[
        str | None, typer.Option("--phone", help="How the number ends, e.g. 0123.", rich_help_panel=_PANEL)
    ] = None,
    since: Annotated[
        str | None,
        typer.Option("--since", help=f"Submitted at or after, {moments.PAST_HELP}.", rich_help_panel=_PANEL),
    ] = None,
    before: Annotated[str | None, typer.Option("--before", help="Submitted before.", rich_help_panel=_PANEL)] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=100_000, help="At most so many, the newest first.")] = 20,
    json: screen.Json = False,
    csv: screen.Csv = False,
    reveal: screen.Reveal = False,
) -> None:
    """List leads, the newest first."""
    now = datetime.now(UTC)
    wanted = LeadFilter(
        states=tuple(state or ()),
        account=account,
        campaign_id=campaign,
        batch_id=batch,
        idempotency_key=key,
        voicery_lead_id=voicery_id,
        phone_number=phone,
        created_since=None if since is None else typed.past(since, now, "--since"),
        created_before=None if before is None else typed.past(before, now, "--before"),
    )
    with opened() as dispatcher:
        found = dispatcher.watch.leads(wanted, most=limit + 1)
    shown, more = found[:limit], len(found) > limit
    if screen.emit_list((one.as_dict(reveal=reveal) for one in shown), json=json, csv=csv, more=more):
        return
    for one in shown:
        number = one.phone_number if reveal else mask_phone(one.phone_number)
        said = one.failure_class or one.voicery_status or ""
        screen.say(
            (str(one.id), "bold"), "  ", (f"{one.state:<9}", lead_screen.STYLES[one.state]),
            f"  campaign {one.campaign_id}  {number}  {said}  ", (moments.ago(one.created_at, now), "dim"),
        )  # fmt: skip
    if not shown:
        screen.say("No lead matches.")
    if more:
        screen.say((f"… and more; --limit shows more than {limit}.", "dim"))


def edit(
    id: Annotated[str, typer.Argument(metavar="ID", help="Id of the lead.", show_default=False)],
    assignment: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=TEXT",
            help="campaign_id=43, or variables.name=Ada; NAME:=JSON for anything but text.",
            show_default=False,
        ),
    ] = None,
    unset: Annotated[
        list[str] | None, typer.Option("--unset", metavar="variables.NAME", help="Take a variable away.")
    ] = None,
    phone: Annotated[
        str | None,
        typer.Option("--phone", help="The right number; - reads it from standard input, unseen by others."),
    ] = None,
    replay: Annotated[bool, typer.Option("--replay", help="And send it again at once.")] = False,
    note: Annotated[str | None, typer.Option("--note", help="Why; kept with the old version.")] = None,
    dry_run: screen.DryRun = False,
    json: screen.Json = False,
) -> None:
    """Correct a failed lead; the version before is kept. It is checked as a new lead is, duplicates included."""
    if not assignment and not unset and phone is None:
        raise typer.BadParameter("say what to change: --set, --unset or --phone")
    given = [_assignment(one) for one in assignment or ()]
    with opened(rehearsing=dry_run) as dispatcher:
        record = dispatcher.get(id)
        changes = _changes(given, unset or [], record.variables)
        if phone is not None:
            changes["phone_number"] = typer.get_text_stream("stdin").readline().strip() if phone == "-" else phone
        dispatcher.corrections.correct(record.id, changes, actor=whoami(), note=note, replay=replay)
    if json:
        screen.emit({"id": id, "changed": sorted(changes), "replayed": replay, "dry_run": dry_run})
    else:
        further = "it is on its way again" if replay else f"`dispatcher replay {id}` sends it again"
        screen.say(("✓ ", "green"), f"{id} is corrected ({', '.join(sorted(changes))}); {further}.")


def _assignment(given: str) -> tuple[str, Any]:
    name, equals, value = given.partition("=")
    plain = name.removesuffix(":")
    if not equals or (plain != "campaign_id" and not plain.removeprefix("variables.").strip(".")):
        raise typer.BadParameter("--set is written NAME=TEXT, or NAME:=JSON")
    if plain != "campaign_id" and not plain.startswith("variables."):
        raise typer.BadParameter("--set knows campaign_id and variables.<name>")
    if plain == "campaign_id" and not (value.isascii() and value.isdecimal()):
        raise typer.BadParameter("campaign_id is a whole number")
    if plain == "campaign_id":
        return plain, int(value)
    if plain == name:
        return plain, value
    try:
        return plain, read_json(value)
    except ValueError:
        raise typer.BadParameter(f"what follows {name}= is not JSON; for text write {plain}=…") from None


def _changes(given: list[tuple[str, Any]], unset: list[str], variables: Any) -> dict[str, Any]:  # noqa: ANN401
    changes: dict[str, Any] = {name: value for name, value in given if name == "campaign_id"}
    wanted = dict(variables)
    for name, value in given:
        if name != "campaign_id":
            wanted[name.removeprefix("variables.")] = value
    for name in unset:
        if wanted.pop(name.removeprefix("variables."), None) is None:
            raise typer.BadParameter("--unset names a variable that the lead does not have")
    if wanted != dict(variables):
        changes["variables"] = wanted
    return changes
