"""Encryption at rest: the flows of a lead with it on, what is authenticated, and the change of a key."""

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
from sqlalchemy import text
from typer.testing import CliRunner

from dispatcher.cli import doctor_keys
from dispatcher.cli.commands import app
from dispatcher.cli.doctor import Grade
from dispatcher.config.setting import Secret
from dispatcher.config.settings import Settings
from dispatcher.config.urls import normal_database_url
from dispatcher.decisions.reply import Reply
from dispatcher.delivery import results
from dispatcher.errors import NotAllowed, NotConfigured
from dispatcher.importing import imports
from dispatcher.importing.imports import RejectedRow
from dispatcher.intake.bulk import Bulk
from dispatcher.intake.submit import Intake
from dispatcher.lookup import doubts
from dispatcher.operator import corrections, edited_rows, failures, health, lead_record
from dispatcher.operator import leads as lead_list
from dispatcher.operator.block_list import BlockTerms
from dispatcher.operator.blocks import Blocks
from dispatcher.operator.corrections import Corrections
from dispatcher.operator.erasure import Erasure
from dispatcher.operator.failure_filter import FailureFilter
from dispatcher.operator.lead_filter import LeadFilter
from dispatcher.operator.person import People
from dispatcher.operator.recovery import Recovery
from dispatcher.operator.rekey import PLAIN, Rekeying
from dispatcher.store.database import Database, Rehearsal
from dispatcher.store.encryption import Content, KeyMissing, KeyRing, NotAuthentic
from dispatcher.store.pseudonym import Pseudonyms
from tests.database.queue import Queue, claim, phone, rejected, unknown
from tests.database.test_delivery_run import Setting, yes
from tests.database.test_erasure import (
    KEYED,
    erasure,
    test_a_lead_that_was_corrected_to_another_person_stays_without_the_old_number,
    test_no_place_keeps_the_number_in_any_form,
    test_nothing_names_the_number_afterwards,
)
from tests.database.test_person import test_everything_of_the_person_is_told_and_no_number_of_others
from tests.support.doubles import Bell
from tests.support.waiting import wait_until

OLD, NEW = bytes(range(32)), bytes(range(1, 33))
SECRETS = ("Kassandra", "kassandra@example.com", "Pythia", "the number is silly", "2025550177")
CONTACT = "+12025550177"
LEAD: dict[str, Any] = {
    "phone_number": phone(1),
    "campaign_id": 42,
    "variables": {"customer_name": "Kassandra", "email": "kassandra@example.com"},
    "secondary_contacts": [{"phone_number": CONTACT, "variables": {"customer_name": "Pythia"}}],
}

