"""The documents that show a newcomer around are true: every path exists, every package is on the map."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text()


def test_every_path_of_the_table_exists() -> None:
    table = PAGE.split("## Where do I change")[1]
    paths = re.findall(r"`([\w./-]+)`", " ".join(line for line in table.splitlines() if line.startswith("|")))
    paths = [path for path in paths if "/" in path]

    assert len(paths) > 20
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_every_file_that_the_three_paths_name_exists() -> None:
    paths = PAGE.split("## Three paths")[1].split("## Where")[0]
    named = re.findall(r"`([a-z_]+/[a-z_]+\.py)`", paths)

    assert named
    assert [name for name in named if not (ROOT / "dispatcher" / name).exists()] == []


def test_every_package_is_in_the_picture() -> None:
    packages = {path.parent.name for path in (ROOT / "dispatcher").glob("*/__init__.py")}
    beside = {"alerts", "config", "logs"}  # what every package may use, and the alert of an incident

    assert {name for name in packages - beside if f"{name}/" not in PAGE} == set()


def test_nothing_cites_a_design_that_is_not_in_the_repository() -> None:
    cited = [
        str(path.relative_to(ROOT))
        for folder in ("dispatcher", "tests", "migrations", "docs", "benchmarks", "scripts")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in {".py", ".md", ".lua", ".html", ".toml"} and path != Path(__file__)
        if re.search(r"\bdesign,?\s+sections?\b", path.read_text(), re.IGNORECASE)
    ]

    assert cited == []
