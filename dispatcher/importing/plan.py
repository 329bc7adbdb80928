"""What an import would do, told by the same rules and without storing anything."""

import json
import math
import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final
from uuid import UUID

from dispatcher.config.account import RateWindow, parse_rate_limit
from dispatcher.errors import FieldError
from dispatcher.importing.columns import Columns, ImportOptions, Meaning
from dispatcher.importing.encoding import Encoding
from dispatcher.importing.lead_file import LeadFile
from dispatcher.importing.rejects import in_file_words
from dispatcher.importing.row import Row
from dispatcher.intake import copying
from dispatcher.lead.candidate import Candidate, Facts, Held, NewLead, Rejection, decide, read_items
from dispatcher.lead.masking import mask_phone, safe_name
from dispatcher.lead.options import check_account
from dispatcher.lead.phone import canonical_phone, country_code
from dispatcher.operator import campaigns
from dispatcher.operator.campaigns import Queued
from dispatcher.store.blocks import Screening
from dispatcher.store.database import Database

_WINDOW_MARGIN: Final = 1.02  # the limiter's windows are longer than announced by this factor
_HALVINGS: Final = 30


@dataclass(frozen=True, slots=True)
class Forecast:
    """How an account's campaigns would send what waits in them and what is new.

    waiting            leads that wait already in campaigns that are not paused
    finish_in_seconds  until the last of the new ones is sent; None where no limit applies
    paused             what an operator holds back of the new ones: `account`, or `campaign 8`; the time then counts
                       from when it is resumed
    """

    waiting: int = 0
    finish_in_seconds: float | None = None
    paused: tuple[str, ...] = ()


def forecast(new: Mapping[int, int], queues: Sequence[Queued], windows: Sequence[RateWindow]) -> Forecast:
    """Return when new leads, by campaign, are sent behind what waits in the account, at its limits."""
    account_paused = any(queue.paused for queue in queues if queue.campaign_id is None)
    channels = {queue.campaign_id: queue for queue in queues if queue.campaign_id is not None}
    going = {
        campaign_id: channel.waiting
        for campaign_id, channel in channels.items()
        if account_paused or campaign_id in new or not channel.paused
    }
    lines = {
        campaign_id: _Backlog(
            going.get(campaign_id, 0) + new.get(campaign_id, 0),
            _per_second(_own_windows(channels.get(campaign_id))),
        )
        for campaign_id in {*going, *new}
    }
    total = _per_second(windows)
    finish = 0.0
    for campaign_id in sorted(new, key=lambda one: lines[one].leads, reverse=True):
        finish = max(finish, _seconds(campaign_id, lines, total, known=finish))
    paused = [f"campaign {one}" for one in sorted(new) if one in channels and channels[one].paused]
    return Forecast(
        waiting=sum(going.values()),
        finish_in_seconds=finish or None,
        paused=(*(["account"] if account_paused and new else []), *paused),
    )


@dataclass(frozen=True, slots=True)
class _Backlog:
    """What one campaign has to send, and how many a second its own limit allows."""

    leads: int
    per_second: float


def _seconds(campaign_id: int, lines: Mapping[int, _Backlog], total: float, *, known: float) -> float:
    """Return the seconds until the last lead of a campaign is sent; any value up to `known` if it is not later."""
    own = lines[campaign_id]
    others = [line for one, line in lines.items() if one != campaign_id and line.leads]

    def needed(seconds: float) -> float:
        return (own.leads + sum(min(line.leads, own.leads, seconds * line.per_second) for line in others)) / total

    alone = own.leads / own.per_second
    latest = needed(math.inf)
    if latest <= max(alone, known) or needed(latest) == latest:
        return max(alone, latest)
    earliest = own.leads / total
    for _ in range(_HALVINGS):  # `needed` grows ever slower: it meets the time itself once
        middle = (earliest + latest) / 2
        earliest, latest = (middle, latest) if needed(middle) > middle else (earliest, middle)
    return max(alone, latest)


def _own_windows(queue: Queued | None) -> Sequence[RateWindow]:
    return () if queue is None or queue.rate_limit is None else parse_rate_limit(queue.rate_limit)


def _per_second(windows: Sequence[RateWindow]) -> float:
    return min((window.permits / (window.seconds * _WINDOW_MARGIN) for window in windows), default=math.inf)


_TABLES: Final = """
CREATE TABLE persons (
    campaign_id INTEGER, phone_number TEXT, id BLOB, PRIMARY KEY (campaign_id, phone_number)
) WITHOUT ROWID;
CREATE TABLE held (name BLOB PRIMARY KEY, id BLOB, payload_hash TEXT) WITHOUT ROWID;
"""


