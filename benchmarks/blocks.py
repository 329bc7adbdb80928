"""What the list of who must not be called costs: a claim beside an empty list, and how fast a list is stored.

    python -m benchmarks.blocks [--blocked 1000000] [--rounds 5] [--claims 300]

One database, claims of 8 leads. Rounds alternate between a list of `--blocked` other numbers and an empty one: the list
is moved aside and back, so that both see the same leads and the same machine. p95 and median are of all claims of a
kind; Postgres' CPU of a claim is the median of the rounds, and depends least on what else the machine does. Storing
counts numbers per second of `Blocks.add_all`, of clean E.164 numbers, beside reading them alone.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import psutil
import uuid_utils.compat
from sqlalchemy import text

from dispatcher.config.settings import Settings
from dispatcher.config.urls import normal_database_url
from dispatcher.delivery.claims import Claimer
from dispatcher.embedded.postgres import EmbeddedPostgres
from dispatcher.lead.options import Channel
from dispatcher.lead.phone import canonical_phone
from dispatcher.operator.block_list import BlockTerms
from dispatcher.operator.blocks import Blocks
from dispatcher.store.blocks import Screening
from dispatcher.store.database import Database
from dispatcher.store.migration import upgrade
from dispatcher.store.pseudonym import Pseudonyms

WANTED = 8
LIST, ASIDE = "dispatcher.blocks", "dispatcher.blocks_aside"

_LEADS = text("""
INSERT INTO dispatcher.leads (id, account, campaign_id, phone_number, state, due_at, payload_hash)
SELECT gen_random_uuid(), 'default', 42, '+1202' || 7000000 + n, 'pending', now() - interval '1 h', ''
FROM generate_series(1, :leads) AS n
""")


def numbers(count: int) -> list[str]:
    """As many numbers of one country, none of them a lead's."""
    return [f"+1{203 + number // 8_000_000}{2_000_000 + number % 8_000_000}" for number in range(count)]


def stored(database: Database, listed: list[str], pseudonyms: Pseudonyms) -> dict[str, float]:
    """Numbers per second: read alone, and read and stored."""
    started = time.perf_counter()
    for number in listed:
        canonical_phone(number, "phone_number")
    read = time.perf_counter() - started
    started = time.perf_counter()
    done = sum(chunk.added for chunk in Blocks(database, pseudonyms).add_all(enumerate(listed), BlockTerms("bench")))
    seconds = time.perf_counter() - started
    if done != len(listed):
        raise SystemExit(f"{done} of {len(listed)} numbers were stored")
    return {"read_per_second": len(listed) / read, "stored_per_second": len(listed) / seconds}


def claims(database: Database, screening: Screening, count: int) -> tuple[list[float], float]:
    """The milliseconds of each claim, and those of Postgres' CPU for one.

    What it claimed is rolled back, so that all meet the same leads.
    """
    claimer = Claimer(Channel("default", 42), Settings(), "bench", screening=screening)
    took = []
    with database.autocommit() as connection:
        backend = psutil.Process(connection.connection.driver_connection.info.backend_pid)  # type: ignore[union-attr]
        used = -sum(backend.cpu_times()[:2])
        for place in range(count + 20):
            connection.exec_driver_sql("BEGIN")
            ids = [uuid_utils.compat.uuid7() for _ in range(WANTED)]
            started = time.perf_counter()
            opened = claimer.claim(connection, ids).opened
            milliseconds = (time.perf_counter() - started) * 1000
            connection.exec_driver_sql("ROLLBACK")
            if len(opened) != WANTED:
                raise SystemExit(f"{len(opened)} leads were claimed")
            if place >= 20:  # the first ones plan and fill caches
                took.append(milliseconds)
        used += sum(backend.cpu_times()[:2])
    return took, used * 1000 / (count + 20)


def move(database: Database, *, aside: bool) -> None:
    """Empty the list, or bring it back, without writing a row."""
    old, new = (LIST, ASIDE) if aside else (ASIDE, LIST)
    swap = [f"ALTER TABLE {old} RENAME TO {new.split('.')[1]}"]
    if aside:
        swap.append(f"CREATE TABLE {LIST} (LIKE {ASIDE} INCLUDING ALL)")
    else:
        swap.insert(0, f"DROP TABLE {LIST}")
    with database.transaction() as connection:
        for statement in swap:
            connection.exec_driver_sql(statement)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocked", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--claims", type=int, default=300)
    given = parser.parse_args()
    found: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        server = EmbeddedPostgres(Path(folder) / "postgres", durable=True)
        server.start()
        try:
            url = normal_database_url(server.url())
            upgrade(url)
            for kind, key in (("plain", None), ("keyed", "0123456789abcdef" * 4)):
                database, pseudonyms = Database(url, pool_size=1), Pseudonyms(key)
                if kind == "plain":
                    with database.transaction() as connection:
                        connection.execute(_LEADS, {"leads": 20_000})
                found[kind] = stored(database, numbers(given.blocked), pseudonyms)
                with database.autocommit() as connection:
                    connection.exec_driver_sql("VACUUM ANALYZE")
                took: dict[str, list[float]] = {"full": [], "empty": []}
                used: dict[str, list[float]] = {"full": [], "empty": []}
                for _ in range(given.rounds):
                    for state in ("full", "empty"):
                        if state == "empty":
                            move(database, aside=True)
                        milliseconds, cpu = claims(database, Screening(pseudonyms), given.claims)
                        took[state] += milliseconds
                        used[state].append(cpu)
                        if state == "empty":
                            move(database, aside=False)
                for name, figure in (("median", statistics.median), ("p95", _p95)):
                    full, empty = figure(took["full"]), figure(took["empty"])
                    found[f"claim_{name}_{kind}"] = {
                        "full_ms": round(full, 3), "empty_ms": round(empty, 3), "ratio": round(full / empty, 3)
                    }  # fmt: skip
                full, empty = statistics.median(used["full"]), statistics.median(used["empty"])
                found[f"claim_postgres_cpu_{kind}"] = {
                    "full_ms": round(full, 3), "empty_ms": round(empty, 3), "ratio": round(full / empty, 3)
                }  # fmt: skip
                with database.transaction() as connection:
                    connection.exec_driver_sql(f"TRUNCATE {LIST}")
                database.close()
        finally:
            server.remove()
    print(json.dumps(found, indent=2))


def _p95(values: list[float]) -> float:
    return statistics.quantiles(values, n=20)[-1]


if __name__ == "__main__":
    main()
