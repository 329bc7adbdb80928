"""CSV for spreadsheets (RFC 4180), with cells that cannot be read as formulas (CWE-1236; OWASP, CSV injection).

A spreadsheet evaluates a cell that begins like a formula, e.g. a lead's name: such cells get an apostrophe in front.
E.164 numbers begin with `+` and get one too, which also keeps their zeros; in JSON they are unchanged. What would steer
a terminal is written out, because a table is looked at there too.
"""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from dispatcher.printable import printable

_FORMULA: Final = tuple("=+-@\t\r\n\0;|%＝＋－＠")  # full-width forms count too
_PIECE_CHARACTERS: Final = 65_536


def csv_table(header: Sequence[str], rows: Iterable[Iterable[object]]) -> Iterator[str]:
    """Yield the table as text, in pieces large enough to be sent."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow(header)
    for row in rows:
        writer.writerow(map(safe_cell, row))
        if buffer.tell() > _PIECE_CHARACTERS:
            yield buffer.getvalue()
            buffer.seek(0)
            buffer.truncate()
    yield buffer.getvalue()


def safe_cell(value: object) -> str:
    """Return the value as the text of a cell; None becomes an empty cell."""
    raw = "" if value is None else str(value)
    text = printable(raw, keep="\n\t")
    return f"'{text}" if raw.startswith(_FORMULA) or raw.lstrip(" ").startswith(_FORMULA) else text
