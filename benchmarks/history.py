"""What grows with finished history: the same work beside 2 and beside 20 million finished leads, as ratios.

    python -m benchmarks.history [--sizes 2000000 20000000] [--rounds 5] [--directory DIRECTORY] [--only claim prune]

Fills one database for each size with finished leads, their attempts, failures and keys, and 100 000 waiting leads, in
one Postgres without fsync (some 0.9 kB of disk a finished lead). Then the figures are taken in turns, a round of each
size after the other. With --directory the databases stay and are used again. Prune and vacuum change them: use each
directory once for these.
"""

import argparse
import contextlib
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import psycopg
from psycopg.conninfo import make_conninfo
from sqlalchemy import text
from starlette.testclient import TestClient
from uuid_utils.compat import uuid7

from benchmarks.console_pages import asking
from benchmarks.history_rows import FIRST_CAMPAIGN, WAITING_CAMPAIGNS, fill
from benchmarks.leads import CAMPAIGN, NUMBERS, lead
from dispatcher.broker.doorbell import NullDoorbell
from dispatcher.config.settings import Settings
from dispatcher.config.urls import normal_database_url
from dispatcher.decisions.outcome import Kind, Outcome
from dispatcher.decisions.policy import Move
from dispatcher.decisions.states import State
from dispatcher.delivery import results
from dispatcher.delivery.claimed import Claimed
from dispatcher.delivery.claims import Claimer
from dispatcher.delivery.results import Result
from dispatcher.embedded.postgres import EmbeddedPostgres
from dispatcher.intake.submit import Intake
from dispatcher.lead.options import Channel
from dispatcher.operator import retention
from dispatcher.operator.retention import Pruning
from dispatcher.store.database import Database
from dispatcher.store.migration import upgrade
from dispatcher.wiring import Services

WAITING: Final = 100_000
_SERVER: Final = {
    "shared_buffers": "768MB",
    "max_wal_size": "4GB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "checkpoint_timeout": "15min",
    "max_connections": "60",
}
_CLAIMED: Final = 8
_ACTIONS: Final = 60
"""A round is so many submits, claims, recordings or sweeps of one size."""
_PAGES_A_ROUND: Final = 3
_SLICES: Final = 8
_SWEEP_SECONDS: Final = 20.0

_ABOVE_ALL_IDS: Final = 10_000_000_000


