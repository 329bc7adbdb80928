"""A real `celery worker` of the stub app, in a process group of its own."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil

from .conftest import RedisServer, eventually


class WorkerProcess:
    def __init__(
        self, server: RedisServer, directory: Path, pool: str = "prefork", url: str = "", **environment: str
    ) -> None:
        self._notes = directory / "notes"
        self._notes.touch()
        self._output = directory / "output"
        with self._output.open("w") as output:
            self.process = subprocess.Popen(
                f"{sys.executable} -m celery -A tests.redis.stub_worker worker -P {pool} -c 2 -l INFO".split(),
                cwd=Path(__file__).parents[2],
                env={
                    **os.environ,
                    "DATABASE_URL": "postgresql://127.0.0.1:9/none",  # a worker wants one before it forks
                    "REDIS_URL": url or server.url,
                    "STUB_LOG": str(self._notes),
                    **environment,
                },
                start_new_session=True,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self.pid = self.process.pid

    def notes(self) -> list[str]:
        return [line.split()[0] for line in self._notes.read_text().splitlines()]

    def output(self) -> str:
        return self._output.read_text()

    def await_note(self, note: str, within_seconds: float = 20.0) -> None:
        eventually(lambda: note in self.notes(), within_seconds)

    def await_ready(self) -> None:
        eventually(lambda: " ready." in self.output(), 20)

    def sweeps(self) -> list[psutil.Process]:
        return [
            child
            for child in psutil.Process(self.pid).children()
            if child.is_running() and child.status() != psutil.STATUS_ZOMBIE and "die_with" in " ".join(child.cmdline())
        ]

    def signal_group(self, signum: signal.Signals) -> None:
        os.killpg(self.pid, signum)

    def end(self) -> None:
        for member in self._members():
            member.kill()
        self.process.wait(60)

    def _members(self) -> Iterator[psutil.Process]:
        for process in psutil.process_iter():
            try:
                if os.getpgid(process.pid) == self.pid:
                    yield process
            except ProcessLookupError:
                continue
