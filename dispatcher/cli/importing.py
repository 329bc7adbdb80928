"""`import`: a file of leads as people really have it; first as a plan, if wished; every refused row with its reason."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Final
from uuid import UUID

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from dispatcher.cli import import_screen, screen, typed
from dispatcher.cli.opening import opened
from dispatcher.config.actor import whoami
from dispatcher.importing.importer import Importer, ImportResult
from dispatcher.importing.number import known_country
from dispatcher.importing.refusal import ImportStopped
from dispatcher.importing.source import STDIN, Source, open_source
from dispatcher.importing.terms import ImportTerms
from dispatcher.leads.masking import safe_name
from dispatcher.leads.options import DEFAULT_ACCOUNT

_BY_CTRL_C: Final = 130  # 128 and the number of the signal, as shells count


def import_file(
    file: Annotated[
        str,
        typer.Argument(
            help="CSV or TSV with a header phone_number,campaign_id,<variables…>, or JSON Lines with the keys of a "
            "lead and of its options; gzip is fine; - is standard input.",
            show_default=False,
        ),
    ],
    plan: Annotated[bool, typer.Option("--plan", help="Only say what would happen; nothing is stored.")] = False,
    column: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            metavar="FIELD=COLUMN",
            help="Which column, or top-level key of JSON Lines, is which, e.g. phone=Mobile; FIELD may be a variable's "
            "name.",
            show_default=False,
        ),
    ] = None,
    country: Annotated[
        str | None,
        typer.Option(
            "--country", metavar="DE", help="Country of numbers that are written without one.", show_default=False
        ),
    ] = None,
    campaign: Annotated[
        int | None,
        typed.campaign_option("Campaign of rows that name none."),
    ] = None,
    account: Annotated[str, typer.Option("--account", help="Name of the account.")] = DEFAULT_ACCOUNT,
    rejected: Annotated[
        Path | None,
        typer.Option("--rejected", help="Where refused rows go; FILE.rejected.csv by default.", show_default=False),
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Also rows that an earlier import of this very file has stored.")
    ] = False,
    batch: Annotated[
        UUID | None,
        typer.Option(
            "--batch",
            help="Id of a batch to go on with, if the file has changed since: at its end, or where rows were refused. "
            "With rows that are stored moved or changed, nothing is imported.",
            show_default=False,
        ),
    ] = None,
    workers: Annotated[
        int, typer.Option("--workers", min=0, max=64, help="More processes that validate; 0 is none.")
    ] = 0,
    reveal: screen.Reveal = False,
    json: screen.Json = False,
) -> None:
    """Make every lead of a file durable. Refused rows go to FILE.rejected.csv, and the exit code is then 1.

    The same file again, into the same campaign, stores nothing twice: an import that was cut short is simply repeated.
    Ctrl-C ends it cleanly and says how to go on.

    Columns of a table that are no variables (an empty cell is left out):
    phone_number or phone; campaign_id or campaign; priority, 0 to 9;
    idempotency_key; allow_dupplicate or allow_duplicate, true or false,
    yes or no, 1 or 0; not_before and expires_at, as 2026-11-23T14:00+01:00;
    contact1_phone and contact1_NAME, contact2_phone, …
    """
    terms = ImportTerms(
        account=account,
        campaign_id=campaign,
        country=_country(country),
        columns=_columns(column or []),
        again=again,
        actor=whoami(),
        workers=workers,
    )
    with opened() as dispatcher, _surveyed(file) as source:
        importer = dispatcher.importer()
        if plan:
            planned = importer.plan(source, terms, batch)
            if json:
                screen.emit(import_screen.plan_dict(planned, reveal=reveal))
            else:
                import_screen.show_plan(planned, reveal=reveal)
            refused = planned.rejected
        else:
            path = rejected or _rejected_path(file)
            result = _run(importer, source, terms, path, batch, quiet=json)
            with screen.reader_may_leave():
                if json:
                    screen.emit(import_screen.result_dict(result, path))
                else:
                    import_screen.show_result(result, path)
            refused = result.rejected
    if refused:
        screen.fail()


@contextmanager
def _surveyed(file: str) -> Iterator[Source]:
    with ExitStack() as stack:
        try:
            source = stack.enter_context(open_source(file))
        except KeyboardInterrupt:
            screen.warn("Stopped. No row was done.")
            raise typer.Exit(_BY_CTRL_C) from None
        yield source


def _run(
    importer: Importer, source: Source, terms: ImportTerms, path: Path, batch: UUID | None, *, quiet: bool
) -> ImportResult:
    columns = (
        TextColumn("{task.completed:,.0f} rows"),
        BarColumn(),
        TextColumn("{task.fields[rate]:,.0f} rows/s"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    hidden = quiet or not sys.stderr.isatty()
    with (
        _ctrl_c() as asked_to_stop,
        Progress(*columns, console=screen.error_console(), disable=hidden, transient=True) as progress,
    ):
        task = progress.add_task("import", total=source.lines, rate=0.0)

        def show(done: ImportResult) -> None:
            if terms.again and batch is None and not done.rows:
                screen.warn(f"Batch {done.batch_id}; if this is cut short, go on with --batch instead of --again.")
            progress.update(task, completed=done.rows, rate=done.rows_per_second)

        try:
            return importer.run(source, terms, path, show, batch, asked_to_stop.is_set)
        except ImportStopped as stopped:
            progress.stop()
            screen.warn(str(stopped))
            raise typer.Exit(_BY_CTRL_C) from None


@contextmanager
def _ctrl_c() -> Iterator[threading.Event]:
    """Set by Ctrl-C, which then breaks nothing off in the middle of a row."""
    asked = threading.Event()
    before = signal.signal(signal.SIGINT, lambda _number, _frame: asked.set())
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)


def _rejected_path(file: str) -> Path:
    return Path("stdin.rejected.csv") if file == STDIN else Path(file + ".rejected.csv")


def _country(code: str | None) -> str | None:
    if code is not None and not known_country(code):
        raise typer.BadParameter("--country takes the two letters of a country, e.g. DE")
    return code


def _columns(given: list[str]) -> dict[str, str]:
    columns: dict[str, str] = {}
    for one in given:
        field, equals, name = one.partition("=")
        if not equals or not field.strip() or not name.strip():
            raise typer.BadParameter("--map is written FIELD=COLUMN, e.g. phone=Mobile")
        if columns.setdefault(name.strip(), field.strip()) != field.strip():
            raise typer.BadParameter(f"--map names the column “{safe_name(name.strip(), 0)}” twice; keep one of them")
    return columns
