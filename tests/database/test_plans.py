"""The statements of every turn touch a small multiple of their batch, whatever the planner knows of a large table.

Counted by Postgres itself, in the transaction of the statement: rows, blocks and scans, never seconds. The statements
are run as workers run them, by the same functions on the same kind of connection. Three states of knowledge:

cached      the plan was made, and kept, when the tables were empty
unknown     a new connection; nobody has analysed the tables since they grew
analysed    a new connection after ANALYZE
"""

import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

import pytest
import uuid_utils.compat
from sqlalchemy import Connection, text

from dispatcher.config.urls import normal_database_url
from dispatcher.decisions.outcome import Kind
from dispatcher.decisions.states import State
from dispatcher.delivery import claims, results
from dispatcher.delivery.claimed import Claimed
from dispatcher.delivery.claims import Claim, Claimer
from dispatcher.delivery.results import Result
from dispatcher.intake import submit
from dispatcher.lead.lead import Lead
from dispatcher.lead.options import SubmitOptions
from dispatcher.operator import health, leads, recovery, retention
from dispatcher.operator.lead_filter import LeadFilter
from dispatcher.store.database import Database
from dispatcher.store.statement import Call, HotStatement
from dispatcher.sweep import clocks
from dispatcher.sweep import repairs as sweeps
from tests.database.queue import CHANNEL, SETTINGS, accepted, claim, ids, phone, result
from tests.support.databases import Databases

SCHEDULED: Final = 500_000  # of a higher priority, for later, in the very channel
DUE: Final = 50_000
FINISHED: Final = 50_000
CHANNELS: Final = 20
BLOCKED: Final = 50_000
BATCH: Final = 8
PRUNED: Final = 20
PLACE: Final = retention.since(datetime(2000, 1, 1, tzinfo=UTC))

SIZES: Final = {"blocked": BLOCKED, "scheduled": SCHEDULED, "due": DUE, "finished": FINISHED, "channels": CHANNELS}
GROW: Final = (
    "ALTER TABLE dispatcher.leads SET (autovacuum_enabled = off)",
    "ALTER TABLE dispatcher.lead_attempts SET (autovacuum_enabled = off)",
    """
    INSERT INTO dispatcher.leads
        (id, account, campaign_id, phone_number, state, priority, due_at, payload_hash, allow_dupplicate)
    SELECT gen_random_uuid(), 'default', 42, '+1' || n, 'pending', 9, now() + make_interval(secs => 3600 + n), '', true
    FROM generate_series(1, :scheduled) AS n
    """,
    """
    INSERT INTO dispatcher.leads (id, account, campaign_id, phone_number, state, due_at, payload_hash, expires_at)
    SELECT gen_random_uuid(), 'default', 42 + mod(n, :channels), '+2' || n, 'pending',
        now() - make_interval(secs => n), '', now() + interval '1 day'
    FROM generate_series(1, :due) AS n
    """,
    """
    INSERT INTO dispatcher.leads (id, account, campaign_id, phone_number, state, due_at, payload_hash, attempts,
        attempt_id, voicery_lead_id, finished_at)
    SELECT gen_random_uuid(), 'default', 42 + mod(n, :channels), '+3' || n, 'accepted', now(), '', 1,
        gen_random_uuid(), n, now() - make_interval(secs => n)
    FROM generate_series(1, :finished) AS n
    """,
    """
    INSERT INTO dispatcher.lead_attempts (id, lead_id, number, account, campaign_id, phone_number, watermark,
        finished_at, outcome)
    SELECT attempt_id, id, 1, account, campaign_id, phone_number, 0, now(), 'accepted'
    FROM dispatcher.leads WHERE state = 'accepted'
    """,
    """
    INSERT INTO dispatcher.blocks (number, digest, who)
    SELECT CASE WHEN mod(n, 2) = 0 THEN '+4' || n END, sha256(CAST(n AS text)::bytea), 'ada'
    FROM generate_series(1, :blocked) AS n
    """,
)

