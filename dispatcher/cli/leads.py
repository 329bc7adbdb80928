"""`list`, `show`, `explain` and `edit`: leads by any filter, one with all that is known of it, one corrected."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final
from uuid import UUID

import typer
from rich.table import Table
from rich.text import Text

from dispatcher import moments
from dispatcher.cli import arguments, screen
from dispatcher.cli.arguments import opened
from dispatcher.decisions.states import State
from dispatcher.lead.masking import mask_numbers, mask_phone
from dispatcher.lead.variables import read_json
from dispatcher.operator.record import MASKED

if TYPE_CHECKING:
    from dispatcher.operator.lead_record import AttemptRecord, LeadRecord
    from dispatcher.operator.leads import LeadInList

STYLES: Final[Mapping[State, str]] = {
    State.PENDING: "cyan",
    State.SENDING: "blue",
    State.UNKNOWN: "yellow",
    State.ACCEPTED: "green",
    State.DUPLICATE: "magenta",
    State.FAILED: "red",
    State.CANCELLED: "dim",
}


def _show(record: "LeadRecord", *, reveal: bool) -> None:
    screen.say((str(record.id), "bold"))
    table = screen.facts()
    for name, value in _facts(record, reveal=reveal):
        if value is not None:
            table.add_row(name, value if isinstance(value, Text) else screen.line(value))
    screen.put(table)
    if record.contacts:
        screen.say("")
        contacts = screen.rows("Contact", "Voicery id", "status", "variables")
        for contact in record.contacts:
            contacts.add_row(
                contact.phone_number if reveal else mask_phone(contact.phone_number),
                str(contact.voicery_lead_id or "–"),
                "left out: must not be called" if contact.dropped_at else screen.plain(contact.voicery_status or "–"),
                _variables(contact.variables, reveal=reveal),
            )
        screen.put(contacts)
    for attempt in record.history:
        _attempt(attempt, reveal=reveal)
    for failure in record.failures:
        screen.say("")
        screen.say(("Failed ", "red"), f"{moments.clock(failure.failed_at)}  {failure.failure_class}")
        screen.indented(failure.message if reveal else mask_numbers(failure.message), columns=2)
        if failure.resolution is not None:
            note = f": {failure.note if reveal else mask_numbers(failure.note)}" if failure.note else ""
            screen.indented(f"{failure.resolution} by {failure.resolved_by}{note}", "dim", columns=2)


def _facts(record: "LeadRecord", *, reveal: bool) -> list[tuple[str, str | Text | None]]:
    state = record.state.value + (f" ({record.failure_class})" if record.failure_class else "")
    voicery = None
    if record.voicery_lead_id is not None:
        voicery = f"lead {record.voicery_lead_id}" + (f", {record.voicery_status}" if record.voicery_status else "")
    return [
        ("State", Text(state, style=STYLES[record.state])),
        ("Phone", record.phone_number if reveal else mask_phone(record.phone_number)),
        (
            "Campaign",
            f"{record.campaign_id}" + ("" if record.account == "default" else f" of account {record.account}"),
        ),
        ("Variables", _variables(record.variables, reveal=reveal)),
        ("Voicery", voicery),
        ("Duplicate of", None if record.duplicate_of is None else str(record.duplicate_of)),
        ("Waits behind", None if record.waits_behind is None else str(record.waits_behind)),
        ("Duplicates", "allowed (allow_dupplicate)" if record.allow_dupplicate else None),
        ("Priority", str(record.priority) if record.priority else None),
        ("Key", record.as_dict(reveal=reveal)["idempotency_key"]),
        ("Batch", None if record.batch_id is None else str(record.batch_id)),
        ("Submitted", moments.clock(record.created_at)),
        ("Due", moments.clock(record.due_at) if record.state in (State.PENDING, State.UNKNOWN) else None),
        ("Expires", moments.clock(record.expires_at) if record.expires_at else None),
        ("Finished", moments.clock(record.finished_at) if record.finished_at else None),
        ("Attempts", str(record.attempts)),
        ("Last error", record.as_dict(reveal=reveal)["last_error"]),
    ]


def _attempt(attempt: "AttemptRecord", *, reveal: bool) -> None:
    screen.say("")
    took = ""
    if attempt.ended_at is not None:
        took = f" after {moments.span((attempt.ended_at - attempt.started_at).total_seconds())}"
    status = f" HTTP {attempt.http_status}" if attempt.http_status else ""
    outcome = attempt.outcome.value if attempt.outcome else "on its way"
    screen.say((f"Attempt {attempt.number} ", "bold"), f"{moments.clock(attempt.started_at)}  {outcome}{status}{took}")
    if attempt.error:
        screen.indented(attempt.error if reveal else mask_numbers(attempt.error), columns=2)
    for look in attempt.look_ups:
        fresh = ", list fresh" if look.control else ""
        screen.indented(f"looked up {moments.clock(look.at)}: {look.verdict}{fresh}", columns=2)
    screen.indented(f"by {attempt.worker or 'an unknown worker'}", "dim", columns=2)


def _variables(variables: Mapping[str, Any], *, reveal: bool) -> str:
    if not variables:
        return "none"
    return screen.plain(
        ", ".join(
            f"{name}={json.dumps(value, ensure_ascii=False) if reveal else MASKED}" for name, value in variables.items()
        )
    )


_PANEL = "Filters (all that are given must hold)"


def list_leads(
    state: Annotated[
        list[State] | None,
        typer.Option("--state", help="One state, or several.", rich_help_panel=_PANEL, show_default=False),
    ] = None,
    campaign: Annotated[int | None, arguments.campaign_option("Id of the campaign.", rich_help_panel=_PANEL)] = None,
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
    id: Annotated[
        str | None,
        typer.Option("--id", metavar="PART", help="Any part of the id, e.g. its end.", rich_help_panel=_PANEL),
    ] = None,
    var: Annotated[
        str | None,
        typer.Option("--var", metavar="NAME=TEXT", help="The lead has this variable.", rich_help_panel=_PANEL),
    ] = None,
    text: Annotated[
        str | None, typer.Option("--text", help="Occurs in the last error.", rich_help_panel=_PANEL)
    ] = None,
    attempts: Annotated[
        int | None, typer.Option("--attempts", min=0, help="The least number of attempts.", rich_help_panel=_PANEL)
    ] = None,
    due: Annotated[
        bool | None,
        typer.Option(
            "--due/--not-due",
            help="Pending, and its time has come; or not yet.",
            rich_help_panel=_PANEL,
            show_default=False,
        ),
    ] = None,
    ended_since: Annotated[
        str | None, typer.Option("--ended-since", metavar="SINCE", help="Ended at or after.", rich_help_panel=_PANEL)
    ] = None,
    ended_before: Annotated[
        str | None, typer.Option("--ended-before", metavar="BEFORE", help="Ended before.", rich_help_panel=_PANEL)
    ] = None,
    since: Annotated[
        str | None,
        typer.Option("--since", help=f"Submitted at or after, {moments.PAST_HELP}.", rich_help_panel=_PANEL),
    ] = None,
    before: Annotated[str | None, typer.Option("--before", help="Submitted before.", rich_help_panel=_PANEL)] = None,
    limit: arguments.Limit = 20,
    json: screen.Json = False,
    csv: screen.Csv = False,
    reveal: screen.Reveal = False,
) -> None:
    """List leads in any state, the highest id first: ids grow with time, but for those of an import."""
    from dispatcher.operator import leads as leads_of
    from dispatcher.operator.lead_filter import LeadFilter

    now = datetime.now(UTC)
    wanted = LeadFilter(
        states=tuple(state or ()),
        account=account,
        campaign_id=campaign,
        batch_id=batch,
        idempotency_key=key,
        voicery_lead_id=voicery_id,
        phone_number=phone,
        id_part=None if id is None else id.strip("…").lower(),
        variable=None if var is None else arguments.variable(var),
        text=text,
        attempts_from=attempts,
        due=due,
        finished_since=None if ended_since is None else arguments.past(ended_since, now, "--ended-since"),
        finished_before=None if ended_before is None else arguments.past(ended_before, now, "--ended-before"),
        created_since=None if since is None else arguments.past(since, now, "--since"),
        created_before=None if before is None else arguments.past(before, now, "--before"),
    )
    with opened() as dispatcher:
        arguments.note_person_looked_up(dispatcher, phone)
        found = dispatcher.reading.survey(leads_of.matching, wanted, most=limit + 1)
        place = arguments.told_place(dispatcher, json=json)
    shown, more = found[:limit], len(found) > limit
    if screen.emit_list((one.as_dict(reveal=reveal) for one in shown), json=json, csv=csv, more=more, **place):
        return
    if shown:
        screen.put(_table(shown, now, reveal=reveal))
    else:
        screen.say("No lead matches.")
    if more:
        screen.say((f"… and more; --limit shows more than {limit}.", "dim"))


def _table(leads: list["LeadInList"], now: datetime, *, reveal: bool) -> Table:
    """Return a row for each lead, which fits into 80 columns."""
    further = ["why", "attempts"] if screen.wide() else []
    names = ["Lead", "state", "campaign", "number", *further, "submitted"]
    table = screen.rows(*names, right=("campaign", "attempts"), whole=("Lead", "state", "number", "submitted"))
    for one in leads:
        number = one.phone_number if reveal else mask_phone(one.phone_number)
        beside = [one.failure_class or one.voicery_status or "", str(one.attempts)] if further else []
        table.add_row(
            Text(str(one.id), style="bold"), Text(one.state.value, style=STYLES[one.state]), str(one.campaign_id),
            number, *map(screen.line, beside), Text(moments.ago(one.created_at, now), style="dim"),
        )  # fmt: skip
    return table


def show(id: arguments.LeadId, json: screen.Json = False, reveal: screen.Reveal = False) -> None:
    """Show one lead with its contacts, every attempt and every failure."""
    with opened() as dispatcher:
        record = dispatcher.get(id)
    if json:
        screen.emit(record.as_dict(reveal=reveal))
    else:
        _show(record, reveal=reveal)


def explain(id: arguments.LeadId, json: screen.Json = False) -> None:
    """Say in plain words why a lead is where it is, and what happens next."""
    with opened() as dispatcher:
        record = dispatcher.get(id)
        told = dispatcher.explain(id)
    if json:
        screen.emit({"id": str(record.id), "state": record.state, "explanation": told})
    else:
        screen.say((record.state.value, f"bold {STYLES[record.state]}"))
        screen.say(told)


def edit(
    id: arguments.LeadId,
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
        dispatcher.corrections.correct(record.id, changes, actor=arguments.actor(), note=note, replay=replay)
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
    if plain == "campaign_id":
        return plain, arguments.campaign_id(value)
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