class Store:
    """One database with a history, and the processes' work on it."""

    def __init__(self, url: str, count: int) -> None:
        self.count = count
        self.url = normal_database_url(url)
        self.settings = Settings(database_url=self.url, redis_url="redis://127.0.0.1:1", rate_limit="off")
        self.services = Services(self.settings, bell=NullDoorbell())
        self.database: Database = self.services.database
        self._intake = Intake(self.database, NullDoorbell())
        self._sweep = self.services.sweep("benchmark:1")
        self._claimed: list[Claimed] = []
        self._turn = 0
        with self.database.autocommit() as connection:
            connection.execute(text("UPDATE dispatcher.sweeps SET pruned_at = now()"))
            known = connection.execute(
                text("SELECT greatest(max(voicery_lead_id), :above) FROM dispatcher.leads WHERE account = 'default'"),
                {"above": _ABOVE_ALL_IDS},
            )
            self._voicery_id = int(known.scalar() or 0)
            submitted = connection.execute(
                text("SELECT count(*) FROM dispatcher.leads WHERE account = 'default' AND campaign_id = :campaign"
                     " AND NOT allow_dupplicate AND state IN ('pending', 'sending', 'unknown', 'accepted')"),
                {"campaign": CAMPAIGN},
            )  # fmt: skip
            self._submitted = int(submitted.scalar() or 0)

    def submit(self) -> None:
        """Submit a lead of a person who has none."""
        self._intake.submit({**lead(self._submitted % NUMBERS)}, {}, account="default")
        self._submitted += 1

    def claim(self) -> None:
        """Claim eight leads, in turns of ten campaigns."""
        self._turn += 1
        channel = Channel("default", WAITING_CAMPAIGNS[self._turn % len(WAITING_CAMPAIGNS)])
        with self.database.autocommit() as connection:
            wanted = [uuid7() for _ in range(_CLAIMED)]
            opened = Claimer(channel, self.settings, "benchmark:1").claim(connection, wanted).opened
        if len(opened) < _CLAIMED:
            raise RuntimeError("The channel ran dry: use a new directory.")
        self._claimed += opened

    def record(self) -> None:
        """Record that the eight leads were accepted."""
        rows, self._claimed = self._claimed[:_CLAIMED], self._claimed[_CLAIMED:]
        self._voicery_id += _CLAIMED
        with self.database.transaction() as connection:
            results.record(connection, [self._yes(one, self._voicery_id - n) for n, one in enumerate(rows)])

    @staticmethod
    def _yes(claimed: Claimed, voicery_id: int) -> Result:
        outcome = Outcome(Kind.ACCEPTED, message="", voicery_lead_id=voicery_id, voicery_status="created")
        return Result(claimed, outcome, Move(State.ACCEPTED, None, None, False), took=0.1, ended_ago=0.0, settle=0.0)

    def sweep(self) -> None:
        """One round of the sweep."""
        if not self._sweep.once():
            raise RuntimeError("Another sweeper is at work.")

    def prune_for(self, seconds: float) -> float:
        """Let the sweep delete what has expired, with its rests between rounds; return the leads a second."""
        with self.database.autocommit() as connection:
            connection.execute(text("UPDATE dispatcher.sweeps SET pruned_at = NULL"))
        before, began = self._expired(), time.monotonic()
        while time.monotonic() - began < seconds:
            self.sweep()
            time.sleep(self.settings.sweep_interval_seconds)
        took = time.monotonic() - began
        with self.database.autocommit() as connection:
            connection.execute(text("UPDATE dispatcher.sweeps SET pruned_at = now()"))
        return (before - self._expired()) / took

    def _expired(self) -> int:
        with self.database.autocommit() as connection:
            expired = text("SELECT count(*) FROM dispatcher.leads WHERE finished_at < now() - interval '90 days'")
            return int(connection.execute(expired).scalar() or 0)

    def pages(self) -> dict[str, str]:
        """Every page whose statement could read history."""
        with self.database.autocommit() as connection:
            ended, failed = connection.execute(
                text("SELECT (SELECT id FROM dispatcher.leads WHERE campaign_id = :campaign AND account = 'default'"
                     " AND state = 'accepted' AND NOT allow_dupplicate LIMIT 1),"
                     " (SELECT lead_id FROM dispatcher.failed_leads WHERE resolved_at IS NULL LIMIT 1)"),
                {"campaign": FIRST_CAMPAIGN},
            ).one()  # fmt: skip
            number = connection.execute(
                text("SELECT phone_number FROM dispatcher.leads WHERE id = :id"), {"id": ended}
            ).scalar()
        return {
            "overview": "/",
            "overview, 24 hours": "/?hours=24",
            "failed: causes": "/failed",
            "failed: rows": "/failed/rows",
            "failed: rows of a campaign": f"/failed/rows?campaign={FIRST_CAMPAIGN}",
            "failed: rows dealt with": "/failed/rows?resolved=yes",
            "failed: rows by text, none": "/failed/rows?text=nothing+like+this",
            "failed: rows replayed before": "/failed/rows?replayed_before=yes",
            "leads": "/leads",
            "leads, pending": "/leads?state=pending",
            "leads, due of a campaign": f"/leads?due=yes&campaign={WAITING_CAMPAIGNS[3]}",
            "leads, accepted today": "/leads?state=accepted&ended_since=today",
            "leads, accepted of a campaign": f"/leads?state=accepted&campaign={FIRST_CAMPAIGN}",
            "leads, ended before a day": f"/leads?ended_before=90d&campaign={FIRST_CAMPAIGN}",
            "leads, cancelled": "/leads?state=cancelled",
            "leads by last digits, none": "/leads?phone=99999999",
            "leads by part of the id, none": "/leads?id=ffffffff",
            "leads by variable, none": "/leads?variable=customer_name%3DBob",
            "leads by reference": "/leads?reference=order-4242",
            "a lead": f"/leads/{ended}",
            "a failed lead": f"/leads/{failed}",
            "campaigns": "/campaigns",
            "search by reference": "/search?q=order-4242",
            "search by number": f"/search?q=%2B{str(number)[1:]}",
            "search by Voicery's id": "/search?q=4243",
            "search by last digits, none": "/search?q=99999999",
        }


def timed(action: Callable[[], object]) -> float:
    """Milliseconds."""
    began = time.perf_counter()
    action()
    return (time.perf_counter() - began) * 1000


class Table:
    """The milliseconds of each figure, by size."""

    def __init__(self, sizes: list[int]) -> None:
        self._sizes = sizes
        print(f"{'':34}" + "".join(f"{size:>12,} p50     p95" for size in sizes) + "    ratio p50   p95", flush=True)

    def row(self, name: str, took: dict[int, list[float]]) -> None:
        """Print the median and the 95th percentile of each size, and the last size's by the first's."""
        cuts = [(statistics.median(took[size]), statistics.quantiles(took[size], n=20)[18]) for size in self._sizes]
        ratios = [last / first for first, last in zip(cuts[0], cuts[-1], strict=True)]
        told = "".join(f"{median:>16.2f}{p95:>8.2f}" for median, p95 in cuts)
        print(f"{name:34}{told}{ratios[0]:>13.2f}{ratios[1]:>6.2f}", flush=True)


