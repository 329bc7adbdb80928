"""A worker without Celery: delivery runs, look-ups and the sweep in one process that starts in half a second.

`python -m tests.faults.engine`: everything below the tasks is the real thing. The tests of `tests/process`, and the
cases about messages here, run real workers.
"""

import os
import queue
import signal
import sys
import threading
import time
from datetime import datetime, tzinfo

from dispatcher.broker.doorbell import NullDoorbell
from dispatcher.config.settings import Settings
from dispatcher.delivery import delivery
from dispatcher.errors import StoreUnavailable
from dispatcher.lead.options import Channel
from dispatcher.lookup import asking
from dispatcher.store.database import Database
from dispatcher.store.trouble import TryAgain
from dispatcher.sweep import repairs
from dispatcher.wiring import Services, worker_name
from dispatcher.worker.deliverer import Deliverer
from dispatcher.worker.stopping import Stopping

RUNS = 2
POLL_SECONDS = 0.3
READY = "engine ready"


class LocalBell(NullDoorbell):
    """Rings the threads of this process; a channel waits once."""

    def __init__(self) -> None:
        self.channels: queue.SimpleQueue[Channel | None] = queue.SimpleQueue()
        self.lookups: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._rung: set[object] = set()

    def ring(self, channel: Channel) -> bool:
        if channel not in self._rung:
            self._rung.add(channel)
            self.channels.put(channel)
        return True

    def ring_lookup(self, account: str) -> bool:
        if account not in self._rung:
            self._rung.add(account)
            self.lookups.put(account)
        return True

    def taken(self, what: object) -> None:
        self._rung.discard(what)


def shift_clock(seconds: float) -> None:
    """Let this process believe that it is so much later: what asks Python for the time is told wrong."""
    true = time.time

    class Shifted(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> "Shifted":
            return cls.fromtimestamp(true() + seconds, tz)

    time.time = lambda: true() + seconds  # the fault itself
    for module in (asking, delivery):
        module.datetime = Shifted  # type: ignore[attr-defined]


def main() -> int:
    shift_clock(float(os.environ.get("FAKE_CLOCK_SECONDS", "0")))
    settings = Settings.from_environment()
    stopping = Stopping()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.ask())
    worker = worker_name(os.getpid())
    bell = LocalBell()
    services = Services(settings, connections=settings.concurrency + 2)
    deliverer = Deliverer(services, stopping=stopping, worker=worker)

    def deliver() -> None:
        while (channel := bell.channels.get()) is not None:
            bell.taken(channel)
            survive(lambda: deliverer.deliver(*channel))

    def look_up() -> None:
        while (account := bell.lookups.get()) is not None:
            bell.taken(account)
            survive(lambda: deliverer.lookup(account))

    threads = [threading.Thread(target=deliver, daemon=True) for _ in range(RUNS)]
    threads.append(threading.Thread(target=look_up, daemon=True))
    for thread in threads:
        thread.start()
    sweep = Services(settings, connections=1, bell=bell).sweep(worker)
    polling = threading.Thread(target=poll, args=(settings, bell), daemon=True)
    polling.start()
    print(READY, flush=True)
    waiter = threading.Event()
    sweep.run(stopping=stopping, wait=waiter.wait)
    for _ in range(RUNS):
        bell.channels.put(None)
    bell.lookups.put(None)
    for thread in threads:
        thread.join()
    return 0


def poll(settings: Settings, bell: LocalBell) -> None:
    """Doorbells reach every worker, and this one hears only its own sweep: so it looks for itself, too."""
    database = Database(settings.require_database_url(), pool_size=1)
    while True:
        time.sleep(POLL_SECONDS)
        try:
            with database.autocommit() as connection:
                channels, accounts = repairs.due_channels(connection), repairs.due_lookups(connection)
        except (StoreUnavailable, TryAgain):
            continue
        for channel in channels:
            bell.ring(channel)
        for account in accounts:
            bell.ring_lookup(account)


def survive(work: object) -> None:
    """As the tasks do: what goes wrong is told, and the sweep rings again."""
    try:
        work()  # type: ignore[operator]
    except Exception as error:  # noqa: BLE001 - as in `dispatcher.worker.tasks`
        print(f"run ended early: {type(error).__name__}: {error}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