# The flows of other files, here with encryption on: the fixture `database` is this file's.
__all__ = [
    "erasure",
    "test_a_lead_that_was_corrected_to_another_person_stays_without_the_old_number",
    "test_everything_of_the_person_is_told_and_no_number_of_others",
    "test_no_place_keeps_the_number_in_any_form",
    "test_nothing_names_the_number_afterwards",
]


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A database whose processes encrypt."""
    with_keys = Database(normal_database_url(database_url), pool_size=5, key_ring=KeyRing([OLD]))
    yield with_keys
    with_keys.close()


def beside(database: Database, *keys: bytes, encrypts: bool = True, kind: type[Database] = Database) -> Database:
    """The same database as a process with other keys has it."""
    return kind(database._url, pool_size=2, key_ring=KeyRing(keys, encrypts=encrypts))


def everything(database: Database) -> str:
    """Every value of every table."""
    with database.transaction() as connection:
        tables = connection.execute(text("SELECT tablename FROM pg_tables WHERE schemaname = 'dispatcher'")).scalars()
        statements = [text(f"SELECT CAST(to_jsonb(t) AS text) FROM dispatcher.{table} AS t") for table in tables.all()]
        return "\n".join(row for one in statements for row in connection.execute(one).scalars())


def submitted(database: Database, lead: Any = LEAD, **options: Any) -> uuid.UUID:
    return Intake(database, Bell()).submit(lead, options, account="default").id


def no(message: str) -> Reply:
    return Reply(status=422, body={"message": message}, text=f'{{"message": "{message}"}}', written=True)


def test_a_lead_is_delivered_refused_corrected_and_shown_and_a_dump_has_none_of_it(
    queue: Queue, database: Database
) -> None:
    lead_id = submitted(database, idempotency_key="a")
    Bulk(database, Bell()).submit_many([{**LEAD, "phone_number": phone(2)}], account="default")
    setting, bodies = Setting(database), []

    def answer(lead: dict[str, Any]) -> Reply:
        bodies.append({name: lead[name] for name in ("variables", "secondary_contacts")})
        return no("the number is silly")

    setting.client._answer = answer
    setting.run()
    record = database.read(lead_record.read, lead_id)
    listed = database.read(failures.matching, FailureFilter())

    assert bodies == [{name: LEAD[name] for name in ("variables", "secondary_contacts")}] * 2
    assert "silly" in (record.history[0].response or "")
    assert [("silly" in (one.response or ""), "silly" in one.message) for one in listed] == [(True, False)] * 2
    assert (record.variables, record.contacts[0].phone_number) == (LEAD["variables"], CONTACT)

    _, rows = database.read(edited_rows.table, FailureFilter())
    assert all(CONTACT in row and "kassandra@example.com" in row for row in rows)

    Corrections(database).correct(lead_id, {"variables": {"customer_name": "Pythia"}}, actor="bob")
    (old,) = database.read(corrections.revisions, lead_id)
    assert old.variables == LEAD["variables"]
    setting.client._answer = lambda lead: yes(7) if lead["variables"] == {"customer_name": "Pythia"} else no("x")
    setting.run()
    assert queue.lead(lead_id).state == "accepted"

    with database.transaction() as connection:
        import_id = imports.begin(connection, uuid.uuid4(), "f", "default", "bob")
        row = RejectedRow(2, "x", "y", "Kassandra;kassandra@example.com")
        imports.add(connection, import_id, before=0, submitted=0, duplicates=0, repeated=0, rejected=1, fields=[row])
    assert database.read(imports.rejections, import_id) == [row]

    dump = everything(database)
    assert [secret for secret in SECRETS if secret in dump] == []
    assert dump.count("enc:1:") >= 9


def test_a_lead_in_doubt_is_looked_up_by_what_was_sent(queue: Queue, database: Database) -> None:
    submitted(database)
    (one,) = queue.claim().opened
    queue.record(unknown(one))

    with database.transaction() as connection:
        (doubt,) = doubts.take_named(connection, [one.lead_id])

    assert (doubt.variables, doubt.contacts) == (LEAD["variables"], (CONTACT,))


@pytest.mark.parametrize("drops", [False, True], ids=["held back", "left out"])
def test_a_blocked_contact_is_met_although_its_number_is_encrypted(
    queue: Queue, database: Database, drops: bool
) -> None:
    lead_id, other = (
        submitted(database),
        submitted(database, {**LEAD, "phone_number": phone(2), "secondary_contacts": []}),
    )
    Blocks(database, Pseudonyms(None)).add(CONTACT, BlockTerms("ada"))
    setting, sent = Setting(database), []
    setting.set(blocked_contact="drop" if drops else "hold")

    def answer(lead: dict[str, Any]) -> Reply:
        sent.append((lead["phone_number"], lead.get("secondary_contacts", [])))
        return yes(len(sent))

    setting.client._answer = answer
    setting.run()

    assert sorted(sent) == ([(phone(1), [])] if drops else []) + [(phone(2), [])]
    assert queue.lead(lead_id).state == ("accepted" if drops else "failed")
    assert queue.lead(other).state == "accepted"
    assert queue.one("SELECT dropped_at IS NOT NULL AS dropped FROM dispatcher.lead_contacts").dropped == drops
    if not drops:
        (failure,) = queue.rows("SELECT failure_class, message FROM dispatcher.failed_leads")
        assert failure.failure_class == "blocked"
        assert "secondary contact" in failure.message
        assert submitted(database, {**LEAD, "phone_number": phone(3)}) != lead_id
        assert queue.states()["failed"] == 2, "at submit too"


def test_without_the_key_nothing_is_claimed_and_what_is_read_names_the_key(queue: Queue, database: Database) -> None:
    lead_id = submitted(database)
    without = beside(database)
    setting = Setting(without)

    setting.run()
    assert (queue.lead(lead_id).state, queue.lead(lead_id).attempts) == ("pending", 0)
    assert queue.rows("SELECT FROM dispatcher.lead_attempts") == []

    queue.run("DELETE FROM dispatcher.encryption_keys")  # a race: the worker does not know that it lacks the key
    setting.run()
    lead = queue.lead(lead_id)
    assert (lead.state, lead.attempts) == ("pending", 0)
    assert setting.client.posts == []
    (gate,) = queue.rows("SELECT note FROM dispatcher.gates WHERE reason = 'misconfigured'")
    assert KeyRing([OLD]).key_ids[0] in gate.note

    with pytest.raises(KeyMissing, match=KeyRing([OLD]).key_ids[0]):
        without.read(lead_record.read, lead_id)
    with pytest.raises(NotConfigured, match="DISPATCHER_ENCRYPTION_KEYS"):
        People(without).held_of(phone(1), actor="bob")
    without.close()


def test_a_value_that_was_moved_to_another_lead_is_not_sent(queue: Queue, database: Database) -> None:
    victim, thief = submitted(database), submitted(database, {**LEAD, "phone_number": phone(2)})
    queue.run(
        "UPDATE dispatcher.leads SET variables = (SELECT variables FROM dispatcher.leads WHERE id = :victim)"
        " WHERE id = :thief",
        victim=victim,
        thief=thief,
    )
    setting = Setting(database)

    setting.run()

    assert queue.lead(victim).state == "accepted"
    assert queue.lead(thief).state == "pending"
    assert "does not decrypt" in queue.lead(thief).last_error
    assert len(setting.client.posts) == 1
    assert queue.rows("SELECT FROM dispatcher.gates WHERE state = 'closed'") == []


def test_a_filter_by_variable_is_refused(database: Database) -> None:
    submitted(database)
    for one in (database, beside(database)):
        with pytest.raises(NotAllowed, match="encrypted"):
            one.read(failures.matching, FailureFilter(variable=("email", "x")))
        wanted = LeadFilter(variable=("email", "x"))
        for ask in (lead_list.count_matching, lead_list.count_pending, partial(lead_list.page, most=1)):
            with pytest.raises(NotAllowed, match="encrypted"):
                one.read(ask, wanted)


def test_the_key_is_changed_in_batches_and_an_interrupted_run_goes_on(queue: Queue, database: Database) -> None:
    plain = beside(database)
    leads = [submitted(plain, {**LEAD, "phone_number": phone(10 + number)}) for number in range(3)]
    leads += [submitted(database, {**LEAD, "phone_number": phone(20 + number)}) for number in range(3)]
    for claimed in queue.claim(6).opened:
        queue.record(rejected(claimed, response="the number is silly"))
    new = beside(database, NEW, OLD)
    seen: list[int] = []

    def die(_: object) -> None:
        seen.append(1)
        if len(seen) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Rekeying(new).run(actor="bob", batch_rows=2, tell=die)
    done = Rekeying(new).run(actor="bob", batch_rows=2)

    assert done.finished
    assert done.changed["leads"] == 2, "four were done before"
    everywhere = everything(database)
    assert KeyRing([OLD]).key_ids[0] + ":" not in everywhere
    assert [secret for secret in SECRETS if secret in everywhere] == []
    alone = beside(database, NEW)
    assert {one: alone.read(lead_record.read, one).variables["customer_name"] for one in leads} == dict.fromkeys(
        leads, "Kassandra"
    )
    assert [one.response for one in alone.read(failures.matching, FailureFilter())] == ["the number is silly"] * 6
    assert queue.rows("SELECT id FROM dispatcher.encryption_keys") == [(KeyRing([NEW]).key_ids[0],)]

    back = Rekeying(new).run(actor="bob", decrypt=True)
    assert back.finished
    assert "enc:1:" not in everything(database)
    assert plain.read(lead_record.read, leads[0]).contacts[0].variables == {"customer_name": "Pythia"}
    assert queue.rows("SELECT FROM dispatcher.encryption_keys") == []


def test_a_run_without_one_of_the_keys_says_what_is_left(queue: Queue, database: Database) -> None:
    submitted(database)
    other = beside(database, NEW)
    submitted(other, {**LEAD, "phone_number": phone(2)})

    done = Rekeying(other).run(actor="bob")

    assert done.left == {KeyRing([OLD]).key_ids[0]: 3}
    assert not done.finished
    assert len(queue.rows("SELECT FROM dispatcher.encryption_keys")) == 2, "a worker still needs it"
    rehearsed = Rekeying(beside(database, NEW, OLD, kind=Rehearsal)).run(actor="bob")
    assert (rehearsed.changed, rehearsed.left) == ({"leads": 1, "lead_contacts": 1}, done.left)


def test_a_key_is_not_forgotten_while_an_open_transaction_may_write_under_it(queue: Queue, database: Database) -> None:
    submitted(database)
    old, new = KeyRing([OLD]).key_ids[0], beside(database, NEW, OLD)

    with database.transaction() as connection:
        Intake(database, Bell()).submit({**LEAD, "phone_number": phone(2)}, {}, account="default", session=connection)
        first = Rekeying(new, patience_seconds=0).run(actor="bob")

    assert (first.kept, first.left, first.finished) == ((old,), {}, False)
    assert {row.id for row in queue.rows("SELECT id FROM dispatcher.encryption_keys")} == {old, new.key_ring.key_id}

    queue.run("DELETE FROM dispatcher.encryption_keys WHERE id = :old", old=old)  # a run that was killed as it waited
    assert Rekeying(beside(database, NEW)).run(actor="bob").left == {old: 3}
    assert (old,) in queue.rows("SELECT id FROM dispatcher.encryption_keys")
    assert Rekeying(new).run(actor="bob").finished
    assert queue.rows("SELECT id FROM dispatcher.encryption_keys") == [(new.key_ring.key_id,)]


def test_what_is_written_while_a_key_is_forgotten_makes_it_known_again(queue: Queue, database: Database) -> None:
    submitted(database)
    old, new = KeyRing([OLD]).key_ids[0], beside(database, NEW, OLD)
    with ThreadPoolExecutor(1) as pool:
        with database.transaction() as connection:
            other = {**LEAD, "phone_number": phone(2)}
            Intake(database, Bell()).submit(other, {}, account="default", session=connection)
            running = pool.submit(Rekeying(new).run, actor="bob")
            known = "SELECT FROM dispatcher.encryption_keys WHERE id = :old"
            wait_until(lambda: not queue.rows(known, old=old), 20, "the key to be forgotten")
        done = running.result(60)

    assert (done.left, done.kept) == ({old: 3}, ())
    assert len(queue.rows(known, old=old)) == 1


@pytest.mark.parametrize("column", ["phone_number", "variables"])
def test_one_value_that_does_not_decrypt_is_told_by_its_row_and_hinders_no_erasure(
    queue: Queue, database: Database, column: str
) -> None:
    ada, broken = submitted(database), submitted(database, {**LEAD, "phone_number": phone(2)})
    thief = submitted(database, {**LEAD, "phone_number": phone(3), "secondary_contacts": []})
    moved = f"(SELECT {column} FROM dispatcher.lead_contacts WHERE lead_id = :ada)"
    queue.run(f"UPDATE dispatcher.lead_contacts SET {column} = {moved} WHERE lead_id = :id", ada=ada, id=broken)
    queue.run(
        "UPDATE dispatcher.leads SET variables = (SELECT variables FROM dispatcher.leads WHERE id = :ada)"
        " WHERE id = :thief",
        ada=ada,
        thief=thief,
    )

    told = [f"the row lead_contacts {broken}, 0", f"the row leads {thief}"]
    held = People(database).held_of(phone(3), actor="clerk")
    erased = Erasure(database, KEYED).erase(phone(1), actor="clerk")

    assert [one.what for one in held.outside][:2] == told
    assert [row["variables"] for row in held.held["leads"]] == [None]
    assert (erased.leads, [one.what for one in erased.left][:2]) == ((ada,), told)
    assert queue.rows("SELECT FROM dispatcher.leads WHERE id = :ada", ada=ada) == []
    own = Erasure(database, KEYED).erase(phone(3), actor="clerk")
    assert (own.leads, [one.what for one in own.left][:1]) == ((thief,), told[:1])
    assert told[1] not in [one.what for one in own.left], "it is gone"


def test_a_text_that_looks_encrypted_stays_what_it_is(queue: Queue, database: Database) -> None:
    for ring in (beside(database), database):
        for stored in ("enc:1:0123abcd:AAAA", "enc:0:x", "enc:"):
            number = len(queue.rows("SELECT FROM dispatcher.leads"))
            Intake(ring, Bell()).submit({"phone_number": phone(number), "campaign_id": 42}, {}, account="default")
            with ring.transaction() as connection:
                (one,) = claim(connection).opened
                results.record(connection, [rejected(one, response=stored)])
            assert ring.read(failures.of_lead, one.lead_id)[0].response == stored


def test_what_begins_as_an_encrypted_value_and_is_none_is_no_plain_value() -> None:
    for ring in (KeyRing(), KeyRing([OLD])):
        for stored in ("enc:1:", "enc:1:0123abcd:", f"enc:1:{KeyRing([OLD]).key_id}:a b", "enc:1:+12025550177"):
            with pytest.raises(NotAuthentic):
                ring.decrypted(stored, uuid.uuid4(), Content.CONTACT_NUMBER)


def test_the_keys_are_checked_without_being_told() -> None:
    for given, fault in (
        ("xyz", "key 1"),
        (f"off {'a' * 63}", "key 1"),
        (f"{'a' * 64},{'A' * 64}", "twice"),
        ("off", "off"),
    ):
        try:
            settings = Settings(encryption_keys=Secret(given))
        except NotConfigured as error:
            assert fault in str(error), given
            assert "aaaa" not in str(error)
        else:
            assert given == "off"
            assert KeyRing.of(settings).key_id is None
    two = Settings(encryption_keys=Secret(f"{OLD.hex()}\n{NEW.hex()}"))
    assert KeyRing.of(two).key_ids == KeyRing([OLD, NEW]).key_ids
    assert OLD.hex() not in repr(KeyRing.of(two)) + repr(two)
    assert PLAIN not in KeyRing.of(two).key_ids


def test_doctor_and_health_name_the_key_that_is_missing(database: Database, database_url: str) -> None:
    submitted(database)
    settings = Settings(database_url=Secret(database_url))
    with database.transaction() as connection:
        checks = {one.name: one for one in doctor_keys.keys(settings, connection)}
    found = health.probe(database, ring=KeyRing([NEW]))

    assert checks["Encryption"].verdict is Grade.BAD
    assert KeyRing([OLD]).key_ids[0] in checks["Encryption"].found
    assert any(KeyRing([OLD]).key_ids[0] in fault for fault in found.faults)
    assert not any("encrypted" in fault for fault in health.probe(database, ring=database.key_ring).faults)


def test_the_command_shows_what_is_left_and_exits_with_1(queue: Queue, database: Database, database_url: str) -> None:
    submitted(beside(database, NEW))
    environment = {"DATABASE_URL": database_url, "DISPATCHER_ENCRYPTION_KEYS": OLD.hex()}

    first = CliRunner().invoke(app, ["rekey", "--yes", "--json"], env=environment)
    assert (first.exit_code, json.loads(first.stdout)["left"]) == (1, {KeyRing([NEW]).key_ids[0]: 3})

    environment["DISPATCHER_ENCRYPTION_KEYS"] = f"{OLD.hex()} {NEW.hex()}"
    second = CliRunner().invoke(app, ["rekey", "--yes", "--json"], env=environment)
    told = json.loads(second.stdout)
    assert (second.exit_code, told["finished"], told["key"]) == (0, True, KeyRing([OLD]).key_ids[0])

    environment["DISPATCHER_ENCRYPTION_KEYS"] = "off"
    refused = CliRunner().invoke(app, ["rekey", "--yes"], env=environment)
    assert refused.exit_code == 2


@pytest.mark.parametrize(("given", "status"), [((NEW, OLD), 0), ((NEW,), 1)])
def test_a_reader_that_leaves_stops_no_change_of_a_key_and_hides_no_failure(
    given: tuple[bytes, ...], status: int, queue: Queue, database: Database, database_url: str
) -> None:
    """As in `dispatcher rekey 2>&1 | head -1`."""
    submitted(database)
    keys = " ".join(key.hex() for key in given)
    environment = {**os.environ, "DATABASE_URL": database_url, "DISPATCHER_ENCRYPTION_KEYS": keys}
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "dispatcher", "rekey", "--yes", "--batch", "1"]
    ended = subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=writing, stderr=writing, check=False
    )
    os.close(writing)

    left = Rekeying(beside(database, *given)).run(actor="test")
    assert (ended.returncode, left.finished, sum(left.changed.values())) == (status, not status, 0)


@pytest.mark.parametrize(
    ("command", "doing"),
    [
        (["rekey", "--yes"], (Rekeying, "run")),
        (["recover", "--since", "2026-01-01T00:00:00Z"], (Recovery, "recover")),
    ],
)
def test_who_interrupts_it_is_told_how_to_go_on(
    command: list[str], doing: tuple[type, str], database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(*doing, interrupted)
    environment = {"DATABASE_URL": database_url, "DISPATCHER_ENCRYPTION_KEYS": OLD.hex()}
    ended = CliRunner().invoke(app, command, env=environment)
    assert ended.exit_code
    assert "the same command goes on" in ended.stderr
