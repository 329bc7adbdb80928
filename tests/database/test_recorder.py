"""The recorder: what was learned is kept until Postgres has it, and gates learn from every outcome."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Connection, text

from dispatcher.decisions.hints import RateHints
from dispatcher.decisions.outcome import Kind, Outcome, Reason, Scope, Signal
from dispatcher.decisions.reply import CreatedContact
from dispatcher.delivery import results
from dispatcher.delivery.claimed import Claimed
from dispatcher.delivery.recorder import STILL_IN_DOUBT, Recorder
from dispatcher.delivery.results import NOTICE, Finished
from dispatcher.errors import StoreUnavailable
from dispatcher.lead.options import Channel
from dispatcher.store.database import Database
from dispatcher.store.trouble import StatementRefused
from tests.database.queue import CHANNEL, SETTINGS, Queue, ids
from tests.support.doubles import logged

RecorderOf = Callable[..., Recorder]


@pytest.fixture
def recorder_of(database: Database) -> RecorderOf:
    def make(of: Database = database, channel: Channel = CHANNEL, **more: Any) -> Recorder:
        return Recorder(
            of,
            channel,
            SETTINGS,
            worker="test:1",
            uniform=lambda low, high: high,
            clock=time.monotonic,
            **more,
        )

    return make


@pytest.fixture
def recorder(recorder_of: RecorderOf) -> Recorder:
    return recorder_of()


def claimed_by(recorder: Recorder, wanted: int = 1) -> tuple[Claimed, ...]:
    return recorder.turn((), ids(wanted)).opened


def finished(claimed: Claimed, kind: Kind = Kind.ACCEPTED, **more: Any) -> Finished:
    retry_after_seconds = more.pop("retry_after_seconds", None)
    if kind is Kind.ACCEPTED:
        more.setdefault("voicery_lead_id", claimed.attempt_id.int % 2**40 + 1)
    now = time.monotonic()
    return Finished(claimed, Outcome(kind, "A sentence.", **more), now, now, RateHints(retry_after_seconds))


OUTAGE = Signal(Reason.OUTAGE, Scope.CHANNEL)
REJECTING = Signal(Reason.REJECTING, Scope.CHANNEL)
NO_NETWORK = Signal(Reason.OUTAGE, Scope.ACCOUNT)


def test_a_claim_that_was_released_without_its_standby_is_given_back_and_made_again(
    queue: Queue, recorder_of: RecorderOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Commits that wait when `synchronous_standby_names` is emptied are confirmed, and no sweep has noted it yet."""
    queue.put()
    noted = "UPDATE dispatcher.sweeps SET timeline = dispatcher.this_timeline(), synchronous = :covered"
    recorder, past_piles = recorder_of(covered=True), Recorder._past_piles

    def committed(*arguments: Any) -> Any:
        queue.run(noted, covered=True)
        return past_piles(*arguments)

    with monkeypatch.context() as waiting:
        waiting.setattr(Recorder, "_past_piles", committed)
        with pytest.raises(StoreUnavailable, match="no standby any more"):
            claimed_by(recorder)
    queue.run(noted, covered=False)

    (claimed,) = claimed_by(recorder)

    ends = queue.rows("SELECT outcome FROM dispatcher.lead_attempts ORDER BY started_at, id")
    assert [row.outcome for row in ends] == ["given_back", None]
    assert queue.attempt(claimed.attempt_id).outcome is None


# Poison ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("poison", ["\x00", "\ud800"])
def test_a_result_that_cannot_be_stored_loses_its_words_and_no_other_result(
    queue: Queue, recorder: Recorder, poison: str
) -> None:
    leads = [queue.put(number) for number in range(3)]
    good, bad, other = claimed_by(recorder, 3)

    recorder.turn(
        [
            finished(good),
            finished(bad, voicery_lead_id=7, voicery_status=poison, response=poison, evidence={"a": poison}),
            finished(other),
        ],
        (),
    )

    assert [queue.lead(one).state for one in leads] == ["accepted"] * 3
    lead = queue.lead(bad.lead_id)
    assert (lead.voicery_lead_id, lead.voicery_status) == (7, None)
    assert queue.attempt(bad.attempt_id).response == NOTICE
    assert recorder.owes == 0


