"""Erasing a person: nothing names the number afterwards, and nobody is erased who is on the way."""

import json
import re
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url, text

from dispatcher.config.urls import normal_database_url
from dispatcher.delivery.claims import Claimer
from dispatcher.delivery.recorder import Recorder
from dispatcher.errors import IdempotencyConflict, InvalidLead, NotAllowed, NotConfigured
from dispatcher.intake.bulk import Bulk
from dispatcher.intake.inbox_taking import Taking
from dispatcher.intake.submit import Intake
from dispatcher.lead.lead import Lead
from dispatcher.lead.number_forms import REMOVED, NumberForms
from dispatcher.operator.block_list import BlockTerms
from dispatcher.operator.blocks import Blocks
from dispatcher.operator.erasure import Erasure
from dispatcher.operator.failure_filter import FailureFilter
from dispatcher.operator.mentions import PLACES
from dispatcher.operator.operation_work import OperationKind
from dispatcher.operator.operations import Operations
from dispatcher.operator.person import People
from dispatcher.operator.replay import Failures
from dispatcher.store import audit
from dispatcher.store import erased as erased_hashes
from dispatcher.store.blocks import NO_KEY, Screening
from dispatcher.store.database import Database, Rehearsal
from dispatcher.store.erased import SENTENCE
from dispatcher.store.pseudonym import Pseudonyms
from tests.database.queue import CHANNEL, SETTINGS, Queue, accepted, ids, phone, rejected, unknown
from tests.support.doubles import Bell

ADA, BOB = phone(1), phone(2)

_ALL = "SELECT coalesce(CAST(json_agg(t) AS text), '') FROM dispatcher.{table} AS t"


@pytest.fixture
def erasure(database: Database) -> Erasure:
    return Erasure(database, KEYED)


def everything(database: Database) -> str:
    """Every value of every table."""
    with database.transaction() as connection:
        tables = connection.execute(text("SELECT tablename FROM pg_tables WHERE schemaname = 'dispatcher'")).scalars()
        found = [str(connection.execute(text(_ALL.format(table=table))).scalar()) for table in tables.all()]
    return "\n".join(found)


def test_nothing_names_the_number_afterwards(queue: Queue, database: Database, erasure: Erasure) -> None:
    intake = Intake(database, Bell())
    lead = {"phone_number": ADA, "campaign_id": 42, "variables": {"name": "Ada"}}
    other = {"phone_number": BOB, "campaign_id": 42, "secondary_contacts": [{"phone_number": ADA}]}
    intake.submit(lead, {"idempotency_key": f"crm-{ADA}"}, account="default")
    (one,) = queue.claim().opened
    queue.record(rejected(one, response=f"said: {ADA} is bad"))
    kept = intake.submit(other, {}, account="default").id
    (two,) = queue.claim().opened
    queue.record(accepted(two, 7, response=f"contacts: {ADA}", evidence={"echo": ADA}))
    queue.run(
        "INSERT INTO dispatcher.audit_log (actor, action, subject, detail)"
        " VALUES ('bob', 'resolve', 'x', jsonb_build_object('note', 'rang ' || :phone))",
        phone=ADA,
    )
    queue.run(
        "INSERT INTO dispatcher.imports (batch_id, file_name, account, actor) VALUES (:id, 'f', 'default', 'bob')",
        id=kept,
    )
    queue.run(
        "INSERT INTO dispatcher.import_rejections (import_id, line, field, reason, original)"
        " SELECT id, 2, 'x', 'y', '(202) 555-0101;Ada;+1 202-555-0101' FROM dispatcher.imports"
    )
    assert ADA[1:] in everything(database)

    erased = erasure.erase(ADA, actor="bob")

    assert ADA[1:] not in everything(database)
    assert "555-0101" not in everything(database)
    assert "Ada" not in everything(database)
    assert (erased.leads, erased.beside) == ((one.lead_id,), (kept,))
    assert queue.lead(kept).phone_number == BOB


def test_what_voicery_still_has_is_named(queue: Queue, erasure: Erasure) -> None:
    one = queue.claimed(1)
    queue.record(accepted(one, 1001))

    assert erasure.erase(ADA, actor="bob").voicery_ids == (("default", 1001),)


