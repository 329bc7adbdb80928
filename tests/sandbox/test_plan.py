"""Which request meets which fault: rules, phone suffixes, chance, and the control endpoint."""

import re
from pathlib import Path
from typing import Any

import pytest

from dispatcher.errors import NotConfigured
from dispatcher.sandbox.fault import Call, FaultName, Rule, rules_from_json
from dispatcher.sandbox.plan import SUFFIX_FAULTS, Chaos, FaultPlan, SuffixFaults
from tests.sandbox.client import Start, lead

POST = Call("POST", "+12025550100", 42)
MANUAL = Path(__file__).parents[2] / "docs" / "sandbox.md"


def struck(rule: Rule | None) -> FaultName | None:
    return None if rule is None else rule.fault


def fired(plan: FaultPlan, calls: list[Call]) -> list[bool]:
    return [plan.pick(call) is not None for call in calls]


def test_a_rule_strikes_once_from_the_nth_match_on() -> None:
    plan = FaultPlan((Rule(fault=FaultName.HANG, nth=2),))
    assert fired(plan, [POST] * 3) == [False, True, False]


def test_a_rule_strikes_as_often_as_told() -> None:
    assert fired(FaultPlan((Rule(fault=FaultName.HANG, times=2),)), [POST] * 3) == [True, True, False]
    assert fired(FaultPlan((Rule(fault=FaultName.HANG, times=None),)), [POST] * 5) == [True] * 5


def test_nth_counts_requests_that_an_earlier_rule_took() -> None:
    plan = FaultPlan((Rule(fault=FaultName.HANG), Rule(fault=FaultName.RESET, nth=2)))
    assert [struck(plan.pick(POST)), struck(plan.pick(POST))] == [FaultName.HANG, FaultName.RESET]


@pytest.mark.parametrize(
    ("rule", "call", "expected"),
    [
        (Rule(fault=FaultName.HANG), Call("GET", None, None), False),
        (Rule(fault=FaultName.HANG, method="GET"), Call("GET", None, None), True),
        (Rule(fault=FaultName.HANG, method="ANY"), Call("GET", None, None), True),
        (Rule(fault=FaultName.STALE), POST, False),
        (Rule(fault=FaultName.STALE), Call("GET", None, None), True),
        (Rule(fault=FaultName.HANG, phone="0100$"), POST, True),
        (Rule(fault=FaultName.HANG, phone="0101$"), POST, False),
        (Rule(fault=FaultName.HANG, phone="0100$"), Call("POST", None, 42), False),
        (Rule(fault=FaultName.HANG, campaign=42), POST, True),
        (Rule(fault=FaultName.HANG, campaign=43), POST, False),
    ],
)
def test_a_rule_strikes_only_what_meets_all_its_conditions(rule: Rule, call: Call, expected: Any) -> None:
    assert expected == rule.matches(call)


def test_a_cleared_plan_strikes_nothing() -> None:
    plan = FaultPlan((Rule(fault=FaultName.HANG, times=None),))
    plan.clear()
    assert fired(plan, [POST]) == [False]


@pytest.mark.parametrize(
    "text",
    [
        "{",
        '{"fault": "nonsense"}',
        '{"fault": "hang", "nht": 2}',
        '{"fault": "hang", "nth": 0}',
        '{"fault": "hang", "times": 0}',
        '{"fault": "hang", "phone": "("}',
        '{"fault": "redirect"}',
        '{"fault": "late", "answer": "401"}',
        '{"fault": "stale", "method": "POST"}',
        '{"fault": "no-id", "method": "GET"}',
    ],
)
def test_a_rule_that_could_never_work_is_refused_at_once(text: str) -> None:
    with pytest.raises(NotConfigured):
        rules_from_json(text)


def test_rules_come_alone_or_in_a_list() -> None:
    assert [Rule(fault=FaultName.HANG)] == rules_from_json('{"fault": "hang"}')
    assert len(rules_from_json('[{"fault": "hang"}, {"fault": "500", "when": "before"}]')) == 2


