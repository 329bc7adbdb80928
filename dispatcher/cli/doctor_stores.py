"""What `doctor` asks the Postgres server about itself."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, text

from dispatcher import moments
from dispatcher.cli import screen
from dispatcher.cli.doctor import Check, Verdict
from dispatcher.operator import health
from dispatcher.operator.health import WITHIN_SECONDS, Pulse

_READ = text("""
SELECT current_setting('server_version') AS version, CAST(current_setting('server_version_num') AS int) AS number,
    current_setting('fsync') = 'on' AS fsync, current_setting('full_page_writes') = 'on' AS full_page_writes,
    pg_is_in_recovery() AS standby, clock_timestamp() AS now
""")


@dataclass(frozen=True, slots=True)
class Server:
    """`number` is 150003 for version 15.3. `standby`: it takes no writes."""

    version: str
    number: int
    fsync: bool
    full_page_writes: bool
    standby: bool
    now: datetime


def read(connection: Connection) -> Server:
    """The connected server."""
    row = connection.execute(_READ).one()
    return Server(row.version, row.number, row.fsync, row.full_page_writes, row.standby, row.now)


_SESSION = text("""
SELECT current_user AS role, current_setting('synchronous_commit') <> 'off' AS synchronous_commit,
    current_setting('statement_timeout') <> '0' AS statement_timeout,
    current_setting('lock_timeout') <> '0' AS lock_timeout
""")


@dataclass(frozen=True, slots=True)
class Session:
    """What holds for a session of ours: whether each is on."""

    role: str
    synchronous_commit: bool
    statement_timeout: bool
    lock_timeout: bool


def session_settings(connection: Connection) -> Session:
    """The connected session, as it is outside of a transaction that asks for more."""
    return Session(**connection.execute(_SESSION).mappings().one())


_TABLES = text("""
SELECT relname AS name, n_live_tup AS live, n_dead_tup AS dead, last_autovacuum, pg_total_relation_size(relid) AS bytes
FROM pg_stat_user_tables WHERE schemaname = 'dispatcher' ORDER BY n_dead_tup DESC
""")

_LONG = text("""
SELECT pid, coalesce(nullif(application_name, ''), 'unnamed') AS application, state,
    CAST(extract(epoch FROM now() - xact_start) AS float8) AS seconds
FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
  AND xact_start < now() - make_interval(secs => :seconds)
