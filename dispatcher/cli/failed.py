"""`failed`, and the filters of failed leads as options: `replay` has them too, and the console in its addresses."""

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final
from uuid import UUID

import typer

from dispatcher import moments
from dispatcher.cli import arguments, screen
from dispatcher.cli.arguments import opened
from dispatcher.decisions.states import FailureClass
from dispatcher.lead.masking import mask_numbers, mask_phone

if TYPE_CHECKING:
    from dispatcher.api import Dispatcher
    from dispatcher.operator.failures import FailedLead, FailureGroup

_PANEL: Final = "Filters (all that are given must hold)"


def _option(kind: Any, *flags: str, help: str, **more: Any) -> Any:  # noqa: ANN401 - as typer has it
    return Annotated[kind | None, typer.Option(*flags, help=help, rich_help_panel=_PANEL, **more)]


_OPTIONS: Final[Mapping[str, Any]] = {
    "failure_class": _option(FailureClass, "--class", help="Why it failed.", case_sensitive=False),
    "campaign_id": _option(int, "--campaign", parser=arguments.campaign_id, metavar="ID", help="Id of the campaign."),
    "account": _option(str, "--account", help="Name of the account."),
    "fingerprint": _option(str, "--cause", help="Fingerprint, as `failed --group` shows it."),
    "http_status": _option(int, "--http-status", min=100, max=599, help="What Voicery answered."),
    "text": _option(str, "--text", help="Occurs in the message."),
    "phone_number": _option(str, "--phone", help="How the number ends, e.g. 0123."),
    "idempotency_key": _option(str, "--key", help="Idempotency key, the producer's reference."),
    "batch_id": _option(UUID, "--batch", help="Id of the import."),
    "variable": _option(str, "--var", metavar="NAME=TEXT", help="The lead has this variable, e.g. plan=pro."),
    "attempts_from": _option(int, "--attempts", min=0, help="The least number of attempts."),
    "replayed_before": _option(
        bool, "--replayed-before/--never-replayed", help="Replayed before and failed again; or not."
    ),
    "failed_since": _option(str, "--since", help=f"Failed at or after, {moments.PAST_HELP}."),
    "failed_before": _option(str, "--before", help="Failed before."),
    "submitted_since": _option(str, "--submitted-since", help="Submitted at or after."),
    "submitted_before": _option(str, "--submitted-before", help="Submitted before."),
}


_MOMENTS: Final = {
    "failed_since": "--since",
    "failed_before": "--before",
    "submitted_since": "--submitted-since",
    "submitted_before": "--submitted-before",
}


def filtered(command: Callable[..., None]) -> Callable[..., None]:
    """Give the command an option for each filter; it gets those given as `wanted`, for `Dispatcher.failed`."""

    @wraps(command)
    def run(**options: Any) -> None:  # noqa: ANN401 - whatever the command takes
        given = {name: value for name in _OPTIONS if (value := options.pop(name)) is not None}
        command(wanted=_read(given), **options)

    own = inspect.signature(command)
    parameters = [one for one in own.parameters.values() if one.name != "wanted"]
    ids = [one for one in parameters if one.name == "ids"]
    asked = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=option)
        for name, option in _OPTIONS.items()
    ]
    others = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in parameters if one not in ids]
    run.__signature__ = own.replace(parameters=[*ids, *asked, *others])  # type: ignore[attr-defined]
    return run


def _read(given: dict[str, Any]) -> dict[str, Any]:
    now = datetime.now(UTC)
    readers: Mapping[str, Callable[[str], Any]] = {
        "phone_number": arguments.ending,
        "variable": arguments.variable,
        **{name: partial(arguments.past, now=now, option=option) for name, option in _MOMENTS.items()},
    }
    return {name: readers[name](value) if name in readers else value for name, value in given.items()}


