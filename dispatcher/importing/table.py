"""CSV and TSV: the header, the delimiter that it shows, and the rows with their line numbers."""

import csv
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from dispatcher.importing.refusal import UnreadableFile
from dispatcher.importing.row import Row

_DELIMITERS: Final = ",;\t|"
_QUOTED: Final = re.compile(r'"(?:[^"]|"")*"')
_EXCEL_HINT: Final = re.compile(r"sep=(.)\r?\n?", re.IGNORECASE)

_OPEN_QUOTE = "a quote is opened and not closed, or a cell has more than 131072 characters"


@dataclass(frozen=True, slots=True)
class Table:
    """The header of a table. `lines_before` rows begin: the header's own, and those above it."""

    header: tuple[str, ...]
    delimiter: str
    lines_before: int

    def rows(self, lines: Iterable[str]) -> Iterator[Row]:
        """The rows of the text's lines after the header; rows whose cells are all empty are left out."""
        remembered = _Remembering(lines, self.lines_before)
        reader = csv.reader(remembered, delimiter=self.delimiter)
        while True:
            first = remembered.line + 1
            try:
                cells = next(reader, None)
            except csv.Error:
                raise UnreadableFile(f"The row at line {first} has no end: {_OPEN_QUOTE}.") from None
            text = remembered.take()
            if cells is None:
                return
            if remembered.ended:  # asked for more in the middle of a row: rows would vanish in its last cell
                raise UnreadableFile(f"The row at line {first} has no end: {_OPEN_QUOTE}.")
            stripped = tuple(cell.strip() for cell in cells)
            if any(stripped):
                yield Row(first, text.rstrip("\r\n"), stripped)


def read_header(lines: Iterator[str]) -> Table:
    """Take the header off the lines. Raises `UnreadableFile` if there is none, or a name comes twice."""
    delimiter = None
    for before, line in enumerate(lines):
        hint = _EXCEL_HINT.fullmatch(line)
        if hint is not None:
            delimiter = hint[1]
        elif line.strip(" \t\r\n,;|"):
            remembered = _Remembering(iter([line]), 0, more=lines)
            delimiter = delimiter or _delimiter_of(line)
            try:
                names = next(csv.reader(remembered, delimiter=delimiter))
            except csv.Error:
                raise UnreadableFile(f"The header has no end: {_OPEN_QUOTE}.") from None
            if remembered.ended:
                raise UnreadableFile(f"The header has no end: {_OPEN_QUOTE}.")
            header = tuple(name.strip() for name in names)
            _refuse_doubles(header)
            return Table(header, delimiter, before + remembered.line)
    raise UnreadableFile("The file is empty; its first line must name the columns, e.g. phone_number,campaign_id,name.")


def _delimiter_of(line: str) -> str:
    """The one that stands most often in the header, outside quotes."""
    bare = _QUOTED.sub("", line)
    return max(_DELIMITERS, key=bare.count)


def _refuse_doubles(header: tuple[str, ...]) -> None:
    seen: dict[str, int] = {}
    for position, name in enumerate(header, 1):
        if name and seen.setdefault(name.casefold(), position) != position:
            raise UnreadableFile(
                f"The header names “{name}” twice, in columns {seen[name.casefold()]} and {position}; "
                "rename or remove one of them."
            )


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
