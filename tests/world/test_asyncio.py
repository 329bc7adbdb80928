"""Producers on asyncio: the event loop goes on whatever a submission waits for, and a cancellation leaves no doubt."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from typing import Any, TypeVar
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

import dispatcher
from dispatcher.asynchronous import THREADS
from dispatcher.broker.doorbell import Doorbell
from dispatcher.config.settings import Settings
from dispatcher.config.urls import normal_database_url
from dispatcher.errors import InvalidLead
from dispatcher.intake.together import StoredTogether, Together
from dispatcher.store.database import Database
from tests.database.queue import Queue, phone
from tests.support.environment import clean_environment

T = TypeVar("T")

TICKS = 20


@pytest.fixture
def queue(database_url: str) -> Iterator[Queue]:
    database = Database(normal_database_url(database_url))
    yield Queue(database)
    database.close()


@pytest.fixture
def producer(settings: Settings) -> Iterator[dispatcher.Dispatcher]:
    producer = dispatcher.Dispatcher(settings)
    yield producer
    producer.close()


@asynccontextmanager
async def engine_of(database_url: str, driver: str) -> AsyncIterator[AsyncEngine]:
    engine = create_async_engine(database_url.replace("postgresql://", f"postgresql+{driver}://"), poolclass=NullPool)
    try:
        yield engine
    finally:
        await engine.dispose()


@contextmanager
def table_locked(database_url: str) -> Iterator[Callable[[], None]]:
    """Nobody can store a lead until what this yields is called."""
    with psycopg.connect(database_url) as connection:
        connection.execute("LOCK TABLE dispatcher.leads IN EXCLUSIVE MODE")
        yield connection.commit


async def ticks(number: int = TICKS) -> None:
    """Some turns of the event loop: they come only if nothing blocks it."""
    for _ in range(number):
        await asyncio.sleep(0.005)


async def meanwhile(call: Awaitable[T], release: Callable[[], None]) -> T:
    """Await a call that waits for a lock, which is released once the loop has gone on for some turns."""
    waiting = asyncio.ensure_future(call)
    await ticks()
    assert not waiting.done(), "it waits for the lock"
    release()
    return await waiting


def lead(number: int = 0) -> dict[str, Any]:
    return {"phone_number": phone(number), "campaign_id": 42, "variables": {"customer_name": "Zoë"}}


# The loop goes on -----------------------------------------------------------------------------------------------------


def test_a_hundred_at_once_are_stored_and_as_many_turns_of_the_loop_are_made(
    producer: dispatcher.Dispatcher, queue: Queue
) -> None:
    async def act() -> int:
        stored = asyncio.gather(*(producer.asubmit(lead(number)) for number in range(100)))
        turns = 0
        while not stored.done():
            await asyncio.sleep(0)
            turns += 1
        assert len({one.id for one in await stored}) == 100
        return turns

    assert asyncio.run(act()) >= 100
    assert queue.states() == {"pending": 100}


@pytest.mark.parametrize("many", [False, True])
def test_a_submission_that_waits_for_postgres_lets_the_loop_go_on(
    producer: dispatcher.Dispatcher, queue: Queue, database_url: str, many: bool
) -> None:
    async def act() -> None:
        with table_locked(database_url) as release:
            call = producer.asubmit_many([lead(0), lead(1)]) if many else producer.asubmit(lead())
            await meanwhile(call, release)

    asyncio.run(act())
    assert queue.states() == {"pending": 2 if many else 1}


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
@pytest.mark.parametrize("many", [False, True])
def test_in_a_session_too(
    producer: dispatcher.Dispatcher, queue: Queue, database_url: str, driver: str, many: bool
) -> None:
    async def act() -> None:
        async with engine_of(database_url, driver) as engine, AsyncSession(engine) as session:
            with table_locked(database_url) as release:
                if many:
                    await meanwhile(producer.asubmit_many([lead(0), lead(1)], session=session), release)
                else:
                    await meanwhile(producer.asubmit(lead(), session=session), release)
            assert queue.states() == {}
            await session.commit()

    asyncio.run(act())
    assert queue.states() == {"pending": 2 if many else 1}


def test_the_loop_neither_connects_nor_rings(
    settings: Settings, queue: Queue, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unreachable Postgres or Redis takes seconds to say so, in the thread that asks."""
    asking: list[tuple[str, int]] = []
    connect, ring = psycopg.Connection.connect, Doorbell.ring

    def connecting(*arguments: Any, **options: Any) -> Any:
        asking.append(("connect", threading.get_ident()))
        return connect(*arguments, **options)

    def ringing(bell: Doorbell, channel: Any) -> bool:
        asking.append(("ring", threading.get_ident()))
        return ring(bell, channel)

    async def act() -> None:
        producer = dispatcher.Dispatcher(settings)
        await producer.asubmit(lead(0))
        await producer.asubmit_many([lead(1)])
        async with engine_of(database_url, "psycopg") as engine, AsyncSession(engine) as session:
            await producer.asubmit(lead(2), session=session)
            await producer.asubmit_many([lead(3)], session=session)
            await session.commit()
        await asyncio.to_thread(producer.close)

    with monkeypatch.context() as patched:
        patched.setattr(psycopg.Connection, "connect", connecting)
        patched.setattr(Doorbell, "ring", ringing)
        asyncio.run(act())

    assert {what for what, _ in asking} == {"connect", "ring"}
    assert threading.get_ident() not in {thread for _, thread in asking}
    assert queue.states() == {"pending": 4}


