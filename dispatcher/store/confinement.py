"""A database that shows some accounts only: every statement on it reads and writes through views of these accounts.

The views are those of the migration 0011. No query has to ask for them: the cursors of such a connection put
`dispatcher.confined_leads` in the place of `dispatcher.leads`, and refuse a table that has no such view.
"""

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, ClassVar, Final

import psycopg
from sqlalchemy import Connection, text

from dispatcher.errors import NotAllowed
from dispatcher.store import sessions
from dispatcher.store.database import Database, Engines
from dispatcher.store.rights import CONFINED, CONFINED_PREFIX
from dispatcher.store.trouble import StatementRefused

SHARED: Final = frozenset({"alembic_version", "database_roles", "encryption_keys", "privacy_key", "saved_filters"})
"""The tables that say nothing of any account; of the filters, each user's statements name the user."""

CLOSED: Final = frozenset(
    {"accounts", "alerts", "api_keys", "audit_chain", "submissions", "submitters", "tallies", "webhook_mappings"}
)
"""The tables that no page needs: a statement that names one is refused, as one with an unknown table is."""

FUNCTIONS: Final = frozenset({"blocks_of", "erased_of"})
"""The functions that may be called: both are given the account, and say of a number what holds for it there."""

WHOLE: Final = "/* whole */"
"""After the name of a table: not confined. For conditions on a rule that holds for all accounts, and shows no row."""

_PART: Final = re.compile(
    r"""'(?:[^']|'')*'|--[^\n]*"""  # texts, e.g. the name of a lock, and comments
    r"|(?P<qualified>\bdispatcher\s*\.\s*(?P<name>\w+|\"[^\"]*\")(?P<call>\s*\()?)(?P<whole>\s*/\* whole \*/)?"
    r"""|(?P<foreign>"dispatcher"|\bpg_stats\b|\bpg_statistic\w*|\$\$)"""
)

ACCOUNTS: Final = "dispatcher.accounts"
"""The setting of a transaction that has the accounts, separated by commas; the views read it."""

_CONFINE: Final = text(f"SELECT set_config('{ACCOUNTS}', :accounts, true)")
_PROBE: Final = text(
    "SELECT " + ", ".join(f"set_config('{name}', '{value}', true)" for name, value in sessions.PROBES.items())
)
_NOT_IN_VIEW: Final = "44000"  # with check option violation


class NotConfinable(Exception):
    """A statement names what has no view of single accounts. An error in the program: nothing was sent to Postgres."""


class OutOfReach(NotAllowed):
    """The write concerns another account, or something that does not exist: the two are not told apart."""

    def __init__(self) -> None:
        super().__init__("There is no such thing in your accounts, or no longer; nothing was done. Reload the page.")


@lru_cache(maxsize=1024)
def confined(statement: str) -> str:
    """Return the statement with the views of accounts in the place of the tables. Raises `NotConfinable`."""
    return _PART.sub(_replaced, statement)


def _replaced(part: re.Match[str]) -> str:
    if part["foreign"]:
        raise NotConfinable(f"{part['foreign']} shows rows of all accounts; write the statement without it.")
    if not part["qualified"]:
        return part[0]
    name = part["name"]
    # In `INSERT INTO dispatcher.leads (id, …)` the parenthesis begins the columns.
    if name in SHARED or (part["call"] and name in FUNCTIONS):
        return part[0]
    if name not in CONFINED:
        raise NotConfinable(f"dispatcher.{name} has no view of single accounts; see store/confinement.py.")
    if part["whole"]:
        return part[0]
    return f"dispatcher.{CONFINED_PREFIX}{name}{part['call'] or ''}"


def _text_of(query: object) -> str:
    if isinstance(query, bytes):
        return confined(query.decode())
    if isinstance(query, str):
        return confined(query)
    raise NotConfinable(f"A statement of the type {type(query).__name__} cannot be confined; pass its text.")


class _Cursor(psycopg.Cursor[Any]):
    """Confines each statement that it is given."""

    def execute(self, query: Any, *args: Any, **kwargs: Any) -> "_Cursor":  # noqa: ANN401  (psycopg's)
        super().execute(_text_of(query), *args, **kwargs)
        return self

    def executemany(self, query: Any, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401  (psycopg's)
        super().executemany(_text_of(query), *args, **kwargs)

    def stream(self, query: Any, *args: Any, **kwargs: Any) -> Iterator[Any]:  # noqa: ANN401  (psycopg's)
        return super().stream(_text_of(query), *args, **kwargs)

    def copy(self, statement: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  (psycopg's)
        return super().copy(_text_of(statement), *args, **kwargs)


class _RawCursor(_Cursor, psycopg.RawCursor[Any]):
    """The same for statements with numbered parameters."""


class ConfinedConnection(psycopg.Connection[Any]):
    """A connection whose cursors confine each statement."""

    raw_cursor_factory: ClassVar[type[psycopg.RawCursor[Any]]] = _RawCursor

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401  (psycopg's)
        super().__init__(*args, **kwargs)
        self.cursor_factory = _Cursor
        self.server_cursor_factory = _no_server_cursor  # type: ignore[assignment]


def _no_server_cursor(*_: object, **__: object) -> Any:  # noqa: ANN401  (never returns)
    raise NotConfinable("A cursor of the server cannot be confined; read the rows at once.")


class Confinements:
    """The confined databases of one process: they share connections, and no unconfined statement uses these."""

    def __init__(self, make: Callable[[type[psycopg.Connection[Any]]], Database]) -> None:
        """`make` returns a database whose connections are of the given class."""
        self._make = make
        self._lock = threading.Lock()
        self._pool: Database | None = None

    def to(self, accounts: frozenset[str]) -> "ConfinedDatabase":
        """Return the database as far as these accounts go."""
        with self._lock:
            if self._pool is None:
                self._pool = self._make(ConfinedConnection)
            return ConfinedDatabase(self._pool, accounts)

    def close(self) -> None:
        """Close the connections of this process."""
        with self._lock:
            if self._pool is not None:
                self._pool.close()


class ConfinedDatabase(Database):
    """Postgres as far as some accounts go. What belongs to others is not there, and a write of it is `OutOfReach`."""

    def __init__(self, pool: Database, accounts: frozenset[str]) -> None:
        self._pool = pool
        self._pooler = pool.pooler
        self.key_ring = pool.key_ring
        self._accounts = ",".join(sorted(accounts))

    def _of_this_process(self) -> Engines:
        return self._pool._of_this_process()  # noqa: SLF001 - one noun

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Begin a transaction that is confined from its first statement on."""
        try:
            with super().transaction() as connection:
                connection.execute(_CONFINE, {"accounts": self._accounts})
                yield connection
        except StatementRefused as refusal:
            if refusal.sqlstate == _NOT_IN_VIEW:
                raise OutOfReach from None
            raise

    @contextmanager
    def autocommit(self) -> Iterator[Connection]:
        """Return a connection in a transaction: the setting that confines lasts as long as that."""
        with self.transaction() as connection:
            connection.execute(_PROBE)
            yield connection

    def close(self) -> None:
        """Do nothing: the connections are those of all `Confinements`."""
