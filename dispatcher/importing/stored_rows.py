"""The rows that a batch has stored: where it goes on with a changed file, they must stand where they stood.

Ids are derived from a row's place. Were rows moved, those that are stored would be met by others and refused, but one
that slips to a place that nothing is stored for would be stored, and its person called, once more.
"""

from itertools import islice
from typing import Final
from uuid import UUID

from dispatcher.importing.lead_file import LeadFile
from dispatcher.importing.refusal import UnreadableFile
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
