"""How fast a backlog goes out."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from benchmarks.bench import Bench, Running
from benchmarks.contenders import Contender

_WARM_UP = 400
_TIMEOUT_SECONDS = 300.0
_QUIET_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Drained:
    """One backlog, from the first request that the API saw to the last."""

    leads: int
    seconds: float
    worker_cpu_seconds: float
    postgres_cpu_seconds: float
    api_cpu_seconds: float
    most_open: int

    @property
    def per_second(self) -> float:
        """Leads a second."""
        return (self.leads - 1) / self.seconds

    @property
    def worker_ms(self) -> float:
        """CPU milliseconds a lead, in the workers."""
        return self.worker_cpu_seconds / self.leads * 1000

    @property
    def postgres_ms(self) -> float:
        """CPU milliseconds a lead, in Postgres."""
        return self.postgres_cpu_seconds / self.leads * 1000

    @property
    def api_ms(self) -> float:
        """CPU milliseconds a lead, in the stand-in API."""
        return self.api_cpu_seconds / self.leads * 1000


def drain(
    bench: Bench,
    contender: Contender,
    leads: int,
    delay_seconds: float = 0.0,
    extra: Mapping[str, str] = MappingProxyType({}),
) -> Drained:
    """Start the workers, warm them up with other leads, then let `leads` appear at once."""
    with (
        bench.database(schema=contender.schema) as database_url,
        bench.running(contender, database_url, extra) as running,
    ):
        return drain_running(bench, running, leads, delay_seconds)


def drain_running(bench: Bench, running: Running, leads: int, delay_seconds: float = 0.0, *, first: int = 0) -> Drained:
    """The same with workers that run already."""
    bench.api.reset()
    running.load(first, _WARM_UP)
    bench.api.wait(_WARM_UP, _TIMEOUT_SECONDS)
    time.sleep(_QUIET_SECONDS)
    bench.api.reset(delay_seconds)
    before = running.cpu()
    running.load(first + _WARM_UP, leads)
    stats = bench.api.wait(leads, _TIMEOUT_SECONDS)
    time.sleep(0.2)  # what the last answers still cost
    used = running.cpu() - before
    return Drained(
        leads, stats["last_at"] - stats["first_at"], used.workers, used.postgres, used.api, stats["most_open"]
    )
