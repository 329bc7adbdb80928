"""The rows of one sheet of a workbook, kept in a temporary file without a name until the import has read them.

Its digest is that of the same rows as CSV (UTF-8, commas, a line feed): a workbook that was only saved again, or as
another kind, or is exported by LibreOffice so, is the same batch.
"""

import csv
import heapq
import io
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import IO, Final

import orjson

from dispatcher.errors import FieldError
from dispatcher.importing.row import Row
from dispatcher.importing.source import UnreadableFile
from dispatcher.importing.table import MAX_CELL, MAX_COLUMNS

MAX_ROWS: Final = 1_048_576
"""Rows that a sheet can have in Excel and in LibreOffice."""
MAX_SHEETS: Final = 1000
MAX_MERGES: Final = 100_000
_MOST_BLANK: Final = 1000

TOO_LONG: Final = (f"has more than {MAX_CELL:,} characters", "shorten the cell")
NO_VALUE: Final = (
    "is a formula without a value",
    "open the workbook in a spreadsheet program, which calculates it, and save it",
)


@dataclass(frozen=True, slots=True)
class SheetName:
    """One sheet of a workbook. `part` is where its rows are: a part of the archive, or the sheet's place in it."""

    name: str
    hidden: bool
    part: str


@dataclass(slots=True)
class SheetRow:
    """One row with a value. The repr names no person.

    number   as the spreadsheet program shows it, from 1
    cells    its texts; empty ones at the end are left out
    fault    of its first cell whose value is none
    hidden   whether the sheet does not show it
    covered  position of its first cell that lies under a merged one, where the row itself says so
    """

    number: int
    cells: list[str] = field(repr=False)
    fault: FieldError | None = None
    hidden: bool = False
    covered: int | None = None


@dataclass(frozen=True, slots=True)
class Merge:
    """Cells that are one; only the first has the value. Rows count from 1, columns from 0, both ends included."""

    first_row: int
    first_column: int
    last_row: int
    last_column: int


def is_error(text: str) -> tuple[str, str]:
    """Return the fault of a cell that holds an error, e.g. `#N/A`."""
    return f"is the error {text[:20] or 'of a formula'}", "correct its formula, or empty the cell"


@dataclass(frozen=True, slots=True)
class Sheet:
    """A sheet that was read.

    header   the names in its first row with a value
    first    the number of that row
    rows     rows with a value after it
    form     what it was taken for, e.g. `sheet “Leads” of an Excel workbook`
    """

    header: tuple[str, ...]
    first: int
    rows: int
    digest: str
    form: str
    notes: tuple[str, ...]
    merges: Sequence[Merge] = field(repr=False)
    _file: IO[bytes] = field(repr=False)

    def all_rows(self) -> Iterator[Row]:
        """Yield the rows after the header. `line` is the number that the spreadsheet program shows."""
        self._file.seek(0)
        covered = _Covered(self.merges, len(self.header))
        for line in self._file:
            number, cells, fault = orjson.loads(line)
            stripped = tuple(map(str.strip, cells))
            column = covered.column(number)
            if fault is not None:
                told = FieldError(*fault)
            elif column is not None:
                told = merged(column)
            else:
                told = None
            if any(stripped) or told is not None:
                yield Row(number, csv_line(cells), () if told else stripped, told)


def merged(column: int) -> FieldError:
    """Return the fault of a row with a cell that is merged; `column` is its position."""
    return FieldError(f"column {column + 1}", "is merged with another cell", "split the merged cells, and fill each")


