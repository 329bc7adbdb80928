"""`submit`: one lead from options, or as JSON on standard input."""

import sys
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import typer

from dispatcher import moments
from dispatcher.cli import arguments, screen
from dispatcher.cli.arguments import opened
from dispatcher.lead.options import DEFAULT_ACCOUNT
from dispatcher.lead.variables import NameTwice, read_json

_STDIN_BYTES: Final = 1_000_000


def submit(
    phone: Annotated[
        str | None,
        typer.Option(
            "--phone",
            help="Number in E.164. Others on this machine can see it in the list of processes; "
            "JSON on standard input stays private.",
            show_default=False,
        ),
    ] = None,
    campaign: Annotated[int | None, arguments.campaign_option("Id of the campaign.")] = None,
    var: Annotated[
        list[str] | None,
        typer.Option(
            "--var", metavar="NAME=TEXT", help="A variable; NAME:=JSON for anything but text.", show_default=False
        ),
    ] = None,
    contact: Annotated[
        list[str] | None, typer.Option("--contact", help="Number of a secondary contact.", show_default=False)
    ] = None,
    allow_dupplicate: Annotated[
        bool,
        typer.Option("--allow-dupplicate", help="Also if the campaign has this number already (the API's spelling)."),
    ] = False,
    key: Annotated[
        str | None, typer.Option("--key", help="Idempotency key: the same again is the same lead.", show_default=False)
    ] = None,
    priority: Annotated[int, typer.Option("--priority", min=0, max=9, help="Higher goes first.")] = 0,
    not_before: Annotated[
        str | None, typer.Option("--not-before", help=f"No earlier, {moments.FUTURE_HELP}.", show_default=False)
    ] = None,
    expires_at: Annotated[
        str | None, typer.Option("--expires-at", help=f"No later, {moments.FUTURE_HELP}.", show_default=False)
    ] = None,
    account: arguments.Account = DEFAULT_ACCOUNT,
    dry_run: screen.DryRun = False,
    json: screen.Json = False,
) -> None:
    """Make one lead durable; a worker delivers it. Without --phone the lead is read as JSON from standard input.

    Example: echo '{"phone_number": "+12025550123", "campaign_id": 42, "variables": {}}' | dispatcher submit
    """
    options: dict[str, Any] = {"idempotency_key": key, "priority": priority}
    now = datetime.now(UTC)
    if not_before is not None:
        options["not_before"] = arguments.future(not_before, now, "--not-before")
    if expires_at is not None:
        options["expires_at"] = arguments.future(expires_at, now, "--expires-at")
    if phone is not None:
        lead = _lead(phone, campaign, var or [], contact or [], allow_dupplicate=allow_dupplicate)
    elif campaign is not None or var or contact or allow_dupplicate:
        raise typer.BadParameter("--phone is missing; or give the whole lead as JSON on standard input")
    else:
        lead = _lead_from_stdin()
    with opened(rehearsing=dry_run) as dispatcher:
        submission = dispatcher.submit(lead, account=account, **options)
    if json:
        screen.emit(
            {
                "id": str(submission.id),
                "state": submission.state,
                "created": submission.created,
                "duplicate_of": None if submission.duplicate_of is None else str(submission.duplicate_of),
            }
        )
    elif submission.duplicate_of is not None:
        screen.say(("= ", "magenta"), f"{submission.id} is a duplicate of {submission.duplicate_of}; nobody is called.")
    elif not submission.created:
        screen.say(("= ", "cyan"), f"{submission.id} was submitted before; nothing was added.")
    else:
        screen.say(
            ("✓ ", "green"), f"{submission.id} {'would be stored.' if dry_run else 'is stored and will be delivered.'}"
        )


def _lead(
    phone: str, campaign: int | None, variables: list[str], contacts: list[str], *, allow_dupplicate: bool
) -> dict[str, Any]:
    if campaign is None:
        raise typer.BadParameter("--campaign is missing")
    lead: dict[str, Any] = {
        "phone_number": phone,
        "campaign_id": campaign,
        "variables": dict(map(_variable, variables)),
        "allow_dupplicate": allow_dupplicate,
    }
    if contacts:
        lead["secondary_contacts"] = [{"phone_number": number} for number in contacts]
    return lead


def _variable(given: str) -> tuple[str, Any]:
    name, equals, value = given.partition("=")
    if not equals or not name.rstrip(":"):
        raise typer.BadParameter("--var is written NAME=TEXT, or NAME:=JSON")
    if not name.endswith(":"):
        return name, value
    try:
        return name[:-1], read_json(value)
    except ValueError:
        raise typer.BadParameter(f"what follows {name}= is not JSON; for text write {name[:-1]}=…") from None


def _lead_from_stdin() -> dict[str, Any]:
    if sys.stdin.isatty():
        raise typer.BadParameter("name --phone and --campaign, or pipe the lead in as JSON")
    given = sys.stdin.buffer.read(_STDIN_BYTES + 1)
    try:
        lead = read_json(given) if len(given) <= _STDIN_BYTES else None
    except NameTwice as twice:
        raise typer.BadParameter(f"standard input {twice}") from None
    except ValueError:
        lead = None
    if not isinstance(lead, dict):
        raise typer.BadParameter('standard input is not one JSON object such as {"phone_number": …, "campaign_id": …}')
    return lead
