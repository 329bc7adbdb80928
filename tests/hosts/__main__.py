"""`python -m tests.hosts --seeds 20`: partitions between hosts under load; exit 1 if a promise broke."""

import argparse
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass

from tests.hosts.network import NoNamespaces
from tests.hosts.stack import HOSTS, LIMIT, OFFSETS_MINUTES, UNAVAILABLE, WORKERS, HostsStack
from tests.soak.stack import counted

NO_HOSTS = 3  # the exit code where the machine allows none
FLOW_WITHIN_SECONDS = 10.0
RESUMED_WITHIN_SECONDS = 120.0
SHORTEST_SECONDS, LONGEST_SECONDS = 0.3, 7.0
BACKLOG = 60
SERVERS = ("postgres", "redis", "voicery")
Ways = frozenset[tuple[str, str]]


@dataclass(frozen=True)
class Partition:
    """These ways are cut from `begins` to `ends`, in seconds of the run."""

    kind: str
    begins: float
    ends: float
    ways: Ways


def partitions(dice: random.Random, seconds: float) -> list[Partition]:
    """About one a second, several at a time, the last ones until the end."""
    made = []
    now = 0.0
    while now < seconds:
        kind = dice.choice(("both ways", "one way", "one way", "a host alone"))
        a, b = dice.sample(HOSTS, 2)
        if dice.random() < 0.7:  # else most pairs would be of hosts that never talk to each other
            a, b = dice.sample((dice.choice((*WORKERS, "producer")), dice.choice(SERVERS)), 2)
        ways = {(a, b)}
        if kind == "both ways":
            ways |= {(b, a)}
        elif kind == "a host alone":
            ways = {way for other in HOSTS if other != a for way in ((a, other), (other, a))}
        ends = min(seconds, now + dice.uniform(SHORTEST_SECONDS, LONGEST_SECONDS))
        made.append(Partition(kind, now, ends, frozenset(ways)))
        now += dice.uniform(0.2, 2.0)
    return made


@dataclass
class Account:
    """What became of one seed."""

    violations: list[str]
    counts: Counter[str]
    states: Counter[str]
    resumed: dict[str, float]  # seconds after healing, of each host of workers
    told: str

    @property
    def flowing_seconds(self) -> float:
        return min(self.resumed.values(), default=float("inf"))


def run(seed: int, seconds: float, backlog: int = BACKLOG) -> Account:
    """One seed; `backlog` leads are waiting when it heals."""
    with HostsStack(seed) as stack:
        stack.start_workers()
        stack.start_producer()
        planned = partitions(stack.dice, seconds)
        began = time.monotonic()
        while (now := time.monotonic() - began) < seconds:
            in_force = [one.ways for one in planned if one.begins <= now < one.ends]
            stack.network.cut = frozenset[tuple[str, str]]().union(*in_force)
            time.sleep(0.02)
        stack.submit_backlog(backlog)
        stack.network.heal()
        healed = stack.query("SELECT clock_timestamp()")[0][0]
        until = time.monotonic() + RESUMED_WITHIN_SECONDS
        while len(resumed := stack.accepted_since(healed)) < len(WORKERS) and time.monotonic() < until:
            time.sleep(0.1)
        calls = stack.stop_producer()
        states = stack.settle()
        log = stack.sandbox.log
        network = stack.network
        counts = Counter(
            {
                "partitions": len(planned),
                **Counter(f"partitions, {one.kind}" for one in planned),
                "packets dropped by them": network.dropped.total(),
                "submits refused": calls[UNAVAILABLE],
                "leads": states.total(),
                "429s": sum(entry.status == 429 for entry in log),
                **counted(log),
                **{f"in doubt, {end}": count for end, count in stack.unknowns().items()},
            }
        )
        violations = stack.violations()
        most = stack.most_in_a_window()
        if counts["429s"] and most > LIMIT:  # else the network brought together what had left in time
            violations.append(f"{counts['429s']} answers of 429, and {most} requests of {LIMIT} left in one window")
        told = f"loss {network.loss:.1%}, at most {most} of {LIMIT} requests left in one window"
    return Account(violations, counts, states, resumed, told)


def main() -> int:
    given = argparse.ArgumentParser(prog="python -m tests.hosts")
    given.add_argument("--seeds", type=int, default=20)
    given.add_argument("--first", type=int, default=1, help="the first seed")
    given.add_argument("--seconds", type=float, default=12.0, help="of partitions, for each seed")
    asked = given.parse_args()
    total: Counter[str] = Counter()
    broken = 0
    slowest = 0.0
    try:
        for seed in range(asked.first, asked.first + asked.seeds):
            account = run(seed, asked.seconds)
            total += account.counts
            broken += len(account.violations)
            slowest = max(slowest, account.flowing_seconds)
            resumed = ", ".join(f"{name} {after:.1f} s" for name, after in sorted(account.resumed.items()))
            print(f"seed {seed}: {dict(account.counts)}; ends: {dict(account.states)}; {account.told}")
            print(f"  accepted again after healing: {resumed}", flush=True)
            for sentence in account.violations[:20]:
                print(f"  {sentence}", flush=True)
    except NoNamespaces as error:
        print(error)
        return NO_HOSTS
    clocks = ", ".join(f"{minutes:+g}" for minutes in OFFSETS_MINUTES)
    print(f"{asked.seeds} seeds of {asked.seconds:g} s on {len(HOSTS)} hosts, workers' clocks in minutes: {clocks}")
    print(f"{dict(total)}")
    print(f"{broken} violations: lost, called twice, beyond the limit; first acceptance at most {slowest:.1f} s late")
    return 1 if broken or slowest > FLOW_WITHIN_SECONDS else 0


if __name__ == "__main__":
    sys.exit(main())
