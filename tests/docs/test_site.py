"""The pages of the site: everything public is on one, each page is in the list, and what is generated is current."""

import re
import runpy
from pathlib import Path
from typing import Any

import pytest

import dispatcher

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def script(name: str) -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "scripts" / f"{name}.py"))


@pytest.mark.parametrize("name", ["api", "tables"])
def test_a_generated_page_is_current(name: str) -> None:
    assert script(f"{name}_page")["page"]() == (DOCS / f"{name}.md").read_text(), f"run python scripts/{name}_page.py"


def test_the_list_of_pages_is_current() -> None:
    site = script("site_pages")
    assert site["llms"]() == site["LIST"].read_text(), "run python scripts/site_pages.py"


def test_every_page_is_in_the_site() -> None:
    listed = [name for names in script("site_pages")["toctrees"]().values() for name in names]
    pages = [path.stem for path in DOCS.glob("*.md") if path.stem != "index"]
    assert sorted(listed) == sorted([*pages, "decisions/index"])


def test_every_public_name_is_on_the_page_of_the_python_api() -> None:
    page = (DOCS / "api.md").read_text()
    methods = [name for name, member in vars(dispatcher.Dispatcher).items() if name[0] != "_" and callable(member)]
    for name in [*dispatcher.__all__, *methods]:
        assert re.search(rf"^### `{name}[`(]", page, re.MULTILINE), name


def test_every_table_has_a_sentence_and_every_described_column_exists() -> None:
    tables = script("tables_page")
    assert tables["missing"]() == []
    columns = {f"{name}.{column.split()[0]}" for name, found in tables["tables"]().items() for column in found}
    assert set(tables["_COLUMNS"]) <= columns
    assert set(tables["_TABLES"]) <= set(tables["tables"]())


def test_no_two_decisions_have_one_number_and_each_says_its_own() -> None:
    texts = {path.name[:3]: path.read_text() for path in sorted((DOCS / "decisions").glob("[0-9]*.md"))}
    assert len(texts) == len(list((DOCS / "decisions").glob("[0-9]*.md")))
    assert [number for number, text in texts.items() if not text.startswith(f"# {number} ")] == []


LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)#\s]+)(#[^)]*)?\)")


@pytest.mark.parametrize("page", sorted(path.relative_to(ROOT).as_posix() for path in DOCS.rglob("*.md")))
def test_a_link_leads_to_a_file(page: str) -> None:
    text = re.sub(r"```.*?```", "", (ROOT / page).read_text(), flags=re.DOTALL)
    dead = [
        link for link, _ in LINK.findall(text) if "://" not in link and not (ROOT / page).parent.joinpath(link).exists()
    ]
    assert dead == []
