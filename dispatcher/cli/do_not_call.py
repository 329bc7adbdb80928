"""`block`, `unblock` and `blocked`: who must not be called."""

import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from io import BufferedReader, TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO, Final

import typer

from dispatcher import moments
from dispatcher.cli import arguments, screen
from dispatcher.cli.arguments import opened

if TYPE_CHECKING:
    from dispatcher.operator.block_list import Block, BlockTerms
    from dispatcher.operator.blocks import Blocked

_LONGEST_LINE: Final = 4096
_MOST_FAULTS: Final = 20

Number = Annotated[
    str, typer.Argument(metavar="NUMBER", help="The number; - reads it from standard input, unseen by others.")
]
OneAccount = Annotated[
    str | None, typer.Option("--account", help="Only for this account; by default for all.", show_default=False)
]


def block(
    number: Annotated[
        str | None,
        typer.Argument(metavar="NUMBER", help="The number; - reads a list from standard input.", show_default=False),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file", "-f", help="A list: a number a line, or in the first column; a workbook too.", show_default=False
        ),
    ] = None,
    reason: Annotated[
        str | None, typer.Option("--reason", help="Why; its leads' failures show it.", show_default=False)
    ] = None,
    source: Annotated[
        str | None, typer.Option("--source", help="Where that is known from, e.g. crm.", show_default=False)
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", help="E.g. 365d or a date; by default for good.", show_default=False)
    ] = None,
    account: OneAccount = None,
    hash_only: Annotated[
        bool, typer.Option("--hash-only", help="Keep a keyed hash and not the number; needs DISPATCHER_PRIVACY_KEY.")
    ] = False,
    dry_run: screen.DryRun = False,
    json: screen.Json = False,
) -> None:
    """Have nobody call a number, or those of a list, whatever is submitted or replayed. Effective at the next claim."""
    from dispatcher.operator.block_list import BlockTerms

    if (number is None) == (file is None):
        raise typer.BadParameter("give a NUMBER, or - for standard input, or --file FILE", param_hint="NUMBER")
    ends = None if until is None else arguments.future(until, datetime.now(UTC), "--until")
    terms = BlockTerms(arguments.actor(), reason, source, account, ends, hash_only)
    if file is not None:
        with _readable(file) as lines:
            listed = _in_workbook(lines, file.name) if lines.peek(4).startswith(b"PK\x03\x04") else _numbers(lines)
            _block_all(listed, file.name, terms, dry_run=dry_run, json=json)
    elif number == "-":
        _block_all(_numbers(sys.stdin.buffer), None, terms, dry_run=dry_run, json=json)
    else:
        with opened(rehearsing=dry_run) as dispatcher:
            added = dispatcher.blocks.add(number, terms)
        if json:
            screen.emit({"added": int(added), "known": int(not added), "rejected": [], "dry_run": dry_run})
        elif added:
            screen.say(("✓ ", "green"), "Blocked: no lead to this number is claimed any more.")
        else:
            screen.say("This number was blocked already, as long or longer; nothing was changed.")


def unblock(
    number: Number = "-", account: OneAccount = None, dry_run: screen.DryRun = False, json: screen.Json = False
) -> None:
    """Remove the block of a number. Leads that it stopped can be replayed then; nothing is sent by itself."""
    with opened(rehearsing=dry_run) as dispatcher:
        done = dispatcher.blocks.remove(_given(number), actor=arguments.actor(), account=account)
    if json:
        screen.emit(
            {
                "removed": [one.as_dict() for one in done.removed],
                "left": [one.as_dict() for one in done.left],
                "replayable": done.replayable,
                "dry_run": dry_run,
            }
        )
        return
    screen.say(("✓ ", "green"), "The block was removed.")
    if done.left:
        from dispatcher.operator.block_list import scope_of

        screen.say(("! ", "yellow"), f"The number stays blocked for {', '.join(map(scope_of, done.left))}.")
    if done.replayable:
        leads = screen.plural(done.replayable, "failed lead")
        screen.say(f"{leads} of it can be replayed now; `dispatcher failed --class blocked` lists them.")