@pytest.mark.parametrize("in_doubt", [False, True])
def test_a_lead_on_its_way_or_in_doubt_is_not_erased(queue: Queue, erasure: Erasure, in_doubt: bool) -> None:
    one = queue.claimed(1)
    if in_doubt:
        queue.record(unknown(one))

    with pytest.raises(NotAllowed, match=str(one.lead_id)):
        erasure.erase(ADA, actor="bob")

    assert queue.lead(one.lead_id).phone_number == ADA
    assert not queue.rows("SELECT FROM dispatcher.audit_log")


def test_a_waiting_lead_is_erased_and_so_never_sent(queue: Queue, erasure: Erasure) -> None:
    queue.put(1)

    erasure.erase(ADA, actor="bob")

    assert queue.claim().opened == ()


def test_without_a_privacy_key_a_late_repetition_is_refused(queue: Queue, database: Database) -> None:
    intake = Intake(database, Bell())
    lead = {"phone_number": ADA, "campaign_id": 42}
    intake.submit(lead, {"idempotency_key": "crm-17"}, account="default")

    Erasure(database).erase(ADA, actor="bob")

    with pytest.raises(IdempotencyConflict):
        intake.submit(lead, {"idempotency_key": "crm-17"}, account="default")
    assert queue.states() == {}


def test_a_lead_that_was_corrected_to_another_person_stays_without_the_old_number(
    queue: Queue, database: Database, erasure: Erasure
) -> None:
    lead_id = queue.put(2)
    queue.run(
        "INSERT INTO dispatcher.lead_revisions (lead_id, revision, campaign_id, phone_number, variables, payload_hash,"
        " replaced_by) VALUES (:id, 1, 42, :phone, '{}', 'h', 'bob')",
        id=lead_id,
        phone=ADA,
    )

    assert erasure.erase(ADA, actor="bob").beside == (lead_id,)
    assert ADA[1:] not in everything(database)
    assert queue.lead(lead_id).state == "pending"


def test_who_is_not_there_is_erased_to_no_effect_but_what_is_no_number_is_refused(
    erasure: Erasure, queue: Queue
) -> None:
    kept = queue.put(2)

    assert erasure.erase(ADA, actor="bob").leads == ()
    with pytest.raises(InvalidLead):
        erasure.erase("Ada", actor="bob")
    assert queue.lead(kept)


def test_a_rehearsal_says_what_would_happen_and_changes_nothing(queue: Queue, database_url: str) -> None:
    lead_id: uuid.UUID = queue.put(1)
    rehearsal = Rehearsal(normal_database_url(database_url))

    erased = Erasure(rehearsal).erase(ADA, actor="bob")
    submitted = Intake(rehearsal, Bell()).submit({"phone_number": BOB, "campaign_id": 42}, {}, account="default")
    rehearsal.close()

    assert erased.leads == (lead_id,)
    assert submitted.created
    assert queue.states() == {"pending": 1}
    assert not queue.rows("SELECT FROM dispatcher.audit_log")


KEYED = Pseudonyms("a key of the tests, outside of the database")
SCREENING = Screening(KEYED)
FORMS = (
    "+1 202 555 0101",
    "(202) 555-0101",
    "2025550101",
    "00 1 202-555-0101",
    "\uff12\uff10\uff12 555 \u0660\u0661\u0660\u0661",
)
NUMBERS = (12025550101, 2025550101, 12025550101.0)


def names_ada(database: Database) -> list[str]:
    """The lines of a dump that contain the number in any form."""
    return [line for line in re.split(r"[{},]\n? ?", everything(database)) if NumberForms(ADA).stands_in(line)]


def test_a_number_pasted_into_the_campaign_filter_does_not_hinder_the_erasure(
    queue: Queue, database: Database, erasure: Erasure
) -> None:
    """V6: the export's audit row had the digits as a JSON number; the erasure made it no JSON, and failed for ever."""
    queue.put(1)
    filters = FailureFilter(campaign_id=int(ADA[1:])).as_dict()
    with database.transaction() as connection:
        audit.note(connection, "bob", "export", "failed_leads", {"filters": filters, "rows": 0})

    erasure.erase(ADA, actor="bob")

    assert names_ada(database) == []
    (row,) = queue.rows("SELECT detail FROM dispatcher.audit_log WHERE action = 'export'")
    assert (row.detail["filters"]["campaign_id"], row.detail["rows"]) == ("\u2022\u2022\u2022", 0)