FIRST_CALL = """
import asyncio, sys, threading
loaded_by = {}
class Watch:  # a finder that finds nothing, asked first: which thread loads what
    def find_spec(self, name, path=None, target=None):
        loaded_by.setdefault(threading.current_thread() is threading.main_thread(), []).append(name)
sys.meta_path.insert(0, Watch())
async def act():
    import dispatcher
    return await dispatcher.{call}
print(asyncio.run(act()))
ours = [name for name in loaded_by[True] if name.partition(".")[0] not in sys.stdlib_module_names]
print(sorted(ours), "sqlalchemy" in loaded_by[False])
"""


@pytest.mark.parametrize(
    "call",
    [
        "asubmit({'phone_number': '+14155550100', 'campaign_id': 42})",
        "asubmit_many([{'phone_number': '+14155550100', 'campaign_id': 42}])",
    ],
)
def test_the_first_call_loads_in_a_thread(environment: Mapping[str, str], call: str) -> None:
    """Loading takes a second or two, in which a server would answer nobody."""
    done = subprocess.run(
        [sys.executable, "-c", FIRST_CALL.replace("{call}", call)],
        env={**clean_environment(), **environment},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    on_the_loop, _, in_a_thread = done.stdout.splitlines()[-1].rpartition(" ")
    assert in_a_thread == "True"
    assert on_the_loop == "['dispatcher', 'dispatcher.asynchronous']"


# One transaction ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_rows_and_leads_of_a_session_are_committed_together_or_not_at_all(
    producer: dispatcher.Dispatcher, queue: Queue, database_url: str, driver: str
) -> None:
    async def act(*, commit: bool, first: int) -> None:
        async with engine_of(database_url, driver) as engine, AsyncSession(engine) as session:
            await session.execute(text("CREATE TABLE IF NOT EXISTS public.orders (id int)"))
            await session.execute(text("INSERT INTO public.orders VALUES (1)"))
            key = {"idempotency_key": f"order-{first}", "priority": 3}
            one = await producer.asubmit(lead(first), session=session, **key)
            again = await producer.asubmit(lead(first), session=session, **key)
            assert (again.id, again.created) == (one.id, False)
            contacts = {**lead(first + 1), "secondary_contacts": [{"phone_number": phone(90)}]}
            people = [
                contacts,
                (lead(first + 2), {"idempotency_key": f"other-{first}"}),
                lead(first),
                {"campaign_id": 1},
            ]
            many = await producer.asubmit_many(people, session=session)
            assert (many.submitted, many.duplicates, [index for index, _ in many.rejected]) == (2, 1, [3])
            repeated = await producer.asubmit_many(people, session=session, batch_id=many.batch_id)
            assert repeated.repeated == 3
            await (session.commit() if commit else session.rollback())

    asyncio.run(act(commit=False, first=10))
    assert queue.states() == {}
    asyncio.run(act(commit=True, first=0))
    assert queue.states() == {"pending": 3, "duplicate": 1}
    assert queue.rows("SELECT count(*) AS number FROM public.orders")[0].number == 1
    assert queue.rows("SELECT count(*) AS number FROM dispatcher.lead_contacts")[0].number == 1
    held = queue.rows("SELECT variables ->> 'customer_name' AS name FROM dispatcher.leads WHERE state = 'duplicate'")
    assert held[0].name == "Zoë"


