"""What an import would do, told by the same rules and without storing anything."""

import json
from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final
from uuid import UUID

from dispatcher.config.rate import RateWindow
from dispatcher.errors import FieldError
from dispatcher.importing.faults import in_file_words
from dispatcher.importing.forecast import Forecast, forecast
from dispatcher.importing.lead_file import LeadFile
from dispatcher.importing.seen import Seen
from dispatcher.importing.terms import ImportTerms
from dispatcher.leads.admission import Birth, decide
from dispatcher.leads.candidate import Candidate, Rejection, read_items
from dispatcher.leads.masking import mask_phone, safe_name
from dispatcher.leads.options import check_account
from dispatcher.store import bulk, campaigns
from dispatcher.store.database import Database

SAMPLES: Final = 3
REJECTED_SAMPLES: Final = 10
_CHUNK_ITEMS: Final = 2000


@dataclass(frozen=True, slots=True)
class Sample:
    """A lead that would be sent. The repr names no person."""

    line: int
    candidate: Candidate = field(repr=False)

    def as_dict(self, *, reveal: bool = False) -> dict[str, Any]:
        """As JSON takes it: without `reveal` the names of variables, not their values."""

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
class Plan:
    """What an import would do, if it began now.

    submitted             leads that would be delivered
    duplicates_in_file    rows whose person an earlier row of the file already stands for
    duplicates_in_store   rows whose person has a live lead already
    repeated              rows that were imported before, or whose key is known
    rejected              rows that would be refused; `refusals` are the first of them, as (line, faults)
    forecast              what waits already, and when the last would be sent
    """

    batch_id: UUID
    form: str
    encoding: str
    rows: int = 0
    submitted: int = 0
    duplicates_in_file: int = 0
    duplicates_in_store: int = 0
    repeated: int = 0
    rejected: int = 0
    forecast: Forecast = field(default_factory=Forecast)
    samples: tuple[Sample, ...] = ()
    refusals: tuple[tuple[int, tuple[FieldError, ...]], ...] = ()


class Planner:
    """Decides about every row as the import would, and only counts."""

    def __init__(self, database: Database, terms: ImportTerms, rate_limit: tuple[RateWindow, ...]) -> None:
        self._database = database
        self._account = check_account(terms.account)
        self._rate_limit = rate_limit
        self._seen = Seen()
        self._submitted: Counter[int] = Counter()  # by campaign
        self._rows = self._duplicates = self._in_store = self._repeated = self._rejected = 0
        self._samples: list[Sample] = []
        self._refusals: list[tuple[int, tuple[FieldError, ...]]] = []

    def plan(self, file: LeadFile, encoding: str) -> Plan:
        """Read the whole file."""
        while rows := list(islice(file.rows, _CHUNK_ITEMS)):
            candidates, rejections = read_items(rows, self._rows, file.ids, file.read)
            births, refused = self._decide(candidates)
            lines = dict(enumerate((row.line for row in rows), self._rows))
            self._count(births, sorted([*rejections, *refused], key=lambda rejection: rejection[0]), lines)
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
            forecast=forecast(self._submitted, queues, self._rate_limit),
            samples=tuple(self._samples),
            refusals=tuple(self._refusals),
        )

    def close(self) -> None:
        """Drop what was remembered."""
        self._seen.close()

    def _decide(self, candidates: list[Candidate]) -> tuple[list[Birth], list[Rejection]]:
        if not candidates:
            return [], []
        with self._database.transaction() as connection:
            facts = bulk.facts(connection, self._account, candidates)
        stored = set(facts.live.values())
        self._seen.complete(facts, candidates)
        admission = decide(candidates, facts)
        self._seen.add(admission.births)
        self._repeated += len(admission.repeated)
        self._in_store += sum(birth.duplicate_of in stored for birth in admission.births)
        return admission.births, admission.rejections

    def _count(self, births: list[Birth], rejections: list[Rejection], lines: dict[int, int]) -> None:
        new = [birth.candidate for birth in births if birth.duplicate_of is None]
        self._submitted.update(candidate.campaign_id for candidate in new)
        self._duplicates += len(births) - len(new)
        self._rejected += len(rejections)
        for candidate in new[: SAMPLES - len(self._samples)]:
            self._samples.append(Sample(lines[candidate.index], candidate))
        for index, faults in rejections[: REJECTED_SAMPLES - len(self._refusals)]:
            self._refusals.append((lines[index], in_file_words(faults)))
