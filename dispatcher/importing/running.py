"""The record of an import while it runs: what became of its rows, chunk by chunk, and that it ended."""

from collections.abc import Callable, Sequence
from typing import Final
from uuid import UUID

from sqlalchemy import Connection

from dispatcher.errors import StoreUnavailable
from dispatcher.importing.terms import ImportTerms
from dispatcher.intake.bulk import REPEAT_FOR_SECONDS, ChunkResult
from dispatcher.store import imports
from dispatcher.store.database import Database
from dispatcher.store.imports import RejectedField

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
        terms: ImportTerms,
        clock: Callable[[], float],
        wait: Callable[[float], None],
    ) -> None:
        self._database = database
        self._clock = clock
        self._wait = wait
        self._rows = 0
        with database.transaction() as connection:
            self._id = imports.begin(connection, batch_id, file_name, terms.account, terms.actor)

    def add(self, chunk: ChunkResult, fields: Sequence[RejectedField]) -> None:
        """Note what became of a chunk's rows, once, also where a commit was not acknowledged."""

        def act(connection: Connection) -> None:
            imports.add(
                connection,
                self._id,
                before=self._rows,
                submitted=chunk.submitted,
                duplicates=chunk.duplicates,
                repeated=chunk.repeated,
                rejected=len(chunk.rejected),
                fields=fields,
            )

        self._patiently(act)
        self._rows = chunk.items

    def finish(self) -> None:
        """Note that all rows are done."""
        self._patiently(lambda connection: imports.finish(connection, self._id))

    def _patiently(self, act: Callable[[Connection], None]) -> None:
        give_up = self._clock() + REPEAT_FOR_SECONDS
        while True:
            try:
                return self._database.again(act)
            except StoreUnavailable:
                if self._clock() >= give_up:
                    raise
            self._wait(_PAUSE_SECONDS)
