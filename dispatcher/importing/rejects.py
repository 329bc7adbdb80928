"""`FILE.rejected.csv`: every refused row with its line, field, reason and original text.

A spreadsheet runs a cell that begins with `=`, `+`, `-` or `@` as a formula, and whoever wrote the row may not be
trusted: such cells get an apostrophe in front (OWASP, CSV injection). The row as it was stands in the file itself.
"""

import csv
import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final, TextIO

from dispatcher.errors import FieldError
from dispatcher.importing.refusal import UnreadableFile, UnwritableRejects
from dispatcher.importing.row import Row
from dispatcher.importing.source import Source
from dispatcher.records.spreadsheet import safe_cell

HEADER: Final = ("line", "field", "reason", "remedy", "original")
_BEGINS: Final = f"{','.join(HEADER)}\r\n".encode("utf-8-sig")


class Rejects:
    """Writes the file when the first row is refused; replaces one of an earlier import. Only its owner may read it.

    No other file is replaced or removed. Raises `UnreadableFile` if the place is taken, or cannot be written.
    """

    def __init__(self, path: Path, source: Source) -> None:
        self.path = path
        self.count = 0
        self._file: TextIO | None = None
        if source.is_at(path):
            raise self._refused("it is the file to import;")
        self._check_place()

    def add(self, row: Row, faults: Iterable[FieldError]) -> None:
        """A line for each fault. Raises `UnwritableRejects`."""
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
            raise self._unwritable(error) from None

    def forget_earlier(self) -> None:
        """After an import without refusals: what an earlier one of this file left behind speaks of it no more."""
        if self.count == 0:
            with suppress(OSError):
                if self._begins_with(_BEGINS):
                    self.path.unlink()

    def close(self) -> None:
        """Finish the file. Raises as `add`."""
        file, self._file = self._file, None
        if file is not None:
            try:
                file.close()
            except OSError as error:
                raise self._unwritable(error) from None

    def _open(self) -> TextIO:
        self._check_place()  # again: somebody may have put a file there since
        self.path.unlink(missing_ok=True)  # not the rights of an old one, and not through a link
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        return open(descriptor, "w", encoding="utf-8-sig", errors="replace", newline="")  # noqa: PTH123 - a descriptor

    def _check_place(self) -> None:
        try:
            folder = self.path.parent
            folder.stat()
            if not os.access(folder, os.W_OK | os.X_OK):
                raise self._refused("the folder cannot be written;")
            if not stat.S_ISREG(self.path.lstat().st_mode):
                raise self._refused("it is no regular file; move it away, or")
            if not self._begins_with(_BEGINS) and self.path.stat().st_size:
                raise self._refused("it is another file; move it away, or")
        except OSError as error:
            if not isinstance(error, FileNotFoundError) or not self.path.parent.exists():
                raise self._refused(f"{_why(error)};") from None

    def _begins_with(self, mark: bytes) -> bool:
        with self.path.open("rb") as file:
            return file.read(len(mark)) == mark

    def _unwritable(self, error: OSError) -> UnwritableRejects:
        return UnwritableRejects(f"A row was refused, and {self.path} cannot be written: {_why(error)}.")

    def _refused(self, why: str) -> UnreadableFile:
        return UnreadableFile(f"Refused rows cannot go to {self.path}: {why} name another place with --rejected.")


def _why(error: OSError) -> str:
    return error.strerror or type(error).__name__