@filtered
def failed(
    wanted: dict[str, Any],
    group: Annotated[bool, typer.Option("--group", help="One entry for each cause, the most frequent first.")] = False,
    resolved: Annotated[bool, typer.Option("--resolved", help="Those already replayed, found or dismissed.")] = False,
    export: Annotated[
        Path | None,
        typer.Option(
            "--export",
            help="Write all that match to a new CSV file, to edit them and take it back by `import`; needs --reveal.",
            show_default=False,
        ),
    ] = None,
    limit: arguments.Limit = 20,
    json: screen.Json = False,
    csv: screen.Csv = False,
    reveal: screen.Reveal = False,
) -> None:
    """List the leads that failed and are not resolved yet, and what to do about them."""
    from dispatcher.operator import failures
    from dispatcher.operator.failure_filter import FailureFilter

    if resolved:
        wanted["resolved"] = True
    with opened() as dispatcher:
        arguments.note_person_looked_up(dispatcher, wanted.get("phone_number"))
        if export is not None:
            _export(dispatcher, wanted, export, json=json, reveal=reveal)
        elif group:
            groups = dispatcher.reading.read(failures.groups, FailureFilter.parse(wanted))
            _show_groups(groups, arguments.told_place(dispatcher, json=json), json=json, csv=csv)
        else:
            found = dispatcher.reading.read(failures.matching, FailureFilter.parse(wanted), limit=limit + 1)
            place = arguments.told_place(dispatcher, json=json)
            _show_failed(found, limit, place, json=json, csv=csv, reveal=reveal)


def _export(dispatcher: "Dispatcher", wanted: dict[str, Any], path: Path, *, json: bool, reveal: bool) -> None:
    from dispatcher.operator import edited_rows
    from dispatcher.operator.failure_filter import FailureFilter
    from dispatcher.spreadsheet import csv_table
    from dispatcher.store import audit

    if not reveal:
        raise typer.BadParameter("the file holds numbers and variables whole; say so with --reveal")
    if wanted.get("resolved"):
        raise typer.BadParameter("only leads whose failure is open can be edited; leave out --resolved")
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise typer.BadParameter(
            f"{path} cannot be made ({error.strerror}); name a file that does not exist", param_hint="--export"
        ) from None
    with open(descriptor, "w", encoding="utf-8-sig", newline="") as file:  # noqa: PTH123 - a descriptor
        header, rows = dispatcher.reading.read(edited_rows.table, FailureFilter.parse(wanted))
        file.writelines(csv_table(header, rows))
    detail = {"rows": len(rows), "whole_numbers": True}
    dispatcher.database.again(audit.note, arguments.actor(), "export", "failed_leads", detail)
    told = {"file": str(path), "rows": len(rows)}
    screen.done(
        told,
        (("✓ ", "green"), f"{screen.plural(len(rows), 'failed lead')} in {path}."),
        ("Edit it, and look at `dispatcher import FILE --plan` before `dispatcher import FILE`.",),
        json=json,
    )


def _show_failed(
    found: Sequence["FailedLead"], limit: int, place: Mapping[str, Any], *, json: bool, csv: bool, reveal: bool
) -> None:
    shown, more = found[:limit], len(found) > limit
    if screen.emit_list((one.as_dict(reveal=reveal) for one in shown), json=json, csv=csv, more=more, **place):
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
        message = one.message if reveal else mask_numbers(one.message)
        screen.indented(f"{one.failure_class}{status}: {message}{done}", columns=2)
    if more:
        screen.say((f"There are more: --limit {limit * 10}, or --group for the causes.", "dim"))
    else:
        screen.say((f"{screen.plural(len(shown), 'lead')}. `dispatcher explain ID` says what to do next.", "dim"))


def _show_groups(groups: Sequence["FailureGroup"], place: Mapping[str, Any], *, json: bool, csv: bool) -> None:
    if screen.emit_list((group.as_dict() for group in groups), json=json, csv=csv, **place):
        return
    if not groups:
        screen.say(("✓ ", "green"), "No failed lead needs anybody.")
        return
    now = datetime.now(UTC)
    for group in groups:
        status = f" (HTTP {group.http_status})" if group.http_status else ""
        screen.say((screen.plural(group.leads, "lead"), "bold red"), f"  {group.failure_class}{status}")
        screen.indented(mask_numbers(group.message), columns=2)
        how = " `dispatcher edit ID --replay` corrects." if group.failure_class is FailureClass.REJECTED else ""
        screen.indented(f"→ {group.advice}{how}", "cyan", columns=2)
        where = ", ".join(str(campaign) for campaign in group.campaigns[:8])
        more = " …" if len(group.campaigns) > 8 else ""
        noun = "campaign" if len(group.campaigns) == 1 else "campaigns"
        screen.indented(
            f"{noun} {where}{more} · last {moments.ago(group.last_at, now)} · --cause {group.fingerprint}",
            "dim",
            columns=2,
        )
