"""How fast a healthy campaign drains beside dead ones, and behind a pile of leads of one number.

    python -m benchmarks.sick_neighbours [--pools prefork threads] [--dead 0 3 12 200] [--piles 400 1000] [--leads 3000]
                                         [--delay 0.02] [--rounds 2] [--rate-limit "2000/10 seconds"]

Dead: campaigns with one waiting lead each, which the API answers with 404. Pile: leads of one number with
`allow_dupplicate` true, due before the others. Each round measures all cases, so that ratios are of one run. Exit 1
where a healthy drain falls below 0.9 of that beside nothing, or a lead of a pile waits longer than 2 s (p95) for the
end of the one before it.
"""

import argparse
import json
import statistics
import sys
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

from benchmarks import contenders
from benchmarks.bench import ROOT, Bench
from benchmarks.leads import phone_number
from benchmarks.ours import DEAD_FROM

RATIO_AT_LEAST: Final = 0.9
WAIT_AT_MOST_SECONDS: Final = 2.0
_WARM_UP: Final = 200
_FIRST: Final = 10_000
_TIMEOUT_SECONDS: Final = 90.0


@dataclass(frozen=True, slots=True)
class Case:
    """What stands before the healthy leads."""

    pool: str
    dead: int = 0
    pile: int = 0

    def __str__(self) -> str:
        return f"{self.pool:8} {self.dead:4} dead, pile of {self.pile:4}"


@dataclass(frozen=True, slots=True)
class Found:
    """Healthy leads a second, and the 95th percentile of what a lead of the pile waits for the one before it."""

    per_second: float
    wait_p95_seconds: float | None


def measure(bench: Bench, case: Case, leads: int, delay_seconds: float, rate_limit: str) -> Found:
    """One drain, from the loading of the leads to the last healthy one."""
    ours = contenders.ours(pool=case.pool)
    extra = {"DISPATCHER_RATE_LIMIT": rate_limit}
    with bench.database(schema=True) as url, bench.running(ours, url, extra) as running:
        bench.api.reset()
        running.load(0, _WARM_UP)
        bench.api.wait(_WARM_UP, _TIMEOUT_SECONDS)
        time.sleep(1.0)
        bench.api.reset(delay_seconds, dead_from=DEAD_FROM)
        running.call("-m", "benchmarks.ours", "load_behind", str(_FIRST), str(leads), str(case.dead), str(case.pile))
        begin = time.monotonic()
        healthy = _healthy(bench)
        while len(healthy) < leads and time.monotonic() < begin + _TIMEOUT_SECONDS:
            time.sleep(0.5)
            healthy = _healthy(bench)
        received = bench.api.log()
        first = min([begin, *(at for at, _, _ in received)])
        last = healthy[-1] if len(healthy) == leads else begin + _TIMEOUT_SECONDS
        return Found(len(healthy) / (last - first), _wait(received, delay_seconds) if case.pile else None)


def _healthy(bench: Bench) -> list[float]:
    return [at for at, number, _ in bench.api.log() if number != phone_number(_FIRST)]


def _wait(received: list[list[float]], delay_seconds: float) -> float | None:
    pile = [at for at, number, _ in received if number == phone_number(_FIRST)]
    waits = sorted(later - earlier - delay_seconds for earlier, later in pairwise(pile))
    return waits[int(len(waits) * 0.95)] if waits else None


def main() -> None:
    """Measure and print; exit 1 where a bound is broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pools", nargs="+", default=["prefork", "threads"])
    parser.add_argument("--dead", nargs="*", type=int, default=[3, 12, 200])
    parser.add_argument("--piles", nargs="*", type=int, default=[400, 1000])
    parser.add_argument("--leads", type=int, default=3000)
    parser.add_argument("--delay", type=float, default=0.02)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--rate-limit", default="off")
    parser.add_argument("--store", type=Path, default=ROOT / ".dispatcher" / "bench")
    asked = parser.parse_args()
    cases = [
        case
        for pool in asked.pools
        for case in (
            Case(pool),
            *(Case(pool, dead=dead) for dead in asked.dead if dead),
            *(Case(pool, pile=pile) for pile in asked.piles if pile),
        )
    ]
    found: dict[Case, list[Found]] = {case: [] for case in cases}
    with Bench(asked.store) as bench:
        for turn in range(asked.rounds):
            for case in cases if turn % 2 == 0 else reversed(cases):
                one = measure(bench, case, asked.leads, asked.delay, asked.rate_limit)
                found[case].append(one)
                print(f"  {case}: {json.dumps([one.per_second, one.wait_p95_seconds])}", flush=True)
    broken = 0
    for case, rounds in found.items():
        plain = statistics.median(one.per_second for one in found[Case(case.pool)])
        ratio = statistics.median(one.per_second for one in rounds) / plain
        waits = [one.wait_p95_seconds for one in rounds if one.wait_p95_seconds is not None]
        wait = statistics.median(waits) if waits else None
        told = f", p95 wait {wait:.3f} s" if wait is not None else ""
        print(f"{case}: {ratio * plain:7.1f} leads/s, {ratio:.2f} of plain{told}")
        broken += ratio < RATIO_AT_LEAST or (wait is not None and wait > WAIT_AT_MOST_SECONDS)
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    main()
