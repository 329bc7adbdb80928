"""`submit` and `submit_many` for asyncio: the event loop waits for nothing, and a cancellation leaves no doubt.

What the dispatcher does in transactions of its own is done in threads of its own; what joins an `AsyncSession` is done
through that session. Importing this module loads nothing but asyncio, so that a coroutine may name
`dispatcher.asubmit`: the rest is loaded in a thread by the first call.
"""

import asyncio
import inspect
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from datetime import datetime, timedelta
from functools import partial
from threading import Event, Lock
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar, Union
from uuid import UUID

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, async_scoped_session

    from dispatcher.intake.bulk import ChunkResult
    from dispatcher.intake.submit import Entry
    from dispatcher.lead.candidate import Item
    from dispatcher.lead.lead import Lead
    from dispatcher.lead.options import BatchResult, Submission
    from dispatcher.wiring import Services

T = TypeVar("T")

AsyncCaller: TypeAlias = Union["AsyncSession", "async_scoped_session[AsyncSession]", "AsyncConnection"]
"""What `session=` of the coroutines takes."""

THREADS: Final = 5
"""As many submissions as connections that a producer keeps open; those beyond wait for their turn."""

_JOINED_ITEMS: Final = 200

_DEFAULT_ACCOUNT: Final = "default"  # `lead.options` has it too, and is loaded later


class AsyncProducer:
    """The coroutines of `Dispatcher`."""

    _services: "Services"
    _threads: "Threads"

    async def asubmit(
        self,
        lead: "Lead | Mapping[str, Any]",
        *,
        id: UUID | str | None = None,
        idempotency_key: str | None = None,
        account: str = _DEFAULT_ACCOUNT,
        priority: int = 0,
        not_before: datetime | timedelta | None = None,
        expires_at: datetime | timedelta | None = None,
        session: AsyncCaller | None = None,
    ) -> "Submission":
        """Store a lead as `submit` does, without blocking the event loop. Returns after the commit.

        A cancellation leaves no doubt: `asyncio.CancelledError` is raised only where nothing was stored. Where the
        write has begun, the call ends as if it were not cancelled, usually after some milliseconds and within
        seconds where Postgres is away, and the cancellation is raised by what is awaited next. With `session` the
        caller's transaction decides instead: leave it, and nothing is stored.

        Args:
            lead: a `Lead`, or a mapping with its fields.
            id: as in `submit`.
            idempotency_key: as in `submit`.
            account: as in `submit`.
            priority: as in `submit`.
            not_before: as in `submit`.
            expires_at: as in `submit`.
            session: whose transaction to join, an `AsyncSession`, `async_scoped_session` or `AsyncConnection` of
                SQLAlchemy, with psycopg or asyncpg. Workers are woken after the commit of a session; after that of a
                connection a sweep finds the lead within about a second.

        Returns:
            As `submit`.

        Raises:
            InvalidLead: `errors` lists every bad field, or `session` is none that can be joined; nothing was stored.
            IdempotencyConflict: the key or id belongs to a lead with another payload; nothing was stored.
            SchemaOutOfDate: the database lacks this version's tables; nothing was stored.
            StoreUnavailable: Postgres did not confirm the write within 2 seconds. The lead may be stored or not:
                `asubmit(lead, id=error.lead_id)` repeats it safely.
            NotConfigured: a setting is missing or unusable.

        Example:
            >>> import asyncio
            >>> lead = {"phone_number": "+14155550100", "campaign_id": 42}
            >>> asyncio.run(dispatcher.asubmit(lead)).state
            'pending'
        """
        options = {
            "id": id,
            "idempotency_key": idempotency_key,
            "priority": priority,
            "not_before": not_before,
            "expires_at": expires_at,
        }
        if session is None:
            return await _outcome(self._threads.submit(self._services, _Asked(lead, options, account)))
        joined = _joinable(session)
        intake = await self._loaded(lambda: self._services.intake)
        stored: Submission = await joined.run_sync(
            lambda caller: intake.submit(lead, options, account=account, session=caller)
        )
        return stored

    async def asubmit_many(
        self,
        items: "Iterable[Item]",
        *,
        account: str = _DEFAULT_ACCOUNT,
        batch_id: UUID | str | None = None,
        session: AsyncCaller | None = None,
    ) -> "BatchResult":
        """Store many leads as `submit_many` does, without blocking the event loop.

        Where the call is cancelled, the chunk that is being stored is finished and no other is begun.
        `asyncio.CancelledError` is raised where items are left; what was stored before stays, and the same items with
        the same `batch_id` go on from there. With `session` the caller's transaction decides instead.

        Args:
            items: as in `submit_many`; iterated in a thread.
            account: as in `submit_many`.
            batch_id: as in `submit_many`.
            session: as in `asubmit`.

        Returns:
            As `submit_many`.

        Raises:
            StoreUnavailable: the message names the batch id to repeat with; earlier chunks are stored.
            NotConfigured: a setting is missing or unusable.

            An exception of `items` passes through; the chunks before it are stored.

        Example:
            >>> import asyncio
            >>> people = [{"phone_number": f"+1415555010{n}", "campaign_id": 42} for n in range(3)]
            >>> asyncio.run(dispatcher.asubmit_many(people)).submitted
            3
        """
        if session is None:
            stop = Event()
            return await _outcome(self._threads.start(lambda: self._store_many(items, account, batch_id, stop)), stop)
        joined = _joinable(session)
        bulk = await self._loaded(lambda: self._services.bulk)
        from dispatcher.intake.bulk import batch_id_of, summed

        batch = batch_id_of(batch_id)
        # Small chunks: what is decided between two statements is decided on the event loop.
        chunks = bulk.validated(items, account=account, batch_id=batch, chunk_items=_JOINED_ITEMS)
        results: list[ChunkResult] = []
        while (chunk := await _outcome(self._threads.start(lambda: next(chunks, None)))) is not None:
            store = partial(bulk.join, chunk, account=account, batch_id=batch)
            results.append(await joined.run_sync(store))
        return summed(batch, results)

    def _store_many(
        self, items: "Iterable[Item]", account: str, batch_id: UUID | str | None, stop: Event
    ) -> "BatchResult":
        bulk = self._services.bulk
        from dispatcher.intake.bulk import batch_id_of

        batch = batch_id_of(batch_id)
        try:
            return bulk.submit_many(_until(stop, items), account=account, batch_id=batch)
        except _Stopped:
            raise asyncio.CancelledError(f"Part of the batch is stored: repeat it with batch_id={batch}.") from None

    async def _loaded(self, part: Callable[[], T]) -> T:
        """Return a part of the services, built in a thread because that may load its code."""
        return await _outcome(self._threads.start(part))


