"""CSV and TSV: the header, the delimiter that it shows, and the rows with their line numbers."""

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from dispatcher.errors import FieldError
from dispatcher.importing.encoding import BROKEN
from dispatcher.importing.row import Row, broken_bytes, without_broken_bytes
from dispatcher.importing.source import MAX_LINE, UnreadableFile
from dispatcher.lead.masking import mask_numbers

MAX_CELL: Final = 1 << 20
"""Characters of a cell that are read at most; a variable has fewer, so that the row can be refused alone."""
MAX_COLUMNS: Final = 1000
"""Cells of a row, or names of a header: a lead has 64 variables, and each of its 10 contacts as many."""

_LINE_END: Final = re.compile(r"\r\n|\r|\n")
_TWICE: Final = "a quote inside a quoted cell is written twice"


@dataclass(frozen=True, slots=True)
class BrokenRow:
    """The lines of a row, or of the header, up to where a strict reader of CSV gave up.

    first      number of its first line, 1-based
    ended      the file ends there
    too_long   a cell has more than `MAX_CELL` characters
    """

    text: str
    first: int
    delimiter: str
    ended: bool
    too_long: bool

    def padded_cells(self) -> list[str] | None:
        """Return the cells, where nothing is wrong but blanks between a quote and the delimiter: `"Bob" ,42`."""
        if self.too_long:
            return None
        by = re.escape(self.delimiter)
        cell = re.compile(rf' *(?:"(?P<quoted>(?:[^"]|"")*+)" *+|(?P<bare>(?!")[^{by}]*+))(?P<by>{by}|\Z)')
        text, cells, end = self.text.rstrip("\r\n"), [], 0
        while (found := cell.match(text, end)) is not None:
            quoted = found["quoted"]
            cells.append(found["bare"] if quoted is None else quoted.replace('""', '"'))
            end = found.end()
            if not found["by"]:
                return cells
        return None

    @property
    def stands_alone(self) -> bool:
        """Whether the next line is surely another row: this is one line, and its quotes pair up."""
        return not self.ended and _line_ends(self.text.rstrip("\r\n")) == 0 and self.text.count('"') % 2 == 0

    def fault(self) -> FieldError:
        """Return why the row alone is refused."""
        column, _ = self._broken_cell()
        if self.too_long:
            return FieldError(f"column {column}", f"has more than {MAX_CELL:,} characters", "shorten the cell")
        return FieldError(f"column {column}", "has text after its closing quote", _TWICE)

    def refusal(self, what: str) -> UnreadableFile:
        """Return why nothing from here on is read; `what` is e.g. `The row at line 3`."""
        _, opens = self._broken_cell()
        if self.ended:
            return UnreadableFile(
                f"{what} has no end: the quote that opens at line {opens} is not closed. Close it where its cell ends, "
                "or remove it."
            )
        if self.too_long:
            return UnreadableFile(
                f"{what} has no end: its cell that begins at line {opens} goes on for more than {MAX_CELL:,} "
                "characters. Close its quote, or shorten it."
            )
        closes = self.first + _line_ends(self.text.rstrip("\r\n"))
        return UnreadableFile(
            f"{what} cannot be read: the quote that opens at line {opens} closes at line {closes}, and more text "
            f"follows. Close it where its cell ends, or remove it; {_TWICE}."
        )

    def _broken_cell(self) -> tuple[int, int]:
        """Return its column and the line where it begins, both 1-based."""
        by = re.escape(self.delimiter)
        cell = re.compile(rf'(?:"(?:[^"]|"")*+"|(?!")[^{by}\r\n]*+){by}')
        column, end = 1, 0
        while (found := cell.match(self.text, end)) is not None and found.end() - end <= MAX_CELL:
            column, end = column + 1, found.end()
        return column, self.first + _line_ends(self.text[:end])


def swallowed_row(cells: Sequence[str], first: int, delimiter: str, width: int, phone: int) -> FieldError | None:
    """Return the fault of a row over several lines, if one of its cells holds a line that is itself a row.

    A stray quote and the next one may pair up so well that every cell looks right. `cells` are as they were read;
    `phone` is the position of the number, 0-based, `width` the number of columns, `first` the row's line.
    """
    opens = first
    for column, cell in enumerate(cells):
        lines = _LINE_END.split(cell)
        for number, line in enumerate(lines if len(lines) > 1 else ()):
            # The first line is the rest of a row, from this column on; the last may be cut off after a delimiter.
            begins = 0 if number else column
            parts = line.split(delimiter)
            whole = begins + len(parts) >= width or (number == len(lines) - 1 and not parts[-1])
            if whole and len(parts) > 1 and 0 <= phone - begins < len(parts) and _is_number(parts[phone - begins]):
                return FieldError(
                    f"column {column + 1}",
                    f"holds what looks like another row, at line {opens + number}",
                    f"close or remove the quote that opens at line {opens}, or write the cell on one line",
                )
        opens += len(lines) - 1
    return None


def _is_number(text: str) -> bool:
    return mask_numbers(text) != text


def _line_ends(text: str) -> int:
    return len(_LINE_END.findall(text))


