"""`dispatcher recover` on real Postgres: what is held, what is left alone, and what a repetition does."""

import json
import os
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dispatcher.config.settings import Settings
from dispatcher.decisions.absence import OnUnknown
from dispatcher.decisions.outcome import Kind
from dispatcher.lookup import conclusion, doubts
from dispatcher.operator import holding
from tests.support.doubles import Line
from tests.support.rows import ADA, BOB, Rows

CAT, DAN, EVE = "+12025550103", "+12025550104", "+12025550105"
SINCE = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=30)


def recover(run: Line, *more: str) -> dict[str, Any]:
    (one,) = run.json("recover", "--since", SINCE.isoformat(), *more)["items"]
    return dict(one)


def accepted(rows: Rows, phone: str, voicery_lead_id: int) -> uuid.UUID:
    """A lead that was accepted before the backup, with its attempt's token and reference."""
    attempt_id = uuid.uuid4()
    lead_id = rows.lead("accepted", phone=phone, attempt_id=attempt_id, voicery_lead_id=voicery_lead_id)
    rows.attempt(lead_id, attempt_id, outcome="accepted", minutes_ago=60)
    rows.run(
        "UPDATE dispatcher.leads SET finished_at = :at WHERE id = :id", id=lead_id, at=SINCE - timedelta(minutes=5)
    )
    rows.run("UPDATE dispatcher.lead_attempts SET token = 'f00', reference = 'ref' WHERE id = :id", id=attempt_id)
    return lead_id


def test_what_may_have_been_sent_is_held_and_nothing_else(run: Line, rows: Rows) -> None:
    accepted(rows, EVE, 70)
    due, parked, later = rows.lead(phone=ADA), rows.lead(phone=BOB), rows.lead(phone=CAT)
    rows.run("UPDATE dispatcher.leads SET due_at = now() + interval '1 h' WHERE id IN (:a, :b)", a=parked, b=later)
    rows.run("UPDATE dispatcher.leads SET was_due_at = now(), parked_until = due_at WHERE id = :id", id=parked)
    doubtful = rows.unknown(phone=DAN)
    rows.run("""UPDATE dispatcher.lead_attempts SET evidence = '{"proof": true}' WHERE lead_id = :id""", id=doubtful)

    assert recover(run, "--dry-run")["held_now"] == 3
    assert rows.of(due).state == "pending"
    assert rows.audited() == []
    told = recover(run)

    assert (told["held_now"], told["still_held"], told["adopted"], told["released"]) == (3, 3, 0, 0)
    assert {rows.of(one).state for one in (due, parked, doubtful)} == {"unknown"}
    assert rows.of(later).state == "pending"
    attempt = rows.one(
        "SELECT *, now() AS now FROM dispatcher.lead_attempts WHERE id = :id", id=rows.of(due).attempt_id
    )
    assert (attempt.started_at, attempt.watermark, attempt.token, attempt.reference) == (SINCE, 70, "f00", "ref")
    assert attempt.ended_at > attempt.now + timedelta(seconds=60), "a claim that was lost may be sent until its lease"
    assert attempt.finished_at is None
    doubted = rows.one("SELECT * FROM dispatcher.lead_attempts WHERE lead_id = :id", id=doubtful)
    assert doubted.evidence["proof"] is False
    assert doubted.ended_at > SINCE
    assert [(action, subject) for _, action, subject, _ in rows.audited()] == [
        ("recover", "account:*"), ("recover", "account:default"), ("recovered", "account:default"),
        ("recovered", "account:*"),
    ]  # fmt: skip
    assert run.json("status")["gates"] == []
    assert "may have been sent" in rows.of(due).last_error


def test_a_claim_that_the_copy_knows_is_looked_up_after_its_own_lease(run: Line, rows: Rows) -> None:
    attempt_id = uuid.uuid4()
    sending = rows.lead("sending", phone=ADA, attempt_id=attempt_id, attempts=1)
    rows.attempt(sending, attempt_id, finished=False)
    rows.run("UPDATE dispatcher.leads SET lease_until = now() + interval '2 h' WHERE id = :id", id=sending)
    lease_until = rows.of(sending).lease_until

    recover(run)

    assert rows.of(sending).state == "unknown"
    ended = rows.one("SELECT ended_at FROM dispatcher.lead_attempts WHERE id = :id", id=attempt_id).ended_at
    assert ended == lease_until, "before that its POST may still be made"