def test_what_has_no_asynchronous_transaction_is_told_in_one_sentence(
    producer: dispatcher.Dispatcher, database_url: str
) -> None:
    async def refused(session: Any) -> str:
        with pytest.raises(InvalidLead) as refusal:
            await producer.asubmit(lead(), session=session)
        with pytest.raises(InvalidLead):
            await producer.asubmit_many([lead()], session=session)
        return str(refusal.value)

    async def act() -> None:
        said = await refused(Session())
        assert "session: is a Session, which is not asynchronous; give an AsyncSession" in said
        async with await psycopg.AsyncConnection.connect(database_url) as connection:
            assert "is a AsyncConnection, which is not SQLAlchemy's; give an" in await refused(connection)

    asyncio.run(act())


# Cancellation ---------------------------------------------------------------------------------------------------------


async def blocked(producer: dispatcher.Dispatcher) -> list["asyncio.Task[Any]"]:
    """All threads of the producer wait for the lock of the table, each with a lead of its own."""
    tasks = []
    for number in range(THREADS):
        tasks.append(asyncio.create_task(producer.asubmit(lead(number))))
        await ticks()
    return tasks


def test_a_submission_that_has_not_begun_is_cancelled_and_stores_nothing(
    producer: dispatcher.Dispatcher, queue: Queue, database_url: str
) -> None:
    async def act() -> None:
        with table_locked(database_url) as release:
            others = await blocked(producer)
            late = asyncio.create_task(producer.asubmit(lead(99)))
            await ticks(1)
            late.cancel()
            with pytest.raises(asyncio.CancelledError):
                await late
            release()
        await asyncio.gather(*others)

    asyncio.run(act())
    assert queue.states() == {"pending": THREADS}
    assert phone(99) not in {row.phone_number for row in queue.rows("SELECT phone_number FROM dispatcher.leads")}


# At the same moment ---------------------------------------------------------------------------------------------------


async def at_once(producer: dispatcher.Dispatcher, database_url: str, calls: Sequence[Awaitable[T]]) -> list[Any]:
    """The outcomes of calls that one thread finds waiting together."""
    with table_locked(database_url) as release:
        others = await blocked(producer)
        waiting = [asyncio.ensure_future(call) for call in calls]
        await ticks(2)
        release()
    await asyncio.gather(*others)
    return await asyncio.gather(*waiting, return_exceptions=True)


def test_what_waits_at_the_same_moment_is_stored_by_one_transaction_and_each_is_told_its_own(
    producer: dispatcher.Dispatcher, queue: Queue, database_url: str
) -> None:
    stored = asyncio.run(at_once(producer, database_url, [producer.asubmit(lead(number)) for number in range(10, 30)]))

    rows = queue.rows("SELECT id, phone_number, CAST(xmin AS text) AS xmin FROM dispatcher.leads")
    of_twenty = {row.id: row for row in rows if row.phone_number >= phone(10)}
    assert [of_twenty[one.id].phone_number for one in stored] == [phone(number) for number in range(10, 30)]
    assert {(one.state, one.created, one.duplicate_of) for one in stored} == {("pending", True, None)}
    assert len({row.xmin for row in of_twenty.values()}) == 1


