"""Look-ups on a real Postgres: what a scripted list says, and what becomes of leads, attempts, gates and incidents."""

import uuid
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from dispatcher.config.settings import Settings
from dispatcher.decisions.absence import OnUnknown, Step, Verdict
from dispatcher.decisions.outcome import Kind
from dispatcher.decisions.reply import Reply, WireFault
from dispatcher.decisions.states import State
from dispatcher.delivery.claimed import Claimed
from dispatcher.lookup.lookup import LookUpRun
from tests.database.queue import Queue, accepted, phone, result, unknown
from tests.support.doubles import Bell, Rate

SETTLE = 10.0
CAMPAIGN = 42
Rows = list[Mapping[str, Any]]


class List:
    """Voicery's list by script: rows by number; `meanwhile` happens between question and answer."""

    def __init__(self) -> None:
        self.rows: dict[str, Rows] = {}
        self.campaign: Rows = []
        self.broken: Reply | None = None
        self.asked: list[str | None] = []
        self.meanwhile: Callable[[], None] = lambda: None

    def list_leads(self, *, campaign_id: int | None, phone_number: str | None, page: int, per_page: int) -> Reply:
        self.asked.append(phone_number)
        self.meanwhile()
        if self.broken is not None:
            return self.broken
        if phone_number is None:
            rows = sorted(self.campaign, key=lambda one: one["id"], reverse=True)
        else:
            rows = self.rows.get("+" + phone_number, [])
        shown = rows[(page - 1) * per_page : page * per_page]
        return Reply(
            status=200,
            body={
                "data": shown,
                "current_page": page,
                "last_page": max(1, -(-len(rows) // per_page)),
                "per_page": per_page,
                "total": len(rows),
            },
        )


class Case:
    """One database with leads in doubt, and the look-ups of one account."""

    def __init__(self, queue: Queue) -> None:
        self.queue = queue
        self.list = List()
        self.rate = Rate(1000, next_in_seconds=7.0)
        self.bell = Bell()

    def in_doubt(
        self, number: int = 0, *, settles: float = 1.0, outcome: Kind = Kind.UNKNOWN, before: bool = True, **lead: Any
    ) -> Claimed:
        """A lead whose POST ended so many settle times ago; due now. `before`: another one was accepted before it."""
        if before and not self.list.campaign:
            earlier = self.control(49, 900)
            self.age(earlier, settles + 1)
            self.queue.run(
                "UPDATE dispatcher.leads SET finished_at = finished_at - make_interval(secs => :ago) WHERE id = :id",
                id=earlier.lead_id,
                ago=(settles + 1) * SETTLE,
            )
        claimed = self.queue.claimed(number, **lead)
        self.queue.record(unknown(claimed) if outcome is Kind.UNKNOWN else result(claimed, State.UNKNOWN, outcome))
        self.age(claimed, settles)
        return claimed

    def age(self, claimed: Claimed, settles: float) -> None:
        self.queue.run(
            "UPDATE dispatcher.lead_attempts SET started_at = now() - make_interval(secs => :ago + 1),"
            " ended_at = now() - make_interval(secs => :ago) WHERE id = :id",
            id=claimed.attempt_id,
            ago=settles * SETTLE,
        )
        self.queue.run("UPDATE dispatcher.leads SET due_at = now() WHERE id = :id", id=claimed.lead_id)

    def later(self, settles: float) -> None:
        """So many settle times pass: everything written moves into the past."""
        self.queue.run(
            "UPDATE dispatcher.lead_attempts SET started_at = started_at - :s, ended_at = ended_at - :s,"
            " evidence = CASE WHEN evidence ? 'lookups' THEN evidence || jsonb_build_object('lookups',"
            "   (SELECT jsonb_agg(one || jsonb_build_object('at', CAST(one ->> 'at' AS timestamptz) - :s))"
            "    FROM jsonb_array_elements(evidence -> 'lookups') AS one)) ELSE evidence END".replace(
                ":s", "make_interval(secs => :seconds)"
            ),
            seconds=settles * SETTLE,
        )
        self.queue.run(
            "UPDATE dispatcher.leads SET finished_at = finished_at - make_interval(secs => :seconds)",
            seconds=settles * SETTLE,
        )
        self.queue.run("UPDATE dispatcher.leads SET due_at = now() WHERE state = 'unknown'")

    def control(self, number: int = 50, voicery_lead_id: int = 2000, *, listed: bool = True) -> Claimed:
        """A lead that was accepted just now; the list shows it."""
        claimed = self.queue.claimed(number)
        self.queue.record(accepted(claimed, voicery_lead_id))
        if listed:
            self.list.campaign.append(row(phone(number), voicery_lead_id))
        return claimed

    def resolution(self, **values: Any) -> LookUpRun:
        settings = Settings(settle_seconds=SETTLE, unknown_for_seconds=30 * SETTLE, run_for_seconds=5)
        return LookUpRun(
            self.queue.database,
            settings.model_copy(update=values),
            self.list,
            self.rate,
            self.bell,
            account="default",
            clock=lambda: 0.0,
            stopping=lambda: False,
        )

    def run(self, **values: Any) -> int:
        return self.resolution(**values).run()

    def hold(self, doubt: Claimed) -> None:
        """Look until patience is over."""
        for _ in range(2):
            self.run(unknown_for_seconds=SETTLE, on_unknown=OnUnknown.HOLD)
            self.later(1)
        assert self.queue.lead(doubt.lead_id).state == "failed"

    def incidents(self) -> list[str]:
        return [one.kind for one in self.queue.rows("SELECT kind FROM dispatcher.incidents ORDER BY id")]


def row(number: str, voicery_lead_id: int, **more: Any) -> dict[str, Any]:
    return {
        "id": voicery_lead_id,
        "campaign_id": CAMPAIGN,
        "phone_number": number,
        "status": "created",
        "variables": {"customer_name": "Ada"},
        **more,
    }


@pytest.fixture
def case(queue: Queue) -> Case:
    return Case(queue)


def test_what_is_found_is_accepted_with_its_id_and_the_evidence(case: Case) -> None:
    doubt = case.in_doubt()
    case.list.rows[phone(0)] = [row(phone(0), 1001)]
    assert case.run() == 1

    lead, attempt = case.queue.lead(doubt.lead_id), case.queue.attempt(doubt.attempt_id)
    assert (lead.state, lead.voicery_lead_id, lead.voicery_status) == ("accepted", 1001, "created")
    assert (attempt.outcome, attempt.finished_at is not None) == ("accepted", True)
    assert [one["verdict"] for one in attempt.evidence["lookups"]] == ["match"]
    assert attempt.evidence["decision"] == "accept"


def test_the_list_is_asked_for_digits(case: Case) -> None:
    case.in_doubt()
    case.run()
    assert case.list.asked[0] == phone(0).removeprefix("+")


def test_absent_twice_with_a_control_is_sent_again_once(case: Case) -> None:
    doubt = case.in_doubt()
    case.control()
    case.run()
    assert case.queue.lead(doubt.lead_id).state == "unknown"

    case.later(1)
    case.run()
    lead, attempt = case.queue.lead(doubt.lead_id), case.queue.attempt(doubt.attempt_id)
    assert (lead.state, lead.resends) == ("pending", 1)
    assert (attempt.evidence["proof"], attempt.finished_at is not None) == (True, True)
    assert case.bell.rung == [("default", CAMPAIGN)]

    (again,) = case.queue.claim().opened
    assert again.lead_id == doubt.lead_id
    case.queue.record(unknown(again))
    for settles in (1, 1, 1):
        case.later(settles)
        case.run()
    assert case.queue.lead(doubt.lead_id).state == "unknown", "never a second time by itself"


def test_without_a_control_it_is_looked_for_at_growing_intervals_and_then_held(case: Case) -> None:
    doubt = case.in_doubt()
    waits = []
    while case.queue.lead(doubt.lead_id).state == "unknown":
        case.run()
        (one,) = case.queue.rows(
            "SELECT extract(epoch FROM due_at - now()) AS wait FROM dispatcher.leads WHERE id = :id", id=doubt.lead_id
        )
        waits.append(round(float(one.wait)))
        case.later(max(1.0, waits[-1] / SETTLE))
    assert waits[:4] == [10, 20, 40, 80]
    lead = case.queue.lead(doubt.lead_id)
    assert (lead.state, lead.failure_class) == ("failed", "outcome_unknown")
    (failure,) = case.queue.rows("SELECT * FROM dispatcher.failed_leads")
    assert failure.fingerprint == "outcome_unknown:unknown:absent"


def test_a_control_that_the_list_does_not_show_is_none(case: Case) -> None:
    doubt = case.in_doubt()
    case.control(listed=False)
    for _ in range(3):
        case.run()
        case.later(1)
    assert case.queue.lead(doubt.lead_id).state == "unknown"


def test_a_control_that_was_posted_before_the_attempt_ended_is_none(case: Case) -> None:
    case.control()
    doubt = case.in_doubt(settles=0)
    for _ in range(3):
        case.later(1)
        case.run()
    assert case.queue.lead(doubt.lead_id).state == "unknown"


def test_a_possible_row_is_held_and_told_once(case: Case) -> None:
    doubt = case.in_doubt()
    case.list.rows[phone(0)] = [row(phone(0), 1001, variables={"customer_name": "Bob"})]
    case.run()
    assert case.queue.lead(doubt.lead_id).state == "failed"
    assert case.incidents() == ["possible_match"]
    (finding,) = case.resolution().look_up([doubt.lead_id])
    assert (finding.verdict, finding.decision.step) == (Verdict.POSSIBLE, Step.STAY)
    assert case.incidents() == ["possible_match"]


def test_several_matches_accept_the_smallest_and_open_an_incident(case: Case) -> None:
    doubt = case.in_doubt()
    case.list.rows[phone(0)] = [row(phone(0), 1002), row(phone(0), 1001)]
    case.run()
    assert case.queue.lead(doubt.lead_id).voicery_lead_id == 1001
    assert case.incidents() == ["called_twice"]


def test_a_row_that_another_lead_holds_is_not_ours(case: Case) -> None:
    other = case.queue.claimed(1)
    case.queue.record(accepted(other, 1001))
    doubt = case.in_doubt()
    case.queue.run("UPDATE dispatcher.lead_attempts SET watermark = 0")
    case.list.rows[phone(0)] = [row(phone(0), 1001)]
    case.run()
    assert case.queue.lead(doubt.lead_id).state == "unknown"


def test_a_lead_that_failed_is_found_later(case: Case) -> None:
    doubt = case.in_doubt()
    case.hold(doubt)
    case.list.rows[phone(0)] = [row(phone(0), 1001)]
    (finding,) = case.resolution().look_up([doubt.lead_id])
    assert (finding.verdict, finding.voicery_lead_id) == (Verdict.MATCH, 1001)
    assert case.queue.lead(doubt.lead_id).state == "accepted"
    (failure,) = case.queue.rows("SELECT * FROM dispatcher.failed_leads")
    assert failure.resolution == "found"


def test_a_lead_that_failed_is_never_sent_again_by_a_look_up(case: Case) -> None:
    doubt = case.in_doubt()
    case.control()
    case.hold(doubt)
    (finding,) = case.resolution().look_up([doubt.lead_id])
    assert (finding.decision.step, finding.decision.proof) == (Step.STAY, True)
    assert case.queue.lead(doubt.lead_id).state == "failed"
    assert case.queue.attempt(doubt.attempt_id).evidence["proof"] is True


def test_a_dismissed_lead_that_is_found_beside_a_live_one_is_an_incident(case: Case) -> None:
    doubt = case.in_doubt()
    case.hold(doubt)
    case.queue.run("UPDATE dispatcher.leads SET resolved_at = now() WHERE id = :id", id=doubt.lead_id)
    case.queue.put(0)
    case.list.rows[phone(0)] = [row(phone(0), 1001)]
    for _ in range(2):
        (finding,) = case.resolution().look_up([doubt.lead_id])
        assert finding.decision.step is Step.STAY
    assert case.queue.lead(doubt.lead_id).state == "failed"
    assert case.incidents() == ["called_twice"]
    verdicts = [one["verdict"] for one in case.queue.attempt(doubt.attempt_id).evidence["lookups"]]
    assert verdicts[-1] == "match"


def test_a_yes_that_comes_between_question_and_decision_forbids_a_resend(case: Case) -> None:
    doubt = case.in_doubt()
    case.control()
    case.run()
    case.later(1)
    case.list.meanwhile = lambda: case.queue.run(
        "UPDATE dispatcher.lead_attempts SET outcome = 'created_id_unknown' WHERE id = :id", id=doubt.attempt_id
    )
    case.run()
    assert case.queue.lead(doubt.lead_id).state == "unknown"


def test_another_look_up_that_saw_a_possible_row_meanwhile_forbids_a_resend(case: Case) -> None:
    doubt = case.in_doubt()
    case.control()
    case.run()
    case.later(1)
    seen = '{"at": "2026-01-01T00:00:00+00:00", "verdict": "possible"}'
    case.list.meanwhile = lambda: case.queue.run(
        "UPDATE dispatcher.lead_attempts SET evidence = jsonb_set(evidence, '{lookups}',"
        " (evidence -> 'lookups') || CAST(:seen AS jsonb)) WHERE id = :id",
        id=doubt.attempt_id,
        seen=seen,
    )
    case.run()
    assert case.queue.lead(doubt.lead_id).state == "unknown"
    assert "possible" in [one["verdict"] for one in case.queue.attempt(doubt.attempt_id).evidence["lookups"]]


def test_what_a_person_decided_meanwhile_stays(case: Case) -> None:
    doubt = case.in_doubt()
    case.list.rows[phone(0)] = [row(phone(0), 1001)]
    case.list.meanwhile = lambda: case.queue.run(
        "UPDATE dispatcher.leads SET state = 'failed', failure_class = 'outcome_unknown', attempt_id = :other"
        " WHERE id = :id AND state = 'unknown'",
        id=doubt.lead_id,
        other=uuid.uuid4(),
    )
    case.run()
    assert case.queue.lead(doubt.lead_id).state == "failed"


def test_without_a_permit_the_leads_are_put_back(case: Case) -> None:
    doubts = [case.in_doubt(number) for number in range(3)]
    case.rate.left = 1
    assert case.run() == 0
    for doubt in doubts:
        assert case.queue.lead(doubt.lead_id).state == "unknown"
    soon = case.queue.rows("SELECT id FROM dispatcher.leads WHERE due_at BETWEEN now() AND now() + interval '8 s'")
    assert len(soon) == 2, "the two that were not asked for, when the next permit is there"


def test_a_campaign_page_proves_presence_for_many_with_one_request(case: Case) -> None:
    doubts = [case.in_doubt(number) for number in range(5)]
    case.list.campaign = [row(phone(number), 1001 + number) for number in range(5)]
    assert case.run() == 5
    assert case.list.asked == [None]
    assert {case.queue.lead(doubt.lead_id).state for doubt in doubts} == {"accepted"}


def test_a_campaign_page_proves_no_absence(case: Case) -> None:
    doubts = [case.in_doubt(number) for number in range(5)]
    case.run()
    assert len(case.list.asked) == 1 + 5
    for doubt in doubts:
        assert [one["verdict"] for one in case.queue.attempt(doubt.attempt_id).evidence["lookups"]] == ["absent"]


@pytest.mark.parametrize("status", [404, 405])
def test_a_list_that_is_missing_is_not_asked_again(status: int, case: Case) -> None:
    case.in_doubt()
    case.list.broken = Reply(status=status)
    case.run()
    case.later(1)
    case.run()
    assert len(case.list.asked) == 1
    (account,) = case.queue.rows("SELECT list_off_until > now() AS off FROM dispatcher.accounts")
    assert account.off


@pytest.mark.parametrize(
    "broken", [Reply(status=500), Reply(fault=WireFault.READ_TIMEOUT), Reply(status=200, body="<html>")]
)
def test_a_list_that_fails_proves_nothing(broken: Reply, case: Case) -> None:
    doubt = case.in_doubt()
    case.list.broken = broken
    for _ in range(3):
        case.run()
        case.later(1)
    looks = case.queue.attempt(doubt.attempt_id).evidence["lookups"]
    assert {one["verdict"] for one in looks} == {"unavailable"}
    assert case.queue.lead(doubt.lead_id).state == "unknown"


@pytest.mark.parametrize("strange", [2000, "7f3a-uuid"])
def test_ids_that_do_not_grow_switch_the_watermark_off(strange: Any, case: Case) -> None:
    """A later lead with a smaller id, or an id that is no integer: then a row proves nothing by its id any more."""
    case.in_doubt()
    case.queue.run("UPDATE dispatcher.lead_attempts SET watermark = 5000")
    if strange == 2000:
        case.control()
    else:
        case.list.rows[phone(0)] = [row(phone(1), 1) | {"id": strange}]
    case.run()
    case.later(1)
    case.run()
    (account,) = case.queue.rows("SELECT watermark_off FROM dispatcher.accounts")
    assert account.watermark_off


def test_a_refused_duplicate_is_looked_for_on_demand_and_stays_as_it_is(case: Case) -> None:
    claimed = case.queue.claimed()
    case.queue.record(result(claimed, State.DUPLICATE, Kind.DUPLICATE))
    case.list.rows[phone(0)] = [row(phone(0), 77)]
    (finding,) = case.resolution().look_up([claimed.lead_id])
    assert (finding.voicery_lead_id, finding.decision.step) == (77, Step.STAY)
    assert case.queue.lead(claimed.lead_id).state == "duplicate"
    assert case.queue.attempt(claimed.attempt_id).evidence["existing_voicery_lead_id"] == 77


def test_leads_whose_outcome_is_known_are_left_out(case: Case) -> None:
    claimed = case.queue.claimed()
    case.queue.record(accepted(claimed))
    assert case.resolution().look_up([claimed.lead_id, uuid.uuid4()]) == []


@pytest.mark.parametrize(
    ("broken", "state"),
    [(None, "probing"), (Reply(status=404), "probing"), (Reply(status=500), "closed")],
    ids=["the list answers", "there is no list", "the list fails"],
)
def test_a_gate_whose_wait_is_over_is_probed(broken: Reply | None, state: str, case: Case) -> None:
    case.queue.put(5)
    case.queue.gate("closed", "outage", CAMPAIGN, until_in=-1.0)
    case.list.broken = broken
    case.run()
    (gate,) = case.queue.rows("SELECT state, until > now() AS waits FROM dispatcher.gates WHERE campaign_id = 42")
    assert gate.state == state
    if state == "closed":
        assert gate.waits


def test_an_account_gate_is_probed_where_nothing_waits(case: Case) -> None:
    case.queue.gate("closed", "outage", until_in=-1.0)
    case.run()
    (gate,) = case.queue.rows("SELECT state FROM dispatcher.gates")
    assert gate.state == "probing"


@pytest.mark.parametrize(
    ("reason", "broken", "others_get_through", "account_closes"),
    [
        ("outage", Reply(status=503), False, True),
        ("outage", Reply(fault=WireFault.READ_TIMEOUT), False, True),
        ("outage", Reply(status=503), True, False),
        ("outage", Reply(status=401), False, False),
        ("forbidden", Reply(status=503), False, False),
    ],
)
def test_an_outage_that_the_list_shares_closes_the_account_unless_others_get_through(
    reason: str, broken: Reply, others_get_through: bool, account_closes: bool, case: Case
) -> None:
    case.queue.gate("closed", reason, CAMPAIGN, until_in=-1)
    case.queue.run("UPDATE dispatcher.gates SET closed_at = now() - interval '5 s'")
    case.queue.put(1, "accepted", campaign_id=7, voicery_lead_id=1)
    ago = 1 if others_get_through else 60
    case.queue.run("UPDATE dispatcher.leads SET finished_at = now() - make_interval(secs => :ago)", ago=ago)
    case.list.broken = broken

    case.resolution().run()

    gates = {row.campaign_id: row for row in case.queue.rows("SELECT * FROM dispatcher.gates")}
    assert gates[CAMPAIGN].state == "closed"
    assert (None in gates and gates[None].state == "closed") is account_closes
    if account_closes:
        assert gates[None].reason == "outage"
        assert gates[None].until is not None


@pytest.mark.parametrize(("reason", "state"), [("outage", "probing"), ("unauthorized", "closed")])
def test_a_list_that_answers_one_campaign_ends_the_outage_of_its_account_too(
    reason: str, state: str, case: Case
) -> None:
    case.queue.gate("closed", reason, until_in=200)
    case.queue.gate("closed", "outage", CAMPAIGN, until_in=-1)

    case.resolution().run()

    gates = {row.campaign_id: row.state for row in case.queue.rows("SELECT * FROM dispatcher.gates")}
    assert gates == {None: state, CAMPAIGN: "probing"}
