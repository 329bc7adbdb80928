"""`doctor`: is everything there that the dispatcher needs, and what to do where it is not."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

import typer

from dispatcher.cli import screen


class Grade(StrEnum):
    """The result of a check."""

    GOOD = "good"
    DOUBTFUL = "doubtful"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the doctor."""

    name: str
    verdict: Grade
    found: str
    advice: str = ""

    def as_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        return {"name": self.name, "verdict": self.verdict, "found": self.found, "advice": self.advice}


_MARKS = {Grade.GOOD: ("✓", "green"), Grade.DOUBTFUL: ("!", "yellow"), Grade.BAD: ("✗", "red")}


def doctor(
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail on warnings too; unknown DISPATCHER_* names are errors.")
    ] = False,
    online: Annotated[
        bool, typer.Option("--online", help="Ask Voicery too: one GET an account, which counts against the rate.")
    ] = False,
    json: screen.Json = False,
) -> None:
    """Check settings, Postgres, schema, Redis, token and workers, and say what to do."""
    from dispatcher.cli.doctor_checks import check_everything

    checks = check_everything(strict=strict, online=online)
    if json:
        screen.emit_items(check.as_dict() for check in checks)
    else:
        _show(checks)
    bad = {Grade.BAD, Grade.DOUBTFUL} if strict else {Grade.BAD}
    if any(check.verdict in bad for check in checks):
        screen.fail()


def _show(checks: Sequence[Check]) -> None:
    for check in checks:
        mark, style = _MARKS[check.verdict]
        screen.say((f"{mark} ", f"bold {style}"), (f"{check.name}: ", "bold"), check.found)
        if check.advice:
            screen.indented(f"→ {check.advice}", "cyan", columns=2)
