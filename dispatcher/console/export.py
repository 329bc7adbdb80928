"""Export failed leads: CSV for spreadsheets, JSON for programs."""

import json
import shlex
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Final

import orjson
from starlette.responses import Response, StreamingResponse

from dispatcher.config.urls import endpoint
from dispatcher.importing.imports import RejectedRow
from dispatcher.lead.lead import request_body
from dispatcher.lead.masking import mask_phone
from dispatcher.operator.failures import FailedLead
from dispatcher.operator.lead_record import LeadRecord
from dispatcher.operator.record import MASKED
from dispatcher.printable import printable_json
from dispatcher.spreadsheet import csv_table

PATH = "user/lead"


def curl(record: LeadRecord, base_url: str, *, reveal: bool) -> str:
    """Return a `curl` command with the token from the environment; personal data masked unless revealed."""

    def shown(number: str) -> str:
        return number if reveal else mask_phone(number)

    def values(variables: dict[str, object]) -> dict[str, object]:
        return variables if reveal else dict.fromkeys(variables, MASKED)

    body = request_body(
        phone_number=shown(record.phone_number),
        campaign_id=record.campaign_id,
        variables=values(dict(record.variables)),  # type: ignore[arg-type]  # JSON, as it was stored
        allow_dupplicate=record.allow_dupplicate,
        secondary_contacts=[
            (shown(one.phone_number), values(dict(one.variables)))  # type: ignore[misc]  # as above
            for one in record.contacts
        ],
    )
    return " \\\n  ".join(
        [
            f"curl --request POST {shlex.quote(endpoint(base_url, PATH))}",
            '--header "Authorization: Bearer $VOICERY_API_TOKEN"',
            "--header 'Content-Type: application/json'",
            f"--data {shlex.quote(printable_json(json.dumps(body, ensure_ascii=False)))}",
        ]
    )


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
    """Return the export as a download."""
    headers = {"Content-Disposition": f'attachment; filename="failed-leads.{kind}"'}
    if kind == "json":
        return StreamingResponse(_json(rows, reveal=reveal), media_type="application/json", headers=headers)
    return StreamingResponse(_csv(rows, reveal=reveal), media_type="text/csv; charset=utf-8", headers=headers)


def to_edit(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Response:
    """Return an export to edit as a download, in UTF-8 with a mark, because spreadsheets read that."""
    headers = {"Content-Disposition": 'attachment; filename="failed-leads-to-edit.csv"'}
    text = chain(("\ufeff",), csv_table(header, rows))
    return StreamingResponse(text, media_type="text/csv; charset=utf-8", headers=headers)


def rejected(rows: Sequence[RejectedRow], *, reveal: bool) -> Response:
    """Return the rejected rows of an import as a download."""
    header = ["line", "field", "reason", *(["row"] if reveal else [])]
    names = ["line", "field", "reason", *(["original"] if reveal else [])]
    cells = ([one[name] for name in names] for one in (row.as_dict(reveal=reveal) for row in rows))
    headers = {"Content-Disposition": 'attachment; filename="rejected-rows.csv"'}
    return StreamingResponse(csv_table(header, cells), media_type="text/csv; charset=utf-8", headers=headers)


def _csv(rows: Sequence[FailedLead], *, reveal: bool) -> Iterator[str]:
    records = (row.as_dict(reveal=reveal) for row in rows)
    return csv_table(COLUMNS, ([one[column] for column in COLUMNS] for one in records))


def _json(rows: Sequence[FailedLead], *, reveal: bool) -> Iterator[bytes]:
    yield b'{"items":['
    for place, row in enumerate(rows):
        yield (b",\n" if place else b"\n") + printable_json(orjson.dumps(row.as_dict(reveal=reveal)).decode()).encode()
    yield b"\n]}\n"
