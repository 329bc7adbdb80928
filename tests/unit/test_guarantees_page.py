"""The pages that promise something stay true: their tests exist, their numbers and arrows are the code's."""

import re
from pathlib import Path

import pytest

from dispatcher.config.settings import Settings
from dispatcher.decisions.policy import wait_seconds
from dispatcher.decisions.states import BIRTH_STATES, FINAL_STATES, LEGAL_MOVES

ROOT = Path(__file__).parents[2]
GUARANTEES = (ROOT / "docs/guarantees.md").read_text()
STATES = (ROOT / "docs/states.md").read_text()
PROMISED = sorted(set(re.findall(r"`(tests/[a-z_/0-9]+\.py)::(test_[a-z0-9_]+)`", GUARANTEES)))


def test_every_row_of_what_dies_names_its_test() -> None:
    table = GUARANTEES.split("## If this dies here")[1].split("\n## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("|")][2:]

    assert rows
    assert [row for row in rows if not re.search(r"`tests/[a-z_/0-9]+\.py::test_[a-z0-9_]+` \|$", row)] == []


@pytest.mark.parametrize(("path", "name"), PROMISED, ids=[name for _, name in PROMISED])
def test_a_promised_test_exists(path: str, name: str) -> None:
    assert re.search(rf"^def {name}\(", (ROOT / path).read_text(), re.MULTILINE)


def test_the_series_are_those_of_the_code() -> None:
    budget, limits = Settings().budget, Settings().gate_limits
    lead = [
        wait_seconds(n, base_seconds=budget.backoff_base_seconds, max_seconds=budget.backoff_max_seconds)
        for n in range(1, 12)
    ]
    gate = [wait_seconds(n, base_seconds=limits.wait_seconds, max_seconds=limits.wait_max_seconds) for n in range(1, 9)]
    for series in (lead, gate):
        assert ", ".join(f"{wait:g}" for wait in series) + " … s" in " ".join(GUARANTEES.split())


def test_the_picture_has_exactly_the_legal_moves() -> None:
    arrows = set(re.findall(r"^\s+(\w+|\[\*\]) --> (\w+|\[\*\])", STATES, re.MULTILINE))
    assert arrows == (
        {(leaving.value, entering.value) for leaving, entering in LEGAL_MOVES}
        | {("[*]", state.value) for state in BIRTH_STATES}
        | {(state.value, "[*]") for state in FINAL_STATES}
    )
