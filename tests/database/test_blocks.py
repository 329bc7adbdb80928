"""The list of persons who must not be called, on a real Postgres: who is blocked, and what becomes of their leads."""

import threading
import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from dispatcher.config.settings import Settings
from dispatcher.decisions.outcome import Kind
from dispatcher.decisions.reply import CreatedContact
from dispatcher.decisions.states import State
from dispatcher.delivery import claims
from dispatcher.delivery.claims import Claim, Claimer
from dispatcher.delivery.recorder import Recorder
from dispatcher.delivery.results import record_contacts
from dispatcher.errors import InvalidLead, NotAllowed, NotConfigured
from dispatcher.intake.bulk import Bulk
from dispatcher.intake.submit import Intake
from dispatcher.lead.options import Channel, Submission
from dispatcher.operator import block_list
from dispatcher.operator.block_list import BlockTerms
from dispatcher.operator.blocks import Blocks
from dispatcher.operator.corrections import Corrections
from dispatcher.operator.operation_work import OperationKind
from dispatcher.operator.operations import Operations
from dispatcher.operator.replay import Failures
from dispatcher.store.blocks import NO_KEY, Screening
from dispatcher.store.database import Database
from dispatcher.store.pseudonym import Pseudonyms, digest_sql
from tests.database.queue import CHANNEL, SETTINGS, Queue, accepted, ids, phone, rejected, result, unknown
from tests.support.doubles import Bell

KEY = "0123456789abcdef0123456789abcdef"
KEYED = Screening(Pseudonyms(KEY))
ADA, BOB = phone(0), phone(1)
TERMS = BlockTerms("ada", reason="asked us by phone", source="crm")
HASHED = replace(TERMS, hash_only=True)
SAYS = (
    "Nobody was called: the person is on the list of those who must not be called (reason: asked us by phone; "
    "source: crm). It can be replayed after `dispatcher unblock`."
)


@pytest.fixture
def blocks(database: Database) -> Blocks:
    return Blocks(database, KEYED.pseudonyms)


@pytest.fixture
def turn(queue: Queue) -> Callable[..., Any]:
    return lambda screening=KEYED, wanted=4, channel=CHANNEL: recorder(queue, screening, channel).turn((), ids(wanted))


def recorder(queue: Queue, screening: Screening = KEYED, channel: Channel = CHANNEL) -> Recorder:
    return Recorder(
        queue.database, channel, SETTINGS, worker="test:1", uniform=lambda a, _: a, clock=lambda: 0.0,
        screening=screening,
    )  # fmt: skip


def failure_of(queue: Queue, lead_id: uuid.UUID) -> Any:
    return queue.one("SELECT * FROM dispatcher.failed_leads WHERE lead_id = :id AND resolved_at IS NULL", id=lead_id)


def block_rows(queue: Queue) -> list[tuple[str | None, bool, str | None]]:
    rows = queue.rows("SELECT number, digest IS NOT NULL AS hashed, account FROM dispatcher.blocks ORDER BY id")
    return [tuple(row) for row in rows]


def test_sql_computes_the_pseudonym_of_python_and_nothing_without_a_key(database: Database) -> None:
    statement = text(f"SELECT {digest_sql('CAST(:phone AS text)')}")
    with database.transaction() as connection:
        for key in (KEY, KEY * 5):
            pseudonyms = Pseudonyms(key)
            computed = connection.execute(statement, {"phone": ADA, **pseudonyms.pads()}).scalar()
            assert bytes(computed) == pseudonyms.digest(ADA)
        assert connection.execute(statement, {"phone": ADA, **Pseudonyms(None).pads()}).scalar() is None


# A claim


