"""`FILE.rejected.csv`: every refused row with its line, field, reason and original text.

A spreadsheet runs a cell that begins with `=`, `+`, `-` or `@` as a formula, and whoever wrote the row may not be
trusted: such cells get an apostrophe in front (OWASP, CSV injection). The row as it was stands in the file itself.
"""

import csv
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final, TextIO

from dispatcher.errors import FieldError
from dispatcher.importing.refusal import UnreadableFile
from dispatcher.importing.row import Row
from dispatcher.records.spreadsheet import safe_cell

HEADER: Final = ("line", "field", "reason", "remedy", "original")


class Rejects:
    """Writes the file when the first row is refused; replaces one of an earlier import. Only its owner may read it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0
        self._file: TextIO | None = None

    def add(self, row: Row, faults: Iterable[FieldError]) -> None:
        """A line for each fault. Raises `UnreadableFile` if the file cannot be written."""
        self.count += 1
        try:
            if self._file is None:
                self._file = self._open()
                csv.writer(self._file).writerow(HEADER)
            writer = csv.writer(self._file)
            for fault in faults:
                cells = (fault.field, fault.fault, fault.remedy, row.text)
                writer.writerow((row.line, *map(safe_cell, cells)))
        except OSError as error:
            why = error.strerror or type(error).__name__
            raise UnreadableFile(f"A row was refused, and {self.path} cannot be written: {why}.") from None

    def forget_earlier(self) -> None:
        """After an import without refusals: what an earlier one of this file left behind speaks of it no more."""
        if self.count == 0:
            with suppress(OSError):
                self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Finish the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self) -> TextIO:
        self.path.unlink(missing_ok=True)  # not the rights of an old one, and not through a link
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        return open(descriptor, "w", encoding="utf-8-sig", errors="replace", newline="")  # noqa: PTH123 - a descriptor