def test_a_suffix_strikes_the_first_post_of_a_number_and_spares_the_next() -> None:
    source = SuffixFaults()
    call = Call("POST", "+12025550181", 42)
    assert struck(source.pick(call)) is FaultName.HANG
    assert source.pick(call) is None
    assert source.pick(Call("POST", "+12025550181", 43)) is not None


def test_a_suffix_with_a_final_refusal_strikes_always() -> None:
    source = SuffixFaults()
    call = Call("POST", "+12025550192", 42)
    assert [struck(source.pick(call)) for _ in range(3)] == [FaultName.UNPROCESSABLE] * 3


def test_other_numbers_and_the_list_are_spared_by_suffixes() -> None:
    source = SuffixFaults()
    assert source.pick(POST) is None
    assert source.pick(Call("GET", "+12025550181", 42)) is None


def test_suffixes_are_off_unless_asked_for(start: Start) -> None:
    body = lead("+12025550192")
    assert start().post(body).status_code == 200
    assert start(phone_suffixes=True).post(body).status_code == 422


def test_the_manual_lists_every_suffix_and_every_fault() -> None:
    manual = MANUAL.read_text()
    table = dict(re.findall(r"^\| …(\d{4}) \| `([^`]+)`", manual, re.MULTILINE))
    assert table == {suffix: str(rule.fault) for suffix, rule in SUFFIX_FAULTS.items()}
    assert [fault for fault in FaultName if f"`{fault}`" not in manual] == []


def draws(seed: int, probability: float = 0.3, count: int = 200) -> list[Rule | None]:
    chaos = Chaos(probability, seed, 0.5)
    return [chaos.pick(POST) for _ in range(count)]


def test_chaos_is_repeatable_by_its_seed() -> None:
    assert draws(7) == draws(7)
    assert draws(7) != draws(8)


def test_chaos_strikes_about_as_often_as_told() -> None:
    assert 30 < sum(rule is not None for rule in draws(1)) < 90
    assert not any(draws(1, 0.0))
    assert all(draws(1, 1.0))


def test_chaos_never_says_yes_for_a_lead_that_is_not_there_nor_refuses_for_good() -> None:
    final = {FaultName.UNPROCESSABLE, FaultName.DUPLICATE, FaultName.UNAUTHORIZED, FaultName.FORBIDDEN}
    yes = {FaultName.CUT_BODY, FaultName.NO_ID, FaultName.NOT_JSON, FaultName.BAD_GZIP}
    for rule in draws(3, 1.0, 2000):
        assert rule is not None
        assert rule.fault not in final
        assert not (rule.fault in yes and rule.strikes_before)


def test_control_adds_tells_and_clears(start: Start) -> None:
    api = start()
    added = api.control("POST", "faults", {"fault": "500", "times": None})
    assert added.status_code == 201
    assert api.post().status_code == 500
    state = api.control("GET", "state").json()
    assert (state["leads"], state["next_id"]) == (1, 2)
    assert state["faults"] == [{"fault": "500", "times": None, "fired": 1}]
    assert api.control("DELETE", "faults").json()["faults"] == []
    assert api.post(lead(allow_dupplicate=True)).status_code == 200


def test_control_refuses_a_bad_rule_with_a_reason(start: Start) -> None:
    answer = start().control("POST", "faults", {"fault": "nonsense"})
    assert answer.status_code == 422
    assert "fault" in answer.json()["message"]


def test_control_is_not_a_request_of_the_log(start: Start) -> None:
    api = start()
    api.control("GET", "state")
    assert api.sandbox.log == []


def test_control_can_be_switched_off(start: Start) -> None:
    assert start(control=False).control("GET", "state").status_code in (401, 404)


@pytest.mark.parametrize("remote", [None, "10.0.0.7", "192.0.2.1", "::2", "not an address"])
def test_control_hears_only_this_machine(remote: str | None) -> None:
    from dispatcher.sandbox.control import _from_this_machine

    assert not _from_this_machine(remote)
    assert _from_this_machine("127.0.0.1")
    assert _from_this_machine("::1")
