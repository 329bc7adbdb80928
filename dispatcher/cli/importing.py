"""`import`: a file of leads, every refused row kept with its reason."""

import csv
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final
from uuid import UUID

import typer
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from dispatcher.cli import screen
from dispatcher.cli.lead_file import LeadRow, read_rows
from dispatcher.cli.opening import opened
from dispatcher.errors import DispatcherError, FieldError
from dispatcher.options import DEFAULT_ACCOUNT

_HEADER: Final = ("line", "field", "fault", "remedy", "row")
_UNREADABLE: Final[Mapping[str, Any]] = {}


def import_file(
    file: Annotated[
        Path,
        typer.Argument(
            help="CSV with a header phone_number,campaign_id,<variables…>; or JSON Lines "
            "(.jsonl) with the keys of a lead.",
            show_default=False,
        ),
    ],
    account: Annotated[str, typer.Option("--account", help="Name of the account.")] = DEFAULT_ACCOUNT,
    batch: Annotated[
        UUID | None,
        typer.Option("--batch", help="Id of an import that was cut short: goes on with it.", show_default=False),
    ] = None,
    json: screen.Json = False,
) -> None:
    """Make every lead of a file durable. Refused rows go to FILE.rejected.csv, and the exit code is then 1."""
    with opened() as dispatcher, _progress(quiet=json) as progress:
        task = progress.add_task("read", total=None)
        result = dispatcher.submit_many(_leads(file, progress, task), account=account, batch_id=batch)
    refused_file = _write_refused(file, dict(result.rejected)) if result.rejected else None
    if json:
        screen.emit(
            {
                "batch_id": str(result.batch_id),
                "submitted": result.submitted,
                "duplicates": result.duplicates,
                "repeated": result.repeated,
                "rejected": len(result.rejected),
                "rejected_file": None if refused_file is None else str(refused_file),
            }
        )
    else:
        screen.say(("✓ ", "green"), f"{screen.plural(result.submitted, 'lead')} stored (batch {result.batch_id}).")
        if result.duplicates:
            screen.say(
                ("= ", "magenta"), f"{screen.plural(result.duplicates, 'duplicate')}: nobody is called for these."
            )
        if result.repeated:
            screen.say(("= ", "cyan"), f"{screen.plural(result.repeated, 'row')} had been imported before.")
        if refused_file is not None:
            count = screen.plural(len(result.rejected), "row")
            screen.warn(("✗ ", "red"), f"{count} refused: {refused_file} has each with its reason.")
    if refused_file is not None:
        screen.fail()


def _leads(file: Path, progress: Progress, task: TaskID) -> Iterator[Mapping[str, Any]]:
    for row in read_rows(file):
        progress.advance(task)
        yield _UNREADABLE if row.lead is None else row.lead


def _progress(*, quiet: bool) -> Progress:
    columns = (TextColumn("{task.completed:,.0f} rows"), BarColumn(), TimeElapsedColumn())
    return Progress(*columns, console=screen.error_console(), disable=quiet or not sys.stderr.isatty(), transient=True)


def _write_refused(file: Path, refused: Mapping[int, Sequence[FieldError]]) -> Path:
    """Read the file once more for the text of the refused rows: only these are wanted, and it may be large."""
    path = file.with_name(file.name + ".rejected.csv")
    try:
        # It holds people's numbers: for the eyes of whoever ran this.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "w", encoding="utf-8", newline="") as output:  # noqa: PTH123 - a descriptor
            writer = csv.writer(output)
            writer.writerow(_HEADER)
            for index, row in enumerate(read_rows(file)):
                if index in refused:
                    writer.writerows(_lines(row, refused[index]))
    except OSError as error:
        raise DispatcherError(f"Rows were refused, and {path} cannot be written: {error.strerror}.") from None
    return path


def _lines(row: LeadRow, errors: Sequence[FieldError]) -> Iterator[tuple[int, str, str, str, str]]:
    if row.lead is None:
        yield row.line, "", row.fault, "", row.text
        return
    for error in errors:
        yield row.line, error.field, error.fault, error.remedy, row.text
