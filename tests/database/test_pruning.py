"""Retention: what is forgotten when, and what never is."""

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, text

from dispatcher.config.settings import Settings
from dispatcher.operator import retention
from dispatcher.operator.retention import Place, Pruner, Pruning, Slice
from dispatcher.store.database import Database
from dispatcher.store.statement import first_id
from dispatcher.store.trouble import StatementRefused
from dispatcher.sweep.sweep import PRUNE_SECONDS, Sweep
from tests.database.queue import Queue
from tests.support.doubles import Bell, Rate

SETTINGS = Settings(retention_days=90, response_retention_days=30, key_retention_days=400)


def ended(queue: Queue, number: int, days: float, state: str = "accepted", **columns: Any) -> uuid.UUID:
    """A lead that ended so long ago, with an attempt that holds an answer."""
    if state == "failed":
        columns.setdefault("failure_class", "rejected")
    lead_id = queue.put(number, state, **columns)
    queue.run(
        "UPDATE dispatcher.leads SET finished_at = now() - make_interval(secs => :ago) WHERE id = :id",
        ago=days * 86_400,
        id=lead_id,
    )
    attempt(queue, lead_id, days)
    return lead_id


def attempt(queue: Queue, lead_id: uuid.UUID, days: float, *, finished: bool = True) -> uuid.UUID:
    attempt_id = uuid.UUID(int=first_id(datetime.now(UTC) - timedelta(days=days)).int + uuid.uuid4().int % 2**48)
    queue.run(
        """
        INSERT INTO dispatcher.lead_attempts (id, lead_id, number, account, campaign_id, phone_number, watermark,
            started_at, finished_at, response)
        SELECT :id, id, 1, account, campaign_id, phone_number, 0, now() - make_interval(secs => :ago),
            CASE WHEN :finished THEN now() - make_interval(secs => :ago) END, 'what Voicery said'
        FROM dispatcher.leads WHERE id = :lead_id
        """,
        id=attempt_id,
        lead_id=lead_id,
        ago=days * 86_400,
        finished=finished,
    )
    return attempt_id


def failure(queue: Queue, lead_id: uuid.UUID, *, resolved_days: float | None = None) -> None:
    queue.run(
        """
        INSERT INTO dispatcher.failed_leads (lead_id, account, campaign_id, phone_number, failure_class, fingerprint,
            message, response, attempts, resolved_at, resolution)
        SELECT id, account, campaign_id, phone_number, 'rejected', 'f', 'A sentence.', 'what Voicery said', 1,
            now() - make_interval(secs => CAST(:ago AS float8)),
            CASE WHEN CAST(:ago AS float8) IS NOT NULL THEN 'replayed' END
        FROM dispatcher.leads WHERE id = :lead_id
        """,
        lead_id=lead_id,
        ago=None if resolved_days is None else resolved_days * 86_400,
    )


def answers(queue: Queue, table: str) -> dict[uuid.UUID, str | None]:
    return {row.lead_id: row.response for row in queue.rows(f"SELECT lead_id, response FROM dispatcher.{table}")}


def left(queue: Queue) -> set[uuid.UUID]:
    return {row.id for row in queue.rows("SELECT id FROM dispatcher.leads")}


def pass_over(pruner: Pruning, queue: Queue) -> None:
    """One whole pass."""
    queue.run("UPDATE dispatcher.sweeps SET pruned_at = NULL")
    for _ in range(100):
        pruner.step()
        if queue.rows("SELECT FROM dispatcher.sweeps WHERE pruned_at IS NOT NULL"):
            return
    pytest.fail("the pass did not end")


@pytest.fixture
def pruner(database: Database) -> Pruning:
    return Pruning(database, SETTINGS)


@pytest.mark.parametrize("state", ["accepted", "duplicate", "cancelled"])
def test_what_ended_before_the_retention_goes_with_all_that_hangs_on_it(
    queue: Queue, pruner: Pruning, state: str
) -> None:
    old, young = ended(queue, 1, 91, state), ended(queue, 2, 89, state)
    queue.run(
        "INSERT INTO dispatcher.lead_contacts (lead_id, position, account, phone_number)"
        " VALUES (:id, 0, 'default', '')",
        id=old,
    )

    pass_over(pruner, queue)

    assert left(queue) == {young}
    assert [row.lead_id for row in queue.rows("SELECT lead_id FROM dispatcher.lead_attempts")] == [young]
    assert not queue.rows("SELECT FROM dispatcher.lead_contacts")