class EarlierRows:
    """The decisions about earlier rows of the file, which the store does not know."""

    def __init__(self) -> None:
        # The empty name is a temporary database: in memory while small, on disk beyond, gone at the end.
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;" + _TABLES)

    def complete(self, facts: Facts, candidates: Iterable[Candidate]) -> None:
        """Add what these items meet of earlier ones; what the store holds comes first."""
        for candidate in candidates:
            key = candidate.options.idempotency_key
            if key is not None and key not in facts.keys and (held := self._held(key)) is not None:
                facts.keys[key] = held
            if not candidate.derived_id and candidate.id not in facts.ids:
                held = self._held(candidate.id.bytes)
                if held is not None:
                    facts.ids[candidate.id] = held
            if not candidate.allow_dupplicate and candidate.person not in facts.live:
                found = self._one("SELECT id FROM persons WHERE campaign_id = ? AND phone_number = ?", candidate.person)
                if found is not None:
                    facts.live[candidate.person] = UUID(bytes=found[0])

    def add(self, new_leads: Iterable[NewLead]) -> None:
        """Remember what a chunk would have stored."""
        persons: list[tuple[int, str, bytes]] = []
        held: list[tuple[str | bytes, bytes, str]] = []
        for new_lead in new_leads:
            candidate = new_lead.candidate
            own = (candidate.id.bytes, candidate.payload_hash)
            if new_lead.pending and not candidate.allow_dupplicate:
                persons.append((*candidate.person, candidate.id.bytes))
            if not candidate.derived_id:
                held.append((candidate.id.bytes, *own))
            if candidate.options.idempotency_key is not None:
                held.append((candidate.options.idempotency_key, *own))
        self._database.execute("BEGIN")
        self._database.executemany("INSERT OR IGNORE INTO persons VALUES (?, ?, ?)", persons)
        self._database.executemany("INSERT OR IGNORE INTO held VALUES (?, ?, ?)", held)
        self._database.execute("COMMIT")

    def close(self) -> None:
        """Drop what was remembered."""
        self._database.close()

    def _held(self, name: str | bytes) -> Held | None:
        found = self._one("SELECT id, payload_hash FROM held WHERE name = ?", (name,))
        return None if found is None else Held(UUID(bytes=found[0]), found[1])

    def _one(self, statement: str, values: tuple[object, ...]) -> tuple[bytes, str] | None:
        row: tuple[bytes, str] | None = self._database.execute(statement, values).fetchone()
        return row


SAMPLES: Final = 3
REJECTED_SAMPLES: Final = 10
MOST_COMPLETIONS: Final = 12
_CHUNK_ITEMS: Final = 2000


@dataclass(frozen=True, slots=True)
class Sample:
    """A lead that would be sent. The repr names no person."""

    line: int
    candidate: Candidate = field(repr=False)

    def as_dict(self, *, reveal: bool = False) -> dict[str, Any]:
        """Return it as JSON takes it: without `reveal` the names of variables, not their values."""

        def person(number: str, variables: str) -> dict[str, Any]:
            values: dict[str, Any] = json.loads(variables)
            return {
                "phone_number": number if reveal else mask_phone(number),
                "variables": values
                if reveal
                else {safe_name(name, position): "•••" for position, name in enumerate(values)},
            }

        return {
            "line": self.line,
            "campaign_id": self.candidate.campaign_id,
            **person(self.candidate.phone_number, self.candidate.variables),
            "allow_dupplicate": self.candidate.allow_dupplicate,
            "secondary_contacts": [person(*contact) for contact in self.candidate.contacts],
        }


@dataclass(frozen=True, slots=True)
class Completion:
    """A number that the country completed. The repr names no person."""

    line: int
    written: str = field(repr=False)
    phone_number: str = field(repr=False)
    country_code: int

    def as_dict(self, *, reveal: bool = False) -> dict[str, Any]:
        """Return it as JSON takes it: without `reveal` the last digits only."""
        return {
            "line": self.line,
            "written": self.written if reveal else mask_phone(self.written).removeprefix("+"),
            "phone_number": self.phone_number if reveal else mask_phone(self.phone_number),
            "country_code": self.country_code,
        }


@dataclass(frozen=True, slots=True)
class Plan:
    """What an import would do, if it began now.

    submitted             leads that would be delivered
    duplicates_in_file    rows whose person an earlier row of the file already stands for
    duplicates_in_store   rows whose person has a live lead already
    repeated              rows that were imported before, or whose key is known
    rejected              rows that would be refused; `refusals` are the first of them, as (line, faults)
    blocked               rows that would be stored as failed, because somebody of them must not be called
    forecast              what waits already, and when the last would be sent
    campaigns             leads that would be delivered, by campaign
    completed             numbers that were written without their country code, by the code they were read with
    completions           the first of these of each code
    notes                 what a person should know before the import
    columns               what each column of a table means
    """

    batch_id: UUID
    form: str
    encoding: Encoding
    rows: int = 0
    submitted: int = 0
    duplicates_in_file: int = 0
    duplicates_in_store: int = 0
    repeated: int = 0
    rejected: int = 0
    blocked: int = 0
    forecast: Forecast = field(default_factory=Forecast)
    samples: tuple[Sample, ...] = ()
    refusals: tuple[tuple[int, tuple[FieldError, ...]], ...] = ()
    campaigns: Mapping[int, int] = field(default_factory=dict)
    completed: Mapping[int, int] = field(default_factory=dict)
    completions: tuple[Completion, ...] = ()
    notes: tuple[str, ...] = ()
    columns: tuple[Meaning, ...] = ()

    @property
    def guesses(self) -> tuple[Meaning, ...]:
        """Columns that the import takes only where it is told."""
        return tuple(one for one in self.columns if one.guessed)


