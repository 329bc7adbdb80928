"""The state of the whole queue. Counts that a partial index answers are exact; those of a large table are estimated."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar, Final

from sqlalchemy import Connection, text

from dispatcher.decisions.gate import GateState
from dispatcher.decisions.outcome import Reason
from dispatcher.decisions.states import FailureClass, State
from dispatcher.operator import inbox_list
from dispatcher.operator.inbox_list import InboxCounts
from dispatcher.operator.record import FOREIGN_TEXT, Record
from dispatcher.store.reading import ReadConnection


@dataclass(frozen=True, slots=True)
class Count:
    """A number of rows. `exact` is False if it is the planner's estimate, because counting would read a large table."""

    value: int
    exact: bool = True


@dataclass(frozen=True, slots=True)
class GateRecord(Record):
    """A gate that is not open. `campaign_id` None: of the whole account. `until` None: only an operator opens it."""

    account: str
    campaign_id: int | None
    state: GateState
    reason: Reason
    closed_at: datetime | None = None
    until: datetime | None = None
    by: str | None = None
    note: str | None = field(default=None, metadata=FOREIGN_TEXT)

    @property
    def scope(self) -> str:
        """`campaign 42`, or `account default`; a campaign of another account names that too."""
        if self.campaign_id is None:
            return f"account {self.account}"
        return f"campaign {self.campaign_id}" + ("" if self.account == "default" else f" of account {self.account}")


@dataclass(frozen=True, slots=True)
class ChannelWaiting(Record):
    """The waiting leads of one campaign."""

    account: str
    campaign_id: int
    waiting: int
    due: int


@dataclass(frozen=True, slots=True)
class WorkerSeen(Record):
    """A worker, when it was last seen, and the number of leads that it has claimed since it started.

    silent   it has not been heard of for 30 seconds, three times as long as a living worker is ever silent
    """

    name: str
    seen_at: datetime
    claims: int
    silent: bool = False


@dataclass(frozen=True, slots=True)
class RateUse(Record):
    """The permits of one window of an account's rate limit that are used now."""

    account: str
    permits: int
    seconds: float
    used: int


@dataclass(frozen=True, slots=True)
class Overview(Record):
    """The queue at the instant `at` (the database's clock).

    counts                   leads by state; `failed` counts the open failures
    due                      pending leads whose time has come
    held                     those of them that a gate holds back, e.g. because their campaign is paused
    oldest_due_at            when the first of these became due
    next_due_at              when the next scheduled lead becomes due
    accepted_today           since midnight UTC
    failures                 open failures by class
    incidents                incidents that have not been marked as seen
    inbox                    what was submitted by SQL and is no lead yet
    rate                     None: Redis could not be asked; empty: no limit
    """

    JSON: ClassVar = (
        "at",
        "leads",
        "approximate",
        "due",
        "held",
        "oldest_waiting_seconds",
        "next_due_at",
        "accepted_today",
        "failures",
        "incidents",
        "channels",
        "gates",
        "workers",
        "sweep",
        "rate",
        "inbox",
    )

    at: datetime
    counts: Mapping[State, Count]
    due: int = 0
    held: int = 0
    oldest_due_at: datetime | None = None
    next_due_at: datetime | None = None
    accepted_today: int = 0
    failures: Mapping[FailureClass, int] = field(default_factory=dict)
    incidents: int = 0
    channels: tuple[ChannelWaiting, ...] = ()
    gates: tuple[GateRecord, ...] = ()
    workers: tuple[WorkerSeen, ...] = ()
    swept_at: datetime | None = None
    sweeper: str | None = None
    rate: tuple[RateUse, ...] | None = ()
    inbox: InboxCounts = field(default_factory=InboxCounts)

    @property
    def oldest_waiting_seconds(self) -> float | None:
        """The time since the longest waiting lead became due; None if none is due."""
        return None if self.oldest_due_at is None else max(0.0, (self.at - self.oldest_due_at).total_seconds())

    @property
    def moving(self) -> int:
        """The number of due leads that nothing but workers and the rate limit makes wait."""
        return self.due - self.held

    @property
    def living(self) -> int:
        """The number of workers that are not silent."""
        return sum(not worker.silent for worker in self.workers)

    @property
    def leads(self) -> Mapping[State, int]:
        """The number of leads in each state."""
        return {state: count.value for state, count in self.counts.items()}

    @property
    def approximate(self) -> tuple[State, ...]:
        """The states whose number is estimated."""
        return tuple(state for state, count in self.counts.items() if not count.exact)

    @property
    def sweep(self) -> Mapping[str, str | None]:
        """When the last sweep was, and which process made it."""
        return {"at": None if self.swept_at is None else self.swept_at.isoformat(), "by": self.sweeper}


_SMALL_BYTES: Final = 64 * 1024 * 1024
"""A table of leads up to this size is counted; above it the finished states are estimated."""

_WAITING = text("""
-- One index-only scan of what waits.
SELECT account, campaign_id, count(*) AS waiting, count(*) FILTER (WHERE due_at <= now()) AS due,
    min(due_at) FILTER (WHERE due_at <= now()) AS oldest_due_at,
    min(due_at) FILTER (WHERE due_at > now()) AS next_due_at
FROM dispatcher.leads WHERE state = 'pending'
GROUP BY account, campaign_id
ORDER BY count(*) DESC
""")

