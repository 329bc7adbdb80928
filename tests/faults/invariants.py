"""What must hold after every fault, judged by what the sandbox really received and by the attempts.

I1 nothing lost · I2 no second POST without a proof that is true · I3 one open attempt per person, legal moves (by a
trigger) · I4 what is accepted is there · I5 what is there is ours, once · I6 the cap on attempts holds.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import psycopg
from psycopg.rows import namedtuple_row

from dispatcher.sandbox.log import Line

NO_EFFECT = frozenset(
    {
        "not_sent",
        "given_back",
        "throttled",
        "unauthorized",
        "no_balance",
        "forbidden",
        "misconfigured",
        "rejected",
        "duplicate",
        "bug",
    }
)
_WAITING_CLAIM = timedelta(seconds=5)  # `lock_timeout`: a claim that waits for longer fails
OPEN_STATES = frozenset({"pending", "sending", "unknown"})


@dataclass(frozen=True)
class Ledger:
    """What Voicery received for each reference: when POSTs came, and which leads came to be when."""

    posts: Mapping[str, list[float]] = field(default_factory=dict)
    created: Mapping[str, list[tuple[float, int]]] = field(default_factory=dict)

    @classmethod
    def of(cls, entries: Iterable[Line], reference: str) -> "Ledger":
        posts: dict[str, dict[int, float]] = defaultdict(dict)
        created: dict[str, list[tuple[float, int]]] = defaultdict(list)
        for entry in entries:
            if entry.method != "POST" or not isinstance(entry.body, dict):
                continue
            ref = str((entry.body.get("variables") or {}).get(reference))
            posts[ref].setdefault(entry.request, entry.at)
            if entry.created_id is not None:
                created[ref].append((entry.at, entry.created_id))
        return cls({ref: sorted(at.values()) for ref, at in posts.items()}, created)


@dataclass
class Report:
    """Every violation as a sentence; empty if all is well."""

    violations: list[str] = field(default_factory=list)

    def claim(self, holds: object, sentence: str) -> None:
        if not holds:
            self.violations.append(sentence)


def check(
    database_url: str,
    entries: Sequence[Line],
    reference: str,
    submitted: Iterable[str],
    *,
    settled: bool = True,
    unproven: bool = False,
    max_attempts: int | None = None,
) -> Report:
    """Judge one database against one log. `unproven`: a setting allows a second POST without proof."""
    ledger = Ledger.of(entries, reference)
    report = Report()
    with psycopg.connect(database_url.replace("+psycopg", ""), row_factory=namedtuple_row) as connection:
        leads: dict[str, Any] = {
            row.id: row
            for row in connection.execute(
                "SELECT id::text, state, failure_class, voicery_lead_id, attempts, resends, campaign_id, phone_number"
                " FROM dispatcher.leads"
            ).fetchall()
        }
        attempts: dict[str, list[Any]] = defaultdict(list)
        for row in connection.execute(
            "SELECT lead_id::text, started_at, ended_at, finished_at, outcome, evidence, campaign_id, phone_number"
            " FROM dispatcher.lead_attempts ORDER BY started_at"
        ).fetchall():
            attempts[row.lead_id].append(row)
    for lead_id in submitted:
        report.claim(lead_id in leads, f"I1 {lead_id} was acknowledged and is gone")
    for lead_id, lead in leads.items():
        report.claim(not settled or lead.state not in OPEN_STATES, f"I8 {lead_id} is still {lead.state}")
        _check_posts(report, lead_id, ledger, attempts[lead_id], unproven=unproven)
        created = [voicery_id for _, voicery_id in ledger.created.get(lead_id, [])]
        report.claim(len(created) <= 1, f"I2 {lead_id} was created {len(created)} times: called twice")
        if lead.state == "accepted":
            report.claim(lead.voicery_lead_id in created, f"I4 {lead_id} is accepted as an id that is not there for it")
        elif settled and created:
            held = (lead.state, lead.failure_class) == ("failed", "outcome_unknown") or lead.state == "duplicate"
            report.claim(held, f"I5 {lead_id} exists at Voicery and is {lead.state} here")
        if max_attempts is not None:
            report.claim(lead.attempts <= max_attempts, f"I6 {lead_id} has {lead.attempts} attempts")
    for reference_seen in ledger.created:
        report.claim(reference_seen in leads, f"I5 Voicery has a lead of {reference_seen}, whom nobody submitted")
    _check_persons(report, attempts)
    return report


def _check_posts(report: Report, lead_id: str, ledger: Ledger, attempts: Sequence[Any], *, unproven: bool) -> None:
    posts = ledger.posts.get(lead_id, [])
    report.claim(len(posts) <= len(attempts), f"I2 {lead_id}: {len(posts)} POSTs of {len(attempts)} promises")
    earlier = attempts[:-1]
    for attempt in earlier:
        proven = attempt.outcome in NO_EFFECT or attempt.evidence.get("proof") is True or unproven
        report.claim(proven, f"I2 {lead_id}: a POST followed an attempt that ended as {attempt.outcome} without proof")
    for at, voicery_id in ledger.created.get(lead_id, []):
        later = [post for post in posts if post > at]
        report.claim(not later, f"I2 {lead_id}: POSTed again after it was there as {voicery_id}: a proof was false")


def _check_persons(report: Report, attempts: Mapping[str, Sequence[Any]]) -> None:
    """At most one open attempt per person at any time: the spans from claim to decision never overlap.

    Both ends are starts of transactions, so that a claim which waited for the decision before it may seem to be
    earlier. An attempt whose proof grew old was closed, and is open again: when it was closed first is not stored, so
    that only its exchange counts for the time before.
    """
    spans: dict[tuple[int, str], list[tuple[datetime, datetime | None]]] = defaultdict(list)
    for of_lead in attempts.values():
        for attempt in of_lead:
            of_person = spans[attempt.campaign_id, attempt.phone_number]
            start, again = attempt.started_at, attempt.evidence.get("reopened_at")
            if again is not None:
                of_person.append((start, attempt.ended_at or start))
                start = datetime.fromisoformat(again)
            of_person.append((start, attempt.finished_at))
    for of_person in spans.values():
        of_person.sort(key=lambda span: span[0])
        for (_, end), (start, _) in pairwise(of_person):
            apart = end is not None and end - start <= _WAITING_CLAIM
            report.claim(apart, f"I3 two attempts of one person were open at once: {start} before {end}")
