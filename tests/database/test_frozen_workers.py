"""A process that is frozen in mid-transaction, with whatever locks it has: the sweep of another one goes on without it.

Postgres sees a frozen process as one that sends nothing more; here a thread stands still after a statement.
"""

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from psycopg.pq import TransactionStatus
from sqlalchemy import Connection, text

from dispatcher.config.settings import Settings
from dispatcher.config.urls import normal_database_url
from dispatcher.decisions.outcome import Kind, Outcome, Reason, Scope, Signal
from dispatcher.delivery.recorder import Recorder
from dispatcher.delivery.results import Finished
from dispatcher.intake.inbox_taking import Taking
from dispatcher.operator.operation_work import OperationKind
from dispatcher.operator.operations import Operations
from dispatcher.operator.pause import GateKeeper
from dispatcher.operator.retention import Pruning
from dispatcher.store import sessions
from dispatcher.store.blocks import NO_KEY
from dispatcher.store.database import Database
from dispatcher.sweep.sweep import Sweep
from tests.database.queue import CHANNEL, Queue, ids
from tests.support.doubles import Bell, Rate, logged
from tests.support.waiting import wait_until

LONG_AGO = "2020-01-01"
PATIENCE_SECONDS = 60.0
UNFINISHED = "SELECT FROM dispatcher.operations WHERE finished_at IS NULL"

Flow = Callable[[Database], object]


class Ended(BaseException):
    """Raised where a frozen process is ended."""


class Frozen:
    """Does `work` in a thread that stands still after the `nth` statement that leaves a transaction open."""

    def __init__(self, url: str, nth: int, work: Flow) -> None:
        self.reached = False
        self.statement = ""
        self._error: BaseException | None = None
        self._left = nth
        self._end = threading.Event()
        self._database = Database(normal_database_url(url), driver=self._driver())
        self._thread = threading.Thread(target=self._run, args=(work,))
        self._thread.start()
        wait_until(lambda: self.reached or not self._thread.is_alive(), PATIENCE_SECONDS)

    def end(self) -> None:
        """End it where it stands."""
        self._end.set()
        self._thread.join()
        self._database.close()
        if not isinstance(self._error, Ended | None):
            raise self._error

    def _run(self, work: Flow) -> None:
        try:
            work(self._database)
        except BaseException as error:  # noqa: BLE001 - raised by `end`
            self._error = error

    def _count(self, connection: psycopg.Connection[Any], statement: str) -> None:
        if connection.info.transaction_status is TransactionStatus.IDLE:
            return  # it holds nothing
        self._left -= 1
        if self._left == 0:
            self.statement, self.reached = statement, True
            self._end.wait()
            raise Ended

    def _driver(self) -> type[psycopg.Connection[Any]]:
        count = self._count

        class Cursor(psycopg.Cursor[Any]):
            def execute(self, query: Any, *args: Any, **kwargs: Any) -> Any:
                super().execute(query, *args, **kwargs)
                count(self.connection, str(query))
                return self

        class RawCursor(psycopg.RawCursor[Any]):
            def execute(self, query: Any, *args: Any, **kwargs: Any) -> Any:
                super().execute(query, *args, **kwargs)
                count(self.connection, str(query))
                return self

        class Connection(psycopg.Connection[Any]):
            raw_cursor_factory = RawCursor

            def __init__(self, *args: Any, **kwargs: Any) -> None:
                super().__init__(*args, **kwargs)
                self.cursor_factory = Cursor

        return Connection


