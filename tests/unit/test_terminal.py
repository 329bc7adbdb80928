"""On a terminal nothing is cut, and words are broken between words."""

import io
import uuid

import pytest
from rich.console import Console

from dispatcher import __main__ as command_line
from dispatcher.cli import screen

LEAD = str(uuid.UUID("fa54fd8e-644c-88e5-aff3-e20000000257"))


def printed(width: int, *, campaign: str, terminal: bool = True) -> list[str]:
    """The list of one lead, as lines."""
    out = Console(width=width, file=io.StringIO(), force_terminal=terminal, color_system=None)
    table = screen.rows("Lead", "state", "campaign", "why", right=("campaign",), whole=("Lead", "state"))
    table.add_row(LEAD, "duplicate", campaign, "")
    out.print(table)
    assert isinstance(out.file, io.StringIO)
    return [line.rstrip() for line in out.file.getvalue().splitlines()]


@pytest.mark.parametrize("width", [40, 60, 80, 120])
@pytest.mark.parametrize("campaign", ["7", "9223372036854775807"])
def test_no_cell_of_a_list_is_cut_at_any_width(width: int, campaign: str) -> None:
    lines = printed(width, campaign=campaign)

    assert max(map(len, lines)) <= width
    for cell in (LEAD, "duplicate", campaign):
        assert any(cell in line for line in lines), lines


def test_a_list_is_a_table_wherever_there_is_room() -> None:
    assert printed(80, campaign="7")[0].split() == ["Lead", "state", "campaign", "why"]
    assert printed(60, campaign="9223372036854775807") == [LEAD, "  state duplicate · campaign 9223372036854775807"]


def test_what_is_piped_stays_a_table() -> None:
    assert [line for line in printed(60, campaign="7", terminal=False) if line.startswith("Lead")]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_an_error_is_broken_between_words_and_a_list_keeps_its_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    message = (
        "The settings cannot be used:\n- DATABASE_URL: is no address; " + "give one like postgresql://host/name " * 3
    )
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr("sys.argv", ["dispatcher", "list"])
    with pytest.raises(SystemExit):
        command_line._complain(message)
    assert capsys.readouterr().err.count("\n") == 1, "one line for a log"

    monkeypatch.setattr("sys.stderr", Terminal())
    with pytest.raises(SystemExit):
        command_line._complain(message)
    lines = command_line.sys.stderr.getvalue().splitlines()  # type: ignore[attr-defined]
    assert lines[0] == "The settings cannot be used:"
    assert lines[1].startswith("- DATABASE_URL: ")
    assert all(line.startswith("  ") for line in lines[2:])
    assert max(map(len, lines)) <= 60
    assert " ".join(" ".join(lines).split()) == " ".join(message.split())