@pytest.mark.parametrize("terms", [TERMS, HASHED], ids=["number", "hash only"])
def test_a_claim_ends_the_leads_of_a_blocked_person_and_sends_the_others(
    queue: Queue, blocks: Blocks, turn: Callable[..., Any], terms: BlockTerms
) -> None:
    held, free = queue.put(0), queue.put(1)
    assert blocks.add(ADA, terms)

    done = turn()

    assert [claimed.lead_id for claimed in done.opened] == [free]
    lead, failure = queue.lead(held), failure_of(queue, held)
    assert (lead.state, lead.failure_class, lead.attempts, lead.last_error) == ("failed", "blocked", 0, SAYS)
    assert (failure.failure_class, failure.fingerprint, failure.message) == ("blocked", "blocked", SAYS)
    assert done.drained


def test_many_blocked_leads_at_the_head_of_the_queue_hide_none_behind_them(
    queue: Queue, blocks: Blocks, turn: Callable[..., Any]
) -> None:
    for _ in range(30):
        queue.put(0, allow_dupplicate=True, due_in=-60)
    free = queue.put(1)
    blocks.add(ADA, TERMS)

    done = turn(wanted=2)

    assert [claimed.lead_id for claimed in done.opened] == [free]
    assert queue.one("SELECT count(*) AS n FROM dispatcher.leads WHERE failure_class = 'blocked'").n == 30


def test_a_block_of_one_account_holds_no_other(queue: Queue, blocks: Blocks, turn: Callable[..., Any]) -> None:
    sales = Channel("sales", 42)
    free, held = queue.put(0), queue.put(0, account="sales")
    blocks.add(ADA, replace(TERMS, account="sales"))

    assert [claimed.lead_id for claimed in turn().opened] == [free]
    assert turn(channel=sales).opened == ()
    assert queue.lead(held).failure_class == "blocked"
    assert (blocks.is_blocked(ADA, "sales"), blocks.is_blocked(ADA, "default")) == (True, False)


def test_a_block_that_has_ended_holds_nobody(queue: Queue, blocks: Blocks, turn: Callable[..., Any]) -> None:
    lead_id = queue.put(0)
    blocks.add(ADA, replace(TERMS, until=timedelta(days=1)))
    queue.run("UPDATE dispatcher.blocks SET until = now() - interval '1 s'")

    assert [claimed.lead_id for claimed in turn().opened] == [lead_id]
    assert not blocks.is_blocked(ADA, "default")
    assert blocks.add(ADA, replace(TERMS, until=timedelta(days=1))), "an ended block is renewed"


def test_a_lead_that_may_have_been_sent_ends_in_doubt_and_goes_on_standing_for_its_person(
    queue: Queue, blocks: Blocks, turn: Callable[..., Any]
) -> None:
    claimed = queue.claimed(0)
    queue.record(unknown(claimed))
    queue.run("UPDATE dispatcher.lead_attempts SET finished_at = now(), evidence = '{}'")
    queue.run("UPDATE dispatcher.leads SET state = 'pending', due_at = now()")
    blocks.add(ADA, TERMS)

    turn()

    lead = queue.lead(claimed.lead_id)
    assert (lead.state, lead.failure_class) == ("failed", "outcome_unknown")
    assert "may have worked" in lead.last_error


def test_a_block_while_a_lead_is_unknown_stops_its_resend(
    queue: Queue, blocks: Blocks, turn: Callable[..., Any]
) -> None:
    claimed = queue.claimed(0)
    queue.record(unknown(claimed))
    blocks.add(ADA, TERMS)
    assert queue.lead(claimed.lead_id).state == "unknown"
    proof = """{"proof": true, "lookups": [{"at": "2999-01-01T00:00:00Z"}]}"""
    queue.run("UPDATE dispatcher.lead_attempts SET finished_at = now(), evidence = CAST(:proof AS jsonb)", proof=proof)
    queue.run("UPDATE dispatcher.leads SET state = 'pending', due_at = now(), proven_at = now()")

    assert turn().opened == ()
    assert queue.lead(claimed.lead_id).failure_class == "blocked"


