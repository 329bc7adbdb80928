"""Imports files of leads: a plan that changes nothing, and the import itself, which may be repeated at any time."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final
from uuid import UUID

from sqlalchemy import Connection

from dispatcher.config.account import RateWindow
from dispatcher.errors import StoreUnavailable
from dispatcher.importing import imports
from dispatcher.importing.columns import ImportOptions
from dispatcher.importing.encoding import Encoding
from dispatcher.importing.imports import RejectedRow
from dispatcher.importing.lead_file import open_leads, open_table, refuse_moved_rows
from dispatcher.importing.plan import Plan, Planner
from dispatcher.importing.rejects import Rejects, Uncollected, in_file_words
from dispatcher.importing.row import Row
from dispatcher.importing.source import ImportStopped, Source, UnreadableFile, UnwritableRejects
from dispatcher.intake.bulk import REPEAT_FOR_SECONDS, BatchCutShort, Bulk, ChunkResult
from dispatcher.operator.edited_rows import Done, EditedRow, EditedRows
from dispatcher.store.database import Database
from dispatcher.store.trouble import NotPermitted

_PAUSE_SECONDS: Final = 0.1


class RunningImport:
    """Begun when it is made. Its notes outlast a short absence of Postgres, as chunks do.

    `clock` is monotonic and counts seconds; `wait` sleeps them. Every method raises `StoreUnavailable`.
    """

    def __init__(
        self,
        database: Database,
        batch_id: UUID,
        file_name: str,
        options: ImportOptions,
        clock: Callable[[], float],
        wait: Callable[[float], None],
    ) -> None:
        self._database = database
        self._clock = clock
        self._wait = wait
        self._rows = 0
        with database.transaction() as connection:
            self.id = imports.begin(connection, batch_id, file_name, options.account, options.actor)

    def add(self, chunk: ChunkResult, fields: Sequence[RejectedRow]) -> None:
        """Note what became of a chunk's rows, once, also where a commit was not acknowledged."""

        def act(connection: Connection) -> None:
            imports.add(
                connection,
                self.id,
                before=self._rows,
                submitted=chunk.submitted,
                duplicates=chunk.duplicates,
                repeated=chunk.repeated,
                rejected=len(chunk.rejected),
                blocked=chunk.blocked,
                fields=fields,
            )

        self._patiently(act)
        self._rows = chunk.items

    def finish(self) -> None:
        """Note that all rows are done."""
        self._patiently(lambda connection: imports.finish(connection, self.id))

    def _patiently(self, act: Callable[[Connection], None]) -> None:
        give_up = self._clock() + REPEAT_FOR_SECONDS
        while True:
            try:
                return self._database.again(act)
            except NotPermitted:
                raise
            except StoreUnavailable:
                if self._clock() >= give_up:
                    raise
            self._wait(_PAUSE_SECONDS)


Progress = Callable[["ImportResult"], None]


@dataclass(frozen=True, slots=True)
class ImportResult:
    """What an import has done so far, or in all.

    rows       rows that are done; empty ones do not count
    repeated   rows that an earlier import of this file had taken in, or whose key was known
    blocked    rows stored as failed, because somebody of them must not be called
    seconds    since it began
    import_id  of its record
    """

    batch_id: UUID
    form: str
    encoding: Encoding
    notes: tuple[str, ...] = ()
    rows: int = 0
    submitted: int = 0
    duplicates: int = 0
    repeated: int = 0
    rejected: int = 0
    blocked: int = 0
    seconds: float = 0.0
    import_id: int = 0

    @property
    def rows_per_second(self) -> float:
        """The mean so far."""
        return self.rows / self.seconds if self.seconds else 0.0