def test_no_place_keeps_the_number_in_any_form(queue: Queue, database: Database) -> None:
    """Every column of free text is filled with every form, each in a row of somebody else; then a dump is searched."""
    other = queue.put(2, "failed", failure_class="rejected")
    operation, batch = uuid.uuid4(), uuid.uuid4()
    for position, form in enumerate(FORMS):
        note = f"rang {form}, no answer"
        said = json.dumps({"who": [note], form: 1, "n": NUMBERS[position % 3], "deep": {"x": form}})
        queue.run(
            """
            WITH one AS (
                INSERT INTO dispatcher.audit_log (actor, action, subject, detail)
                VALUES (:note, 'x', :note, CAST(:said AS jsonb))
            ), two AS (
                INSERT INTO dispatcher.incidents (kind, message, evidence, seen_by)
                VALUES ('late_answer', :note, CAST(:said AS jsonb), :note)
            ), three AS (
                INSERT INTO dispatcher.gates (account, campaign_id, note, refusal) VALUES ('default', :n, :note, :note)
            ), four AS (
                INSERT INTO dispatcher.lead_revisions (lead_id, revision, campaign_id, phone_number, variables,
                    payload_hash, replaced_by, note)
                VALUES (:lead, :n, 42, :bob, CAST(:said AS jsonb), 'h', :note, :note)
            ), five AS (
                INSERT INTO dispatcher.lead_contacts (lead_id, position, account, phone_number, variables,
                    voicery_status)
                VALUES (:lead, :n, 'default', '+12025550177', CAST(:said AS jsonb), :note)
            ), six AS (
                INSERT INTO dispatcher.failed_leads (lead_id, account, campaign_id, phone_number, failure_class,
                    fingerprint, message, response, attempts, resolved_at, resolution, resolved_by, note)
                VALUES (:lead, 'default', 42, :bob, 'rejected', 'f', :note, :note, 1, now(), 'dismissed',
                    :note, :note)
            ), seven AS (
                INSERT INTO dispatcher.lead_attempts (id, lead_id, number, account, campaign_id, phone_number,
                    watermark, finished_at, outcome, error, response, evidence, worker)
                VALUES (gen_random_uuid(), :lead, :n, 'default', 42, :bob, 0, now(), 'rejected', :note, :note,
                    CAST(:said AS jsonb), :note)
            ), eight AS (
                INSERT INTO dispatcher.operations (id, kind, filters, options, actor, total, stopped_by)
                VALUES (gen_random_uuid(), 'replay', CAST(:said AS jsonb), CAST(:said AS jsonb), :note, 1, :note)
            ), file AS (
                INSERT INTO dispatcher.imports (batch_id, file_name, account, actor)
                VALUES (gen_random_uuid(), :note || '.csv', 'default', :note) RETURNING id
            ), blocked AS (
                INSERT INTO dispatcher.blocks (number, account, reason, source, who)
                VALUES (:bob, 'a' || :n, :note, :note, :note)
            ), waiting AS (
                INSERT INTO dispatcher.inbox
                    (id, account, lead, idempotency_key, bytes, caller, state, ended_at, reasons)
                VALUES (gen_random_uuid(), 'default', CAST(:said AS jsonb), 'crm ' || :form, 1, :note, 'rejected',
                    now(), CAST(:said AS jsonb))
            ), keys AS (
                INSERT INTO dispatcher.api_keys (prefix, digest, name, account, rate_limit, created_by)
                VALUES ('p' || :n, sha256(''), :note, 'default', 'off', :note)
            ), mapping AS (
                INSERT INTO dispatcher.webhook_mappings (account, name, fields, fixed, changed_by)
                VALUES ('default', 'm' || :n, CAST(:said AS jsonb), CAST(:said AS jsonb), :note)
            ), saved AS (
                INSERT INTO dispatcher.saved_filters (who, page, name, query)
                VALUES (:note || :n, 'leads', :note, :note)
            ), login AS (
                INSERT INTO dispatcher.submitters (login, accounts, changed_by) VALUES ('l' || :n, '{}', :note)
            ), nine AS (
                INSERT INTO dispatcher.import_rejections (import_id, line, field, reason, original)
                SELECT id, 1, :note, :note, 'Ada;' || :form || ';Lovelace' FROM file
            )
            INSERT INTO dispatcher.idempotency_keys (account, key, lead_id, payload_hash, state)
            VALUES ('default', 'crm ' || :form, :lead, 'h', 'pending')
            """,
            note=note, said=said, form=form, n=position + 1, lead=other, bob=BOB,
        )  # fmt: skip
        queue.run(
            """
            WITH done AS (
                INSERT INTO dispatcher.operations (id, kind, actor, total) VALUES (:id, 'replay', 'b', 1)
                ON CONFLICT DO NOTHING
            ), filled AS (
                UPDATE dispatcher.leads SET last_error = :note, idempotency_key = 'crm ' || :form,
                    voicery_status = :note,
                    variables = variables || CAST(:said AS jsonb), batch_id = :batch WHERE id = :lead
            )
            SELECT 1
            """,
            id=operation, note=note, said=said, form=form, batch=batch, lead=other,
        )  # fmt: skip
        queue.run(
            "INSERT INTO dispatcher.operation_leads (operation_id, position, lead_id, outcome, reason)"
            " VALUES (:id, :n, :lead, 'refused', :note)",
            id=operation, n=position, lead=other, note=note,
        )  # fmt: skip
    filled = {
        (place.table, column)
        for place in PLACES
        for column in (*place.texts, *place.jsons)
        if queue.rows(f"SELECT 1 FROM dispatcher.{place.table} WHERE CAST({column} AS text) LIKE '%555%'")
    }
    assert filled == {(place.table, column) for place in PLACES for column in (*place.texts, *place.jsons)} - {
        ("gates", "by")
    }, "the test fills every place"

    erased = Erasure(database, KEYED).erase(ADA, actor="bob")

    assert names_ada(database) == []
    assert "Lovelace" not in everything(database), "all of a refused row is about its person"
    assert erased.beside == (other,)
    assert queue.lead(other).phone_number == BOB
    files = [one.what for one in erased.left if "file" in one.what]
    assert f"the file rang {REMOVED}, no answer.csv and its .rejected.csv" in files
    assert not NumberForms(ADA).stands_in(files)