def test_a_waiting_duplicate_of_a_blocked_person_calls_nobody_either(
    queue: Queue, blocks: Blocks, turn: Callable[..., Any]
) -> None:
    original = queue.put(0)
    second = queue.put(0, "duplicate", duplicate_of=original)
    blocks.add(ADA, TERMS)

    assert [turn().opened for _ in range(2)] == [(), ()]

    assert queue.lead(original).failure_class == queue.lead(second).failure_class == "blocked"


def test_a_process_without_the_key_claims_nothing_once_somebody_is_blocked_by_hash_alone(
    queue: Queue, blocks: Blocks, turn: Callable[..., Any]
) -> None:
    lead_id = queue.put(1)
    blocks.add(ADA, TERMS)
    other = Screening(Pseudonyms(KEY[::-1]))
    assert len(turn(Screening()).opened) == 1, "numbers are checked without a key"
    queue.run("UPDATE dispatcher.leads SET state = 'failed', failure_class = 'bug', lease_until = NULL")
    queue.run("UPDATE dispatcher.lead_attempts SET finished_at = now()")
    queue.run("UPDATE dispatcher.leads SET state = 'pending', failure_class = NULL, due_at = now()")

    blocks.add(BOB, HASHED)

    for screening in (Screening(), other):
        done = turn(screening)
        assert (done.opened, done.drained) == ((), True)
    assert queue.lead(lead_id).state == "pending"
    assert turn().opened == ()
    assert queue.lead(lead_id).failure_class == "blocked"


# Contacts


def with_contacts(queue: Queue, *numbers: str) -> uuid.UUID:
    lead_id = queue.put(0)
    for position, number in enumerate(numbers):
        queue.run(
            "INSERT INTO dispatcher.lead_contacts (lead_id, position, account, phone_number)"
            " VALUES (:lead_id, :position, 'default', :number)",
            lead_id=lead_id, position=position, number=number,
        )  # fmt: skip
    return lead_id


def test_a_blocked_contact_holds_the_whole_lead(queue: Queue, blocks: Blocks, turn: Callable[..., Any]) -> None:
    lead_id = with_contacts(queue, phone(2), BOB)
    blocks.add(BOB, TERMS)

    assert turn().opened == ()
    assert "the secondary contact is on the list" in queue.lead(lead_id).last_error


@pytest.mark.parametrize("terms", [TERMS, HASHED], ids=["number", "hash only"])
def test_or_is_left_out_and_the_lead_says_so(
    queue: Queue, blocks: Blocks, turn: Callable[..., Any], terms: BlockTerms
) -> None:
    lead_id = with_contacts(queue, BOB, phone(2))
    blocks.add(BOB, terms)

    (claimed,) = turn(replace(KEYED, drops_contacts=True)).opened

    dropped = "SELECT position FROM dispatcher.lead_contacts WHERE dropped_at IS NOT NULL AND lead_id = :id"
    assert [number for number, _ in claimed.contacts] == [phone(2)]
    assert [row.position for row in queue.rows(dropped, id=lead_id)] == [0]

    answer = accepted(claimed, contacts=(CreatedContact(0, 77, "created"),))
    with queue.database.transaction() as connection:
        record_contacts(connection, [answer])
    named = "SELECT position FROM dispatcher.lead_contacts WHERE voicery_lead_id = 77 AND lead_id = :id"
    assert [row.position for row in queue.rows(named, id=lead_id)] == [1], "the second is the first that was sent"

    blocks.remove(BOB, actor="ada")
    queue.record(result(claimed, State.PENDING, Kind.NOT_SENT, due_in=-1))
    (again,) = turn(replace(KEYED, drops_contacts=True)).opened
    assert [number for number, _ in again.contacts] == [BOB, phone(2)]
    assert queue.rows(dropped, id=lead_id) == []


# A block and a claim at the same time


def test_a_claim_that_waits_for_a_block_to_be_committed_sees_it(queue: Queue, blocks: Blocks) -> None:
    queue.put(0)
    met: list[Claim] = []

    def claim() -> None:
        with queue.database.autocommit() as connection:
            met.append(Claimer(CHANNEL, SETTINGS, "test:1", screening=KEYED).claim(connection, ids(1)))

    claimer = threading.Thread(target=claim)
    with queue.database.transaction() as connection:
        blocks._add(connection, [ADA], TERMS, {})
        claimer.start()
        wait_until_one_waits(queue)
    claimer.join(60)

    (done,) = met
    assert (done.opened, len(done.held)) == ((), 1)


