"""The database's clock was an hour ahead, and is right again: after a failover, or because somebody set it back."""

import uuid

import pytest
from sqlalchemy import Connection

from dispatcher.store.database import Database
from dispatcher.sweep import clocks
from dispatcher.sweep.sweep import Sweep
from tests.database.queue import Queue, accepted, unknown
from tests.support.doubles import Bell, Rate, logged

SETTLE, GATE_WAIT_MAX = 120.0, 300.0
CALLERS = {("leads", "expires_at")}


@pytest.fixture
def sweep(database: Database, bell: Bell) -> Sweep:
    return Sweep(
        database,
        bell,
        lambda _: Rate(),  # type: ignore[arg-type,return-value]
        name="one",
        worker="one:1",
        settle_seconds=SETTLE,
        interval_seconds=1,
        gate_wait_max_seconds=GATE_WAIT_MAX,
    )


def set_clock_back(queue: Queue) -> None:
    """Everything that is stored was written an hour later than it was."""
    columns = queue.rows(
        "SELECT table_name, array_agg(CAST(column_name AS text)) AS columns FROM information_schema.columns"
        " JOIN information_schema.tables USING (table_schema, table_name)"
        " WHERE table_schema = 'dispatcher' AND data_type LIKE 'timestamp%' AND table_type = 'BASE TABLE'"
        " GROUP BY table_name"
    )
    for table, names in columns:
        moves = ", ".join(f"{name} = {name} + interval '1 hour'" for name in names if (table, name) not in CALLERS)
        queue.run(f"UPDATE dispatcher.{table} SET {moves}")


def ahead(queue: Queue, lead_id: uuid.UUID, column: str) -> float:
    """How many seconds ahead of now a time of a lead is."""
    (row,) = queue.rows(
        f"SELECT CAST(extract(epoch FROM {column} - now()) AS float8) AS seconds FROM dispatcher.leads WHERE id = :id",
        id=lead_id,
    )
    return float(row.seconds)


def test_what_waits_is_due_as_it_was_meant_to_be(queue: Queue, sweep: Sweep) -> None:
    sweep.once()
    submitted = queue.put(0)
    queue.run("UPDATE dispatcher.leads SET due_at = created_at")
    scheduled = queue.put(1, due_in=86_400)
    claimed = queue.claimed(2)
    queue.run("UPDATE dispatcher.leads SET proven_at = now() WHERE id = :id", id=claimed.lead_id)
    doubted = queue.claimed(3)
    queue.record(unknown(doubted))
    set_clock_back(queue)
    assert ahead(queue, submitted, "due_at") > 3000

    sweep.once()

    assert ahead(queue, submitted, "due_at") <= 1
    assert ahead(queue, scheduled, "due_at") > 86_400, "a time that a caller gave stays"
    assert 0 < ahead(queue, claimed.lead_id, "lease_until") <= 600
    assert ahead(queue, doubted.lead_id, "due_at") <= SETTLE
    attempt = queue.attempt(doubted.attempt_id)
    assert attempt.started_at <= attempt.ended_at
    assert queue.rows("SELECT FROM dispatcher.lead_attempts WHERE greatest(started_at, ended_at) > now()") == []


def test_a_gate_waits_no_longer_than_it_can_have_been_told_to(queue: Queue, sweep: Sweep) -> None:
    sweep.once()
    queue.gate("closed", "outage", 41)
    queue.gate("closed", "paused", 42)
    queue.run("UPDATE dispatcher.gates SET until = now() + interval '5 s', moved_at = now() WHERE reason = 'outage'")
    set_clock_back(queue)

    sweep.once()

    of_outage, of_pause = queue.rows(
        "SELECT until, CAST(extract(epoch FROM until - now()) AS float8) AS seconds, moved_at <= now() AS moved"
        " FROM dispatcher.gates ORDER BY campaign_id"
    )
    assert of_outage.seconds <= GATE_WAIT_MAX
    assert of_outage.moved, "else no proof would hold for an hour"
    assert of_pause.until is None


def test_a_proof_whose_age_cannot_be_told_is_made_again(queue: Queue, sweep: Sweep) -> None:
    sweep.once()
    resent = queue.put(0)
    queue.run("UPDATE dispatcher.leads SET proven_at = now()")
    set_clock_back(queue)

    sweep.once()

    assert ahead(queue, resent, "proven_at") < -3600


