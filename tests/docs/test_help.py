"""Every command and every option says what it is for."""

from importlib.metadata import version

import pytest
import typer
from typer.testing import CliRunner

from dispatcher.cli.commands import PANELS, app

GROUP = typer.main.get_command(app)
COMMANDS = sorted(GROUP.commands)  # type: ignore[attr-defined]


def listed(width: int) -> list[str]:
    return CliRunner().invoke(app, ["--help"], terminal_width=width).stdout.splitlines()


@pytest.mark.parametrize("panel", PANELS)
def test_the_list_shows_each_command_in_one_line_of_80_columns(panel: str) -> None:
    lines = listed(80)
    below = lines[lines.index(panel) + 1 :]
    rows = [line.split(None, 1) for line in below[: below.index("")]]

    assert rows == [[entry.name, entry.short_help] for entry in PANELS[panel]]
    assert max(map(len, lines)) <= 80


def test_the_list_without_a_command_is_the_help_and_shows_no_types() -> None:
    alone = CliRunner().invoke(app, [], terminal_width=80).output.splitlines()

    assert [line for line in alone if line] == [line for line in listed(80) if line]
    assert "<bool>" not in "".join(alone)


def test_the_version_is_that_of_the_installed_package() -> None:
    result = CliRunner().invoke(app, ["--version"])

    assert (result.exit_code, result.stdout) == (0, f"voicery-dispatcher {version('voicery-dispatcher')}\n")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_sentence_and_every_option_too(name: str) -> None:
    command = GROUP.commands[name]  # type: ignore[attr-defined]

    for one in getattr(command, "commands", {}).values():
        assert one.help.split("\n")[0].endswith(".")
        assert [option.name for option in one.params if not getattr(option, "help", None)] == []
    assert command.help
    assert command.help.split("\n")[0].endswith((".", "…"))
    assert [option.name for option in command.params if not getattr(option, "help", None)] == []


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "sandbox"])
def test_help_needs_no_setting_and_fits_80_columns(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("DATABASE_URL", "REDIS_URL"):
        monkeypatch.delenv(variable, raising=False)

    result = CliRunner().invoke(app, [name, "--help"], terminal_width=80)

    assert result.exit_code == 0
    assert max(map(len, result.stdout.splitlines())) <= 80
