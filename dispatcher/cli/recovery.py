"""`recover`: after a restore, or the promotion of an asynchronous standby."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from dispatcher import moments
from dispatcher.cli import arguments, screen
from dispatcher.cli.arguments import opened

if TYPE_CHECKING:
    from dispatcher.operator.recovery import Recovered


def recover(
    since: Annotated[
        str | None,
        typer.Option(
            "--since",
            help=f"The moment of the backup, or of the standby's last commit, or earlier: {moments.PAST_HELP}.",
            show_default=False,
        ),
    ] = None,
    nothing_lost: Annotated[
        bool,
        typer.Option(
            "--nothing-lost", help="This database has every commit (it was moved, or upgraded): hold nothing."
        ),
    ] = False,
    account: Annotated[str | None, typer.Option("--account", help="Only this account.", show_default=False)] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count what would be held.")] = False,
    json: screen.Json = False,
) -> None:
    """Hold every lead that may have been sent since, and have it looked up, before a worker sends it again.

    For a database that was restored from a backup, or an asynchronous standby that was promoted: it knows no POST that
    was made after the backup, or that it had not received. Stop all workers first, and see that none reaches the former
    primary. Then start them: what Voicery has is accepted with its id, what is proven absent is sent, and the rest is
    held with its reason. Repeat the command, with the same --since, to go on after an interruption and to see how it
    stands. Needs the worker's login to the database, or the owner's. docs/operations.md has the steps.

    Where Postgres began another timeline, workers do this by themselves. On another server or database they send
    nothing, until this command says since when commits may be missing, or --nothing-lost.
    """
    if (since is None) != nothing_lost or (nothing_lost and (account is not None or dry_run)):
        raise typer.BadParameter("give --since MOMENT, or --nothing-lost alone.")
    if since is None:
        with opened() as dispatcher:
            dispatcher.recovery.nothing_lost(actor=arguments.actor())
        if json:
            screen.emit_items(())
        else:
            screen.say(("✓ ", "green"), "Nothing is held; leads are sent from this database.")
        return
    moment = arguments.past(since, datetime.now(UTC), "--since")
    with opened() as dispatcher:
        progress = _progress(quiet=json or dry_run)
        with screen.goes_on_when_repeated():
            found = dispatcher.recovery.recover(
                moment, account, actor=arguments.actor(), dry_run=dry_run, progress=progress
            )
    if json:
        screen.emit_items((one.as_dict() for one in found), dry_run=dry_run)
        return
    if not found:
        screen.say("No account has a lead that may have been sent: there is nothing to hold.")
    for one in found:
        _show(one, dry_run=dry_run)
    if dry_run:
        screen.warn(("A dry run: nothing was changed.", "yellow"))
    elif any(one.still_held for one in found):
        again = "" if account is None else f" --account {account}"
        screen.say("Start the workers, which look them up. How it stands then:")
        screen.indented(f"dispatcher recover --since {moment.isoformat()}{again}")


def _progress(*, quiet: bool) -> Callable[[int], None]:
    held = 0

    def tell(leads: int) -> None:
        nonlocal held
        held += leads
        if not quiet:
            screen.warn(f"{screen.plural(held, 'lead')} held …")

    return tell


def _show(one: "Recovered", *, dry_run: bool) -> None:
    verb = "would be held" if dry_run else "held now"
    screen.say(
        ("✓ ", "green"), f"Account {one.account}: {screen.plural(one.held_now, 'lead')} {verb}; in all "
        f"{screen.number(one.adopted)} adopted, {screen.number(one.released)} released, "
        f"{screen.number(one.settled)} settled otherwise, {screen.number(one.still_held)} still held."
    )  # fmt: skip
    for why, leads in one.why:
        screen.indented(f"{screen.number(leads)}  {why}")
    if one.failed:
        screen.say(
            ("! ", "yellow"), f"{screen.plural(one.failed, 'lead')} had failed before. Somebody may have replayed them "
            "since: compare with Voicery before you replay them."
        )  # fmt: skip
    if one.paused:
        flag = "" if one.account == "default" else f" --account {one.account}"
        screen.say(("! ", "yellow"), f"The account was paused by somebody, and stays so: `dispatcher resume{flag}`.")
