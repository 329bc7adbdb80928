"""A file of leads: its rows, how one becomes a lead, and the id that makes importing it twice harmless."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import PurePath
from typing import Any, Final
from uuid import UUID, uuid4

from dispatcher.importing.columns import columns_of
from dispatcher.importing.json_lines import json_leads, json_rows
from dispatcher.importing.refusal import UnreadableFile
from dispatcher.importing.row import Row
from dispatcher.importing.source import Source
from dispatcher.importing.table import read_header
from dispatcher.importing.terms import ImportTerms

_JSON_SUFFIXES: Final = frozenset({".jsonl", ".ndjson"})
_TABLE_SUFFIXES: Final = frozenset({".csv", ".tsv"})
_PEEK: Final = 50  # lines


@dataclass(frozen=True, slots=True)
class LeadFile:
    """An opened file. `read` is picklable; `form` says what it was taken for, e.g. `table parted by “;”`."""

    rows: Iterator[Row]
    read: Callable[[Row], tuple[dict[str, Any], dict[str, Any]]]
    form: str


@contextmanager
def open_leads(source: Source, terms: ImportTerms) -> Iterator[LeadFile]:
    """The rows of the source from its beginning. Raises `UnreadableFile`."""
    with source.text() as text:
        lines, is_json = _peeked(source.name, text)
        if is_json:
            yield LeadFile(json_rows(lines), json_leads(terms), "JSON lines")
        else:
            table = read_header(lines)
            delimiter = {"\t": "tab"}.get(table.delimiter, f"“{table.delimiter}”")
            columns = columns_of(table.header, terms)
            rows = table.rows(lines, columns.fields["phone_number"])
            yield LeadFile(rows, columns, f"table parted by {delimiter}")


def batch_id_of(source: Source, terms: ImportTerms) -> UUID:
    """The same for the same content in the same campaign: UUIDv8 of both.

    Other terms are no part of it, on purpose. After `--country` is corrected, say, the same file takes in the rows that
    were refused before and finds the others stored; where a changed mapping would submit a row with another payload,
    the row is refused instead of being called twice. The account is mixed in where ids are derived.
    """
    if terms.again:
        return uuid4()
    digest = sha256(f"{source.digest}:{terms.campaign_id}".encode()).digest()
    bits = int.from_bytes(digest[:16])
    return UUID(int=bits & ~(0xF << 76) & ~(0x3 << 62) | 8 << 76 | 2 << 62)


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
