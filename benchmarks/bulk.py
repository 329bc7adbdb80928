"""How fast `submit_many` is beside a raw `COPY` of the same rows into the same indexes.

    python -m benchmarks.bulk [--leads 50000] [--rounds 3]

`submit_many` gets mappings: it validates, hashes, de-duplicates against the table and commits in chunks. The raw COPY
gets finished lines. Both start with an empty table, alternate, and are durable; medians are compared. Seconds depend on
what else the machine does, so the ratio is what counts.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

from dispatcher.broker.doorbell import NullDoorbell
from dispatcher.config.urls import normal_database_url
from dispatcher.embedded.postgres import EmbeddedPostgres
from dispatcher.intake.bulk import Bulk
from dispatcher.store.database import Database
from dispatcher.store.migration import upgrade

_COLUMNS = (
    "id, account, campaign_id, phone_number, variables, allow_dupplicate, state, priority, due_at, payload_hash, "
    "batch_id"
)


def leads(count: int) -> Iterator[dict[str, Any]]:
    """Leads of as many persons."""
    for number in range(count):
        area, line = divmod(number, 10_000)
        yield {
            "phone_number": f"+1{200 + area}555{line:04d}",
            "campaign_id": 42,
            "variables": {"customer_name": "Ada Lovelace", "number": str(number), "city": "Paris"},
        }


def submit_many(database: Database, items: list[dict[str, Any]], workers: int) -> float:
    """Seconds."""
    started = time.perf_counter()
    bulk = Bulk(database, NullDoorbell())
    stored = sum(chunk.submitted for chunk in bulk.stream(items, account="default", batch_id=uuid4(), workers=workers))
    seconds = time.perf_counter() - started
    if stored != len(items):
        raise SystemExit(f"{stored} of {len(items)} leads were stored")
    return seconds


def raw_copy(database: Database, lines: bytes) -> float:
    """Seconds."""
    with database.engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        started = time.perf_counter()
        with driver.cursor() as cursor, cursor.copy(f"COPY dispatcher.leads ({_COLUMNS}) FROM STDIN") as copy:
            copy.write(lines)
        driver.commit()
        return time.perf_counter() - started


def empty(database: Database) -> bytes:
    """Empty the table; the lines that it had."""
    with database.engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        with driver.cursor() as cursor:
            with cursor.copy(f"COPY (SELECT {_COLUMNS} FROM dispatcher.leads) TO STDOUT") as copy:  # noqa: S608
                lines = b"".join(bytes(block) for block in copy)
            cursor.execute("TRUNCATE dispatcher.leads CASCADE")
        driver.commit()
    return lines


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description="How fast submit_many is beside a raw COPY.")
    parser.add_argument("--leads", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    items = list(leads(arguments.leads))
    figures: dict[str, list[float]] = {"raw COPY": [], "submit_many": [], "with 1 process": []}
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        with EmbeddedPostgres(Path(directory) / "postgres") as server:
            url = normal_database_url(server.url())
            upgrade(url)
            database = Database(url)
            for _ in range(arguments.rounds):
                figures["submit_many"].append(submit_many(database, items, 0))
                figures["raw COPY"].append(raw_copy(database, empty(database)))
                empty(database)
                figures["with 1 process"].append(submit_many(database, items, 1))
                empty(database)
            database.close()
    raw = statistics.median(figures["raw COPY"])
    for name, seconds in figures.items():
        median = statistics.median(seconds)
        print(f"{name:15} {arguments.leads / median:9,.0f} leads/s   {raw / median:5.2f} × raw COPY")


if __name__ == "__main__":
    main()
