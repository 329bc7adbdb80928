"""Submits: one by one, many at once, and how soon the API hears of a lead."""

import json
import statistics
import time

import psycopg

from benchmarks import contenders
from benchmarks.bench import Bench, Running
from benchmarks.figure import Check, Figure

_ONE_BY_ONE = 2000
_MANY = 50_000
_AT_ONCE = 4000
_CALLERS = 100
_PROCRASTINATE_CHUNK = 1000  # leads in one statement
_TRICKLED = 1100
_PAUSE_SECONDS = 0.02
_COLUMNS = (
    "id, account, campaign_id, phone_number, variables, allow_dupplicate, state, priority, due_at, payload_hash, "
    "batch_id"
)


def one_by_one(bench: Bench, rounds: int) -> Figure:
    """`submit` beside `delay` and `defer`, in one thread, no worker running."""
    figure = Figure("submit", f"{_ONE_BY_ONE} leads one by one, one thread")
    everybody = [
        (contenders.ours(), "submit(lead): durable in Postgres"),
        (contenders.celery_plain(), "Celery task.delay(lead): in Redis' memory"),
        (contenders.procrastinate("async", 8), "Procrastinate defer(lead): durable in Postgres"),
    ]
    for turn in range(rounds):
        for contender, label in everybody:
            with bench.stopped(contender) as running:
                before = bench.postgres_cpu()
                seconds, cpu_seconds = _took(running, "submit", turn * 10_000, _ONE_BY_ONE)
                postgres = bench.postgres_cpu() - before
            figure.sample(contender.name, label, "leads/s").add(
                _ONE_BY_ONE / seconds,
                client_cpu_ms_per_lead=cpu_seconds / _ONE_BY_ONE * 1000,
                postgres_cpu_ms_per_lead=postgres / _ONE_BY_ONE * 1000,
            )
            print(f"  {label}: {_ONE_BY_ONE / seconds:,.0f} a second", flush=True)
    figure.check_ratio("Celery's task.delay(lead)", "ours", "celery_plain", "≥", 1.0)
    figure.check_ratio("Procrastinate's defer", "ours", "procrastinate_async", "≥", 1.5)
    return figure


def many(bench: Bench, rounds: int) -> Figure:
    """`submit_many` beside a raw COPY of the very rows, and Procrastinate's batch defer."""
    figure = Figure("submit_many", f"submit_many of {_MANY:,} leads, validated and de-duplicated")
    for turn in range(rounds):
        with bench.stopped(contenders.ours()) as running:
            alone, _ = _took(running, "submit_many", turn * 100_000, _MANY, 0)
        with bench.stopped(contenders.ours()) as running:
            ours, _ = _took(running, "submit_many", turn * 100_000, _MANY, 1)
            raw = _raw_copy(running.database_url)
        with bench.stopped(contenders.procrastinate("async", 8)) as running:
            theirs, _ = _took(running, "submit_many", turn * 100_000, _MANY, _PROCRASTINATE_CHUNK)
        for name, label, seconds in (
            ("alone", "submit_many", alone),
            ("ours", "submit_many, one more process validates (workers=1)", ours),
            ("copy", "raw COPY of the same rows into the same table and indexes", raw),
            ("procrastinate", f"Procrastinate batch_defer, chunks of {_PROCRASTINATE_CHUNK}", theirs),
        ):
            figure.sample(name, label, "leads/s").add(_MANY / seconds)
            print(f"  {label}: {_MANY / seconds:,.0f} a second", flush=True)
    figure.check_ratio("raw COPY, workers=1", "ours", "copy", "≥", 0.4)
    figure.check_ratio("Procrastinate's batch defer", "ours", "procrastinate", "≥", 3.0)
    return figure