def test_each_of_them_ends_as_a_submit_of_its_own(
    producer: dispatcher.Dispatcher, queue: Queue, database_url: str
) -> None:
    first = producer.submit(lead(10), id=UUID(int=10), idempotency_key="ten")
    producer.block(phone(13), reason="asked", actor="Ada")
    calls = [
        producer.asubmit(lead(10)),
        producer.asubmit({"phone_number": "12", "campaign_id": 42}),
        producer.asubmit(lead(11), idempotency_key="eleven", not_before=timedelta(hours=1)),
        producer.asubmit(lead(12)),
        producer.asubmit(lead(12)),
        producer.asubmit(lead(13)),
        producer.asubmit(lead(14), idempotency_key="ten"),
        producer.asubmit(lead(10), id=first.id),
        producer.asubmit(lead(15), account="sales", priority=9),
    ]
    found = asyncio.run(at_once(producer, database_url, calls))

    assert [getattr(one, "state", type(one).__name__) for one in found] == [
        "duplicate", "InvalidLead", "pending", "pending", "duplicate", "failed", "IdempotencyConflict", "pending",
        "pending",
    ]  # fmt: skip
    assert (found[0].duplicate_of, found[4].duplicate_of) == (first.id, found[3].id)
    assert [one.created for one in found if isinstance(one, dispatcher.Submission)] == [True] * 5 + [False, True]
    assert (found[7].id, found[7].state) == (first.id, "pending")
    (sales,) = queue.rows("SELECT account, priority FROM dispatcher.leads WHERE id = :id", id=found[8].id)
    assert tuple(sales) == ("sales", 9)


NOTE_TIMEOUT = """
CREATE FUNCTION public.note_timeout() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN NEW.last_error := current_setting('lock_timeout'); RETURN NEW; END $$;
CREATE TRIGGER note_timeout BEFORE INSERT ON dispatcher.leads FOR EACH ROW EXECUTE FUNCTION public.note_timeout();
"""


def test_none_of_them_waits_long_for_the_lock_of_another_one(
    producer: dispatcher.Dispatcher, queue: Queue, database_url: str
) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute(NOTE_TIMEOUT)
    asyncio.run(at_once(producer, database_url, [producer.asubmit(lead(number)) for number in (10, 11)]))
    producer.submit(lead(12))

    rows = queue.rows("SELECT phone_number, last_error FROM dispatcher.leads")
    seconds = {row.phone_number: row.last_error for row in rows}
    assert seconds[phone(10)] == seconds[phone(11)] == "100ms"
    assert seconds[phone(12)] != "100ms", "the connection has its own again"


def test_one_that_waits_for_another_transaction_holds_up_none_of_the_others(
    producer: dispatcher.Dispatcher, database_url: str
) -> None:
    async def act() -> list[str]:
        with psycopg.connect(database_url) as connection:
            producer.submit(lead(30), session=connection)
            waiting = asyncio.create_task(producer.asubmit(lead(30)))
            others = await asyncio.gather(*(producer.asubmit(lead(number)) for number in range(31, 40)))
            assert not waiting.done()
            connection.commit()
        return [one.state for one in (await waiting, *others)]

    assert asyncio.run(act()) == ["duplicate"] + ["pending"] * 9


