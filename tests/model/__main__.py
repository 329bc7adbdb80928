"""`python -m tests.model --seeds 100000`: the model over many seeds, on all processors; exit 1 if a promise breaks."""

import argparse
import os
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor

from tests.model.simulation import Broken, Simulation

_CHUNK = 250


def violations(seeds: Iterable[int]) -> tuple[int, int, list[tuple[int, str]]]:
    """Leads and POSTs of these seeds, and each seed that broke a promise with what it broke."""
    leads, posts, broken = 0, 0, []
    for seed in seeds:
        simulation = Simulation(seed)
        try:
            simulation.run()
        except Broken as error:
            broken.append((seed, str(error)))
        leads += len(simulation.store.leads)
        posts += len(simulation.voicery.posts)
    return leads, posts, broken


def main() -> int:
    given = argparse.ArgumentParser(prog="python -m tests.model")
    given.add_argument("--seeds", type=int, default=100_000)
    given.add_argument("--first", type=int, default=0, help="the first seed; with --seeds 1, to repeat one")
    arguments = given.parse_args()
    began = time.monotonic()
    seeds = range(arguments.first, arguments.first + arguments.seeds)
    chunks = [seeds[at : at + _CHUNK] for at in range(0, len(seeds), _CHUNK)]
    leads, posts, broken = 0, 0, []
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for some_leads, some_posts, some_broken in pool.map(violations, chunks):
            leads, posts = leads + some_leads, posts + some_posts
            broken += some_broken
    seconds = time.monotonic() - began
    print(
        f"{len(seeds)} seeds from {seeds.start}: {leads} leads, {posts} POSTs, {len(broken)} violations,"
        f" {seconds:.0f} s"
    )
    for seed, sentence in broken[:20]:
        print(f"seed {seed}: {sentence}\n  repeat it with: python -m tests.model --first {seed} --seeds 1")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
