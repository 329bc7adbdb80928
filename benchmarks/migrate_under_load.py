"""How long a `submit` waits while `dispatcher migrate` upgrades a big database, and what `migrate --check` foretold.

    python -m benchmarks.migrate_under_load [--leads 5000000] [--directory /var/tmp]

Fills a Postgres of its own at the first revision by SQL: leads in every state, four fifths of them finished, their
attempts, idempotency keys, failures and audit entries. Then, beside four producers of the oldest version that git has
and a transaction that writes a lead and stays open for five seconds, again and again, it migrates to the newest
revision. Prints the worst wait and, for each revision, its time beside the one foretold and the locks that it held.
Exit 1 if a submit failed or waited longer than a second.
"""

import argparse
import contextlib
import json
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import psycopg
from sqlalchemy import create_engine, text

from benchmarks.console_pages import ATTEMPTS, FAILED, LEADS, REST
from dispatcher.config.urls import normal_database_url
from dispatcher.embedded.postgres import EmbeddedPostgres
from dispatcher.store.upgrade_plan import PlannedRevision, plan
from tests.migration.upgrades import BASELINE, upgrade_to
from tests.support.environment import clean_environment
from tests.support.waiting import wait_until
from tests.upgrade import producer
from tests.upgrade.release import ROOT, Release, last_with

OLDEST: Final = "0002"
PRODUCERS: Final = 4
BOUND_SECONDS: Final = 1.0
HELD_SECONDS: Final = 5.0
_STRONG: Final = (
    "ShareUpdateExclusiveLock",
    "ShareLock",
    "ShareRowExclusiveLock",
    "ExclusiveLock",
    "AccessExclusiveLock",
)
_LOCKS: Final = """
SELECT class.relname, held.mode, held.granted FROM pg_locks AS held
JOIN pg_stat_activity AS activity USING (pid) JOIN pg_class AS class ON class.oid = held.relation
WHERE activity.application_name = 'dispatcher-migrate' AND held.mode = ANY (%s) AND class.relkind = 'r'
    AND class.relnamespace = CAST('dispatcher' AS regnamespace)
"""
_RUNS: Final = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'dispatcher-migrate'"
_HOLD: Final = """
INSERT INTO dispatcher.leads (id, account, campaign_id, phone_number, state, due_at, payload_hash)
VALUES (gen_random_uuid(), 'default', 7, '+12025550199', 'cancelled', now(), 'h')
"""


def fill(url: str, leads: int) -> None:
    """Build the database at the first revision, with so many leads."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA dispatcher")
    upgrade_to(url, BASELINE)
    engine = create_engine(normal_database_url(url)).execution_options(isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        # Built afterwards, which is several times faster.
        indexes = connection.exec_driver_sql(
            "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'dispatcher' AND NOT EXISTS"
            " (SELECT FROM pg_constraint WHERE conname = indexname)"
        ).all()
        for name, _ in indexes:
            connection.exec_driver_sql(f"DROP INDEX dispatcher.{name}")
        connection.exec_driver_sql("SET session_replication_role = replica")
        connection.exec_driver_sql("SET maintenance_work_mem = '512MB'")
        for statement in (LEADS, ATTEMPTS, FAILED):
            began = time.perf_counter()
            named = {"leads": leads, "failed": leads // 50} if statement is LEADS else {}
            connection.execute(text(statement), named)
            print(f"{statement.split()[2]}: {time.perf_counter() - began:.0f} s", flush=True)
        connection.exec_driver_sql(REST)
        for _, definition in indexes:
            connection.exec_driver_sql(definition)
        connection.exec_driver_sql("VACUUM ANALYZE")
    engine.dispose()


@contextlib.contextmanager
def producing(release: Release, url: str, directory: Path) -> Iterator[list[dict[str, Any]]]:
    """Producers of that version; what each submission became is in the list, once they have ended."""
    settings = {**clean_environment(), "DATABASE_URL": url, "REDIS_URL": "redis://127.0.0.1:9/0"}
    environment = release.environment(settings)
    environment["PYTHONPATH"] += f":{ROOT}"
    told: list[dict[str, Any]] = []
    started = []
    for number in range(PRODUCERS):
        command = [sys.executable, producer.__file__, str(number * 10_000), "0.02"]
        with (directory / f"producer{number}").open("w") as file:
            started.append(subprocess.Popen(command, env=environment, cwd=release.tree, stdout=file))
    try:
        yield told
    finally:
        for one in started:
            one.send_signal(signal.SIGTERM)
        for one in started:
            one.wait(60)
    for number in range(PRODUCERS):
        told += [json.loads(line) for line in (directory / f"producer{number}").read_text().splitlines()]


def hold_transactions(url: str, ending: threading.Event) -> None:
    """Write a lead and keep the transaction open, again and again."""
    with psycopg.connect(url, application_name="a slow producer") as connection:
        while not ending.wait(2.0):
            connection.execute(_HOLD)
            ending.wait(HELD_SECONDS)
            connection.rollback()


class Watch:
    """When the database reached each revision, and how long each lock of the migration was seen."""

    def __init__(self, url: str) -> None:
        self.began = 0.0
        self.reached: dict[str, float] = {}
        self.locks: dict[tuple[str, str, str, bool], float] = defaultdict(float)
        self._url = url

    def run(self, ending: threading.Event) -> None:
        """Look every 10 ms until the end."""
        with psycopg.connect(self._url, autocommit=True) as connection:
            last, before = time.perf_counter(), BASELINE
            while not ending.wait(0.01):
                ((revision,),) = connection.execute("SELECT version_num FROM dispatcher.alembic_version").fetchall()
                now = time.perf_counter()
                if not self.began and connection.execute(_RUNS).fetchone():
                    self.began = now
                for table, mode, granted in connection.execute(_LOCKS, [list(_STRONG)]).fetchall():
                    self.locks[before, table, mode, granted] += now - last
                if revision != before:
                    self.reached[revision] = now
                    before = revision
                last = now


def foretold(url: str) -> list[PlannedRevision]:
    """What `migrate --check` says."""
    engine = create_engine(normal_database_url(url))
    with engine.connect() as connection:
        found = plan(connection)
    engine.dispose()
    return found


def main() -> int:
    """Fill, migrate under load, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--leads", type=int, default=5_000_000)
    parser.add_argument("--directory", type=Path, help="where the database is made; removed at the end")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.directory, prefix="migrate-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        (directory / "release").mkdir()
        release = last_with(OLDEST, directory / "release")
        options = {"max_wal_size": "4GB", "shared_buffers": "512MB"}
        server = EmbeddedPostgres(directory / "postgres", durable=False, options=options)
        server.start()
        try:
            return measure(server, release, directory, given.leads)
        finally:
            server.remove()


