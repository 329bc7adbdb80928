"""The code of the pages on how to send leads is that of the examples, which other tests run."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
BLOCKS = [
    block
    for page in ("quickstart.md", "python.md", "testing.md")
    for block in re.findall(r"(?:<!-- (\S+) -->\n)?```python\n(.*?)```", (ROOT / "docs" / page).read_text(), re.DOTALL)
]
SQL = re.findall(r"<!-- (\S+) -->\n```sql\n(.*?)```", (ROOT / "docs" / "sql.md").read_text(), re.DOTALL)


def test_each_block_is_part_of_the_example_that_it_names() -> None:
    assert len(BLOCKS) > 10
    assert [block for name, block in (*BLOCKS, *SQL) if not name or block not in (ROOT / name).read_text()] == []


def test_each_example_has_its_place_on_the_page() -> None:
    examples = {path.relative_to(ROOT).as_posix() for path in (ROOT / "examples").glob("*/*.py")}

    assert {name for name, _ in BLOCKS} == examples
    assert {name for name, _ in SQL} == {
        path.relative_to(ROOT).as_posix() for path in (ROOT / "examples").glob("*/*.sql")
    }
