"""Where the CPU of a lead goes, by part, in microseconds.

    python -m benchmarks.cpu_by_part [--leads 40000] [--in-flight 32]

The worker processes of a drain (API at once) interrupt themselves each millisecond of CPU and note which part they are
in: the innermost frame that belongs to one. So a part has what it calls in C, and what it calls in no other part.
"""

import argparse
import json
import os
import signal
import sys
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Final

from benchmarks import contenders
from benchmarks.bench import Bench
from benchmarks.contenders import ROOT, Contender
from benchmarks.drain import drain_running

_SAMPLES: Final = "BENCHMARK_SAMPLES"  # where workers keep what they note
_EVERY_SECONDS: Final = 0.001
_KEEP_EVERY: Final = 200  # samples
_WARM_UP: Final = 2000

_PARTS: Final = (
    ("/dispatcher/voicery/", "HTTP"),
    ("/requests/", "HTTP"),
    ("/http/client", "HTTP"),
    ("/dispatcher/hub", "greenlets"),
    ("/dispatcher/delivery/slots", "greenlets"),
    ("/dispatcher/answers/", "outcome and JSON"),
    ("/psycopg", "psycopg and statements"),
    ("/dispatcher/store/", "psycopg and statements"),
    ("/sqlalchemy/", "SQLAlchemy"),
    ("/redis/", "Redis"),
    ("/dispatcher/broker/", "Redis"),
    ("/celery/", "Celery"),
    ("/kombu/", "Celery"),
    ("/billiard/", "Celery"),
    ("/dispatcher/worker/", "Celery"),
    ("/dispatcher/", "run, recording, log"),
)


def part_of(frame: FrameType | None) -> str:
    """The part that the innermost frame of any part belongs to."""
    while frame is not None:
        for place, part in _PARTS:
            if place in frame.f_code.co_filename:
                return part
        frame = frame.f_back
    return "other"


class Sampler:
    """Samples this process from now on; keeps the counts in a file of its own."""

    def __init__(self, directory: Path) -> None:
        self._kept = directory / str(os.getpid())
        self._counts: Counter[str] = Counter()
        signal.signal(signal.SIGPROF, self._sample)
        signal.siginterrupt(signal.SIGPROF, False)
        signal.setitimer(signal.ITIMER_PROF, _EVERY_SECONDS, _EVERY_SECONDS)

    def _sample(self, _: int, frame: FrameType | None) -> None:
        self._counts[part_of(frame)] += 1
        if self._counts.total() % _KEEP_EVERY == 0:
            self._kept.write_text(json.dumps(self._counts))


def work(arguments: list[str]) -> None:
    """`celery` with these arguments, its pool's processes sampled."""
    from celery import signals
    from celery.__main__ import main as celery

    directory = Path(os.environ[_SAMPLES])
    signals.worker_process_init.connect(lambda **_: Sampler(directory), weak=False)
    sys.argv = ["celery", *arguments]
    celery()


def sampled(in_flight: int) -> Contender:
    """Ours, started through `work`."""
    ours = contenders.ours(in_flight=in_flight)
    (argv,) = ours.workers
    worker = ("-m", "benchmarks.cpu_by_part", "--", *argv[2:])
    return Contender(
        ours.name, ours.label, ours.python, (worker,), ours.load, schema=True, environment=ours.environment
    )


def main() -> None:
    """Drain and print."""
    parser = argparse.ArgumentParser(description="Where the CPU of a lead goes.")
    parser.add_argument("--leads", type=int, default=40_000)
    parser.add_argument("--in-flight", type=int, default=32, help="in each of two processes")
    given = parser.parse_args()
    ours = sampled(given.in_flight)
    with (
        TemporaryDirectory() as directory,
        Bench(ROOT / ".dispatcher" / "bench") as bench,
        bench.database(schema=True) as url,
        bench.running(ours, url, {_SAMPLES: directory}) as running,
    ):
        drain_running(bench, running, _WARM_UP)
        before = _kept(Path(directory))
        drained = drain_running(bench, running, given.leads, first=2 * _WARM_UP)
        counts = _kept(Path(directory)) - before
    print(f"{given.leads:,} leads, {ours.label}: {drained.per_second:,.0f} leads/s")
    for part, count in counts.most_common():
        print(f"  {part:24} {drained.worker_ms * 1000 * count / counts.total():6.1f} µs a lead")
    print(f"  {'workers in all':24} {drained.worker_ms * 1000:6.1f} µs a lead")
    print(f"  {'Postgres, beside them':24} {drained.postgres_ms * 1000:6.1f} µs a lead")


def _kept(directory: Path) -> Counter[str]:
    counts: Counter[str] = Counter()
    for path in directory.iterdir():
        counts.update(json.loads(path.read_text()))
    return counts


if __name__ == "__main__":
    if sys.argv[1:2] == ["--"]:
        work(sys.argv[2:])
    else:
        main()
