"""A replay in the database: its three statements, sets of leads, facts that change meanwhile, and rings."""

import itertools
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest import mock

import psycopg
import pytest
from sqlalchemy import text

from dispatcher.decisions.states import FailureClass
from dispatcher.operator import lead_facts
from dispatcher.operator.failure_filter import FailureFilter
from dispatcher.operator.operation_work import OperationKind
from dispatcher.operator.operations import Operations
from dispatcher.operator.preview import Preview
from dispatcher.operator.replay import BATCH, Failures
from tests.support.doubles import Bell
from tests.support.rows import ADA, BOB, Rows
from tests.support.waiting import wait_until

ACTOR = "ada@ops-1"


@contextmanager
def statements() -> Iterator[list[str]]:
    """What the driver sends meanwhile, but BEGIN and COMMIT, which it sends with the others."""
    sent: list[str] = []
    execute = psycopg.Cursor.execute

    def counting(cursor: Any, query: Any, *args: Any, **more: Any) -> Any:
        sent.append(" ".join(str(query).split()))
        return execute(cursor, query, *args, **more)

    with mock.patch.object(psycopg.Cursor, "execute", counting):
        yield sent


def number(index: int) -> str:
    return f"+44770090{index:04d}"


# Statements -----------------------------------------------------------------------------------------------------------


def test_a_replay_takes_three_statements(failures: Failures, rows: Rows) -> None:
    first, lead_id = rows.failed(phone=BOB), rows.failed(expires_at=datetime(2100, 1, 1, tzinfo=UTC))
    failures.replay(first, actor=ACTOR)  # the first connection asks a few questions of its own
    seen = rows.failure_of(lead_id).id

    with statements() as sent:
        failures.replay(lead_id, actor=ACTOR, not_before=timedelta(hours=1), failure_id=seen)

    assert len(sent) == 3, sent
    assert ["FOR NO KEY UPDATE" in sent[0], "UPDATE dispatcher.leads" in sent[1], "audit_log" in sent[2]] == [True] * 3
    assert rows.of(lead_id).state == "pending"


def test_a_refused_replay_takes_one(failures: Failures, rows: Rows) -> None:
    lead_id = rows.failed_unknown()
    failures.replay_all([lead_id], actor=ACTOR)

    with statements() as sent:
        failures.replay_all([lead_id], actor=ACTOR, dry_run=True)

    assert len(sent) == 1, sent


def test_fifty_leads_take_as_many_statements_as_one(failures: Failures, rows: Rows) -> None:
    leads = [rows.failed(phone=number(index)) for index in range(BATCH + 1)]
    failures.replay_all(leads[:1], actor=ACTOR)

    with statements() as sent:
        failures.replay_all(leads[1:], actor=ACTOR)

    assert len([one for one in sent if "SAVEPOINT" not in one]) == 3, sent
    assert rows.one("SELECT count(*) AS n FROM dispatcher.leads WHERE state = 'pending'").n == BATCH + 1
    assert len(rows.audited()) == BATCH + 1


# Rings ----------------------------------------------------------------------------------------------------------------


def test_a_bulk_replay_rings_once_a_channel(failures: Failures, rows: Rows, bell: Bell) -> None:
    leads = [rows.failed(phone=number(index), campaign_id=42 + index % 2) for index in range(2 * BATCH + 5)]
    leads.append(rows.failed_unknown(campaign_id=99))

    done = failures.replay_all(leads, actor=ACTOR)

    assert len(done.replayed) == 2 * BATCH + 5
    assert sorted(bell.rung) == [("default", 42), ("default", 43)]


def test_leads_that_were_committed_are_rung_for_although_the_rest_fails(
    failures: Failures, rows: Rows, bell: Bell
) -> None:
    leads = [rows.failed(phone=number(index)) for index in range(BATCH + 1)]

    def fail() -> None:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        failures.replay_all(leads, actor=ACTOR, progress=fail)

    assert rows.one("SELECT count(*) AS n FROM dispatcher.leads WHERE state = 'pending'").n == BATCH
    assert bell.rung == [("default", 42)]


# Sets -----------------------------------------------------------------------------------------------------------------


