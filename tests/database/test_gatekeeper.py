"""Pausing and resuming: nothing is claimed after a pause is committed, and a person's pause only a person ends."""

import threading
import uuid

import pytest

from dispatcher.decisions.outcome import Reason
from dispatcher.delivery import claims
from dispatcher.errors import NotAllowed
from dispatcher.operator.pause import GateKeeper
from tests.database.queue import claim
from tests.support.rows import BOB, Rows
from tests.support.waiting import wait_until

ACTOR = "ada@ops-1"


@pytest.fixture
def keeper(rows: Rows) -> GateKeeper:
    return GateKeeper(rows.database)


def claimed(rows: Rows) -> int:
    with rows.database.transaction() as connection:
        claims.hold_pauses(connection, "default")
        return len(claim(connection).opened)


def close_gate(rows: Rows, campaign_id: int | None, reason: str) -> None:
    rows.run(
        "INSERT INTO dispatcher.gates (account, campaign_id, state, reason, failures, closings, until)"
        " VALUES ('default', :campaign_id, 'closed', :reason, 5, 2, now() + interval '5 min')",
        campaign_id=campaign_id,
        reason=reason,
    )


@pytest.mark.parametrize("campaign_id", [42, None], ids=["campaign", "account"])
def test_a_pause_holds_and_a_resume_lets_go(keeper: GateKeeper, rows: Rows, campaign_id: int | None) -> None:
    rows.lead("pending")

    assert keeper.pause(campaign_id, "default", reason="wrong script", actor=ACTOR) == 0
    assert claimed(rows) == 0

    resumed = keeper.resume(campaign_id, "default", actor=ACTOR)

    assert [(one.campaign_id, one.reason) for one in resumed.opened] == [(campaign_id, Reason.PAUSED)]
    assert claimed(rows) == 1
    assert [(action, subject) for _, action, subject, _ in rows.audited()] == [
        ("pause", "account:default" if campaign_id is None else "account:default/campaign:42"),
        ("resume", "account:default" if campaign_id is None else "account:default/campaign:42"),
    ]


def test_another_campaign_goes_on(keeper: GateKeeper, rows: Rows) -> None:
    rows.lead("pending")

    keeper.pause(7, "default", reason=None, actor=ACTOR)

    assert claimed(rows) == 1


def test_a_pause_says_how_many_are_still_on_their_way(keeper: GateKeeper, rows: Rows) -> None:
    rows.lead("sending", attempt_id=uuid.uuid4())
    rows.lead("sending", attempt_id=uuid.uuid4(), phone=BOB, campaign_id=7)

    assert keeper.pause(42, "default", reason="lunch", actor=ACTOR) == 1
    assert keeper.pause(None, "default", reason="lunch", actor=ACTOR) == 2


def test_a_pause_waits_for_the_claim_that_began_before_it(keeper: GateKeeper, rows: Rows) -> None:
    rows.lead("pending")
    on_their_way: list[int] = []

    with rows.database.transaction() as connection:
        claims.hold_pauses(connection, "default")
        thread = threading.Thread(
            target=lambda: on_their_way.append(keeper.pause(42, "default", reason="stop", actor=ACTOR))
        )
        thread.start()
        wait_until(
            lambda: rows.one("SELECT count(*) AS n FROM pg_locks WHERE locktype = 'advisory' AND NOT granted").n,
            describe="the pause to wait for the claim",
        )
        assert len(claim(connection).opened) == 1
    thread.join(timeout=60)

    # It was committed before the pause, so the pause knows of it.
    assert on_their_way == [1]


def test_a_pause_replaces_what_the_machine_had_closed(keeper: GateKeeper, rows: Rows) -> None:
    close_gate(rows, 42, "outage")

    keeper.pause(42, "default", reason="wrong script", actor=ACTOR)

    gate = rows.one("SELECT * FROM dispatcher.gates WHERE campaign_id = 42")
    assert (gate.state, gate.reason, gate.until, gate.by, gate.note) == (
        "closed",
        "paused",
        None,
        ACTOR,
        "wrong script",
    )
    assert rows.audited()[0][3]["was_reason"] == "outage"


def test_a_resume_opens_whatever_the_machine_had_closed(keeper: GateKeeper, rows: Rows) -> None:
    rows.lead("pending")
    close_gate(rows, 42, "rejecting")

    assert [one.reason for one in keeper.resume(42, "default", actor=ACTOR).opened] == [Reason.REJECTING]

    gate = rows.one("SELECT * FROM dispatcher.gates WHERE campaign_id = 42")
    assert (gate.state, gate.failures, gate.closings, gate.until) == ("open", 0, 0, None)
    assert claimed(rows) == 1


def test_resuming_an_account_opens_its_campaigns_but_those_a_person_paused(keeper: GateKeeper, rows: Rows) -> None:
    close_gate(rows, None, "misconfigured")
    close_gate(rows, 7, "misconfigured")
    keeper.pause(42, "default", reason="wrong script", actor=ACTOR)

    resumed = keeper.resume(None, "default", actor=ACTOR)

    assert [one.campaign_id for one in resumed.opened] == [None, 7]
    assert resumed.still_paused == (42,)
    assert rows.one("SELECT state FROM dispatcher.gates WHERE campaign_id = 42").state == "closed"


def test_resuming_a_campaign_leaves_its_account_closed(keeper: GateKeeper, rows: Rows) -> None:
    close_gate(rows, None, "unauthorized")
    close_gate(rows, 42, "outage")

    keeper.resume(42, "default", actor=ACTOR)

    assert rows.one("SELECT state FROM dispatcher.gates WHERE campaign_id IS NULL").state == "closed"


def test_resuming_what_is_open_does_nothing(keeper: GateKeeper) -> None:
    assert keeper.resume(None, "default", actor=ACTOR).opened == ()


@pytest.mark.parametrize("campaign_id", [0, -1, 2**63])
def test_an_impossible_campaign_is_refused(keeper: GateKeeper, campaign_id: int) -> None:
    with pytest.raises(NotAllowed, match="as Voicery shows it"):
        keeper.pause(campaign_id, "default", reason=None, actor=ACTOR)
    with pytest.raises(NotAllowed, match="as Voicery shows it"):
        keeper.resume(campaign_id, "default", actor=ACTOR)


def test_an_impossible_account_is_refused(keeper: GateKeeper) -> None:
    with pytest.raises(NotAllowed):
        keeper.pause(None, "Not An Account", reason=None, actor=ACTOR)