def test_a_block_waits_for_a_claim_that_has_looked_already(queue: Queue, blocks: Blocks) -> None:
    queue.put(0)
    done: list[bool] = []
    blocker = threading.Thread(target=lambda: done.append(blocks.add(ADA, TERMS)))
    with queue.database.transaction() as connection:
        claims.hold_pauses(connection, "default")
        opened = Claimer(CHANNEL, SETTINGS, "test:1", screening=KEYED).claim(connection, ids(1)).opened
        blocker.start()
        wait_until_one_waits(queue)
        assert (len(opened), done) == (1, [])
    blocker.join(60)

    assert done == [True]


def wait_until_one_waits(queue: Queue) -> None:
    for _ in range(2000):
        if queue.one("SELECT count(*) AS n FROM pg_locks WHERE locktype = 'advisory' AND NOT granted").n:
            return
        threading.Event().wait(0.005)
    raise AssertionError("nobody waits")


# Submits


@pytest.fixture
def submit(database: Database, bell: Bell) -> Callable[..., Submission]:
    def submitted(number: str = ADA, screening: Screening = KEYED, **more: Any) -> Submission:
        options = {"idempotency_key": more.pop("idempotency_key", None), "id": more.pop("id", None)}
        lead = {"phone_number": number, "campaign_id": 42, **more}
        return Intake(database, bell, screening).submit(lead, options, account="default")

    return submitted


@pytest.mark.parametrize(
    ("terms", "screening"),
    [(TERMS, KEYED), (HASHED, KEYED), (TERMS, NO_KEY)],
    ids=["number", "hash only", "number, by a producer without the key"],
)
@pytest.mark.parametrize("more", [{}, {"idempotency_key": "k"}, {"allow_dupplicate": True}], ids=str)
def test_a_submit_of_a_blocked_person_is_stored_as_failed_and_rings_no_bell(
    queue: Queue,
    blocks: Blocks,
    bell: Bell,
    submit: Callable[..., Submission],
    more: dict[str, Any],
    terms: BlockTerms,
    screening: Screening,
) -> None:
    blocks.add(ADA, terms)

    first = submit(screening=screening, **more)

    lead, failure = queue.lead(first.id), failure_of(queue, first.id)
    assert (first.state, first.created) == ("failed", True)
    assert (lead.state, lead.failure_class, lead.last_error) == ("failed", "blocked", SAYS)
    assert (failure.failure_class, failure.message, failure.attempts) == ("blocked", SAYS, 0)
    assert lead.finished_at is not None
    assert bell.rung == []
    again = submit(id=first.id, screening=screening, **more)
    assert (again.id, again.state, again.created) == (first.id, "failed", False)


def test_a_submit_with_a_blocked_contact_is_held_or_goes_without_it(
    queue: Queue, blocks: Blocks, submit: Callable[..., Submission]
) -> None:
    blocks.add(BOB, TERMS)
    contacts = [{"phone_number": BOB}]

    held = submit(secondary_contacts=contacts)
    sent = submit(secondary_contacts=contacts, screening=replace(KEYED, drops_contacts=True))

    assert (held.state, sent.state) == ("failed", "pending")
    assert "secondary contact" in queue.lead(held.id).last_error


