"""The transaction of a caller that a submission joins: SQLAlchemy's or psycopg's, and clear words for the rest."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final, TypeAlias, Union

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import namedtuple_row
from sqlalchemy import Connection, TextClause, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import (
    DBAPIError,
    InvalidRequestError,
    OperationalError,
    PendingRollbackError,
    SQLAlchemyError,
    UnboundExecutionError,
)

from dispatcher.broker.doorbell import Bell
from dispatcher.errors import FieldError, InvalidLead
from dispatcher.lead.options import Channel
from dispatcher.store.database import translated
from dispatcher.store.trouble import Trouble

if TYPE_CHECKING:  # a caller with a `Session` has loaded the ORM; a producer without one need not
    from sqlalchemy.orm import Session, scoped_session

_KEY: Final = "dispatcher.announcement"
_READ_ONLY: Final = "25006"
_SAVEPOINT: Final = "dispatcher_submit"
_OF_ASYNC: Final = "await dispatcher.asubmit(lead, session=session)"
_ELSEWHERE: Final = "the lead has to be in the transaction of the dispatcher's Postgres database"
_TAKEN: Final = "give a SQLAlchemy Session, scoped_session or Connection, or a connection of psycopg 3"

Caller: TypeAlias = Union[
    "Session", "scoped_session[Session]", Connection, "psycopg.Connection[Any]", "OpenTransaction"
]
"""What `session=` takes."""


@dataclass(frozen=True, slots=True)
class OpenTransaction:
    """A transaction that something else than SQLAlchemy has opened on a connection of psycopg 3, and will commit.

    driver      the connection
    on_commit   calls what it is given once the transaction is committed
    """

    driver: "psycopg.Connection[Any]"
    on_commit: Callable[[Callable[[], object]], object]


class Announcement:
    """The channels that a session's next commit announces. One for each session, kept in its `info`.

    A savepoint that is rolled back may leave a channel here: a ring too many is harmless.
    """

    def __init__(self, session: "Session", bell: Bell) -> None:
        self._bell = bell
        self._channels: dict[Channel, None] = {}
        event.listen(session, "after_commit", self._committed)
        event.listen(session, "after_rollback", self._rolled_back)

    @classmethod
    def of(cls, session: "Session", bell: Bell) -> "Announcement":
        """Return the announcement of this session and bell, made by the first call."""
        known: dict[Bell, Announcement] = session.info.setdefault(_KEY, {})
        if bell not in known:
            known[bell] = cls(session, bell)
        return known[bell]

    def add(self, channel: Channel) -> None:
        """Ring this channel after the commit."""
        self._channels[channel] = None

    def _committed(self, session: "Session") -> None:
        # Also called when a savepoint is released, while nobody else can see anything yet.
        if session.in_nested_transaction():
            return
        channels, self._channels = self._channels, {}
        for channel in channels:
            self._bell.ring(channel)

    def _rolled_back(self, session: "Session") -> None:
        if not session.in_nested_transaction():
            self._channels.clear()


@dataclass(frozen=True, slots=True)
class Joined:
    """A caller's open transaction. `session` or `on_commit` announce its commit, if one of them is known."""

    connection: Connection
    session: "Session | None" = None
    on_commit: Callable[[Callable[[], object]], object] | None = None

    @classmethod
    def of(cls, caller: object, *, copies: bool = False) -> "Joined":
        """Return the transaction of what was given as `session=`. `copies`: for a COPY.

        Raises `InvalidLead` with the field `session` for what has none that a lead can join.
        """
        if isinstance(caller, psycopg.Connection):
            if copies and caller.pgconn.pipeline_status:
                raise _refusal("is in pipeline mode, which knows no COPY", "leave the pipeline, or submit one by one")
            return cls(_borrowed(caller))
        if isinstance(caller, OpenTransaction):
            return cls(_borrowed(caller.driver), on_commit=caller.on_commit)
        if isinstance(caller, Connection):
            return cls(_of_postgres(caller))
        if type(caller).__module__ == "sqlalchemy.orm.scoping" and callable(caller):
            caller = caller()
        if inspect.iscoroutinefunction(getattr(caller, "execute", None)):
            raise _refusal("is asynchronous", _OF_ASYNC)
        if type(caller).__module__.startswith("psycopg2"):
            raise _refusal("is a connection of psycopg2", _TAKEN)
        session = _session(caller)
        try:
            return cls(_of_postgres(session.connection()), session)
        except UnboundExecutionError:
            raise _refusal("has no default engine", "give session.connection(bind_arguments=…)") from None
        except PendingRollbackError:
            raise _refusal("has a transaction that failed before", "roll it back, and begin another") from None
        except InvalidRequestError:
            raise _refusal("has no open transaction", "begin one: with session.begin():") from None
        except SQLAlchemyError:
            with translated():
                raise
            raise

    @contextmanager
    def savepoint(self) -> Iterator[Connection]:
        """Open a savepoint. A serialization failure, a deadlock or a lock timeout is raised as the caller knows it.

        It is theirs to repeat, with their whole transaction: a repetition within it meets the same snapshot and locks.
        """
        try:
            with translated():
                try:
                    with self.connection.begin_nested():
                        yield self.connection
                except (DBAPIError, psycopg.Error) as error:
                    self._raise_theirs(error)
                    raise
        except UnicodeEncodeError:
            raise _refusal("has a client_encoding that cannot hold the lead", "use client_encoding UTF8") from None

    def announce(self, bell: Bell, channel: Channel) -> None:
        """Ring after the commit, if something tells of it; a sweep finds the lead else."""
        if self.on_commit is not None:
            self.on_commit(partial(bell.ring, channel))
        elif self.session is not None:
            Announcement.of(self.session, bell).add(channel)

    def _raise_theirs(self, error: Exception) -> None:
        original = error.orig if isinstance(error, DBAPIError) else error
        if Trouble.of(original).sqlstate == _READ_ONLY:
            raise _refusal("is read-only", "begin a transaction that may write, on the primary") from None
        if not Trouble.of(original).repeatable or original is None:
            return
        if isinstance(self.connection, _Borrowed):
            raise TheirsToRepeat(original)
        kind = type(error) if isinstance(error, DBAPIError) else OperationalError
        raise TheirsToRepeat(kind(None, None, original, hide_parameters=True))