def test_a_lead_of_another_person_that_names_the_number_is_not_touched_while_it_is_on_its_way(
    queue: Queue, erasure: Erasure
) -> None:
    """Its variables are the evidence that a look-up compares with what Voicery has."""
    other = queue.claimed(2).lead_id
    queue.run("UPDATE dispatcher.leads SET variables = '{\"partner\": 2025550101}' WHERE id = :id", id=other)

    with pytest.raises(NotAllowed, match=str(other)):
        erasure.erase(ADA, actor="bob")


def test_notes_about_the_person_go_and_who_did_what_stays(queue: Queue, database: Database, erasure: Erasure) -> None:
    lead_id = queue.put(1)
    with database.transaction() as connection:
        audit.note(connection, "bob", "resolve", str(lead_id), {"as": "dismissed", "note": "Ada is ill"})
        audit.open_incident(connection, audit.IncidentKind.POSSIBLE_MATCH, lead_id, "A sentence.", {"name": "Ada"})

    erasure.erase(ADA, actor="bob")

    assert "Ada" not in everything(database)
    (row,) = queue.rows("SELECT actor, detail FROM dispatcher.audit_log WHERE action = 'resolve'")
    assert (row.actor, row.detail["as"]) == ("bob", "dismissed")


@pytest.mark.parametrize("key", ["crm-17", f"crm-{ADA}", "crm 202/555/0101"])
@pytest.mark.parametrize("bulk", [False, True])
def test_a_repetition_under_the_same_key_is_still_the_first_one(
    queue: Queue, database: Database, key: str, bulk: bool
) -> None:
    intake, batches = (
        Intake(database, Bell(), screening=Screening(KEYED)),
        Bulk(database, Bell(), screening=Screening(KEYED)),
    )
    lead = {"phone_number": ADA, "campaign_id": 42, "variables": {"name": "Ada"}}
    first = intake.submit(lead, {"idempotency_key": key}, account="default").id
    hashed = Lead.parse(lead).payload_hash()
    assert not queue.rows("SELECT FROM dispatcher.idempotency_keys WHERE payload_hash = :hash", hash=hashed), "sealed"

    Erasure(database, KEYED).erase(ADA, actor="bob")

    assert names_ada(database) == []
    if bulk:
        result = batches.submit_many([(lead, {"idempotency_key": key})], account="default")
        assert (result.submitted, result.repeated) == (0, 1)
    else:
        again = intake.submit(lead, {"idempotency_key": key}, account="default")
        assert (again.id, again.created) == (first, False)
        with pytest.raises(IdempotencyConflict):
            intake.submit({**lead, "variables": {}}, {"idempotency_key": key}, account="default")
    assert queue.states() == {}


