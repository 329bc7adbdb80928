"""Bring every stored value under the first key of the key ring, or back to plain text, batch by batch.

A value that is done is not touched again, so an interrupted run is continued by the next. Rows of each batch are locked
until it is committed.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import orjson
from sqlalchemy import Connection, TextClause, text

from dispatcher.store import audit, encryption
from dispatcher.store.database import Database, Rehearsal
from dispatcher.store.encryption import ENCRYPTED, TABLES, KeyRing, NotAuthentic, Table

BATCH_ROWS: Final = 1000
PATIENCE_SECONDS: Final = 60.0
_PAUSE_SECONDS: Final = 0.2
PLAIN: Final = "plain"

_NO_KEY: Final = ""


@dataclass(frozen=True, slots=True)
class RekeyProgress:
    """How far one table is: `changed` rows of about `to_do` that it began with."""

    table: str
    to_do: int
    changed: int


@dataclass(frozen=True, slots=True)
class Rekeyed:
    """What a run did.

    key_id         what it encrypted under; None: it decrypted
    changed        values by table
    left           values that are not as they should be: by the id of their key, or `PLAIN`
    undecryptable  rows whose value was changed or moved in the database, each as table and key
    kept           ids of keys that an open transaction may still write under
    """

    key_id: str | None
    changed: Mapping[str, int] = field(default_factory=dict)
    left: Mapping[str, int] = field(default_factory=dict)
    undecryptable: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return not self.left and not self.kept


class Rekeying:
    """Encrypts what is stored under the first key of the database's ring, or decrypts it.

    patience_seconds   how long it waits for transactions that may write under a key that is not needed any more
    """

    def __init__(self, database: Database, *, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._database = database
        self._patience_seconds = patience_seconds

    def run(
        self,
        *,
        actor: str,
        decrypt: bool = False,
        batch_rows: int = BATCH_ROWS,
        tell: Callable[[RekeyProgress], None] = lambda _: None,
    ) -> Rekeyed:
        """Do all that can be done with the keys of this process, and return what is left.

        decrypt      store everything as plain text
        batch_rows   rows of one transaction, from 1
        tell         is called after each batch

        Values under a key that the ring lacks stay as they are, and are counted in `left`.
        """
        ring = self._database.key_ring
        target = None if decrypt else ring.key_id
        changed: Counter[str] = Counter()
        broken: list[str] = []
        for table in TABLES.values():
            to_do = sum(self._database.read(_count, table, target).values())
            after: Mapping[str, Any] | None = None
            while to_do and (batch := self._database.again(_batch, table, ring, target, after, batch_rows)).last:
                after = batch.last
                changed[table.name] += batch.changed
                broken += batch.broken
                tell(RekeyProgress(table.name, to_do, changed[table.name]))
        result = Rekeyed(target, dict(changed), self._left(target), tuple(broken))
        result = self._without_unneeded_keys(result)
        self._database.again(_note, actor, result, held=ring.key_ids)
        return result

    def _without_unneeded_keys(self, result: Rekeyed) -> Rekeyed:
        """Forget the keys that no value needs; return the result with what was written under them meanwhile.

        Whoever writes under a key that is not known makes it known. A transaction that is open may have seen the key
        while it was known: what it writes is counted when it has ended, and the key is known again.
        """
        forgotten = self._database.again(_forget, result)
        if not forgotten or isinstance(self._database, Rehearsal):
            return result
        again = forgotten
        try:
            kept = () if self._others_ended() else tuple(forgotten)
            left = self._left(result.key_id)
            again = [key_id for key_id in forgotten if key_id in left or key_id in kept]
        finally:
            self._database.again(_know, again)
        return replace(result, left=left, kept=kept)

    def _others_ended(self) -> bool:
        """Wait until the transactions that are open now have ended; return whether they have in time."""
        until = time.monotonic() + self._patience_seconds
        others = self._database.read(_open)
        while others and time.monotonic() < until:
            time.sleep(_PAUSE_SECONDS)
            others &= self._database.read(_open)
        return not others

    def _left(self, target: str | None) -> dict[str, int]:
        left: Counter[str] = Counter()
        for table in TABLES.values():
            left.update(self._database.read(_count, table, target))
        return dict(left)


@dataclass(frozen=True, slots=True)
class _Batch:
    last: Mapping[str, Any] | None = None
    changed: int = 0
    broken: Sequence[str] = ()


def _count(connection: Connection, table: Table, target: str | None) -> dict[str, int]:
    """Return the values that are not as they should be, by the id of their key."""
    found: Counter[str] = Counter()
    for column in table.contents:
        key = _key_of(table, column)
        of_table = f"FROM dispatcher.{table.name} WHERE {_wrong(table, column)}"
        statement = text(f"SELECT {key} AS key_id, count(*) {of_table} GROUP BY 1")
        rows = connection.execute(statement, {"target": target or _NO_KEY})
        found.update({key_id or PLAIN: count for key_id, count in rows})
    return dict(found)


def _batch(
    connection: Connection,
    table: Table,
    ring: KeyRing,
    target: str | None,
    after: Mapping[str, Any] | None,
    batch_rows: int,
) -> _Batch:
    """Change the next rows by their key, and return the last one's key; none: there are no more."""
    writing = ring if target is not None else ring.decrypting
    values: dict[str, Any] = {"target": target or _NO_KEY, "held": [_NO_KEY, *ring.key_ids], "most": batch_rows}
    values |= {f"after_{name}": value for name, value in (after or {}).items()}
    rows = connection.execute(_next(table, first=after is None), values).mappings().all()
    changed, broken = [], []
    for row in rows:
        try:
            changed.append({**_key(table, row), **_rewritten(table, row, ring, writing)})
        except NotAuthentic:
            broken.append(f"{table.name} {', '.join(str(row[name]) for name in table.key)}")
    if changed:
        connection.execute(_write(table), {"rows": orjson.dumps(changed).decode()})
    return _Batch(_key(table, rows[-1]) if rows else None, len(changed), broken)


