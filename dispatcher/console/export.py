"""Failed leads as a file: CSV for spreadsheets, JSON for programs.

A spreadsheet runs what begins like a formula, and so would a lead's name (CWE-1236): in the CSV such cells begin with
an apostrophe. E.164 numbers begin with `+` and get one too, which keeps their zeros; the JSON has them as they are.
"""

import csv
import io
from collections.abc import Iterator, Sequence
from typing import Final

import orjson
from starlette.responses import Response, StreamingResponse

from dispatcher.records.ledger import RejectedRow
from dispatcher.records.record import FailedLead

COLUMNS: Final = (
    "lead_id",
    "failed_at",
    "account",
    "campaign_id",
    "phone_number",
    "failure_class",
    "http_status",
    "message",
    "attempts",
    "fingerprint",
    "resolved_at",
    "resolution",
    "resolved_by",
    "note",
)

_FORMULA: Final = tuple("=+-@\t\r\n\0;|%＝＋－＠")  # full-width forms count too


def response(rows: Sequence[FailedLead], kind: str, *, reveal: bool) -> Response:
    """The file, to be saved."""
    headers = {"Content-Disposition": f'attachment; filename="failed-leads.{kind}"'}
    if kind == "json":
        return StreamingResponse(_json(rows, reveal=reveal), media_type="application/json", headers=headers)
    return StreamingResponse(_csv(rows, reveal=reveal), media_type="text/csv; charset=utf-8", headers=headers)


def rejected(rows: Sequence[RejectedRow], *, reveal: bool) -> Response:
    """The refused rows of an import, to be saved."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow(["line", "field", "reason", *(["row"] if reveal else [])])
    for row in rows:
        writer.writerow(map(safe_cell, [row.line, row.field, row.reason, *([row.original] if reveal else [])]))
    headers = {"Content-Disposition": 'attachment; filename="rejected-rows.csv"'}
    return Response(buffer.getvalue(), media_type="text/csv; charset=utf-8", headers=headers)


def safe_cell(value: object) -> str:
    """A cell that no spreadsheet takes for a formula."""
    text = "" if value is None else str(value)
    return f"'{text}" if text.lstrip(" ").startswith(_FORMULA) or text.startswith(_FORMULA) else text


def _csv(rows: Sequence[FailedLead], *, reveal: bool) -> Iterator[str]:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")  # RFC 4180
    writer.writerow(COLUMNS)
    for row in rows:
        values = row.as_dict(reveal=reveal)
        writer.writerow([safe_cell(values[column]) for column in COLUMNS])
        if buffer.tell() > 65_536:
            yield buffer.getvalue()
            buffer.seek(0)
            buffer.truncate()
    yield buffer.getvalue()


def _json(rows: Sequence[FailedLead], *, reveal: bool) -> Iterator[bytes]:
    yield b'{"items":['
    for place, row in enumerate(rows):
        yield (b",\n" if place else b"\n") + orjson.dumps(row.as_dict(reveal=reveal))
    yield b"\n]}\n"
