"""An upgrade of a deployment in use: old workers and producers, then both versions side by side, then the new ones."""

import json
import random
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import psycopg

from dispatcher.embedded.child import Child
from dispatcher.store.rights import Part
from dispatcher.store.roles import DEFAULT_PREFIX
from tests.soak.stack import Stack
from tests.support.environment import clean_environment
from tests.support.waiting import wait_until
from tests.upgrade import producer
from tests.upgrade.release import ROOT, Release

PASSWORD: Final = "a-password-of-the-tests"
ROLES_SINCE: Final = "0005"
START_SECONDS: Final = 60.0
CLAIMED: Final = """
SELECT coalesce(sum(claims), 0) FROM dispatcher.workers WHERE split_part(name, ':', -1) = ANY (%s)
"""


@dataclass
class Submissions:
    """What the producers of one version were told."""

    ids: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    longest_seconds: float = 0.0


class Motion(Stack):
    """One deployment, first of the version `old`. With roles where that version has them: each login may its own."""

    def __init__(self, seed: int, old: Release, **sandbox_options: Any) -> None:
        super().__init__(seed, **sandbox_options)
        self.old = old
        self.producers: list[tuple[Child, bool]] = []
        self.dead: list[str] = []

    def prepare(self) -> None:
        """Make the schema of the old version, by its own command."""
        with_roles = ("--with-roles",) if self.old.revision >= ROLES_SINCE else ()
        self.old.run("migrate", *with_roles, settings={**clean_environment(), **self.environment})
        self.urls = dict.fromkeys((Part.PRODUCER, Part.WORKER), self.environment["DATABASE_URL"])
        if with_roles:
            with psycopg.connect(self.environment["DATABASE_URL"], autocommit=True) as connection:
                for part in self.urls:
                    connection.execute(f"CREATE ROLE {part}_login LOGIN PASSWORD '{PASSWORD}'")
                    connection.execute(f"GRANT {DEFAULT_PREFIX}{part} TO {part}_login")
            for part, url in self.urls.items():
                place = urlsplit(url)
                login = f"{part}_login:{PASSWORD}@{place.hostname}:{place.port}"
                self.urls[part] = urlunsplit(place._replace(netloc=login))

    def worker(self, *, old: bool) -> Child:
        """Start a worker of that version, and wait until it consumes."""
        celery = (sys.executable, "-m", "celery", "-A", "dispatcher", "worker", "--loglevel", "INFO", "-c", "1")
        argv = (*celery, "--hostname", f"{'old' if old else 'new'}{self.started + 1}@upgrade")
        child = self._start(argv, Part.WORKER, old=old)
        wait_until(lambda: " ready." in self.log(child) or not child.running, START_SECONDS, lambda: self.log(child))
        return child

    def producer(self, *, old: bool) -> Child:
        """Start a producer of that version."""
        first = str(len(self.producers) * 5_000)
        child = self._start((sys.executable, producer.__file__, first, "0.05"), Part.PRODUCER, old=old)
        self.producers.append((child, old))
        return child

    def _start(self, argv: tuple[str, ...], part: Part, *, old: bool) -> Child:
        settings = {"DATABASE_URL": self.urls[part], "PYTHONPATH": str(ROOT)}
        if old:
            # What it compiles lies beside what it loads, which shows that it is the old version.
            settings |= {"PYTHONPATH": f"{self.old.tree}:{ROOT}", "PYTHONDONTWRITEBYTECODE": ""}
        return self.start_worker(argv, directory=self.old.tree if old else ROOT, **settings)

    def log(self, child: Child) -> str:
        return child.command.log_path.read_text(errors="replace")

    def claimed(self, *workers: Child) -> int:
        """How many leads these workers have claimed so far; each name ends in the number of its process."""
        pids = [str(worker.pid) for worker in workers]
        with psycopg.connect(self.environment["DATABASE_URL"]) as connection:
            return int(connection.execute(CLAIMED, [pids]).fetchone()[0])  # type: ignore[index]

    def wait_claims(self, worker: Child) -> None:
        """Wait until this worker claims, from now on."""
        before = self.claimed(worker)
        wait_until(lambda: self.claimed(worker) > before, START_SECONDS, lambda: self.log(worker))

    def wait_submits(self, child: Child) -> None:
        """Wait until this producer submits, from now on."""
        before = len(self.log(child))
        wait_until(lambda: len(self.log(child)) > before, START_SECONDS, lambda: self.log(child))

    def migrate(self) -> str:
        """Migrate by the new version, beside a transaction that has written a lead and one that reads; what it said."""
        ended = threading.Event()
        held = threading.Thread(target=self._hold, args=(ended,))
        held.start()
        try:
            return subprocess.run(
                [sys.executable, "-m", "dispatcher", "migrate"],
                cwd=ROOT,
                env={**clean_environment(), **self.environment},
                check=True,
                capture_output=True,
                text=True,
            ).stdout
        finally:
            ended.set()
            held.join()

    def _hold(self, ended: threading.Event) -> None:
        dice = random.Random(self.dice.random())
        with psycopg.connect(self.environment["DATABASE_URL"], application_name="a report") as connection:
            while not ended.wait(0.1):
                connection.execute("SELECT count(*) FROM dispatcher.leads, dispatcher.lead_attempts WHERE false")
                connection.execute("UPDATE dispatcher.channels SET served_at = served_at WHERE false")
                ended.wait(dice.uniform(0.2, 1.0))
                connection.rollback()

    def end(self, child: Child) -> None:
        """Ask a process to end, and wait; note it if it was dead, or does not end well."""
        if not child.running:
            self.dead.append(f"{child.command.argv[-1]} had died: {child.log_tail()}")
            return
        child.send(signal.SIGTERM)
        code = child.wait(60)
        if code != 0:
            self.dead.append(f"{child.command.argv[-1]} ended with {code}: {child.log_tail()}")

    def submissions(self, *, old: bool) -> Submissions:
        """What the producers of that version were told, which have ended."""
        found = Submissions()
        for child, of_old in self.producers:
            if of_old is not old:
                continue
            for line in self.log(child).splitlines():
                if not line.startswith("{"):
                    continue
                told = json.loads(line)
                found.longest_seconds = max(found.longest_seconds, told["seconds"])
                (found.ids if "id" in told else found.errors).append(told.get("id") or told["error"])
        return found

    def complaints(self) -> list[str]:
        """The lines in which a process complains."""
        words = ("Traceback", "ERROR", "CRITICAL", "WARNING", "task.failed")
        return [
            f"{child.command.log_path.name}: {line}"
            for child in (*self.workers,)
            for line in self.log(child).splitlines()
            if any(word in line for word in words)
        ]


