"""What the demo shows: a live view on a terminal, plain lines into a pipe, and the account at the end."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from dispatcher.embedded.demo_account import Account, SandboxView
from dispatcher.leads.masking import mask_numbers, mask_phone
from dispatcher.records.overview import Overview
from dispatcher.records.record import FailedLead
from dispatcher.rules.states import State

_PLAIN_EVERY_SECONDS: Final = 3.0
_WORDS: Final[Mapping[State, tuple[str, str]]] = {
    State.PENDING: ("waiting", "white"),
    State.SENDING: ("on their way", "cyan"),
    State.UNKNOWN: ("answer lost, looked up", "yellow"),
    State.ACCEPTED: ("accepted", "green"),
    State.DUPLICATE: ("duplicates", "blue"),
    State.FAILED: ("failed", "red"),
}


class Screen:
    """Where people watch the demo. `say` may be called at any time."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._live: Live | None = None
        self._began = time.monotonic()
        self._said_at = 0.0
        self._workers_killed = 0

    def say(self, text: str, style: str = "") -> None:
        """One event, with the seconds since the start."""
        self.console.print(Text(f"{self._seconds():5.1f} s  {text}", style=style), highlight=False)

    @contextmanager
    def live(self) -> Iterator[None]:
        """Inside, `show` refreshes one place of a terminal."""
        if not self.console.is_terminal:
            yield
            return
        with Live(console=self.console, refresh_per_second=8, transient=True) as self._live:
            yield
        self._live = None

    def worker_killed(self, on_their_way: int) -> None:
        """Tell of a kill."""
        self._workers_killed += 1
        self.say(f"kill -9: the worker dies with {on_their_way} requests on their way.", "bold red")

    def show(self, seen: Overview, sandbox: SandboxView, *, coming: int) -> None:
        """The state of the queue. `coming`: rows that have not been submitted yet."""
        if self._live is not None:
            self._live.update(self._picture(seen, sandbox, coming))
        elif self._seconds() - self._said_at >= _PLAIN_EVERY_SECONDS:
            self._said_at = self._seconds()
            counts = ", ".join(f"{count} {_WORDS[state][0]}" for state, count in _counts(seen) if count)
            self.say(f"{counts}; the sandbox misbehaved {sandbox.faults} times in {sandbox.posts + sandbox.look_ups}")

    def _picture(self, seen: Overview, sandbox: SandboxView, coming: int) -> Table:
        table = Table(box=box.ROUNDED, title=f"{self._seconds():.0f} s", title_justify="left", show_header=False)
        table.add_column(min_width=24)
        table.add_column(justify="right", min_width=5)
        table.add_column(min_width=30)
        counts = _counts(seen)
        total = max(1, coming + sum(count for _, count in counts))
        if coming:
            table.add_row("still to be submitted", str(coming), _bar(coming, total, "bright_black"))
        for state, count in counts:
            word, colour = _WORDS[state]
            table.add_row(word, str(count), _bar(count, total, colour))
        table.add_section()
        table.add_row("requests at the sandbox", str(sandbox.posts + sandbox.look_ups), f"{sandbox.look_ups} look-ups")
        table.add_row("  that it spoiled", str(sandbox.faults), "hung, reset, cut, 5xx, late, throttled")
        table.add_row("workers killed", str(self._workers_killed), _gates(seen))
        return table

    def account(self, account: Account, sandbox: SandboxView, failures: Sequence[FailedLead]) -> None:
        """The end: the account of every row, the failed leads, the verdict."""
        table = Table(title="What became of every row", title_justify="left", box=box.SIMPLE_HEAD, show_footer=True)
        table.add_column("ending", footer="rows in the file")
        table.add_column("rows", justify="right", footer=str(account.rows))
        for ending, rows in account.endings.items():
            table.add_row(Text(ending, style="bold red" if ending.startswith("LOST") else ""), str(rows))
        self.console.print(table)
        if failures:
            self.console.print(_failed(failures))
        self.console.print(
            f"The sandbox received {sandbox.posts} creations and {sandbox.look_ups} look-ups, spoiled {sandbox.faults} "
            f"of them, and holds {sandbox.created} leads.",
            highlight=False,
        )
        self.verdict(account)

    def verdict(self, account: Account) -> None:
        """One line."""
        doubt = "" if account.balances else ", AND THE ACCOUNT DOES NOT BALANCE"
        line = f"{len(account.lost)} lost, {account.called_twice} called twice{doubt}"
        self.console.print(Text(line, style="bold green" if account.good else "bold red"))

    def _seconds(self) -> float:
        return time.monotonic() - self._began


def _counts(seen: Overview) -> list[tuple[State, int]]:
    return [(state, seen.counts[state].value if state in seen.counts else 0) for state in _WORDS]


def _bar(count: int, total: int, colour: str) -> Text:
    return Text("━" * max(1 if count else 0, round(30 * count / total)), style=colour)


def _gates(seen: Overview) -> str:
    return f"held back: {seen.gates[0].scope}, {seen.gates[0].reason}" if seen.gates else ""


def _failed(failures: Sequence[FailedLead]) -> Table:
    table = Table(title="Failed leads", title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("number", no_wrap=True)
    table.add_column("campaign", justify="right")
    table.add_column("why")
    for failure in failures:
        table.add_row(mask_phone(failure.phone_number), str(failure.campaign_id), Text(mask_numbers(failure.message)))
    return table
