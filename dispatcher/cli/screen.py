"""What commands print: for 80 columns, plain when piped, one JSON object with `--json`, and no whole phone number."""

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Annotated, Any, Final, NoReturn, TextIO

import orjson
import typer
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.padding import Padding
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from dispatcher.printable import printable, printable_json
from dispatcher.spreadsheet import csv_table

_PIPED_WIDTH: Final = 200
"""A pipe has no width, and what is cut off cannot be searched for."""

_FOLDED_FROM: Final = 12
"""A longer word of a table, e.g. a name or a key, may be folded."""

Json = Annotated[bool, typer.Option("--json", help="One JSON object instead of text.")]
Csv = Annotated[bool, typer.Option("--csv", help="A CSV table instead of text.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Try it and undo it: only say what would happen.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Reveal = Annotated[bool, typer.Option("--reveal", help="Show phone numbers and variables whole.")]


class _Console(Console):
    """Writes out what a terminal would obey in any text that is printed, whatever it was printed by."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """Yield the segments; only rich's own control codes reach the terminal as such."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(printable(segment.text, keep="\n"), segment.style)

    def on_broken_pipe(self) -> None:
        """Let `reader_may_leave` decide; rich would end the command with 1."""
        raise  # noqa: PLE0704 - rich calls this while it handles the error


@contextmanager
def reader_may_leave() -> Iterator[None]:
    """Discard the output once standard output is closed, e.g. by `| head`; that is no error."""
    try:
        with suppress(BrokenPipeError):
            yield
    finally:
        try:
            sys.stdout.flush()
        except BrokenPipeError:
            _discard(sys.stdout)


@contextmanager
def goes_on_when_repeated() -> Iterator[None]:
    """Tell who interrupts a command what to do next, where the same command goes on."""
    try:
        yield
    except KeyboardInterrupt:
        warn("Interrupted. What was done stays; the same command goes on with the rest.")
        raise


def _discard(stream: TextIO) -> None:
    """Let a stream that nobody reads any more lead nowhere, also for what is written of it at the end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def console(most: int | None = None) -> Console:
    """Return the console for results. It has `most` columns at most, in a pipe as many."""
    made = _Console(highlight=False, soft_wrap=False, width=None if sys.stdout.isatty() else most or _PIPED_WIDTH)
    if most is not None and made.width > most:
        made.width = most
    return made


def error_console() -> Console:
    """Return the console for refusals and warnings."""
    return _Console(stderr=True, highlight=False, width=None if sys.stderr.isatty() else _PIPED_WIDTH)


def emit(value: Mapping[str, Any]) -> None:
    """Print one JSON object."""
    sys.stdout.write(as_json(dict(value), option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS) + "\n")


def as_json(value: object, option: int | None = None) -> str:
    """Return JSON in which nothing can steer a terminal; `option` is orjson's."""
    return printable_json(orjson.dumps(value, option=option).decode())


def emit_items(items: Iterable[Mapping[str, Any]], **more: object) -> None:
    """Print a list as one JSON object."""
    emit({"items": list(items), **more})


def emit_list(items: Iterable[Mapping[str, Any]], *, json: bool, csv: bool, **more: object) -> bool:
    """Print a list as the flags ask for; False: neither does, so it is the caller's to show."""
    if json and csv:
        raise typer.BadParameter("choose one of --json and --csv")
    if json:
        emit_items(items, **more)
    elif csv:
        _emit_csv(list(items))
    return json or csv


def _emit_csv(items: Sequence[Mapping[str, Any]]) -> None:
    """RFC 4180, with a header where there is a row; what is nested stands as JSON."""
    if items:
        rows = (map(_cell, item.values()) for item in items)
        sys.stdout.writelines(csv_table(list(items[0]), rows))


def _cell(value: object) -> object:
    return as_json(value) if isinstance(value, dict | list) else value


def done(told: Mapping[str, Any], *lines: tuple[str | tuple[str, str], ...], json: bool) -> None:
    """Print what a write has done: as one JSON object, or as these lines."""
    if json:
        emit(told)
        return
    for line_ in lines:
        say(*line_)


def confirm(question: str, *, yes: bool) -> None:
    """Ask before something large. Without a terminal, `--yes` must be given."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise typer.BadParameter(f"{question} Say --yes, or look first with --dry-run")
    typer.confirm(question, abort=True)


def put(renderable: RenderableType) -> None:
    """Print a table; piped, without the spaces that fill its last column."""
    target = console()
    if target.is_terminal:
        target.print(renderable)
        return
    with target.capture() as captured:
        target.print(renderable)
    sys.stdout.write("".join(f"{row.rstrip()}\n" for row in captured.get().splitlines()))


def say(*parts: str | tuple[str, str]) -> None:
    """Print one line of texts and (text, style) pairs; nothing in them is markup, nothing can steer the terminal."""
    _print(console(), line(*parts))


def warn(*parts: str | tuple[str, str]) -> None:
    """Print a line to standard error; once that is closed, the command goes on without telling."""
    try:
        _print(error_console(), line(*parts))
    except BrokenPipeError:
        _discard(sys.stderr)


def entry(*parts: str | tuple[str, str], detail: str, style: str = "") -> None:
    """Print a line that ends with a detail; where the terminal is too narrow, the detail follows, indented."""
    head = line(*parts)
    if not console().is_terminal or head.cell_len + 2 + Text(plain(detail)).cell_len <= console().width:
        say(*parts, "  ", (detail, style))
    else:
        say(*parts)
        indented(detail, style)


def indented(text: str, style: str = "", *, columns: int = 4) -> None:
    """Print a paragraph, indented as a whole."""
    if console().is_terminal:
        put(Padding(Text(plain(text), style=style), (0, 0, 0, columns), expand=False))
    else:
        say(" " * columns + text)


def _print(target: Console, text: Text) -> None:
    """Fold lines for a terminal only: what reads a pipe wants them whole."""
    target.print(text, soft_wrap=not target.is_terminal)


def line(*parts: str | tuple[str, str]) -> Text:
    """Return the parts as one `Text`."""
    return Text.assemble(
        *(plain(part) if isinstance(part, str) else (plain(part[0]), part[1]) for part in parts), overflow="fold"
    )


def plain(text: str) -> str:
    """One line in which nothing colours, moves or renames the terminal."""
    return printable(text.replace("\n", " ").replace("\t", " "))


def facts() -> Table:
    """Return an empty list of names and values."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    return table


class _Rows(Table):
    """A table whose rows become paragraphs on a terminal where its columns would be cut or broken letter by letter."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the table, or a paragraph for each row: its first cell, below it the others with their names."""
        if not console.is_terminal or self._least(console, options) <= options.max_width:
            yield from super().__rich_console__(console, options)
            return
        for cells in zip(*(column.cells for column in self.columns), strict=True):
            first, *others = (cell if isinstance(cell, Text) else Text(str(cell)) for cell in cells)
            named = zip(self.columns[1:], others, strict=True)
            told = [Text.assemble((f"{column.header} ", "dim"), cell) for column, cell in named if cell.plain]
            yield first
            yield Padding(Text(" · ").join(told), (0, 0, 0, 2))

    def _least(self, console: Console, options: ConsoleOptions) -> int:
        """Return the number of terminal columns with which the table can be read."""
        at_will = options.update(width=10_000)
        least = 0
        for column in self.columns:
            sizes = [Measurement.get(console, at_will, cell) for cell in (column.header, *column.cells)]
            most = max(size.maximum for size in sizes)
            least += most if column.no_wrap else min(max(size.minimum for size in sizes), _FOLDED_FROM)
        return least + 2 * (len(self.columns) - 1)


def rows(*columns: str, right: Sequence[str] = (), whole: Sequence[str] = ()) -> Table:
    """Return an empty table with a header and no frame.

    right   the columns of figures, which are aligned to the right
    whole   the columns whose cells are never broken
    """
    table = _Rows(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in columns:
        figures = column in right
        table.add_column(
            column, overflow="fold", justify="right" if figures else "left", no_wrap=figures or column in whole
        )
    return table


WIDE: Final = 110
"""From this number of columns on a table has those beside the necessary ones."""


def wide() -> bool:
    """Whether there is room for more than the necessary columns."""
    return console().width >= WIDE


def number(value: int, *, exact: bool = True) -> str:
    """`1 234 567`; with `~` where it is an estimate."""
    return ("" if exact else "~") + f"{value:,}".replace(",", "\u202f" if sys.stdout.isatty() else " ")


def plural(count: int, noun: str) -> str:
    """`1 lead`, `2 leads`."""
    return f"{number(count)} {noun}" + ("" if count == 1 else "s")


def fail() -> NoReturn:
    """Exit with 1, after the reason has been printed."""
    raise typer.Exit(1)
