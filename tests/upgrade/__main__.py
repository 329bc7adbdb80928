"""`python -m tests.upgrade --seeds 5`: an upgrade under load from each older version; exit 1 if a promise broke."""

import argparse
import random
import sys
import tempfile
from pathlib import Path

from dispatcher.store.migration import head, revisions
from tests.upgrade.motion import Account, run
from tests.upgrade.release import PREVIOUS, NoHistory, Release, last_with, previous

NO_HISTORY = 3  # the exit code without one
OLDEST = "0002"  # no commit ends at the baseline itself


def release(seed: int, directory: Path) -> Release:
    """The version before for odd seeds, any older one for even ones."""
    if seed % 2:
        return previous(directory)
    older = [revision for revision in revisions() if OLDEST <= revision <= PREVIOUS]
    return last_with(random.Random(seed).choice(older), directory)


def told(seed: int, old: Release, account: Account) -> str:
    """One line for a seed."""
    submissions = (account.old, account.new)
    longest = max(one.longest_seconds for one in submissions)
    return (
        f"seed {seed}: {old.revision} ({old.commit[:7]}) → {head()}: {sum(len(one.ids) for one in submissions)} leads, "
        f"{len(account.violations)} violations, {sum(len(one.errors) for one in submissions)} failed submits, longest "
        f"{longest:.2f} s, {len(account.dead)} dead processes, {len(account.complaints)} complaints; {account.states}"
    )


def main() -> int:
    """Run the seeds."""
    parser = argparse.ArgumentParser(prog="python -m tests.upgrade")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=5.0, help="for which both versions work side by side")
    given = parser.parse_args()
    broken = 0
    for seed in range(given.first, given.first + given.seeds):
        with tempfile.TemporaryDirectory() as name:
            directory = Path(name)
            directory.chmod(0o755)
            try:
                old = release(seed, directory / "release")
            except NoHistory as error:
                print(error)
                return NO_HISTORY
            chaos = random.Random(seed).choice((0.0, 0.05, 0.15))
            account = run(
                seed, old, side_by_side_seconds=given.seconds, restarted=True, latency_seconds=0.02, chaos=chaos
            )
        print(told(seed, old, account), flush=True)
        faults = [*account.violations, *account.old.errors, *account.new.errors, *account.dead, *account.complaints]
        broken += bool(faults)
        for fault in faults[:20]:
            print(f"    {fault[:400]}")
    return int(broken > 0)


if __name__ == "__main__":
    sys.exit(main())