def test_a_key_from_before_there_was_a_privacy_key_still_compares(queue: Queue, database: Database) -> None:
    lead = {"phone_number": ADA, "campaign_id": 42}
    options = {"idempotency_key": "crm-17"}
    first = Intake(database, Bell()).submit(lead, options, account="default")

    keyed = Intake(database, Bell(), screening=Screening(KEYED))
    assert keyed.submit(lead, options, account="default").id == first.id
    Erasure(database, KEYED).erase(ADA, actor="bob")
    assert keyed.submit(lead, options, account="default").id == first.id
    for other in (Pseudonyms(None), Pseudonyms("another key of the tests, which is not it")):
        with pytest.raises(NotConfigured, match="DISPATCHER_PRIVACY_KEY"):
            Intake(database, Bell(), screening=Screening(other)).submit(lead, options, account="default")


def test_without_a_privacy_key_who_was_called_is_erased_only_on_purpose(queue: Queue, database: Database) -> None:
    """Nothing may be kept then that recognises a repetition: not of the person, nor of a key with the number."""
    queue.record(accepted(queue.claimed(1), 7))
    without = Erasure(database)

    with pytest.raises(NotConfigured, match=r"openssl rand .* or erase with --without-proof"):
        without.erase(ADA, actor="bob")
    assert queue.states() == {"accepted": 1}
    erased = without.erase(ADA, actor="bob", without_proof=True)

    assert erased.left[0].what == "a lead of this person, submitted again, is called again"
    assert names_ada(database) == []
    Intake(database, Bell()).submit(
        {"phone_number": BOB, "campaign_id": 42}, {"idempotency_key": f"crm-{BOB}"}, account="default"
    )
    with pytest.raises(NotConfigured, match="--without-proof"):
        without.erase(BOB, actor="bob")


# A repetition of what was erased --------------------------------------------------------------------------------------

LEAD = {"phone_number": ADA, "campaign_id": 42}


def erased_lead(queue: Queue, database: Database) -> uuid.UUID:
    """Ada was called, and then erased."""
    claimed = queue.claimed(1)
    queue.record(accepted(claimed, 7))
    Erasure(database, KEYED).erase(ADA, actor="bob")
    return claimed.lead_id


def test_the_same_person_in_the_same_campaign_is_a_duplicate_as_before(queue: Queue, database: Database) -> None:
    erased = erased_lead(queue, database)
    intake = Intake(database, Bell(), SCREENING)

    plain = intake.submit(LEAD, {}, account="default")
    keyed = intake.submit(LEAD, {"idempotency_key": "another"}, account="default")

    assert [(one.state, one.duplicate_of) for one in (plain, keyed)] == [("duplicate", erased)] * 2
    again = intake.submit(LEAD, {"idempotency_key": "another"}, account="default")
    assert (again.id, again.state, again.created, again.duplicate_of) == (keyed.id, "duplicate", False, erased)
    assert queue.claim().opened == ()


def test_a_batch_finds_the_same_by_any_driver(queue: Queue, database: Database, database_url: str) -> None:
    erased_lead(queue, database)
    bulk = Bulk(database, Bell(), SCREENING)

    assert bulk.submit_many([LEAD, {**LEAD, "campaign_id": 43}], account="default").duplicates == 1
    engine = create_engine(make_url(database_url).set(drivername="postgresql+psycopg2"))
    with engine.begin() as session:
        assert bulk.submit_many([LEAD], account="default", session=session).duplicates == 1
    engine.dispose()
    assert queue.states() == {"duplicate": 2, "pending": 1}


def test_what_would_have_been_allowed_before_still_is(queue: Queue, database: Database) -> None:
    queue.record(rejected(queue.claimed(3)))
    Erasure(database, KEYED).erase(phone(3), actor="bob")
    erased_lead(queue, database)
    intake = Intake(database, Bell(), SCREENING)

    for lead in (
        {**LEAD, "campaign_id": 43},
        {**LEAD, "allow_dupplicate": True},
        {**LEAD, "phone_number": BOB},
        {**LEAD, "phone_number": phone(3)},
    ):
        assert intake.submit(lead, {}, account="default").state == "pending"
    assert intake.submit(LEAD, {}, account="other").state == "pending"


