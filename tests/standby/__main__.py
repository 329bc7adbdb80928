"""`python -m tests.standby --seeds 20`: a standby is promoted under load, many times; exit 1 if a promise broke."""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from dispatcher.config.urls import normal_database_url
from dispatcher.embedded.postgres import EmbeddedPostgres
from dispatcher.embedded.redis import EmbeddedRedis
from dispatcher.store.migration import upgrade
from tests.standby.failover import run
from tests.support.databases import quick_directory
from tests.support.standby import NoTools, Pair, tools

NO_TOOLS = 3  # the exit code where `pg_basebackup` is missing
FLOW_WITHIN_SECONDS = 10.0


def main() -> int:
    given = argparse.ArgumentParser(prog="python -m tests.standby")
    given.add_argument("--seeds", type=int, default=20)
    given.add_argument("--first", type=int, default=1, help="the first seed")
    asked = given.parse_args()
    try:
        bin_dir = tools(None)
    except NoTools as error:
        print(error)
        return NO_TOOLS
    directory = Path(tempfile.mkdtemp(prefix="dispatcher-standby-", dir=quick_directory()))
    directory.chmod(0o755)
    broken, leads, slowest_submit, slowest_post = 0, 0, 0.0, 0.0
    try:
        with EmbeddedPostgres(directory / "seed", durable=False, bin_dir=bin_dir) as server:
            upgrade(normal_database_url(server.url()))
        (server.directory / "port").unlink()
        for seed in range(asked.first, asked.first + asked.seeds):
            place = directory / str(seed)
            place.mkdir(mode=0o755)
            with (
                Pair(place, server.directory, bin_dir, synchronous=True) as pair,
                EmbeddedRedis(place / "redis") as redis,
            ):
                account = run(place, pair, redis.url(), seed)
            print(f"seed {seed}: {account}", flush=True)
            broken += not account.sound
            leads += account.confirmed
            slowest_submit = max(slowest_submit, account.submit_seconds)
            slowest_post = max(slowest_post, account.post_seconds)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    print(f"{asked.seeds} failovers, {leads} leads; {broken} with a lead lost, called twice or without its end")
    print(f"first submit at most {slowest_submit:.1f} s after the promotion, first POST {slowest_post:.1f} s")
    return 1 if broken or max(slowest_submit, slowest_post) > FLOW_WITHIN_SECONDS else 0


if __name__ == "__main__":
    sys.exit(main())
