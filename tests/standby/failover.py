"""The primary dies under load and its synchronous standby is promoted: what was lost, who was called, how soon."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from dispatcher.api import Dispatcher
from dispatcher.config.settings import Settings
from dispatcher.errors import StoreUnavailable
from tests.process.rig import CAMPAIGN, Rig, SandboxProcess
from tests.support.environment import QUICK, clean_environment
from tests.support.standby import Pair
from tests.support.waiting import wait_until
from tests.support.worker_process import WorkerProcess

PAUSE_SECONDS = 0.01
WAYS = ("kill", "immediate")


@dataclass
class Producer:
    """Submits a lead each `PAUSE_SECONDS` until it is stopped; knows which were confirmed, and when."""

    environment: dict[str, str]
    numbers: Iterator[str]
    confirmed: dict[str, float] = field(default_factory=dict)
    refused: int = 0

    def __post_init__(self) -> None:
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        dispatcher = Dispatcher(Settings.from_environment(self.environment))
        while not self._ending.wait(PAUSE_SECONDS):
            lead = {"phone_number": next(self.numbers), "campaign_id": CAMPAIGN, "allow_dupplicate": True}
            try:
                stored = dispatcher.submit(lead)
            except StoreUnavailable:
                self.refused += 1
            else:
                self.confirmed[str(stored.id)] = time.time()
        dispatcher.close()

    def since(self, moment: float) -> dict[str, float]:
        """The leads that were confirmed after `moment`, with when."""
        return {lead: at for lead, at in self.confirmed.copy().items() if at > moment}

    def stop(self) -> None:
        self._ending.set()
        self._thread.join(60)
        assert not self._thread.is_alive(), "the producer hangs"


@dataclass
class Account:
    """What became of one seed. Seconds count from the command to promote, or from the end of the former primary."""

    confirmed: int
    refused: int
    lost: int
    twice: int
    held: int  # by `recover`, although nothing was lost
    states: Counter[str]
    submit_seconds: float
    post_seconds: float
    pause_seconds: float  # the longest between two POSTs

    @property
    def sound(self) -> bool:
        return self.lost == self.twice == self.held == 0 and set(self.states) == {"accepted"}


@contextmanager
def deployment(directory: Path, database_url: str, redis_url: str, *sandbox: str) -> Iterator[Rig]:
    """A sandbox and what starts workers; all end with the block."""
    with ExitStack() as ending:
        voicery = SandboxProcess(directory, *sandbox)
        ending.callback(voicery.close)

        def start(environment: dict[str, str], *options: str, ready: bool = True) -> WorkerProcess:
            name = f"worker-{len(started)}"
            started.append(
                WorkerProcess(name, {**clean_environment(), **environment}, directory / f"{name}.log", options)
            )
            ending.callback(started[-1].kill)
            if ready:
                started[-1].wait_ready()
            return started[-1]

        started: list[WorkerProcess] = []
        settings = {"DATABASE_URL": database_url, "REDIS_URL": redis_url, "VOICERY_API_TOKEN": "a-token-of-the-tests"}
        yield Rig(settings, voicery, start)


def run(directory: Path, pair: Pair, redis_url: str, seed: int, *, workers: int = 2, before: int = 60) -> Account:
    """One failover of `pair`, after `before` leads were created; kind, latency and waits are the seed's."""
    dice = random.Random(seed)

    def fail() -> float:
        pair.kill(pair.primary, WAYS[seed % len(WAYS)])
        time.sleep(dice.uniform(0.0, 2.0))
        began = time.time()
        pair.promote()
        return began

    return fail_over(directory, pair.url, redis_url, fail, dice=dice, workers=workers, before=before)


def fail_over(
    directory: Path,
    database_url: str,
    redis_url: str,
    fail: Callable[[], float],
    *,
    dice: random.Random,
    workers: int = 2,
    before: int = 60,
) -> Account:
    """Have the primary replaced by `fail`, which returns when it began, in the middle of a drain."""
    with deployment(directory, database_url, redis_url, "--latency", f"{dice.uniform(0.01, 0.3):.3f}") as rig:
        for _ in range(workers):
            rig.start_worker()
        producer = Producer(rig.environment, rig.numbers)
        wait_until(lambda: rig.sandbox.created() >= before, 60, "leads are delivered")
        time.sleep(dice.uniform(0.0, 0.3))
        began = fail()
        submitted = wait_until(lambda: min(producer.since(began).values(), default=0.0), 60, "a submit is confirmed")
        posted = wait_until(lambda: _first_post(rig, producer.since(began)), 60, "one of these is POSTed")
        times = sorted(entry.at for entry in rig.sandbox.posts())
        producer.stop()
        states = rig.wait_settled(120)
        created = rig.sandbox.created_of()
        return Account(
            confirmed=len(producer.confirmed),
            refused=producer.refused,
            lost=len(set(producer.confirmed) - set(created)),
            held=len(rig.query("SELECT FROM dispatcher.lead_attempts WHERE error = 'recovered'")),
            twice=sum(times > 1 for times in created.values()),
            states=states,
            submit_seconds=submitted - began,
            post_seconds=posted - began,
            pause_seconds=max(after - earlier for earlier, after in pairwise(times)),
        )


def _first_post(rig: Rig, leads: Collection[str]) -> float:
    reference = QUICK["DISPATCHER_REFERENCE_VARIABLE"]
    return min((entry.at for entry in rig.sandbox.posts() if entry.body["variables"][reference] in leads), default=0.0)
