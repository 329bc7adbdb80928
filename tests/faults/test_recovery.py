"""The database forgets: a copy from before a drain is put back, and a worker goes on with it."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from tests.faults.conftest import Case
from tests.faults.harness import REFERENCE, Harness
from tests.faults.invariants import Ledger
from tests.faults.test_inbox import by_sql
from tests.support.databases import Databases
from tests.support.waiting import wait_until


@pytest.fixture
def backups(databases: Databases) -> Iterator["Backups"]:
    kept = Backups(databases)
    yield kept
    for name in kept.names:
        databases.drop(name)


class Backups:
    """Copies of a harness's database."""

    def __init__(self, databases: Databases) -> None:
        self.databases = databases
        self.names: list[str] = []

    def take(self, harness: Harness) -> str:
        """Copy the database; nobody may be connected to it."""
        harness.disconnect()
        self.names.append(self.databases.create(harness.environment["DATABASE_URL"].rsplit("/", 1)[1].split("?")[0]))
        return self.names[-1]

    def put_back(self, harness: Harness, name: str) -> None:
        """Have the harness go on with the copy."""
        harness.disconnect()
        harness.environment["DATABASE_URL"] = self.databases.url(name)


def created_of(harness: Harness) -> dict[str, int]:
    """How many leads Voicery has for each of ours."""
    return {ref: len(found) for ref, found in Ledger.of(harness.sandbox.log, REFERENCE).created.items()}


def test_a_copy_from_before_a_drain_calls_nobody_twice(case: Case, seed: int, backups: Backups) -> None:
    """Some leads were on their way or in doubt at the copy, some were sent after it, some never, some came by SQL."""
    harness = case(latency_seconds=0.02)
    harness.precede()
    harness.submit(6)
    dying = harness.engine(failpoint="post.written:3", ready=False)
    dying.wait_dead()
    by_sql(harness, 2)
    waiting = harness.submit(12)
    (later,) = harness.submit(1)
    harness.execute(f"UPDATE dispatcher.leads SET due_at = now() + interval '1 day' WHERE id = '{later}'")
    copy = backups.take(harness)
    since = datetime.now(UTC)

    never = waiting[8:]
    harness.execute(
        f"UPDATE dispatcher.leads SET due_at = now() + interval '1 day' WHERE id = ANY ('{{{','.join(never)}}}')"
    )
    drained = harness.engine(failpoint="post.written:6", ready=False)
    drained.wait_dead()
    sent = set(created_of(harness)) & set(waiting)
    assert sent
    assert not sent & set(never)

    backups.put_back(harness, copy)
    recovery = harness.dispatcher().recovery
    (planned,) = recovery.recover(since, None, actor="ada", dry_run=True)
    assert harness.query("SELECT count(*) FROM dispatcher.audit_log WHERE action = 'recover'") == [(0,)]
    (first,) = recovery.recover(since, None, actor="ada")
    (second,) = recovery.recover(since, None, actor="ada")
    assert first.held_now > len(waiting)
    assert planned.held_now == first.held_now + 2, "each row of the inbox counts, a repeated one too"
    assert (second.held_now, second.still_held) == (0, first.held_now)
    assert harness.states() == {"accepted": harness.states()["accepted"], "unknown": first.held_now, "pending": 1}

    harness.engine()
    fresh = harness.submit(1)  # comes after the recovery: held by nothing
    wait_until(lambda: harness.state_of(fresh[0]) == "accepted")
    harness.execute(f"UPDATE dispatcher.leads SET due_at = now() WHERE id = '{later}'")
    endings = harness.settle()

    created = created_of(harness)
    assert max(created.values()) == 1, created
    assert set(endings) == {"accepted"}, endings
    assert set(harness.submitted) <= set(created)
    (last,) = recovery.recover(since, None, actor="ada")
    assert (last.held_now, last.still_held) == (0, 0)
    assert last.adopted >= len(sent)
    assert last.released >= len(never)
    assert last.adopted + last.released == first.held_now