class Importer:
    """Imports into one store. `clock` is monotonic and counts seconds; `wait` sleeps them."""

    def __init__(
        self,
        bulk: Bulk,
        database: Database,
        rate_limit: tuple[RateWindow, ...],
        *,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self._bulk = bulk
        self._database = database
        self._rate_limit = rate_limit
        self._clock = clock
        self._wait = wait

    def plan(self, source: Source, options: ImportOptions, batch_id: UUID | None = None) -> Plan:
        """Return what an import would do; nothing is stored. `batch_id` as for `run`. Raises `UnreadableFile`.

        A needed column that is missing is guessed by its name: `Plan.columns` says so. `run` never guesses.
        """
        options = replace(options, guess=True)
        self._refuse_moved_rows(source, options, batch_id)
        with (
            open_leads(source, options, batch_id) as file,
            closing(Planner(self._database, options, self._rate_limit, self._bulk.screening)) as planner,
        ):
            return planner.plan(file, source.encoding)

    def correct(
        self,
        source: Source,
        actor: str,
        *,
        rehearsing: bool = False,
        stopping: Callable[[], bool] = lambda: False,
    ) -> Iterator[EditedRow]:
        """Correct and replay failed leads by an edited export of them; yields what became of each row.

        `rehearsing`: what is done is rolled back; `stopping` is asked before every row. Raises `ImportStopped`,
        `UnreadableFile` and `StoreUnavailable`; what was yielded is done, and the same file again goes on.
        """
        edited = EditedRows(self._database, actor, self._bulk.screening, rehearsing=rehearsing)
        with open_table(source) as (header, rows):
            for row in rows:
                if stopping():
                    raise ImportStopped("Stopped. What was corrected stays so; the same file goes on behind it.")
                if row.fault is not None:
                    yield EditedRow(row.line, "", Done.REFUSED, reason=str(row.fault))
                else:
                    yield from edited.take(header, [(row.line, row.cells)])

    def run(
        self,
        source: Source,
        options: ImportOptions,
        rejected_path: Path | None,
        progress: Progress = lambda _: None,
        batch_id: UUID | None = None,
        stopping: Callable[[], bool] = lambda: False,
    ) -> ImportResult:
        """Import the file; the same call goes on after one that was cut short.

        Raises `UnreadableFile`, `UnwritableRejects`, `StoreUnavailable`, `ImportStopped`; each says how many rows are
        done, if any, and how to go on. `rejected_path` gets the refused rows, if any; with None only the record has
        them. `progress` is called at the beginning and after every chunk, in this thread; `batch_id` is that of an
        import to go on with, where it is not the one of the file's content: the rows that it has stored must stand
        where they stood; `stopping` is asked before every row.
        """
        began = self._clock()
        options = replace(options, guess=False)
        self._refuse_moved_rows(source, options, batch_id, stopping)
        with open_leads(source, options, batch_id) as file, closing(_rejects(rejected_path, source)) as rejects:
            record = RunningImport(self._database, file.ids.batch_id, source.name, options, self._clock, self._wait)
            rows = _InFlight(_until(stopping, file.rows))
            done = ImportResult(file.ids.batch_id, file.form, source.encoding, file.notes, import_id=record.id)
            progress(done)
            chunks = self._bulk.stream(
                rows,
                account=options.account,
                batch_id=file.ids.batch_id,
                read=file.read,
                ids=file.ids,
                workers=options.workers,
            )
            command = "the same command"
            if options.again and batch_id is None:
                command += f" with --batch {done.batch_id} instead of --again"
            try:
                with closing(chunks):
                    for chunk in chunks:
                        done = replace(_added(done, chunk), seconds=self._clock() - began)
                        record.add(chunk, _refused(chunk, rows, rejects))
                        progress(done)
                record.finish()
                rejects.close()
            except UnreadableFile as error:
                raise _cut_short(error, done) from None
            except StoreUnavailable as error:
                why = error.why if isinstance(error, BatchCutShort) else str(error)
                raise StoreUnavailable(f"{why} {_way_on(done, command)}") from None
            except UnwritableRejects as error:
                command += ", with another place for refused rows (--rejected)"
                raise UnwritableRejects(f"{error} {_way_on(done, command)}") from None
            except _AskedToStop:
                raise ImportStopped(f"Stopped. {_way_on(done, command)}") from None
            rejects.forget_earlier()
        return replace(done, seconds=self._clock() - began)

    def _refuse_moved_rows(
        self,
        source: Source,
        options: ImportOptions,
        batch_id: UUID | None,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        if batch_id is None:  # that of the content: the rows are the same
            return
        with open_leads(source, options, batch_id) as file:
            try:
                rows = replace(file, rows=_until(stopping, file.rows))
                refuse_moved_rows(self._database, rows, options.account, self._bulk.screening.pseudonyms)
            except _AskedToStop:
                raise ImportStopped("Stopped. No row was done; to go on, run the same command.") from None


def _rejects(path: Path | None, source: Source) -> Rejects | Uncollected:
    return Uncollected() if path is None else Rejects(path, source)


def _refused(chunk: ChunkResult, rows: "_InFlight", rejects: Rejects | Uncollected) -> list[RejectedRow]:
    """Write a chunk's refused rows to the file; those that the record keeps as well."""
    fields: list[RejectedRow] = []
    for index, refused in chunk.rejected:
        row, faults = rows[index], in_file_words(refused)
        rejects.add(row, faults)
        if rejects.count <= imports.MAX_REJECTIONS:
            originals = (row.text, *[""] * len(faults))
            fields += [
                RejectedRow(row.line, fault.field, f"{fault.fault}; {fault.remedy}", original)
                for fault, original in zip(faults, originals, strict=False)
            ]
    rows.forget(chunk.items)
    return fields


def _cut_short(error: UnreadableFile, done: ImportResult) -> UnreadableFile:
    if not done.rows:
        return error
    return UnreadableFile(
        f"{error} The first {done.rows:,} rows are done; mend the file, without moving those, and go on with "
        f"--batch {done.batch_id}."
    )


def _way_on(done: ImportResult, command: str) -> str:
    rows = f"The first {done.rows:,} rows are done" if done.rows else "No row was done"
    return f"{rows}; to go on, run {command}."


class _AskedToStop(Exception):
    """Raised where the next row would be read."""


def _until(stopping: Callable[[], bool], rows: Iterator[Row]) -> Iterator[Row]:
    for row in rows:
        if stopping():
            raise _AskedToStop
        yield row


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
        blocked=done.blocked + chunk.blocked,
    )
