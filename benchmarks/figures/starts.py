"""Starts: from `celery worker` until each of its children has POSTed, and what memory each child has to itself."""

import time
from typing import Final

import psutil

from benchmarks import contenders
from benchmarks.bench import Bench, Running
from benchmarks.contenders import Contender
from benchmarks.figure import Check, Figure

_WAITING: Final = 1500
_API_SECONDS: Final = 0.02  # so that one child does not send all while the other one starts
_CHILDREN: Final = 2
_TIMEOUT_SECONDS: Final = 60.0
_POLL_SECONDS: Final = 0.05
_MEGABYTE: Final = 1_000_000


def starts(bench: Bench, rounds: int) -> Figure:
    """`celery -A … worker -c 2` with leads waiting, ours and plain Celery's."""
    figure = Figure("starts", f"Start of a worker with {_CHILDREN} children, {_WAITING} leads waiting")
    pair = [contenders.ours(), contenders.celery_plain()]
    for turn in range(rounds):
        for contender in pair if turn % 2 == 0 else reversed(pair):
            _start(bench, figure, contender)
    figure.check_ratio("plain Celery's start", "ours", "celery_plain", "≤", 1.3)
    alone = figure.samples["ours_uss"].median
    figure.checks.append(Check("memory of a child that its parent does not share", alone, "≤", 35, "MB"))
    return figure


def _start(bench: Bench, figure: Figure, contender: Contender) -> None:
    with bench.stopped(contender) as waiting:
        bench.api.reset(_API_SECONDS)
        waiting.load(0, _WAITING)
        begin = time.monotonic()
        with bench.running(contender, waiting.database_url) as running:
            firsts = _first_posts(bench, running)
            cpu = running.cpu().workers
            seconds = max(firsts.values()) - begin
            bench.api.wait(_WAITING // 2, _TIMEOUT_SECONDS)
            alone = [psutil.Process(pid).memory_full_info().uss / _MEGABYTE for pid in firsts]
    figure.sample(contender.name, f"{contender.label}: all children have POSTed", "s").add(seconds, cpu_seconds=cpu)
    label = f"{contender.label}: memory that a child does not share (USS)"
    figure.sample(f"{contender.name}_uss", label, "MB").add(max(alone))
    print(f"  {contender.label}: {seconds:.2f} s, {cpu:.2f} s of CPU, {max(alone):.0f} MB a child", flush=True)


def _first_posts(bench: Bench, running: Running) -> dict[int, float]:
    """Wait until as many processes have POSTed as there are children; by pid, when each first did."""
    until = time.monotonic() + _TIMEOUT_SECONDS
    while time.monotonic() < until:
        time.sleep(_POLL_SECONDS)
        at = dict(bench.api.ports())
        if len(at) < _CHILDREN:
            continue
        firsts: dict[int, float] = {}
        for process in running.processes():
            ports = [one.laddr.port for one in process.net_connections(kind="tcp") if one.laddr.port in at]
            if ports:
                firsts[process.pid] = min(at[port] for port in ports)
        if len(firsts) >= _CHILDREN:
            return firsts
    raise TimeoutError(f"Not all children of {running.contender.label} have POSTed")
