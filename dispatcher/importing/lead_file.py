"""A file of leads: its rows, how one becomes a lead, and the id that makes importing it twice harmless."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import PurePath
from typing import Any, Final
from uuid import UUID, uuid4

from dispatcher.importing.columns import Columns, columns_of
from dispatcher.importing.json_lines import JsonLeads, json_leads, json_rows
from dispatcher.importing.refusal import UnreadableFile
from dispatcher.importing.row import Row
from dispatcher.importing.source import Source
from dispatcher.importing.table import read_header
from dispatcher.importing.terms import ImportTerms
from dispatcher.leads.candidate import BatchIds

Read = Callable[[Row], tuple[dict[str, Any], dict[str, Any]]]

_JSON_SUFFIXES: Final = frozenset({".jsonl", ".ndjson"})
_TABLE_SUFFIXES: Final = frozenset({".csv", ".tsv"})
_PEEK: Final = 50  # lines


@dataclass(frozen=True, slots=True)
class LeadFile:
    """An opened file. `read` is picklable; `form` says what it was taken for, e.g. `table parted by “;”`.

    Ids are derived from `batch_id` and the row's index, but for the rows that take the default campaign where others
    may name their own: theirs from `default_ids` and the line.
    """

    rows: Iterator[Row]
    read: Read
    form: str
    batch_id: UUID
    default_ids: BatchIds | None = None


@contextmanager
def open_leads(source: Source, terms: ImportTerms, batch_id: UUID | None = None) -> Iterator[LeadFile]:
    """The rows of the source from its beginning, in the batch of its content by default. Raises `UnreadableFile`."""
    with source.text() as text:
        lines, is_json = _peeked(source.name, text)
        if is_json:
            yield _of_own_campaigns(json_rows(lines), json_leads(terms), "JSON lines", source, terms, batch_id)
            return
        table = read_header(lines)
        columns = columns_of(table.header, terms)
        rows = table.rows(lines, columns.fields["phone_number"])
        delimiter = {"\t": "tab"}.get(table.delimiter, f"“{table.delimiter}”")
        form = f"table parted by {delimiter}"
        if "campaign_id" in columns.fields:
            yield _of_own_campaigns(rows, columns, form, source, terms, batch_id)
        else:
            yield LeadFile(rows, columns, form, batch_id or _batch_id(source, terms, terms.campaign_id))


def _batch_id(source: Source, terms: ImportTerms, campaign_id: int | None) -> UUID:
    """UUIDv8 of the content, and of the campaign where no row can name one of its own: what no row uses is no part.

    Other terms are none either, on purpose. After `--country` is corrected, say, the same file takes in the rows that
    were refused before and finds the others stored; where a changed mapping would submit a row with another payload,
    the row is refused instead of being called twice. The account is mixed in where ids are derived.
    """
    return uuid4() if terms.again else _uuid_of(f"{source.digest}:{campaign_id}")


def _uuid_of(name: str) -> UUID:
    bits = int.from_bytes(sha256(name.encode()).digest()[:16])
    return UUID(int=bits & ~(0xF << 76) & ~(0x3 << 62) | 8 << 76 | 2 << 62)


def _of_own_campaigns(
    rows: Iterator[Row],
    read: Columns | JsonLeads,
    form: str,
    source: Source,
    terms: ImportTerms,
    batch_id: UUID | None,
) -> LeadFile:
    """A file whose rows may name their campaigns; those that do not take the default one, under ids of its own."""
    batch_id = batch_id or _batch_id(source, terms, None)
    if read.default is None:
        return LeadFile(rows, read, form, batch_id)
    ids = BatchIds.of(terms.account, _uuid_of(f"{batch_id}:{read.default.campaign_id}"))
    return LeadFile(rows, replace(read, default=replace(read.default, ids=ids)), form, batch_id, ids)


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