class Threads:
    """Runs calls in threads of its own, so that no other user of asyncio's default threads delays them. Fork-safe."""

    def __init__(self, most: int = THREADS) -> None:
        self._most = most
        self._pid = 0
        self._pool: ThreadPoolExecutor | None = None
        self._waiting = _Waiting(self)

    def start(self, call: Callable[[], T]) -> Future[T]:
        """Call in a thread, when one is free."""
        if self._pool is None or self._pid != os.getpid():  # a fork copies no thread
            self._pool, self._pid = ThreadPoolExecutor(self._most, "dispatcher-asubmit"), os.getpid()
        return self._pool.submit(copy_context().run, call)

    def submit(self, services: "Services", asked: "_Asked") -> "Future[Submission]":
        """Store a lead when a thread is free, together with others that wait then."""
        if self._waiting.pid != os.getpid():  # a fork copies neither threads nor who waits in the parent
            self._waiting = _Waiting(self)
        return self._waiting.start(services, asked)

    def close(self) -> None:
        """Let the threads end, once what they do is done."""
        if self._pool is not None and self._pid == os.getpid():
            self._pool.shutdown(wait=True)
        self._pool = None


_TOGETHER: Final = 64
"""The most submissions of one transaction."""


class _Asked:
    """One `asubmit` that waits for a thread.

    entry     it was found valid, and is to be stored by itself
    in_doubt  it may be stored already
    """

    __slots__ = ("account", "context", "entry", "future", "in_doubt", "lead", "options")

    def __init__(self, lead: "Lead | Mapping[str, Any]", options: Mapping[str, Any], account: str) -> None:
        self.lead = lead
        self.options = options
        self.account = account
        self.context = copy_context()
        self.future: Future[Submission] = Future()
        self.entry: Entry | None = None
        self.in_doubt = False


