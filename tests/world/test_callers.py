"""Callers as they come: what has a transaction of our database can be joined, and the rest is told in a sentence."""

import asyncio
import os
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from sqlalchemy.pool import NullPool

from dispatcher.config.urls import normal_database_url
from dispatcher.errors import InvalidLead, StoreUnavailable
from dispatcher.intake.bulk import Bulk
from dispatcher.intake.submit import Intake
from dispatcher.lead.options import Submission
from dispatcher.store.database import Database
from tests.database.queue import Queue, phone
from tests.support.doubles import Bell
from tests.support.waiting import wait_until


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(normal_database_url(database_url))
    yield database
    database.close()


@pytest.fixture
def queue(database: Database) -> Queue:
    return Queue(database)


@pytest.fixture
def bell() -> Bell:
    return Bell()


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """An application's own engine."""
    engine = create_engine(normal_database_url(database_url), poolclass=NullPool)
    yield engine
    engine.dispose()


class Caller:
    """Submits in a caller's transaction, alone and in bulk."""

    def __init__(self, database: Database, bell: Bell) -> None:
        self._intake = Intake(database, bell)
        self._bulk = Bulk(database, bell)

    def submit(self, session: Any, number: int = 0, **options: Any) -> Submission:
        lead = {"phone_number": phone(number), "campaign_id": 42, "variables": {"customer_name": "Zoë"}}
        return self._intake.submit(lead, options, account="default", session=session)

    def many(self, session: Any) -> int:
        people = [{"phone_number": phone(number), "campaign_id": 42} for number in range(1, 4)]
        return self._bulk.submit_many(people, account="default", session=session).submitted


@pytest.fixture
def caller(database: Database, bell: Bell) -> Caller:
    return Caller(database, bell)


# What can be joined ---------------------------------------------------------------------------------------------------


def test_a_scoped_session_as_flask_has_it_is_joined_and_its_commit_announced(
    engine: Engine, caller: Caller, queue: Queue, bell: Bell
) -> None:
    """Flask-SQLAlchemy 3.1: `db.session` is a `scoped_session` (flask_sqlalchemy/extension.py)."""
    session = scoped_session(sessionmaker(engine))

    caller.submit(session)
    assert caller.many(session) == 3
    assert queue.states() == {}
    session.commit()

    assert queue.states() == {"pending": 4}
    assert bell.rung == [("default", 42)]
    session.remove()


def test_a_bare_connection_of_psycopg_is_joined(database_url: str, caller: Caller, queue: Queue) -> None:
    """psycopg 3: a connection begins a transaction by its first statement (docs, "Transactions management")."""
    with psycopg.connect(database_url) as connection:
        first = caller.submit(connection, idempotency_key="order-1", not_before=None)
        again = caller.submit(connection, idempotency_key="order-1")
        second = caller.submit(connection)
        assert caller.many(connection) == 3
        assert queue.states() == {}

    assert (again.id, again.created, second.state) == (first.id, False, "duplicate")
    assert queue.states() == {"pending": 4, "duplicate": 1}


def test_a_bare_connection_that_is_rolled_back_takes_its_leads_with_it(
    database_url: str, caller: Caller, queue: Queue
) -> None:
    with psycopg.connect(database_url) as connection:
        caller.submit(connection)
        caller.many(connection)
        connection.rollback()

    assert queue.states() == {}


def test_a_bare_connection_in_autocommit_joins_inside_a_transaction_only(
    database_url: str, caller: Caller, queue: Queue
) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        with pytest.raises(InvalidLead, match=r"session: is in AUTOCOMMIT mode.*with connection\.transaction"):
            caller.submit(connection)
        with connection.transaction():
            caller.submit(connection)

    assert queue.states() == {"pending": 1}


def test_a_refused_submit_leaves_a_bare_connection_usable(database_url: str, caller: Caller, queue: Queue) -> None:
    caller.submit(None, idempotency_key="order-1")
    with psycopg.connect(database_url) as connection:
        connection.execute("CREATE TABLE public.orders (id int)")
        with pytest.raises(Exception, match="another payload"):
            caller.submit(connection, 1, idempotency_key="order-1")
        caller.submit(connection, 2)

    assert queue.states() == {"pending": 2}


@pytest.mark.parametrize("datestyle", ["SQL, DMY", "German", "Postgres, MDY"])
def test_a_session_that_writes_dates_in_another_way_is_joined(
    engine: Engine, caller: Caller, queue: Queue, datestyle: str
) -> None:
    """Postgres docs 8.5.2: DateStyle decides how a timestamp is written; psycopg reads ISO alone."""
    with Session(engine) as session:
        session.execute(text(f"SET DateStyle = '{datestyle}'"))
        caller.submit(session, idempotency_key="order-1")
        assert caller.many(session) == 3
        session.commit()

    assert queue.states() == {"pending": 4}