def _key(table: Table, row: Mapping[Any, Any]) -> dict[str, Any]:
    return {name: row[name] for name in table.key}


def _rewritten(table: Table, row: Mapping[Any, Any], ring: KeyRing, writing: KeyRing) -> dict[str, str | None]:
    owner = table.owner(row)
    found: dict[str, str | None] = {}
    for name, content in table.contents.items():
        stored = row[name]
        if not stored:
            found[name] = stored
        elif name in table.jsons:
            plain = ring.decrypted_json_text(stored, owner, content)
            found[name] = writing.encrypted_json(plain, owner, content)
        else:
            found[name] = writing.encrypted(ring.decrypted(stored, owner, content), owner, content)
    return found


def _forget(connection: Connection, result: Rekeyed) -> list[str]:
    """Forget the keys that no value needs, and return their ids. Those that are needed are known afterwards."""
    left = [key_id for key_id in result.left if key_id != PLAIN]
    _know(connection, left)  # an earlier run may have been killed before it did
    needed = left if result.key_id is None else [*left, result.key_id]
    return list(connection.execute(_FORGET, {"needed": needed}).scalars())


def _know(connection: Connection, key_ids: Sequence[str]) -> None:
    connection.execute(_KNOW, {"ids": list(key_ids)})


def _open(connection: Connection) -> set[str]:
    """Return the transactions of others in this database that are open."""
    return set(connection.execute(_OPEN).scalars())


def _note(connection: Connection, actor: str, result: Rekeyed, *, held: Sequence[str]) -> None:
    detail = {"key": result.key_id, "changed": dict(result.changed), "left": dict(result.left), "held": list(held)}
    audit.note(connection, actor, "rekey", "encryption", detail)


_FORGET: Final = text("DELETE FROM dispatcher.encryption_keys WHERE id <> ALL (CAST(:needed AS text[])) RETURNING id")

_KNOW: Final = text("""
INSERT INTO dispatcher.encryption_keys (id) SELECT unnest(CAST(:ids AS text[])) ON CONFLICT (id) DO NOTHING
""")

_OPEN: Final = text("""
-- A transaction holds the lock on its own id until it ends; a prepared one has no process.
SELECT held.virtualtransaction FROM pg_locks AS held LEFT JOIN pg_stat_activity AS activity USING (pid)
WHERE held.locktype IN ('virtualxid', 'transactionid') AND held.mode = 'ExclusiveLock' AND held.granted
  AND held.pid IS DISTINCT FROM pg_backend_pid()
  -- `usesysid` is NULL for autovacuum, which writes no values.
  AND (held.pid IS NULL OR activity.datname = current_database() AND activity.usesysid IS NOT NULL)
""")


def _as_text(table: Table, column: str) -> str:
    # Of an object this is its JSON text, which never looks like an encrypted value.
    return f"({column} #>> '{{}}')" if column in table.jsons else column


def _key_of(table: Table, column: str) -> str:
    value = _as_text(table, column)
    return (
        f"CASE WHEN {value} LIKE '{ENCRYPTED}%' THEN substring({value} FROM '^{ENCRYPTED}([0-9a-f]{{8}}):') ELSE '' END"
    )


def _wrong(table: Table, column: str) -> str:
    """Return the condition that a column is not under the key `:target`, or, if that is empty, not plain."""
    key = f"coalesce({_key_of(table, column)}, '')"
    return f"({_as_text(table, column)} <> '' AND {key} <> :target AND NOT ({key} = '' AND {table.passing}))"


def _next(table: Table, *, first: bool) -> TextClause:
    columns = ", ".join(
        [*dict.fromkeys([*table.key, table.of])]
        + [f"CAST({name} AS text) AS {name}" if name in table.jsons else name for name in table.contents]
    )
    key = ", ".join(table.key)
    wrong = " OR ".join(
        f"({_wrong(table, name)} AND {_key_of(table, name)} = ANY (CAST(:held AS text[])))" for name in table.contents
    )
    # A row with one value under a key that is missing waits for it as a whole.
    known = " AND ".join(
        f"coalesce({_key_of(table, name)}, '') = ANY (CAST(:held AS text[]))" for name in table.contents
    )
    beyond = "" if first else f"AND ({key}) > ({', '.join(f':after_{name}' for name in table.key)})"
    return text(f"""
        SELECT {columns} FROM dispatcher.{table.name}
        WHERE ({wrong}) AND {known} {beyond}
        ORDER BY {key} LIMIT :most
        FOR NO KEY UPDATE
    """)


def _write(table: Table) -> TextClause:
    changes = ", ".join(f"{name} = given.{name}" for name in table.contents)
    given = ", ".join(f"CAST(given ->> '{name}' AS {kind}) AS {name}" for name, kind in table.key.items())
    texts = ", ".join(
        f"CAST(given ->> '{name}' AS jsonb) AS {name}" if name in table.jsons else f"given ->> '{name}' AS {name}"
        for name in table.contents
    )
    same = " AND ".join(f"given.{name} = held.{name}" for name in table.key)
    return text(f"""
        UPDATE dispatcher.{table.name} AS held SET {changes}
        FROM (SELECT {given}, {texts} FROM jsonb_array_elements(CAST(:rows AS jsonb)) AS given) AS given
        WHERE {same}
    """)


def doubtful(connection: Connection, ring: KeyRing) -> str | None:
    """Return what is wrong with the keys of this process, in a sentence; None if it has all that are needed."""
    lacking = encryption.unheld(connection, ring)
    return encryption.missing(lacking) if lacking else None
