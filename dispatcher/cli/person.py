"""`person` and `erase`: what is held of somebody, and its end."""

import sys
from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Final

import typer

from dispatcher import moments
from dispatcher.cli import arguments, screen
from dispatcher.cli.arguments import opened
from dispatcher.lead.masking import mask_phone

if TYPE_CHECKING:
    from dispatcher.operator.erasure import ErasureProgress
    from dispatcher.operator.person import Left

Phone = Annotated[
    str, typer.Argument(metavar="PHONE", help="The number; - reads it from standard input, unseen by others.")
]

_NOUNS: Final = {
    "lead_contacts": "contact",
    "lead_revisions": "earlier version",
    "lead_attempts": "attempt",
    "failed_leads": "failure",
    "idempotency_keys": "idempotency key",
    "blocks": "block",
    "incidents": "incident",
    "alerts": "alert",
    "operation_leads": "part of an operation",
    "audit_log": "audit entry",
    "erased_leads": "keyed hash of an erased lead",
    "imports": "imported file",
}


def person(
    phone: Phone = "-",
    reveal: screen.Reveal = False,
    json: screen.Json = False,
) -> None:
    """Show all that is held of a person. The look-up is written to the audit log.

    --json is the answer to an access request: whole, with the person's number and variables, but for the numbers of
    other people. The text masks the number unless --reveal is given.
    """
    with opened() as dispatcher:
        found = dispatcher.people.held_of(_number(phone), actor=arguments.actor())
    if json:
        screen.emit(found.as_dict())
        return
    shown = found.phone_number if reveal else mask_phone(found.phone_number)
    leads = found.held["leads"]
    screen.say((shown, "bold"), f"  {screen.plural(len(leads), 'lead')}, {moments.clock(found.read_at)}")
    for lead in leads:
        submitted = moments.clock(datetime.fromisoformat(lead["created_at"]), found.read_at)
        screen.say(f"  {lead['id']}  {lead['state']}  campaign {lead['campaign_id']}  ", (submitted, "dim"))
    for table, noun in _NOUNS.items():
        if found.held[table]:
            screen.say(f"  {screen.number(len(found.held[table]))} × {noun}  ", (table, "dim"))
    for one in found.mentioned:
        row = ", ".join(f"{name} {value}" for name, value in one.row.items())
        value = f": {one.value}" if reveal else ""
        where = one.where if reveal else one.where.split(".")[0]
        screen.say(
            f"  mentioned in {one.table} {row if reveal or one.table != 'idempotency_keys' else ''} {where}{value}"
        )
    if not leads and not found.mentioned and not any(found.held.values()):
        screen.say("Nothing is held of this person here.")
    _tell_outside("Elsewhere there may be:", found.outside)


def erase(
    phone: Phone = "-",
    without_proof: Annotated[
        bool,
        typer.Option(
            "--without-proof", help="Also where no key is set: the person, submitted again, is then called again."
        ),
    ] = False,
    batch: Annotated[
        int,
        typer.Option("--batch", min=1, max=10_000, help="Leads or other rows of one transaction.", metavar="ROWS"),
    ] = 500,
    dry_run: screen.DryRun = False,
    yes: screen.Yes = False,
    json: screen.Json = False,
) -> None:
    """Erase a person: every lead, attempt, failure and note with the number, in any form; and name what is left.

    Refused while a lead is on its way. Under DISPATCHER_PRIVACY_KEY a keyed hash stays, so that a repeated submission
    is still a duplicate and nobody is called again; without the key, a person who was called is erased with
    --without-proof only. Until it ends, the number is blocked; interrupted, it is run again, and erases what is left.
    """
    if not dry_run:
        screen.confirm("Erase this person for good?", yes=yes)
    with opened(rehearsing=dry_run) as dispatcher:
        erased = dispatcher.erasure.erase(
            _number(phone),
            actor=arguments.actor(),
            without_proof=without_proof,
            batch_rows=batch,
            tell=(lambda _: None) if json else _tell,
        )
    if json:
        screen.emit(
            {
                "leads": [str(one) for one in erased.leads],
                "beside": [str(one) for one in erased.beside],
                "rows": dict(erased.rows),
                "voicery_ids": [{"account": account, "id": one} for account, one in erased.voicery_ids],
                "left": [asdict(one) for one in erased.left],
                "dry_run": dry_run,
            }
        )
        return
    verb = "would be erased" if dry_run else "erased"
    screen.say(("✓ ", "green"), f"{screen.plural(len(erased.leads), 'lead')} {verb}.")
    if erased.beside:
        screen.say(f"The number was taken out of {screen.plural(len(erased.beside), 'lead')} of others.")
    _tell_outside("This is not reached from here:", erased.left)


def _tell(progress: "ErasureProgress") -> None:
    screen.warn(f"{screen.number(progress.done)} of {screen.number(progress.to_do)} rows")


def _number(phone: str) -> str:
    return sys.stdin.readline().strip() if phone == "-" else phone


def _tell_outside(heading: str, outside: "Iterable[Left]") -> None:
    screen.say(heading)
    for one in outside:
        screen.say(("! ", "yellow"), f"{one.what}: {one.why}.")
        screen.indented(f"{one.todo}.")
