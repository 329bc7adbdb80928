"""A file of leads: its rows, how one becomes a lead, and the id that makes importing it twice harmless."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import islice
from pathlib import PurePath
from typing import Any, Final
from uuid import UUID, uuid4

from dispatcher.importing import imports
from dispatcher.importing.columns import ImportTerms, columns_of
from dispatcher.importing.json_lines import json_leads, json_rows
from dispatcher.importing.source import Row, Source, UnreadableFile
from dispatcher.importing.table import read_header
from dispatcher.lead.candidate import BatchIds, read_items
from dispatcher.store.database import Database


@dataclass(frozen=True, slots=True)
class RowIds:
    """The ids of the rows of one batch. Picklable."""

    account: str
    batch_id: UUID
    _series: dict[int, BatchIds] = field(default_factory=dict, repr=False, compare=False)  # what was made so far

    def __call__(self, index: int, campaign_id: int) -> UUID:
        """The id of the row at `index`, 0-based, empty rows left out, where it goes into this campaign."""
        return self.of_campaign(campaign_id)(index)

    def of_campaign(self, campaign_id: int) -> BatchIds:
        """Those of the rows that go into this campaign, by their index."""
        series = self._series.get(campaign_id)
        if series is None:
            series = BatchIds.of(self.account, uuid_of(f"{self.batch_id}:{campaign_id}"))
            self._series[campaign_id] = series
        return series


def uuid_of(name: str) -> UUID:
    """UUIDv8, 122 bits of SHA-256."""
    bits = int.from_bytes(sha256(name.encode()).digest()[:16])
    return UUID(int=bits & ~(0xF << 76) & ~(0x3 << 62) | 8 << 76 | 2 << 62)


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


_CHUNK_ITEMS: Final = 2000
_WAY_OUT: Final = (
    "Nothing was stored now. Leave the rows that are done where they were and put new ones at the end, "
    "or import the new ones as a file of their own."
)


def refuse_moved_rows(database: Database, file: LeadFile, account: str) -> None:
    """Raise `UnreadableFile` unless each row that the batch has stored says, at its place, what it said.

    Rows that were refused may have been mended, rows may have been added at the end, and a lead that was corrected
    since counts by what its row said. Reads the file as far as it is stored.
    """
    with database.transaction() as connection:
        campaigns = imports.campaigns(connection, account, file.ids.batch_id)
        series = [file.ids.of_campaign(campaign_id) for campaign_id in campaigns]
        end = max((_end(imports.last_id(connection, ids(0), ids.last)) for ids in series), default=0)
    index = 0
    while index < end:
        rows = list(islice(file.rows, _CHUNK_ITEMS))
        if not rows:
            raise UnreadableFile(f"The file has fewer rows than its batch has stored. {_WAY_OUT}")
        candidates, _ = read_items(rows, index, file.ids, file.read)
        said = {candidate.id: candidate.payload_hash for candidate in candidates}
        following = index + len(rows)
        stored: dict[UUID, set[str]] = {}
        with database.transaction() as connection:
            for ids in series:
                stored |= imports.payloads(connection, ids(index), ids(following - 1))
        moved = [lead_id for lead_id, hashes in stored.items() if said.get(lead_id) not in hashes]
        if moved:
            line = min(rows[BatchIds.place(lead_id) - index].line for lead_id in moved)
            raise UnreadableFile(f"The row at line {line} is not the one that its batch has stored. {_WAY_OUT}")
        index = following


def _end(last: UUID | None) -> int:
    return 0 if last is None else BatchIds.place(last) + 1