_DELIMITERS: Final = ",;\t|"
_QUOTED: Final = re.compile(r'"(?:[^"]|"")*"')
_EXCEL_HINT: Final = re.compile(r"""["']?sep=(.)["']?[;,\t|]*\s*""", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Table:
    """The header of a table. `lines_before` rows begin: the header's own, and those above it."""

    header: tuple[str, ...]
    delimiter: str
    lines_before: int
    encoding: str

    def rows(self, lines: Iterable[str], phone: int) -> Iterator[Row]:
        """Return the rows of the text's lines after the header; rows whose cells are all empty are left out.

        `phone` is the position of the number. Raises `UnreadableFile` where the end of a row is unclear.
        """
        counted = _CountedLines(lines, self.lines_before)
        reader = _reader(counted, self.delimiter)
        while True:
            first = counted.line + 1
            try:
                cells = next(reader, None)
            except csv.Error as error:
                broken = counted.broken(first, self.delimiter, error)
                cells = broken.padded_cells()
                if cells is None:
                    yield self._refused(broken)
                    continue
                text = broken.text
            else:
                text = counted.take()
            if cells is None:
                return
            stripped = tuple(cell.strip() for cell in cells)
            if any(stripped):
                fault = self._fault(text, cells, stripped, first, counted.line, phone)
                yield Row(first, without_broken_bytes(text.rstrip("\r\n")), () if fault else stripped, fault)

    def _fault(
        self, text: str, cells: Sequence[str], stripped: Sequence[str], first: int, last: int, phone: int
    ) -> FieldError | None:
        """Return why the cells are not to be trusted, if they are not."""
        if len(cells) > MAX_COLUMNS:
            remedy = "quote the cell that contains the delimiter, or leave the empty cells out"
            return FieldError("row", f"has {len(cells):,} cells, more than {MAX_COLUMNS:,}", remedy)
        if not text.isascii():
            for column, cell in enumerate(stripped, 1):
                if (fault := broken_bytes(cell, f"column {column}", self.encoding)) is not None:
                    return fault
        return swallowed_row(cells, first, self.delimiter, len(self.header), phone) if last > first else None

    def _refused(self, broken: BrokenRow) -> Row:
        if not broken.stands_alone:
            raise broken.refusal(f"The row at line {broken.first}")
        return Row(broken.first, without_broken_bytes(broken.text.rstrip("\r\n")), fault=broken.fault())


def read_header(lines: Iterator[str], encoding: str) -> Table:
    """Take the header off the lines. Raises `UnreadableFile` if there is none, or its quotes are astray."""
    delimiter = None
    for before, line in enumerate(lines):
        hint = _EXCEL_HINT.fullmatch(line)
        if hint is not None:
            delimiter = hint[1]
        elif line.strip(" \t\r\n,;|"):
            counted = _CountedLines(iter([line]), 0, more=lines)
            delimiter = delimiter or _delimiter_of(line)
            try:
                names = next(_reader(counted, delimiter))
            except csv.Error as error:
                broken = counted.broken(before + 1, delimiter, error)
                names = broken.padded_cells() or []
                if not names:
                    raise broken.refusal("The header") from None
            header = tuple(name.strip() for name in names)
            _refuse_header(header, encoding)
            return Table(header, delimiter, before + counted.line, encoding)
    raise UnreadableFile("The file is empty; its first line must name the columns, e.g. phone_number,campaign_id,name.")


def _delimiter_of(line: str) -> str:
    """Return the delimiter that is most frequent in the header, outside quotes."""
    bare = _QUOTED.sub("", line)
    return max(_DELIMITERS, key=bare.count)


def _refuse_header(header: Sequence[str], encoding: str) -> None:
    if len(header) > MAX_COLUMNS:
        raise UnreadableFile(f"The header names {len(header):,} columns, more than {MAX_COLUMNS:,}; leave some out.")
    for position, name in enumerate(header, 1):
        if "\n" in name and mask_numbers(name) != name:
            raise UnreadableFile(
                f"The header's column {position} goes on over several lines and holds a number: a quote is left open. "
                "Close or remove it."
            )
        if BROKEN.search(name):
            raise UnreadableFile(
                f"The header's column {position} is not {encoding}; name the file's encoding with --encoding."
            )


def _reader(lines: Iterator[str], delimiter: str) -> "Iterator[list[str]]":
    """Return a strict reader: text behind a closing quote is an error. Blanks before a quote are dropped."""
    if csv.field_size_limit() < MAX_CELL:  # the whole process has one; more than this is never wanted
        csv.field_size_limit(MAX_CELL)
    return csv.reader(lines, delimiter=delimiter, strict=True, skipinitialspace=True)


class _CountedLines:
    """Lines as they are asked for, counted; those of the current row are kept."""

    def __init__(self, lines: Iterable[str], line: int, more: Iterable[str] = ()) -> None:
        self._lines = iter(lines)
        self._more = iter(more)
        self._kept: list[str] = []
        self._size = 0  # characters of these
        self.line = line
        self.ended = False

    def __iter__(self) -> "_CountedLines":
        return self

    def __next__(self) -> str:
        line = next(self._lines, None)
        if line is None:
            line = next(self._more, None)
        if line is None:
            self.ended = True
            raise StopIteration
        self.line += 1
        self._kept.append(line)
        self._size += len(line)
        if self._size > MAX_LINE:
            first = self.line - len(self._kept) + 1
            raise UnreadableFile(
                f"The row at line {first} goes on over {len(self._kept):,} lines and more than {MAX_LINE:,} "
                "characters. Close the quotes that hold its line ends, or remove it."
            )
        return line

    def take(self) -> str:
        """Return the lines since the last call, as one text."""
        text = "".join(self._kept)
        self._kept.clear()
        self._size = 0
        return text

    def broken(self, first: int, delimiter: str, error: csv.Error) -> BrokenRow:
        """Return the lines since the last call, which the reader could not make a row of."""
        too_long = "field limit" in str(error)  # the module has no kinds of its error, only words
        return BrokenRow(self.take(), first, delimiter, self.ended, too_long)
