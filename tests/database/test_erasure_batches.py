"""An erasure of many rows: small transactions, nothing sent in between, and repeated it ends what was interrupted."""

import itertools
import json
from collections.abc import Callable

import pytest
from sqlalchemy import text

from dispatcher.delivery.recorder import Recorder
from dispatcher.errors import NotAllowed
from dispatcher.intake.bulk import Bulk
from dispatcher.intake.submit import Intake
from dispatcher.operator.block_list import BlockTerms
from dispatcher.operator.blocks import Blocks
from dispatcher.operator.erasure import Erasure, ErasureProgress
from dispatcher.operator.erasure_steps import SOURCE
from dispatcher.operator.rekey import Rekeying
from dispatcher.store.database import Database
from dispatcher.store.encryption import KeyRing
from tests.database.queue import CHANNEL, SETTINGS, Queue, accepted, ids, phone, rejected
from tests.database.test_erasure import ADA, BOB, KEYED, SCREENING, everything, names_ada
from tests.support.doubles import Bell

LEADS, ACCEPTED, BATCH = 150, 30, 15


class Killed(Exception):
    """Stands for the end of the process."""


def killed_after(batches: int) -> Callable[[ErasureProgress], None]:
    """Return what is told of each batch, and lets only so many be done."""
    done = itertools.count(1)

    def tell(_: ErasureProgress) -> None:
        if next(done) >= batches:
            raise Killed

    return tell


def fill(queue: Queue, database: Database) -> None:
    """Many leads of Ada, in any campaign, waiting and ended; leads of Bob beside her; rows that mention her."""
    bulk = Bulk(database, Bell(), SCREENING)
    ada = {"phone_number": ADA, "allow_dupplicate": True, "variables": {"name": "Ada"}}
    given = [({**ada, "campaign_id": 42 + n % 3}, {"idempotency_key": f"crm-{n}-{ADA}"}) for n in range(LEADS)]
    given.append(({"phone_number": ADA, "campaign_id": 42}, {}))
    bob = {"phone_number": BOB, "campaign_id": 77, "allow_dupplicate": True}
    given += [({**bob, "secondary_contacts": [{"phone_number": ADA}], "variables": {"n": n}}, {}) for n in range(30)]
    assert bulk.submit_many(given, account="default").submitted == LEADS + 31
    for n in range(ACCEPTED):
        queue.put(1, "accepted", voicery_lead_id=n + 1, allow_dupplicate=True, campaign_id=43)
    queue.run(
        "INSERT INTO dispatcher.audit_log (actor, action, subject, detail)"
        " SELECT 'bob', 'x', 'y', jsonb_build_object('note', 'rang ' || :phone) FROM generate_series(1, 50)",
        phone=ADA,
    )
    queue.run(
        "SELECT dispatcher.submit_lead(CAST(:lead AS jsonb))", lead=json.dumps({"phone_number": ADA, "campaign_id": 7})
    )


def claim(database: Database) -> list[str]:
    """The numbers that a worker with the key takes to send."""
    recorder = Recorder(
        database, CHANNEL, SETTINGS, worker="test:1", uniform=lambda a, _: a, clock=lambda: 0.0, screening=SCREENING
    )
    return [one.phone_number for one in recorder.turn((), ids(8)).opened]


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])
def test_killed_again_and_again_it_is_ended_by_repeating_it_and_nothing_is_sent_in_between(
    queue: Queue, database_url: str, encrypted: bool
) -> None:
    ring = KeyRing([b"k" * 32]) if encrypted else KeyRing()
    database = Database(database_url, key_ring=ring)
    fill(queue, database)
    if encrypted:
        assert Rekeying(database).run(actor="bob").finished
    erasure = Erasure(database, KEYED)
    told: list[ErasureProgress] = []

    for batches in (1, 2, 7, 9):
        with pytest.raises(Killed):
            erasure.erase(ADA, actor="bob", batch_rows=BATCH, tell=killed_after(batches))
        assert claim(database) == [], "nothing of the person is sent"
        (hold,) = queue.rows("SELECT source FROM dispatcher.blocks")
        assert hold.source == SOURCE
        assert Intake(database, Bell(), SCREENING).submit(
            {"phone_number": ADA, "campaign_id": 42}, {}, account="default"
        ).state in ("duplicate", "failed")
    erased = erasure.erase(ADA, actor="bob", batch_rows=BATCH, tell=told.append)

    assert names_ada(database) == []
    assert '"Ada"' not in everything(database)
    assert len(erased.leads) >= LEADS + ACCEPTED + 1, "also what the runs before have erased"
    assert len(erased.beside) == 30
    assert erased.voicery_ids == tuple(("default", n + 1) for n in range(ACCEPTED))
    assert told[-1] == ErasureProgress(told[-1].to_do, told[-1].to_do)
    assert queue.rows("SELECT FROM dispatcher.blocks") == []
    assert queue.rows("SELECT DISTINCT phone_number FROM dispatcher.leads") == [(BOB,)]
    again = Intake(database, Bell(), SCREENING).submit({"phone_number": ADA, "campaign_id": 42}, {}, account="default")
    assert again.state == "duplicate", "the proof outlives it"
    database.close()


