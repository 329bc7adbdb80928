"""A file of leads, read row by row: CSV with a header, or JSON Lines. It may be larger than memory."""

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from dispatcher.errors import DispatcherError

REQUIRED: Final = ("phone_number", "campaign_id")


@dataclass(frozen=True, slots=True)
class LeadRow:
    """One row. `lead` is what `submit` takes, or None where the row cannot even be read; `fault` says why then."""

    line: int  # 1-based; of a CSV row that spans lines, the last
    text: str
    lead: Mapping[str, Any] | None
    fault: str = ""


def read_rows(path: Path) -> Iterator[LeadRow]:
    """Every row but empty ones. Raises `DispatcherError` where the file as a whole cannot be read."""
    try:
        if path.suffix.lower() in {".jsonl", ".ndjson"}:
            yield from _json_lines(path)
        else:
            yield from _csv(path)
    except OSError as error:
        raise DispatcherError(f"{path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise DispatcherError(f"{path} is not UTF-8; save it as UTF-8 and import it again.") from None
    except csv.Error as error:
        raise DispatcherError(f"{path} is not CSV: {error}.") from None


def _csv(path: Path) -> Iterator[LeadRow]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        names = [name.strip() for name in reader.fieldnames or ()]
        missing = [name for name in REQUIRED if name not in names]
        if missing:
            raise DispatcherError(
                f"{path} has no column {' and no column '.join(missing)}; its first line must be a header such as "
                "phone_number,campaign_id,customer_name."
            )
        reader.fieldnames = names
        for row in reader:
            yield _of_csv(reader.line_num, row)


def _of_csv(line: int, row: dict[str | Any, Any]) -> LeadRow:
    text = ",".join(str(value) for value in row.values() if value is not None)
    if row.pop(None, None) is not None or None in row.values():
        return LeadRow(line, text, None, "has not as many cells as the header; quote cells that contain a comma")
    campaign = row["campaign_id"].strip()
    lead = {
        "phone_number": row["phone_number"].strip(),
        # What is no number stays as it is, so that the fault names it.
        "campaign_id": int(campaign) if campaign.isascii() and campaign.isdigit() and len(campaign) < 20 else campaign,
        # An empty cell is no variable: CSV cannot tell it from a missing one.
        "variables": {name: value for name, value in row.items() if name not in REQUIRED and value != ""},
    }
    return LeadRow(line, text, lead)


def _json_lines(path: Path) -> Iterator[LeadRow]:
    with path.open(encoding="utf-8-sig") as file:
        for number, raw in enumerate(file, start=1):
            text = raw.strip()
            if text:
                yield _of_json(number, text)


def _of_json(number: int, text: str) -> LeadRow:
    try:
        lead = orjson.loads(text)
    except orjson.JSONDecodeError:
        return LeadRow(number, text, None, "is not JSON; write one object a line")
    if not isinstance(lead, dict):
        return LeadRow(number, text, None, "is not a JSON object; write one object a line")
    return LeadRow(number, text, lead)