_TOUCHED: Final = text("""
SELECT class.relname AS name, class.relkind = 'i' AS is_index,
    pg_stat_get_xact_numscans(class.oid) AS scans, pg_stat_get_xact_tuples_returned(class.oid) AS returned,
    pg_stat_get_xact_tuples_fetched(class.oid) AS fetched, pg_stat_get_xact_blocks_fetched(class.oid) AS blocks
FROM pg_class AS class JOIN pg_namespace AS namespace ON namespace.oid = class.relnamespace
WHERE namespace.nspname = 'dispatcher' AND class.relkind IN ('r', 'i')
""")


@dataclass(frozen=True)
class Touched:
    """`rows` read from tables and indexes, `blocks` asked for, relations scanned from end to end, indexes probed."""

    rows: int
    blocks: int
    scanned: frozenset[str]
    probed: frozenset[str]


class Meter:
    """Counts what happens on one connection inside one transaction, which is rolled back."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def __call__(self, action: Callable[[], Any]) -> Touched:
        before = self._read()
        action()
        after = self._read()
        gained = {name: tuple(a - b for a, b in zip(after[name], before[name], strict=True)) for name in after}
        indexes = self._indexes
        return Touched(
            rows=sum(
                returned + (0 if name in indexes else fetched) for name, (_, returned, fetched, _) in gained.items()
            ),
            blocks=sum(blocks for *_, blocks in gained.values()),
            scanned=frozenset(name for name, (scans, *_) in gained.items() if scans and name not in indexes),
            probed=frozenset(name for name, (scans, *_) in gained.items() if scans and name in indexes),
        )

    def _read(self) -> dict[str, tuple[int, int, int, int]]:
        rows = self._connection.execute(_TOUCHED).all()
        self._indexes = {row.name for row in rows if row.is_index}
        return {row.name: (row.scans, row.returned, row.fetched, row.blocks) for row in rows}


def entry(number: int, **options: Any) -> submit.Entry:
    lead = Lead.parse({"phone_number": phone(number), "campaign_id": 42, "variables": {"name": "Ada"}})
    return submit.Entry(uuid_utils.compat.uuid7(), "default", lead, SubmitOptions.parse(options))


def run_of(connection: Connection) -> dict[str, Touched]:
    """What a delivery run does."""
    meter, met = Meter(connection), {}
    claimed: list[Claim] = []

    def claim_batch() -> None:
        claims.hold_pauses(connection, "default")
        claimed.append(claim(connection, BATCH))

    met["claim"] = meter(claim_batch)
    outcomes = [answer(one, place) for place, one in enumerate(claimed[0].opened)]
    if outcomes:
        met["record"] = meter(lambda: results.record(connection, outcomes))
    return met


def answer(claimed: Claimed, place: int) -> Result:
    match place:
        case 6:
            return result(claimed, State.PENDING, Kind.NOT_SENT)
        case 7:
            return result(claimed, State.UNKNOWN, Kind.UNKNOWN)
        case _:
            return accepted(claimed, voicery_lead_id=900_000 + place)


def alone(connection: Connection) -> dict[str, Touched]:
    """What is a transaction of its own."""
    meter = Meter(connection)
    return {
        "submit": meter(lambda: submit.submit(connection, entry(1), "hash")),
        "submit with a key": meter(lambda: submit.submit(connection, entry(2, idempotency_key="key"), "hash")),
        "take": meter(lambda: sweeps.take(connection, "one", hold_seconds=5)),
        "due_channels": meter(lambda: sweeps.due_channels(connection)),
        "due_lookups": meter(lambda: sweeps.due_lookups(connection)),
        "leases_run_out": meter(lambda: sweeps.leases_run_out(connection)),
        "expired": meter(lambda: sweeps.expired(connection)),
        "prune": meter(
            lambda: retention.prune_leads(
                connection, PLACE, retention.database_now(connection), failed=False, most=PRUNED
            )
        ),
        "pulse": meter(lambda: health.read(connection)),
    }


def measure(database: Database) -> dict[str, Touched]:
    """By both engines of a worker: a run's turn is one statement, or several in a transaction."""
    with database.engine.connect() as connection:
        together = run_of(connection)
        connection.rollback()
    with database.autocommit() as connection:
        connection.exec_driver_sql("BEGIN")
        try:
            single = run_of(connection) | alone(connection)
        finally:
            connection.exec_driver_sql("ROLLBACK")
    return single | {f"{name} in a transaction": touched for name, touched in together.items()}


