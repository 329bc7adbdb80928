"""Seven hosts: three with a worker each, Postgres, Redis, Voicery and a producer."""

import contextlib
import random
import sys
from bisect import bisect_right
from collections import Counter
from datetime import datetime
from typing import Self

from dispatcher.embedded.child import Child, Command
from dispatcher.embedded.embedded_server import LOOPBACK
from dispatcher.embedded.postgres import EmbeddedPostgres
from dispatcher.embedded.redis import EmbeddedRedis
from tests.hosts.network import NETMASK, NETWORK, Network
from tests.soak.stack import CAMPAIGNS, Stack, numbers
from tests.support.environment import clean_environment
from tests.support.waiting import wait_until

WORKERS = ("worker1", "worker2", "worker3")
HOSTS = ("postgres", "redis", "voicery", "producer", *WORKERS)
SUBMITS_A_SECOND = 25.0
LIMIT, WINDOW_SECONDS = 100, 5
RATE_LIMIT = f"{LIMIT}/{WINDOW_SECONDS} seconds"
LONGEST_DELAY_SECONDS = 0.008
OFFSETS_MINUTES = (-11.0, 0.0, 7.0)  # of the workers' clocks
UNAVAILABLE = "unavailable"  # printed by the producer for each submit that was refused
UUID_HYPHENS = 4


class ReachableRedis(EmbeddedRedis):
    """Also listens on the address of its host."""

    address = ""

    def _configuration(self) -> str:
        return super()._configuration().replace(f"bind {LOOPBACK}", f"bind {LOOPBACK} {self.address}")


class HostsStack(Stack):
    """The thread that enters is on the host of Postgres until it leaves, so no partition is between."""

    def __init__(self, seed: int) -> None:
        """Make the hosts.

        Raises:
            NoNamespaces: this machine allows none.
        """
        dice = random.Random(seed)
        loss = dice.choice((0.0, 0.002, 0.01))
        self.network = Network(HOSTS, dice, delay_seconds=LONGEST_DELAY_SECONDS, loss=loss)
        self.seed = seed
        hosts = self.network.hosts
        super().__init__(seed, host=hosts["voicery"].address, rate_limit=RATE_LIMIT, latency_seconds=0.3)
        rules = self.directory / "pg_hba.conf"
        rules.write_text(
            "".join(f"host all all {net} scram-sha-256\n" for net in (f"{LOOPBACK}/32", f"{NETWORK}0 {NETMASK}"))
        )
        address = hosts["postgres"].address
        options = {"listen_addresses": f"{LOOPBACK},{address}", "hba_file": str(rules)}
        self.postgres = EmbeddedPostgres(self.directory / "postgres", durable=False, options=options)
        self.redis = ReachableRedis(self.directory / "redis")
        self.redis.address = hosts["redis"].address
        self.producer: Child | None = None
        self._entered = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as entered:  # left again if a server does not start
            entered.enter_context(self.network)
            entered.enter_context(self._at("postgres"))
            super().__enter__()
            self._entered = entered.pop_all()
        return self

    def __exit__(self, *about: object) -> None:
        if self.producer is not None:
            self.producer.kill()
        super().__exit__(*about)
        self._entered.close()

    def start_servers(self) -> dict[str, str]:
        self.postgres.start()
        with self._at("redis"):
            self.redis.start()
        with self._at("voicery"):
            self.sandbox.__enter__()
        hosts = self.network.hosts
        return {
            "DATABASE_URL": self.postgres.url().replace(LOOPBACK, hosts["postgres"].address),
            "REDIS_URL": self.redis.url().replace(LOOPBACK, hosts["redis"].address),
            "VOICERY_BASE_URL": self.sandbox.base_url,
            "DISPATCHER_RATE_LIMIT": RATE_LIMIT,
            "DISPATCHER_ALLOW_HTTP": "true",
            "DISPATCHER_GATE_WAIT_MAX": "1",  # else the time after healing is that of the gates, which rightly wait
        }

    def _at(self, name: str) -> contextlib.AbstractContextManager[None]:
        return self.network.hosts[name].inside()

    def start_workers(self) -> None:
        """One on each host of workers, and wait until they consume."""
        for name, minutes in zip(WORKERS, OFFSETS_MINUTES, strict=True):
            celery = (
                "-m",
                "tests.hosts.worker",
                "-A",
                "dispatcher",
                "worker",
                "--loglevel",
                "INFO",
                "-c",
                "1",
                "-n",
                f"w@{name}",
            )
            with self._at(name):
                self.start_worker((sys.executable, *celery), FAKE_CLOCK_SECONDS=str(60 * minutes))
        for worker in self.workers:
            wait_until(lambda worker=worker: " ready." in worker.command.log_path.read_text(), 60, worker.log_tail)

    def start_producer(self) -> None:
        with self._at("producer"):
            command = Command(
                argv=(sys.executable, "-m", "tests.hosts.producer", str(self.seed)),
                log_path=self.directory / "producer.log",
                environment={**clean_environment(), **self.environment},
                grace_seconds=30.0,
            )
            self.producer = Child(command)

    def submit_backlog(self, count: int) -> None:
        """Give all hosts something to do at once."""
        phones = numbers(self.seed + 1_000_000)
        leads = [
            {"phone_number": next(phones), "campaign_id": CAMPAIGNS[one % len(CAMPAIGNS)], "allow_dupplicate": True}
            for one in range(count)
        ]
        assert not self.dispatcher.submit_many(leads).rejected

    def stop_producer(self) -> Counter[str]:
        """What its calls came to; each lead that it was promised is in `submitted` from now on."""
        assert self.producer is not None
        self.producer.stop()
        lines = self.producer.command.log_path.read_text().splitlines()
        ids = [line for line in lines if line.count("-") == UUID_HYPHENS]
        self.submitted += ids
        return Counter({"committed": len(ids), "unavailable": lines.count(UNAVAILABLE)})

    def accepted_since(self, moment: datetime) -> dict[str, float]:
        """For each host of workers, after how many seconds it had its first lead accepted that it claimed since."""
        rows = self.query(f"""
            SELECT split_part(worker, ':', 1), extract(epoch FROM min(ended_at) - '{moment.isoformat()}')::float8
            FROM dispatcher.lead_attempts
            WHERE outcome = 'accepted' AND started_at > '{moment.isoformat()}'
            GROUP BY 1
        """)
        return dict(rows)

    def most_in_a_window(self) -> int:
        """The most requests that left within one window: claims by Postgres' clock, look-ups as received."""
        left = [
            moment
            for (moment,) in self.query("SELECT extract(epoch FROM started_at)::float8 FROM dispatcher.lead_attempts")
        ]
        left += [entry.at for entry in self.sandbox.log if entry.method == "GET"]
        left.sort()
        return max((number - bisect_right(left, at - WINDOW_SECONDS) for number, at in enumerate(left, 1)), default=0)
