"""The table of states, and the database's copy of it."""

import re
from pathlib import Path

import pytest

from dispatcher.decisions.states import BIRTH_STATES, FINAL_STATES, LEGAL_MOVES, LIVE_STATES, State, may_move
from dispatcher.store.schema import LIVE

MIGRATION = Path(__file__).parents[2] / "migrations" / "versions" / "0003_evidence.py"  # the latest that has it


def test_the_trigger_allows_exactly_the_legal_moves() -> None:
    trigger = re.search(r"NEW\.state\) NOT IN \((.*?)\n        \)", MIGRATION.read_text(encoding="utf-8"), re.DOTALL)
    assert trigger is not None
    pairs = re.findall(r"\('(\w+)', '(\w+)'\)", trigger[1])

    assert len(pairs) == len(set(pairs))
    assert {(State(leaving), State(entering)) for leaving, entering in pairs} == LEGAL_MOVES


def test_a_final_state_is_never_left() -> None:
    assert not {leaving for leaving, _ in LEGAL_MOVES} & FINAL_STATES


def test_every_state_can_be_reached_from_a_birth() -> None:
    reached = set(BIRTH_STATES)
    while more := {entering for leaving, entering in LEGAL_MOVES if leaving in reached} - reached:
        reached |= more

    assert reached == set(State)


def test_every_state_leads_to_a_final_one_or_to_a_person_or_rests_behind_another_lead() -> None:
    for state in set(State) - FINAL_STATES - {State.FAILED, State.DUPLICATE}:
        assert any(leaving == state and entering in FINAL_STATES for leaving, entering in LEGAL_MOVES)


def test_sending_is_entered_only_by_a_claim() -> None:
    assert {leaving for leaving, entering in LEGAL_MOVES if entering is State.SENDING} == {State.PENDING}


@pytest.mark.parametrize("state", State)
def test_no_state_moves_to_itself(state: State) -> None:
    assert not may_move(state, state)


def test_the_duplicate_rule_of_the_database_counts_the_live_states() -> None:
    listed = re.search(r"state IN \((.*?)\)", LIVE)
    assert listed is not None
    assert set(re.findall(r"'(\w+)'", listed[1])) == LIVE_STATES