def repairs(database: Database) -> dict[str, Touched]:
    """What a sweep mends, on leads that it really finds."""
    with database.engine.connect() as connection:
        meter, met = Meter(connection), {}
        claims.hold_pauses(connection, "default")
        opened = claim(connection, BATCH).opened
        wanted: list[uuid.UUID] = [one.lead_id for one in opened]
        connection.execute(
            text("UPDATE dispatcher.leads SET lease_until = now() - interval '1 s' WHERE id = ANY (:ids)"),
            {"ids": wanted},
        )
        met["end_leases"] = meter(lambda: sweeps.end_leases(connection, wanted, settle_seconds=120))
        connection.rollback()
    return met


Measured = dict[tuple[str, str], Touched]


@pytest.fixture(scope="module")
def measured(databases: Databases, template_database: str) -> Iterator[Measured]:
    with (
        databases.one(template_database) as url,
        closing(Database(normal_database_url(url), pool_size=1)) as worker,
        closing(Database(normal_database_url(url), pool_size=1)) as grower,
    ):
        for _ in range(7):  # psycopg prepares what it has seen so often, and Postgres keeps the plan
            measure(worker)
        for statement in GROW:
            grow(grower, statement)
        met: Measured = {}
        for knowledge in ("cached", "unknown", "analysed"):
            if knowledge == "analysed":
                grow(grower, "ANALYZE dispatcher.leads, dispatcher.lead_attempts, dispatcher.blocks")
            touched = measure(worker) | repairs(worker)
            met |= {(knowledge, name): one for name, one in touched.items()}
            worker.close()
        yield met


def grow(database: Database, statement: str, **sizes: int) -> None:
    sizes = SIZES | sizes
    with database.transaction() as connection:
        connection.execute(text(statement), {name: size for name, size in sizes.items() if f":{name}" in statement})


@dataclass(frozen=True)
class Bound:
    """At most so many rows and blocks; the index that must have been the way."""

    rows: int
    blocks: int
    index: str


RUN: Final = 20 * BATCH  # rows; measured 57-123 on 18 and 15
BOUNDS: Final = {
    "claim": Bound(RUN, 100 * BATCH, "leads_due"),
    "claim in a transaction": Bound(RUN, 100 * BATCH, "leads_due"),
    "record": Bound(RUN, 100 * BATCH, "leads_pkey"),
    "record in a transaction": Bound(RUN, 100 * BATCH, "leads_pkey"),
    "end_leases": Bound(RUN, 100 * BATCH, "leads_pkey"),
    "submit": Bound(10, 100, "leads_one_live"),
    "submit with a key": Bound(10, 100, "leads_one_live"),
    "take": Bound(40, 100, "leads_due"),
    "due_channels": Bound(10 * CHANNELS, 100 * CHANNELS, "leads_due"),
    "due_lookups": Bound(10, 50, "leads_unknown"),
    "leases_run_out": Bound(10, 50, "leads_leased"),
    "expired": Bound(10, 50, "leads_expiring"),
    "pulse": Bound(10 * CHANNELS, 100 * CHANNELS, "leads_due"),
    "prune": Bound(12 * PRUNED, 100 * PRUNED, "leads_finished"),
}
LARGE: Final = {"blocks", "leads", "lead_attempts", "lead_contacts", "failed_leads", "idempotency_keys"}


@pytest.mark.parametrize("knowledge", ["cached", "unknown", "analysed"])
@pytest.mark.parametrize("name", BOUNDS)
def test_a_statement_touches_a_small_multiple_of_its_batch(measured: Measured, name: str, knowledge: str) -> None:
    touched, bound = measured[knowledge, name], BOUNDS[name]

    assert touched.scanned.isdisjoint(LARGE)
    assert bound.index in touched.probed
    assert touched.rows <= bound.rows
    assert touched.blocks <= bound.blocks


LISTS: Final = {
    "pending": LeadFilter(states=(State.PENDING,)),
    "not ended": LeadFilter(states=(State.UNKNOWN, State.SENDING, State.PENDING)),
    "due of a campaign": LeadFilter(due=True, campaign_id=42),
    "due later": LeadFilter(due=False),
    "pending by number": LeadFilter(states=(State.PENDING,), phone_number="555"),
}
WAITING: Final = 100


