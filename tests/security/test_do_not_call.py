"""Attacks on the list of who must not be called: no way of submitting or acting sends a lead to a blocked number."""

import json
from typing import Any

import pytest
from sqlalchemy import text

from dispatcher.config.setting import Secret
from dispatcher.console.auth import Role
from dispatcher.decisions.reply import Reply
from dispatcher.errors import DispatcherError
from dispatcher.intake.bulk import Bulk
from dispatcher.intake.submit import Intake
from dispatcher.operator.block_list import BlockTerms
from dispatcher.operator.blocks import Blocks
from dispatcher.operator.corrections import Corrections
from dispatcher.operator.operation_work import OperationKind
from dispatcher.operator.operations import Operations
from dispatcher.operator.replay import Failures
from dispatcher.store.blocks import Screening
from dispatcher.store.database import Database
from dispatcher.store.pseudonym import Pseudonyms
from tests.console.conftest import Seat
from tests.database.queue import Queue, ids, phone
from tests.database.test_delivery_run import Setting, yes
from tests.support.doubles import Bell
from tests.support.rows import ADA as NUMBER
from tests.support.rows import Rows

KEY = "0123456789abcdef0123456789abcdef"
KEYED = Screening(Pseudonyms(KEY))
ADA = phone(0)


@pytest.fixture
def queue(database: Database) -> Queue:
    return Queue(database)


@pytest.fixture
def bell() -> Bell:
    return Bell()


@pytest.fixture
def setting(database: Database) -> Setting:
    made = Setting(database)
    made.set(privacy_key=Secret(KEY))
    return made


def dump(queue: Queue) -> str:
    """Every row of every table."""
    with queue.database.transaction() as connection:
        tables = connection.execute(text("SELECT tablename FROM pg_tables WHERE schemaname = 'dispatcher'")).scalars()
        rows = [
            connection.execute(text(f"SELECT CAST(to_jsonb(t) AS text) FROM dispatcher.{table} AS t")).scalars().all()
            for table in tables.all()
        ]
    return "\n".join(row for some in rows for row in some)


@pytest.mark.parametrize("hash_only", [False, True], ids=["number", "hash only"])
def test_no_lead_is_claimed_for_a_person_once_the_block_is_committed(
    queue: Queue, setting: Setting, hash_only: bool
) -> None:
    """In the middle of a run: what was claimed before, as with a pause, is all that may still be sent."""
    for number in range(40):
        if number % 2 == 0:
            queue.put(0, allow_dupplicate=True)
        else:
            queue.put(number)
    blocks = Blocks(queue.database, KEYED.pseudonyms)
    sent: list[str] = []
    committed: list[Any] = []

    def answer(lead: dict[str, Any]) -> Reply:
        sent.append(lead["phone_number"])
        if len(sent) == 6:
            blocks.add(ADA, BlockTerms("ada", hash_only=hash_only))
            committed.append(queue.one("SELECT clock_timestamp() AS at").at)
        return yes(1000 + len(sent))

    setting.client._answer = answer
    setting.run()

    late = queue.rows(
        "SELECT FROM dispatcher.lead_attempts WHERE phone_number = :ada AND started_at > :at", ada=ADA, at=committed[0]
    )
    assert late == []
    assert ADA in sent[:6]
    assert sent[6:].count(ADA) <= setting.slots
    assert queue.states()["failed"] > 0
    assert len(set(sent)) == 21, "everybody else was called"


def test_no_way_of_submitting_or_acting_sends_a_lead_to_a_blocked_number(
    queue: Queue, database: Database, setting: Setting, bell: Bell
) -> None:
    rows = Rows(database)
    failed = [rows.failed(kind, phone=ADA, campaign_id=n) for n, kind in enumerate(("rejected", "outcome_unknown"), 50)]
    other = rows.failed(phone=phone(5), campaign_id=42)
    Blocks(database, KEYED.pseudonyms).add(ADA, BlockTerms("ada"))
    intake, failures = Intake(database, bell, KEYED), Failures(database, bell, KEYED)
    lead = {"phone_number": ADA, "campaign_id": 42}

    for more in ({}, {"allow_dupplicate": True}, {"secondary_contacts": [{"phone_number": phone(6)}]}):
        assert intake.submit(lead | more, {}, account="default").state == "failed"
    beside = {"phone_number": phone(7), "campaign_id": 42, "secondary_contacts": [{"phone_number": ADA}]}
    assert intake.submit(beside, {"priority": 9}, account="default").state == "failed"
    spelled = {"phone_number": f"tel: {ADA[:2]} ({ADA[2:5]}) {ADA[5:8]}-{ADA[8:]}", "campaign_id": 42}
    assert Bulk(database, bell, KEYED).submit_many([lead, spelled], account="default").blocked == 2
    for lead_id in failed:
        for even_if_called in (False, True):
            with pytest.raises(DispatcherError, match="dispatcher unblock"):
                failures.replay(lead_id, actor="eve", even_if_called=even_if_called)
    assert failures.replay_all(failed, actor="eve", even_if_called=True).replayed == ()
    with pytest.raises(DispatcherError, match="dispatcher unblock"):
        Corrections(database, KEYED).correct(other, {"phone_number": ADA}, actor="eve")
    operations = Operations(database, KEYED)
    (operation_id,) = ids(1)
    operations.start(operation_id, OperationKind.REPLAY, failed, actor="eve", even_if_called=True, campaign_id=42)
    operations.step()
    assert {why for _, why in operations.refusals(operation_id)} != set()
    # And past every rule, by a statement of one's own: the claim asks by itself.
    queue.put(0, allow_dupplicate=True, priority=9)

    setting.run()

    assert [post["phone_number"] for post in setting.client.posts if ADA in json.dumps(post)] == []


def test_a_database_without_the_key_does_not_say_who_asked_not_to_be_called(queue: Queue, database: Database) -> None:
    blocks = Blocks(database, KEYED.pseudonyms)
    blocks.add(ADA, BlockTerms("ada", reason="asked", hash_only=True))
    for done in blocks.add_all(enumerate([phone(8), "+1 202 555"], 1), BlockTerms("ada", hash_only=True)):
        assert done.added == 1
    blocks.remove(phone(8), actor="ada")

    held = dump(queue)

    assert not any(number[-7:] in held for number in (ADA, phone(8)))
    assert KEY not in held


def test_a_viewer_blocks_and_unblocks_nobody(seat: Seat, rows: Rows) -> None:
    viewer, operator = seat.browser(Role.VIEWER), seat.browser(Role.OPERATOR)
    lead = rows.failed()
    assert viewer.post("/blocked", {"phone_number": NUMBER}).status_code == 403
    assert viewer.post(f"/leads/{lead}/block").status_code == 403
    operator.post("/blocked", {"phone_number": NUMBER, "reason": f"is {NUMBER}"})
    block = rows.one("SELECT id FROM dispatcher.blocks").id
    assert viewer.post(f"/blocked/{block}/remove").status_code == 403
    assert NUMBER[-7:] not in viewer.get("/blocked").text