def test_a_failed_lead_stays_for_a_year_whether_it_was_dealt_with_or_not(queue: Queue, pruner: Pruning) -> None:
    kept, gone = (
        {ended(queue, first, days, "failed"), ended(queue, first + 1, days), ended(queue, first + 2, days, "failed")}
        for first, days in ((1, 364), (4, 366))
    )
    for lead in kept | gone:
        if queue.lead(lead).state == "accepted":
            failure(queue, lead, resolved_days=300)
        elif lead != min(kept | gone):
            failure(queue, lead)

    pass_over(pruner, queue)

    assert left(queue) == kept
    assert {row.lead_id for row in queue.rows("SELECT lead_id FROM dispatcher.failed_leads")} <= kept


def test_a_failed_lead_is_kept_no_shorter_than_an_accepted_one(queue: Queue, database: Database) -> None:
    kept = {ended(queue, 1, 400, "failed"), ended(queue, 2, 400)}

    pass_over(Pruning(database, Settings(retention_days=500, key_retention_days=500)), queue)

    assert left(queue) == kept


AGED = (  # entries get the time of the database; these are from long ago, and chained as they were then
    "SET LOCAL session_replication_role = replica",
    (
        "INSERT INTO dispatcher.audit_log (actor, action, subject, at)"
        " SELECT 'x', 'y', 'z', now() - make_interval(days => CAST(:days AS int) + 4 - n)"
        " FROM generate_series(1, 7) AS n"
    ),
    "SELECT dispatcher.seal_audit(id) FROM dispatcher.audit_log ORDER BY id",
)


def old_entries(database: Database, days: int) -> None:
    with database.transaction() as connection:
        for statement in AGED:
            connection.execute(text(statement), {"days": days} if ":days" in statement else {})


@pytest.mark.parametrize(("table", "days"), [("audit_log", 1095), ("incidents", 365)])
def test_old_entries_go_in_slices_and_young_ones_stay(queue: Queue, database: Database, table: str, days: int) -> None:
    if table == "audit_log":
        old_entries(database, days)
    else:
        queue.run(
            "INSERT INTO dispatcher.incidents (kind, message, evidence, at)"
            " SELECT 'x', 'y', '{}', now() - make_interval(days => CAST(:days AS int) + 4 - n)"
            " FROM generate_series(1, 7) AS n",
            days=days,
        )
    prune = retention.prune_audit if table == "audit_log" else retention.prune_incidents
    place: Place | None = {"after_id": 0}
    slices = []
    while place is not None:
        with database.transaction() as connection:
            before = retention.database_now(connection) - timedelta(days=days)
            done = prune(connection, place, before, most=2)
        slices.append(done.pruned)
        place = done.following

    assert slices[:2] == [2, 2]
    assert sum(slices) == 4
    kept = "WHERE action = 'y'" if table == "audit_log" else ""
    assert len(queue.rows(f"SELECT FROM dispatcher.{table} {kept}")) == 3


def test_a_pass_of_the_sweep_takes_old_entries_too(queue: Queue, database: Database, pruner: Pruning) -> None:
    old_entries(database, 2000)
    queue.run("INSERT INTO dispatcher.incidents (kind, message, at) VALUES ('x', 'y', '2001-01-01')")

    pass_over(pruner, queue)

    assert not queue.rows("SELECT FROM dispatcher.audit_log WHERE action = 'y'")
    assert not queue.rows("SELECT FROM dispatcher.incidents")