class World:
    """A queue with something to do for each duty of a sweep, again in each round, and the account of it."""

    def __init__(self, url: str, queue: Queue) -> None:
        self.url = url
        self.queue = queue
        self._number = 0

    def person(self) -> int:
        self._number += 1
        return self._number

    def put(self) -> "Todo":
        queue, campaign_id = self.queue, 1000 + self.person()
        queue.run("UPDATE dispatcher.sweeps SET pruned_at = NULL")
        queue.gate("closed", "throttled", campaign_id, until_in=-1)
        failed = queue.put(self.person(), "failed", failure_class="rejected", campaign_id=campaign_id)
        queue.run(
            "INSERT INTO dispatcher.failed_leads (lead_id, account, campaign_id, phone_number, failure_class,"
            " fingerprint, message, attempts) SELECT id, account, campaign_id, phone_number, 'rejected', 'f', 'm', 1"
            " FROM dispatcher.leads WHERE id = :id",
            id=failed,
        )
        operation = uuid.uuid4()
        operations = Operations(queue.database)
        operations.start(operation, OperationKind.DISMISS, [failed], actor="ada", note="called by hand")
        return Todo(
            campaign_id,
            lease=queue.put(
                self.person(), "sending", attempt_id=uuid.uuid4(), lease_until=LONG_AGO, campaign_id=campaign_id
            ),
            expired=queue.put(self.person(), expires_at=LONG_AGO, campaign_id=campaign_id),
            pending=queue.put(self.person(), campaign_id=campaign_id),
            old=queue.put(self.person(), "cancelled", finished_at=LONG_AGO, campaign_id=campaign_id),
            operation=operation,
        )

    def not_done(self, todo: "Todo", bell: Bell) -> set[str]:
        """The duties that are not done."""
        queue = self.queue
        states = {row.id: row.state for row in queue.rows("SELECT id, state FROM dispatcher.leads")}
        done = {
            "leases": states[todo.lease] == "unknown",
            "expired": states[todo.expired] == "failed",
            "gates": queue.one(
                "SELECT state FROM dispatcher.gates WHERE campaign_id = :id", id=todo.campaign_id
            ).state == "open",
            "lookups": "default" in bell.lookups,
            "channels": ("default", todo.campaign_id) in bell.rung,
            "operations": Operations(queue.database).get(todo.operation).finished_at is not None,
            "retention": todo.old not in states,
            "worker": queue.rows("SELECT FROM dispatcher.workers WHERE name = 'other:1'") != [],
        }  # fmt: skip
        return {duty for duty, is_done in done.items() if not is_done}


@dataclass(frozen=True)
class Todo:
    """What is in each round's way."""

    campaign_id: int
    lease: uuid.UUID
    expired: uuid.UUID
    pending: uuid.UUID
    old: uuid.UUID
    operation: uuid.UUID


def sweep_with(database: Database, bell: Bell, worker: str = "frozen") -> Sweep:
    """A sweep with every duty. All have one name: what a frozen one holds has lapsed for the next."""
    return Sweep(
        database,
        bell,
        lambda _: Rate(),
        Operations(database),
        Pruning(database, Settings()),
        name="one",
        worker=f"{worker}:1",
        settle_seconds=0,
        interval_seconds=1,
    )


def whole_pass(database: Database) -> None:
    """Rounds until retention has ended its pass."""
    sweep = sweep_with(database, Bell())
    asked = text("SELECT pruned_at FROM dispatcher.sweeps")
    wait_until(
        lambda: sweep.once() and database.read(lambda connection: connection.execute(asked).scalar()), PATIENCE_SECONDS
    )


@pytest.fixture
def world(database_url: str, queue: Queue, monkeypatch: pytest.MonkeyPatch) -> World:
    """Whoever meets a lock in it gives up soon."""
    monkeypatch.setitem(sessions.BOUNDS, "lock_timeout", "50ms")
    return World(database_url, queue)


@pytest.fixture
def other(world: World) -> Iterator[Database]:
    """What the sweep that goes on reaches the world by."""
    other = Database(normal_database_url(world.url))
    yield other
    other.close()


# What it was doing ----------------------------------------------------------------------------------------------------


def sweeping(world: World) -> Flow:
    world.put()
    return whole_pass


def recording_an_outage(world: World) -> Flow:
    world.queue.run("DELETE FROM dispatcher.gates WHERE campaign_id = :id", id=CHANNEL.campaign_id)
    claimed = world.queue.claimed(world.person())
    now = time.monotonic()
    outage = Signal(Reason.OUTAGE, Scope.CHANNEL)
    results = [Finished(claimed, Outcome(Kind.UNKNOWN, "A sentence.", signal=outage), now, now)]

    def record(database: Database) -> None:
        recorder = Recorder(
            database, CHANNEL, Settings(), worker="frozen:1", uniform=lambda low, _: low, clock=time.monotonic
        )
        recorder.turn(results, ids(1))

    return record


def taking_the_inbox(world: World) -> Flow:
    world.queue.run(
        "SELECT dispatcher.submit_lead(jsonb_build_object('campaign_id', 42, 'phone_number', CAST(:number AS text)))",
        number=f"+1202555{4000 + world.person():04d}",
    )
    return lambda database: Taking(database, Bell(), lambda: NO_KEY).step()


