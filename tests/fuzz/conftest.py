"""`make fuzz` says at its end how many inputs each reader was given."""

import pytest

from tests.support.fuzzing import LONG, TRIED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say it for the inputs of this process."""
    if LONG and TRIED:
        terminalreporter.section("inputs tried")
        for reader, count in sorted(TRIED.items()):
            terminalreporter.write_line(f"{reader:<20} {count:>9,}")
