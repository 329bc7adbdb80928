"""The connection to Postgres: made per process, bounded in time, and with errors that carry nobody's data."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Concatenate, Final, ParamSpec, TypeVar

import psycopg
from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from dispatcher.errors import StoreUnavailable

T = TypeVar("T")
P = ParamSpec("P")

Query = Callable[Concatenate[Connection, P], T]
"""A function that runs statements on the connection that it is given first."""

_SESSION_OPTIONS: Final = (
    "-c synchronous_commit=on"  # a claim must survive a crash before its POST may leave
    " -c statement_timeout=30s -c lock_timeout=5s -c idle_in_transaction_session_timeout=30s"
    " -c jit=off -c plan_cache_mode=force_generic_plan -c timezone=UTC"
)
# The statements of every turn touch a handful of rows, but their plans may be made, and kept, before the statistics of
# a growing table are: then a scan or a hash of the whole table looks cheap. Measured: 1 850 rows read a lead.
_INDEX_PROBES: Final = " -c enable_seqscan=off -c enable_hashjoin=off -c enable_mergejoin=off -c enable_material=off"
_AGAIN: Final = frozenset({"40001", "40P01", "55P03"})  # serialization, deadlock, lock timeout: nothing was done
_REFUSED_CLASSES: Final = frozenset({"21", "22", "23", "27", "44", "54", "P0", "XX"})
"""What a repetition cannot mend: the values, a constraint, a trigger, a limit, a damaged row. Anything else may pass: a
server that is away, stopping, full, read-only after a failover, without our tables or our rights."""
_OTHER_SCHEMA: Final = frozenset({"42P01", "3F000", "42703"})
_TRIES: Final = 5


class StatementRefused(Exception):
    """Postgres refused what a statement said (a constraint, a value). Carries codes, never values."""

    def __init__(self, sqlstate: str | None, constraint: str | None) -> None:
        self.sqlstate = sqlstate
        self.constraint = constraint
        super().__init__(f"Postgres refused a statement (SQLSTATE {sqlstate}, constraint {constraint})")


class OtherSchema(StoreUnavailable):
    """Our tables are missing or of another version: nothing was done, and waiting will not help."""


class TryAgain(Exception):
    """A deadlock or a lock timeout: the transaction did nothing and may simply be repeated."""


class Database:
    """A lazily connected engine, one per process: a child made by `fork` never touches its parent's sockets.

    `pooler`: the URL leads to a transaction-pooling proxy: no prepared statements, no start-up options.
    `pool_size`: connections kept; as many again may be opened for a moment. Waits at most `timeout_seconds` for either.
    """

    def __init__(
        self,
        url: str,
        *,
        name: str = "dispatcher",
        pool_size: int = 5,
        timeout_seconds: float = 5.0,
        pooler: bool = False,
    ) -> None:
        self._url = url
        self._name = name
        self._pool_size = pool_size
        self._timeout_seconds = timeout_seconds
        self._pooler = pooler
        self._engines: _Engines | None = None
        self._lock = threading.Lock()

    @property
    def engine(self) -> Engine:
        """This process's engine for transactions; made on first use."""
        return self._of_this_process().transactional

    def _of_this_process(self) -> "_Engines":
        engines = self._engines
        if engines is not None and engines.pid == os.getpid():
            return engines
        with self._lock:
            if self._engines is None or self._engines.pid != os.getpid():
                if self._engines is not None:
                    self._engines.dispose(close=False)
                self._engines = _Engines(os.getpid(), self._make(), self._make(autocommit=True))
            return self._engines

    def _make(self, *, autocommit: bool = False) -> Engine:
        arguments: dict[str, object] = {
            "connect_timeout": max(2, round(self._timeout_seconds)),
            "application_name": self._name,
            "keepalives_idle": 30,
            "tcp_user_timeout": 20_000,
        }
        if self._pooler:
            arguments["prepare_threshold"] = None
        else:
            arguments["options"] = _SESSION_OPTIONS + (_INDEX_PROBES if autocommit else "")
        return create_engine(
            self._url,
            connect_args=arguments,
            isolation_level="AUTOCOMMIT" if autocommit else None,
            # Nothing to roll back: a connection of the autocommit engine never has a transaction open.
            pool_reset_on_return=None if autocommit else "rollback",
            pool_size=self._pool_size,
            max_overflow=self._pool_size,
            pool_timeout=self._timeout_seconds,
            pool_recycle=1800,
            hide_parameters=True,
        )

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A transaction of its own: committed on leaving, rolled back on an error.

        Raises `StoreUnavailable`, `TryAgain` or `StatementRefused` for what Postgres says; other errors pass through.
        """
        with translated(), self.engine.begin() as connection:
            if self._pooler:
                connection.exec_driver_sql("SET LOCAL synchronous_commit = on")
            yield connection

    @contextmanager
    def autocommit(self) -> Iterator[Connection]:
        """For statements that are a transaction each: saves the round trips of BEGIN and COMMIT.

        From an engine of its own: switching one connection between the two ways costs as much as it saves.
        """
        engine = self._of_this_process().autocommit
        with translated():
            try:
                with engine.connect() as connection:
                    yield connection
            except psycopg.OperationalError:
                # The server went away: its other connections in the pool are no better.
                engine.dispose()
                raise

    def read(self, query: Query[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what `query(connection, …)` returns on a connection of `autocommit`."""
        with self.autocommit() as connection:
            return query(connection, *args, **kwargs)

    def again(self, action: Query[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what `action(connection, …)` returns in a transaction.

        After a deadlock or a lock timeout the transaction is repeated, five times in all. Raises `StoreUnavailable`
        after that.
        """
        for _ in range(_TRIES - 1):
            try:
                with self.transaction() as connection:
                    return action(connection, *args, **kwargs)
            except TryAgain:
                continue
        try:
            with self.transaction() as connection:
                return action(connection, *args, **kwargs)
        except TryAgain as error:
            raise StoreUnavailable("Postgres kept refusing a lock; find the long transaction and end it.") from error

    def close(self) -> None:
        """Close this process's connections."""
        with self._lock:
            if self._engines is not None:
                self._engines.dispose(close=self._engines.pid == os.getpid())
                self._engines = None


@dataclass(frozen=True, slots=True)
class _Engines:
    """What belongs to one process."""

    pid: int
    transactional: Engine
    autocommit: Engine

    def dispose(self, *, close: bool) -> None:
        self.transactional.dispose(close=close)
        self.autocommit.dispose(close=close)


@contextmanager
def translated() -> Iterator[None]:
    """Turn SQLAlchemy's and psycopg's errors into ours, without the values they quote."""
    try:
        yield
    except PoolTimeout:
        raise StoreUnavailable(
            "No connection to Postgres was free in time; raise the pool or lower the load."
        ) from None
    except DBAPIError as error:
        raise _translate(error.orig, away=error.connection_invalidated) from None
    except psycopg.Error as error:
        raise _translate(error) from None
    except SQLAlchemyError as error:
        raise StoreUnavailable(
            f"Postgres could not be used ({type(error).__name__}); see `dispatcher doctor`."
        ) from None


def _translate(original: BaseException | None, *, away: bool = False) -> Exception:
    sqlstate: str | None = getattr(original, "sqlstate", None)
    if sqlstate in _AGAIN:
        return TryAgain(sqlstate)
    if away or sqlstate is None or sqlstate[:2] not in _REFUSED_CLASSES:
        if sqlstate in _OTHER_SCHEMA:
            return OtherSchema("The dispatcher's tables are missing or of another version; run `dispatcher migrate`.")
        return _unavailable(sqlstate)
    constraint = getattr(getattr(original, "diag", None), "constraint_name", None)
    return StatementRefused(sqlstate, constraint)


def _unavailable(sqlstate: str | None) -> StoreUnavailable:
    code = f" (SQLSTATE {sqlstate})" if sqlstate else ""
    return StoreUnavailable(
        f"Postgres cannot be reached or is stopping{code}; check DATABASE_URL and `dispatcher doctor`."
    )


class Rehearsal(Database):
    """Every transaction is rolled back: rules, constraints and races are the real ones, and so are the refusals.

    What it locks it holds for as long as the real thing would. Between two transactions it remembers nothing.
    """

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A transaction that ends as if it had never been."""
        with translated(), self.engine.connect() as connection:
            try:
                yield connection
            finally:
                connection.rollback()

    @contextmanager
    def autocommit(self) -> Iterator[Connection]:
        """As `transaction`: a statement that would commit by itself is rolled back too."""
        with self.transaction() as connection:
            yield connection
