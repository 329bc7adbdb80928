"""The real statements in any order: Hypothesis claims, records, ends leases, looks up and replays on real Postgres.

What must hold whatever the order: one open attempt per person, a lead in doubt holds its attempt open, and a lead is
claimed again only when every earlier claim of it is proven to have had no effect, or a person said so.
"""

import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from sqlalchemy import text

from dispatcher.decisions.outcome import Kind
from dispatcher.decisions.states import State
from dispatcher.delivery import late_answers, results
from dispatcher.delivery.claimed import Claimed
from dispatcher.lookup import doubts
from dispatcher.operator.replay import ReplayTerms, replay_each
from dispatcher.store.trouble import StatementRefused
from dispatcher.sweep import repairs
from tests.database.queue import Queue, accepted, rejected, result, unknown

PERSONS = 3
UNSHRUNK = (Phase.generate,)  # of what is broken on purpose the first example is good enough
IN_DOUBT = ("unknown", "created_id_unknown")


class StoreMachine(RuleBasedStateMachine):
    """Leads of few persons, and what may be done to them in any order."""

    queue: Queue  # set by the test; one database for all examples

    def __init__(self) -> None:
        super().__init__()
        self.queue.run("TRUNCATE dispatcher.leads, dispatcher.incidents CASCADE")
        self.claims: list[Claimed] = []
        self.overruled: set[uuid.UUID] = set()
        self.ids = iter(range(1001, 100_000))

    @rule(person=st.integers(0, PERSONS - 1), flag=st.booleans())
    def submit(self, person: int, *, flag: bool) -> None:
        try:
            self.queue.put(person, allow_dupplicate=flag)
        except StatementRefused as refusal:
            _expect(refusal, "leads_one_live")

    @rule(most=st.integers(1, 4))
    def claim(self, most: int) -> None:
        self.queue.run("UPDATE dispatcher.leads SET due_at = now() WHERE state = 'pending'")
        for one in self.queue.claim(most).opened:
            self._check_promise(one)
            self.claims.append(one)

    @rule(data=st.data(), how=st.sampled_from(["yes", "no", "lost", "no id", "not sent", "duplicate"]))
    def answer(self, data: st.DataObject, how: str) -> None:
        """The result of any claim ever made, in time or late, perhaps for the second time."""
        if not self.claims:
            return
        claimed = data.draw(st.sampled_from(self.claims))
        match how:
            case "yes":
                row = accepted(claimed, next(self.ids))
            case "no":
                row = rejected(claimed)
            case "lost":
                row = unknown(claimed)
            case "no id":
                row = result(claimed, State.UNKNOWN, Kind.CREATED_ID_UNKNOWN)
            case "not sent":
                row = result(claimed, State.PENDING, Kind.NOT_SENT)
            case _:
                row = result(claimed, State.DUPLICATE, Kind.DUPLICATE)
        with self.queue.database.transaction() as connection:
            if row.claimed.attempt_id not in results.record(connection, [row]).attempt_ids:
                late_answers.use(connection, row)

    @rule()
    def end_leases(self) -> None:
        self.queue.run("UPDATE dispatcher.leads SET lease_until = now() - interval '1 s' WHERE state = 'sending'")
        with self.queue.database.transaction() as connection:
            repairs.end_leases(connection, repairs.leases_run_out(connection), settle_seconds=0.0)

    @rule(data=st.data(), step=st.sampled_from(["accept", "resend", "fail", "duplicate", "again"]))
    def look_up(self, data: st.DataObject, step: str) -> None:
        doubtful = self._leads("state = 'unknown' OR failure_class = 'outcome_unknown'")
        if not doubtful:
            return
        lead = data.draw(st.sampled_from(doubtful))
        try:
            with self.queue.database.transaction() as connection:
                (doubt,) = doubts.take_named(connection, [lead.id])
                held = doubts.hold(connection, doubt)
                assert held is not None
                self._take_step(connection, held, step)
        except StatementRefused as refusal:
            _expect(refusal, "leads_one_live", "leads_voicery_lead_id")

    def _take_step(self, connection: Any, held: doubts.InDoubt, step: str) -> None:
        match step:
            case "accept":
                found = {"voicery_lead_id": next(self.ids), "voicery_status": None, "contacts": (), "why": "Found."}
                doubts.accept(connection, held, **found)
            case "resend" if held.outcome == "unknown" and held.state is State.UNKNOWN and not held.resends:
                now = datetime.now(UTC).isoformat()
                doubts.note(connection, held, {"proof": True, "lookups": [{"at": now, "verdict": "absent"}]})
                assert doubts.resend(connection, held, proven=True)
            case "fail":
                doubts.fail(connection, held, "Held.", cause="test")
            case "duplicate":
                doubts.duplicate(connection, held, "Refused.")
            case _:
                doubts.look_again(connection, held, seconds=0.0)

    @rule(data=st.data())
    def replay(self, data: st.DataObject) -> None:
        failed = self._leads("state = 'failed'")
        if not failed:
            return
        lead = data.draw(st.sampled_from(failed))
        try:
            with self.queue.database.transaction() as connection:
                for facts in replay_each(connection, [lead.id], ReplayTerms("test", even_if_called=True)).replayed:
                    if facts.in_doubt_since is not None:
                        self.overruled.add(lead.id)
        except StatementRefused as refusal:
            _expect(refusal, "leads_one_live")

    @invariant()
    def one_open_attempt_per_person(self) -> None:
        rows = self.queue.rows(
            "SELECT phone_number FROM dispatcher.lead_attempts WHERE finished_at IS NULL"
            " GROUP BY phone_number HAVING count(*) > 1"
        )
        assert rows == []

    @invariant()
    def what_is_on_its_way_or_in_doubt_holds_its_attempt_open(self) -> None:
        rows = self.queue.rows(
            "SELECT lead.id FROM dispatcher.leads AS lead LEFT JOIN dispatcher.lead_attempts AS attempt"
            " ON attempt.id = lead.attempt_id AND attempt.finished_at IS NULL"
            " WHERE (lead.state IN ('sending', 'unknown')) <> (attempt.id IS NOT NULL)"
        )
        assert rows == []

    @invariant()
    def a_failed_lead_has_exactly_one_open_failure(self) -> None:
        rows = self.queue.rows(
            "SELECT lead.id FROM dispatcher.leads AS lead LEFT JOIN dispatcher.failed_leads AS failure"
            " ON failure.lead_id = lead.id AND failure.resolved_at IS NULL"
            " WHERE (lead.state = 'failed') <> (failure.id IS NOT NULL)"
        )
        assert rows == []

    def _check_promise(self, claimed: Claimed) -> None:
        if claimed.lead_id in self.overruled:
            return
        earlier = self.queue.rows(
            "SELECT outcome, evidence FROM dispatcher.lead_attempts WHERE lead_id = :id AND id <> :attempt_id",
            id=claimed.lead_id,
            attempt_id=claimed.attempt_id,
        )
        for attempt in earlier:
            assert attempt.outcome != "accepted"
            assert attempt.outcome not in IN_DOUBT or attempt.evidence.get("proof") is True

    def _leads(self, where: str) -> list[Any]:
        return list(self.queue.rows(f"SELECT id FROM dispatcher.leads WHERE {where} ORDER BY id"))


def _expect(refusal: StatementRefused, *constraints: str) -> None:
    """These constraints may refuse; anything else is a fault."""
    if refusal.constraint not in constraints:
        raise refusal


@pytest.fixture
def machine(queue: Queue) -> Iterator[type[StoreMachine]]:
    StoreMachine.queue = queue
    yield StoreMachine
    del StoreMachine.queue


def run(machine: type[StoreMachine], examples: int, phases: Sequence[Phase] = tuple(Phase)) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            phases=phases,
            stateful_step_count=30,
            deadline=None,
            database=None,
            print_blob=False,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_no_order_of_statements_breaks_a_promise(machine: type[StoreMachine]) -> None:
    run(machine, 40)


def test_it_is_noticed_that_a_lease_end_becomes_pending(
    machine: type[StoreMachine], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = str(repairs._END_LEASES).replace("SET state = 'unknown'", "SET state = 'pending'")
    assert broken != str(repairs._END_LEASES)
    monkeypatch.setattr(repairs, "_END_LEASES", text(broken))
    with pytest.raises(AssertionError):
        run(machine, 200, UNSHRUNK)
