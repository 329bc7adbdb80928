"""`inbox`: what was submitted by SQL and waits, or was rejected."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from dispatcher import moments
from dispatcher.cli import arguments, screen
from dispatcher.cli.arguments import opened

if TYPE_CHECKING:
    from dispatcher.operator.inbox_list import InboxRecord


class Action(StrEnum):
    """What to do with the rows."""

    LIST = "list"
    RETRY = "retry"
    DISCARD = "discard"


class InboxState(StrEnum):
    """The states of a row."""

    WAITING = "waiting"
    REJECTED = "rejected"
    REPEATED = "repeated"


def inbox(
    action: Annotated[
        Action,
        typer.Argument(metavar="[ACTION]", help="list (the default); retry or discard, which take rejected rows."),
    ] = Action.LIST,
    ids: Annotated[
        list[UUID] | None, typer.Argument(metavar="[ID]", help="Ids of rejected rows.", show_default=False)
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="Every rejected row.")] = False,
    state: Annotated[
        list[InboxState] | None,
        typer.Option("--state", help="List only these; by default waiting and rejected.", show_default=False),
    ] = None,
    account: Annotated[
        str | None, typer.Option("--account", help="List those of this account.", show_default=False)
    ] = None,
    limit: arguments.Limit = 100,
    yes: screen.Yes = False,
    dry_run: screen.DryRun = False,
    json: screen.Json = False,
    csv: screen.Csv = False,
    reveal: screen.Reveal = False,
) -> None:
    """List what was submitted by SQL and waits or was rejected; have rejected rows validated again, or discard them."""
    if action is Action.LIST:
        if ids or all_:
            raise typer.BadParameter("belong to retry or discard; write e.g. inbox retry ID", param_hint="ID, --all")
        _list(state or [], account, limit, json=json, csv=csv, reveal=reveal)
        return
    if bool(ids) == all_:
        raise typer.BadParameter("give the ids of rejected rows, or --all", param_hint="ID")
    with opened(rehearsing=dry_run) as dispatcher:
        rejected = dispatcher.inbox.counts().rejected if all_ else len(ids or ())
        if action is Action.DISCARD and all_ and rejected and not dry_run:
            question = f"Discard {screen.plural(rejected, 'rejected row')}? They are deleted, and nobody is called."
            screen.confirm(question, yes=yes)
        act = dispatcher.inbox.retry if action is Action.RETRY else dispatcher.inbox.discard
        done = act(None if all_ else ids, actor=arguments.actor())
    if json:
        screen.emit({"action": action.value, "rows": done, "dry_run": dry_run})
    elif action is Action.RETRY:
        screen.say(("✓ ", "green"), f"{screen.plural(done, 'row')} will be validated again.")
    else:
        screen.say(("✓ ", "green"), f"{screen.plural(done, 'row')} discarded.")


def _list(states: list[InboxState], account: str | None, limit: int, *, json: bool, csv: bool, reveal: bool) -> None:
    wanted = [state.value for state in states or (InboxState.WAITING, InboxState.REJECTED)]
    with opened() as dispatcher:
        counts = dispatcher.inbox.counts()
        found = dispatcher.inbox.latest(states=wanted, account=account, most=limit)
    if screen.emit_list((one.as_dict(reveal=reveal) for one in found), json=json, csv=csv, **counts.as_dict()):
        return
    for one in found:
        _show(one, reveal=reveal)
    if not found:
        screen.say("Nothing waits and nothing was rejected." if not states else "There is no such row.")
        return
    since = "" if counts.oldest_seconds is None else f", the oldest for {moments.span(counts.oldest_seconds)}"
    screen.say(f"{screen.number(counts.waiting)} waiting{since}; {screen.number(counts.rejected)} rejected.")


def _show(one: "InboxRecord", *, reveal: bool) -> None:
    shown = one.as_dict(reveal=reveal)
    mark = {"waiting": ("… ", "yellow"), "rejected": ("✗ ", "red")}.get(one.state, ("  ", ""))
    lead = shown["lead"] or {}
    about = [f"{name} {lead[name]}" for name in ("phone_number", "campaign_id") if name in lead]
    if one.lead_id is not None:
        about.append(f"is lead {one.lead_id}")
    if shown["idempotency_key"] is not None:
        about.append(f"key {shown['idempotency_key']}")
    screen.say(
        mark, (str(one.id), "bold"), f"  {one.state}  {', '.join(about)}  ",
        (f"by {shown['caller']} {moments.ago(one.created_at, datetime.now(UTC))}", "dim"),
    )  # fmt: skip
    for reason in shown["reasons"] or ():
        screen.indented(f"{reason['field']}: {reason['fault']}; {reason['remedy']}")