class _Covered:
    """Tells, row after row, whether a cell is hidden under a merged one."""

    def __init__(self, merges: Iterable[Merge], width: int) -> None:
        # A merge that is one column wide covers nothing in its first row, where its value is.
        begins = (
            (one.first_row + (min(one.last_column, width - 1) == one.first_column), one.last_row, one.first_column)
            for one in merges
            if one.first_column < width
        )
        self._coming = sorted(one for one in begins if one[0] <= one[1])
        self._place = 0
        self._open: list[tuple[int, int]] = []

    def column(self, row: int) -> int | None:
        """Return the column of a merged cell that reaches into this row; rows come in their order."""
        while self._place < len(self._coming) and self._coming[self._place][0] <= row:
            heapq.heappush(self._open, self._coming[self._place][1:])
            self._place += 1
        while self._open and self._open[0][0] < row:
            heapq.heappop(self._open)
        return self._open[0][1] if self._open else None


def csv_line(cells: Sequence[str]) -> str:
    """Return the cells as one line of CSV, without its end."""
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(cells)
    return line.getvalue()


class SheetWriter:
    """Takes rows in their order, and makes a `Sheet` of them. Raises `UnreadableFile` for what is out of bounds.

    most   bytes of all rows together
    """

    def __init__(self, name: str, most: int) -> None:
        self._name = name
        self._left = most
        self._digest = sha256()
        self._file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the source
        self._header: tuple[str, ...] = ()
        self._first = self._last = self._rows = self._hidden = 0

    def close(self) -> None:
        """Forget the rows."""
        self._file.close()

    def add(self, row: SheetRow) -> None:
        """Keep a row."""
        if row.number <= self._last:
            raise UnreadableFile(f"{self._name} has its rows in disorder at row {row.number}; save it anew.")
        if row.number > MAX_ROWS:
            raise UnreadableFile(f"{self._name} has more than {MAX_ROWS:,} rows; split it, or save it as CSV (UTF-8).")
        blank, self._last = row.number - self._last - 1, row.number
        if not self._header:
            self._header = tuple(cell.strip() for cell in row.cells)
            self._first = row.number
            self._refuse_header(row)
        else:
            self._rows += 1
            self._hidden += row.hidden
            fault = row.fault
            if fault is None and row.covered is not None and row.covered < len(self._header):
                fault = merged(row.covered)
            if len(row.cells) > MAX_COLUMNS:
                fault = FieldError("row", f"has more than {MAX_COLUMNS:,} cells", "leave some out")
            told = None if fault is None else (fault.field, fault.fault, fault.remedy)
            line = orjson.dumps((row.number, row.cells[:MAX_COLUMNS], told)) + b"\n"
            self._left -= len(line)
            if self._left < 0:
                raise UnreadableFile(
                    f"{self._name} unpacks to far more than its size, as no list of leads does; "
                    "open it, save it as CSV (UTF-8), and import that."
                )
            self._file.write(line)
        self._hash(row.cells, blank)

    def finish(self, form: str, notes: Iterable[str], merges: Sequence[Merge]) -> Sheet:
        """Return the sheet."""
        if not self._header:
            raise UnreadableFile(
                f"{self._name} is empty; its first row must name the columns, e.g. phone_number, campaign_id, name."
            )
        told = list(notes)
        if self._hidden:
            rows = "1 row is" if self._hidden == 1 else f"{self._hidden:,} rows are"
            told.append(f"{rows} hidden in the sheet, by a filter or by hand, and imported as the others.")
        return Sheet(
            self._header, self._first, self._rows, self._digest.hexdigest(), form, tuple(told), merges, self._file
        )

    def _refuse_header(self, row: SheetRow) -> None:
        if row.fault is not None:
            raise UnreadableFile(f"The header, row {row.number}: {row.fault}.")
        if len(self._header) > MAX_COLUMNS:
            raise UnreadableFile(f"The header names more than {MAX_COLUMNS:,} columns; leave some out.")

    def _hash(self, cells: Sequence[str], blank: int) -> None:
        width = len(self._header)
        if blank > _MOST_BLANK:
            self._digest.update(b"%d rows without a value\n" % blank)
        elif blank:
            self._digest.update((b"," * (width - 1) + b"\n") * blank)
        padded = [*cells, *[""] * (width - len(cells))]
        self._digest.update(csv_line(padded).encode("utf-8", "surrogatepass") + b"\n")