def at_once(bench: Bench, rounds: int) -> Figure:
    """`asubmit` by 100 tasks of one process, beside `submit` by 100 threads of one."""
    figure = Figure("asubmit", f"{_AT_ONCE} leads, {_CALLERS} at once in one process")
    verbs = [("asubmit", f"asubmit, {_CALLERS} tasks"), ("submit_threads", f"submit, {_CALLERS} threads")]
    for turn in range(rounds):
        for verb, label in verbs if turn % 2 == 0 else reversed(verbs):
            with bench.stopped(contenders.ours()) as running:
                before = bench.postgres_cpu()
                seconds, cpu_seconds = _took(running, verb, turn * 10_000, _AT_ONCE, _CALLERS)
                postgres = bench.postgres_cpu() - before
            figure.sample(verb, label, "leads/s").add(
                _AT_ONCE / seconds,
                client_cpu_ms_per_lead=cpu_seconds / _AT_ONCE * 1000,
                postgres_cpu_ms_per_lead=postgres / _AT_ONCE * 1000,
            )
            print(f"  {label}: {_AT_ONCE / seconds:,.0f} a second", flush=True)
    figure.check_ratio(f"submit in {_CALLERS} threads", "asubmit", "submit_threads", "≥", 1.5)
    return figure


def latency(bench: Bench, rounds: int) -> Figure:
    """From the call of `submit` until the API has the request, one lead at a time, beside plain Celery."""
    figure = Figure("latency", f"submit → request at the API, idle system, {_TRICKLED * rounds} leads")
    waits: dict[str, list[float]] = {}
    for turn in range(rounds):
        for contender in (contenders.ours(), contenders.celery_plain()):
            with (
                bench.database(schema=contender.schema) as database_url,
                bench.running(contender, database_url) as running,
            ):
                bench.api.reset()
                running.load(0, 100)  # wakes every process up
                bench.api.wait(100, 60)
                bench.api.reset()
                time.sleep(3)
                told = json.loads(
                    running.call(
                        "-m", contender.load[1], "trickle", str(1000 + turn), str(_TRICKLED), str(_PAUSE_SECONDS)
                    )
                )
                bench.api.wait(_TRICKLED, 60)
                received = {number: at for at, number, _ in bench.api.log()}
            waits.setdefault(contender.name, []).extend((received[number] - at) * 1000 for at, number in told)
    for name, label in (("ours", "ours: submit, durable"), ("celery_plain", "plain Celery: delay")):
        cuts = statistics.quantiles(waits[name], n=100)
        for share in (50, 95, 99):
            figure.sample(f"{name}_p{share}", f"{label}, p{share}", "ms").add(cuts[share - 1])
            print(f"  {label}: p{share} {cuts[share - 1]:.2f} ms", flush=True)
    figure.check_ratio("plain Celery's p50", "ours_p50", "celery_plain_p50", "≤", 1.25)
    figure.check_ratio("plain Celery's p95", "ours_p95", "celery_plain_p95", "≤", 2.0)
    figure.checks.append(Check("samples", float(len(waits["ours"])), "≥", 1000, ""))
    return figure


def _took(running: Running, verb: str, *numbers: int) -> tuple[float, float]:
    """Seconds, and seconds of CPU, that the contender's process says it took."""
    told = json.loads(running.call("-m", running.contender.load[1], verb, *map(str, numbers)))
    return float(told["seconds"]), float(told["cpu_seconds"])


def _raw_copy(database_url: str) -> float:
    """Seconds to COPY what is in the table once more into the emptied table: same rows, same order, same indexes."""
    with psycopg.connect(database_url) as connection, connection.cursor() as cursor:
        with cursor.copy(f"COPY (SELECT {_COLUMNS} FROM dispatcher.leads) TO STDOUT") as copy:  # noqa: S608
            lines = b"".join(bytes(block) for block in copy)
        cursor.execute("TRUNCATE dispatcher.leads CASCADE")
        connection.commit()
        begin = time.perf_counter()
        with cursor.copy(f"COPY dispatcher.leads ({_COLUMNS}) FROM STDIN") as copy:
            copy.write(lines)
        connection.commit()
        return time.perf_counter() - begin
