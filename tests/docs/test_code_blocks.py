"""What a page tells to type can be typed: commands, options and settings exist, Python compiles, JSON parses, SQL runs.

The Python of the pages on producers, and what is in other languages, is also compared with files that other tests run.
"""

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import typer

from dispatcher.cli.commands import app

ROOT = Path(__file__).parents[2]
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in (
        *sorted((ROOT / "docs").glob("*.md")),
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "SECURITY.md",
        ROOT / "benchmarks" / "README.md",
    )
}
GROUP = typer.main.get_command(app)
COMMANDS = GROUP.commands  # type: ignore[attr-defined]


def blocks(language: str) -> list[tuple[str, str]]:
    return [
        (page, block)
        for page, text in PAGES.items()
        for block in re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    ]


def typed() -> Iterator[tuple[str, str]]:
    """Each `dispatcher …` of a page: the lines after a prompt, and what stands in a sentence as code."""
    for page, block in blocks("console"):
        for line in re.sub(r"\\\n\s*", " ", block).splitlines():
            if line.startswith("$ "):
                yield from ((page, command) for command in re.findall(r"(?:^|(?<!-A)\s)(dispatcher [a-z].*)", line[2:]))
    for page, block in blocks("sh"):
        yield from ((page, command) for command in re.findall(r"^(dispatcher [a-z].*)", block, re.MULTILINE))
    for page, text in PAGES.items():
        prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
        yield from ((page, command) for command in re.findall(r"`(?:\$ )?(dispatcher [a-z][^`]*)`", prose))


def fault(command: str) -> str | None:
    """Why a command is none of ours; None if it is one."""
    words = shlex.split(command.replace("…", " "), comments=True)[1:]
    path, at = [], GROUP
    while words and words[0] in getattr(at, "commands", {}):
        at = at.commands[words[0]]  # type: ignore[attr-defined]
        path.append(words.pop(0))
    if not path:
        return "no such command"
    known = {"--help", *(name for one in at.params for name in (*one.opts, *one.secondary_opts))}
    given = [word.split("=")[0] for word in words if re.match(r"--?[a-z]", word)]
    wrong = [option for option in given if option not in known]
    return f"no such option of {' '.join(path)}: {', '.join(wrong)}" if wrong else None


def test_every_command_of_a_page_exists_with_its_options() -> None:
    found = sorted(set(typed()))

    assert len(found) > 120
    assert [(page, command, fault(command)) for page, command in found if fault(command)] == []


def test_every_target_of_make_exists() -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {
        (page, name)
        for page, text in PAGES.items()
        for name in re.findall(r"(?:^\$ |`)make ([a-z0-9-]+)", text, re.MULTILINE)
    }

    assert {(page, name) for page, name in named if name not in targets} == set()


def test_every_setting_that_is_named_exists() -> None:
    known = set(re.findall(r"DISPATCHER_[A-Z_]*[A-Z]", PAGES["docs/settings.md"]))
    others = [path for path in (*ROOT.glob("deploy/**/*"), ROOT / "docker-compose.yml") if path.is_file()]
    texts = {**PAGES, **{path.name: path.read_text(encoding="utf-8") for path in others}}

    assert [
        (name, one) for name, text in texts.items() for one in re.findall(r"DISPATCHER_[A-Z_]*[A-Z]", text)
        if one not in known
    ] == []  # fmt: skip


def test_python_compiles() -> None:
    found = blocks("python")
    assert found
    for page, block in found:
        compile(block, page, "exec")


def test_json_parses() -> None:
    found = blocks("json")
    assert found
    for _, block in found:
        json.loads(block)


def test_what_names_its_example_is_a_part_of_it() -> None:
    named = [
        (name, block)
        for text in PAGES.values()
        for name, block in re.findall(r"<!-- (examples/\S+) -->\n```\w+\n(.*?)```", text, re.DOTALL)
    ]

    assert {Path(name).suffix for name, _ in named} >= {".py", ".sql", ".go", ".js", ".php", ".rb"}
    assert [name for name, block in named if block not in (ROOT / name).read_text(encoding="utf-8")] == []


@pytest.fixture(scope="module")
def queries() -> list[tuple[str, str]]:
    """The SQL that asks something. The rest is an example that is run, or makes roles."""
    return [(page, block) for page, block in blocks("sql") if re.match(r"(--.*\n)*(SELECT|WITH)", block)]


def test_sql_runs(queries: list[tuple[str, str]], database_url: str) -> None:
    assert len(queries) >= 3
    with psycopg.connect(database_url) as connection:
        connection.execute((ROOT / "examples" / "sql" / "shop.sql").read_text())
        for _, block in queries:
            connection.execute(block.replace("018f…", "018f0000-0000-7000-8000-000000000000"))
        connection.rollback()
