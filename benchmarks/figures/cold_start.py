"""Cold starts: CPU of a producer's first submit beside its drivers' first INSERT, and of short commands."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psycopg

from benchmarks.bench import Bench, environment
from benchmarks.contenders import ROOT
from benchmarks.figure import Figure

_ROUNDS: Final = 9
_INSERT: Final = """
import os
import sqlalchemy, psycopg, redis
engine = sqlalchemy.create_engine(os.environ["DATABASE_URL"].replace("postgresql://", "postgresql+psycopg://"))
with engine.begin() as connection:
    connection.execute(sqlalchemy.text("INSERT INTO public.cold_start (body) VALUES (:body)"), {"body": "Ada"})
"""
_SUBMIT: Final = """
import dispatcher
lead = dispatcher.Lead(phone_number="+14155550100", campaign_id=42, variables={"customer_name": "Ada"})
dispatcher.submit(lead)
"""
_TAB: Final = {"_DISPATCHER_COMPLETE": "complete_bash", "COMP_WORDS": "dispatcher st", "COMP_CWORD": "1"}


@dataclass(frozen=True, slots=True)
class _Start:
    """A process from its start to its end."""

    label: str
    arguments: tuple[str, ...]
    variables: Mapping[str, str]


_STARTS: Final = {
    "submit": _Start("import dispatcher, and the first submit", ("-c", _SUBMIT), {}),
    "help": _Start("dispatcher --help", ("-m", "dispatcher", "--help"), {}),
    "status": _Start("dispatcher status", ("-m", "dispatcher", "status"), {}),
    "tab": _Start("one TAB: dispatcher st…", ("-m", "dispatcher"), _TAB),
}


def cold_start(bench: Bench, rounds: int) -> Figure:
    """Our starts beside the drivers', and beside an older checkout's where `--before` names one."""
    turns = max(rounds, _ROUNDS)
    figure = Figure("cold_start", f"CPU from start to end of a process, median of {turns}")
    with ExitStack() as stack:
        ours = stack.enter_context(_tree(bench, ROOT))
        trees = {"": ours}
        if bench.before is not None:
            trees = {"": ours, "before_": stack.enter_context(_tree(bench, bench.before))}
        for _ in range(turns):
            insert = figure.sample("insert", "import sqlalchemy, psycopg, redis, and one INSERT", "s")
            insert.add(ours.cpu_seconds(_Start("", ("-c", _INSERT), {})))
            for prefix, tree in trees.items():
                for name, start in _STARTS.items():
                    label = f"{start.label}, before" if prefix else start.label
                    figure.sample(prefix + name, label, "s").add(tree.cpu_seconds(start))
    figure.check_ratio("the drivers' import and one INSERT", "submit", "insert", "≤", 1.6)
    if bench.before is not None:
        for name in ("help", "status", "tab"):
            figure.check_ratio(f"{_STARTS[name].label}, before", name, f"before_{name}", "≤", 0.5)
    return figure


class _Tree:
    """A checkout with a database of its own."""

    def __init__(self, root: Path, environ: Mapping[str, str]) -> None:
        self._root = root
        self._environ = {**environ, "PYTHONPATH": str(root)}
        self.cpu_seconds(_Start("", ("-m", "dispatcher", "migrate"), {}))  # and compiles what is not yet

    def cpu_seconds(self, start: _Start) -> float:
        """Run it to its end; the CPU seconds of it and its children. Raises if it fails."""
        process = subprocess.Popen(
            [sys.executable, *start.arguments],
            cwd=self._root,
            env={**self._environ, **start.variables},
            stdout=subprocess.DEVNULL,
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            raise RuntimeError(f"{start.label or start.arguments} ended with {process.returncode}")
        return usage.ru_utime + usage.ru_stime


@contextmanager
def _tree(bench: Bench, root: Path) -> Iterator[_Tree]:
    with bench.database(schema=False) as url:
        with psycopg.connect(url) as connection:
            connection.execute("CREATE TABLE public.cold_start (body text)")
        yield _Tree(root, environment({"DATABASE_URL": url, "REDIS_URL": bench.redis.url()}))
