"""Each attack of the table names tests that exist."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
ROWS = dict(re.findall(r"^\| (S\d+) \| (.+) \|$", PAGE, re.MULTILINE))


@cache
def names_in(path: str) -> frozenset[str]:
    """The tests of a file, by name."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def test_every_attack_has_its_row() -> None:
    assert list(ROWS) == [f"S{number}" for number in range(1, 31)]


@pytest.mark.parametrize("row", ROWS)
def test_an_attack_is_made_by_tests_that_exist(row: str) -> None:
    *_, named = ROWS[row].split(" | ")
    tests = re.findall(r"`(tests/[a-z_/]+\.py)::(test_\w+)`", named)
    assert tests
    assert re.sub(r"`[^`]+`", "", named).strip() == "", "only tests stand in the last column"
    missing = [f"{path}::{name}" for path, name in tests if not (ROOT / path).is_file() or name not in names_in(path)]
    assert missing == []


def test_the_page_of_reporting_leads_here() -> None:
    assert "docs/security.md" in (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    for page in re.findall(r"\]\((docs/[\w/.-]+|CHANGELOG\.md)\)", (ROOT / "SECURITY.md").read_text(encoding="utf-8")):
        assert (ROOT / page).is_file()