def in_turns(stores: list[Store], rounds: int, times: int, action: Callable[[Store], object]) -> dict[int, list[float]]:
    """Each size's milliseconds; a first tenth of a round only warms up, and every second round goes backwards."""
    took: dict[int, list[float]] = {store.count: [] for store in stores}
    for turn in range(rounds):
        for store in stores if turn % 2 == 0 else reversed(stores):
            values = [timed(lambda store=store: action(store)) for _ in range(times)]
            took[store.count] += values[times // 10 :]
    return took


def statements(stores: list[Store], rounds: int, table: Table) -> None:
    """Submit, claim, record, sweep."""
    for name in ("submit", "claim", "record", "sweep"):
        table.row(name, in_turns(stores, rounds, _ACTIONS, lambda store, name=name: getattr(store, name)()))


def pages(stores: list[Store], rounds: int, table: Table) -> None:
    """The console's pages."""
    with contextlib.ExitStack() as stack:
        clients: dict[int, TestClient] = {one.count: stack.enter_context(asking(one.services)) for one in stores}
        paths = {one.count: one.pages() for one in stores}
        for name in paths[stores[0].count]:

            def ask(store: Store, name: str = name) -> None:
                answer = clients[store.count].get(paths[store.count][name])
                if answer.status_code not in {200, 303}:
                    raise RuntimeError(f"{paths[store.count][name]} answered {answer.status_code}")

            table.row(name, in_turns(stores, rounds, _PAGES_A_ROUND + 1, ask))


def prune(stores: list[Store], rounds: int, table: Table) -> None:
    """Slices of a thousand rows: leads that are deleted, and leads and attempts that are only looked at."""
    rows: dict[int, int] = {store.count: 0 for store in stores}
    passes = {store.count: Pruning(store.database, store.settings) for store in stores}

    def step(store: Store) -> None:
        rows[store.count] += passes[store.count].step()

    took = in_turns(stores, rounds, _SLICES, step)
    table.row("prune: a slice of 1 000 rows", took)
    for store in stores:
        took_all = sum(took[store.count]) / 0.9 / 1000
        print(f"    {store.count:,}: {rows[store.count] / took_all:,.0f} leads a second of deleting", flush=True)
        print(f"    {store.count:,}: {store.prune_for(_SWEEP_SECONDS):,.0f} leads a second of sweeping", flush=True)
    places = {store.count: dict(retention.responses_since(retention._BEGINNING)) for store in stores}  # noqa: SLF001

    def look(store: Store) -> None:
        with store.database.transaction() as connection:
            now = retention.database_now(connection)
            done = retention.prune_responses(connection, places[store.count], now - retention.timedelta(days=30))
        places[store.count] = dict(done.following or places[store.count])

    table.row("prune: 1 000 attempts looked at", in_turns(stores, rounds, _SLICES, look))


def vacuum(stores: list[Store], table: Table) -> None:
    """VACUUM of leads and attempts after that, once each."""
    for name in ("leads", "lead_attempts"):
        took = {store.count: [timed(lambda s=store, n=name: _vacuum(s, n))] * 2 for store in stores}
        table.row(f"vacuum of {name}, once", took)


def _vacuum(store: Store, name: str) -> None:
    with psycopg.connect(store.url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(f"VACUUM (ANALYZE, PARALLEL 0) dispatcher.{name}")  # type: ignore[arg-type]


def filled(server: EmbeddedPostgres, size: int) -> str:
    """The address of the database of this size, filled once."""
    name = f"history_{size}"
    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        known = connection.execute("SELECT FROM pg_database WHERE datname = %s", (name,)).fetchone()
        if known is None:
            connection.execute(f"CREATE DATABASE {name}")  # type: ignore[arg-type]  # a number of ours
    url = server.url(name)
    upgrade(normal_database_url(url))
    if known is None:
        print(f"{size:,} finished leads", flush=True)
        fill(url, size, WAITING)
    return make_conninfo(url)


@contextlib.contextmanager
def _directory(given: Path | None) -> Iterator[Path]:
    path = given or Path(tempfile.mkdtemp(prefix="dispatcher-history-"))
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0o755)
    yield path
    if given is None:
        shutil.rmtree(path, ignore_errors=True)


def main() -> None:
    """Fill, measure, tell."""
    parser = argparse.ArgumentParser(description="What grows with finished history.")
    parser.add_argument("--sizes", type=int, nargs="+", default=[2_000_000, 20_000_000])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--directory", type=Path)
    parser.add_argument("--only", nargs="+", choices=["statements", "pages", "prune", "vacuum"])
    given = parser.parse_args()
    only = given.only or ["statements", "pages", "prune", "vacuum"]
    with _directory(given.directory) as directory:
        server = EmbeddedPostgres(directory / "postgres", durable=False, options=_SERVER)
        with server:
            stores = [Store(server.url(f"history_{size}"), size) for size in given.sizes if filled(server, size)]
            print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; milliseconds")
            table = Table(given.sizes)
            if "statements" in only:
                statements(stores, given.rounds, table)
            if "pages" in only:
                pages(stores, given.rounds, table)
            if "prune" in only:
                prune(stores, given.rounds, table)
            if "vacuum" in only:
                vacuum(stores, table)
            for store in stores:
                store.services.close()
        if given.directory is None:
            server.remove()


if __name__ == "__main__":
    main()