def test_no_transaction_locks_or_deletes_more_than_a_batch(queue: Queue, database: Database) -> None:
    fill(queue, database)
    left = [LEADS + ACCEPTED + 1]

    def count(_: ErasureProgress) -> None:
        left.append(queue.rows("SELECT count(*) AS n FROM dispatcher.leads WHERE phone_number = :ada", ada=ADA)[0].n)

    Erasure(database, KEYED).erase(ADA, actor="bob", batch_rows=BATCH, tell=count)

    assert left[-1] == 0
    assert max(before - after for before, after in itertools.pairwise(left)) == BATCH


def test_leads_of_others_that_know_the_number_are_sent_without_it(queue: Queue, database: Database) -> None:
    lead = {"phone_number": BOB, "campaign_id": 42, "secondary_contacts": [{"phone_number": ADA}]}
    kept = Intake(database, Bell()).submit(lead, {"idempotency_key": "crm-17"}, account="default")
    with pytest.raises(Killed):
        Erasure(database, KEYED).erase(ADA, actor="bob", tell=killed_after(1))

    assert claim(database) == [BOB]
    assert queue.rows("SELECT FROM dispatcher.lead_contacts WHERE lead_id = :id", id=kept.id) == []


def test_what_is_on_its_way_is_seen_before_anything_is_changed(queue: Queue, database: Database) -> None:
    queue.claimed(1, allow_dupplicate=True)
    queue.put(1, allow_dupplicate=True)
    with pytest.raises(NotAllowed):
        Erasure(database, KEYED).erase(ADA, actor="bob", batch_rows=1)
    for table in ("blocks", "audit_log", "erased_leads"):
        assert queue.rows(f"SELECT FROM dispatcher.{table}") == []


@pytest.mark.parametrize("days", [None, 0, 90])
def test_a_block_that_stands_already_goes_on_standing(queue: Queue, database: Database, days: int | None) -> None:
    """One that has ended gives way; what was erased before is not reported again."""
    queue.record(rejected(queue.claimed(1)))
    Blocks(database, KEYED).add(ADA, BlockTerms("ada", reason="she asked"))
    queue.run("UPDATE dispatcher.blocks SET until = now() + make_interval(days => :days)", days=days)
    if days is None:
        queue.run("UPDATE dispatcher.blocks SET until = NULL")

    assert len(Erasure(database, KEYED).erase(ADA, actor="bob").leads) == 1

    assert Erasure(database, KEYED).erase(ADA, actor="bob").leads == ()
    assert [row.reason for row in queue.rows("SELECT reason FROM dispatcher.blocks")] == ["she asked"] * (days != 0)
    assert names_ada(database) == []


def test_each_transaction_notes_what_it_did_without_the_number(queue: Queue, database: Database) -> None:
    queue.record(accepted(queue.claimed(1), 7))
    Erasure(database, KEYED).erase(ADA, actor="bob", batch_rows=1)

    with database.transaction() as connection:
        notes = connection.execute(text("SELECT detail FROM dispatcher.audit_log WHERE action = 'erase'")).scalars()
        *_, last = notes.all()
    assert (last["finished"], last["leads_in_all"]) == (True, 1)
    assert phone(1)[1:] not in everything(database)