def test_a_session_with_another_driver_is_joined(database_url: str, caller: Caller, queue: Queue) -> None:
    pytest.importorskip("psycopg2")
    engine = create_engine(database_url.replace("postgresql://", "postgresql+psycopg2://"), poolclass=NullPool)
    with Session(engine) as session:
        first = caller.submit(session, idempotency_key="order-1", priority=3)
        again = caller.submit(session, idempotency_key="order-1", priority=3)
        caller.submit(session, 1)
        assert caller.many(session) == 2, "one person stands already"
        session.commit()

    assert (again.id, again.created) == (first.id, False)
    assert queue.states() == {"pending": 4, "duplicate": 1}


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_an_async_session_joins_by_run_sync(database_url: str, caller: Caller, queue: Queue, driver: str) -> None:
    """SQLAlchemy docs, "Running Synchronous Methods and Functions under asyncio"."""
    pytest.importorskip("greenlet")
    asyncio_ = pytest.importorskip("sqlalchemy.ext.asyncio")

    pytest.importorskip(driver)

    async def act() -> None:
        address = database_url.replace("postgresql://", f"postgresql+{driver}://")
        engine = asyncio_.create_async_engine(address, poolclass=NullPool)
        async with asyncio_.AsyncSession(engine) as session:
            with pytest.raises(InvalidLead, match=r"session: is asynchronous; await dispatcher\.asubmit"):
                caller.submit(session)
            await session.run_sync(caller.submit)
            await session.commit()
        async with engine.connect() as connection:
            with pytest.raises(InvalidLead, match="session: is asynchronous"):
                caller.submit(connection)
        await engine.dispose()

    asyncio.run(act())
    assert queue.states() == {"pending": 1}


# What cannot ----------------------------------------------------------------------------------------------------------


def _sqlite_session() -> Any:
    return Session(create_engine("sqlite://"))


STRANGERS: dict[str, tuple[Callable[[], Any], str]] = {
    "a session of SQLite": (_sqlite_session, "belongs to sqlite; the lead has to be in the transaction"),
    "a connection of SQLite": (lambda: create_engine("sqlite://").connect(), "belongs to sqlite"),
    "sqlite3 itself": (lambda: sqlite3.connect(":memory:"), "belongs to SQLite"),
    "an engine": (lambda: create_engine("sqlite://"), "is a Engine, which has no transaction to join; give a SQLA"),
    "a session without an engine": (Session, "has no default engine; give session.connection"),
    "a sessionmaker": (sessionmaker, "is a sessionmaker, which has no transaction"),
    "a string": (lambda: "session", "is a str, which has no transaction"),
}


@pytest.mark.parametrize(("stranger", "sentence"), STRANGERS.values(), ids=STRANGERS.keys())
def test_what_cannot_be_joined_is_told_in_one_sentence(
    caller: Caller, stranger: Callable[[], Any], sentence: str
) -> None:
    for submit in (caller.submit, caller.many):
        with pytest.raises(InvalidLead, match=f"session: {sentence}"):
            submit(stranger())


def _closed(engine: Engine) -> Any:
    with engine.connect() as connection:
        return connection


def _closed_for_good(engine: Engine) -> Any:
    with Session(engine, close_resets_only=False) as session:
        return session


def _invalidated(engine: Engine) -> Any:
    connection = engine.connect()
    connection.exec_driver_sql("SELECT 1")
    connection.invalidate()
    return connection


def _closed_driver(engine: Engine) -> Any:
    driver = psycopg.connect(engine.url.set(drivername="postgresql").render_as_string(hide_password=False))
    driver.close()
    return driver


ENDED: dict[str, tuple[Callable[[Engine], Any], str]] = {
    "a session that waits for its begin": (
        lambda engine: Session(engine, autobegin=False),
        "has no open transaction; begin one: with session.begin",
    ),
    "a session that was closed for good": (_closed_for_good, "has no open transaction"),
    "a connection that was closed": (_closed, "is closed; give a connection that is open"),
    "a connection that was lost": (_invalidated, "has lost its connection to Postgres; roll it back"),
    "a bare connection that was closed": (_closed_driver, "is closed; give a connection that is open"),
}


@pytest.mark.parametrize(("ended", "sentence"), ENDED.values(), ids=ENDED.keys())
def test_what_has_ended_or_not_begun_is_told_so(
    engine: Engine, caller: Caller, queue: Queue, ended: Callable[[Engine], Any], sentence: str
) -> None:
    """SQLAlchemy docs, Session API: `autobegin`, `close_resets_only`."""
    session = ended(engine)
    for submit in (caller.submit, caller.many):
        with pytest.raises(InvalidLead, match=f"session: {sentence}"):
            submit(session)
    if not isinstance(session, psycopg.Connection):
        session.close()
    assert queue.states() == {}


def test_what_failed_in_a_callers_pipeline_is_raised_as_the_callers_own(
    database_url: str, caller: Caller, queue: Queue
) -> None:
    """Seen: "the dispatcher's tables are missing", of a table of the caller's that is missing."""

    def submit() -> None:
        with psycopg.connect(database_url) as connection, connection.pipeline():
            connection.execute("INSERT INTO no_such VALUES (1)")
            caller.submit(connection)

    with pytest.raises(psycopg.errors.UndefinedTable, match="no_such"):
        submit()
    assert queue.states() == {}


