"""`import`: a file of leads, planned or stored."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final
from uuid import UUID

import typer

from dispatcher.cli import arguments, screen
from dispatcher.cli.arguments import opened
from dispatcher.cli.import_account import plan_dict, result_dict, show_corrections, show_plan, show_result
from dispatcher.lead.masking import safe_name
from dispatcher.lead.options import DEFAULT_ACCOUNT
from dispatcher.lead.phone import Country

if TYPE_CHECKING:
    from dispatcher.importing.columns import ImportOptions
    from dispatcher.importing.importer import Importer, ImportResult
    from dispatcher.importing.source import Source


_BY_CTRL_C: Final = 130  # 128 and the number of the signal, as shells count


def import_file(
    file: Annotated[
        str,
        typer.Argument(
            help="CSV, TSV or a workbook (.xlsx, .ods) with a header phone_number,campaign_id,<variables…>, or JSON "
            "Lines with the keys of a lead and of its options; gzip is fine; - is standard input.",
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
    national: Annotated[
        bool,
        typer.Option(
            "--national",
            help="With --country: no number has lost its +, so that one without it is always a number of that country.",
        ),
    ] = False,
    campaign: Annotated[
        int | None,
        arguments.campaign_option("Campaign of rows that name none."),
    ] = None,
    encoding: Annotated[
        str | None,
        typer.Option(
            "--encoding",
            metavar="cp1250",
            help="Encoding of the file, where it is not UTF-8 and the guess is wrong.",
            show_default=False,
        ),
    ] = None,
    sheet: Annotated[
        str | None,
        typer.Option("--sheet", metavar="NAME", help="Which sheet of a workbook with several.", show_default=False),
    ] = None,
    account: arguments.Account = DEFAULT_ACCOUNT,
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
    Ctrl-C ends it cleanly and says how to go on. An edited export of failed leads (`failed --export`) corrects and
    replays these instead: a row that was not edited does nothing.

    Columns of a table that are no variables (an empty cell is left out):
    phone_number or phone; campaign_id or campaign; priority, 0 to 9;
    idempotency_key; allow_dupplicate or allow_duplicate, true or false,
    yes or no, 1 or 0; not_before and expires_at, as 2026-11-23T14:00+01:00;
    contact1_phone and contact1_NAME, contact2_phone, …
    """
    from dispatcher.importing.columns import ImportOptions
    from dispatcher.importing.lead_file import is_edited_export

    options = ImportOptions(
        account=account,
        campaign_id=campaign,
        country=_country(country, national=national),
        columns=_columns(column or []),
        again=again,
        actor=arguments.actor(),
        workers=workers,
    )
    with opened() as dispatcher, _surveyed(file, _encoding(encoding), sheet) as source:
        importer = dispatcher.importer()
        if is_edited_export(source):
            refused = _correct(source, plan=plan, json=json)
        elif plan:
            planned = importer.plan(source, options, batch)
            if json:
                screen.emit(plan_dict(planned, reveal=reveal))
            else:
                show_plan(planned, reveal=reveal)
            refused = planned.rejected
        else:
            path = rejected or _rejected_path(file)
            result = _run(importer, source, options, path, batch, quiet=json)
            with screen.reader_may_leave():
                if json:
                    screen.emit(result_dict(result, path))
                else:
                    show_result(result, path)
            refused = result.rejected
    if refused:
        screen.fail()


def _correct(source: "Source", *, plan: bool, json: bool) -> int:
    """Take back an edited export of failed leads; return how many rows were refused."""
    with opened(rehearsing=plan) as dispatcher:
        done = list(dispatcher.importer().correct(source, arguments.actor()))
    show_corrections(done, plan=plan, json=json)
    return sum(one.done == "refused" for one in done)


@contextmanager
def _surveyed(file: str, encoding: str | None, sheet: str | None) -> Iterator["Source"]:
    from dispatcher.importing.source import open_source

    with ExitStack() as stack:
        try:
            source = stack.enter_context(open_source(file, encoding=encoding, sheet=sheet))
        except KeyboardInterrupt:
            screen.warn("Stopped. No row was done.")
            raise typer.Exit(_BY_CTRL_C) from None
        yield source


def _run(
    importer: "Importer", source: "Source", options: "ImportOptions", path: Path, batch: UUID | None, *, quiet: bool
) -> "ImportResult":
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    from dispatcher.importing.source import ImportStopped

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

        def show(done: "ImportResult") -> None:
            if options.again and batch is None and not done.rows:
                screen.warn(f"Batch {done.batch_id}; if this is cut short, go on with --batch instead of --again.")
            progress.update(task, completed=done.rows, rate=done.rows_per_second)

        try:
            return importer.run(source, options, path, show, batch, asked_to_stop.is_set)
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
    from dispatcher.importing.source import STDIN

    return Path("stdin.rejected.csv") if file == STDIN else Path(file + ".rejected.csv")


def _encoding(name: str | None) -> str | None:
    from dispatcher.importing.encoding import check_encoding

    try:
        return None if name is None else check_encoding(name)
    except ValueError as error:
        raise typer.BadParameter(f"--encoding: {error}") from None


def _country(code: str | None, *, national: bool) -> Country | None:
    if code is None:
        if national:
            raise typer.BadParameter("--national needs the country of the numbers: --country DE")
        return None
    try:
        return Country(code, national)
    except ValueError as error:
        raise typer.BadParameter(f"--country {code!r}: {error}") from None


def _columns(given: list[str]) -> dict[str, str]:
    columns: dict[str, str] = {}
    for one in given:
        field, equals, name = one.partition("=")
        if not equals or not field.strip() or not name.strip():
            raise typer.BadParameter("--map is written FIELD=COLUMN, e.g. phone=Mobile")
        if columns.setdefault(name.strip(), field.strip()) != field.strip():
            raise typer.BadParameter(f"--map names the column “{safe_name(name.strip(), 0)}” twice; keep one of them")
    return columns
