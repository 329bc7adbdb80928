"""What `doctor` says of tables, indexes and vacuum: each finding names what is wrong, how bad it is, and the remedy.

What is in order is told in two lines; the rest only where it is not.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from sqlalchemy import Connection

from dispatcher import moments
from dispatcher.cli import screen
from dispatcher.cli.doctor import Check, Grade
from dispatcher.store import upkeep
from dispatcher.store.upkeep import (
    FrozenAge,
    InvalidIndex,
    LoginSight,
    LongTransaction,
    PreparedTransaction,
    ReplicationSlot,
    Space,
    TableUpkeep,
)

LONG_SECONDS: Final = 300.0
MANY_DEAD_ROWS: Final = 100_000
"""Below this a table's dead rows cost nothing, whatever their share."""
MUCH_EMPTY_BYTES: Final = 256 * 1024 * 1024
"""Below this the empty space of a table or an index costs nothing."""
LARGE_BYTES: Final = 8 * 1024 * 1024
"""A table up to this size is read whole as fast as by an index, so that it needs no statistics."""
MANY_CHANGED_ROWS: Final = 100_000
OLD_TRANSACTIONS: Final = 500_000_000
WRAPAROUND: Final = 1_500_000_000
"""Postgres stops taking writes some 500 million later."""
KEPT_BYTES: Final = 1024 * 1024 * 1024
MANY_HELD_TRANSACTIONS: Final = 1_000_000
FEW_HELD_TRANSACTIONS: Final = 10_000
"""Of a slot that nobody uses: nothing will free what it holds back."""

_LEFT_OVER: Final = re.compile(r"_cc(?:new|old)\d*")


def upkeep_checks(connection: Connection) -> Iterator[Check]:
    """Check indexes, statistics, dead rows and free space, and what keeps vacuum from its work."""
    tables = upkeep.tables(connection)
    yield from judge_autovacuum(upkeep.switched_off(connection), tables)
    yield from judge_indexes(upkeep.invalid_indexes(connection))
    yield from judge_statistics(tables)
    yield from judge_bloat(tables, upkeep.spaces(connection))
    yield from judge_ages(upkeep.frozen_ages(connection))
    yield from judge_slots(upkeep.slots(connection))
    yield from judge_transactions(
        upkeep.long_transactions(connection, seconds=LONG_SECONDS),
        upkeep.prepared_transactions(connection, seconds=LONG_SECONDS),
        upkeep.sight(connection),
    )


def judge_autovacuum(off: Iterable[str], tables: Iterable[TableUpkeep]) -> Iterator[Check]:
    """Check that dead rows are removed by themselves, on the server and of each table."""
    for name in off:
        advice = f"ALTER SYSTEM SET {name} = on; then SELECT pg_reload_conf(). The queue lives on dead rows, and slows "
        yield Check("Autovacuum", Grade.BAD, f"{name} is off", f"{advice}down until they are removed.")
    for table in tables:
        for option in table.off:
            found = f"{option} is off for dispatcher.{table.name}, which has {screen.number(table.dead)} dead rows"
            yield Check("Autovacuum", Grade.BAD, found, f"ALTER TABLE dispatcher.{table.name} RESET ({option})")


def judge_indexes(invalid: Iterable[InvalidIndex]) -> Iterator[Check]:
    """Check for indexes that an interrupted build has left: each write pays for them, and no statement uses them."""
    for index in invalid:
        found = f"dispatcher.{index.name} on {index.table} is invalid: its build was interrupted, and nothing uses it"
        if _LEFT_OVER.search(index.name):
            # What REINDEX CONCURRENTLY leaves where it is interrupted; the index that it was for is still there.
            command, verdict = f"DROP INDEX CONCURRENTLY dispatcher.{index.name}", Grade.DOUBTFUL
        else:
            command = f"REINDEX INDEX CONCURRENTLY dispatcher.{index.name}"
            verdict = Grade.BAD if index.unique else Grade.DOUBTFUL
        yield Check("Index", verdict, found, command)


