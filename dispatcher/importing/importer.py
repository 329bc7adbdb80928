"""Imports files of leads: a plan that changes nothing, and the import itself, which may be repeated at any time."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID

from dispatcher.config.rate import RateWindow
from dispatcher.importing.faults import in_file_words
from dispatcher.importing.lead_file import batch_id_of, open_leads
from dispatcher.importing.plan import Plan, Planner
from dispatcher.importing.refusal import UnreadableFile
from dispatcher.importing.rejects import Rejects
from dispatcher.importing.row import Row
from dispatcher.importing.source import Source
from dispatcher.importing.terms import ImportTerms
from dispatcher.intake.bulk import Bulk, ChunkResult
from dispatcher.store import imports
from dispatcher.store.database import Database
from dispatcher.store.imports import RejectedField

Progress = Callable[["ImportResult"], None]


@dataclass(frozen=True, slots=True)
class ImportResult:
    """What an import has done so far, or in all.

    rows       rows that are done; empty ones do not count
    repeated   rows that an earlier import of this file had taken in, or whose key was known
    seconds    since it began
    """

    batch_id: UUID
    rows: int = 0
    submitted: int = 0
    duplicates: int = 0
    repeated: int = 0
    rejected: int = 0
    seconds: float = 0.0
    form: str = ""
    encoding: str = ""

    @property
    def rows_per_second(self) -> float:
        """The mean so far."""
        return self.rows / self.seconds if self.seconds else 0.0


class Importer:
    """Imports into one store. `clock` is monotonic and counts seconds."""

    def __init__(
        self,
        bulk: Bulk,
        database: Database,
        rate_limit: tuple[RateWindow, ...],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bulk = bulk
        self._database = database
        self._rate_limit = rate_limit
        self._clock = clock

    def plan(self, source: Source, terms: ImportTerms, batch_id: UUID | None = None) -> Plan:
        """Say what an import would do; nothing is stored. `batch_id` as for `run`. Raises `UnreadableFile`."""
        batch_id = batch_id or batch_id_of(source, terms)
        with open_leads(source, terms) as file, closing(Planner(self._database, terms, self._rate_limit)) as planner:
            return planner.plan(file, batch_id, source.encoding)

    def run(
        self,
        source: Source,
        terms: ImportTerms,
        rejected_path: Path,
        progress: Progress = lambda _: None,
        batch_id: UUID | None = None,
    ) -> ImportResult:
        """Import; cut short at any moment, the same again goes on. Raises `UnreadableFile`, `StoreUnavailable`.

        `rejected_path` gets the refused rows, if any; `progress` is called after every chunk, in this thread;
        `batch_id` is that of an import to go on with, where it is not the one of the file's content.
        """
        began = self._clock()
        batch_id = batch_id or batch_id_of(source, terms)
        with open_leads(source, terms) as file, closing(Rejects(rejected_path, source)) as rejects:
            with self._database.transaction() as connection:
                import_id = imports.begin(connection, batch_id, source.name, terms.account, terms.actor)
            rows = _InFlight(file.rows)
            done = ImportResult(batch_id, form=file.form, encoding=source.encoding)
            chunks = self._bulk.stream(
                rows, account=terms.account, batch_id=batch_id, read=file.read, workers=terms.workers
            )
            try:
                with closing(chunks):
                    for chunk in chunks:
                        self._note(import_id, chunk, rows, rejects)
                        done = replace(_added(done, chunk), seconds=self._clock() - began)
                        progress(done)
            except UnreadableFile as error:
                raise _cut_short(error, done) from None
            with self._database.transaction() as connection:
                imports.finish(connection, import_id)
            rejects.forget_earlier()
        return replace(done, seconds=self._clock() - began)

    def _note(self, import_id: int, chunk: ChunkResult, rows: "_InFlight", rejects: Rejects) -> None:
        fields: list[RejectedField] = []
        for index, refused in chunk.rejected:
            row, faults = rows[index], in_file_words(refused)
            rejects.add(row, faults)
            if rejects.count <= imports.MAX_REJECTIONS:
                reasons = ((fault.field, f"{fault.fault}; {fault.remedy}") for fault in faults)
                fields += [RejectedField(row.line, field, reason, row.text) for field, reason in reasons]
        rows.forget(chunk.items)
        with self._database.transaction() as connection:
            imports.add(
                connection,
                import_id,
                submitted=chunk.submitted,
                duplicates=chunk.duplicates,
                repeated=chunk.repeated,
                rejected=len(chunk.rejected),
                fields=fields,
            )


def _cut_short(error: UnreadableFile, done: ImportResult) -> UnreadableFile:
    if not done.rows:
        return error
    return UnreadableFile(
        f"{error} The first {done.rows:,} rows are done; mend the file and go on with --batch {done.batch_id}."
    )


class _InFlight:
    """Rows by their index, from when they are read until their chunk is done."""

    def __init__(self, rows: Iterator[Row]) -> None:
        self._rows = rows
        self._kept: deque[Row] = deque()
        self._forgotten = 0

    def __iter__(self) -> Iterator[Row]:
        for row in self._rows:
            self._kept.append(row)
            yield row

    def __getitem__(self, index: int) -> Row:
        return self._kept[index - self._forgotten]

    def forget(self, end: int) -> None:
        """Drop the rows before `end`."""
        while self._forgotten < end:
            self._kept.popleft()
            self._forgotten += 1


def _added(done: ImportResult, chunk: ChunkResult) -> ImportResult:
    return replace(
        done,
        rows=chunk.items,
        submitted=done.submitted + chunk.submitted,
        duplicates=done.duplicates + chunk.duplicates,
        repeated=done.repeated + chunk.repeated,
        rejected=done.rejected + len(chunk.rejected),
    )