def test_what_a_producer_without_the_key_submits_the_claim_does_not_send(queue: Queue, database: Database) -> None:
    erased_lead(queue, database)
    lead_id = Intake(database, Bell()).submit(LEAD, {}, account="default").id
    other = Intake(database, Bell()).submit({**LEAD, "allow_dupplicate": True}, {}, account="default").id
    recorder = Recorder(
        database, CHANNEL, SETTINGS, worker="test:1", uniform=lambda a, _: a, clock=lambda: 0.0, screening=SCREENING
    )

    opened = recorder.turn((), ids(2)).opened

    assert [one.lead_id for one in opened] == [other]
    row = queue.lead(lead_id)
    assert (row.state, row.failure_class, row.attempts) == ("failed", "blocked", 0)
    assert row.last_error == SENTENCE
    assert not queue.rows("SELECT FROM dispatcher.lead_attempts WHERE lead_id = :id", id=lead_id)


@pytest.mark.parametrize("even_if_called", [False, True])
def test_what_a_claim_held_as_a_repetition_is_not_replayed(
    queue: Queue, database: Database, even_if_called: bool
) -> None:
    erased_lead(queue, database)
    repeated = Intake(database, Bell()).submit(LEAD, {}, account="default").id
    Recorder(
        database, CHANNEL, SETTINGS, worker="test:1", uniform=lambda a, _: a, clock=lambda: 0.0, screening=SCREENING
    ).turn((), ids(2))
    failures = Failures(database, Bell(), SCREENING)

    with pytest.raises(NotAllowed, match=r"was erased.*allow_dupplicate true"):
        failures.replay(repeated, actor="bob", even_if_called=even_if_called)
    assert queue.lead(repeated).state == "failed"
    preview = Operations(database, SCREENING).preview(OperationKind.REPLAY, [repeated])
    assert (preview.safe, preview.rivals) == (0, 1)
    failures.resolve(repeated, "dismissed", note="erased", actor="bob")


def test_a_worker_without_the_key_sends_nothing_once_somebody_was_erased(queue: Queue, database: Database) -> None:
    erased_lead(queue, database)
    queue.put(2)

    assert queue.claim().opened == ()
    with database.transaction() as connection:
        claim = Claimer(CHANNEL, SETTINGS, "test:1", screening=SCREENING).claim(connection, ids(1))
    assert len(claim.opened) == 1


def test_another_key_than_the_first_one_is_refused(queue: Queue, database: Database) -> None:
    erased_lead(queue, database)
    queue.put(2)

    with pytest.raises(NotConfigured, match="another DISPATCHER_PRIVACY_KEY"):
        Erasure(database, Pseudonyms("another key of the tests, which is not it")).erase(BOB, actor="bob")
    assert queue.states() == {"pending": 1}


def test_the_hashes_go_when_keys_go(queue: Queue, database: Database) -> None:
    erased_lead(queue, database)
    with database.transaction() as connection:
        assert erased_hashes.prune(connection, datetime.now(UTC) - timedelta(days=1), most=9) == 0
        assert erased_hashes.prune(connection, datetime.now(UTC) + timedelta(days=1), most=9) == 1


_NO_TEXT_OF_PEOPLE = {
    "accounts": {"name", "base_url", "terms", "terms_by"},
    "encryption_keys": {"id"},
    "erased_leads": {"account"},
    "alerts": {"kind", "cause", "account", "reason", "result"},
    "api_keys": {"account", "mapping", "prefix", "rate_limit"},
    "audit_log": {"action", "db_user"},
    "blocks": {"account"},
    "channels": {"account", "rate_limit"},
    "database_roles": {"part", "name"},
    "failed_leads": {"account", "failure_class", "fingerprint", "resolution"},
    "gates": {"account", "state", "reason"},
    "idempotency_keys": {"account", "payload_hash", "state"},
    "imports": {"account"},
    "inbox": {"state", "account"},
    "incidents": {"kind"},
    "lead_attempts": {"account", "outcome", "token", "reference"},
    "lead_contacts": {"account"},
    "lead_revisions": {"payload_hash"},
    "leads": {"account", "state", "failure_class", "payload_hash"},
    "operation_leads": {"outcome"},
    "operations": {"accounts", "kind", "state"},
    "saved_filters": {"page"},
    "privacy_key": {"id"},
    "submitters": {"login", "accounts"},
    "sweeps": {"name", "holder", "timeline"},
    "tallies": {"name", "account", "label"},
    "webhook_mappings": {"account", "country", "name"},
    "workers": {"name"},
}
"""Names, states, hashes and ids that the program writes: no person's text gets there."""


