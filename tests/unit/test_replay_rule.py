"""The rule of replay, as a table: one fact changed at a time, in the order in which it is asked."""

import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dispatcher.decisions.states import FailureClass, State
from dispatcher.operator.lead_facts import LeadFacts
from dispatcher.operator.replay import Judge, RefusalKind, ReplayTerms, refusal

NOW = datetime(2026, 11, 23, 14, 0, tzinfo=UTC)
ONE, OTHER = uuid.UUID(int=1), uuid.UUID(int=2)
FACTS = LeadFacts(
    id=ONE,
    account="default",
    campaign_id=42,
    moves=False,
    phone_number="+12025550101",
    state=State.FAILED,
    failure_class=FailureClass.REJECTED,
    attempt_id=None,
    allow_dupplicate=False,
    dismissed=False,
    duplicate_of=None,
    expires_at=None,
    read_at=NOW,
    starts_at=NOW,
    failure_id=7,
    in_doubt_since=None,
    rival=None,
)
IN_DOUBT: dict[str, Any] = {"in_doubt_since": NOW - timedelta(hours=1)}
LATE: dict[str, Any] = {"expires_at": NOW + timedelta(hours=1), "starts_at": NOW + timedelta(hours=2)}


def kind(facts: LeadFacts, *, twin: uuid.UUID | None = None, **terms: Any) -> RefusalKind | None:
    refused = refusal(facts, ReplayTerms("ada", **terms), twin=twin)
    return None if refused is None else refused.kind


@pytest.mark.parametrize(
    ("facts", "terms", "expected"),
    [
        ({}, {}, None),
        ({"dismissed": True, "failure_id": None}, {}, None),
        *(({"state": state}, {}, RefusalKind.NOT_FAILED) for state in State if state is not State.FAILED),
        ({}, {"failure_id": 7}, None),
        ({}, {"failure_id": 6}, RefusalKind.NOT_FAILED),
        ({"failure_id": None}, {"failure_id": 7}, RefusalKind.NOT_FAILED),
        (IN_DOUBT, {}, RefusalKind.IN_DOUBT),
        (IN_DOUBT, {"even_if_called": True}, None),
        (IN_DOUBT | {"moves": True}, {"even_if_called": True}, RefusalKind.IN_DOUBT),
        ({"moves": True}, {}, None),
        ({"rival": OTHER}, {"even_if_called": True}, RefusalKind.RIVAL),
        (LATE, {"not_before": timedelta(hours=2)}, RefusalKind.TIME),
        (
            LATE | {"expires_at": NOW - timedelta(1)},
            {"not_before": timedelta(hours=2)},
            None,
        ),  # it has passed: forgotten
        (LATE | {"starts_at": NOW}, {"not_before": timedelta(0)}, None),
        # The first reason is the one that is said.
        ({"state": State.PENDING} | IN_DOUBT, {"failure_id": 6}, RefusalKind.NOT_FAILED),
        (IN_DOUBT | {"rival": OTHER}, {}, RefusalKind.IN_DOUBT),
        (LATE | {"rival": OTHER}, {"not_before": timedelta(hours=2)}, RefusalKind.RIVAL),
    ],
)
def test_why_a_lead_is_not_replayed(facts: dict[str, Any], terms: dict[str, Any], expected: RefusalKind | None) -> None:
    assert kind(replace(FACTS, **facts), **terms) is expected


def test_a_twin_stops_only_leads_that_may_not_be_doubled() -> None:
    assert kind(FACTS, twin=OTHER) is RefusalKind.TWIN
    assert kind(replace(FACTS, allow_dupplicate=True), twin=OTHER) is None


def test_of_one_person_the_first_lead_that_may_go_goes() -> None:
    judge = Judge(ReplayTerms("ada"))
    in_doubt = replace(FACTS, **IN_DOUBT)
    second, third = replace(FACTS, id=OTHER), replace(FACTS, id=uuid.UUID(int=3))
    doubled = replace(FACTS, id=uuid.UUID(int=4), allow_dupplicate=True)
    elsewhere = replace(FACTS, id=uuid.UUID(int=5), campaign_id=43)

    verdicts = [judge(one) for one in (in_doubt, second, third, doubled, elsewhere, second)]

    kinds = [None if one is None else one.kind for one in verdicts]
    assert kinds == [RefusalKind.IN_DOUBT, None, RefusalKind.TWIN, None, None, None]
    assert verdicts[2] is not None
    assert str(OTHER) in verdicts[2].text