def judge_statistics(tables: Iterable[TableUpkeep]) -> Iterator[Check]:
    """Check that the planner knows the large tables."""
    for table in tables:
        if table.bytes <= LARGE_BYTES:
            continue
        command = f"ANALYZE dispatcher.{table.name}"
        if not table.analyzed:
            found = f"dispatcher.{table.name} was never analyzed: its counts are missing, its plans are guesses"
            yield Check("Statistics", Grade.DOUBTFUL, found, command)
        elif table.changed > max(MANY_CHANGED_ROWS, table.live // 2):
            changed, live = screen.number(table.changed), screen.number(table.live)
            found = f"of dispatcher.{table.name} {changed} rows changed since it was analyzed; it has {live}"
            yield Check("Statistics", Grade.DOUBTFUL, found, command)


def judge_bloat(tables: Iterable[TableUpkeep], spaces: Iterable[Space] = ()) -> Iterator[Check]:
    """Check for dead rows that are not removed, and for tables and indexes that are mostly empty space."""
    swollen = [one for one in tables if one.dead > MANY_DEAD_ROWS and one.dead > one.live // 5]
    empty = [one for one in spaces if one.bytes > 2 * one.needed and one.bytes - one.needed > MUCH_EMPTY_BYTES]
    for table in swollen:
        vacuumed = (
            f"vacuumed {moments.clock(table.last_autovacuum)}" if table.last_autovacuum else "never vacuumed by itself"
        )
        dead, live = screen.number(table.dead), screen.number(table.live)
        found = f"dispatcher.{table.name} has {dead} dead rows beside {live} live, {vacuumed}"
        advice = f"VACUUM (ANALYZE) dispatcher.{table.name}, after what holds vacuum back (other lines) has ended."
        yield Check("Bloat", Grade.DOUBTFUL, found, advice)
    for space in empty:
        found = f"dispatcher.{space.name} has {_megabytes(space.bytes)} and needs about {_megabytes(space.needed)}"
        if space.of_index:
            advice = f"REINDEX INDEX CONCURRENTLY dispatcher.{space.name}"
        else:
            advice = (
                f"VACUUM (FULL, ANALYZE) dispatcher.{space.name}, with workers and producers stopped; or leave it: new "
                "rows fill the space."
            )
        yield Check("Bloat", Grade.DOUBTFUL, found, advice)
    if not swollen and not empty:
        yield Check("Bloat", Grade.GOOD, "no table or index is swollen by dead rows or empty space")


def judge_ages(ages: Iterable[FrozenAge]) -> Iterator[Check]:
    """Check how far the database is from the age at which Postgres stops taking writes."""
    for one in ages:
        if one.age <= max(OLD_TRANSACTIONS, one.may_reach + one.may_reach // 4):
            continue
        found = f"the oldest rows are {screen.number(one.age)} {one.kind}s old, of some 2 000 million that are possible"
        advice = f"VACUUM (FREEZE) {one.table}, after what holds vacuum back (other lines) has ended."
        yield Check("Wraparound", Grade.BAD if one.age > WRAPAROUND else Grade.DOUBTFUL, found, advice)


def judge_slots(slots: Iterable[ReplicationSlot]) -> Iterator[Check]:
    """Check for replication slots that keep dead rows, or write-ahead log, for a standby that does not take it."""
    for slot in slots:
        held = slot.held_transactions or 0
        faults = []
        if held > (MANY_HELD_TRANSACTIONS if slot.active else FEW_HELD_TRANSACTIONS):
            faults.append(f"keeps the dead rows of {screen.number(held)} transactions")
        if not slot.active and slot.kept_bytes > KEPT_BYTES:
            faults.append(f"keeps {_megabytes(slot.kept_bytes)} of write-ahead log")
        if not faults:
            continue
        name = "a standby without a slot" if slot.name is None else f"slot {slot.name}"
        found = f"{name}{'' if slot.active else ', which nobody uses,'} {' and '.join(faults)}"
        if slot.active or slot.name is None:
            advice = "End the long query on that standby, or set hot_standby_feedback = off there."
        else:
            advice = f"SELECT pg_drop_replication_slot({_literal(slot.name)}), unless its standby comes back."
        yield Check("Replication", Grade.DOUBTFUL, found, advice)


def judge_transactions(
    long: Sequence[LongTransaction],
    prepared: Sequence[PreparedTransaction] = (),
    sight: LoginSight | None = None,
) -> Iterator[Check]:
    """Check for transactions that stay open: they keep dead rows and block migrations."""
    for one in long:
        found = (
            f"{one.application} (pid {one.pid}, {one.state or 'of another user'}) open for {moments.span(one.seconds)}"
        )
        advice = f"Find out who holds it; SELECT pg_terminate_backend({one.pid}) ends it."
        yield Check("Transaction", Grade.DOUBTFUL, found, advice)
    for waiting in prepared:
        found = f"{waiting.name} was prepared {moments.span(waiting.seconds)} ago, and is neither committed nor undone"
        command = f"COMMIT PREPARED {_literal(waiting.name)} or ROLLBACK PREPARED"
        yield Check("Transaction", Grade.DOUBTFUL, found, f"{command}, as its transaction manager knows.")
    if sight is not None and sight.hidden:
        found = (
            f"{screen.plural(sight.hidden, 'session')} of other logins cannot be judged: {sight.role} may not see them"
        )
        advice = f'GRANT pg_read_all_stats TO "{sight.role}" shows them here.'
        yield Check("Transactions", Grade.GOOD, found, advice)
    elif not long and not prepared:
        yield Check("Transactions", Grade.GOOD, f"none is open for longer than {moments.span(LONG_SECONDS)}")


def _megabytes(count: int) -> str:
    return f"{screen.number(count // (1024 * 1024))} MB"


def _literal(name: str) -> str:
    return "'" + name.replace("'", "''") + "'"
