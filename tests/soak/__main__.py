"""`python -m tests.soak --minutes 60`: leads without end, a fault every 5 to 40 seconds; exit 1 if a promise broke."""

import argparse
import contextlib
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable

import psycopg
import redis

from dispatcher.embedded.child import Child
from dispatcher.errors import StoreUnavailable
from dispatcher.sandbox.fault import FaultName, Rule, When
from tests.soak.stack import Stack, numbers

WORKERS = 2
CELERY = (sys.executable, "-m", "celery", "-A", "dispatcher", "worker", "--loglevel", "INFO", "-c", "2")
SUBMITS_A_SECOND = 6.0
FAULTS_FROM, FAULTS_TO = 5.0, 40.0
BROKEN = (
    FaultName.HANG,
    FaultName.RESET,
    FaultName.CLOSE,
    FaultName.GARBAGE,
    FaultName.INTERNAL_ERROR,
    FaultName.BAD_GATEWAY,
)
SPOILED = (FaultName.CUT_BODY, FaultName.NO_ID, FaultName.NOT_JSON)


class Soak:
    """The faults, each by its name, and what was done of each."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.done: Counter[str] = Counter()
        self.faults: dict[str, Callable[[], None]] = {
            "kill -9 of a worker": self.kill,
            "frozen worker": self.freeze,
            "Redis restarted empty": stack.redis.restart,
            "FLUSHALL": self.flush,
            "Postgres crash": self.crash,
            "Voicery broken": self.break_voicery,
            "Voicery's list broken": self.break_list,
            "Voicery throttles": self.throttle,
        }

    def strike(self) -> None:
        name = self.stack.dice.choice(list(self.faults))
        self.faults[name]()
        self.done[name] += 1

    def kill(self) -> None:
        self.stack.replace(self.stack.dice.choice(self.stack.workers), self.celery())

    def celery(self) -> tuple[str, ...]:
        return (*CELERY, "--hostname", f"w{self.stack.started + 1}@soak")

    def freeze(self) -> None:
        """Often longer than the lease."""
        worker: Child = self.stack.dice.choice(self.stack.workers)
        worker.send(signal.SIGSTOP, group=True)
        time.sleep(self.stack.dice.uniform(1, 12))
        worker.send(signal.SIGCONT, group=True)

    def flush(self) -> None:
        with redis.Redis.from_url(self.stack.redis.url()) as client:
            client.flushall()

    def crash(self) -> None:
        self.stack.postgres.stop("immediate")
        time.sleep(self.stack.dice.uniform(0, 5))
        self.stack.postgres.start()

    def break_voicery(self) -> None:
        dice = self.stack.dice
        fault = dice.choice((*BROKEN, *SPOILED, FaultName.LATE))
        when = None if fault is FaultName.LATE else When.AFTER if fault in SPOILED else dice.choice(list(When))
        seconds = 1.0 if fault is FaultName.LATE else None
        self.stack.sandbox.faults.add(Rule(fault=fault, when=when, times=dice.randint(1, 30), seconds=seconds))

    def break_list(self) -> None:
        fault = self.stack.dice.choice((FaultName.INTERNAL_ERROR, FaultName.STALE, FaultName.MISSING_CONTROLS))
        self.stack.sandbox.faults.add(
            Rule(fault=fault, method="GET", times=self.stack.dice.randint(1, 20), seconds=3.0)
        )

    def throttle(self) -> None:
        self.stack.sandbox.faults.add(
            Rule(fault=FaultName.THROTTLED, retry_after="2", times=self.stack.dice.randint(1, 5))
        )


def main() -> int:
    given = argparse.ArgumentParser(prog="python -m tests.soak")
    given.add_argument("--minutes", type=float, default=60.0)
    given.add_argument("--seed", type=int, default=1)
    asked = given.parse_args()
    print(f"seed {asked.seed}, {asked.minutes:g} minutes", flush=True)
    with Stack(asked.seed, latency_seconds=0.05) as stack:
        soak = Soak(stack)
        for _ in range(WORKERS):
            stack.start_worker(soak.celery())
        stop = threading.Event()
        submitting = threading.Thread(target=submit_on, args=(stack, stop, asked.seed))
        submitting.start()
        ends_at = time.monotonic() + 60 * asked.minutes
        try:
            while time.monotonic() < ends_at:
                time.sleep(stack.dice.uniform(FAULTS_FROM, FAULTS_TO))
                with contextlib.suppress(psycopg.OperationalError, redis.RedisError):
                    soak.strike()
                left = (ends_at - time.monotonic()) / 60
                print(f"{left:.1f} min left: {dict(stack.states())} after {soak.done.total()} faults", flush=True)
        finally:
            stop.set()
            submitting.join()
        stack.sandbox.faults.clear()
        states = stack.settle()
        violations = stack.violations()
        print(f"seed {asked.seed}: {sum(states.values())} leads, {dict(stack.received())}")
        print(f"faults: {dict(soak.done)}")
        print(f"ends: {dict(states)}")
        print(f"in doubt at some time: {dict(stack.unknowns())}")
        print(f"{len(violations)} violations")
        for sentence in violations[:20]:
            print(sentence)
        return 1 if violations else 0


def submit_on(stack: Stack, stop: threading.Event, seed: int) -> None:
    phones = numbers(seed)
    while not stop.wait(1 / SUBMITS_A_SECOND):
        with contextlib.suppress(StoreUnavailable):
            stack.submit(next(phones))


if __name__ == "__main__":
    sys.exit(main())