def test_of_one_person_in_a_set_one_lead_is_replayed_and_the_dry_run_says_which(failures: Failures, rows: Rows) -> None:
    first, second = rows.failed(), rows.failed()
    elsewhere = rows.failed(campaign_id=43)

    tried = failures.replay_all([first, second, elsewhere], actor=ACTOR, dry_run=True)
    done = failures.replay_all([first, second, elsewhere], actor=ACTOR)

    assert (done.replayed, done.refused) == (tried.replayed, tried.refused) == ((first, elsewhere), done.refused)
    ((refused, why),) = done.refused
    assert (refused, str(first) in why) == (second, True)


def test_a_rival_that_commits_meanwhile_stops_only_its_own_person(failures: Failures, rows: Rows) -> None:
    leads = [rows.failed(phone=number(index)) for index in range(5)]
    done: list[Any] = []

    with rows.database.transaction() as rival:
        rival.execute(
            text(
                "INSERT INTO dispatcher.leads (id, account, campaign_id, phone_number, state, due_at, payload_hash)"
                " VALUES (gen_random_uuid(), 'default', 42, :phone, 'pending', now(), 'h')"
            ),
            {"phone": number(3)},
        )
        thread = threading.Thread(target=lambda: done.append(failures.replay_all(leads, actor=ACTOR)))
        thread.start()
        wait_until(
            lambda: rows.one("SELECT count(*) AS n FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'").n,
            describe="the replay to wait at the index",
        )
    thread.join(timeout=60)

    (all_of_them,) = done
    assert set(all_of_them.replayed) == set(leads) - {leads[3]}
    assert [lead_id for lead_id, _ in all_of_them.refused] == [leads[3]]
    assert "already stands for this person" in all_of_them.refused[0][1]
    assert len(rows.audited()) == 4


# Facts that change while the lead is waited for ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(
            'UPDATE dispatcher.lead_attempts SET evidence = \'{"late_answer": {"outcome": "accepted"}}\''
            " WHERE lead_id = :id",
            id="a late yes",
        ),
        pytest.param(
            "UPDATE dispatcher.lead_attempts SET outcome = 'unknown', evidence = '{}' WHERE lead_id = :id",
            id="an answer is taken back",
        ),
    ],
)
def test_doubt_that_arises_while_a_replay_waits_for_the_lead_stops_it(
    failures: Failures, rows: Rows, change: str
) -> None:
    attempt_id = uuid.uuid4()
    lead_id = rows.failed(attempt_id=attempt_id)
    rows.attempt(lead_id, attempt_id, outcome="rejected", minutes_ago=5)
    done: list[Any] = []

    with rows.database.transaction() as other:
        other.execute(text("SELECT FROM dispatcher.leads WHERE id = :id FOR UPDATE"), {"id": lead_id})
        thread = threading.Thread(target=lambda: done.append(failures.replay_all([lead_id], actor=ACTOR)))
        thread.start()
        wait_until(
            lambda: rows.one("SELECT count(*) AS n FROM pg_locks WHERE NOT granted").n,
            describe="the replay to wait for the lead",
        )
        other.execute(text(change), {"id": lead_id})
    thread.join(timeout=60)

    assert "may have been called" in done[0].refused[0][1]
    assert (rows.of(lead_id).state, rows.audited()) == ("failed", [])


def test_a_failure_that_is_another_by_now_is_not_replayed(failures: Failures, rows: Rows) -> None:
    """The lead is replayed and fails once more while the second click waits for it."""
    lead_id = rows.failed()
    seen = rows.failure_of(lead_id).id
    refused: list[Exception] = []

    def click() -> None:
        try:
            failures.replay(lead_id, actor=ACTOR, failure_id=seen)
        except Exception as error:  # noqa: BLE001 - looked at below
            refused.append(error)

    with rows.database.transaction() as other:
        other.execute(text("SELECT FROM dispatcher.leads WHERE id = :id FOR UPDATE"), {"id": lead_id})
        thread = threading.Thread(target=click)
        thread.start()
        wait_until(
            lambda: rows.one("SELECT count(*) AS n FROM pg_locks WHERE NOT granted").n,
            describe="the click to wait for the lead",
        )
        other.execute(text("UPDATE dispatcher.failed_leads SET resolved_at = now(), resolution = 'replayed'"))
        other.execute(
            text(
                "INSERT INTO dispatcher.failed_leads (lead_id, account, campaign_id, phone_number, failure_class,"
                " fingerprint, message, attempts) SELECT id, account, campaign_id, phone_number, 'expired', 'f', 'm', 0"
                " FROM dispatcher.leads WHERE id = :id"
            ),
            {"id": lead_id},
        )
    thread.join(timeout=60)

    assert "meanwhile" in str(refused[0])
    assert rows.of(lead_id).state == "failed"