def test_a_commit_of_several_that_nobody_confirmed_is_repeated_under_their_ids(
    producer: dispatcher.Dispatcher, queue: Queue, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = Together.submit

    def unconfirmed(together: Together, entries: Sequence[Any]) -> StoredTogether:
        assert len(really(together, entries).submissions) == 2
        return StoredTogether({}, in_doubt=True)

    monkeypatch.setattr(Together, "submit", unconfirmed)
    stored = asyncio.run(at_once(producer, database_url, [producer.asubmit(lead(number)) for number in (10, 11)]))

    assert [(one.state, one.created) for one in stored] == [("pending", True)] * 2
    assert queue.states() == {"pending": THREADS + 2}


def test_a_submission_that_has_begun_is_finished_and_the_cancellation_comes_next(
    producer: dispatcher.Dispatcher, queue: Queue, database_url: str
) -> None:
    known: list[str] = []

    async def handler() -> None:
        known.append((await producer.asubmit(lead())).state)
        await asyncio.sleep(10)

    async def act() -> None:
        with table_locked(database_url) as release:
            task = asyncio.create_task(handler())
            await ticks()
            task.cancel("the client has gone")
            await ticks()
            assert not task.done(), "it is not left in doubt"
            release()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(act())
    assert known == ["pending"]
    assert queue.states() == {"pending": 1}


def test_a_refusal_of_a_submission_that_has_begun_is_told_too(
    producer: dispatcher.Dispatcher, database_url: str
) -> None:
    producer.submit(lead(1), idempotency_key="order-1")

    async def act() -> None:
        with table_locked(database_url) as release:
            task = asyncio.create_task(producer.asubmit(lead(2), idempotency_key="order-1"))
            await ticks()
            task.cancel()
            await ticks()
            release()
            with pytest.raises(dispatcher.IdempotencyConflict):
                await task

    asyncio.run(act())


def test_a_timeout_that_comes_too_late_leaves_no_cancellation_behind(
    producer: dispatcher.Dispatcher, queue: Queue, database_url: str
) -> None:
    """`asyncio.timeout` takes its cancellation back when its block ends; before 3.13 not one that is pending."""

    async def late(number: int, *, then_wait: bool) -> None:
        with table_locked(database_url) as release:
            asyncio.get_running_loop().call_later(0.2, release)
            async with asyncio.timeout(0.05):
                stored = await producer.asubmit(lead(number))
                assert stored.created
                if then_wait:
                    await asyncio.sleep(10)

    async def act() -> None:
        task = asyncio.current_task()
        assert task is not None
        await late(0, then_wait=False)
        await ticks()
        assert task.cancelling() == 0
        with pytest.raises(TimeoutError):
            await late(1, then_wait=True)

    asyncio.run(act())
    assert queue.states() == {"pending": 2}


def test_a_batch_that_is_cancelled_goes_on_under_its_batch_id(producer: dispatcher.Dispatcher, queue: Queue) -> None:
    batch = "018f0000-0000-7000-8000-000000000001"
    asked, cancelled = threading.Event(), threading.Event()

    def people() -> Iterator[dict[str, Any]]:
        for number in range(5000):
            if number == 4100:
                asked.set()
                cancelled.wait(10)
            yield lead(number)

    async def act() -> None:
        task = asyncio.create_task(producer.asubmit_many(people(), batch_id=batch))
        await asyncio.to_thread(asked.wait, 30)
        task.cancel()
        await ticks(1)
        cancelled.set()
        with pytest.raises(asyncio.CancelledError, match=f"repeat it with batch_id={batch}"):
            await task
        assert queue.states() == {"pending": 4000}, "whole chunks"

        rest = await producer.asubmit_many(map(lead, range(5000)), batch_id=batch)
        assert (rest.submitted, rest.repeated) == (1000, 4000)

    asyncio.run(act())


# The start of a server ------------------------------------------------------------------------------------------------


def test_after_a_warm_up_a_submission_loads_nothing_and_connects_to_nothing(environment: Mapping[str, str]) -> None:
    script = """
import sys, threading, psycopg
import dispatcher
dispatcher.warm_up(connections=2)
before, connects = set(sys.modules), []
real = psycopg.connect
psycopg.connect = lambda *a, **o: connects.append(a) or real(*a, **o)
barrier = threading.Barrier(2)
def one(number):
    barrier.wait()
    dispatcher.submit({"phone_number": f"+1415555010{number}", "campaign_id": 42})
threads = [threading.Thread(target=one, args=(number,)) for number in range(2)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(sorted(name for name in set(sys.modules) - before if not name.startswith("encodings")), connects)
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**clean_environment(), **environment},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stdout.strip()) == (0, "[] []"), done.stderr


def test_a_warm_up_says_what_is_missing(environment: Mapping[str, str], empty_database_url: str) -> None:
    def warm_up(connections: int = 1, **other: str) -> None:
        dispatcher.Dispatcher(Settings.from_environment({**environment, **other})).warm_up(connections=connections)

    warm_up(REDIS_URL="redis://127.0.0.1:9/0")
    with pytest.raises(dispatcher.SchemaOutOfDate):
        warm_up(DATABASE_URL=empty_database_url)
    with pytest.raises(dispatcher.StoreUnavailable):
        warm_up(DATABASE_URL="postgresql://127.0.0.1:9/none")
    with pytest.raises(ValueError, match="connections: 6 is not 1 to 5"):
        warm_up(6)
