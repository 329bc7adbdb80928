"""The doctor's checks of what grows with time in Postgres, and of whether the queue is served."""

from collections.abc import Iterator
from typing import Final

from sqlalchemy import Connection

from dispatcher.cli import screen
from dispatcher.cli.check import Check, Verdict
from dispatcher.records import moments
from dispatcher.records.health import WITHIN_SECONDS, Pulse
from dispatcher.store import pulse, server

LONG_SECONDS: Final = 300.0
MANY_DEAD_ROWS: Final = 100_000
"""Below this a table's dead rows cost nothing, whatever their share."""
_FEW_CONNECTIONS_LEFT: Final = 0.9


def session(connection: Connection) -> Iterator[Check]:
    """What a session must have: our connections ask for it; behind a pooler the role must have it."""
    seen = server.session(connection)
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
    seen = server.limits(connection)
    if not seen.autovacuum:
        advice = "Set autovacuum = on: the queue lives on dead rows, and slows down until they are removed."
        yield Check("Autovacuum", Verdict.BAD, "is off", advice)
    found = f"{seen.connected} of {seen.connections} in use"
    full = seen.connected >= seen.connections * _FEW_CONNECTIONS_LEFT
    advice = "Raise max_connections or put a pooler in front; each worker process may use DISPATCHER_CONCURRENCY + 2."
    yield Check("Connections", Verdict.DOUBTFUL if full else Verdict.GOOD, found, advice if full else "")


def bloat(connection: Connection) -> Iterator[Check]:
    """Dead rows that nobody removes."""
    swollen = [one for one in server.table_sizes(connection) if one.dead > MANY_DEAD_ROWS and one.dead > one.live // 5]
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
    long = server.long_transactions(connection, seconds=LONG_SECONDS)
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
    yield judge_doorbells(pulse.read(connection))


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