@pytest.mark.parametrize("terms", [TERMS, HASHED], ids=["number", "hash only"])
def test_a_batch_stores_the_leads_of_blocked_persons_as_failed(
    queue: Queue, blocks: Blocks, database: Database, bell: Bell, terms: BlockTerms
) -> None:
    blocks.add(ADA, terms)
    leads: list[Any] = [
        {"phone_number": ADA, "campaign_id": 42},
        {"phone_number": BOB, "campaign_id": 42},
        {"phone_number": phone(3), "campaign_id": 43, "secondary_contacts": [{"phone_number": ADA}]},
        ({"phone_number": ADA, "campaign_id": 42, "allow_dupplicate": True}, {"idempotency_key": "k"}),
    ]

    done = Bulk(database, bell, KEYED).submit_many(leads, account="default")

    states = queue.rows("SELECT state, last_error FROM dispatcher.leads ORDER BY id")
    assert (done.submitted, done.duplicates, done.blocked, done.rejected) == (1, 0, 3, ())
    assert sorted(row.state for row in states) == ["failed", "failed", "failed", "pending"]
    assert sum("secondary contact" in (row.last_error or "") for row in states) == 1
    assert queue.one("SELECT count(*) AS n FROM dispatcher.failed_leads WHERE failure_class = 'blocked'").n == 3
    assert [channel.campaign_id for channel in bell.rung] == [42]


# Operators do not overrule it


@pytest.mark.parametrize("terms", [TERMS, HASHED], ids=["number", "hash only"])
def test_a_replay_of_a_blocked_person_is_refused_also_if_a_call_is_accepted(
    queue: Queue, blocks: Blocks, bell: Bell, terms: BlockTerms
) -> None:
    claimed = queue.claimed(0)
    queue.record(rejected(claimed))
    blocks.add(ADA, terms)
    failures = Failures(queue.database, bell, KEYED)

    for even_if_called in (False, True):
        with pytest.raises(NotAllowed, match=r"crm\)\. Only `dispatcher unblock` overrules that"):
            failures.replay(claimed.lead_id, actor="ada", even_if_called=even_if_called)
        ((_, why),) = failures.replay_all([claimed.lead_id], actor="ada", even_if_called=even_if_called).refused
        assert "dispatcher unblock" in why
    assert queue.lead(claimed.lead_id).state == "failed"
    preview = Operations(queue.database, KEYED).preview(OperationKind.REPLAY, [claimed.lead_id])
    assert (preview.safe, preview.blocked) == (0, 1)


def test_a_correction_to_a_blocked_number_changes_nothing(queue: Queue, blocks: Blocks) -> None:
    claimed = queue.claimed(1)
    queue.record(rejected(claimed))
    blocks.add(ADA, TERMS)

    with pytest.raises(NotAllowed, match="dispatcher unblock"):
        Corrections(queue.database, KEYED).correct(claimed.lead_id, {"phone_number": ADA}, actor="ada")

    assert queue.lead(claimed.lead_id).phone_number == BOB


def test_a_block_during_a_bulk_replay_is_met_by_the_claim(
    queue: Queue, blocks: Blocks, bell: Bell, turn: Callable[..., Any]
) -> None:
    leads = []
    for number in (0, 1):
        claimed = queue.claimed(number)
        queue.record(rejected(claimed))
        leads.append(claimed.lead_id)
    failures = Failures(queue.database, bell, KEYED)

    failures.replay_all(leads, actor="ada", progress=lambda: blocks.add(ADA, TERMS))

    assert [claimed.lead_id for claimed in turn().opened] == [leads[1]]
    assert queue.lead(leads[0]).failure_class == "blocked"


def test_unblocking_makes_a_lead_replayable_and_sends_nothing(
    queue: Queue, blocks: Blocks, bell: Bell, turn: Callable[..., Any]
) -> None:
    lead_id = queue.put(0)
    blocks.add(ADA, TERMS)
    turn()

    removed = blocks.remove(ADA, actor="ada")

    assert (len(removed.removed), removed.left, removed.replayable) == (1, (), 1)
    assert (turn().opened, queue.lead(lead_id).state) == ((), "failed")
    Failures(queue.database, bell, KEYED).replay(lead_id, actor="ada")
    assert [claimed.lead_id for claimed in turn().opened] == [lead_id]


# The list