def test_a_result_that_postgres_refuses_whatever_it_says_is_given_up_by_name(
    queue: Queue, recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    leads = [queue.put(number) for number in range(2)]
    good, bad = claimed_by(recorder, 2)
    queue.run(
        "CREATE FUNCTION dispatcher.refuse() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN IF NEW.id = '{bad.lead_id}' THEN RAISE 'refused by a test'; END IF; RETURN NEW; END $$"
    )
    queue.run(
        "CREATE TRIGGER refuse BEFORE UPDATE ON dispatcher.leads FOR EACH ROW EXECUTE FUNCTION dispatcher.refuse()"
    )

    recorder.turn([finished(good), finished(bad)], ())

    assert sorted(queue.lead(one).state for one in leads) == ["accepted", "sending"]
    assert recorder.owes == 0
    assert logged(caplog, "recording.abandoned") == [
        {
            "lead_id": str(bad.lead_id),
            "attempt_id": str(bad.attempt_id),
            "account": "default",
            "campaign_id": 42,
            "reason": "refused",
        }
    ]


def test_poison_in_a_contact_costs_its_status_only(queue: Queue, recorder: Recorder) -> None:
    lead_id = queue.put()
    queue.run(
        "INSERT INTO dispatcher.lead_contacts (lead_id, position, account, phone_number)"
        " VALUES (:id, 0, 'default', '+12025550199')",
        id=lead_id,
    )
    (claimed,) = claimed_by(recorder)

    recorder.turn([finished(claimed, contacts=(CreatedContact(0, 77, "\x00"),))], ())

    assert queue.lead(lead_id).state == "accepted"
    (contact,) = queue.rows("SELECT * FROM dispatcher.lead_contacts")
    assert (contact.voicery_lead_id, contact.voicery_status) == (77, None)


def test_three_bugs_fail_a_lead_however_often_it_was_tried_besides(queue: Queue, recorder: Recorder) -> None:
    lead_id = queue.put()
    kinds = [Kind.NOT_SENT, Kind.NOT_SENT, Kind.BUG, Kind.NOT_SENT, Kind.BUG, Kind.BUG]
    states = []
    for kind in kinds:
        (claimed,) = claimed_by(recorder)
        recorder.turn([finished(claimed, kind)], ())
        queue.run("UPDATE dispatcher.leads SET due_at = now() WHERE state = 'pending'")
        states.append(queue.lead(lead_id).state)

    assert states == ["pending"] * 5 + ["failed"]
    assert queue.lead(lead_id).failure_class == "bug"


def test_a_refusal_after_a_resend_without_proof_leaves_the_lead_in_doubt(queue: Queue, recorder: Recorder) -> None:
    lead_id = queue.put()
    (first,) = claimed_by(recorder)
    recorder.turn([finished(first, Kind.UNKNOWN)], ())
    queue.run("UPDATE dispatcher.lead_attempts SET finished_at = now()")  # as `--even-if-called` leaves it
    queue.run("UPDATE dispatcher.leads SET state = 'pending', due_at = now()")
    (second,) = claimed_by(recorder)

    recorder.turn([finished(second, Kind.REJECTED, fingerprint="rejected:x")], ())

    lead = queue.lead(lead_id)
    assert (lead.state, lead.failure_class) == ("failed", "outcome_unknown")
    (failure,) = queue.rows("SELECT fingerprint, message FROM dispatcher.failed_leads")
    assert failure.fingerprint == "outcome_unknown:rejected:x"
    assert failure.message == f"A sentence. {STILL_IN_DOUBT}"


def test_one_id_for_two_persons_is_two_acceptances_and_an_incident(queue: Queue, recorder: Recorder) -> None:
    queue.put(0)
    queue.put(1)
    one, other = claimed_by(recorder, 2)

    recorder.turn([finished(one, voicery_lead_id=7), finished(other, voicery_lead_id=7)], ())

    # An id that another person's lead holds frees nobody: both were accepted, and a person must look.
    assert queue.states() == {"accepted": 2}
    assert [row.voicery_lead_id for row in queue.rows("SELECT voicery_lead_id FROM dispatcher.leads")].count(7) == 1
    assert len(queue.rows("SELECT kind FROM dispatcher.incidents")) == 1


def test_a_result_that_postgres_never_takes_is_left_to_its_lease(
    queue: Queue, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue.put(0)
    queue.put(1)
    bad, good = claimed_by(recorder, 2)
    record = results.record

    def refusing(connection: Connection, rows: Any) -> Any:
        if any(row.claimed.lead_id == bad.lead_id for row in rows):
            raise StatementRefused("22P05", None)
        return record(connection, rows)

    monkeypatch.setattr(results, "record", refusing)
    recorder.turn([finished(bad), finished(good)], ())

    assert (queue.lead(bad.lead_id).state, queue.lead(good.lead_id).state) == ("sending", "accepted")
    assert recorder.owes == 0


def test_a_claim_that_is_refused_costs_no_result(queue: Queue, recorder: Recorder) -> None:
    queue.put(0)
    (claimed,) = claimed_by(recorder)
    queue.put(1)
    queue.run("""
        CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '23514'; END $$;
        CREATE TRIGGER refuse BEFORE INSERT ON dispatcher.lead_attempts FOR EACH ROW EXECUTE FUNCTION public.refuse();
    """)

    turn = recorder.turn([finished(claimed)], ids(1))

    assert (turn.opened, turn.drained) == ((), True)
    assert queue.lead(claimed.lead_id).state == "accepted"


# Together -------------------------------------------------------------------------------------------------------------


def test_plain_acceptances_and_the_next_claim_share_one_commit(queue: Queue, recorder: Recorder) -> None:
    for number in range(4):
        queue.put(number)
    old = claimed_by(recorder, 2)

    new = recorder.turn([finished(one) for one in old], ids(2)).opened

    rows = queue.rows(
        "SELECT id, finished_at IS NULL AS open, CAST(xmin AS text) AS written_by FROM dispatcher.lead_attempts"
    )
    assert {row.id for row in rows if row.open} == {one.attempt_id for one in new}
    assert queue.states() == {"accepted": 2, "sending": 2}
    assert len({row.written_by for row in rows}) == 1


def test_the_next_lead_of_a_person_goes_in_the_turn_that_ends_the_one_before(queue: Queue, recorder: Recorder) -> None:
    first, second = (queue.put(0, allow_dupplicate=True) for _ in range(2))
    (before,) = claimed_by(recorder)
    assert before.lead_id == first

    (after,) = recorder.turn([finished(before)], ids(1)).opened

    assert after.lead_id == second


def test_poison_beside_a_claim_costs_its_words_and_neither_the_other_results_nor_the_claim(
    queue: Queue, recorder: Recorder
) -> None:
    for number in range(3):
        queue.put(number)
    good, bad = claimed_by(recorder, 2)

    opened = recorder.turn([finished(good), finished(bad, voicery_status="\x00")], ids(1)).opened

    assert queue.states() == {"accepted": 2, "sending": 1}
    assert len(opened) == 1


def test_a_turn_whose_commit_was_not_acknowledged_keeps_its_results_and_gives_its_claims_back(
    queue: Queue, database: Database, recorder_of: RecorderOf
) -> None:
    unsure = Unsure(database)
    recorder = recorder_of(unsure)
    queue.put(0)
    waiting = queue.put(1, due_in=60.0)
    (claimed,) = claimed_by(recorder)
    queue.run("UPDATE dispatcher.leads SET due_at = now() WHERE state = 'pending'")
    unsure.failing = True
    with pytest.raises(StoreUnavailable):
        recorder.turn([finished(claimed)], ids(1))
    assert queue.lead(waiting).state == "sending"
    assert recorder.owes == 2

    unsure.failing = False
    assert recorder.turn((), ()).opened == ()

    assert (queue.lead(claimed.lead_id).state, queue.lead(waiting).state) == ("accepted", "pending")
    assert (queue.lead(waiting).attempts, recorder.owes) == (0, 0)


# A store that fails ---------------------------------------------------------------------------------------------------


class Unsure(Database):
    """Does what it is asked and then, while `failing`, says that nobody knows; or says so at once, while `away`."""

    def __init__(self, real: Database) -> None:
        self._real = real
        self.failing = False
        self.away = False

    @contextmanager
    def _wrapped(self, kind: str) -> Iterator[Connection]:
        if self.away:
            raise StoreUnavailable("away")
        with getattr(self._real, kind)() as connection:
            yield connection
        if self.failing:
            raise StoreUnavailable("cut")

    def transaction(self) -> Any:
        return self._wrapped("transaction")

    def autocommit(self) -> Any:
        return self._wrapped("autocommit")


def test_results_are_kept_while_the_store_is_away_and_written_when_it_is_back(
    queue: Queue, database: Database, recorder_of: RecorderOf
) -> None:
    unsure = Unsure(database)
    recorder = recorder_of(unsure)
    queue.put()
    (claimed,) = claimed_by(recorder)
    unsure.away = True
    with pytest.raises(StoreUnavailable):
        recorder.turn([finished(claimed)], ())
    assert recorder.owes == 1

    unsure.away = False
    recorder.turn((), ())

    assert (queue.lead(claimed.lead_id).state, recorder.owes) == ("accepted", 0)


@pytest.mark.parametrize("kind", [Kind.ACCEPTED, Kind.REJECTED, Kind.UNKNOWN, Kind.NOT_SENT, Kind.THROTTLED])
def test_a_result_whose_commit_was_not_acknowledged_is_written_once(
    queue: Queue, database: Database, recorder_of: RecorderOf, kind: Kind
) -> None:
    unsure = Unsure(database)
    recorder = recorder_of(unsure)
    queue.put()
    (claimed,) = claimed_by(recorder)
    row = finished(claimed, kind)
    unsure.failing = True
    with pytest.raises(StoreUnavailable):
        recorder.turn([row], ())
    before = queue.lead(claimed.lead_id)
    assert before.state != "sending"

    unsure.failing = False
    recorder.turn((), ())

    assert queue.lead(claimed.lead_id) == before
    assert queue.rows("SELECT * FROM dispatcher.incidents") == []
    assert len(queue.rows("SELECT * FROM dispatcher.failed_leads")) == (kind is Kind.REJECTED)


def test_a_claim_whose_commit_was_not_acknowledged_is_given_back_and_never_posted(
    queue: Queue, database: Database, recorder_of: RecorderOf
) -> None:
    unsure = Unsure(database)
    recorder = recorder_of(unsure)
    lead_id = queue.put()
    unsure.failing = True
    with pytest.raises(StoreUnavailable):
        recorder.turn((), ids(1))
    assert queue.lead(lead_id).state == "sending"
    assert recorder.owes > 0

    unsure.failing = False
    assert recorder.turn((), ()).opened == ()

    lead = queue.lead(lead_id)
    assert (lead.state, lead.attempts, recorder.owes) == ("pending", 0, 0)


def test_a_lead_that_somebody_holds_locked_costs_no_result(
    queue: Queue, database: Database, recorder_of: RecorderOf
) -> None:
    recorder = recorder_of(Impatient(database))
    queue.put()
    (claimed,) = claimed_by(recorder)
    with database.transaction() as other:
        other.execute(text("SELECT FROM dispatcher.leads FOR UPDATE"))
        with pytest.raises(StoreUnavailable, match="long transaction"):
            recorder.turn([finished(claimed, Kind.UNKNOWN)], ())
        assert recorder.owes == 1
    recorder.turn((), ())

    assert queue.lead(claimed.lead_id).state == "unknown"


class Impatient(Database):
    """Waits 20 ms for a lock."""

    def __init__(self, real: Database) -> None:
        self._real = real

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        with self._real.transaction() as connection:
            connection.execute(text("SET LOCAL lock_timeout = '20ms'"))
            yield connection

    def autocommit(self) -> Any:
        return self._real.autocommit()


# Gates ----------------------------------------------------------------------------------------------------------------


def gate(queue: Queue, campaign_id: int | None = 42) -> Any:
    rows = queue.rows(
        "SELECT *, extract(epoch FROM until - now()) AS wait FROM dispatcher.gates"
        " WHERE account = 'default' AND campaign_id IS NOT DISTINCT FROM CAST(:id AS bigint)",
        id=campaign_id,
    )
    return rows[0] if rows else None


def test_five_failures_close_the_channel_and_cost_the_leads_nothing(queue: Queue, recorder: Recorder) -> None:
    for number in range(6):
        queue.put(number)
    claimed = claimed_by(recorder, 5)

    recorder.turn([finished(one, Kind.NOT_SENT, signal=NO_NETWORK) for one in claimed], ())

    assert (gate(queue, None).state, gate(queue, None).reason) == ("closed", "outage")
    assert {queue.lead(one.lead_id).attempts for one in claimed} == {0}
    assert claimed_by(recorder) == ()


def test_ten_equal_refusals_close_the_channel(queue: Queue, recorder: Recorder) -> None:
    for number in range(11):
        queue.put(number)

    recorder.turn(
        [finished(one, Kind.REJECTED, signal=REJECTING, fingerprint="f") for one in claimed_by(recorder, 10)], ()
    )

    assert (gate(queue).state, gate(queue).reason) == ("closed", "rejecting")
    assert queue.states() == {"failed": 10, "pending": 1}


def test_a_throttled_account_waits_as_long_as_voicery_asked(queue: Queue, recorder: Recorder) -> None:
    queue.put()
    (claimed,) = claimed_by(recorder)

    throttled = Signal(Reason.THROTTLED, Scope.ACCOUNT)
    recorder.turn([finished(claimed, Kind.THROTTLED, signal=throttled, retry_after_seconds=60.0)], ())

    account, lead = gate(queue, None), queue.lead(claimed.lead_id)
    assert (account.state, account.reason, float(account.wait)) == ("closed", "throttled", pytest.approx(60, abs=5))
    assert (lead.state, lead.attempts, (lead.due_at - lead.updated_at).total_seconds()) == ("pending", 0, 60)


def test_three_closed_channels_close_the_account(queue: Queue, recorder_of: RecorderOf) -> None:
    forbidden = Signal(Reason.FORBIDDEN, Scope.CHANNEL)
    for number, campaign_id in enumerate([5, 6, 7]):
        assert gate(queue, None) is None or gate(queue, None).state == "open"
        queue.put(number, campaign_id=campaign_id)
        recorder = recorder_of(channel=Channel("default", campaign_id))
        (claimed,) = claimed_by(recorder)
        recorder.turn([finished(claimed, Kind.FORBIDDEN, signal=forbidden)], ())

    assert (gate(queue, None).state, gate(queue, None).reason) == ("closed", "forbidden")


def test_a_success_writes_no_gate_that_has_nothing_to_forget(queue: Queue, recorder: Recorder) -> None:
    queue.put()
    recorder.turn([finished(one) for one in claimed_by(recorder)], ())

    assert gate(queue) is None


def test_a_success_forgets_the_failures_before_it(queue: Queue, recorder: Recorder) -> None:
    for number in range(5):
        queue.put(number)
    *failed, good = claimed_by(recorder, 5)
    recorder.turn([finished(one, Kind.UNKNOWN, signal=OUTAGE) for one in failed], ())
    assert gate(queue).failures == 4

    recorder.turn([finished(good)], ())

    assert (gate(queue).failures, gate(queue).state) == (0, "open")


# Probing --------------------------------------------------------------------------------------------------------------


def test_while_a_gate_probes_exactly_one_lead_goes_however_many_ask(queue: Queue, recorder_of: RecorderOf) -> None:
    for number in range(20):
        queue.put(number)
    queue.gate("probing", "outage", 42)

    with ThreadPoolExecutor(6) as pool:
        taken = [one for opened in pool.map(lambda _: claimed_by(recorder_of(), 4), range(6)) for one in opened]

    assert len(taken) == 1
    assert queue.states() == {"sending": 1, "pending": 19}


def test_while_an_account_probes_exactly_one_lead_of_all_its_channels_goes(
    queue: Queue, recorder_of: RecorderOf
) -> None:
    for number in range(6):
        queue.put(number, campaign_id=number + 1)
    queue.gate("probing", "outage")

    def claim(campaign_id: int) -> tuple[Claimed, ...]:
        return claimed_by(recorder_of(channel=Channel("default", campaign_id)), 4)

    with ThreadPoolExecutor(6) as pool:
        taken = [one for opened in pool.map(claim, range(1, 7)) for one in opened]

    assert len(taken) == 1


def test_the_probing_lead_opens_the_gate_by_its_acceptance(queue: Queue, recorder: Recorder) -> None:
    for number in range(3):
        queue.put(number)
    queue.gate("probing", "outage", 42)
    (claimed,) = claimed_by(recorder, 4)
    assert claimed_by(recorder, 4) == ()

    recorder.turn([finished(claimed)], ())

    assert gate(queue).state == "open"
    assert len(claimed_by(recorder, 4)) == 2


def test_the_probing_lead_closes_the_gate_by_its_failure(queue: Queue, recorder: Recorder) -> None:
    queue.put(0)
    queue.put(1)
    queue.gate("probing", "outage", 42)
    (claimed,) = claimed_by(recorder, 4)

    recorder.turn([finished(claimed, Kind.UNKNOWN, signal=OUTAGE)], ())

    assert gate(queue).state == "closed"
    assert claimed_by(recorder, 4) == ()


# The rest -------------------------------------------------------------------------------------------------------------


def test_a_duplicate_after_an_attempt_in_doubt_is_looked_up(queue: Queue, recorder: Recorder) -> None:
    queue.put()
    (first,) = claimed_by(recorder)
    recorder.turn([finished(first, Kind.UNKNOWN)], ())
    queue.run("UPDATE dispatcher.leads SET state = 'pending', due_at = now() - interval '1 s'")
    queue.run("UPDATE dispatcher.lead_attempts SET finished_at = now()")
    (second,) = claimed_by(recorder)

    recorder.turn([finished(second, Kind.DUPLICATE)], ())

    assert queue.lead(first.lead_id).state == "unknown"
    attempt = queue.attempt(second.attempt_id)
    assert (attempt.outcome, attempt.finished_at) == ("duplicate", None)


def test_the_first_acceptance_binds_the_account_and_no_other_rebinds_it(queue: Queue, recorder_of: RecorderOf) -> None:
    for number, url in enumerate(["https://one.example/api", "https://two.example/api"]):
        queue.put(number)
        recorder = recorder_of(pin_to=url)
        recorder.turn([finished(one) for one in claimed_by(recorder)], ())

    (account,) = queue.rows("SELECT name, base_url FROM dispatcher.accounts")
    assert tuple(account) == ("default", "https://one.example/api")


def test_nothing_but_an_acceptance_binds_the_account(queue: Queue, recorder_of: RecorderOf) -> None:
    queue.put()
    recorder = recorder_of(pin_to="https://one.example/api")
    recorder.turn([finished(one, Kind.REJECTED, signal=REJECTING) for one in claimed_by(recorder)], ())

    assert queue.rows("SELECT * FROM dispatcher.accounts WHERE base_url IS NOT NULL") == []


def test_an_answer_after_the_lease_is_adopted(queue: Queue, recorder: Recorder) -> None:
    queue.put()
    (claimed,) = claimed_by(recorder)
    queue.run("UPDATE dispatcher.leads SET state = 'unknown', lease_until = NULL")
    queue.run("UPDATE dispatcher.lead_attempts SET outcome = 'unknown', error = 'lease_expired'")

    recorder.turn([finished(claimed)], ())

    assert queue.lead(claimed.lead_id).state == "accepted"


def test_an_answer_of_an_attempt_that_was_replaced_is_an_incident_and_moves_nothing(
    queue: Queue, recorder: Recorder
) -> None:
    queue.put()
    (first,) = claimed_by(recorder)
    queue.run("UPDATE dispatcher.leads SET state = 'unknown', lease_until = NULL")
    queue.run("UPDATE dispatcher.leads SET state = 'pending', due_at = now() - interval '1 s'")
    queue.run("UPDATE dispatcher.lead_attempts SET outcome = 'unknown', finished_at = now()")
    (second,) = claimed_by(recorder)

    recorder.turn([finished(first)], ())

    lead = queue.lead(first.lead_id)
    assert (lead.state, lead.attempt_id) == ("sending", second.attempt_id)
    assert [row.kind for row in queue.rows("SELECT kind FROM dispatcher.incidents")] == ["late_answer"]
