"""`rekey`: bring what is stored under the first key, or back to plain text."""

from typing import TYPE_CHECKING, Annotated

import typer

from dispatcher.cli import arguments, screen
from dispatcher.cli.arguments import opened

if TYPE_CHECKING:
    from dispatcher.operator.rekey import Rekeyed, RekeyProgress


def rekey(
    decrypt: Annotated[bool, typer.Option("--decrypt", help="Store everything as plain text again.")] = False,
    batch: Annotated[
        int, typer.Option("--batch", min=1, max=10_000, help="Rows of one transaction.", metavar="ROWS")
    ] = 1_000,
    dry_run: screen.DryRun = False,
    yes: screen.Yes = False,
    json: screen.Json = False,
) -> None:
    """Encrypt what is stored plain or under another key, under the first key of DISPATCHER_ENCRYPTION_KEYS.

    Leads are delivered meanwhile. Interrupted, it is run again, and goes on where it was. It exits with 1 while values
    are left: under a key that is not in DISPATCHER_ENCRYPTION_KEYS, written meanwhile by a process with another first
    key, or changed in the database.
    """
    with opened(rehearsing=dry_run) as dispatcher:
        ring = dispatcher.database.key_ring
        if not ring.key_ids:
            raise typer.BadParameter(
                "DISPATCHER_ENCRYPTION_KEYS is not set; set the keys, the one to encrypt under first"
            )
        if ring.key_id is None and not decrypt:
            raise typer.BadParameter(
                "DISPATCHER_ENCRYPTION_KEYS begins with off; say --decrypt, or put the key to encrypt under first"
            )
        if not dry_run:
            goal = "Decrypt everything" if decrypt else f"Encrypt everything under the key {ring.key_id}"
            screen.confirm(f"{goal}?", yes=yes)
        with screen.goes_on_when_repeated():
            result = dispatcher.rekeying.run(
                actor=arguments.actor(), decrypt=decrypt, batch_rows=batch, tell=(lambda _: None) if json else _tell
            )
        encrypts = ring.key_id
    if json:
        screen.emit(
            {
                "key": result.key_id,
                "changed": dict(result.changed),
                "left": dict(result.left),
                "undecryptable": list(result.undecryptable),
                "kept": list(result.kept),
                "finished": result.finished,
                "dry_run": dry_run,
            }
        )
    else:
        with screen.reader_may_leave():  # the exit code is told all the same
            _show(result, dry_run=dry_run)
            if decrypt and encrypts is not None and not dry_run:
                told = "New leads are encrypted while DISPATCHER_ENCRYPTION_KEYS does not begin with off."
                screen.say(("! ", "yellow"), told)
    if not (result.finished or dry_run):
        screen.fail()


def _tell(progress: "RekeyProgress") -> None:
    screen.warn(f"{progress.table}: {screen.number(progress.changed)} of about {screen.number(progress.to_do)}")


def _show(result: "Rekeyed", *, dry_run: bool) -> None:
    goal = "decrypted" if result.key_id is None else f"brought under the key {result.key_id}"
    verb = f"would be {goal}" if dry_run else goal
    screen.say(("✓ ", "green"), f"{screen.plural(sum(result.changed.values()), 'row')} {verb}.")
    if dry_run:
        return
    from dispatcher.operator.rekey import PLAIN

    for key_id, count in sorted(result.left.items()):
        held = "stored plain" if key_id == PLAIN else f"under the key {key_id}"
        screen.warn(("✗ ", "red"), f"{screen.plural(count, 'value')} left, {held}.")
    for row in result.undecryptable[:10]:
        screen.warn(("✗ ", "red"), f"{row}: changed or moved in the database; restore it from a backup, or delete it.")
    if result.kept:
        screen.warn(
            ("! ", "yellow"),
            f"Kept as needed: the key {', the key '.join(result.kept)}. A transaction that was open may still "
            "write under it; run it again when the long transaction has ended.",
        )
    if result.left and not result.undecryptable:
        screen.warn(
            "Add the keys that are named to DISPATCHER_ENCRYPTION_KEYS, give every process the same, and run it again."
        )
