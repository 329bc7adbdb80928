"""The account of the demo: the ending of every row, and the verdict, from the sandbox's log and the database."""

import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from dispatcher.decisions.states import FailureClass, State
from dispatcher.lead.masking import mask_numbers, mask_phone
from dispatcher.operator.failures import FailedLead
from dispatcher.operator.lead_record import LeadRecord
from dispatcher.operator.overview import Overview
from dispatcher.sandbox.fault import FaultName
from dispatcher.sandbox.log import Effect, Line, ledger_key

UNSETTLED: Final = frozenset({State.PENDING, State.SENDING, State.UNKNOWN})
"""States in which the dispatcher still has something to do by itself."""

_ENDINGS: Final[Mapping[FailureClass, str]] = {
    FailureClass.REJECTED: "failed: refused by Voicery",
    FailureClass.EXHAUSTED: "failed: never reached Voicery",
    FailureClass.OUTCOME_UNKNOWN: "held for a person: outcome unknown",
    FailureClass.EXPIRED: "failed: expired before it could be sent",
    FailureClass.BUG: "failed: a fault of the dispatcher",
    FailureClass.BLOCKED: "failed: must not be called",
}


@dataclass(frozen=True, slots=True)
class SandboxView:
    """Counts of the requests that the sandbox has received."""

    posts: int
    look_ups: int
    faults: int
    created: int

    @classmethod
    def of(cls, entries: Sequence[Line]) -> "SandboxView":
        """Counted from its log; a late creation's second line is no second request."""
        requests = {entry.request: entry for entry in reversed(entries)}.values()
        return cls(
            posts=sum(entry.method == "POST" for entry in requests),
            look_ups=sum(entry.method == "GET" for entry in requests),
            faults=sum(entry.fault is not None for entry in requests),
            created=sum(entry.created_id is not None for entry in entries),
        )


@dataclass(frozen=True, slots=True)
class DemoReport:
    """Every row of the file, once. `endings` are in words, in the order they are shown, and sum up to `rows`.

    lost           leads that nobody would call and nobody would hear of
    called_twice   persons created twice in one campaign, or sent again although they were there
    """

    rows: int
    endings: Mapping[str, int]
    lost: tuple[UUID, ...]
    called_twice: int

    @property
    def balances(self) -> bool:
        """Return whether every row has exactly one ending."""
        return sum(self.endings.values()) == self.rows

    @property
    def good(self) -> bool:
        """Return whether nothing was lost and nobody was called twice."""
        return self.balances and not self.lost and self.called_twice == 0


def draw_up(rows: int, refused: int, records: Sequence[LeadRecord], entries: Sequence[Line]) -> DemoReport:
    """The account of `rows` rows: `refused` were never stored, `records` are all that `submit` said were durable.

    Args:
        rows: how many the file has.
        refused: how many `submit` refused with a reason.
        records: the stored leads as they are now, each once.
        entries: the sandbox's log.
    """
    created = {entry.created_id: ledger_key(entry.body) for entry in entries if entry.created_id is not None}
    lost = []
    endings: Counter[str] = Counter()
    for record in records:
        endings[_ending(record)] += 1
        key = None if record.voicery_lead_id is None else created.get(record.voicery_lead_id)
        same = key is not None and (key.campaign_id, key.phone_number) == (record.campaign_id, record.phone_number)
        if record.state in UNSETTLED or (record.state is State.ACCEPTED and not same):
            lost.append(record.id)
    ordered = {"refused before it was stored, with the reason": refused}
    ordered |= dict(sorted(endings.items(), key=lambda ending: (-ending[1], ending[0])))
    return DemoReport(rows, ordered, tuple(lost), len(_called_twice(entries)))


def _ending(record: LeadRecord) -> str:
    match record.state:
        case State.ACCEPTED if record.voicery_lead_id is not None:
            return "accepted by Voicery"
        case State.DUPLICATE if not record.history:
            return "duplicate of another lead: not sent"
        case State.DUPLICATE:
            return "duplicate, says Voicery"
        case State.FAILED if record.failure_class is not None:
            return _ENDINGS[record.failure_class]
        case State.CANCELLED:
            return "cancelled"
        case state:
            return f"LOST: still {state}"


def _called_twice(entries: Iterable[Line]) -> set[tuple[int, str]]:
    """Return the (campaign, number) pairs created twice; a second request counts even if Voicery would refuse it."""
    created: dict[tuple[int, str], int] = defaultdict(int)
    again: set[tuple[int, str]] = set()
    for entry in entries:
        key = ledger_key(entry.body) if entry.method == "POST" else None
        if key is None:
            continue
        person = key.campaign_id, key.phone_number
        if entry.created_id is not None:
            created[person] += 1
        # The fault `duplicate` refuses a lead that is *not* there.
        if entry.effect in (Effect.REFUSED, Effect.FOUND) and entry.fault != FaultName.DUPLICATE:
            again.add(person)
    return again | {person for person, times in created.items() if times > 1}


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
    """Progress of the demo on a terminal. `say` may be called at any time."""

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
        """Report a kill."""
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

    def account(self, account: DemoReport, sandbox: SandboxView, failures: Sequence[FailedLead]) -> None:
        """Print the account of every row, the failed leads and the verdict."""
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

    def verdict(self, account: DemoReport) -> None:
        """Return the verdict in one line."""
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