def pausing(world: World) -> Flow:
    def pause(database: Database) -> None:
        GateKeeper(database).pause(42, "default", reason="lunch", actor="ada")
        GateKeeper(database).resume(42, "default", actor="ada")

    return pause


@pytest.mark.parametrize("flow", [sweeping, recording_an_outage, taking_the_inbox, pausing])
def test_a_sweep_does_every_duty_whatever_another_process_is_frozen_with(
    world: World, other: Database, flow: Callable[[World], Flow], caplog: pytest.LogCaptureFixture
) -> None:
    frozen_at = []
    while True:
        frozen = Frozen(world.url, len(frozen_at) + 1, flow(world))
        if not frozen.reached:
            break
        todo, bell = world.put(), Bell()
        sweep = sweep_with(other, bell, "other")
        wait_until(
            lambda: sweep.once() and not world.not_done(todo, bell),  # noqa: B023 - called at once
            PATIENCE_SECONDS,
            lambda: f"{world.not_done(todo, bell)}, while frozen after {frozen.statement}",  # noqa: B023
        )
        assert logged(caplog, "sweep.delayed") == [], frozen.statement
        frozen.end()
        # The next one begins with as much to do, so that its statements are counted alike.
        wait_until(lambda: sweep.once() and not world.queue.rows(UNFINISHED))  # noqa: B023 - called at once
        world.queue.run("DELETE FROM dispatcher.workers")
        frozen_at.append(frozen.statement)
    frozen.end()
    assert frozen_at


# What bounds it -------------------------------------------------------------------------------------------------------


def test_what_is_held_by_a_process_that_is_frozen_in_mid_transaction_is_let_go_and_begun_again(
    world: World, other: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sessions.BOUNDS, "idle_in_transaction_session_timeout", "300ms")
    lead = world.queue.put()
    before = world.queue.lead(lead).priority
    stood: list[bool] = []

    def change(connection: Connection) -> None:
        connection.execute(text("UPDATE dispatcher.leads SET priority = priority + 1 WHERE id = :id"), {"id": lead})
        if not stood:
            stood.append(True)
            wait_until(lambda: locked_by_nobody(other, lead), PATIENCE_SECONDS)
        connection.execute(text("UPDATE dispatcher.leads SET priority = priority + 2 WHERE id = :id"), {"id": lead})

    with closing(Database(normal_database_url(world.url))) as frozen:
        frozen.again(change)
    assert world.queue.lead(lead).priority == before + 3


def locked_by_nobody(database: Database, lead: uuid.UUID) -> bool:
    with database.transaction() as connection:
        found = connection.execute(
            text("SELECT FROM dispatcher.leads WHERE id = :id FOR UPDATE SKIP LOCKED"), {"id": lead}
        )
        return found.first() is not None


@pytest.mark.parametrize(
    ("held", "duty"),
    [
        ("SELECT FROM dispatcher.lead_attempts FOR UPDATE", "leases"),
        ("LOCK TABLE dispatcher.tallies IN SHARE MODE", "worker"),
        ("LOCK TABLE dispatcher.idempotency_keys IN ACCESS EXCLUSIVE MODE", "retention"),
    ],
)
def test_a_lock_that_somebody_holds_delays_one_duty_and_is_told_once(
    world: World, other: Database, held: str, duty: str, caplog: pytest.LogCaptureFixture
) -> None:
    claimed = world.queue.claimed(world.person())
    world.queue.run("UPDATE dispatcher.leads SET lease_until = now() - interval '1 s' WHERE state = 'sending'")
    todo, bell = world.put(), Bell()
    sweep = sweep_with(other, bell, "other")
    sweep._tally.add("sweeps")
    with world.queue.database.transaction() as somebody:
        somebody.execute(text(held))
        for _ in range(2):
            assert sweep.once()
        not_done = world.not_done(todo, bell)
    (told,) = logged(caplog, "sweep.delayed")
    assert told["duty"] == duty
    assert "SQLSTATE 55P03" in told["why"]
    assert "doctor" in told["why"]
    assert not_done <= {duty}
    if duty == "leases":  # one row of them; the other was mended
        assert not_done == set()
        assert world.queue.lead(claimed.lead_id).state == "sending"

    world.queue.run("UPDATE dispatcher.operations SET next_at = now() WHERE finished_at IS NULL")
    sweep.once()
    assert world.not_done(todo, bell) == set()
    assert world.queue.lead(claimed.lead_id).state == "unknown"
