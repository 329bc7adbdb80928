"""What `import` prints: the plan, and the account of every row."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final
from uuid import UUID

import typer

from dispatcher import moments
from dispatcher.cli import arguments, screen
from dispatcher.cli.arguments import opened
from dispatcher.lead.options import DEFAULT_ACCOUNT
from dispatcher.lead.phone import Country, safe_name

if TYPE_CHECKING:
    from dispatcher.importing.columns import ImportOptions
    from dispatcher.importing.encoding import Encoding
    from dispatcher.importing.importer import Importer, ImportResult
    from dispatcher.importing.plan import Forecast, Plan
    from dispatcher.importing.source import Source


def plan_dict(plan: "Plan", *, reveal: bool) -> dict[str, Any]:
    """The plan as JSON takes it."""
    return {
        "batch_id": str(plan.batch_id),
        "form": plan.form,
        **_encoding_dict(plan.encoding, reveal=reveal),
        "notes": list(plan.notes),
        "rows": plan.rows,
        "submitted": plan.submitted,
        "duplicates_in_file": plan.duplicates_in_file,
        "duplicates_in_store": plan.duplicates_in_store,
        "repeated": plan.repeated,
        "rejected": plan.rejected,
        "blocked": plan.blocked,
        "waiting": plan.forecast.waiting,
        "finish_in_seconds": plan.forecast.finish_in_seconds,
        "paused": list(plan.forecast.paused),
        "campaigns": {str(campaign_id): count for campaign_id, count in sorted(plan.campaigns.items())},
        "completed": sum(plan.completed.values()),
        "completed_by_country_code": {str(code): count for code, count in sorted(plan.completed.items())},
        "completions": [completion.as_dict(reveal=reveal) for completion in plan.completions],
        "samples": [sample.as_dict(reveal=reveal) for sample in plan.samples],
        "refusals": [
            {"line": line, "field": fault.field, "reason": fault.fault, "remedy": fault.remedy}
            for line, faults in plan.refusals
            for fault in faults
        ],
    }


def show_plan(plan: "Plan", *, reveal: bool) -> None:
    """Print the plan."""
    _show_form(plan.form, plan.encoding, plan.notes, reveal=reveal)
    screen.say(f"{screen.plural(plan.rows, 'row')}, of which the import would")
    screen.say(("  deliver ", "green"), screen.plural(plan.submitted, "lead"))
    screen.say(("  not call ", "magenta"), screen.plural(plan.duplicates_in_file, "duplicate"), " within the file")
    screen.say(("  not call ", "magenta"), screen.plural(plan.duplicates_in_store, "duplicate"), " of leads we have")
    if plan.blocked:
        screen.say(("  not call ", "magenta"), screen.plural(plan.blocked, "lead"), " of persons who are blocked")
    screen.say(("  skip ", "cyan"), screen.plural(plan.repeated, "row"), " imported before")
    screen.say(("  refuse ", "red"), screen.plural(plan.rejected, "row"))
    for line, faults in plan.refusals:
        for fault in faults:
            screen.say(f"    line {line}: {fault}")
    if plan.completed:
        _show_completed(plan, reveal=reveal)
    if len(plan.campaigns) > 1:
        largest = sorted(plan.campaigns.items(), key=lambda one: -one[1])[:_MOST_CAMPAIGNS]
        more = ", …" if len(plan.campaigns) > _MOST_CAMPAIGNS else ""
        screen.say("By campaign: " + ", ".join(f"{count:,} into {campaign}" for campaign, count in largest) + more)
    if plan.submitted:
        _show_forecast(plan.forecast)
    for sample in plan.samples:
        shown = sample.as_dict(reveal=reveal)
        screen.say(f"  line {shown.pop('line')} → {screen.as_json(shown)}")
    screen.say("Nothing was stored. Leave out --plan to import it.")


def _show_completed(plan: "Plan", *, reveal: bool) -> None:
    counts = ", ".join(f"{count:,} as +{code}" for code, count in sorted(plan.completed.items()))
    numbers = screen.plural(sum(plan.completed.values()), "number")
    screen.say(f"--country completed {numbers} written without +: {counts}.")
    for completion in plan.completions:
        shown = completion.as_dict(reveal=reveal)
        number = f"{shown['phone_number']} (+{completion.country_code})"
        screen.say(f"    line {completion.line}: {shown['written']} → {number}")


def _show_forecast(seen: "Forecast") -> None:
    if seen.finish_in_seconds is not None:
        finish = datetime.now(UTC) + timedelta(seconds=seen.finish_in_seconds)
        waiting = f"; {screen.plural(seen.waiting, 'lead')} of the account wait already" if seen.waiting else ""
        screen.say(
            f"At the rate limits the last is sent in about {moments.span(seen.finish_in_seconds)}, at "
            f"{moments.clock(finish)} UTC (if campaigns take turns and nothing else comes{waiting})."
        )
    for name in seen.paused:
        screen.warn(
            ("! ", "yellow"), f"The {name} is paused: nothing of it is sent, nor its time begins, until resumed."
        )


def result_dict(result: "ImportResult", rejected_path: Path) -> dict[str, Any]:
    """The account of an import as JSON takes it."""
    return {
        "batch_id": str(result.batch_id),
        "form": result.form,
        **_encoding_dict(result.encoding, reveal=False),
        "notes": list(result.notes),
        "rows": result.rows,
        "submitted": result.submitted,
        "duplicates": result.duplicates,
        "repeated": result.repeated,
        "rejected": result.rejected,
        "blocked": result.blocked,
        "rejected_file": str(rejected_path) if result.rejected else None,
        "seconds": round(result.seconds, 3),
    }


def show_result(result: "ImportResult", rejected_path: Path) -> None:
    """Print the account of an import; what was refused goes to standard error."""
    with screen.reader_may_leave():
        _show_stored(result)
    if result.rejected:
        count = screen.plural(result.rejected, "row")
        screen.warn(("✗ ", "red"), f"{count} refused: {rejected_path} has each with its reason.")


def _show_stored(result: "ImportResult") -> None:
    _show_form(result.form, result.encoding, result.notes, reveal=False)
    speed = f"{result.rows_per_second:,.0f} rows/s, batch {result.batch_id}"
    screen.say(("✓ ", "green"), f"{screen.plural(result.submitted, 'lead')} stored ({speed}).")
    if result.duplicates:
        screen.say(("= ", "magenta"), f"{screen.plural(result.duplicates, 'duplicate')}: nobody is called for these.")
    if result.blocked:
        blocked = screen.plural(result.blocked, "lead")
        screen.say(("= ", "magenta"), f"{blocked} of persons who must not be called: failed as blocked.")
    if result.repeated:
        screen.say(("= ", "cyan"), f"{screen.plural(result.repeated, 'row')} had been imported before.")


def _show_form(form: str, encoding: "Encoding", notes: tuple[str, ...], *, reveal: bool) -> None:
    left_out = " Empty cells are variables left out." if form != "JSON lines" else ""
    screen.say(f"Read as {form}, {encoding.name}.{left_out}")
    if encoding.guessed:
        screen.warn(("! ", "yellow"), _guess(encoding, reveal=reveal))
    for note in notes:
        screen.warn(("! ", "yellow"), note)


def _guess(encoding: "Encoding", *, reveal: bool) -> str:
    return (
        f"The encoding is a guess: the file is not UTF-8, and as {encoding.name} it has e.g. "
        f"“{encoding.shown(reveal=reveal)}”. If that is wrong, name the right one: --encoding cp1250."
    )


def _encoding_dict(encoding: "Encoding", *, reveal: bool) -> dict[str, Any]:
    return {
        "encoding": encoding.name,
        "encoding_guessed": encoding.guessed,
        "encoding_example": encoding.shown(reveal=reveal) or None,
    }


_MOST_CAMPAIGNS: Final = 10
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
    Ctrl-C ends it cleanly and says how to go on.

    Columns of a table that are no variables (an empty cell is left out):
    phone_number or phone; campaign_id or campaign; priority, 0 to 9;
    idempotency_key; allow_dupplicate or allow_duplicate, true or false,
    yes or no, 1 or 0; not_before and expires_at, as 2026-11-23T14:00+01:00;
    contact1_phone and contact1_NAME, contact2_phone, …
    """
    from dispatcher.importing.columns import ImportOptions

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
        if plan:
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