ORDER BY xact_start
""")

_LIMITS = text("""
SELECT current_setting('autovacuum') = 'on' AS autovacuum,
    CAST(current_setting('max_connections') AS int) AS connections,
    (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS connected
""")


@dataclass(frozen=True, slots=True)
class TableSize:
    """Rows by the server's own count, which is approximate."""

    name: str
    live: int
    dead: int
    last_autovacuum: datetime | None
    bytes: int


@dataclass(frozen=True, slots=True)
class LongTransaction:
    """Somebody's transaction that keeps dead rows from being removed."""

    pid: int
    application: str
    state: str | None
    seconds: float


@dataclass(frozen=True, slots=True)
class Limits:
    """`connections` may be open at once, by anybody; `connected` are."""

    autovacuum: bool
    connections: int
    connected: int


def table_sizes(connection: Connection) -> list[TableSize]:
    """The dispatcher's tables, those with the most dead rows first."""
    return [TableSize(**row) for row in connection.execute(_TABLES).mappings()]


def long_transactions(connection: Connection, *, seconds: float) -> list[LongTransaction]:
    """Transactions of this database that have been open for longer. Without rights those of others are left out."""
    return [LongTransaction(**row) for row in connection.execute(_LONG, {"seconds": seconds}).mappings()]


def server_limits(connection: Connection) -> Limits:
    """What the server allows, and uses."""
    return Limits(**connection.execute(_LIMITS).mappings().one())


LONG_SECONDS: Final = 300.0
MANY_DEAD_ROWS: Final = 100_000
"""Below this a table's dead rows cost nothing, whatever their share."""
_FEW_CONNECTIONS_LEFT: Final = 0.9


def session(connection: Connection) -> Iterator[Check]:
    """What a session must have: our connections ask for it; behind a pooler the role must have it."""
    seen = session_settings(connection)
    if not seen.synchronous_commit:
        found = "synchronous_commit is off: a crash of Postgres may forget a claim whose POST has left"
        advice = f"ALTER ROLE {seen.role} SET synchronous_commit = on"
        yield Check("Session", Verdict.BAD, found, advice)
    missing = [
        name
        for name, there in (("statement_timeout", seen.statement_timeout), ("lock_timeout", seen.lock_timeout))
        if not there
    ]
    if missing:
        found = f"{' and '.join(missing)} not set: a stuck statement would wait for ever"
        yield Check("Session", Verdict.DOUBTFUL, found, f"ALTER ROLE {seen.role} SET …, as docs/operations.md says.")
    if seen.synchronous_commit and not missing:
        yield Check("Session", Verdict.GOOD, "commits are waited for; statements and locks have a time limit")


def limits(connection: Connection) -> Iterator[Check]:
    """Autovacuum and connections."""
    seen = server_limits(connection)
    if not seen.autovacuum:
        advice = "Set autovacuum = on: the queue lives on dead rows, and slows down until they are removed."
        yield Check("Autovacuum", Verdict.BAD, "is off", advice)
    found = f"{seen.connected} of {seen.connections} in use"
    full = seen.connected >= seen.connections * _FEW_CONNECTIONS_LEFT
    advice = "Raise max_connections or put a pooler in front; each worker process may use DISPATCHER_CONCURRENCY + 2."
    yield Check("Connections", Verdict.DOUBTFUL if full else Verdict.GOOD, found, advice if full else "")


def bloat(connection: Connection) -> Iterator[Check]:
    """Dead rows that nobody removes."""
    swollen = [one for one in table_sizes(connection) if one.dead > MANY_DEAD_ROWS and one.dead > one.live // 5]
    for one in swollen:
        vacuumed = (
            f"vacuumed {moments.clock(one.last_autovacuum)}" if one.last_autovacuum else "never vacuumed by itself"
        )
        found = f"dispatcher.{one.name} has {screen.number(one.dead)} dead rows beside {screen.number(one.live)} live"
        advice = f"End long transactions and stale replication slots; then VACUUM (ANALYZE) dispatcher.{one.name}."
        yield Check("Bloat", Verdict.DOUBTFUL, f"{found}, {vacuumed}", advice)
    if not swollen:
        yield Check("Bloat", Verdict.GOOD, "no table is swollen by dead rows")


def transactions(connection: Connection) -> Iterator[Check]:
    """Transactions that stay open: they keep dead rows and block migrations."""
    long = long_transactions(connection, seconds=LONG_SECONDS)
    for one in long:
        found = (
            f"{one.application} (pid {one.pid}, {one.state or 'of another user'}) open for {moments.span(one.seconds)}"
        )
        advice = f"Find out who holds it; SELECT pg_terminate_backend({one.pid}) ends it."
        yield Check("Transaction", Verdict.DOUBTFUL, found, advice)
    if not long:
        yield Check("Transactions", Verdict.GOOD, f"none is open for longer than {moments.span(LONG_SECONDS)}")


def doorbells(connection: Connection) -> Iterator[Check]:
    """Due leads that nobody comes for although workers live: lost doorbells, or a worker that consumes nothing."""
    yield judge_doorbells(health.read(connection))


def judge_doorbells(seen: Pulse) -> Check:
    """What one reading says of the doorbells."""
    due, served, alive = seen.due_age, seen.served_age, seen.worker_age
    waits = due is not None and due > WITHIN_SECONDS
    unserved = (served is None or served > WITHIN_SECONDS) and not seen.sending
    if due is not None and waits and unserved and alive is not None and alive <= WITHIN_SECONDS:
        since = "ever" if served is None else f"for {moments.span(served)}"
        found = f"a lead has been due for {moments.span(due)}, workers live, and no delivery run came {since}"
        advice = "Do workers and sweep name the same REDIS_URL, and does a worker consume the queue `dispatcher`?"
        return Check("Doorbells", Verdict.BAD, found, advice)
    if waits and unserved:
        return Check("Doorbells", Verdict.DOUBTFUL, "leads are due and no worker comes", "Start the workers.")
    return Check("Doorbells", Verdict.GOOD, "what is due is being fetched")
