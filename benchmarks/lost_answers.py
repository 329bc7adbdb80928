"""What becomes of lost answers while an honest list and ordinary traffic are there to prove by.

    python -m benchmarks.lost_answers [--campaigns 20] [--per-minute 1] [--hours 3] [--lost 0.1] [--faster 60]
                                      [--no-reference] [--seed 1]

Each campaign gets its leads one by one from its first one on, at random instants; of `--lost` of them the answer is
lost, half before Voicery created the lead and half after it, in six ways. All times are the defaults divided by
`--faster`, the rate limit too. Half of the leads say `allow_dupplicate` where they carry a reference. Exit 1 where
fewer than 99 % of the created ones are found, fewer than 95 % of the others are proven absent and sent again, or a
lead is lost or created twice.
"""

import argparse
import os
import random
import re
import shutil
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import phonenumbers
import psycopg

from benchmarks.leads import NUMBERS, phone_number
from dispatcher.api import Dispatcher
from dispatcher.config.settings import Settings
from dispatcher.embedded.stack import Stack
from dispatcher.sandbox.fault import FaultName, Rule, When
from dispatcher.sandbox.server import Sandbox

FOUND_AT_LEAST: Final = 0.99
RESENT_AT_LEAST: Final = 0.95
WAYS: Final = tuple(FaultName(name) for name in ("hang", "reset", "close", "garbage", "500", "502"))
_REFERENCE: Final = "lead_ref"
_FIRST_CAMPAIGN: Final = 101
_WORKER: Final = (sys.executable, "-m", "celery", "-A", "dispatcher", "worker", "--concurrency", "2", "-l", "WARNING")
_HOUR: Final = 3600.0
_UNSETTLED: Final = ("pending", "sending", "unknown")


def settings(faster: float, *, reference: bool) -> dict[str, str]:
    """The default times, divided; requests keep a second to be answered in."""
    divided = {"SETTLE": 120.0, "UNKNOWN_FOR": 3600.0, "PROOF_FOR": 600.0, "GATE_WAIT": 5.0, "GATE_WAIT_MAX": 300.0}
    return {
        **{f"DISPATCHER_{name}": str(seconds / faster) for name, seconds in divided.items()},
        "DISPATCHER_RATE_LIMIT": f"100/{60 / faster:.3f} seconds; 20/{10 / faster:.3f} seconds",
        "DISPATCHER_SWEEP_INTERVAL": "0.2",
        "DISPATCHER_LEASE": "6",
        "DISPATCHER_CONNECT_TIMEOUT": "1",
        "DISPATCHER_READ_TIMEOUT": "1",
        "DISPATCHER_DEADLINE": "2",
        **({"DISPATCHER_REFERENCE_VARIABLE": _REFERENCE} if reference else {}),
    }


@dataclass
class Traffic:
    """Submits leads, and has the sandbox lose answers. `lost`: when the answer about each number is lost."""

    dispatcher: Dispatcher
    sandbox: Sandbox
    dice: random.Random
    reference: bool
    lost: dict[str, When] = field(default_factory=dict)
    submitted: int = 0

    def __post_init__(self) -> None:
        self._numbers = valid_numbers()

    def lead(self, campaign_id: int, share_lost: float) -> None:
        """Submit a lead of another person."""
        number = next(self._numbers)
        if self.dice.random() < share_lost:
            self.lost[number] = when = self.dice.choice((When.BEFORE, When.AFTER))
            rule = Rule(fault=self.dice.choice(WAYS), when=when, phone=number[1:], seconds=5.0)
            self.sandbox.faults.add(rule)
        self.dispatcher.submit(
            {
                "phone_number": number,
                "campaign_id": campaign_id,
                "variables": {"order": f"A-{self.submitted:07}"},
                "allow_dupplicate": self.reference and self.dice.random() < 0.5,
            }
        )
        self.submitted += 1


def valid_numbers() -> Iterator[str]:
    """Numbers reserved for fiction that pass for valid."""
    for index in range(NUMBERS):
        number = phone_number(index)
        if phonenumbers.is_valid_number(phonenumbers.parse(number)):
            yield number


@dataclass(frozen=True, slots=True)
class Found:
    """One run.

    ends    of the lost answers, by when they were lost
    held    what their look-ups missed, of those that are held for a person
    waits   in settle times, until they were resolved
    """

    ends: Mapping[When, Counter[str]]
    held: Counter[str]
    waits: list[float]
    leads: int
    unresolved: int
    created_twice: int
    look_ups: int
    posts: int
    allowed: float

    def share(self, when: When) -> float:
        """The share of lost answers that no person had to deal with."""
        of = self.ends[when]
        return of["accepted"] / max(1, of.total())