def test_the_forms_of_a_number_are_one_person(blocks: Blocks) -> None:
    blocks.add(" +1 (202) 555-0100 ", TERMS)

    assert blocks.is_blocked("+1 202 555 0100", "default")
    assert blocks.is_blocked("tel:+1-202-555-0100", "default")
    with pytest.raises(InvalidLead, match="phone_number"):
        blocks.add("nobody", TERMS)


def test_of_two_blocks_of_one_scope_the_longer_stays(queue: Queue, blocks: Blocks) -> None:
    assert blocks.add(ADA, replace(TERMS, until=timedelta(days=10), reason="first"))
    assert not blocks.add(ADA, replace(TERMS, until=timedelta(days=5), reason="shorter"))
    assert blocks.add(ADA, replace(TERMS, reason="for good"))
    assert not blocks.add(ADA, replace(TERMS, until=timedelta(days=999), reason="shorter again"))

    (block,) = blocks.find(ADA)
    assert (block.reason, block.until) == ("for good", None)


def test_two_scopes_are_two_blocks_and_each_is_removed_by_itself(blocks: Blocks) -> None:
    blocks.add(ADA, TERMS)
    blocks.add(ADA, replace(TERMS, account="sales"))

    first = blocks.remove(ADA, actor="ada")

    assert ([one.account for one in first.removed], [one.account for one in first.left]) == ([None], ["sales"])
    with pytest.raises(NotAllowed, match="not blocked for all accounts, but for the account sales; unblock it --acc"):
        blocks.remove(ADA, actor="ada")
    assert blocks.is_blocked(ADA, "sales")
    assert blocks.remove(ADA, actor="ada", account="sales").left == ()
    with pytest.raises(NotAllowed, match="is not blocked"):
        blocks.remove(ADA, actor="ada")


def test_hash_only_beside_a_number_keeps_the_hash_alone(queue: Queue, blocks: Blocks) -> None:
    blocks.add(ADA, TERMS)
    assert block_rows(queue) == [(ADA, True, None)]

    assert not blocks.add(ADA, HASHED), "it lasts no longer"
    assert block_rows(queue) == [(None, True, None)]
    assert not blocks.add(ADA, TERMS), "the number is not written down again"
    assert block_rows(queue) == [(None, True, None)]
    assert [block.reason for block in blocks.find(ADA)] == [TERMS.reason]
    blocks.remove(ADA, actor="ada")
    assert block_rows(queue) == []


def test_a_number_blocked_without_a_key_and_by_hash_is_removed_with_both(database: Database, blocks: Blocks) -> None:
    blocks.add(ADA, HASHED)
    Blocks(database, Pseudonyms(None)).add(ADA, TERMS)
    assert len(blocks.find(ADA)) == 2

    blocks.remove(ADA, actor="ada")

    assert not blocks.is_blocked(ADA, "default")


def test_without_the_key_no_answer_is_given_that_could_be_wrong(database: Database, blocks: Blocks) -> None:
    blocks.add(ADA, HASHED)
    for key in (None, KEY[::-1]):
        other = Blocks(database, Pseudonyms(key))
        with pytest.raises(NotConfigured, match="DISPATCHER_PRIVACY_KEY"):
            other.is_blocked(ADA, "default")
        with pytest.raises(NotConfigured, match="DISPATCHER_PRIVACY_KEY"):
            other.remove(ADA, actor="ada")
        with pytest.raises(NotConfigured, match="DISPATCHER_PRIVACY_KEY"):
            other.add(BOB, HASHED)
        assert other.add(BOB, replace(TERMS, account=f"a{key is None:d}"))
        assert other.is_blocked(BOB, f"a{key is None:d}")


def test_a_list_is_stored_once_its_faults_are_told_and_it_is_one_line_in_the_audit_log(
    queue: Queue, blocks: Blocks
) -> None:
    listed = [ADA, "no number", BOB, ADA, "+1 202 555 0102"]
    first, again = (list(blocks.add_all(enumerate(listed, 1), TERMS, file_name="list.txt")) for _ in range(2))

    (done,), (second,) = first, again
    assert (done.added, done.known, [position for position, _ in done.rejected]) == (3, 1, [2])
    assert (second.added, second.known) == (0, 4)
    (line,) = queue.rows("SELECT action, subject, detail FROM dispatcher.audit_log")
    assert (line.action, line.subject, line.detail["numbers"], line.detail["file"]) == (
        "block",
        "blocks",
        3,
        "list.txt",
    )


