"""A file of leads: its rows, how one becomes a lead, and the id that makes importing it twice harmless."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Final
from uuid import UUID, uuid4

from dispatcher.importing.columns import columns_of
from dispatcher.importing.json_lines import json_leads, json_rows
from dispatcher.importing.refusal import UnreadableFile
from dispatcher.importing.row import Row
from dispatcher.importing.row_ids import RowIds, uuid_of
from dispatcher.importing.source import Source
from dispatcher.importing.table import read_header
from dispatcher.importing.terms import ImportTerms

Read = Callable[[Row], tuple[dict[str, Any], dict[str, Any]]]

_JSON_SUFFIXES: Final = frozenset({".jsonl", ".ndjson"})
_TABLE_SUFFIXES: Final = frozenset({".csv", ".tsv"})
_PEEK: Final = 50  # lines


@dataclass(frozen=True, slots=True)
class LeadFile:
    """An opened file. `read` is picklable; `form` says what it was taken for, e.g. `table parted by “;”`."""

    rows: Iterator[Row]
    read: Read
    form: str
    ids: RowIds


@contextmanager
def open_leads(source: Source, terms: ImportTerms, batch_id: UUID | None = None) -> Iterator[LeadFile]:
    """The rows of the source from its beginning, in the batch of its content by default. Raises `UnreadableFile`."""
    ids = RowIds(terms.account, batch_id or _batch_id(source, terms))
    with source.text() as text:
        lines, is_json = _peeked(source.name, text)
        if is_json:
            yield LeadFile(json_rows(lines), json_leads(terms), "JSON lines", ids)
            return
        table = read_header(lines)
        columns = columns_of(table.header, terms)
        rows = table.rows(lines, columns.fields["phone_number"])
        delimiter = {"\t": "tab"}.get(table.delimiter, f"“{table.delimiter}”")
        yield LeadFile(rows, columns, f"table parted by {delimiter}", ids)


def _batch_id(source: Source, terms: ImportTerms) -> UUID:
    """UUIDv8 of the content.

    The terms are no part of it, on purpose. After `--country` is corrected, say, the same file takes in the rows that
    were refused before and finds the others stored; where a changed mapping would submit a row with another payload,
    the row is refused instead of being called twice.
    """
    return uuid4() if terms.again else uuid_of(source.digest)


def _peeked(name: str, text: Iterator[str]) -> tuple[Iterator[str], bool]:
    """The same lines, and whether they are JSON: by the name, else by the first character."""
    head = list(itertools.islice(text, _PEEK))
    lines = itertools.chain(head, text)
    suffix = PurePath(name.lower().removesuffix(".gz")).suffix
    if suffix in _TABLE_SUFFIXES:
        return lines, False
    first = next((line.strip() for line in head if line.strip()), "")
    if first.startswith("[") or first == "{":
        way_out = f"write one object a line, e.g. jq -c '{'.[]' if first.startswith('[') else '.'}' FILE > leads.jsonl"
        raise UnreadableFile(f"{name} is JSON over several lines or in a list; {way_out}.")
    return lines, suffix in _JSON_SUFFIXES or first.startswith("{")