def blocked(
    number: Annotated[
        str | None,
        typer.Argument(
            metavar="NUMBER", help="Ask for this number; - reads it from standard input.", show_default=False
        ),
    ] = None,
    account: Annotated[
        str | None, typer.Option("--account", help="Those that hold for this account.", show_default=False)
    ] = None,
    source: Annotated[str | None, typer.Option("--source", help="Those of this source.", show_default=False)] = None,
    limit: arguments.Limit = 100,
    json: screen.Json = False,
    csv: screen.Csv = False,
    reveal: screen.Reveal = False,
) -> None:
    """List who must not be called, the latest first; or say whether a number is blocked, and why."""
    with opened() as dispatcher:
        counts: dict[str, int] = {}
        if number is not None:
            found = list(dispatcher.blocks.find(_given(number)))
            counts["blocked"] = any(account is None or one.account in (None, account) for one in found)
        else:
            found = dispatcher.blocks.all(account=account, source=source, most=limit)
            counts.update(dispatcher.blocks.count())
    if screen.emit_list((one.as_dict(reveal=reveal) for one in found), json=json, csv=csv, **counts):
        return
    if number is not None and not counts["blocked"]:
        screen.say("This number is not blocked" + (f" for the account {account}." if account else "."))
    if not found:
        if number is None:
            screen.say("Nobody is blocked.")
        return
    _show(found, reveal=reveal)
    if number is None:
        ended = f", {screen.number(counts['ended'])} have ended" if counts["ended"] else ""
        screen.say(f"{screen.number(counts['in_force'])} in force{ended}.")


def _show(found: "list[Block]", *, reveal: bool) -> None:
    table = screen.rows("Number", "for", "reason", "source", "until", "by", "since")
    now = datetime.now(UTC)
    for one in found:
        shown = one.as_dict(reveal=reveal)
        table.add_row(
            shown["number"] or "hash only", one.account or "all", shown["reason"] or "–", shown["source"] or "–",
            "for good" if one.until is None else f"{one.until:%Y-%m-%d %H:%M}", one.who,
            moments.ago(one.created_at, now),
        )  # fmt: skip
    screen.put(table)


def _block_all(
    listed: Iterator[tuple[int, str]], file_name: str | None, terms: "BlockTerms", *, dry_run: bool, json: bool
) -> None:
    from dispatcher.operator.blocks import Blocked

    done = Blocked()
    with opened(rehearsing=dry_run) as dispatcher:
        for chunk in dispatcher.blocks.add_all(listed, terms, file_name=file_name):
            done += chunk
    if json:
        rejected = [{"line": line, "reason": fault.fault, "remedy": fault.remedy} for line, fault in done.rejected]
        screen.emit({"added": done.added, "known": done.known, "rejected": rejected, "dry_run": dry_run})
    else:
        screen.say(("✓ ", "green"), f"{screen.plural(done.added, 'number')} blocked, {done.known:,} were already.")
    if done.rejected:
        if not json:
            _tell_rejected(done)
        raise typer.Exit(1)


def _tell_rejected(done: "Blocked") -> None:
    for line, fault in done.rejected[:_MOST_FAULTS]:
        screen.warn(("✗ ", "red"), f"line {line}: {fault}")
    more = len(done.rejected) - _MOST_FAULTS
    if more > 0:
        screen.warn(f"and {more:,} more lines; --json lists all.")
    screen.warn("These are not blocked. Correct them and block the list again: what is blocked already stays so.")


def _readable(file: Path) -> BufferedReader:
    try:
        return file.open("rb")
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise typer.BadParameter(
            f"{file.name} cannot be read ({why}); name another file", param_hint="--file"
        ) from None


def _numbers(lines: BinaryIO) -> Iterator[tuple[int, str]]:
    """Yield the number of each line with the line's place: what is before the first comma, semicolon or tab.

    Empty lines, lines that begin with #, and a first line without any digit, which is a header, are left out.
    """
    text = TextIOWrapper(lines, encoding="utf-8-sig", errors="replace", newline=None)
    try:
        for place, line in enumerate(iter(lambda: text.readline(_LONGEST_LINE), ""), 1):
            cell = line.strip()
            if not (cell[1:].isdigit() and cell[0] == "+"):  # most are only this
                for separator in ",;\t":
                    cell = cell.partition(separator)[0]
                cell = cell.strip(" \t\"'")
                if not cell or cell.startswith("#") or (place == 1 and not any(map(str.isdigit, cell))):
                    continue
            yield place, cell
    finally:
        text.detach()  # whoever opened it closes it


def _in_workbook(file: BinaryIO, name: str) -> Iterator[tuple[int, str]]:
    """Yield the first cell of each row of a workbook's sheet with the row's number; a header is left out."""
    from dispatcher.importing.source import source_of

    with source_of(name, file) as source:
        if source.sheet is None:
            return
        if any(map(str.isdigit, source.sheet.header[0])):
            yield source.sheet.first, source.sheet.header[0]
        for row in source.sheet.all_rows():
            yield row.line, row.cells[0] if row.cells else ""


def _given(number: str) -> str:
    return sys.stdin.readline().strip() if number == "-" else number
