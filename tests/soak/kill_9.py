"""`python -m tests.soak.kill_9 --leads 10000 --kills 500`: kill -9 at random instants until every lead has its end."""

import argparse
import itertools
import sys
import time
from uuid import uuid4

from tests.soak.stack import CAMPAIGNS, Stack, numbers

WORKERS = 5
ENGINE = (sys.executable, "-m", "tests.faults.engine")
_CHUNK = 800


def main() -> int:
    given = argparse.ArgumentParser(prog="python -m tests.soak.kill_9")
    given.add_argument("--leads", type=int, default=10_000)
    given.add_argument("--kills", type=int, default=500)
    given.add_argument("--seed", type=int, default=1)
    asked = given.parse_args()
    began = time.monotonic()
    with Stack(asked.seed, latency_seconds=0.15) as stack:
        phones = numbers(asked.seed)
        waiting = asked.leads
        for _ in range(WORKERS):
            stack.start_worker(ENGINE)
        kills = told = 0
        while kills < asked.kills:
            states = stack.states()
            if waiting and states["pending"] < _CHUNK:
                waiting -= submit_many(stack, phones, min(_CHUNK, waiting))
            elif not waiting and not states["pending"]:
                waiting += _CHUNK  # more leads than asked for, so that every kill hits a worker at work
                asked.leads += _CHUNK
            time.sleep(stack.dice.uniform(0.2, 1.2))
            at_work = stack.at_work()
            if at_work:
                stack.replace(stack.dice.choice(at_work), ENGINE)
                kills += 1
            if kills >= told + 50:
                told = kills
                print(f"{time.monotonic() - began:.0f} s: {kills} kills, {dict(states)}", flush=True)
        while waiting:
            waiting -= submit_many(stack, phones, min(_CHUNK, waiting))
        states = stack.settle()
        violations = stack.violations()
        leads = sum(states.values())
        print(f"seed {asked.seed}: {leads} leads, {kills} kill -9, {dict(stack.received())}")
        print(f"ends: {dict(states)}; in doubt: {dict(stack.unknowns())}")
        print(f"{len(violations)} violations: lost, called twice, accepted without being there, falsely proven absent")
        print(f"By the rule of three: 0 failures in {leads} leads bound the rate below {3 / leads:.3%} at 95 %.")
        for sentence in violations[:20]:
            print(sentence)
        return 1 if violations else 0


def submit_many(stack: Stack, phones: "itertools.chain[str] | object", count: int) -> int:
    leads = [
        {
            "phone_number": next(phones),  # type: ignore[call-overload]
            "campaign_id": CAMPAIGNS[number % len(CAMPAIGNS)],
            "variables": {"row": str(uuid4())},
            "allow_dupplicate": True,
        }
        for number in range(count)
    ]
    result = stack.dispatcher.submit_many(leads)
    assert not result.rejected
    return count


if __name__ == "__main__":
    sys.exit(main())
