"""`incidents`, `audit` and `imports`: the records of what happened."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from dispatcher import moments
from dispatcher.cli import arguments, screen
from dispatcher.cli.arguments import opened
from dispatcher.lead.masking import mask_numbers


def incidents(
    seen: Annotated[
        list[int] | None, typer.Option("--seen", metavar="ID", help="Mark as seen.", show_default=False)
    ] = None,
    limit: arguments.Limit = 50,
    dry_run: screen.DryRun = False,
    json: screen.Json = False,
    csv: screen.Csv = False,
) -> None:
    """List incidents: what must never happen, and did. Those not marked as seen come first."""
    from dispatcher.operator import incidents as records

    with opened(rehearsing=dry_run) as dispatcher:
        if seen:
            count = dispatcher.database.again(records.mark_seen, seen, actor=arguments.actor())
            told = {"seen": count, "dry_run": dry_run}
            screen.done(told, (("✓ ", "green"), f"{screen.plural(count, 'incident')} marked as seen."), json=json)
            return
        found = dispatcher.reading.read(records.latest, most=limit)
        place = arguments.told_place(dispatcher, json=json)
    if screen.emit_list((one.as_dict() for one in found), json=json, csv=csv, **place):
        return
    now = datetime.now(UTC)
    for one in found:
        mark = ("! ", "bold red") if one.seen_at is None else ("  ", "")
        about = "" if one.lead_id is None else f"  lead {one.lead_id}"
        screen.say(mark, f"{one.id}  {one.kind}{about}  ", (moments.ago(one.at, now), "dim"))
        screen.indented(mask_numbers(one.message))
    if not found:
        screen.say(("✓ ", "green"), "Nothing has happened that must not.")


def audit(
    subject: Annotated[
        str | None, typer.Option("--subject", help="Id of a lead, or account:default/campaign:42.")
    ] = None,
    actor: Annotated[str | None, typer.Option("--actor", help="Who did it.")] = None,
    action: Annotated[str | None, typer.Option("--action", help="What was done, e.g. replay.")] = None,
    since: Annotated[str | None, typer.Option("--since", help=f"At or after, {moments.PAST_HELP}.")] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Check instead that nobody rewrote it.")] = False,
    head: Annotated[
        str | None, typer.Option("--head", help="With --verify: a head noted earlier, which must be in it.")
    ] = None,
    limit: arguments.Limit = 50,
    json: screen.Json = False,
    csv: screen.Csv = False,
) -> None:
    """List who did what, the newest first; or verify the chain of its hashes, and exit 1 where it is broken."""
    if head is not None and not verify:
        raise typer.BadParameter("is what --verify compares with; add --verify.", param_hint="--head")
    if verify:
        _verify(head, json=json)
        return
    from dispatcher.operator import audit_log
    from dispatcher.operator.record import in_words, mask_inside

    earliest = None if since is None else arguments.past(since, datetime.now(UTC), "--since")
    with opened() as dispatcher:
        found = dispatcher.reading.read(audit_log.entries, subject=subject, actor=actor, action=action, most=limit)
        place = arguments.told_place(dispatcher, json=json)
    found = [one for one in found if earliest is None or one.at >= earliest]
    if screen.emit_list((one.as_dict() for one in found), json=json, csv=csv, **place):
        return
    for one in found:
        login = "" if one.db_user is None else f"login {one.db_user}"
        screen.entry(
            (moments.clock(one.at), "dim"),
            f"  {one.actor}  ",
            (one.action, "bold"),
            f"  {one.subject}",
            detail="; ".join(filter(None, (in_words(mask_inside(one.detail)), login))),
            style="dim",
        )
    if not found:
        screen.say("Nothing matches.")


def _verify(head: str | None, *, json: bool) -> None:
    from dispatcher.operator import audit_chain

    with opened() as dispatcher, dispatcher.database.transaction() as connection:
        found = audit_chain.verify(connection, head=head)
    if json:
        screen.emit(found.as_dict())
    elif found.whole:
        erased = f"; of {screen.number(found.erased)} the personal part was erased" if found.erased else ""
        screen.say(("✓ ", "green"), f"Entries as they were written: {screen.number(found.entries)}{erased}.")
        screen.say(f"  Head {found.head}: note it elsewhere, and give it to --head the next time.")
    else:
        what = "The audit log" if found.broken_at is None else f"Entry {found.broken_at}"
        screen.say(("✗ ", "bold red"), f"{what}: {found.fault}. As written before it: {screen.number(found.entries)}.")
        screen.say("  Compare with a backup from before. Only the owner's login or a superuser could do this.")
    if not found.whole:
        raise typer.Exit(1)


def imports(
    id: Annotated[
        int | None, typer.Argument(metavar="[ID]", help="One import: the rows it refused.", show_default=False)
    ] = None,
    limit: arguments.Limit = 20,
    json: screen.Json = False,
    csv: screen.Csv = False,
    reveal: screen.Reveal = False,
) -> None:
    """List the files that were imported, or the rows that one of them refused."""
    from dispatcher.importing import imports as records

    with opened() as dispatcher:
        if id is not None:
            rejected = dispatcher.reading.read(records.rejections, id)
            place = arguments.told_place(dispatcher, json=json)
            rows = [one.as_dict(reveal=reveal) for one in rejected]
            if not screen.emit_list(rows, json=json, csv=csv, **place):
                for row in rows:
                    screen.say(f"line {row['line']}  {row['field']}: {row['reason']}  ", (str(row["original"]), "dim"))
            return
        found = dispatcher.reading.read(records.latest, most=limit)
        place = arguments.told_place(dispatcher, json=json)
    if screen.emit_list((one.as_dict() for one in found), json=json, csv=csv, **place):
        return
    figures = ("Id", "submitted", "duplicates", "repeated", "refused")
    table = screen.rows(figures[0], "file", *figures[1:], "begun", right=figures, whole=("begun",))
    now = datetime.now(UTC)
    for one in found:
        end = "" if one.state == "finished" else f" ({one.state})"
        table.add_row(
            str(one.id), screen.line(mask_numbers(one.file_name) + end),
            *map(screen.number, (one.submitted, one.duplicates, one.repeated, one.rejected)),
            moments.ago(one.started_at, now),
        )  # fmt: skip
    if found:
        screen.put(table)
    else:
        screen.say("Nothing has been imported yet.")