def test_what_was_written_while_nobody_swept_is_seen_by_the_next_sweep(queue: Queue, sweep: Sweep) -> None:
    """Workers were down while producers submitted by a clock that was ahead: no sweep's row tells of it."""
    submitted = queue.put(0)
    queue.run("UPDATE dispatcher.leads SET due_at = created_at")
    set_clock_back(queue)
    queue.run("UPDATE dispatcher.sweeps SET swept_at = now() - interval '1 h', held_until = now() - interval '1 h'")

    sweep.once()

    assert ahead(queue, submitted, "due_at") <= 1


@pytest.mark.parametrize(
    ("write", "column"),
    [
        ("UPDATE dispatcher.leads SET updated_at = now() + interval '1 h', lease_until = now() + interval '2 h'", None),
        ("UPDATE dispatcher.gates SET moved_at = now() + interval '1 h'", "gates.moved_at"),
        ("INSERT INTO dispatcher.workers (name, seen_at) VALUES ('two', now() + interval '1 h')", "workers.seen_at"),
    ],
    ids=["leads", "gates", "workers"],
)
def test_a_sweep_looks_once_an_hour_too(
    queue: Queue, sweep: Sweep, caplog: pytest.LogCaptureFixture, write: str, column: str | None
) -> None:
    """A clock that was ahead for less than a round, or on a primary that no sweep wrote to."""
    now = [0.0]
    sweep._clock = lambda: now[0]
    queue.claimed()
    queue.gate("closed", "paused", 41)
    sweep.once()
    queue.run(write)
    now[0] = 60.0
    sweep.once()
    assert logged(caplog, "clock.set_back") == [], "it reads every lead that waits"

    now[0] = 3600.0
    sweep.once()
    sweep.once()

    assert len(logged(caplog, "clock.set_back")) == 1
    if column is not None:
        table, name = column.split(".")
        assert queue.rows(f"SELECT FROM dispatcher.{table} WHERE {name} > now()") == []


def test_a_comparison_that_takes_too_long_keeps_no_other_duty_waiting(
    queue: Queue, sweep: Sweep, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_long(connection: Connection) -> bool:
        connection.exec_driver_sql("SET statement_timeout = '1ms'")
        try:
            return bool(connection.exec_driver_sql("SELECT pg_sleep(1) IS NULL").scalar())
        finally:
            connection.exec_driver_sql("SET statement_timeout = '30s'")

    monkeypatch.setattr(clocks, "later_times", too_long)
    claimed = queue.claimed()
    queue.run("UPDATE dispatcher.leads SET lease_until = now() - interval '1 s'")

    assert sweep.once()
    sweep.once()

    assert queue.lead(claimed.lead_id).state == "unknown"
    assert len(logged(caplog, "clock.not_compared")) == 1, "and it is tried again in an hour only"


def test_an_answer_that_comes_before_the_repair_is_recorded(queue: Queue) -> None:
    claimed = queue.claimed()
    set_clock_back(queue)
    queue.record(accepted(claimed))
    attempt = queue.attempt(claimed.attempt_id)
    assert queue.lead(claimed.lead_id).state == "accepted"
    assert attempt.started_at <= attempt.ended_at <= attempt.finished_at


def test_a_lead_that_was_on_its_way_becomes_unknown_when_its_lease_has_run_out(queue: Queue, sweep: Sweep) -> None:
    sweep.once()
    claimed = queue.claimed()
    set_clock_back(queue)
    sweep.once()
    queue.run("UPDATE dispatcher.leads SET lease_until = now() - interval '1 s'")
    queue.run("UPDATE dispatcher.lead_attempts SET started_at = now() - interval '10 min'")
    sweep.once()
    assert queue.lead(claimed.lead_id).state == "unknown"


def test_while_the_clock_goes_on_nothing_is_changed(queue: Queue, sweep: Sweep) -> None:
    sweep.once()
    waiting = queue.put(0, due_in=4000)
    queue.gate("closed", "outage", 41)
    queue.run("UPDATE dispatcher.gates SET until = now() + interval '2 hours'")
    before = queue.rows("SELECT until FROM dispatcher.gates"), queue.lead(waiting).updated_at
    sweep.once()
    assert (queue.rows("SELECT until FROM dispatcher.gates"), queue.lead(waiting).updated_at) == before
