"""Files that operators have uploaded: each is planned, and imported, in a thread beside the requests.

A file has no name on the disk of the console, so that it is gone with the process, whatever ends that. What an import
has stored stays, and the same file uploaded again goes on behind it, as with `dispatcher import`.
"""

import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import IO, Final
from uuid import UUID, uuid4

from dispatcher.console.guard import report
from dispatcher.errors import DispatcherError, NotAllowed
from dispatcher.importing.columns import ImportOptions
from dispatcher.importing.importer import Importer, ImportResult
from dispatcher.importing.lead_file import header_of, is_edited_export
from dispatcher.importing.plan import Plan
from dispatcher.importing.source import ImportStopped, Source, UnclearSheet, source_of
from dispatcher.intake.bulk import Bulk
from dispatcher.operator.edited_rows import Counting, RowCounts
from dispatcher.wiring import Services

KEEP_SECONDS: Final = 3600.0
"""How long a file is kept after it was last asked for, unless it is being imported."""
MOST_OF_ONE: Final = 3
MOST: Final = 12
"""Files of one user, and of all users, that are kept at a time."""
_SHOW_EVERY: Final = 100
AT_ONCE: Final = 2
"""Files that are read at a time: each takes much of one core."""


class Stage(StrEnum):
    """How far an upload is."""

    READING = "reading"
    PLANNED = "planned"
    UNUSABLE = "unusable"
    IMPORTING = "importing"
    CUT_SHORT = "cut short"
    FINISHED = "finished"


BUSY: Final = frozenset({Stage.READING, Stage.IMPORTING})


@dataclass(frozen=True, slots=True)
class Wanted:
    """How a file is to be read; `sheet` and `encoding` None: as the file shows.

    accounts   those that its user may act on; None: all of them
    """

    options: ImportOptions
    sheet: str | None = None
    encoding: str | None = None
    accounts: frozenset[str] | None = None


@dataclass(slots=True)
class Upload:
    """One file. Only its thread changes it while it is busy. The repr names nobody.

    version   counts its plans: an import is of the one that was seen
    header    the names of its columns, as far as it was read
    sheets    names of sheets, where one must be chosen
    fault     why it cannot be used as it is wanted, or how far its import came
    rows      about how many it has
    corrections   of an edited export of failed leads: what it would do, and then has done. It has no plan
    """

    id: UUID
    user: str
    name: str = field(repr=False)
    size: int
    wanted: Wanted = field(repr=False)
    file: IO[bytes] = field(repr=False)
    stage: Stage = Stage.READING
    version: int = 0
    header: tuple[str, ...] = field(default=(), repr=False)
    sheets: tuple[str, ...] = field(default=(), repr=False)
    plan: Plan | None = field(default=None, repr=False)
    fault: str = field(default="", repr=False)
    rows: int = 0
    result: ImportResult | None = field(default=None, repr=False)
    corrections: RowCounts | None = field(default=None, repr=False)
    stopping: threading.Event = field(default_factory=threading.Event, repr=False)
    timer: threading.Timer | None = field(default=None, repr=False)

    def seen(self) -> "Upload":
        """Return a copy that does not change while a page is made of it.

        The stage is what the thread sets last, so it is read first: a file that is planned has its plan.
        """
        stage = self.stage
        seen = replace(self, stage=stage)
        if stage is Stage.PLANNED and seen.plan is None and seen.corrections is None:  # it is planned anew since
            seen.stage = Stage.READING
        return seen