@pytest.fixture(scope="module")
def listed(databases: Databases, template_database: str) -> Iterator[Database]:
    """A few leads that wait, older by their ids than a long history, on a connection whose plans are kept."""
    with databases.one(template_database) as url, closing(Database(normal_database_url(url), pool_size=1)) as database:
        history = GROW[4].replace(
            "gen_random_uuid(), 'default', 42", "uuid_in(md5(CAST(n AS text))::cstring), 'default', 42"
        )
        grow(database, history, finished=20_000)
        oldest = "CAST('00000000-0000-7000-8000-' || lpad(CAST(n AS text), 12, '0') AS uuid)"
        grow(database, GROW[3].replace("gen_random_uuid()", oldest), due=WAITING, channels=2)
        grow(database, "ANALYZE dispatcher.leads")
        for wanted in LISTS.values():
            for _ in range(7):
                database.read(leads.page, wanted, most=50)
                database.read(leads.count_matching, wanted)
                database.read(leads.count_pending, wanted)
        yield database


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize("ask", [partial(leads.page, most=50), leads.count_matching, leads.count_pending])
def test_a_list_of_what_waits_reads_what_waits_and_no_history(
    listed: Database, name: str, ask: Callable[[Connection, LeadFilter], Any]
) -> None:
    with listed.autocommit() as connection:
        connection.exec_driver_sql("BEGIN")
        touched = Meter(connection)(lambda: ask(connection, LISTS[name]))
        connection.exec_driver_sql("ROLLBACK")

    assert "leads" not in touched.scanned
    assert "leads_due" in touched.probed
    assert touched.rows <= 6 * WAITING


@pytest.mark.parametrize("ask", [clocks.later_times, recovery._accounts])
def test_what_asks_for_all_that_waits_reads_no_history(listed: Database, ask: Callable[[Connection], Any]) -> None:
    with listed.autocommit() as connection:
        connection.exec_driver_sql("BEGIN")
        touched = Meter(connection)(lambda: ask(connection))
        connection.exec_driver_sql("ROLLBACK")

    assert "leads" not in touched.scanned
    assert touched.rows <= 3 * WAITING


TURN: Final = 64


def compared_in_vain(connection: Connection, call: Call) -> int:
    """How many pairs of rows a statement compares and drops, by its own count."""
    statement, parameters = call
    explain = HotStatement(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement._text.text}")
    pending, removed = [explain.rows(connection, parameters)[0][0][0]["Plan"]], 0
    while pending:
        node = pending.pop()
        removed += int(node.get("Rows Removed by Join Filter", 0)) * int(node["Actual Loops"])
        pending += node.get("Plans", ())
    return removed


def test_the_leads_of_a_turn_are_not_compared_with_each_other(databases: Databases, template_database: str) -> None:
    with databases.one(template_database) as url, closing(Database(normal_database_url(url), pool_size=1)) as database:
        grow(database, GROW[3], due=2 * TURN, channels=1)
        claimer = Claimer(CHANNEL, SETTINGS, "test:1")
        with database.autocommit() as connection:
            opened = claim(connection, TURN).opened
            outcomes = [accepted(one, voicery_lead_id=900_000 + place) for place, one in enumerate(opened)]
            vain = {
                "record": compared_in_vain(connection, results.recording(outcomes)),
                "claim": compared_in_vain(connection, claimer.call(ids(TURN))),
            }
            states = connection.execute(text("SELECT state, count(*) FROM dispatcher.leads GROUP BY state")).all()

    assert vain == {"record": 0, "claim": 0}
    assert dict(map(tuple, states)) == {"accepted": TURN, "sending": TURN}


def test_the_meter_counts_what_a_scan_reads(databases: Databases, template_database: str) -> None:
    with databases.one(template_database) as url, closing(Database(normal_database_url(url), pool_size=1)) as database:
        grow(database, GROW[2], scheduled=3000)
        with database.transaction() as connection:
            sql = text("SELECT count(*) FROM dispatcher.leads WHERE payload_hash = 'x'")
            touched = Meter(connection)(lambda: connection.execute(sql).all())

    assert (touched.rows, touched.scanned) == (3000, {"leads"})