@dataclass(frozen=True)
class Account:
    """What became of one upgrade."""

    violations: list[str]
    complaints: list[str]
    dead: list[str]
    old: Submissions
    new: Submissions
    states: dict[str, int]
    sent: dict[str, int]
    told: str


def run(
    seed: int, old: Release, *, side_by_side_seconds: float = 0.0, restarted: bool = False, **sandbox_options: Any
) -> Account:
    """Upgrade a deployment under load, and account for every lead.

    `restarted`: a worker and a producer of the old version start again after the migration.
    """
    with Motion(seed, old, **sandbox_options) as motion:
        first = motion.worker(old=True)
        producer_before = motion.producer(old=True)
        motion.wait_submits(producer_before)
        motion.wait_claims(first)
        told = motion.migrate()
        motion.wait_submits(producer_before)
        motion.wait_claims(first)
        new, before, submitting = motion.worker(old=False), [first], [producer_before, motion.producer(old=False)]
        if restarted:
            before.append(motion.worker(old=True))
            submitting.append(motion.producer(old=True))
        for one in submitting:
            motion.wait_submits(one)
        for worker in (*before, new):
            motion.wait_claims(worker)
        time.sleep(side_by_side_seconds)
        for one in (*submitting, *before):
            motion.end(one)
        of_old, of_new = motion.submissions(old=True), motion.submissions(old=False)
        motion.submitted += [*of_old.ids, *of_new.ids]
        states = motion.settle()
        violations = motion.violations()
        motion.end(new)
        assert list(old.tree.glob("dispatcher/worker/__pycache__/*")), "the old worker was not old"
        return Account(
            violations, motion.complaints(), motion.dead, of_old, of_new, dict(states), dict(motion.received()), told
        )
