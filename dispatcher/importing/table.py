"""CSV and TSV: the header, the delimiter that it shows, and the rows with their line numbers."""

import csv
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from dispatcher.importing.quotes import MAX_CELL, BrokenRow, swallowed
from dispatcher.importing.refusal import UnreadableFile
from dispatcher.importing.row import Row
from dispatcher.leads.masking import mask_numbers

_DELIMITERS: Final = ",;\t|"
_QUOTED: Final = re.compile(r'"(?:[^"]|"")*"')
_EXCEL_HINT: Final = re.compile(r"sep=(.)\r?\n?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Table:
    """The header of a table. `lines_before` rows begin: the header's own, and those above it."""

    header: tuple[str, ...]
    delimiter: str
    lines_before: int

    def rows(self, lines: Iterable[str], phone: int) -> Iterator[Row]:
        """The rows of the text's lines after the header; rows whose cells are all empty are left out.

        `phone` is the position of the number. Raises `UnreadableFile` where nobody can say where a row ends.
        """
        remembered = _Remembering(lines, self.lines_before)
        reader = _reader(remembered, self.delimiter)
        while True:
            first = remembered.line + 1
            try:
                cells = next(reader, None)
            except csv.Error as error:
                yield self._refused(remembered.broken(first, self.delimiter, error))
                continue
            text = remembered.take()
            if cells is None:
                return
            stripped = tuple(cell.strip() for cell in cells)
            if any(stripped):
                fault = None
                if remembered.line > first:
                    fault = swallowed(cells, first, self.delimiter, len(self.header), phone)
                yield Row(first, text.rstrip("\r\n"), stripped, fault)

    def _refused(self, broken: BrokenRow) -> Row:
        if not broken.stands_alone:
            raise broken.refusal(f"The row at line {broken.first}")
        return Row(broken.first, broken.text.rstrip("\r\n"), fault=broken.fault())


def read_header(lines: Iterator[str]) -> Table:
    """Take the header off the lines. Raises `UnreadableFile` if there is none, or its quotes are astray."""
    delimiter = None
    for before, line in enumerate(lines):
        hint = _EXCEL_HINT.fullmatch(line)
        if hint is not None:
            delimiter = hint[1]
        elif line.strip(" \t\r\n,;|"):
            remembered = _Remembering(iter([line]), 0, more=lines)
            delimiter = delimiter or _delimiter_of(line)
            try:
                names = next(_reader(remembered, delimiter))
            except csv.Error as error:
                raise remembered.broken(before + 1, delimiter, error).refusal("The header") from None
            header = tuple(name.strip() for name in names)
            _refuse_swallowed(header)
            return Table(header, delimiter, before + remembered.line)
    raise UnreadableFile("The file is empty; its first line must name the columns, e.g. phone_number,campaign_id,name.")


def _delimiter_of(line: str) -> str:
    """The one that stands most often in the header, outside quotes."""
    bare = _QUOTED.sub("", line)
    return max(_DELIMITERS, key=bare.count)


def _refuse_swallowed(header: tuple[str, ...]) -> None:
    for position, name in enumerate(header, 1):
        if "\n" in name and mask_numbers(name) != name:
            raise UnreadableFile(
                f"The header's column {position} goes on over several lines and holds a number: a quote is left open. "
                "Close or remove it."
            )


def _reader(lines: Iterator[str], delimiter: str) -> "Iterator[list[str]]":
    """Strict: text behind a closing quote is an error, not part of the cell."""
    if csv.field_size_limit() < MAX_CELL:  # the whole process has one; more than this is never wanted
        csv.field_size_limit(MAX_CELL)
    return csv.reader(lines, delimiter=delimiter, strict=True)


class _Remembering:
    """Passes lines on, counts them, and keeps those of the current row."""

    def __init__(self, lines: Iterable[str], line: int, more: Iterable[str] = ()) -> None:
        self._lines = iter(lines)
        self._more = iter(more)
        self._kept: list[str] = []
        self.line = line
        self.ended = False

    def __iter__(self) -> "_Remembering":
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
        return line

    def take(self) -> str:
        """The lines since the last call, as one text."""
        text = "".join(self._kept)
        self._kept.clear()
        return text

    def broken(self, first: int, delimiter: str, error: csv.Error) -> BrokenRow:
        """The lines since the last call, which the reader could not make a row of."""
        too_long = "field limit" in str(error)  # the module has no kinds of its error, only words
        return BrokenRow(self.take(), first, delimiter, self.ended, too_long)
