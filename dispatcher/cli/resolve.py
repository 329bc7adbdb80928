"""`lookup`, `resolve` and `cancel`: what became of a lead, asked or decided; the audit log keeps who did it."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from dispatcher.cli import arguments, screen
from dispatcher.cli.arguments import opened
from dispatcher.decisions.states import State
from dispatcher.errors import LeadNotFound, NotAllowed

if TYPE_CHECKING:
    from dispatcher.api import Dispatcher

Note = Annotated[str, typer.Option("--note", help="How you know, or why; kept with the lead.", show_default=False)]


def lookup(
    ids: arguments.SomeLeadIds = None,
    unknown: Annotated[bool, typer.Option("--unknown", help="All leads whose outcome is unknown now.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say which would be asked about.")] = False,
    json: screen.Json = False,
) -> None:
    """Ask Voicery now whether leads arrived whose answer was lost. Needs the token; counts against the rate limit."""
    if bool(ids) == unknown:
        raise typer.BadParameter("name ids, or --unknown")
    if dry_run:
        _show_in_doubt(ids or None, json=json)
        return
    with opened() as dispatcher:
        _warn_of_drift(dispatcher)
        findings = dispatcher.look_up(ids or None)
        told = {finding.lead_id: dispatcher.explain(finding.lead_id) for finding in findings}
    if json:
        screen.emit_items(
            {
                "id": str(one.lead_id),
                "verdict": one.verdict,
                "proof": one.decision.proof,
                "explanation": told[one.lead_id],
            }
            for one in findings
        )
    elif not findings:
        screen.say("None of them is in doubt: there is nothing to look up.")
    else:
        for one in findings:
            screen.say((str(one.lead_id), "bold"), f"  {one.verdict}" + (", proven" if one.decision.proof else ""))
            screen.indented(told[one.lead_id], columns=2)


def _warn_of_drift(dispatcher: "Dispatcher") -> None:
    from dispatcher.store import accounts

    with dispatcher.database.autocommit() as connection:
        for account, found in accounts.differing(connection, dispatcher.settings):
            screen.warn((f"Account {account}: {found}; the stricter value of each is used.", "yellow"))


def _show_in_doubt(ids: list[str] | None, *, json: bool) -> None:
    from dispatcher.operator.lead_filter import LeadFilter

    wanted = LeadFilter(states=(State.UNKNOWN,))
    with opened() as dispatcher:
        if ids is None:
            found = [(one.id, one.state) for one in dispatcher.reads.listed(wanted, most=100)]
        else:
            found = [(record.id, record.state) for record in map(dispatcher.get, ids)]
    if json:
        screen.emit_items(({"id": str(one), "state": state} for one, state in found), dry_run=True)
    else:
        for one, state in found:
            screen.say((str(one), "bold"), f"  {state}")
        screen.say(f"Voicery would be asked about {screen.plural(len(found), 'lead')}.")


def resolve(
    ids: arguments.LeadIds,
    note: Note,
    as_: Annotated[
        Literal["accepted", "dismissed"],
        typer.Option(
            "--as", help="accepted: Voicery has it (only if the outcome is unknown). dismissed: it is settled."
        ),
    ] = "dismissed",
    dry_run: screen.DryRun = False,
    json: screen.Json = False,
) -> None:
    """Settle leads by your decision, with a note that says how you know."""
    with opened(rehearsing=dry_run) as dispatcher:
        _each(ids, lambda one: dispatcher.resolve(one, as_, note), f"resolved as {as_}", json=json, dry_run=dry_run)


def cancel(ids: arguments.LeadIds, dry_run: screen.DryRun = False, json: screen.Json = False) -> None:
    """Withdraw leads that no worker has claimed yet."""
    with opened(rehearsing=dry_run) as dispatcher:
        _each(ids, dispatcher.cancel, "cancelled", json=json, dry_run=dry_run)


def _each(ids: Iterable[str], act: Callable[[str], None], done: str, *, json: bool, dry_run: bool) -> None:
    """Do it to each; after a refusal the others follow, and the exit code is 1."""
    succeeded: list[str] = []
    refused: list[dict[str, str]] = []
    for one in ids:
        try:
            act(one)
        except (LeadNotFound, NotAllowed) as error:
            refused.append({"id": one, "reason": str(error)})
            if not json:
                screen.warn(("✗ ", "red"), str(error))
        else:
            succeeded.append(one)
            if not json:
                screen.say(("✓ ", "green"), f"{one} {done}.")
    if json:
        screen.emit({"done": succeeded, "refused": refused, "dry_run": dry_run})
    if refused:
        screen.fail()
