"""The connection to Postgres: made per process, with timeouts, and with errors that contain no personal data."""

import os
import select
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Concatenate, Final, ParamSpec, TypeAlias, TypeVar

import psycopg
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, InvalidatePoolError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import ConnectionPoolEntry

from dispatcher.errors import StoreUnavailable
from dispatcher.store import encryption, sessions
from dispatcher.store.encryption import NO_KEYS, KeyRing
from dispatcher.store.permission import explained
from dispatcher.store.trouble import Locked, NothingDone, NotPermitted, Trouble, TryAgain

T = TypeVar("T")
P = ParamSpec("P")

Query = Callable[Concatenate[Connection, P], T]
"""A function that runs statements on the connection that it is given first."""

Driver: TypeAlias = "psycopg.Connection[Any]"

_TRIES: Final = 5
_IDLE_SECONDS: Final = 1.5
"""A connection that was unused for longer, in seconds, is asked whether it lives before a statement is sent on it.

Longer than the default time between two sweeps, which would otherwise ask each time. One that was closed meanwhile is
noticed without asking."""


class Database:
    """A lazily connected engine, one per process: a child made by `fork` never touches its parent's sockets.

    `pooler`: the URL leads to a transaction-pooling proxy: no prepared statements, no start-up options.
    `pool_size`: connections kept; as many again may be opened for a moment. Waits at most `timeout_seconds` for either.
    `strict`: refuse sessions whose settings break a guarantee (`UnusableSession`). `driver`: the class of connections.
    `key_ring`: encrypts and decrypts what is stored (`store.encryption`); connections carry it.
    `read_only`: Postgres refuses every write, but behind a pooler, which takes no options.

    A connection that was cut while it lay in the pool is replaced before a statement is sent to it.
    """

    key_ring: KeyRing = NO_KEYS

    def __init__(
        self,
        url: str,
        *,
        name: str = "dispatcher",
        pool_size: int = 5,
        timeout_seconds: float = 5.0,
        pooler: bool = False,
        strict: bool = True,
        driver: type[Driver] = psycopg.Connection,
        key_ring: KeyRing = NO_KEYS,
        read_only: bool = False,
    ) -> None:
        self.key_ring = key_ring
        self._url = url
        self._read_only = read_only
        self._driver = driver
        self._strict = strict
        self._name = name
        self._pool_size = pool_size
        self._timeout_seconds = timeout_seconds
        self._pooler = pooler
        self._engines: Engines | None = None
        self._latest: dict[str, int] = {}
        self._lock = threading.Lock()

    @property
    def pooler(self) -> bool:
        """Whether the URL leads to a transaction-pooling proxy."""
        return self._pooler

    @property
    def engine(self) -> Engine:
        """This process's engine for transactions; made on first use."""
        return self._of_this_process().transactional

    def _of_this_process(self) -> "Engines":
        engines = self._engines
        if engines is not None and engines.pid == os.getpid():
            return engines
        with self._lock:
            if self._engines is None or self._engines.pid != os.getpid():
                if self._engines is not None:
                    self._engines.dispose(close=False)
                self._engines = Engines(os.getpid(), self._make(), self._make(autocommit=True))
            return self._engines

    def _make(self, *, autocommit: bool = False) -> Engine:
        arguments: dict[str, object] = {
            "connect_timeout": max(2, round(self._timeout_seconds)),
            "application_name": self._name,
            # A server that stopped without closing its connections is detected within ten seconds, idle or not.
            "keepalives_idle": 4,
            "keepalives_interval": 2,
            "keepalives_count": 2,
            "tcp_user_timeout": 8_000,
        }
        if self._pooler:
            arguments["prepare_threshold"] = None
        else:
            settings = [sessions.PINNED, sessions.DURABLE, sessions.BOUNDS, sessions.FAST]
            settings += [sessions.PROBES] if autocommit else []
            settings += [sessions.READ_ONLY] if self._read_only else []
            arguments["options"] = sessions.options(*settings)
        engine = create_engine(
            "postgresql+psycopg://",
            creator=sessions.connector(
                self._url,
                arguments,
                pooler=self._pooler,
                strict=self._strict,
                driver=self._driver,
                latest=self._latest,
            ),
            isolation_level="AUTOCOMMIT" if autocommit else None,
            # Nothing to roll back: a connection of the autocommit engine never has a transaction open.
            pool_reset_on_return=None if autocommit else "rollback",
            pool_size=self._pool_size,
            max_overflow=self._pool_size,
            pool_timeout=self._timeout_seconds,
            pool_recycle=1800,
            hide_parameters=True,
            execution_options={encryption.OPTION: self.key_ring},
        )
        event.listen(engine, "connect", sessions.note_alone)
        event.listen(engine, "checkin", _note_use)
        event.listen(engine, "checkout", _check_life)
        return engine

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Begin a transaction: committed at the end of the block, rolled back on an error.

        Raises `StoreUnavailable`, `TryAgain` or `StatementRefused` for errors of Postgres; other errors pass through.
        """
        engines = self._of_this_process()
        with translated(engines.dispose, engines.autocommit), engines.transactional.connect() as connection:
            with connection.begin():
                if self._pooler:
                    connection.exec_driver_sql("SET LOCAL synchronous_commit = on")
                yield connection
            sessions.refuse_alone(connection)

    @contextmanager
    def autocommit(self) -> Iterator[Connection]:
        """Return a connection whose statements are a transaction each, which saves the round trips of BEGIN and COMMIT.

        It has a separate engine, because switching one connection between the two modes costs as much as it saves.
        """
        engines = self._of_this_process()
        with translated(engines.dispose, engines.autocommit), engines.autocommit.connect() as connection:
            yield connection
            sessions.refuse_alone(connection)

    def at_once(self, query: Query[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what `query(connection, …)` returns on a connection of `autocommit`.

        A process that is frozen between the statements of a transaction holds its locks; between these it holds none.
        """
        with self.autocommit() as connection:
            return query(connection, *args, **kwargs)

    def read(self, query: Query[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Do the same. If the connection is lost meanwhile, `query` is called once more on another.

        It must be safe to repeat.
        """
        try:
            return self.at_once(query, *args, **kwargs)
        except StoreUnavailable as error:
            if not error.connection_lost:
                raise
        return self.at_once(query, *args, **kwargs)

    def again(self, action: Query[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what `action(connection, …)` returns in a transaction.

        After a deadlock or a lock timeout the transaction is repeated, five times in all, and once if the connection is
        lost before the commit is asked for. Raises `StoreUnavailable` after that, `Locked` where it was for a lock.
        """
        may_lose = True
        for _ in range(_TRIES):
            committing = False
            try:
                with self.transaction() as connection:
                    result = action(connection, *args, **kwargs)
                    committing = True
            except TryAgain:
                continue
            except StoreUnavailable as error:
                if committing or not (may_lose and error.connection_lost):
                    raise
                may_lose = False
                continue
            return result
        raise Locked

    def close(self) -> None:
        """Close this process's connections."""
        with self._lock:
            if self._engines is not None:
                self._engines.dispose(close=self._engines.pid == os.getpid())
                self._engines = None


@dataclass(frozen=True, slots=True)
class Engines:
    """The engines of one process."""

    pid: int
    transactional: Engine
    autocommit: Engine

    def dispose(self, *, close: bool = True) -> None:
        """Drop the pooled connections; those in use are closed when they are given back."""
        self.transactional.dispose(close=close)
        self.autocommit.dispose(close=close)


def _note_use(_driver: Driver, entry: ConnectionPoolEntry) -> None:
    entry.info["used_at"] = time.monotonic()


def _check_life(driver: Driver, entry: ConnectionPoolEntry, _proxy: object) -> None:
    """Replace the connections of the pool where this one was cut."""
    used_at = entry.info.get("used_at")
    if used_at is not None and not _lives(driver, time.monotonic() - used_at):
        raise InvalidatePoolError


def _lives(driver: Driver, idle_seconds: float) -> bool:
    if driver.closed:
        return False
    socket = select.poll()
    socket.register(driver.fileno(), select.POLLIN)
    if socket.poll(0):  # an idle session receives only its end, or a changed setting
        return False
    if idle_seconds < _IDLE_SECONDS:
        return True
    before = driver.autocommit
    try:
        driver.autocommit = True
        driver.execute("SELECT 1", prepare=False)
        driver.autocommit = before
    except psycopg.Error:
        return False
    return True


class translated:  # noqa: N801 - used like a function
    """A context that raises errors of SQLAlchemy and psycopg as ours, without the values in their messages.

    drop   called if the server is out of service, to close the other connections to it
    ask    where to ask which right is missing, if one is
    """

    __slots__ = ("_ask", "_drop")  # and no generator, which would cost a submit 3 µs

    def __init__(self, drop: Callable[[], None] | None = None, ask: Engine | None = None) -> None:
        self._drop = drop
        self._ask = ask

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if error is None:
            return
        ours = _in_our_words(error)
        if isinstance(ours, NotPermitted) and self._ask is not None:
            ours = explained(self._ask, ours)
        elif isinstance(ours, StoreUnavailable) and self._drop is not None and ours.connection_lost:
            self._drop()
        if ours is not error:
            raise ours from None


def _in_our_words(error: BaseException) -> BaseException:
    """Return what is raised instead of an error; itself, if it is none of SQLAlchemy or psycopg."""
    match error:
        case PoolTimeout():
            return NothingDone("No connection to Postgres was free in time; raise the pool or lower the load.")
        case DBAPIError():
            return Trouble.of(error.orig, error.statement).translated(away=error.connection_invalidated)
        case psycopg.Error():
            return Trouble.of(error).translated()
        case SQLAlchemyError():
            return StoreUnavailable(f"Postgres could not be used ({type(error).__name__}); see `dispatcher doctor`.")
        case _:
            return error


class Rehearsal(Database):
    """A database whose transactions are all rolled back; rules, constraints, races and refusals apply as usual.

    Locks last as long as in a committed transaction. A transaction does not see the changes of the one before.
    """

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Begin a transaction that is always rolled back."""
        engines = self._of_this_process()
        with translated(engines.dispose, engines.autocommit), engines.transactional.connect() as connection:
            try:
                yield connection
            finally:
                connection.rollback()

    @contextmanager
    def autocommit(self) -> Iterator[Connection]:
        """Begin a transaction, so that a statement that would otherwise commit by itself is rolled back too."""
        with self.transaction() as connection:
            yield connection
