"""Settings that decide about evidence: of two processes that disagree, the stricter value of each is used."""

import re

import pytest

from dispatcher.config.agreement import drift, stricter, terms_of, to_state
from dispatcher.config.settings import Settings

OURS = Settings()
CASES = [
    ("on_unknown", "auto", "hold", "hold"),
    ("on_unknown", "resend", "auto", "auto"),
    ("on_unknown", "hold", "resend", "hold"),
    ("settle_seconds", 0.8, 3.0, 3.0),
    ("settle_seconds", 3.0, 0.8, 3.0),
    ("unknown_for_seconds", 60.0, 3600.0, 3600.0),
    ("proof_for_seconds", 600.0, 60.0, 60.0),
    ("safe_statuses", frozenset({503, 504}), frozenset({503}), frozenset({503})),
    ("reference_variable", "ref", None, "ref"),
]


@pytest.mark.parametrize(("name", "own", "stored", "used"), CASES)
def test_the_stricter_value_is_used_and_the_drift_named(name: str, own: object, stored: object, used: object) -> None:
    here, there = OURS.model_copy(update={name: own}), OURS.model_copy(update={name: stored})
    assert getattr(stricter(here, terms_of(there)), name) == used
    assert drift(here, terms_of(there)) == [f"DISPATCHER_{name.removesuffix('_seconds').upper()}"]


def test_what_only_one_rule_calls_a_duplicate_is_none() -> None:
    here = OURS.model_copy(update={"duplicate_rule": re.compile("(?i)exists")})
    there = OURS.model_copy(update={"duplicate_rule": re.compile("already")})
    rule = stricter(here, terms_of(there)).duplicate_rule
    assert rule.search("It already EXISTS")
    assert not rule.search("It exists")
    assert not rule.search("already")


STRICT, LAX = terms_of(OURS.model_copy(update={"on_unknown": "hold", "settle_seconds": 200.0})), terms_of(OURS)
MIXED = STRICT | {"settle_seconds": 1.0}


@pytest.mark.parametrize(
    ("stored", "in_use", "stated"),
    [
        (None, False, LAX),
        (STRICT, False, LAX),
        (STRICT, True, None),
        (LAX, True, None),
        (MIXED, True, LAX | {"on_unknown": "hold"}),
    ],
)
def test_a_worker_that_starts_leaves_what_is_stricter_while_that_is_in_use(
    stored: dict[str, object] | None, stated: dict[str, object] | None, *, in_use: bool
) -> None:
    assert to_state(OURS, stored, in_use=in_use) == stated


@pytest.mark.parametrize("stored", [None, terms_of(OURS), {"unheard_of": 1}])
def test_where_nothing_differs_nothing_changes(stored: object) -> None:
    assert stricter(OURS, stored) is OURS  # type: ignore[arg-type]
    assert drift(OURS, stored) == []  # type: ignore[arg-type]