def test_what_was_submitted_by_sql_is_erased_before_it_is_a_lead(
    queue: Queue, database: Database, erasure: Erasure
) -> None:
    """In whatever form the number was given; of others' leads only the contact goes."""
    taking = Taking(database, Bell(), lambda: NO_KEY)
    others = {"phone_number": BOB, "campaign_id": 42, "variables": {"n": 1.5}}
    for given in (
        {"phone_number": "+1 (202) 555-0101", "campaign_id": 42},
        {"phone_number": ADA, "campaign_id": "x"},
        others | {"secondary_contacts": [{"phone_number": phone(3)}, {"phone_number": ADA, "variables": {"a": 1}}]},
    ):
        queue.run("SELECT dispatcher.submit_lead(CAST(:lead AS jsonb))", lead=json.dumps(given))
    told = People(database).held_of(ADA, actor="ada").as_dict()
    assert [row["lead"]["phone_number"] for row in told["held"]["inbox"]] == ["+1 (202) 555-0101", ADA]
    assert [one["where"] for one in told["mentioned"]] == ["lead.secondary_contacts[1].phone_number"]

    erased = erasure.erase(ADA, actor="bob")

    assert erased.rows["inbox"] == 3
    assert names_ada(database) == []
    (kept,) = queue.rows("SELECT lead FROM dispatcher.inbox")
    assert kept.lead == others | {"secondary_contacts": [{"phone_number": phone(3)}]}
    taking.step()
    assert queue.states() == {"pending": 1}
    queue.run(
        "SELECT dispatcher.submit_lead(CAST(:lead AS jsonb))", lead=json.dumps({"phone_number": ADA, "campaign_id": 7})
    )
    taking.step()
    assert queue.states() == {"pending": 2}, "who was never called is not kept from it"


@pytest.mark.parametrize("keyed", [True, False], ids=["key", "no key"])
def test_a_block_outlives_the_erasure_of_its_person_by_a_hash_or_is_named_as_left(
    queue: Queue, database: Database, keyed: bool
) -> None:
    pseudonyms = KEYED if keyed else Pseudonyms(None)
    listed = Blocks(database, pseudonyms)
    for account in (None, "sales"):
        listed.add(ADA, BlockTerms("ada", reason=f"she wrote from {ADA}", account=account))
    dossier = People(database, pseudonyms).held_of(ADA, actor="ada").as_dict()
    assert len(dossier["held"]["blocks"]) == 2

    erased = Erasure(database, pseudonyms).erase(ADA, actor="ada")

    assert listed.is_blocked(ADA, "default")
    rows = queue.rows("SELECT number, reason FROM dispatcher.blocks")
    assert len(rows) == 2
    assert not any(ADA in (row.reason or "") for row in rows)
    assert {row.number for row in rows} == ({None} if keyed else {ADA})
    assert any("2 blocks keep the number" in one.what for one in erased.left) is not keyed
    if keyed:
        assert len(People(database, pseudonyms).held_of(ADA, actor="ada").as_dict()["held"]["blocks"]) == 2


def test_every_column_of_the_schema_is_either_searched_or_known_to_hold_no_text_of_people() -> None:
    schema = (Path(__file__).parents[1] / "migration" / "schema.sql").read_text()
    columns: dict[str, set[str]] = {}
    for block in re.findall(r"^TABLE (.*?)(?=^TABLE |^VIEW |\Z)", schema, flags=re.MULTILINE | re.DOTALL):
        found = re.findall(r"^    (\w+) (?:text|jsonb|character varying)\b", block, flags=re.MULTILINE)
        columns[block.split()[0]] = set(found)
    for place in PLACES:
        assert {*place.texts, *place.jsons} <= columns[place.table]
        columns[place.table] -= {*place.texts, *place.jsons}
    for names in columns.values():
        names -= {"phone_number", "number"}
    del columns["alembic_version"]
    known = {table: names for table, names in _NO_TEXT_OF_PEOPLE.items() if names}
    assert {table: names for table, names in columns.items() if names} == known