def test_a_bare_connection_in_a_pipeline_is_joined(database_url: str, caller: Caller, queue: Queue) -> None:
    with psycopg.connect(database_url) as connection, connection.pipeline():
        assert caller.submit(connection).state == "pending"
        with pytest.raises(InvalidLead, match="session: is in pipeline mode, which knows no COPY; leave the pipeline"):
            caller.many(connection)
    assert queue.states() == {"pending": 1}


def test_after_a_warm_up_a_submit_may_be_the_last_act_of_a_process(database_url: str, queue: Queue) -> None:
    """Python docs, atexit: what is imported for the first time then may start no threads, as redis-py does."""
    code = """
        import atexit
        import dispatcher
        dispatcher.warm_up()
        atexit.register(lambda: dispatcher.submit({"phone_number": "+12025550177", "campaign_id": 42}))
    """
    environment = {**os.environ, "DATABASE_URL": database_url, "REDIS_URL": "redis://127.0.0.1:9/0"}
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], env=environment, capture_output=True, text=True, check=True
    )
    assert "Traceback" not in ended.stderr
    assert queue.states() == {"pending": 1}


def test_an_autocommit_connection_is_told_its_own_cause(engine: Engine, caller: Caller, queue: Queue) -> None:
    """SQLSTATE 25P01: SAVEPOINT can only be used in transaction blocks."""
    with (
        engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection,
        pytest.raises(StoreUnavailable, match="AUTOCOMMIT mode and has no transaction"),
    ):
        caller.submit(connection)
    assert queue.states() == {}


def test_a_transaction_that_only_reads_is_told_so_and_goes_on(
    engine: Engine, database_url: str, caller: Caller, queue: Queue
) -> None:
    """SQLSTATE 25006, of the caller's transaction and not of our server: READ ONLY, or psycopg's read_only."""
    with Session(engine) as session, psycopg.connect(database_url) as bare:
        session.execute(text("SET TRANSACTION READ ONLY"))
        bare.read_only = True
        for submit in (caller.submit, caller.many):
            for one in (session, bare):
                with pytest.raises(InvalidLead, match="session: is read-only; begin a transaction that may write"):
                    submit(one)
        assert session.execute(text("SELECT 1")).scalar_one() == 1
        assert bare.execute("SELECT 1").fetchone() == (1,)
    assert queue.states() == {}


def test_a_transaction_that_failed_before_is_told_so(engine: Engine, caller: Caller) -> None:
    """SQLSTATE 25P02: current transaction is aborted."""
    with engine.connect() as connection:
        with pytest.raises(DBAPIError):
            connection.execute(text("SELECT 1 / 0"))
        with pytest.raises(StoreUnavailable, match="has failed before; roll it back"):
            caller.submit(connection)


# What is the caller's to repeat ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("bare", [False, True])
def test_a_serializable_caller_gets_its_own_serialization_failure(
    engine: Engine, database_url: str, caller: Caller, queue: Queue, monkeypatch: pytest.MonkeyPatch, bare: bool
) -> None:
    """Postgres docs 13.2.3: applications must be prepared to retry the whole transaction (SQLSTATE 40001)."""
    if bare:
        connection: Any = psycopg.connect(database_url)
        connection.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
        connection.execute("SELECT count(*) FROM dispatcher.leads")
    else:
        connection = engine.connect().execution_options(isolation_level="SERIALIZABLE")
        connection.execute(text("SELECT count(*) FROM dispatcher.leads"))
    caller.submit(None)

    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("it waits to try again"))
    with pytest.raises(psycopg.errors.SerializationFailure if bare else OperationalError) as failure:
        caller.submit(connection)

    original = failure.value if bare else failure.value.orig  # type: ignore[attr-defined]
    assert original.sqlstate == "40001"
    assert phone(0) not in str(failure.value)
    connection.rollback()
    connection.close()
    assert queue.states() == {"pending": 1}


@pytest.mark.parametrize("bare", [False, True])
def test_two_callers_in_opposite_order_get_a_deadlock_at_once(
    engine: Engine, database_url: str, caller: Caller, queue: Queue, bare: bool
) -> None:
    """Postgres looks for a deadlock after deadlock_timeout, 1 s by default; trying again only deadlocks again."""
    connections: list[Any] = [psycopg.connect(database_url) if bare else engine.connect() for _ in range(2)]
    caller.submit(connections[0], 1)
    caller.submit(connections[1], 2)
    raised: list[Exception] = []

    def cross(index: int) -> None:
        try:
            caller.submit(connections[index], 2 - index)
        except (DBAPIError, psycopg.Error) as error:
            raised.append(error)
            connections[index].rollback()

    threads = [threading.Thread(target=cross, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    # The other one goes on when its rival has rolled back.
    for thread in threads:
        thread.join(60)

    (error,) = raised
    original = error if bare else error.orig  # type: ignore[attr-defined]
    assert original.sqlstate == "40P01"
    for connection in connections:
        connection.commit()
        connection.close()
    assert sum(queue.states().values()) == 2
    seen = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    assert wait_until(lambda: queue.rows(seen)[0].deadlocks) == 1  # one alone: nothing was tried again
