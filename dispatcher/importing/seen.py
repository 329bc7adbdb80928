"""What the rows of a plan so far would have stored: persons, keys and ids, on disk, so that memory stays flat."""

import sqlite3
from collections.abc import Iterable
from typing import Final
from uuid import UUID

from dispatcher.leads.admission import Birth, Facts, Held
from dispatcher.leads.candidate import Candidate

_TABLES: Final = """
CREATE TABLE persons (
    campaign_id INTEGER, phone_number TEXT, id BLOB, PRIMARY KEY (campaign_id, phone_number)
) WITHOUT ROWID;
CREATE TABLE held (name BLOB PRIMARY KEY, id BLOB, payload_hash TEXT) WITHOUT ROWID;
"""


class Seen:
    """Adds to the facts of a chunk what earlier chunks decided."""

    def __init__(self) -> None:
        # The empty name is a temporary database: in memory while small, on disk beyond, gone at the end.
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;" + _TABLES)

    def complete(self, facts: Facts, candidates: Iterable[Candidate]) -> None:
        """Add what these items meet of earlier ones; what the store holds comes first."""
        for candidate in candidates:
            key = candidate.options.idempotency_key
            if key is not None and key not in facts.keys and (held := self._held(key)) is not None:
                facts.keys[key] = held
            if not candidate.derived_id and candidate.id not in facts.ids:
                held = self._held(candidate.id.bytes)
                if held is not None:
                    facts.ids[candidate.id] = held
            if not candidate.allow_dupplicate and candidate.person not in facts.live:
                found = self._one("SELECT id FROM persons WHERE campaign_id = ? AND phone_number = ?", candidate.person)
                if found is not None:
                    facts.live[candidate.person] = UUID(bytes=found[0])

    def add(self, births: Iterable[Birth]) -> None:
        """Remember what a chunk would have stored."""
        persons: list[tuple[int, str, bytes]] = []
        held: list[tuple[str | bytes, bytes, str]] = []
        for birth in births:
            candidate = birth.candidate
            own = (candidate.id.bytes, candidate.payload_hash)
            if birth.duplicate_of is None and not candidate.allow_dupplicate:
                persons.append((*candidate.person, candidate.id.bytes))
            if not candidate.derived_id:
                held.append((candidate.id.bytes, *own))
            if candidate.options.idempotency_key is not None:
                held.append((candidate.options.idempotency_key, *own))
        self._database.execute("BEGIN")
        self._database.executemany("INSERT OR IGNORE INTO persons VALUES (?, ?, ?)", persons)
        self._database.executemany("INSERT OR IGNORE INTO held VALUES (?, ?, ?)", held)
        self._database.execute("COMMIT")

    def close(self) -> None:
        """Drop it."""
        self._database.close()

    def _held(self, name: str | bytes) -> Held | None:
        found = self._one("SELECT id, payload_hash FROM held WHERE name = ?", (name,))
        return None if found is None else Held(UUID(bytes=found[0]), found[1])

    def _one(self, statement: str, values: tuple[object, ...]) -> tuple[bytes, str] | None:
        row: tuple[bytes, str] | None = self._database.execute(statement, values).fetchone()
        return row
