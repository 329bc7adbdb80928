"""`FILE.rejected.csv`: every fault of every refused row with its line, field, reason and remedy; the row itself once.

A spreadsheet runs a cell that begins with `=`, `+`, `-` or `@` as a formula, and the writer of the row need not be
trusted: such cells get an apostrophe in front (OWASP, CSV injection). The row as it was stands in the file itself.
"""

import csv
import os
import re
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final, TextIO

from dispatcher.errors import FieldError
from dispatcher.importing.row import TIME_REMEDY, Row
from dispatcher.importing.source import Source, UnreadableFile, UnwritableRejects
from dispatcher.lead import candidate, options, phone, variables
from dispatcher.lead import lead as leads
from dispatcher.lead.variables import MAX_FAULTS
from dispatcher.spreadsheet import safe_cell

_REMEDIES: Final = {
    leads.CAMPAIGN_REMEDY: (
        "write the campaign's id as Voicery shows it, e.g. 42, or name the campaign of rows without one: --campaign"
    ),
    leads.FLAG_REMEDY: "write true or false, or leave it out for false",
    phone.COUNTRY_REMEDY: "write it with + and the country code, or name the numbers' country: --country DE",
    phone.TWO_READINGS_REMEDY: (
        "write it with + and the country code, or import with --national where no number of the file has lost its +"
    ),
    options.ID_REMEDY: "write a UUID, or leave it out",
    options.TIME_REMEDY: TIME_REMEDY,
    variables.OBJECT_REMEDY: 'write an object, e.g. {"customer_name": "Ada"}',
}
_CHANGED: Final = FieldError(
    "row",
    "was imported before, with other values: it, the mapping or a default has changed since",
    "import it as a batch of its own with --again, or under another id if it names one, if this person is to be called "
    "once more",
)
_TYPE: Final = re.compile(r"is of type (\w+), not (.+)")
_KINDS: Final = {
    "str": "text",
    "int": "a number",
    "float": "a number",
    "bool": "true or false",
    "NoneType": "null",
    "list": "a list",
    "dict": "an object",
    "an integer": "a whole number",
    "a bool": "true or false",
    "a mapping": "an object",
}


def in_file_words(faults: Iterable[FieldError]) -> tuple[FieldError, ...]:
    """Return the faults in the words of a person who can change the file: `MAX_FAULTS` of them, and how many more."""
    told = tuple(map(_in_file_words, faults))
    if len(told) <= MAX_FAULTS:
        return told
    more = FieldError("row", f"has {len(told) - MAX_FAULTS} more faults", "mend those that are named first")
    return (*told[:MAX_FAULTS], more)


def _in_file_words(fault: FieldError) -> FieldError:
    if fault.remedy == candidate.CHANGED_REMEDY or fault.fault == candidate.CHANGED_UNDER_ID:
        return _CHANGED
    found = _TYPE.fullmatch(fault.fault)
    told = fault.fault if found is None else f"is {_kind(found[1])}, not {_kind(found[2])}"
    remedy = _REMEDIES.get(fault.remedy) or re.sub(r"^pass\b", "write", fault.remedy)
    return FieldError(fault.field, told, remedy)


def _kind(name: str) -> str:
    return _KINDS.get(name, name)


class Uncollected:
    """Counts the refused rows where only the record of the import keeps them."""

    def __init__(self) -> None:
        self.count = 0

    def add(self, row: Row, faults: Iterable[FieldError]) -> None:  # noqa: ARG002 - as `Rejects`
        """Count a row."""
        self.count += 1

    def forget_earlier(self) -> None:
        """There is no file."""

    def close(self) -> None:
        """There is no file."""


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
        """Write a line for each fault, the first with the original row. Raises `UnwritableRejects`."""
        self.count += 1
        try:
            if self._file is None:
                self._file = self._open()
                csv.writer(self._file).writerow(HEADER)
            writer = csv.writer(self._file)
            for position, fault in enumerate(faults):
                cells = (fault.field, fault.fault, fault.remedy, "" if position else row.text)
                writer.writerow((row.line, *map(safe_cell, cells)))
        except OSError as error:
            raise self._unwritable(error) from None

    def forget_earlier(self) -> None:
        """Remove the file of an earlier import if this one refused nothing."""
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
        self._check_place()  # again: a file may have been put there since
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
