"""`make bench` and `make bench-all`: every figure beside its peers, on one machine, in one run.

    python -m benchmarks [--all | --only NAME …] [--rounds 3] [--before CHECKOUT]

Prints what it finds and keeps it in `benchmarks/results.json`; `benchmarks/README.md` is written from that file.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from benchmarks import report
from benchmarks.bench import Bench
from benchmarks.contenders import PEERS, ROOT
from benchmarks.figure import Figure
from benchmarks.figures import cold_start, drains, limits, sizes, starts, submits

Measure = Callable[[Bench, int], Figure]

QUICK: Final[Mapping[str, Measure]] = {
    "drain": drains.fast,
    "drain_slow": drains.slow,
    "submit": submits.one_by_one,
    "submit_many": submits.many,
    "asubmit": submits.at_once,
    "latency": submits.latency,
    "starts": starts.starts,
    "idle": sizes.idle,
    "cold_start": cold_start.cold_start,
}
WITHOUT_PEERS: Final = frozenset({"cold_start"})
LONG: Final[Mapping[str, Measure]] = {
    "finished": sizes.finished,
    "waiting": sizes.waiting,
    "limit": limits.limited,
}


def main() -> None:
    """Measure, print, keep. Exit 1 if a target was missed."""
    parser = argparse.ArgumentParser(description="How fast the dispatcher is, beside its peers.")
    parser.add_argument("--all", action="store_true", help="also the long ones (a quarter of an hour)")
    parser.add_argument("--only", nargs="+", choices=[*QUICK, *LONG], help="only these")
    parser.add_argument("--rounds", type=int, default=3, help="alternating rounds, of which the median counts")
    parser.add_argument(
        "--store", type=Path, default=ROOT / ".dispatcher" / "bench", help="where the servers keep data"
    )
    parser.add_argument("--before", type=Path, help="an older checkout, for cold starts beside those of today")
    parser.add_argument("--results", type=Path, default=report.RESULTS)
    arguments = parser.parse_args()
    every = {**QUICK, **LONG}
    names = arguments.only or (every if arguments.all else QUICK)
    if not set(names) <= WITHOUT_PEERS and not Path(PEERS).exists():
        sys.exit("The peers are not installed; `make bench` does that, in .venv-bench.")
    missed = 0
    with Bench(arguments.store, before=arguments.before) as bench:
        for name in names:
            print(f"{name}: {every[name].__module__.rpartition('.')[2]}.{every[name].__name__}", flush=True)
            begin = time.monotonic()
            figure = every[name](bench, 1 if name == "latency" else arguments.rounds)
            figure.load_average = os.getloadavg()[1]
            report.keep(figure, arguments.results, commit(), time.monotonic() - begin)
            print(report.text(figure), flush=True)
            missed += sum(not check.holds for check in figure.checks)
    if arguments.results == report.RESULTS:
        report.write()
    sys.exit(1 if missed else 0)


def commit() -> str:
    """What was measured; `-dirty` where it is not as committed, but for what the benchmarks write themselves."""
    own = (f":!{path.relative_to(ROOT)}" for path in (report.RESULTS, report.README))
    changed = _git("status", "--porcelain", "--", ".", *own)
    return (_git("rev-parse", "--short", "HEAD") or "unknown") + ("-dirty" if changed else "")


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments],  # noqa: S607
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip()


if __name__ == "__main__":
    main()
