"""Claims: in order, never more than asked, never two for one person, never one that is held back."""

import threading
import uuid
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from sqlalchemy import Connection, text

from dispatcher.delivery import claims, gates
from dispatcher.lead.options import Channel
from dispatcher.operator.pause import GateKeeper
from dispatcher.store.database import Database
from dispatcher.store.trouble import TryAgain
from tests.database.queue import CHANNEL, SETTINGS, Queue, accepted, claim, phone, unknown
from tests.support.waiting import wait_until


def waiting_for_a_lock(database: Database) -> bool:
    with database.autocommit() as connection:
        return bool(
            connection.execute(
                text(
                    "SELECT count(*) FROM pg_stat_activity"
                    " WHERE wait_event_type = 'Lock' AND datname = current_database()"
                )
            ).scalar()
        )


def started(action: Callable[[], object]) -> "Future[object]":
    with_one = ThreadPoolExecutor(1)
    future: Future[object] = with_one.submit(action)
    with_one.shutdown(wait=False)
    return future


# What a claim is ------------------------------------------------------------------------------------------------------


def test_a_claim_opens_an_attempt_and_sets_a_lease(queue: Queue) -> None:
    lead_id = queue.put(variables='{"a": "1"}')

    (claimed,) = queue.claim().opened

    lead, attempt = queue.lead(lead_id), queue.attempt(claimed.attempt_id)
    assert (lead.state, lead.attempts, lead.attempt_id) == ("sending", 1, claimed.attempt_id)
    assert lead.lease_until > lead.updated_at
    assert (attempt.lead_id, attempt.number, attempt.phone_number, attempt.finished_at) == (lead_id, 1, phone(0), None)
    assert (claimed.lead_id, claimed.attempts, claimed.variables, claimed.age_seconds) == (lead_id, 1, '{"a": "1"}', 0)
    assert phone(0) not in repr(claimed)


def test_contacts_come_in_the_order_submitted(queue: Queue) -> None:
    lead_id = queue.put()
    for position in (1, 0, 2):
        queue.run(
            "INSERT INTO dispatcher.lead_contacts (lead_id, position, account, phone_number)"
            " VALUES (:id, :position, 'default', :phone)",
            id=lead_id,
            position=position,
            phone=phone(position + 1),
        )

    (claimed,) = queue.claim().opened

    assert claimed.contacts == ((phone(1), "{}"), (phone(2), "{}"), (phone(3), "{}"))


def test_the_watermark_is_the_greatest_id_of_the_accounts_leads_and_contacts(queue: Queue) -> None:
    queue.put(1, "accepted", voicery_lead_id=500)
    contact_of = queue.put(2, "accepted", voicery_lead_id=499)
    queue.put(3, "accepted", voicery_lead_id=900, account="other")
    queue.run(
        "INSERT INTO dispatcher.lead_contacts (lead_id, position, account, phone_number, voicery_lead_id)"
        " VALUES (:id, 0, 'default', '+12025550199', 501)",
        id=contact_of,
    )

    claimed = queue.claimed()

    assert queue.attempt(claimed.attempt_id).watermark == 501


# Order and number -----------------------------------------------------------------------------------------------------


def test_the_highest_priority_goes_first_and_then_the_longest_due(queue: Queue) -> None:
    late = queue.put(0, due_in=-10, priority=0)
    later = queue.put(1, due_in=-5, priority=0)
    urgent = queue.put(2, due_in=-1, priority=9)
    middle = queue.put(3, due_in=-100, priority=5)

    assert [queue.claim().opened[0].lead_id for _ in range(4)] == [urgent, middle, late, later]


@pytest.mark.parametrize("wanted", [1, 3, 7])
def test_a_claim_never_takes_more_than_was_asked_for(queue: Queue, wanted: int) -> None:
    for number in range(20):
        queue.put(number, priority=number % 10)

    claim = queue.claim(wanted)

    assert (len(claim.opened), claim.parked, claim.met) == (wanted, 0, wanted)
    assert queue.states() == {"pending": 20 - wanted, "sending": wanted}


def test_a_claim_locks_no_more_leads_than_it_takes(queue: Queue) -> None:
    for number in range(20):
        queue.put(number, priority=number % 3)

    with queue.database.transaction() as one, queue.database.transaction() as other:
        first, second = claim(one, 10), claim(other, 10)

    assert (len(first.opened), len(second.opened)) == (10, 10)


def test_what_is_not_due_or_expired_or_elsewhere_is_not_claimed(queue: Queue) -> None:
    queue.put(0, due_in=60)
    queue.put(1, expires_at="2020-01-01")
    queue.put(2, campaign_id=43)
    queue.put(3, account="other")

    assert queue.claim(10).met == 0


def test_a_lead_that_expires_later_is_claimed(queue: Queue) -> None:
    queue.put(expires_at="2100-01-01")

    assert len(queue.claim().opened) == 1


