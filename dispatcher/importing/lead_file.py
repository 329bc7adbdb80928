"""A file of leads: its rows, how one becomes a lead, and the id that makes importing it twice harmless."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import islice
from pathlib import PurePath
from typing import Final
from uuid import UUID, uuid4

from dispatcher.errors import InvalidLead
from dispatcher.importing import imports
from dispatcher.importing.columns import Columns, ImportOptions, columns_of
from dispatcher.importing.json_lines import JsonLeads, json_leads, json_rows
from dispatcher.importing.row import Row
from dispatcher.importing.source import Source, UnreadableFile
from dispatcher.importing.table import read_header
from dispatcher.lead.candidate import BatchIds, read_items
from dispatcher.operator.edited_rows import MARKS
from dispatcher.store.database import Database
from dispatcher.store.pseudonym import Pseudonyms


@dataclass(frozen=True, slots=True)
class RowIds:
    """The ids of the rows of one batch. Picklable."""

    account: str
    batch_id: UUID
    _series: dict[int, BatchIds] = field(default_factory=dict, repr=False, compare=False)  # what was made so far

    def __call__(self, index: int, campaign_id: int) -> UUID:
        """Return the id of the row at `index`, 0-based, empty rows left out, where it goes into this campaign."""
        return self.of_campaign(campaign_id)(index)

    def of_campaign(self, campaign_id: int) -> BatchIds:
        """Return what derives the ids of the rows that go into this campaign."""
        series = self._series.get(campaign_id)
        if series is None:
            series = BatchIds.of(self.account, uuid_of(f"{self.batch_id}:{campaign_id}"))
            self._series[campaign_id] = series
        return series


def uuid_of(name: str) -> UUID:
    """Return the UUIDv8 of a name: 122 bits of its SHA-256."""
    bits = int.from_bytes(sha256(name.encode()).digest()[:16])
    return UUID(int=bits & ~(0xF << 76) & ~(0x3 << 62) | 8 << 76 | 2 << 62)


_JSON_SUFFIXES: Final = frozenset({".jsonl", ".ndjson"})
_TABLE_SUFFIXES: Final = frozenset({".csv", ".tsv"})
_MOST_EMPTY_LINES: Final = 1000
_FIRST_ROWS: Final = 20


@dataclass(frozen=True, slots=True)
class LeadFile:
    """An opened file.

    read    makes a lead of a row; picklable
    form    what the file was taken for, e.g. `table parted by “;”`
    notes   what a person should know before the import, in whole sentences
    """

    rows: Iterator[Row]
    read: Columns | JsonLeads
    form: str
    ids: RowIds
    notes: tuple[str, ...] = ()


@contextmanager
def open_leads(source: Source, options: ImportOptions, batch_id: UUID | None = None) -> Iterator[LeadFile]:
    """Open the rows of the source, by default in the batch of its content. Raises `UnreadableFile`."""
    ids = RowIds(options.account, batch_id or _batch_id(source, options))
    if source.sheet is not None:
        sheet = source.sheet
        yield _of_table(sheet.header, lambda _: sheet.all_rows(), sheet.form, sheet.notes, options, ids)
        return
    encoding = source.encoding.name
    with source.text() as text:
        lines, is_json = _peeked(source.name, text)
        if is_json:
            first, rows = _first(json_rows(lines, encoding))
            read = json_leads(options)
            yield LeadFile(rows, read, "JSON lines", ids, (*read.notes, *_other_campaigns(first, read, options)))
            return
        table = read_header(lines, encoding)
        form = f"table parted by {'tab' if table.delimiter == chr(9) else f'“{table.delimiter}”'}"
        yield _of_table(table.header, lambda phone: table.rows(lines, phone), form, (), options, ids)


def header_of(source: Source) -> tuple[str, ...]:
    """Return the names of a table's columns; none of JSON Lines. Raises `UnreadableFile`."""
    with open_table(source) as (header, _):
        return header


@contextmanager
def open_table(source: Source) -> Iterator[tuple[tuple[str, ...], Iterator[Row]]]:
    """Return the header and the rows of a table as they stand; none of JSON Lines. Raises `UnreadableFile`."""
    if source.sheet is not None:
        yield source.sheet.header, source.sheet.all_rows()
        return
    with source.text() as text:
        lines, is_json = _peeked(source.name, text)
        if is_json:
            yield (), iter(())
            return
        table = read_header(lines, source.encoding.name)
        phone = table.header.index("phone_number") if "phone_number" in table.header else 0
        yield table.header, table.rows(lines, phone)