class TheirsToRepeat(Exception):
    """Carries an error of the caller's past the translation of ours."""

    def __init__(self, error: BaseException) -> None:
        self.error = error
        super().__init__()


@contextmanager
def theirs() -> Iterator[None]:
    """Raise the error of the caller's that `Joined.savepoint` has met."""
    try:
        yield
    except TheirsToRepeat as carried:
        raise carried.error from None


def _session(caller: object) -> "Session":
    if type(caller).__module__.partition(".")[0] == "sqlite3":
        raise _refusal(
            "belongs to SQLite", "the lead has to be in the transaction of the dispatcher's Postgres database"
        )
    for kind in type(caller).__mro__:
        if kind.__module__ == "sqlalchemy.orm.session" and kind.__name__ == "Session":
            return caller  # type: ignore[return-value]
    raise _refusal(f"is a {type(caller).__name__}, which has no transaction to join", _TAKEN)


def _of_postgres(connection: Connection) -> Connection:
    if connection.dialect.name != "postgresql":
        raise _refusal(
            f"belongs to {connection.dialect.name}",
            _ELSEWHERE,
        )
    if connection.closed:
        raise _refusal("is closed", "give a connection that is open")
    if connection.invalidated:
        raise _refusal("has lost its connection to Postgres", "roll it back, and begin another transaction")
    return connection


def _refusal(fault: str, remedy: str) -> InvalidLead:
    return InvalidLead([FieldError("session", fault, remedy)])


# A bare connection of psycopg -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Answer:
    rows: Sequence[Any]

    def all(self) -> Sequence[Any]:
        return self.rows

    def first(self) -> Any:  # noqa: ANN401 - a row, as SQLAlchemy's
        return self.rows[0] if self.rows else None


class _Borrowed:
    """Has of SQLAlchemy's `Connection` what our statements use."""

    dialect: Final = make_url("postgresql+psycopg://").get_dialect()()

    def __init__(self, driver: "psycopg.Connection[Any]") -> None:
        self._driver = driver
        self.connection = SimpleNamespace(driver_connection=driver)

    def execute(self, statement: TextClause, parameters: Mapping[str, object]) -> _Answer:
        cursor = psycopg.Cursor(self._driver, row_factory=namedtuple_row)  # not one of the owner's, as Django has
        return _Answer(cursor.execute(_compiled(statement), parameters).fetchall())

    @contextmanager
    def begin_nested(self) -> Iterator[None]:
        """A savepoint. Not `driver.transaction()`, which commits where no transaction is open yet."""
        self._driver.execute(f"SAVEPOINT {_SAVEPOINT}")
        try:
            yield
        except BaseException:
            if self._driver.info.transaction_status in {TransactionStatus.INTRANS, TransactionStatus.INERROR}:
                self._driver.execute(f"ROLLBACK TO {_SAVEPOINT}")
            raise
        self._driver.execute(f"RELEASE {_SAVEPOINT}")

    def invalidate(self) -> None:
        """Leave the connection to its owner."""


@cache
def _compiled(statement: TextClause) -> bytes:
    return str(statement.compile(dialect=_Borrowed.dialect)).encode()


def _borrowed(driver: "psycopg.Connection[Any]") -> Connection:
    if driver.closed:
        raise _refusal("is closed", "give a connection that is open")
    if driver.pgconn.pipeline_status:
        driver.execute("SELECT 1").fetchone()  # what failed in the pipeline before is raised here, as the caller's own
    idle = driver.info.transaction_status is TransactionStatus.IDLE
    if driver.autocommit and idle:
        raise _refusal(
            "is in AUTOCOMMIT mode, with no transaction to join", "begin one: with connection.transaction():"
        )
    return _Borrowed(driver)  # type: ignore[return-value]
