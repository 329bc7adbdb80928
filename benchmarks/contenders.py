"""Who is compared: how each is set up, started and given its leads."""

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent
OURS: Final = sys.executable
PEERS: Final = str(ROOT / ".venv-bench" / "bin" / "python")


@dataclass(frozen=True, slots=True)
class Contender:
    """One way to get leads to the API. All commands belong to one environment; `load` gets a first lead and a count."""

    name: str
    label: str
    python: str
    workers: tuple[tuple[str, ...], ...]
    load: tuple[str, ...]
    setup: tuple[str, ...] = ()
    schema: bool = False  # its database needs our schema
    environment: tuple[tuple[str, str], ...] = ()


def ours(processes: int = 2, in_flight: int | None = None, pool: str = "prefork", name: str = "ours") -> Contender:
    """Our worker with the rate limit off and, but for `in_flight` where it is given, everything else as it comes."""
    return Contender(
        name,
        f"ours, {processes} processes" + (", as it comes" if in_flight is None else f" × {in_flight} in flight"),
        OURS,
        (("-m", "celery", "-A", "dispatcher", "worker", "-c", str(processes), "-P", pool, "-l", "WARNING"),),
        ("-m", "benchmarks.ours", "load"),
        schema=True,
        environment=() if in_flight is None else (("DISPATCHER_CONCURRENCY", str(in_flight)),),
    )


def celery_plain(pool: str = "prefork", slots: int = 2, workers: int = 1, prefetch: int = 16) -> Contender:
    """Plain Celery: so many workers of so many processes or threads, which fetch `prefetch` tasks ahead for each."""
    made = _celery("celery_plain", "", pool, slots)
    worker = (*made.workers[0], "--prefetch-multiplier", str(prefetch))
    label = f"plain Celery task per lead, requests (nothing stored), {workers} × {pool} {slots}, prefetch {prefetch}"
    return replace(made, label=label, workers=tuple((*worker, "-n", f"worker{number}") for number in range(workers)))


def celery_rows() -> Contender:
    """A row and a task for each lead."""
    made = _celery("celery_rows", "naive durable: a row and a task per lead, requests")
    return Contender(made.name, made.label, made.python, made.workers, made.load, ("-m", _peer("celery_rows"), "setup"))


def procrastinate(mode: str, concurrency: int) -> Contender:
    """Procrastinate with two processes; `mode` is async or sync."""
    module = _peer("procrastinate_app")
    work = ("-m", module, "work", mode, str(concurrency))
    return Contender(
        f"procrastinate_{mode}",
        f"Procrastinate, {mode}, 2 processes × {concurrency}",
        PEERS,
        (work, work),
        ("-m", module, "load", mode),
        ("-m", module, "setup"),
    )


def pgqueuer(batch_size: int) -> Contender:
    """PgQueuer with two processes."""
    module = _peer("pgqueuer_app")
    work = ("-m", module, "work", str(batch_size))
    label = f"PgQueuer, aiohttp, 2 processes, batches of {batch_size}"
    return Contender("pgqueuer", label, PEERS, (work, work), ("-m", module, "load"), ("-m", module, "setup"))


def bare_loop(threads: int = 1) -> Contender:
    """Two processes that only POST."""
    module = _peer("bare_loop")
    workers = tuple(("-m", module, "serve", str(share), "2", str(threads)) for share in range(2))
    label = (
        f"bare loop of session.post, 2 processes × {threads} thread{'s' if threads > 1 else ''} (no queue, no database)"
    )
    return Contender("bare_loop", label, PEERS, workers, ("-m", module, "load"))


def _celery(name: str, label: str, pool: str = "prefork", slots: int = 2) -> Contender:
    module = _peer(name)
    worker = ("-m", "celery", "-A", module, "worker", "-P", pool, "-c", str(slots), "-l", "WARNING", "-Q", name)
    quiet = ("--without-gossip", "--without-mingle", "--without-heartbeat")
    return Contender(name, label, PEERS, ((*worker, *quiet),), ("-m", module, "load"))


def _peer(name: str) -> str:
    return f"benchmarks.peers.{name}"
