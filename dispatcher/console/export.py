"""Failed leads as a file: CSV for spreadsheets, JSON for programs."""

from collections.abc import Iterator, Sequence
from typing import Final

import orjson
from starlette.responses import Response, StreamingResponse

from dispatcher.records.ledger import RejectedRow
from dispatcher.records.record import FailedLead
from dispatcher.records.spreadsheet import csv_table

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


def response(rows: Sequence[FailedLead], kind: str, *, reveal: bool) -> Response:
    """The file, to be saved."""
    headers = {"Content-Disposition": f'attachment; filename="failed-leads.{kind}"'}
    if kind == "json":
        return StreamingResponse(_json(rows, reveal=reveal), media_type="application/json", headers=headers)
    return StreamingResponse(_csv(rows, reveal=reveal), media_type="text/csv; charset=utf-8", headers=headers)


def rejected(rows: Sequence[RejectedRow], *, reveal: bool) -> Response:
    """The refused rows of an import, to be saved."""
    header = ["line", "field", "reason", *(["row"] if reveal else [])]
    cells = ([row.line, row.field, row.reason, *([row.original] if reveal else [])] for row in rows)
    headers = {"Content-Disposition": 'attachment; filename="rejected-rows.csv"'}
    return StreamingResponse(csv_table(header, cells), media_type="text/csv; charset=utf-8", headers=headers)


def _csv(rows: Sequence[FailedLead], *, reveal: bool) -> Iterator[str]:
    told = (row.as_dict(reveal=reveal) for row in rows)
    return csv_table(COLUMNS, ([one[column] for column in COLUMNS] for one in told))


def _json(rows: Sequence[FailedLead], *, reveal: bool) -> Iterator[bytes]:
    yield b'{"items":['
    for place, row in enumerate(rows):
        yield (b",\n" if place else b"\n") + orjson.dumps(row.as_dict(reveal=reveal))
    yield b"\n]}\n"
