"""Every command and every option says what it is for."""

import pytest
import typer
from typer.testing import CliRunner

from dispatcher.cli.app import app

GROUP = typer.main.get_command(app)
COMMANDS = sorted(GROUP.commands)  # type: ignore[attr-defined]
EXPECTED = (
    "cancel demo doctor explain failed import lookup migrate pause replay resolve resume sandbox show status submit"
    " sweep up"
)


def test_the_commands_of_the_interface_are_there() -> None:
    assert set(EXPECTED.split()) <= set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_sentence_and_every_option_too(name: str) -> None:
    command = GROUP.commands[name]  # type: ignore[attr-defined]

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