class Uploads:
    """The files of this process. Thread-safe."""

    def __init__(self, services: Services, keep_seconds: float = KEEP_SECONDS) -> None:
        self._services = services
        self._keep_seconds = keep_seconds
        self._lock = threading.Lock()
        self._turns = threading.BoundedSemaphore(AT_ONCE)
        self._kept: dict[UUID, Upload] = {}

    def add(self, user: str, name: str, file: IO[bytes], size: int, wanted: Wanted) -> Upload:
        """Keep a file, and begin to plan it. Raises `NotAllowed` where too many are kept."""
        upload = Upload(uuid4(), user, name, size, wanted, file)
        with self._lock:
            own = sum(one.user == user for one in self._kept.values())
            if own >= MOST_OF_ONE or len(self._kept) >= MOST:
                raise NotAllowed(
                    "Too many uploaded files are waiting; import or discard one of them (the page Imports lists yours)."
                )
            self._kept[upload.id] = upload
        self._begin(upload, self._plan)
        return upload

    def get(self, id: UUID, user: str) -> Upload:
        """Return a file of this user, which is then kept longer. Raises `NotAllowed`."""
        with self._lock:
            upload = self._kept.get(id)
        if upload is None or upload.user != user:
            raise NotAllowed(
                "This file is not kept here (any more): it is forgotten an hour after it was used, and when the "
                "console is started again. Upload it again; what was imported of it is not imported twice."
            )
        self._keep(upload)
        return upload

    def of(self, user: str) -> list[Upload]:
        """Return the files of this user, the latest first."""
        with self._lock:
            return [one for one in reversed(self._kept.values()) if one.user == user]

    def plan(self, upload: Upload, wanted: Wanted) -> None:
        """Plan it anew. Raises `NotAllowed` while it is busy, and once its import has begun."""
        with self._lock:
            self._refuse_busy(upload)
            upload.wanted, upload.stage = wanted, Stage.READING
        self._begin(upload, self._plan)

    def apply(self, upload: Upload, version: int) -> None:
        """Begin the import that was planned, with the guesses that were shown. Raises `NotAllowed` for another plan."""
        with self._lock:
            plan = upload.plan
            goes_on = upload.stage is Stage.CUT_SHORT
            if not goes_on:
                self._refuse_busy(upload)
            if (plan is None and upload.corrections is None) or version != upload.version:
                raise NotAllowed("The file has been planned anew since; look at that plan first.")
            if plan is not None:
                guessed = {upload.header[one.position]: one.field for one in plan.guesses}
                options = upload.wanted.options
                upload.wanted = replace(upload.wanted, options=replace(options, columns={**options.columns, **guessed}))
            upload.stage, upload.result, upload.fault = Stage.IMPORTING, None, ""
        self._begin(upload, self._import)

    def drop(self, upload: Upload) -> None:
        """Forget a file. One that is being imported stops at its next row; what is stored stays."""
        with self._lock:
            self._kept.pop(upload.id, None)
        upload.stopping.set()
        if upload.timer is not None:
            upload.timer.cancel()
        if upload.stage not in BUSY:
            upload.file.close()

    @asynccontextmanager
    async def lifespan(self, _: object) -> AsyncIterator[None]:
        """Forget every file when the server ends."""
        yield
        self.close()

    def close(self) -> None:
        """Forget every file; imports stop at their next row."""
        for upload in list(self._kept.values()):
            self.drop(upload)

    def _importer(self, accounts: frozenset[str] | None = None) -> Importer:
        services = self._services if accounts is None else self._services.confined(accounts)
        bulk = Bulk(services.database, services.ringer, services.screening)  # without Redis the sweep rings
        return Importer(bulk, services.database, services.settings.rate_limit)

    def _refuse_busy(self, upload: Upload) -> None:
        if upload.stage in BUSY:
            raise NotAllowed("The file is being read; wait until that is done.")
        if upload.stage in (Stage.FINISHED, Stage.CUT_SHORT):
            raise NotAllowed("The import of this file has begun already; upload it again to plan it anew.")

    def _keep(self, upload: Upload) -> None:
        with self._lock:
            if upload.timer is not None:
                upload.timer.cancel()
            upload.timer = timer = threading.Timer(self._keep_seconds, self._expire, [upload])
            timer.daemon = True
            timer.start()

    def _expire(self, upload: Upload) -> None:
        if upload.stage in BUSY:
            self._keep(upload)
        else:
            self.drop(upload)

    def _begin(self, upload: Upload, act: Callable[[Upload], None]) -> None:
        self._keep(upload)

        def work() -> None:
            with self._turns:
                try:
                    act(upload)
                except UnclearSheet as error:
                    upload.sheets = error.names
                    self._fail(upload, str(error))
                except DispatcherError as error:
                    self._fail(upload, str(error))
                except Exception as error:  # noqa: BLE001 - the error goes to the log, its number to the page
                    self._fail(upload, report(error))
            if upload.id not in self._kept:
                upload.file.close()

        threading.Thread(target=work, name="dispatcher-upload", daemon=True).start()

    def _fail(self, upload: Upload, why: str) -> None:
        upload.fault = why
        upload.stage = Stage.CUT_SHORT if upload.stage is Stage.IMPORTING else Stage.UNUSABLE

    def _plan(self, upload: Upload) -> None:
        upload.plan, upload.corrections, upload.fault, upload.header = None, None, "", ()
        wanted = upload.wanted
        with source_of(upload.name, upload.file, encoding=wanted.encoding, sheet=wanted.sheet) as source:
            upload.rows = source.lines
            upload.header = header_of(source)
            if is_edited_export(source):
                self._correct(upload, source, rehearsing=True)
            else:
                upload.plan = self._importer().plan(source, wanted.options)
        upload.version += 1
        upload.stage = Stage.PLANNED

    def _correct(self, upload: Upload, source: Source, *, rehearsing: bool = False) -> None:
        """Take an edited export back, or count what that would do. The user reaches no lead of another account."""
        counting = Counting()
        importer = self._importer(upload.wanted.accounts)
        done = importer.correct(
            source, upload.wanted.options.actor, rehearsing=rehearsing, stopping=upload.stopping.is_set
        )
        try:
            for number, row in enumerate(done):
                counting.add(row)
                if not rehearsing and number % _SHOW_EVERY == 0:
                    upload.corrections = counting.so_far()
        finally:
            upload.corrections = counting.so_far()

    def _import(self, upload: Upload) -> None:
        def show(done: ImportResult) -> None:
            upload.result = done

        wanted = upload.wanted
        with source_of(upload.name, upload.file, encoding=wanted.encoding, sheet=wanted.sheet) as source:
            try:
                if upload.corrections is not None:
                    self._correct(upload, source)
                else:
                    upload.result = self._importer().run(
                        source, wanted.options, None, show, stopping=upload.stopping.is_set
                    )
            except ImportStopped as stopped:
                self._fail(upload, str(stopped))
                return
        upload.stage = Stage.FINISHED
        upload.file.close()  # not needed any more
