"""What stands in for the outside in tests: the doorbell, the rate limit, the clock, the command line."""

import csv
import io
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from dispatcher.broker.limiter import LimiterUnavailable, Permits
from dispatcher.lead.options import Channel


class Bell:
    """Records its calls: `heard` names each in order, `rung` and `lookups` say for what. A ring calls `on_ring`."""

    def __init__(
        self,
        *,
        others_wait: bool = False,
        accepting_wait: bool | None = None,  # of those, campaigns that are accepted; as `others_wait` if not said
        on_ring: Callable[[Channel], object] = lambda _: None,
    ) -> None:
        self.heard: list[str] = []
        self.rung: list[Channel] = []
        self.lookups: list[str] = []
        self.others_wait = others_wait
        self.accepting_wait = accepting_wait
        self.notes: list[tuple[Channel, bool]] = []
        self._on_ring = on_ring

    def ring(self, channel: Channel) -> bool:
        self._on_ring(channel)
        self.heard.append("ring")
        self.rung.append(channel)
        return True

    def ring_lookup(self, account: str) -> bool:
        self.heard.append("ring_lookup")
        self.lookups.append(account)
        return True

    def clear(self, channel: Channel) -> bool:
        self.heard.append("clear")
        return (channel, True) in self.notes[-1:]

    def clear_lookup(self, account: str) -> None:
        self.heard.append("clear_lookup")

    def served(self, channel: Channel, *, accepted: bool) -> None:
        self.notes.append((channel, accepted))

    def waiting(self, besides: Channel | None = None, *, accepting_only: bool = False) -> bool:
        return self.others_wait if self.accepting_wait is None or not accepting_only else self.accepting_wait


class Rate:
    """Grants `permits` in all; `away`: Redis cannot be asked. Records what it was told to slow down to."""

    def __init__(
        self,
        permits: float = float("inf"),
        *,
        away: bool = False,
        limited: bool = False,
        next_in_seconds: float = 60.0,
    ) -> None:
        self.left = permits
        self.away = away
        self.limited = limited
        self.returned = 0
        self.slowed: list[tuple[int, float]] = []
        self._next_in_seconds = next_in_seconds

    def take(self, wanted: int) -> Permits:
        self._ask()
        granted = int(min(wanted, self.left))
        self.left -= granted
        return Permits(granted, 0.0 if granted else self._next_in_seconds)

    def take_lookup(self, *, leads_wait: bool) -> Permits:
        return self.take(1)

    def give_back(self, permits: Permits, unused: int) -> None:
        self.returned += unused
        self.left += unused

    def slow(self, *, remaining: int, reset_seconds: float) -> None:
        self._ask()
        self.slowed.append((remaining, reset_seconds))
        self.left = min(self.left, remaining)

    def available(self) -> int | None:
        self._ask()
        return None if self.left == float("inf") else int(self.left)

    def _ask(self) -> None:
        if self.away:
            raise LimiterUnavailable("away")


@dataclass
class Clock:
    """A clock that stands still unless told, in any unit."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


class Line:
    """A command line: `line("status", "--json")`."""

    def __init__(self) -> None:
        self._runner = CliRunner()

    def __call__(self, *arguments: str, stdin: str | None = None) -> Result:
        from dispatcher.cli.commands import app  # late: few tests need the command line

        return self._runner.invoke(app, arguments, input=stdin)

    def ok(self, *arguments: str, stdin: str | None = None) -> str:
        """Run it; return what it prints."""
        result = self(*arguments, stdin=stdin)
        assert result.exit_code == 0, (result.output, result.exception)
        return result.stdout

    def json(self, *arguments: str, stdin: str | None = None) -> dict[str, Any]:
        """Run it with `--json`; return what it prints, parsed."""
        parsed: dict[str, Any] = json.loads(self.ok(*arguments, "--json", stdin=stdin))
        return parsed

    def csv(self, *arguments: str) -> list[dict[str, str]]:
        """Run it with `--csv`; return the rows that it prints."""
        return list(csv.DictReader(io.StringIO(self.ok(*arguments, "--csv"))))


def logged(caplog: pytest.LogCaptureFixture, event: str) -> list[dict[str, Any]]:
    """Return the fields of each record of this event."""
    own = set(vars(logging.makeLogRecord({}))) | {"message", "asctime"}
    return [
        {name: value for name, value in vars(record).items() if name not in own}
        for record in caplog.records
        if record.msg == event
    ]
