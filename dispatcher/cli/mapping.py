"""`mapping`: how the webhooks of a CRM become leads."""

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from dispatcher import moments
from dispatcher.cli import arguments, screen
from dispatcher.cli.arguments import opened
from dispatcher.lead.options import DEFAULT_ACCOUNT

mapping = typer.Typer(
    help="Say how the webhooks of a CRM become leads, at POST /v1/hooks/NAME of the HTTP intake.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="Its name, a part of its address.", show_default=False)]


@mapping.command("set")
def set_mapping(
    name: Name,
    fields: Annotated[
        list[str],
        typer.Option(
            "--field",
            metavar="FIELD=PATH",
            help="A field of the lead, or variables.NAME, and where the body has it.",
            show_default=False,
        ),
    ],
    values: Annotated[
        list[str] | None,
        typer.Option("--value", metavar="FIELD=VALUE", help="A field that is always the same.", show_default=False),
    ] = None,
    country: Annotated[
        str | None,
        typer.Option("--country", help="Completes numbers without a country code, e.g. DE.", show_default=False),
    ] = None,
    account: arguments.Account = DEFAULT_ACCOUNT,
    dry_run: screen.DryRun = False,
    json: screen.Json = False,
) -> None:
    """Store a mapping, or replace it. An intake reads by it within a second.

    Example: dispatcher mapping set hubspot --field phone_number=properties.phone --value campaign_id=42
    """
    from dispatcher.http_intake.mappings import Mappings, WebhookMapping, fixed_value

    given = {target: fixed_value(value) for target, value in _pairs(values or (), "--value")}
    wanted = WebhookMapping(account, name, dict(_pairs(fields, "--field")), given, country)
    with opened(rehearsing=dry_run) as dispatcher:
        created = Mappings(dispatcher.database).put(wanted, actor=arguments.actor())
    if json:
        screen.emit({"mapping": wanted.as_dict(), "created": created, "dry_run": dry_run})
        return
    screen.say(("✓ ", "green"), f"The mapping {name} is {'stored' if created else 'replaced'}: POST /v1/hooks/{name}.")
    screen.say(f"Try it: `dispatcher mapping try {name} sample.json`.")


@mapping.command("list")
def list_mappings(
    account: arguments.OfAccount = None,
    limit: arguments.Limit = 100,
    json: screen.Json = False,
    csv: screen.Csv = False,
) -> None:
    """List the mappings by account and name."""
    from dispatcher.http_intake.mappings import Mappings

    with opened() as dispatcher:
        found = Mappings(dispatcher.database).all(account=account, most=limit)
    if screen.emit_list((one.as_dict() for one in found), json=json, csv=csv):
        return
    if not found:
        screen.say("There are no mappings; `dispatcher mapping set NAME --field …` stores one.")
        return
    table = screen.rows("Name", "account", "fields", "by", "since")
    now = datetime.now(UTC)
    for one in found:
        since = "" if one.changed_at is None else moments.ago(one.changed_at, now)
        table.add_row(one.name, one.account, ", ".join([*one.fields, *one.fixed]), one.changed_by or "", since)
    screen.put(table)


@mapping.command("show")
def show(name: Name, account: arguments.Account = DEFAULT_ACCOUNT, json: screen.Json = False) -> None:
    """Show a mapping."""
    from dispatcher.http_intake.mappings import Mappings

    with opened() as dispatcher:
        found = Mappings(dispatcher.database).get(account, name)
    shown = found.as_dict()
    if json:
        screen.emit(shown)
        return
    table = screen.rows("Field", "from")
    for target, path in found.fields.items():
        table.add_row(target, path)
    for target, value in shown["fixed"].items():
        table.add_row(target, f"always {screen.as_json(value)}")
    screen.put(table)
    if found.country:
        screen.say(f"Numbers without a country code are completed for {found.country.upper()}.")


@mapping.command("remove")
def remove(
    name: Name,
    account: arguments.Account = DEFAULT_ACCOUNT,
    dry_run: screen.DryRun = False,
    json: screen.Json = False,
) -> None:
    """Remove a mapping. Its address answers 404 within a second."""
    from dispatcher.http_intake.mappings import Mappings

    with opened(rehearsing=dry_run) as dispatcher:
        Mappings(dispatcher.database).remove(account, name, actor=arguments.actor())
    if json:
        screen.emit({"removed": name, "account": account, "dry_run": dry_run})
    else:
        screen.say(("✓ ", "green"), f"The mapping {name} is removed.")


@mapping.command("try")
def try_mapping(
    name: Name,
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="A sample of the body; - reads standard input.", show_default=False)
    ],
    form: Annotated[bool, typer.Option("--form", help="The sample is form-encoded, not JSON.")] = False,
    account: arguments.Account = DEFAULT_ACCOUNT,
    json: screen.Json = False,
    reveal: screen.Reveal = False,
) -> None:
    """Show the lead that a sample becomes, with every fault. Nothing is stored."""
    from dispatcher.http_intake.bodies import FORM, JSON, object_of
    from dispatcher.http_intake.mappings import Mappings, mapped
    from dispatcher.operator.record import mask_inside, mask_variables

    try:
        sample = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise typer.BadParameter(f"it cannot be read ({why}); name another file", param_hint="FILE") from None
    with opened() as dispatcher:
        found = Mappings(dispatcher.database).get(account, name)
    became = mapped(found, object_of(sample, FORM if form else JSON))
    faults = became.all_faults()
    lead = {**became.lead, **{option: str(value) for option, value in became.options.items()}}
    if not reveal:
        variables = lead.get("variables")
        lead = mask_inside(lead)
        if isinstance(variables, dict):
            lead["variables"] = mask_variables(variables)
    if json:
        told = [{"field": one.field, "fault": one.fault, "remedy": one.remedy} for one in faults]
        screen.emit({"lead": lead, "errors": told})
    else:
        table = screen.rows("Field", "value")
        for target, value in lead.items():
            table.add_row(target, screen.as_json(value))
        screen.put(table)
        for fault in faults:
            screen.warn(("✗ ", "red"), str(fault))
        if not faults:
            screen.say(("✓ ", "green"), "This would be taken.")
    if faults:
        screen.fail()


def _pairs(given: Sequence[str], option: str) -> list[tuple[str, str]]:
    pairs = [(target.strip(), rest.strip()) for target, equals, rest in (one.partition("=") for one in given) if equals]
    if len(pairs) != len(given) or not all(target and rest for target, rest in pairs):
        what = "PATH" if option == "--field" else "VALUE"
        raise typer.BadParameter(f"write {option} FIELD={what}", param_hint=option)
    if len({target for target, _ in pairs}) != len(pairs):
        raise typer.BadParameter("a field is given twice; give each once", param_hint=option)
    return pairs