def test_a_lead_that_comes_later_is_not_held_by_a_repetition_and_one_that_was_missed_is(
    run: Line, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holding, "BATCH", 1)
    rows.lead(phone=ADA), rows.lead(phone=BOB)
    hold, calls = holding._batch, []

    def dies(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 4:  # one each for those on their way, those in doubt, and the first that waits
            raise KeyboardInterrupt
        return hold(*arguments)

    monkeypatch.setattr(holding, "_batch", dies)
    assert run("recover", "--since", SINCE.isoformat()).exit_code == 130
    assert len(run.json("status")["gates"]) == 1, "nothing is claimed until it is done"
    new = rows.lead(phone=CAT)

    told = recover(run)

    assert (told["held_now"], told["still_held"]) == (1, 2)
    assert rows.of(new).state == "pending"
    assert run.json("status")["gates"] == []
    assert recover(run)["held_now"] == 0


def test_of_several_leads_of_a_person_one_is_looked_up_and_a_person_decides_the_others(run: Line, rows: Rows) -> None:
    several = [rows.lead(phone=ADA, allow_dupplicate=True) for _ in range(3)]

    told = recover(run)

    assert sorted(rows.of(one).state for one in several) == ["failed", "failed", "unknown"]
    assert told["still_held"] == 3
    causes = rows.rows("SELECT fingerprint FROM dispatcher.failed_leads WHERE resolved_at IS NULL")
    assert {row.fingerprint for row in causes} == {"outcome_unknown:recovered"}
    failed = next(one for one in several if rows.of(one).state == "failed")
    assert run("replay", str(failed), "--yes").exit_code == 1
    assert rows.of(failed).state == "failed", "not sent without a proof"


def test_what_an_operator_had_begun_is_not_done_again(run: Line, rows: Rows) -> None:
    rows.failed(phone=ADA)
    rows.run("UPDATE dispatcher.failed_leads SET failed_at = :at", at=SINCE - timedelta(days=1))
    rows.run(
        "INSERT INTO dispatcher.operations (id, kind, actor, total) VALUES (:id, 'replay', 'ada', 1)", id=uuid.uuid4()
    )
    run.ok("pause", "--reason", "restored")

    told = recover(run)

    assert rows.one("SELECT state FROM dispatcher.operations").state == "stopped"
    assert (told["failed"], told["paused"]) == (1, True)
    (gate,) = run.json("status")["gates"]
    assert gate["note"] == "restored"


def test_what_waits_in_the_inbox_is_held_too(run: Line, rows: Rows) -> None:
    lead = json.dumps({"phone_number": ADA, "campaign_id": 42})
    lead_id = rows.one("SELECT dispatcher.submit_lead(CAST(:lead AS jsonb)) AS id", lead=lead).id

    assert recover(run, "--dry-run")["held_now"] == 1
    assert recover(run)["held_now"] == 1
    assert rows.of(lead_id).state == "unknown"


def test_a_recovered_lead_is_sent_only_with_a_proof_whatever_the_setting_says(run: Line, rows: Rows) -> None:
    doubtful = rows.unknown(phone=ADA)
    ordinary = rows.lead(phone=BOB)
    recover(run)
    settings = Settings.from_environment({**os.environ, "DISPATCHER_ON_UNKNOWN": "resend"})
    with rows.database.transaction() as connection:
        found = {one.lead_id: one for one in doubts.take_named(connection, [doubtful, ordinary])}
    resend = conclusion.circumstances(found[doubtful], settings)
    assert (resend.kind, resend.on_unknown) == (Kind.UNKNOWN, OnUnknown.AUTO)
    assert found[ordinary].granted == "policy", "sending it once its absence is proven is no resend"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--since", "2999-01-01"), "lies ahead"),
        (("--since", "soon"), "--since"),
        (("--since", "2h", "--account", "No Such"), "not a name of an account"),
        (("--since", "2h", "--account", "defualt"), "no lead of the account defualt; give one of these: default"),
        ((), "--since"),
        (("--since", "2h", "--nothing-lost"), "--nothing-lost alone"),
        (("--nothing-lost", "--account", "default"), "--nothing-lost alone"),
    ],
)
def test_a_wrong_time_or_account_is_refused_and_nothing_is_held(
    run: Line, rows: Rows, arguments: tuple[str, ...], said: str
) -> None:
    waiting = rows.lead()
    refused = run("recover", *arguments)
    assert refused.exit_code in (1, 2)
    assert said in refused.stderr + str(refused.exception)
    assert rows.of(waiting).state == "pending"


def test_health_and_doctor_say_that_this_is_another_server_until_it_is_said_that_nothing_was_lost(
    run: Line, rows: Rows
) -> None:
    waiting = rows.lead()
    rows.run("UPDATE dispatcher.sweeps SET timeline = '9' || dispatcher.this_timeline(), timeline_at = now()")

    def told() -> tuple[bool, str]:
        faults = json.loads(run("health", "--json").stdout)["faults"]
        checks = json.loads(run("doctor", "--json").stdout)["items"]
        (timeline,) = (check for check in checks if check["name"] == "Timeline")
        return any("--nothing-lost" in fault for fault in faults), timeline["verdict"]

    assert told() == (True, "bad")
    assert "Nothing is held" in run.ok("recover", "--nothing-lost")
    assert told() == (False, "good")
    assert rows.of(waiting).state == "pending"