def run(stack: Stack, asked: argparse.Namespace) -> Found:
    """Submit for so many hours, then go on without losses until the last doubt has its end."""
    reference = not asked.no_reference
    with Sandbox(latency_seconds=0.05) as sandbox:
        ours = {
            **settings(asked.faster, reference=reference),
            **stack.urls(),
            "VOICERY_BASE_URL": sandbox.base_url,
            "VOICERY_API_TOKEN": "sandbox-token",
        }
        stack.run("worker", _WORKER, ours)
        dispatcher = Dispatcher(Settings.from_environment(ours))
        traffic = Traffic(dispatcher, sandbox, random.Random(asked.seed), reference)  # noqa: S311  no secret
        began = time.monotonic()
        submit_for(traffic, asked, asked.hours * _HOUR / asked.faster, asked.lost)
        seconds = time.monotonic() - began
        entries = list(sandbox.log)
        with psycopg.connect(ours["DATABASE_URL"], autocommit=True) as connection:
            until = time.monotonic() + 1.5 * _HOUR / asked.faster
            while open_leads(connection, traffic.lost) and time.monotonic() < until:
                submit_for(traffic, asked, 1.0, 0.0)
            while unsettled(connection) and time.monotonic() < until + 10:
                time.sleep(0.2)
            found = connection.execute(
                "SELECT phone_number, state || coalesce(':' || failure_class, ''),"
                " extract(epoch FROM finished_at - first_attempt_at) FROM dispatcher.leads"
            ).fetchall()
            held = connection.execute(
                "SELECT coalesce((SELECT string_agg(DISTINCT look ->> 'missing', ' / ' ORDER BY look ->> 'missing')"
                "  FROM jsonb_array_elements(attempt.evidence -> 'lookups') AS look), failure.message)"
                " FROM dispatcher.failed_leads AS failure JOIN dispatcher.leads AS lead ON lead.id = failure.lead_id"
                " JOIN dispatcher.lead_attempts AS attempt ON attempt.id = lead.attempt_id"
                " WHERE failure.failure_class = 'outcome_unknown' AND failure.resolved_at IS NULL"
            ).fetchall()
        dispatcher.close()
        created = Counter(
            (entry.body["phone_number"], entry.body["campaign_id"])
            for entry in sandbox.log
            if entry.created_id is not None
        )
    ends: dict[When, Counter[str]] = {When.BEFORE: Counter(), When.AFTER: Counter()}
    for number, end, _ in found:
        if number in traffic.lost:
            ends[traffic.lost[number]][end] += 1
    settle = 120.0 / asked.faster
    return Found(
        ends=ends,
        held=Counter(re.sub(r"[0-9]+", "…", missing) for (missing,) in held),
        waits=[float(took) / settle for number, end, took in found if number in traffic.lost and end == "accepted"],
        leads=len(found),
        unresolved=traffic.submitted - len(found) + sum(end.partition(":")[0] in _UNSETTLED for _, end, _ in found),
        created_twice=sum(count > 1 for count in created.values()),
        look_ups=sum(entry.method == "GET" for entry in entries),
        posts=len({entry.request for entry in entries if entry.method == "POST"}),
        allowed=100 / 60 * asked.faster * seconds,
    )


def submit_for(traffic: Traffic, asked: argparse.Namespace, seconds: float, lost: float) -> None:
    """Every campaign at its own pace; an instant that has passed is made up for."""
    between = 60 / asked.faster / asked.per_minute
    campaigns = range(_FIRST_CAMPAIGN, _FIRST_CAMPAIGN + asked.campaigns)
    until = time.monotonic() + seconds
    due = {campaign: time.monotonic() + traffic.dice.expovariate(1 / between) for campaign in campaigns}
    while (now := time.monotonic()) < until:
        for campaign, at in due.items():
            if at <= now:
                due[campaign] = at + traffic.dice.expovariate(1 / between)
                traffic.lead(campaign, lost)
        time.sleep(max(0.0, min(until, *due.values()) - time.monotonic()))


def open_leads(connection: psycopg.Connection, lost: Mapping[str, When]) -> bool:
    """Whether an answer that was lost still waits for its end."""
    rows = connection.execute("SELECT phone_number FROM dispatcher.leads WHERE state = ANY (%s)", [list(_UNSETTLED)])
    return any(number in lost for (number,) in rows.fetchall())


def unsettled(connection: psycopg.Connection) -> bool:
    """Whether any lead waits for its end."""
    row = connection.execute("SELECT FROM dispatcher.leads WHERE state = ANY (%s) LIMIT 1", [list(_UNSETTLED)])
    return row.fetchone() is not None


def main() -> int:
    """Run once and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--campaigns", type=int, default=20)
    parser.add_argument("--per-minute", type=float, default=1.0, help="leads of one campaign")
    parser.add_argument("--hours", type=float, default=3.0)
    parser.add_argument("--lost", type=float, default=0.1, help="share of lost answers")
    parser.add_argument("--faster", type=float, default=60.0)
    parser.add_argument("--no-reference", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    ours = ("VOICERY_", "DISPATCHER_", "DATABASE_URL", "REDIS_URL", "CELERY_")
    for name in [name for name in os.environ if name.startswith(ours)]:
        del os.environ[name]
    store = Path(tempfile.mkdtemp(prefix="dispatcher-lost-"))
    store.chmod(0o755)
    with Stack(store, os.environ, durable=False) as stack:
        found = run(stack, asked)
    created, absent = found.share(When.AFTER), found.share(When.BEFORE)
    print(f"{found.leads} leads in {asked.campaigns} campaigns, {asked.per_minute:g} a minute each")
    print(f"created, answer lost: {created:.2%} of {found.ends[When.AFTER].total()} found")
    print(f"not created, answer lost: {absent:.2%} of {found.ends[When.BEFORE].total()} proven absent and sent again")
    for when, ends in found.ends.items():
        print(f"  lost {when}: {dict(ends)}")
    for missing, count in found.held.items():
        print(f"  held: {count} × {missing}")
    if len(found.waits) > 1:
        middle, last = statistics.median(found.waits), statistics.quantiles(found.waits, n=20)[-1]
        print(f"resolved after {middle:.1f} settle times (median), {last:.1f} (p95)")
    print(
        f"requests of look-ups: {found.look_ups / found.allowed:.2%} of the rate;"
        f" POSTs: {found.posts / found.allowed:.2%}"
    )
    print(f"without an end: {found.unresolved}; created twice: {found.created_twice}")
    good = created >= FOUND_AT_LEAST and absent >= RESENT_AT_LEAST and found.unresolved == found.created_twice == 0
    if good:
        shutil.rmtree(store, ignore_errors=True)
    else:
        print(f"Logs are in {store}.")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