# The preview is the rule ---------------------------------------------------------------------------------------------


def _every_lead(rows: Rows) -> list[uuid.UUID]:
    """Leads of every kind, several of one person, in two campaigns."""
    phones = map(number, itertools.count())
    proven = {"proof": True, "lookups": [{"at": datetime.now(UTC).isoformat(), "verdict": "absent"}]}
    leads = [rows.failed(phone=BOB), rows.lead("accepted", phone=BOB), uuid.uuid4()]
    for campaign_id, doubled in itertools.product((42, 43), (False, True)):
        more: dict[str, Any] = {"campaign_id": campaign_id, "allow_dupplicate": doubled}
        # First, so that no two of a person are on both sides of an operation's batch, where the first is sent already.
        leads += [rows.failed(phone=ADA, **more) for _ in range(2)]
        leads += [
            rows.lead(one, phone=next(phones), **more) for one in ("pending", "accepted", "duplicate", "cancelled")
        ]
        leads += [rows.unknown(phone=next(phones), **more)]
        leads += [rows.failed(one, phone=next(phones), **more) for one in FailureClass]
        evidences: tuple[dict[str, Any], ...] = ({}, {"proof": True}, proven)
        leads += [rows.failed_unknown(phone=next(phones), evidence=one, **more) for one in evidences]
    return leads


@pytest.mark.parametrize("even_if_called", [False, True])
def test_preview_dry_run_replay_and_operation_agree_on_leads_of_every_kind(
    failures: Failures, rows: Rows, *, even_if_called: bool
) -> None:
    leads = _every_lead(rows)
    operations = Operations(rows.database)

    seen = operations.preview(OperationKind.REPLAY, leads, even_if_called=even_if_called)
    tried = failures.replay_all(leads, actor=ACTOR, even_if_called=even_if_called, dry_run=True)
    operation = operations.start(uuid.uuid4(), OperationKind.REPLAY, leads, actor=ACTOR, even_if_called=even_if_called)
    while operations.step():
        pass

    done = operations.get(operation.id)
    assert (seen.total, seen.safe) == (len(leads), len(tried.replayed)) == (len(leads), done.done)
    assert seen.needs_look_up + seen.refused == len(tried.refused) == done.refused
    assert seen.twins == sum("of this selection" in why for _, why in tried.refused) > 0
    assert seen.needs_look_up == sum("may have been called" in why for _, why in tried.refused)
    states = {rows.of(lead_id).state for lead_id in tried.replayed}
    assert states == {"pending"}
    assert dict(operations.refusals(operation.id)) == dict(tried.refused)


def test_a_preview_by_filter_counts_as_one_by_ids(rows: Rows) -> None:
    _every_lead(rows)
    operations = Operations(rows.database)
    open_ones = [
        row.lead_id
        for row in rows.database.read(
            lambda connection: connection.execute(
                text("SELECT lead_id FROM dispatcher.failed_leads WHERE resolved_at IS NULL ORDER BY failed_at, id")
            ).all()
        )
    ]

    for kind in OperationKind:
        assert operations.preview(kind, FailureFilter()) == operations.preview(kind, open_ones)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (OperationKind.DISMISS, Preview(total=4, safe=2, gone=2)),
        (OperationKind.LOOK_UP, Preview(total=4, safe=1, gone=1, not_in_doubt=2)),
    ],
)
def test_previews_of_the_other_actions(rows: Rows, kind: OperationKind, expected: Preview) -> None:
    leads = [rows.failed(), rows.unknown(phone=BOB), rows.lead("accepted", phone=number(1)), uuid.uuid4()]

    assert Operations(rows.database).preview(kind, leads) == expected


def test_facts_are_as_of_another_campaign(rows: Rows) -> None:
    lead_id = rows.failed()
    rival = rows.lead("accepted", campaign_id=43)

    here, there = (
        rows.database.again(lead_facts.read, [lead_id], lock=True, to_campaign=campaign)[0] for campaign in (None, 43)
    )

    assert (here.campaign_id, here.rival, there.campaign_id, there.rival) == (42, None, 43, rival)