def test_what_was_rejected_from_the_inbox_goes_as_ended_leads_do_and_what_waits_stays(
    queue: Queue, pruner: Pruning
) -> None:
    for state, days in (("waiting", None), ("rejected", 89), ("rejected", 91), ("repeated", 91)):
        queue.run(
            """
            INSERT INTO dispatcher.inbox
                (id, account, lead, bytes, caller, state, ended_at, reasons, lead_id, created_at)
            VALUES (gen_random_uuid(), 'default', '{}', 2, 'shop', :state,
                now() - make_interval(days => CAST(:days AS int)),
                CASE WHEN :state = 'rejected' THEN CAST('[]' AS jsonb) END,
                CASE WHEN :state = 'repeated' THEN gen_random_uuid() END, now() - interval '2 years')
            """,
            state=state,
            days=days,
        )
    pass_over(pruner, queue)

    assert sorted(row.state for row in queue.rows("SELECT state FROM dispatcher.inbox")) == ["rejected", "waiting"]


def test_what_waits_or_is_in_doubt_stays_however_old_it_is(queue: Queue, pruner: Pruning) -> None:
    kept = {queue.claimed(1).lead_id, queue.put(2)}
    queue.run(
        "UPDATE dispatcher.leads SET created_at = now() - interval '9 years', due_at = now() - interval '9 years'"
    )

    pass_over(pruner, queue)

    assert left(queue) == kept


def test_answers_are_emptied_earlier_than_the_leads_go(queue: Queue, pruner: Pruning) -> None:
    old, young = ended(queue, 1, 31), ended(queue, 2, 29)

    pass_over(pruner, queue)

    answers = {
        row.lead_id: row.response for row in queue.rows("SELECT lead_id, response FROM dispatcher.lead_attempts")
    }
    assert answers == {old: None, young: "what Voicery said"}


def test_the_answer_to_an_attempt_in_doubt_is_kept(queue: Queue, pruner: Pruning) -> None:
    lead_id = queue.put(1)
    attempt_id = attempt(queue, lead_id, 40, finished=False)

    pass_over(pruner, queue)

    assert queue.attempt(attempt_id).response == "what Voicery said"


def test_the_answer_of_an_open_failure_is_kept_until_it_was_resolved_for_long(queue: Queue, pruner: Pruning) -> None:
    leads = [ended(queue, number, 40, "failed") for number in range(3)]
    failure(queue, leads[0])
    failure(queue, leads[1], resolved_days=29)
    failure(queue, leads[2], resolved_days=31)

    pass_over(pruner, queue)

    found = answers(queue, "failed_leads")
    assert [found[one] for one in leads] == ["what Voicery said", "what Voicery said", None]


def test_a_key_is_forgotten_after_its_own_time_but_never_before_its_lead(queue: Queue, pruner: Pruning) -> None:
    kept_lead = ended(queue, 1, 360, "failed")
    for key, lead_id, days in (("a", uuid.uuid4(), 399), ("b", uuid.uuid4(), 401), ("c", kept_lead, 401)):
        queue.run(
            """
            INSERT INTO dispatcher.idempotency_keys (account, key, lead_id, payload_hash, state, created_at)
            VALUES ('default', :key, :lead_id, 'h', 'pending', now() - make_interval(days => :days))
            """,
            key=key,
            lead_id=lead_id,
            days=days,
        )

    pass_over(pruner, queue)

    assert [row.key for row in queue.rows("SELECT key FROM dispatcher.idempotency_keys ORDER BY key")] == ["a", "c"]


def test_the_lead_with_the_greatest_id_of_its_account_stays_as_the_watermark(queue: Queue, pruner: Pruning) -> None:
    ended(queue, 1, 100, voicery_lead_id=7)
    top = ended(queue, 2, 100, voicery_lead_id=9)
    other = ended(queue, 3, 100, voicery_lead_id=3, account="other")
    by_contact = ended(queue, 4, 100, voicery_lead_id=8)
    queue.run(
        "INSERT INTO dispatcher.lead_contacts (lead_id, position, account, phone_number, voicery_lead_id)"
        " VALUES (:id, 0, 'default', '', 12)",
        id=by_contact,
    )

    pass_over(pruner, queue)

    assert left(queue) == {top, other, by_contact}


def test_a_later_pass_finds_what_has_become_old_since(queue: Queue, pruner: Pruning) -> None:
    lead_id = ended(queue, 1, 89)
    pass_over(pruner, queue)
    assert left(queue) == {lead_id}
    queue.run("UPDATE dispatcher.leads SET finished_at = finished_at - interval '1.5 days'")

    pass_over(pruner, queue)

    assert left(queue) == set()