class Planner:
    """Decides about every row as the import would, and only counts."""

    def __init__(
        self, database: Database, options: ImportOptions, rate_limit: tuple[RateWindow, ...], screening: Screening
    ) -> None:
        self._database = database
        self._screening = screening
        self._account = check_account(options.account)
        self._rate_limit = rate_limit
        self._earlier = EarlierRows()
        self._submitted: Counter[int] = Counter()  # by campaign
        self._rows = self._duplicates = self._in_store = self._repeated = self._rejected = self._blocked = 0
        self._samples: list[Sample] = []
        self._refusals: list[tuple[int, tuple[FieldError, ...]]] = []
        self._completed: Counter[int] = Counter()  # by country code
        self._completions: list[Completion] = []

    def plan(self, file: LeadFile, encoding: Encoding) -> Plan:
        """Read the whole file, and return what an import of it would do."""
        while rows := list(islice(file.rows, _CHUNK_ITEMS)):
            candidates, rejections = read_items(rows, self._rows, file.ids, file.read)
            if file.read.country is not None:
                self._note_completions(file, rows, candidates)
            new_leads, refused = self._decide(candidates)
            lines = dict(enumerate((row.line for row in rows), self._rows))
            self._count(new_leads, sorted([*rejections, *refused], key=lambda rejection: rejection[0]), lines)
            self._rows += len(rows)
        with self._database.transaction() as connection:
            queues = campaigns.queued(connection, self._account)
        return Plan(
            batch_id=file.ids.batch_id,
            form=file.form,
            encoding=encoding,
            rows=self._rows,
            submitted=self._submitted.total(),
            duplicates_in_file=self._duplicates - self._in_store,
            duplicates_in_store=self._in_store,
            repeated=self._repeated,
            rejected=self._rejected,
            blocked=self._blocked,
            forecast=forecast(self._submitted, queues, self._rate_limit),
            samples=tuple(self._samples),
            refusals=tuple(self._refusals),
            campaigns=dict(self._submitted),
            completed=dict(self._completed),
            completions=tuple(self._completions),
            notes=file.notes,
            columns=file.read.meanings if isinstance(file.read, Columns) else (),
        )

    def close(self) -> None:
        """Drop what was remembered."""
        self._earlier.close()

    def _note_completions(self, file: LeadFile, rows: Sequence[Row], candidates: Sequence[Candidate]) -> None:
        for candidate in candidates:
            row = rows[candidate.index - self._rows]
            numbers = (candidate.phone_number, *(number for number, _ in candidate.contacts))
            for written, number in zip(file.read.numbers(row), numbers, strict=True):
                if isinstance(canonical_phone(written, "phone_number"), FieldError):
                    code = country_code(number)
                    self._completed[code] += 1
                    if self._completed[code] <= SAMPLES and len(self._completions) < MOST_COMPLETIONS:
                        self._completions.append(Completion(row.line, written, number, code))

    def _decide(self, candidates: list[Candidate]) -> tuple[list[NewLead], list[Rejection]]:
        if not candidates:
            return [], []
        with self._database.transaction() as connection:
            facts = copying.facts(connection, self._account, candidates, self._screening)
        stored = set(facts.live.values())
        self._earlier.complete(facts, candidates)
        admission = decide(candidates, facts)
        self._earlier.add(admission.new_leads)
        self._repeated += len(admission.repeated)
        self._in_store += sum(new_lead.duplicate_of in stored for new_lead in admission.new_leads)
        return admission.new_leads, admission.rejections

    def _count(self, new_leads: list[NewLead], rejections: list[Rejection], lines: dict[int, int]) -> None:
        new = [new_lead.candidate for new_lead in new_leads if new_lead.pending]
        blocked = sum(new_lead.blocked is not None for new_lead in new_leads)
        self._submitted.update(candidate.campaign_id for candidate in new)
        self._blocked += blocked
        self._duplicates += len(new_leads) - len(new) - blocked
        self._rejected += len(rejections)
        for candidate in new[: SAMPLES - len(self._samples)]:
            self._samples.append(Sample(lines[candidate.index], candidate))
        for index, faults in rejections[: REJECTED_SAMPLES - len(self._refusals)]:
            self._refusals.append((lines[index], in_file_words(faults)))