@pytest.mark.parametrize("key", [None, KEY], ids=["plain", "keyed"])
def test_a_long_list_is_copied_and_is_what_it_would_be_one_by_one(
    queue: Queue, database: Database, monkeypatch: pytest.MonkeyPatch, key: str | None
) -> None:
    """Beside it, one list in two scopes, with numbers of a shorter and of a longer block."""
    blocks = Blocks(database, Pseudonyms(key))
    terms = BlockTerms(r"ada\tops", reason=r"back\slash", source="crm", until=timedelta(days=30))
    listed = [phone(number) for number in range(block_list.COPY_FROM + 10)]

    def stored() -> tuple[list[Any], list[Any]]:
        queue.run("TRUNCATE dispatcher.blocks")
        blocks.add(listed[0], BlockTerms("eve", until=timedelta(days=1)))
        blocks.add(listed[1], BlockTerms("eve"))
        blocks.add(listed[2], BlockTerms("eve", account="sales"))
        done = [chunk.added for _ in range(2) for chunk in blocks.add_all(enumerate(listed), terms)]
        columns = "number, encode(digest, 'hex') AS digest, account, reason, source, who, until IS NULL AS for_good"
        return done, queue.rows(f"SELECT {columns} FROM dispatcher.blocks ORDER BY number, account")

    copied = stored()
    monkeypatch.setattr(block_list, "COPY_FROM", 10**6)

    assert copied == stored()
    assert copied[0][0] == len(listed) - 1, "all but the one that lasts longer"
    assert len(copied[1]) == len(listed) + 1


def test_every_change_is_audited_without_the_number(queue: Queue, blocks: Blocks) -> None:
    blocks.add(ADA, replace(TERMS, reason=f"she is {ADA}"))
    blocks.add(BOB, HASHED)
    blocks.remove(ADA, actor="bob")
    blocks.remove_by_id(queue.one("SELECT id FROM dispatcher.blocks").id, actor="bob")

    log = queue.rows(
        "SELECT actor, action, subject, CAST(detail AS text) AS detail FROM dispatcher.audit_log ORDER BY id"
    )
    assert [(line.actor, line.action) for line in log] == [
        ("ada", "block"), ("ada", "block"), ("bob", "unblock"), ("bob", "unblock"),
    ]  # fmt: skip
    assert not any(ADA[1:] in line.detail or BOB[1:] in line.detail for line in log)


@pytest.mark.parametrize(
    ("terms", "fault"),
    [
        (replace(TERMS, account="No Name"), "not a name of an account"),
        (replace(TERMS, reason="x" * 201), "reason is longer than 200"),
        (replace(TERMS, source="two\nlines"), "source is longer than 200 characters, or not one line"),
        (replace(TERMS, until=datetime(2020, 1, 1, tzinfo=UTC)), "has passed"),
        (replace(TERMS, until=datetime(2020, 1, 1)), "until: has no time zone"),  # noqa: DTZ001 - the fault
    ],
)
def test_bad_terms_are_refused_by_name_and_nothing_is_stored(
    queue: Queue, blocks: Blocks, terms: BlockTerms, fault: str
) -> None:
    with pytest.raises(NotAllowed, match=fault):
        blocks.add(ADA, terms)
    assert block_rows(queue) == []


def test_hash_only_without_a_key_is_refused_with_the_way_to_make_one(database: Database) -> None:
    with pytest.raises(NotConfigured, match=r"hash alone needs DISPATCHER_PRIVACY_KEY.*openssl rand -hex 32"):
        Blocks(database, Pseudonyms.of(Settings())).add(ADA, HASHED)