_COUNTS = text("""
SELECT now() AS at,
    (SELECT count(*) FROM dispatcher.leads WHERE state = 'sending') AS sending,
    (SELECT count(*) FROM dispatcher.leads WHERE state = 'unknown') AS unknown,
    (SELECT count(*) FROM dispatcher.leads
     WHERE finished_at >= date_trunc('day', now(), 'UTC') AND state = 'accepted') AS accepted_today,
    (SELECT count(*) FROM dispatcher.incidents WHERE seen_at IS NULL) AS incidents,
    -- The planner's estimates are of all accounts: who is confined to some gets the rows counted.
    CASE WHEN nullif(current_setting('dispatcher.accounts', true), '') IS NULL
        THEN pg_relation_size('dispatcher.leads') ELSE 0 END AS bytes
""")

_FAILURES = text("""
-- In the order of the one index that has the class, so that no row is fetched: half the time of a narrower index.
SELECT failure_class, count(*) AS leads
FROM (SELECT failure_class FROM dispatcher.failed_leads WHERE resolved_at IS NULL ORDER BY failed_at OFFSET 0) AS open
GROUP BY failure_class
""")

_FINISHED = text("""
SELECT state, count(*) AS leads FROM dispatcher.leads
WHERE state IN ('accepted', 'duplicate', 'cancelled') GROUP BY state
""")

_ESTIMATED = text("""
-- What ANALYZE saw: the share of each state, times the rows it estimates.
SELECT common.state, CAST(round(common.share * greatest(class.reltuples, 0)) AS bigint) AS leads
FROM pg_class AS class
JOIN pg_stats AS stats ON stats.schemaname = 'dispatcher' AND stats.tablename = 'leads' AND stats.attname = 'state'
CROSS JOIN LATERAL unnest(CAST(CAST(stats.most_common_vals AS text) AS text[]), stats.most_common_freqs)
    AS common (state, share)
WHERE class.oid = CAST('dispatcher.leads' AS regclass)
""")

_GATES = text("""
SELECT account, campaign_id, state, reason, closed_at, until, by, note FROM dispatcher.gates
WHERE state <> 'open' ORDER BY account, COALESCE(campaign_id, 0)
""")

_GATES_OF = text("""
SELECT account, campaign_id, state, reason, closed_at, until, by, note FROM dispatcher.gates
WHERE state <> 'open' AND account = :account AND COALESCE(campaign_id, 0) IN (0, :campaign_id)
ORDER BY COALESCE(campaign_id, 0)
""")

_WORKERS = text("""
SELECT name, seen_at, claims, seen_at < now() - interval '30 s' AS silent
FROM dispatcher.workers ORDER BY seen_at DESC, name
""")

_SWEEP = text("SELECT swept_at, holder FROM dispatcher.sweeps WHERE name = 'sweep'")


def read(connection: ReadConnection) -> Overview:
    """Return the queue now, without the rate limit, which is in Redis."""
    waiting = connection.execute(_WAITING).mappings().all()
    counts = connection.execute(_COUNTS).one()
    failures = {FailureClass(row.failure_class): row.leads for row in connection.execute(_FAILURES)}
    sweep = connection.execute(_SWEEP).first()
    shut = gates(connection)
    scopes = {(gate.account, gate.campaign_id) for gate in shut}
    return Overview(
        at=counts.at,
        counts={
            State.PENDING: Count(sum(row["waiting"] for row in waiting)),
            State.SENDING: Count(counts.sending),
            State.UNKNOWN: Count(counts.unknown),
            State.FAILED: Count(sum(failures.values())),
            **_finished(connection, exact=counts.bytes <= _SMALL_BYTES),
        },
        due=sum(row["due"] for row in waiting),
        held=sum(row["due"] for row in waiting if scopes & _gates_over(row["account"], row["campaign_id"])),
        oldest_due_at=min((row["oldest_due_at"] for row in waiting if row["oldest_due_at"]), default=None),
        next_due_at=min((row["next_due_at"] for row in waiting if row["next_due_at"]), default=None),
        accepted_today=counts.accepted_today,
        failures=failures,
        incidents=counts.incidents,
        channels=tuple(ChannelWaiting.of(row) for row in waiting),
        gates=shut,
        workers=tuple(map(WorkerSeen.of, connection.execute(_WORKERS).mappings())),
        swept_at=None if sweep is None else sweep.swept_at,
        sweeper=None if sweep is None else sweep.holder,
        inbox=inbox_list.counts(connection),
    )


def workers(connection: ReadConnection) -> Overview:
    """Return the workers and the last sweep; leads are not counted."""
    now = connection.execute(text("SELECT now() AS at")).one()
    sweep = connection.execute(_SWEEP).first()
    return Overview(
        at=now.at,
        counts={},
        workers=tuple(map(WorkerSeen.of, connection.execute(_WORKERS).mappings())),
        swept_at=None if sweep is None else sweep.swept_at,
        sweeper=None if sweep is None else sweep.holder,
    )


def gates(connection: ReadConnection) -> tuple[GateRecord, ...]:
    """Return every gate that is not open."""
    return tuple(map(GateRecord.of, connection.execute(_GATES).mappings()))


def gates_of(connection: Connection, account: str, campaign_id: int) -> tuple[GateRecord, ...]:
    """Return the gates that hold a channel back, its account's first."""
    rows = connection.execute(_GATES_OF, {"account": account, "campaign_id": campaign_id})
    return tuple(map(GateRecord.of, rows.mappings()))


def _gates_over(account: str, campaign_id: int) -> set[tuple[str, int | None]]:
    return {(account, None), (account, campaign_id)}


def _finished(connection: ReadConnection, *, exact: bool) -> Mapping[State, Count]:
    rows = connection.execute(_FINISHED if exact else _ESTIMATED)
    leads = {row.state: row.leads for row in rows}
    finished = (State.ACCEPTED, State.DUPLICATE, State.CANCELLED)
    return {state: Count(leads.get(state.value, 0), exact=exact) for state in finished}