def test_a_slice_looks_at_no_more_than_it_may_and_the_next_goes_on_behind_it(queue: Queue, database: Database) -> None:
    kept = [ended(queue, number, 400, "failed") for number in range(5)]
    gone = [ended(queue, number, 400) for number in range(5, 12)]
    place: Place | None = retention.since(datetime(2000, 1, 1, tzinfo=UTC))
    slices: list[Slice] = []

    while place is not None:
        with database.transaction() as connection:
            before = retention.database_now(connection) - timedelta(days=90)
            slices.append(retention.prune_leads(connection, place, before, failed=False, most=3))
        place = slices[-1].following

    assert max(one.pruned for one in slices) <= 3
    assert sum(one.pruned for one in slices) == len(gone)
    assert len(slices) == 5
    assert left(queue) == set(kept)


def test_a_lead_that_somebody_holds_is_left_for_the_next_pass(
    queue: Queue, pruner: Pruning, database: Database
) -> None:
    held, free = ended(queue, 1, 90.5), ended(queue, 2, 100)
    assert held != free
    with database.transaction() as connection:
        connection.exec_driver_sql(f"SELECT FROM dispatcher.leads WHERE id = '{held}' FOR UPDATE")
        pass_over(pruner, queue)

    assert left(queue) == {held}
    pass_over(pruner, queue)
    assert left(queue) == set()


def test_the_sweep_prunes_for_a_part_of_each_round_and_rests_for_an_hour_after_the_pass(
    queue: Queue, database: Database
) -> None:
    ended(queue, 1, 100)
    now = 0.0
    steps: list[float] = []

    class Slow(Pruning):
        def step(self) -> int:
            nonlocal now
            now += PRUNE_SECONDS / 2.5
            steps.append(now)
            return super().step()

    sweep = Sweep(
        database, Bell(), lambda _: Rate(), None, Slow(database, SETTINGS), clock=lambda: now,
        name="one", worker="one:1", settle_seconds=120, interval_seconds=1,
    )  # fmt: skip
    made = []
    for _ in range(6):
        before = len(steps)
        sweep.once()
        made.append(len(steps) - before)

    assert left(queue) == set()
    assert made[0] == 3, "a slice that was begun is ended"
    assert SETTINGS.sweep_interval_seconds / 4 >= PRUNE_SECONDS, "the rest is left to delivery"
    assert made[-1] == 0
    queue.run("UPDATE dispatcher.sweeps SET pruned_at = now() - interval '61 minutes'")
    sweep.once()
    assert len(steps) > sum(made)


def test_a_slice_is_pruned_each_round_however_slow_it_is(queue: Queue, database: Database) -> None:
    lead_id = ended(queue, 1, 100)

    Pruning(database, SETTINGS).work(lambda: False)

    assert lead_id not in left(queue)


def test_a_round_prunes_no_more_than_one_pass_however_much_time_is_left(queue: Queue, database: Database) -> None:
    asked = []

    def more() -> bool:
        asked.append(1)
        return len(asked) < 100

    Pruning(database, SETTINGS).work(more)

    assert queue.rows("SELECT FROM dispatcher.sweeps WHERE pruned_at IS NOT NULL")
    assert len(asked) < 100


def test_imports_and_proofs_of_erasure_go_with_a_pass_and_younger_ones_stay(queue: Queue, pruner: Pruning) -> None:
    for days in (89, 91):
        queue.run(
            "INSERT INTO dispatcher.imports (batch_id, file_name, account, actor, updated_at) VALUES"
            " (gen_random_uuid(), 'leads.csv', 'default', 'ada', now() - make_interval(days => :days))",
            days=days,
        )
    for days in (399, 401):
        queue.run(
            "INSERT INTO dispatcher.erased_leads (account, campaign_id, person, lead_id, erased_at)"
            " VALUES ('default', 42, :person, gen_random_uuid(), now() - make_interval(days => :days))",
            person=bytes([days % 256] * 32),
            days=days,
        )

    pass_over(pruner, queue)

    assert len(queue.rows("SELECT FROM dispatcher.imports")) == 1
    assert len(queue.rows("SELECT FROM dispatcher.erased_leads")) == 1


