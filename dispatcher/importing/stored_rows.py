"""The rows that a batch has stored: where it goes on with a changed file, they must stand where they stood.

Ids are derived from a row's place. Were rows moved, those that are stored would be met by others and refused, but one
that slips to a place that nothing is stored for would be stored, and its person called, once more.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Final
from uuid import UUID

from dispatcher.importing.lead_file import LeadFile
from dispatcher.importing.refusal import UnreadableFile
from dispatcher.importing.row import Row
from dispatcher.leads.candidate import BatchIds, read_items
from dispatcher.store import imports
from dispatcher.store.database import Database

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
    by_index = BatchIds.of(account, file.batch_id)
    by_line = file.default_ids or by_index
    with database.transaction() as connection:
        index_end, line_end = (_end(imports.last_id(connection, ids(0), ids.last)) for ids in (by_index, by_line))
    index = line = 0
    while index < index_end or (file.default_ids is not None and line < line_end):
        rows = list(islice(file.rows, _CHUNK_ITEMS))
        if not rows:
            raise UnreadableFile(f"The file has fewer rows than its batch has stored. {_WAY_OUT}")
        next_index, next_line = index + len(rows), rows[-1].line + 1
        candidates, _ = read_items(rows, index, by_index, file.read)
        said = {candidate.id: candidate.payload_hash for candidate in candidates}
        with database.transaction() as connection:
            stored = imports.payloads(connection, by_index(index), by_index(next_index - 1))
            if file.default_ids is not None:
                stored |= imports.payloads(connection, by_line(line), by_line(next_line - 1))
        moved = [lead_id for lead_id, hashes in stored.items() if said.get(lead_id) not in hashes]
        if moved:
            places = _lines(moved, rows, index, by_index)
            raise UnreadableFile(f"The row at line {min(places)} is not the one that its batch has stored. {_WAY_OUT}")
        index, line = next_index, next_line


def _end(last: UUID | None) -> int:
    return 0 if last is None else BatchIds.place(last) + 1


def _lines(moved: list[UUID], rows: list[Row], index: int, by_index: BatchIds) -> Iterator[int]:
    for lead_id in moved:
        place = BatchIds.place(lead_id)
        yield rows[place - index].line if lead_id == by_index(place) else place