def is_edited_export(source: Source) -> bool:
    """Return whether a table is an export of failed leads. Raises `UnreadableFile` where one of its marks is gone."""
    try:
        marks = MARKS & set(header_of(source))
    except UnreadableFile:  # told where the leads are opened
        return False
    if marks and marks != MARKS:
        [missing] = MARKS - marks
        raise UnreadableFile(
            f"{source.name} is an export of failed leads without its column {missing}; put the column back, or export "
            "the leads again: dispatcher failed --export FILE --reveal"
        )
    return bool(marks)


def _of_table(
    header: tuple[str, ...],
    rows_of: Callable[[int], Iterator[Row]],
    form: str,
    notes: tuple[str, ...],
    options: ImportOptions,
    ids: RowIds,
) -> LeadFile:
    """Return the leads of a table; `rows_of` returns its rows by the position of the phone number."""
    if MARKS & set(header):
        raise UnreadableFile(
            "This is an export of failed leads: it corrects them, and makes no new ones. Take it back with "
            "`dispatcher import FILE` on the command line."
        )
    phone = columns_of(header, options).fields["phone_number"]
    first, rows = _first(rows_of(phone))
    read = columns_of(header, options, first)
    return LeadFile(rows, read, form, ids, (*notes, *read.notes, *_other_campaigns(first, read, options)))


def _first(rows: Iterator[Row]) -> tuple[list[Row], Iterator[Row]]:
    """Return the first rows, and all of them; a row that cannot be read raises `UnreadableFile` at its place."""
    first: list[Row] = []
    failures: list[UnreadableFile] = []
    try:
        first.extend(islice(rows, _FIRST_ROWS))  # keeps those before a failure
    except UnreadableFile as error:
        failures.append(error)

    def all_rows() -> Iterator[Row]:
        yield from first
        if failures:
            raise failures[0]
        yield from rows

    return first, all_rows()


def _other_campaigns(rows: list[Row], read: Columns | JsonLeads, options: ImportOptions) -> list[str]:
    named = set()
    for row in rows if options.campaign_id is not None else ():
        with suppress(InvalidLead):
            named.add(read(row)[0].get("campaign_id"))
    if named <= {options.campaign_id}:
        return []
    told = (
        f"Rows that name another campaign than {options.campaign_id} go into that one: --campaign is of rows that name "
        "none. To send all into one campaign, map the column to a variable, e.g. --map source=campaign_id."
    )
    return [told]


def _batch_id(source: Source, options: ImportOptions) -> UUID:
    """Return the UUIDv8 of the content.

    The options are no part of it, on purpose. After `--country` is corrected, say, the same file takes in the rows that
    were refused before and finds the others stored; where a changed mapping would submit a row with another payload,
    the row is refused instead of being called twice.
    """
    return uuid4() if options.again else uuid_of(source.digest)


def _peeked(name: str, text: Iterator[str]) -> tuple[Iterator[str], bool]:
    """Return the same lines, and whether they are JSON: by the name, else by the first character."""
    head: list[str] = []
    for line in islice(text, _MOST_EMPTY_LINES):
        head.append(line)
        if line.strip():
            break
    lines = itertools.chain(head, text)
    suffix = PurePath(name.lower().removesuffix(".gz")).suffix
    if suffix in _TABLE_SUFFIXES:
        return lines, False
    first = head[-1].strip() if head else ""
    if first.startswith("[") or first == "{":
        way_out = f"write one object a line, e.g. jq -c '{'.[]' if first.startswith('[') else '.'}' FILE > leads.jsonl"
        raise UnreadableFile(f"{name} is JSON over several lines or in a list; {way_out}.")
    return lines, suffix in _JSON_SUFFIXES or first.startswith("{")


_CHUNK_ITEMS: Final = 2000
_WAY_OUT: Final = (
    "Nothing was stored now. Leave the rows that are done where they were and put new ones at the end, "
    "or import the new ones as a file of their own."
)


def refuse_moved_rows(database: Database, file: LeadFile, account: str, pseudonyms: Pseudonyms) -> None:
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
        moved = [lead_id for lead_id, hashes in stored.items() if not _says(said.get(lead_id), hashes, pseudonyms)]
        if moved:
            line = min(rows[BatchIds.place(lead_id) - index].line for lead_id in moved)
            raise UnreadableFile(f"The row at line {line} is not the one that its batch has stored. {_WAY_OUT}")
        index = following


def _says(payload_hash: str | None, stored: Iterable[str], pseudonyms: Pseudonyms) -> bool:
    return payload_hash is not None and any(pseudonyms.is_of(one, payload_hash) for one in stored)


def _end(last: UUID | None) -> int:
    return 0 if last is None else BatchIds.place(last) + 1
