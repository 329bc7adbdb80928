"""`prune`: what is kept no longer."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

import typer

from dispatcher.cli import arguments, screen
from dispatcher.cli.arguments import opened

FORGOTTEN: Final = "Who is forgotten counts as new: the same people, submitted or imported again, are called again."


def prune(
    older_than: Annotated[
        str | None,
        typer.Option(
            "--older-than",
            help="What ended longer ago, e.g. 30d; by default DISPATCHER_RETENTION_DAYS.",
            show_default=False,
        ),
    ] = None,
    failed: Annotated[bool, typer.Option("--failed", help="Failed leads too, dealt with or not.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count them.")] = False,
    yes: screen.Yes = False,
    json: screen.Json = False,
) -> None:
    """Delete leads that ended long ago, with their attempts. The sweep does it too, to failed ones after a year."""
    with opened() as dispatcher:
        age = timedelta(days=dispatcher.settings.retention_days) if older_than is None else _age(older_than)
        seen = dispatcher.pruner.preview(age, failed=failed)
        total = seen.ended + seen.failed
        told = {"ended": seen.ended, "failed": seen.failed, "failed_open": seen.open, "dry_run": dry_run}
        if total and not dry_run:
            undone = f", {screen.number(seen.open)} of which nobody has dealt with" if seen.open else ""
            beside = f" ({screen.number(seen.failed)} failed{undone})" if seen.failed else ""
            screen.confirm(f"Delete {screen.plural(total, 'lead')}{beside}? {FORGOTTEN}", yes=yes)
            total = sum(dispatcher.pruner.prune(age, failed=failed, actor=arguments.actor()))
    if json:
        screen.emit({**told, "leads": total})
        return
    verb = "would be deleted" if dry_run else "deleted"
    screen.say(("✓ ", "green"), f"{screen.plural(total, 'lead')} {verb}.")
    if dry_run and total:
        screen.say(("! ", "yellow"), FORGOTTEN)
    if dry_run and seen.open:
        screen.say(("! ", "yellow"), f"{screen.number(seen.open)} of them failed and nobody has dealt with them.")


def _age(text: str) -> timedelta:
    now = datetime.now(UTC)
    age = now - arguments.past(text, now, "--older-than")
    if age <= timedelta(0):
        raise typer.BadParameter("it lies ahead; write e.g. 30d", param_hint="--older-than")
    return age
