"""A row of a file: its text, its cells, and what a cell means that a spreadsheet wrote."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from dispatcher.errors import FieldError, InvalidLead
from dispatcher.importing.encoding import BROKEN
from dispatcher.lead.lead import Lead
from dispatcher.lead.options import SubmitOptions

TIME_REMEDY: Final = "write the date, the time and its distance from UTC, e.g. 2026-11-23T14:00+01:00"

_WHOLE: Final = re.compile(r"([+-]?\d{1,19})(?:[.,]0{1,2})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Row:
    """`line` is 1-based, the first of the row's; `text` as it stood; `cells` of a table, empty for a line of JSON.

    `fault` says why the row's cells cannot be told apart, or are not to be trusted.
    """

    line: int
    text: str
    cells: tuple[str, ...] = ()
    fault: FieldError | None = None

    def __repr__(self) -> str:
        return f"Row(line={self.line})"


def broken_bytes(text: str, field: str, encoding: str) -> FieldError | None:
    """Return the fault of a text that holds bytes which its encoding does not have; None without any."""
    found = None if text.isascii() else BROKEN.search(text)
    if found is None:
        return None
    return FieldError(
        field,
        f"holds a byte that is not {encoding}: 0x{ord(found.group()) & 0xFF:02X}",
        "mend the text, or name the encoding of the whole file with --encoding",
    )


def without_broken_bytes(text: str) -> str:
    """Return the text as it can be stored and shown: U+FFFD stands for what could not be read."""
    return text if text.isascii() else BROKEN.sub("\ufffd", text)


def whole_of_cell(cell: str) -> int | str:
    """Return the number; what is none stays as it is, so that the lead or its options name the fault."""
    found = _WHOLE.fullmatch(cell)
    return cell if found is None else int(found[1])


def moment_of_cell(cell: str, field: str) -> datetime | FieldError:
    """Return the time, written in ISO 8601. One without its zone is refused: whose clock was meant is unknown."""
    try:
        moment = datetime.fromisoformat(cell)
    except ValueError:
        return FieldError(field, "is not a time in ISO 8601", TIME_REMEDY)
    if moment.utcoffset() is None:
        return FieldError(field, "has no time zone", TIME_REMEDY)
    return moment


def all_of(own: Iterable[FieldError], lead: Mapping[str, Any], given: Mapping[str, Any]) -> list[FieldError]:
    """Return the faults that only a file can have, then those of the lead and its options, a field's once."""
    faults = list(own)
    named = {fault.field for fault in faults}
    for parse, value in ((Lead.parse, lead), (SubmitOptions.parse, given)):
        try:
            parse(value)
        except InvalidLead as refusal:
            faults += [fault for fault in refusal.errors if fault.field not in named]
    return faults