class _Waiting:
    """Submissions of one process that wait. A free thread takes all that came meanwhile, and stores them together.

    Thread-safe.
    """

    def __init__(self, threads: "Threads") -> None:
        self.pid = os.getpid()
        self._threads = threads
        self._lock = Lock()
        self._asked: deque[_Asked] = deque()
        self._working = 0

    def start(self, services: "Services", asked: _Asked) -> "Future[Submission]":
        """Store a lead when a thread is free."""
        self._add(services, asked)
        return asked.future

    def _add(self, services: "Services", asked: _Asked) -> None:
        with self._lock:
            self._asked.append(asked)
            if self._working == THREADS:
                return
            self._working += 1
        try:
            self._threads.start(partial(self._work, services))
        except RuntimeError:  # the interpreter ends, or the threads do: those that work go on until nothing waits
            with self._lock:
                self._working -= 1
                if self._working:
                    return
            raise

    def _work(self, services: "Services") -> None:
        while taken := self._take():
            try:
                if len(taken) == 1:
                    _alone(services, taken[0])
                else:
                    self._several(services, taken)
            except BaseException as error:  # noqa: BLE001 - whatever it is, whoever waits must hear of it
                for one in taken:
                    if not one.future.done():
                        one.future.set_exception(error)

    def _take(self) -> list[_Asked]:
        """Return what waits, or one that is to be stored by itself. Empty: this thread has ended its work."""
        taken: list[_Asked] = []
        with self._lock:
            while self._asked and len(taken) < _TOGETHER:
                if self._asked[0].entry is not None:
                    return taken or [self._asked.popleft()]
                one = self._asked.popleft()
                if one.future.set_running_or_notify_cancel():
                    taken.append(one)
            if not taken:
                self._working -= 1
        return taken

    def _several(self, services: "Services", taken: Sequence[_Asked]) -> None:
        from dispatcher.intake.submit import valid_entry

        valid: list[tuple[_Asked, Entry]] = []
        for one in taken:
            try:
                valid.append((one, one.context.run(valid_entry, one.lead, one.options, one.account)))
            except Exception as refusal:  # noqa: BLE001 - its caller's
                one.future.set_exception(refusal)
        stored = services.together.submit([entry for _, entry in valid])
        for one, entry in valid:
            submission = stored.submissions.get(entry.id)
            if submission is not None:
                one.future.set_result(submission)
            else:
                one.entry, one.in_doubt = entry, stored.in_doubt
                self._add(services, one)


def _alone(services: "Services", one: _Asked) -> None:
    intake, entry = services.intake, one.entry
    if entry is None:
        _settle(one, lambda: intake.submit(one.lead, one.options, account=one.account))
    else:
        _settle(one, lambda: intake.store(entry, repeated=one.in_doubt))


def _settle(one: _Asked, store: "Callable[[], Submission]") -> None:
    try:
        one.future.set_result(one.context.run(store))
    except BaseException as error:  # noqa: BLE001 - its caller's
        one.future.set_exception(error)


async def _outcome(running: Future[T], stop: Event | None = None) -> T:
    """Return what a call in a thread returns, or raise what it raises.

    If this task is cancelled, a call that has not begun never does. One that has begun is waited for, after setting
    `stop`; then the cancellation is made up for by `_cancel_again`.
    """
    done = asyncio.wrap_future(running)
    held_back: asyncio.CancelledError | None = None
    while not done.done():
        try:
            await asyncio.wait([done])
        except asyncio.CancelledError as cancelled:
            if running.cancel():
                raise
            held_back = cancelled
            if stop is not None:
                stop.set()
    if held_back is not None and not _was_stopped(done):
        _cancel_again(held_back)
    return done.result()


def _was_stopped(done: "asyncio.Future[Any]") -> bool:
    return done.cancelled() or isinstance(done.exception(), asyncio.CancelledError)


def _cancel_again(cancelled: asyncio.CancelledError) -> None:
    """Cancel the current task once it awaits again, unless whoever cancelled it has taken that back until then.

    Soon and not at once: `asyncio.timeout` takes back its cancellation when its block ends, and before Python 3.13 that
    does not take back one that is already pending.
    """
    task = asyncio.current_task()
    if task is None:  # pragma: no cover - a coroutine outside of any task is not cancelled
        return
    requests = task.cancelling()

    def cancel() -> None:
        if task.cancelling() >= requests and task.cancel(*cancelled.args):
            task.uncancel()  # the same request as before, not another one

    asyncio.get_running_loop().call_soon(cancel)


class _Stopped(Exception):
    """The items are not asked for more."""


def _until(stop: Event, items: "Iterable[Item]") -> "Iterator[Item]":
    for item in items:
        if stop.is_set():
            raise _Stopped
        yield item


def _joinable(session: Any) -> Any:  # noqa: ANN401 - whatever the caller gave
    """Return what has `run_sync`; raise `InvalidLead` for the rest."""
    if type(session).__module__ == "sqlalchemy.ext.asyncio.scoping" and callable(session):
        session = session()
    if inspect.iscoroutinefunction(getattr(session, "run_sync", None)):
        return session
    from dispatcher.errors import FieldError, InvalidLead

    remedy = "give an AsyncSession or AsyncConnection of SQLAlchemy, or call dispatcher.submit in a thread"
    of_another = inspect.iscoroutinefunction(getattr(session, "execute", None))
    why = "which is not SQLAlchemy's" if of_another else "which is not asynchronous"
    raise InvalidLead([FieldError("session", f"is a {type(session).__name__}, {why}", remedy)])
