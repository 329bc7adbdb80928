"""Drains: a backlog at an API that answers at once, and at one that takes 100 ms."""

from collections.abc import Sequence

from benchmarks import contenders
from benchmarks.bench import Bench
from benchmarks.contenders import Contender
from benchmarks.drain import Drained, drain
from benchmarks.figure import Figure

_TRIAL_LEADS = 1500
_IN_FLIGHT_EACH = 32  # two processes: 64 in all
_SLOW_SECONDS = 0.1
_CELERY = (("prefork", 2, 1, 4), ("prefork", 2, 1, 16), ("threads", 8, 1, 16), ("threads", 4, 2, 16))
"""Pool, processes or threads of a worker, workers, tasks fetched ahead for each."""


def fast(bench: Bench, rounds: int) -> Figure:
    """4 000 leads, API at once, two processes, beside all peers, each in the best of some settings."""
    figure = Figure("drain", "Drain of 4 000 leads, API 0 ms, 2 processes")
    everybody = [
        contenders.ours(name="ours_as_it_comes"),
        _best(bench, [contenders.ours(in_flight=many) for many in (2 * _IN_FLIGHT_EACH, 4 * _IN_FLIGHT_EACH)]),
        _best(bench, [contenders.celery_plain(*options) for options in _CELERY]),
        contenders.celery_rows(),
        _best(bench, [contenders.procrastinate(mode, many) for mode in ("async", "sync") for many in (8, 32)]),
        contenders.bare_loop(),
        _best(bench, [contenders.pgqueuer(batch) for batch in (10, 100, 500)]),
    ]
    _alternate(bench, figure, everybody, rounds, 4000)
    procrastinate = next(name for name in figure.samples if name.startswith("procrastinate"))
    figure.check_ratio(
        "as it comes ÷ Celery's best pool (nothing stored)", "ours_as_it_comes", "celery_plain", "≥", 4.5
    )
    figure.check_ratio("as it comes ÷ bare loop, trust_env off", "ours_as_it_comes", "bare_loop", "≥", 1.2)
    figure.check_ratio("Celery's best pool (nothing stored)", "ours", "celery_plain", "≥", 4.5)
    figure.check_ratio("Procrastinate, the better of async and sync", "ours", procrastinate, "≥", 4.0)
    figure.check_ratio("bare loop of session.post, trust_env off", "ours", "bare_loop", "≥", 1.2)
    figure.check_ratio("PgQueuer with aiohttp, its best batch", "ours", "pgqueuer", "≥", 1.0)
    return figure


def slow(bench: Bench, rounds: int) -> Figure:
    """4 000 leads, API 100 ms, 64 in flight in all."""
    figure = Figure("drain_slow", "Drain of 4 000 leads, API 100 ms, 64 in flight in all")
    pair = [contenders.ours(in_flight=_IN_FLIGHT_EACH), contenders.bare_loop(_IN_FLIGHT_EACH)]
    _alternate(bench, figure, pair, rounds, 4000, _SLOW_SECONDS)
    figure.check_ratio("bare threaded loop, same in flight", "ours", "bare_loop", "≥", 0.97)
    return figure


def _alternate(
    bench: Bench, figure: Figure, everybody: Sequence[Contender], rounds: int, leads: int, delay_seconds: float = 0.0
) -> None:
    for turn in range(rounds):
        for one in everybody if turn % 2 == 0 else reversed(everybody):
            note(figure, one.name, one.label, drain(bench, one, leads, delay_seconds))


def note(figure: Figure, name: str, label: str, drained: Drained) -> None:
    """Put one drain into the figure."""
    figure.sample(name, label, "leads/s").add(
        drained.per_second,
        worker_cpu_ms_per_lead=drained.worker_ms,
        postgres_cpu_ms_per_lead=drained.postgres_ms,
        api_cpu_ms_per_lead=drained.api_ms,
        most_in_flight=float(drained.most_open),
    )
    print(f"  {label}: {drained.per_second:,.0f} leads/s, {drained.worker_ms:.2f} ms of CPU a lead", flush=True)


def _best(bench: Bench, candidates: Sequence[Contender]) -> Contender:
    """The fastest in one short trial each."""
    return max(candidates, key=lambda one: drain(bench, one, _TRIAL_LEADS).per_second)
