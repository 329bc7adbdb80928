"""CSV for spreadsheets (RFC 4180), with cells that none takes for a formula (CWE-1236; OWASP, CSV injection).

A spreadsheet runs what begins like a formula, and so would a lead's name: such cells begin with an apostrophe. E.164
numbers begin with `+` and get one too, which keeps their zeros; JSON has them as they are.
"""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

_FORMULA: Final = tuple("=+-@\t\r\n\0;|%＝＋－＠")  # full-width forms count too
_PIECE_CHARACTERS: Final = 65_536


def csv_table(header: Sequence[str], rows: Iterable[Iterable[object]]) -> Iterator[str]:
    """The table as text, in pieces that are worth sending."""
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
    """The value as the text of a cell; None is an empty one."""
    text = "" if value is None else str(value)
    return f"'{text}" if text.startswith(_FORMULA) or text.lstrip(" ").startswith(_FORMULA) else text