def test_what_could_not_go_when_it_expired_goes_with_the_next_pass_that_reads_all(
    queue: Queue, database: Database, pruner: Pruning, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failed lead that somebody holds, and the key of a lead that is still kept."""
    held, of_key = ended(queue, 1, 380, "failed"), ended(queue, 2, 300, "failed")
    queue.run(
        "INSERT INTO dispatcher.idempotency_keys (account, key, lead_id, payload_hash, state, created_at)"
        " VALUES ('default', 'a', :lead_id, 'h', 'pending', now() - interval '420 days')",
        lead_id=of_key,
    )
    with database.transaction() as connection:
        connection.exec_driver_sql(f"SELECT FROM dispatcher.leads WHERE id = '{held}' FOR UPDATE")
        pass_over(pruner, queue)
    assert left(queue) == {held, of_key}
    queue.run("DELETE FROM dispatcher.leads WHERE id = :id", id=of_key)
    monkeypatch.setattr(retention, "database_now", lambda _: datetime.now(UTC) + timedelta(days=2.5))

    pass_over(pruner, queue)

    assert left(queue) == set()
    assert queue.rows("SELECT FROM dispatcher.idempotency_keys") == []


def test_a_pass_reads_what_has_expired_since_the_last_one_and_once_a_day_all(
    queue: Queue, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    days = 0.0
    places: list[datetime] = []
    real = retention.prune_leads

    def seen(connection: Connection, place: Place, before: datetime, *, failed: bool, most: int = 1000) -> Slice:
        places.append(place["after_at"])
        return real(connection, place, before, failed=failed, most=most)

    monkeypatch.setattr(retention, "prune_leads", seen)
    monkeypatch.setattr(retention, "database_now", lambda _: datetime.now(UTC) + timedelta(days=days))
    watermark, _, younger = (ended(queue, n, age, voicery_lead_id=9 - n) for n, age in ((1, 99), (2, 98), (3, 88)))
    pruner = Pruning(database, SETTINGS)
    pass_over(pruner, queue)
    assert left(queue) == {watermark, younger}, "the greatest id of Voicery's stays"
    assert places == [datetime(2000, 1, 1, tzinfo=UTC)] * 2

    ended(queue, 4, 1, voicery_lead_id=100)
    days = 0.9
    pass_over(pruner, queue)
    assert left(queue) >= {watermark, younger}, "what could be deleted only later waits for the pass that reads all"
    assert min(places[2:]) > datetime.now(UTC) - timedelta(days=367)

    days = 2.5
    pass_over(pruner, queue)
    assert watermark not in left(queue)
    assert younger not in left(queue)


def test_a_row_that_cannot_be_pruned_costs_the_pass_and_no_more_than_one_try_an_hour(
    queue: Queue, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_connection: Connection, *_: Any, **__: Any) -> Slice:
        raise StatementRefused("23503", "a_foreign_key_of_somebody")

    monkeypatch.setattr(retention, "prune_leads", refuse)
    pruner = Pruning(database, SETTINGS)

    with pytest.raises(StatementRefused):
        pruner.step()

    assert queue.rows("SELECT FROM dispatcher.sweeps WHERE pruned_at IS NOT NULL")


@pytest.mark.parametrize("failed", [False, True])
def test_by_hand_failed_leads_go_only_if_told(queue: Queue, database: Database, failed: bool) -> None:
    accepted, dismissed, still_open = ended(queue, 1, 8), ended(queue, 2, 8, "failed"), ended(queue, 3, 8, "failed")
    young = ended(queue, 4, 6, "failed")
    failure(queue, dismissed, resolved_days=1)
    failure(queue, still_open)
    pruner = Pruner(database)

    seen = pruner.preview(timedelta(days=7), failed=failed)
    pruned = sum(pruner.prune(timedelta(days=7), failed=failed, actor="ada"))

    assert pruned == seen.ended + seen.failed == (3 if failed else 1)
    assert left(queue) == ({young} if failed else {dismissed, still_open, young})
    assert accepted not in left(queue)
    (line,) = queue.rows("SELECT actor, action, detail FROM dispatcher.audit_log")
    assert (line.actor, line.action, line.detail["leads"]) == ("ada", "prune", pruned)
