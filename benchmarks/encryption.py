"""What encryption at rest costs: `submit`, and the drain of the leads, with keys beside without.

    python -m benchmarks.encryption [--rounds 3] [--leads 1500]

Rounds alternate between both, each on a database of its own: leads are submitted one by one from one thread, then a
worker of two processes is started and the stand-in API counts from the first request to the last. The ratios are of
the medians.
"""

import argparse
import json
import secrets
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path

from benchmarks.bench import Bench, Running
from benchmarks.contenders import Contender, ours

_TIMEOUT_SECONDS = 300.0


def measured(bench: Bench, contender: Contender, leads: int) -> tuple[float, float]:
    """Return the seconds of all submits, and those of the drain."""
    with bench.database(schema=True) as database_url:
        running = Running(bench, contender, database_url)
        submitted = json.loads(running.call("-m", "benchmarks.ours", "submit", "0", str(leads)).splitlines()[-1])
        seconds = submitted["seconds"] if isinstance(submitted, dict) else submitted
        bench.api.reset()
        try:
            running.start()
            stats = bench.api.wait(leads + 1, _TIMEOUT_SECONDS)
        finally:
            running.stop()
    return float(seconds), stats["last_at"] - stats["first_at"]


def main() -> None:
    """Print leads per second of both, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--leads", type=int, default=1500)
    given = parser.parse_args()
    plain = ours()
    keys = (("DISPATCHER_ENCRYPTION_KEYS", secrets.token_hex(32)),)
    kinds = {"plain": plain, "encrypted": replace(plain, environment=plain.environment + keys)}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in kinds}
    with tempfile.TemporaryDirectory() as store, Bench(Path(store)) as bench:
        for _ in range(given.rounds):
            for name, contender in kinds.items():
                found[name].append(measured(bench, contender, given.leads))
    for index, what in enumerate(("submit", "drain")):
        rates = {
            name: given.leads / statistics.median(seconds[index] for seconds in rounds)
            for name, rounds in found.items()
        }
        told = " · ".join(f"{name} {rate:.0f} leads/s" for name, rate in rates.items())
        print(f"{what}: {told} · encrypted / plain {rates['encrypted'] / rates['plain']:.2f}")


if __name__ == "__main__":
    main()