def measure(server: EmbeddedPostgres, release: Release, directory: Path, leads: int) -> int:
    """Migrate a filled database; the exit code."""
    url = server.url()
    began = time.perf_counter()
    fill(url, leads)
    print(f"filled with {leads:,} leads in {time.perf_counter() - began:.0f} s", flush=True)
    told = foretold(url)
    ending, watch = threading.Event(), Watch(url)
    threads = [
        threading.Thread(target=hold_transactions, args=(url, ending)),
        threading.Thread(target=watch.run, args=(ending,)),
    ]
    with producing(release, url, directory) as submissions:
        # The first submit loads the code and connects.
        wait_until(lambda: all((directory / f"producer{n}").stat().st_size for n in range(PRODUCERS)), 120, "producers")
        for thread in threads:
            thread.start()
        before = time.time()
        migrated = subprocess.run(
            [sys.executable, "-m", "dispatcher", "migrate"],
            env={**clean_environment(), "DATABASE_URL": url},
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        after = time.time()
        time.sleep(3)
        ending.set()
        for thread in threads:
            thread.join()
        time.sleep(2)
    print(migrated.stdout)
    return report(told, watch, [one for one in submissions if before <= one["at"] <= after + 1], submissions)


def report(
    told: list[PlannedRevision],
    watch: Watch,
    during: list[dict[str, Any]],
    submissions: list[dict[str, Any]],
) -> int:
    """Print all of it; the exit code."""
    last = watch.began
    for one in told:
        # What came within one look is of the last revision that was seen then.
        reached = min((at for revision, at in watch.reached.items() if revision >= one.revision), default=last)
        planned = sum(step.seconds for step in one.steps)
        print(f"{one.revision}  {reached - last:6.1f} s, foretold {planned:6.1f} s of work  {one.title}")
        for (revision, table, mode, granted), seconds in watch.locks.items():
            if int(revision) == int(one.revision) - 1 and seconds >= 0.05:
                print(f"      {table}: {mode} {'held' if granted else 'waited for'} {seconds:.2f} s")
        last = reached
    waits = sorted(one["seconds"] for one in during)
    failed = [one["error"] for one in submissions if "error" in one]
    print(f"migrate: {last - watch.began:.1f} s; {len(waits)} submits meanwhile, {len(failed)} failed {failed[:2]}")
    print(
        f"a submit waited {waits[-1]:.2f} s at worst, {statistics.median(waits) * 1000:.1f} ms in the median,"
        f" {waits[int(len(waits) * 0.999)]:.2f} s in the worst 0.1 %; bound {BOUND_SECONDS:g} s"
    )
    return int(bool(failed) or waits[-1] > BOUND_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
