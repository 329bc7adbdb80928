"""docs/cli.md is what the commands say of themselves."""

import runpy
from pathlib import Path
from typing import Any

import pytest
import typer

from dispatcher.cli.commands import app

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
COMMANDS: dict[str, Any] = {
    name if found is command else f"{name} {found.name}": found
    for name, command in typer.main.get_command(app).commands.items()  # type: ignore[attr-defined]
    for found in getattr(command, "commands", {name: command}).values()
}
READS = (
    "audit|campaigns|doctor|explain|failed|health|imports|inbox|incidents|keys list|list|lookup|mapping list"
    "|mapping show|mapping try|operations|person|show|status|tail"
)
LISTS = "audit|campaigns|failed|imports|inbox|incidents|keys list|list|mapping list|operations"
WRITES = (
    "cancel|edit|erase|inbox|incidents|keys create|keys revoke|keys rotate|limit|lookup|mapping remove|mapping set"
    "|operations|pause|prune|replay|resolve|resume|submit"
)
BULK = "erase|prune|replay"


def test_the_page_is_fresh() -> None:
    generator = runpy.run_path(str(ROOT / "scripts" / "cli_page.py"))

    assert generator["page"]() == PAGE, "docs/cli.md is old: run `python scripts/cli_page.py`"


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_each_command_is_in_it(name: str) -> None:
    assert f"### `dispatcher {name}" in PAGE


@pytest.mark.parametrize(
    ("flag", "names"), [("--json", READS), ("--csv", LISTS), ("--dry-run", WRITES), ("--yes", BULK)]
)
def test_a_flag_is_where_it_is_promised(flag: str, names: str) -> None:
    has = {name for name, one in COMMANDS.items() if any(flag in getattr(option, "opts", ()) for option in one.params)}

    assert set(names.split("|")) <= has


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shell_can_complete_commands(shell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    variables = {
        "_DISPATCHER_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": "dispatcher lim",
        "COMP_CWORD": "1",
        "_TYPER_COMPLETE_ARGS": "dispatcher lim",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }

    result = CliRunner().invoke(app, [], prog_name="dispatcher", env=variables)

    assert "limit" in result.output