# Several claimers -----------------------------------------------------------------------------------------------------


def test_two_claimers_never_take_the_same_lead(queue: Queue) -> None:
    for number in range(200):
        queue.put(number)
    taken: list[uuid.UUID] = []

    def drain() -> None:
        while opened := queue.claim(7).opened:
            taken.extend(one.lead_id for one in opened)

    threads = [threading.Thread(target=drain) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert len(taken) == len(set(taken)) == 200
    assert queue.states() == {"sending": 200}


def test_two_claimers_of_the_same_persons_in_opposite_orders_do_not_deadlock(queue: Queue) -> None:
    for round_ in range(10):
        campaign_id = 100 + round_
        channel = CHANNEL._replace(campaign_id=campaign_id)
        for number, due_in in [(0, -4), (1, -3), (1, -2), (0, -1)]:
            queue.put(number, due_in=due_in, campaign_id=campaign_id, allow_dupplicate=True)
        barrier = threading.Barrier(2)
        faults: list[BaseException] = []

        def claim_two(
            channel: Channel = channel,
            barrier: threading.Barrier = barrier,
            faults: list[BaseException] = faults,
        ) -> None:
            barrier.wait(60)
            try:
                queue.claim(2, channel)
            except TryAgain as fault:
                faults.append(fault)

        threads = [threading.Thread(target=claim_two) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)

        assert faults == []
        rows = queue.rows(
            "SELECT phone_number FROM dispatcher.leads WHERE state = 'sending' AND campaign_id = :id", id=campaign_id
        )
        assert len({row.phone_number for row in rows}) == len(rows)


# One person -----------------------------------------------------------------------------------------------------------


def test_a_second_lead_of_a_person_is_parked_while_the_first_is_on_its_way(queue: Queue) -> None:
    first = queue.put(due_in=-2, allow_dupplicate=True)
    second = queue.put(due_in=-1, allow_dupplicate=True)

    claim = queue.claim(2)

    assert [one.lead_id for one in claim.opened] == [first]
    assert (claim.parked, claim.met) == (1, 2)
    lead = queue.lead(second)
    assert (lead.state, lead.attempts, lead.attempt_id) == ("pending", 0, None)
    assert (lead.due_at - lead.updated_at).total_seconds() == SETTINGS.park_seconds


def test_of_one_person_the_more_urgent_lead_wins(queue: Queue) -> None:
    for _ in range(9):
        queue.put(due_in=-60, allow_dupplicate=True)
    urgent = queue.put(due_in=-1, priority=9, allow_dupplicate=True)

    assert [one.lead_id for one in queue.claim(10).opened] == [urgent]


@pytest.mark.parametrize("finish", [accepted])
def test_a_parked_lead_goes_when_the_first_is_known(queue: Queue, finish: Callable[..., object]) -> None:
    claimed = queue.claimed(allow_dupplicate=True)
    second = queue.put(allow_dupplicate=True)
    assert queue.claim().parked == 1
    queue.record(accepted(claimed))
    queue.run("UPDATE dispatcher.leads SET due_at = now() - interval '1 s' WHERE id = :id", id=second)

    assert [one.lead_id for one in queue.claim().opened] == [second]


def test_a_parked_lead_stays_parked_while_the_first_is_in_doubt(queue: Queue) -> None:
    queue.record(unknown(queue.claimed(allow_dupplicate=True)))
    queue.put(allow_dupplicate=True)

    assert (queue.claim().opened, queue.claim().met) == ((), 0)


def test_the_same_person_in_another_campaign_is_not_parked(queue: Queue) -> None:
    queue.claimed()
    queue.put(campaign_id=43)

    assert len(queue.claim(1, CHANNEL._replace(campaign_id=43)).opened) == 1


def test_a_thousand_leads_of_one_person_do_not_keep_a_hundred_others_waiting(queue: Queue) -> None:
    queue.run(
        """
        INSERT INTO dispatcher.leads
            (id, account, campaign_id, phone_number, state, due_at, payload_hash, allow_dupplicate)
        SELECT gen_random_uuid(), 'default', 42, :phone, 'pending', now() - interval '60 s', 'x', true
        FROM generate_series(1, 1000)
        """,
        phone=phone(0),
    )
    for number in range(100):
        queue.put(number + 1, due_in=-1)

    opened, rounds = 0, 0
    while (claim := queue.claim(100)).met:
        opened += len(claim.opened)
        rounds += 1

    assert opened == 101
    assert rounds <= 12


# Gates ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("campaign_id", [None, 42])
@pytest.mark.parametrize("state", ["closed", "probing"])
def test_nothing_is_claimed_through_a_gate_that_is_not_open(queue: Queue, state: str, campaign_id: int | None) -> None:
    queue.gate(state, "outage", campaign_id)
    queue.put()

    claim = queue.claim()

    assert (claim.met, claim.probing, claim.needs_gates) == (0, state == "probing", True)
    assert queue.states() == {"pending": 1}


def test_the_gates_of_others_hold_nobody_back(queue: Queue) -> None:
    queue.gate("closed", "outage", 43)
    queue.run("INSERT INTO dispatcher.gates (account, state, reason) VALUES ('other', 'closed', 'outage')")
    queue.put()

    assert len(queue.claim().opened) == 1


def test_a_probing_claim_passes_a_probing_gate_and_no_closed_one(queue: Queue) -> None:
    queue.put()
    queue.gate("probing", "outage", 42)
    queue.gate("closed", "outage")
    assert queue.claim(probing=True).met == 0

    queue.gate("open", None)
    assert len(queue.claim(probing=True).opened) == 1


def test_a_claim_that_waited_for_a_pause_takes_nothing(queue: Queue, database: Database) -> None:
    queue.put()
    with database.transaction() as pause:
        gates.hold_claims(pause, "default")
        gates.ensure(pause, "default", None)
        pause.execute(text("UPDATE dispatcher.gates SET state = 'closed', reason = 'paused'"))
        claiming = started(queue.claim)
        wait_until(lambda: waiting_for_a_lock(database))
        assert not claiming.done()
    assert claiming.result(60).met == 0  # type: ignore[attr-defined]
    assert queue.states() == {"pending": 1}


def test_a_pause_waits_for_the_claims_that_have_begun_and_counts_them(queue: Queue, database: Database) -> None:
    queue.put()
    with database.transaction() as claiming:
        claim(claiming)
        pausing = started(lambda: GateKeeper(database).pause(None, "default", reason="lunch", actor="ada"))
        wait_until(lambda: waiting_for_a_lock(database))
        assert not pausing.done()
    assert pausing.result(60) == 1


def test_a_pause_of_another_account_holds_no_claim_up(queue: Queue, database: Database) -> None:
    queue.put()
    with database.transaction() as pause:
        gates.hold_claims(pause, "other")
        assert len(queue.claim().opened) == 1


# A claim whose commit was not acknowledged ----------------------------------------------------------------------------


def released(queue: Queue, attempt_ids: list[uuid.UUID]) -> int:
    with queue.database.transaction() as connection:
        return claims.release(connection, attempt_ids)


def test_what_was_claimed_without_our_knowing_is_given_back(queue: Queue) -> None:
    claimed = queue.claimed()

    assert released(queue, [claimed.attempt_id, uuid.uuid4()]) == 1

    lead, attempt = queue.lead(claimed.lead_id), queue.attempt(claimed.attempt_id)
    assert (lead.state, lead.attempts, lead.lease_until) == ("pending", 0, None)
    assert (attempt.outcome, attempt.finished_at is not None) == ("given_back", True)
    assert [one.lead_id for one in queue.claim().opened] == [claimed.lead_id]


def test_what_was_never_sent_is_given_back_even_after_its_lease(queue: Queue) -> None:
    claimed = queue.claimed()
    queue.run("UPDATE dispatcher.leads SET state = 'unknown', lease_until = NULL")
    queue.run("UPDATE dispatcher.lead_attempts SET outcome = 'unknown', error = 'lease_expired'")

    assert released(queue, [claimed.attempt_id]) == 1
    assert queue.lead(claimed.lead_id).state == "pending"


def test_an_attempt_that_is_known_is_not_given_back(queue: Queue) -> None:
    claimed = queue.claimed()
    queue.record(accepted(claimed))

    assert released(queue, [claimed.attempt_id]) == 0
    assert queue.lead(claimed.lead_id).state == "accepted"


# Plans ----------------------------------------------------------------------------------------------------------------


def test_a_claim_reads_a_handful_of_rows_of_a_large_backlog(queue: Queue, database: Database) -> None:
    queue.run("""
        INSERT INTO dispatcher.leads (id, account, campaign_id, phone_number, state, due_at, payload_hash, priority)
        SELECT gen_random_uuid(), 'default', 42, '+1202' || number, 'pending',
            now() + make_interval(secs => CASE WHEN number % 4 = 0 THEN 9999 ELSE -number END), 'x', number % 4
        FROM generate_series(1, 20000) AS number
    """)
    with database.autocommit() as connection:
        connection.execute(text("ANALYZE dispatcher.leads"))

    with database.transaction() as connection:
        read_before = read_by(connection)
        claim(connection, 8)
        assert read_by(connection) - read_before < 200


def read_by(connection: Connection) -> int:
    """Rows of `leads` that this transaction has read, by index or by scan."""
    return int(
        connection.execute(
            text("""
                SELECT pg_stat_get_xact_tuples_returned('dispatcher.leads'::regclass)
                    + pg_stat_get_xact_tuples_fetched('dispatcher.leads'::regclass)
                    + (SELECT sum(pg_stat_get_xact_tuples_returned(indexrelid)) FROM pg_index
                       WHERE indrelid = 'dispatcher.leads'::regclass)
            """)
        ).scalar_one()
    )
