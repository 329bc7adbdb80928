"""`operations`: bulk work that is stored and done by the workers."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer
from rich.text import Text

from dispatcher import moments
from dispatcher.cli import arguments, screen
from dispatcher.cli.arguments import opened
from dispatcher.errors import NotAllowed
from dispatcher.lead.masking import mask_numbers

if TYPE_CHECKING:
    from dispatcher.operator.operation_work import Operation

_REFUSALS_SHOWN = 20


def operations(
    id: Annotated[
        UUID | None, typer.Argument(metavar="[ID]", help="One operation, with its refusals.", show_default=False)
    ] = None,
    stop: Annotated[bool, typer.Option("--stop", help="Do no more of it; what is done stays done.")] = False,
    limit: arguments.Limit = 20,
    dry_run: screen.DryRun = False,
    json: screen.Json = False,
    csv: screen.Csv = False,
) -> None:
    """List bulk work with its progress, show one with what was refused, or stop it."""
    if stop and id is None:
        raise typer.BadParameter("--stop needs the id of an operation")
    with opened(rehearsing=dry_run) as dispatcher:
        if id is None:
            _show_list(dispatcher.operations.latest(most=limit), json=json, csv=csv)
            return
        if stop:
            dispatcher.operations.get(id)
            if not dispatcher.operations.stop(id, actor=arguments.actor()):
                raise NotAllowed("It is over already; nothing was stopped.")
        one = dispatcher.operations.get(id)
        refusals = dispatcher.operations.refusals(id)
    told = [{"lead_id": str(lead_id), "reason": mask_numbers(reason)} for lead_id, reason in refusals]
    if json:
        screen.emit({**one.as_dict(), "refusals": told})
    elif not screen.emit_list(told, json=False, csv=csv):
        _show(one)
        for refusal in told[:_REFUSALS_SHOWN]:
            screen.say(("✗ ", "red"), f"{refusal['lead_id']}: {refusal['reason']}")
        if len(told) > _REFUSALS_SHOWN:
            screen.say((f"… and {len(told) - _REFUSALS_SHOWN} more; --json has them.", "dim"))


def _show_list(found: list["Operation"], *, json: bool, csv: bool) -> None:
    if screen.emit_list((one.as_dict() for one in found), json=json, csv=csv):
        return
    now = datetime.now(UTC)
    figures = ("leads", "done", "refused", "left")
    table = screen.rows("Operation", "what", "state", *figures, "asked", right=figures, whole=("Operation", "asked"))
    for one in found:
        begins = "" if one.begins_at is None else f", begins {moments.ago(one.begins_at, now)}"
        table.add_row(
            Text(str(one.id), style="bold"), one.kind.value.replace("_", " "), one.state.value + begins,
            *map(screen.number, (one.total, one.done, one.refused, one.left)), moments.ago(one.created_at, now),
        )  # fmt: skip
    if found:
        screen.put(table)
    else:
        screen.say("There is no bulk work. `dispatcher replay --all --background` would make some.")


def _show(one: "Operation") -> None:
    now = datetime.now(UTC)
    pace = "" if one.pace is None else f", {one.pace:.3g} a minute"
    begins = "" if one.begins_at is None else f", begins {moments.ago(one.begins_at, now)}"
    screen.say(
        (str(one.id), "bold"),
        f"  {one.kind} {one.state}: {screen.number(one.done)} done, {screen.number(one.refused)} refused,"
        f" {screen.number(one.left)} left{pace}{begins}  ",
        (f"by {one.actor} {moments.ago(one.created_at, now)}", "dim"),
    )
