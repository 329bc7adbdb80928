"""A worker of ours whose tasks only write down that they ran: `celery -A tests.redis.stub_worker worker`."""

import os
import sys
import time
from pathlib import Path

from dispatcher.celery import WorkerApp, worker_configuration
from dispatcher.worker.stopping import Stopping

LOG = Path(os.environ["STUB_LOG"])
SLEEPER = (
    "import sys, time; from dispatcher.worker.stopping import die_with; die_with(int(sys.argv[1])); time.sleep(600)"
)


def note(what: str) -> None:
    with LOG.open("a") as log:
        log.write(f"{what} {os.getpid()}\n")


class StubRuntime:
    """`busy` works until it is asked to stop and then finishes something; `broken` raises."""

    def __init__(self, stopping: Stopping) -> None:
        self._stopping = stopping
        note("built")

    def deliver(self, account: str, campaign_id: int) -> None:
        note(f"deliver:{account}:{campaign_id}")
        if account == "broken":
            raise RuntimeError("a bug")
        if account == "busy":
            while not self._stopping():
                time.sleep(0.02)
            note("stopping")
            time.sleep(0.5)
            note("finished")
        if account == "stuck":
            time.sleep(60)
            note("finished")

    def lookup(self, account: str) -> None:
        note(f"lookup:{account}")

    def close(self) -> None:
        note("closed")


def sweep_command() -> tuple[str, ...]:
    note("sweep-started")
    return (sys.executable, "-c", SLEEPER, str(os.getpid()))


app = WorkerApp(
    configuration=lambda: worker_configuration(os.environ["REDIS_URL"]),
    build_runtime=StubRuntime,
    sweep_command=sweep_command,
)
