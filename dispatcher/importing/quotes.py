"""Quotes in the wrong place: they are named, and nothing is guessed.

One that is left open swallows the rows after it, up to the next quote, and would have them spoken to another person.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from dispatcher.errors import FieldError
from dispatcher.importing.refusal import UnreadableFile
from dispatcher.leads.masking import mask_numbers

MAX_CELL: Final = 1 << 20
"""So many characters of a cell are read; far more than a variable may have, so that the row can be refused alone."""

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

    @property
    def stands_alone(self) -> bool:
        """Whether the next line is surely another row: this is one line, and its quotes pair up."""
        return not self.ended and _line_ends(self.text.rstrip("\r\n")) == 0 and self.text.count('"') % 2 == 0

    def fault(self) -> FieldError:
        """Why the row alone is refused."""
        column, _ = self._broken_cell()
        if self.too_long:
            return FieldError(f"column {column}", f"has more than {MAX_CELL:,} characters", "shorten the cell")
        return FieldError(f"column {column}", "has text after its closing quote", _TWICE)

    def refusal(self, what: str) -> UnreadableFile:
        """Why nothing from here on is read; `what` is e.g. `The row at line 3`."""
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
        """Its column and the line where it begins, both 1-based."""
        by = re.escape(self.delimiter)
        cell = re.compile(rf'(?:"(?:[^"]|"")*+"|(?!")[^{by}\r\n]*+){by}')
        column, end = 1, 0
        while (found := cell.match(self.text, end)) is not None and found.end() - end <= MAX_CELL:
            column, end = column + 1, found.end()
        return column, self.first + _line_ends(self.text[:end])


def swallowed(cells: Sequence[str], first: int, delimiter: str, width: int, phone: int) -> FieldError | None:
    """The fault of a row over several lines, if one of its cells holds a line that is a row of this table itself.

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
