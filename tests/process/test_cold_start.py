"""What a producer loads until its first lead is stored, and what a command loads: each process pays for it again."""

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest

from dispatcher.cli.commands import _LASTING, PANELS
from tests.process.rig import Rig
from tests.support.environment import clean_environment

PRODUCER = """
import json, sys
import sqlalchemy, psycopg, redis  # the drivers, with whatever they load by themselves
from sqlalchemy.dialects.postgresql import psycopg as dialect
before = set(sys.modules)
import dispatcher
imported = set(sys.modules) - before
dispatcher.submit(dispatcher.Lead(phone_number="+14155550100", campaign_id=42, variables={"customer_name": "Ada"}))
loaded = set(sys.modules) - before
print(json.dumps({"packages": sorted({name.partition(".")[0] for name in loaded} - sys.stdlib_module_names),
                  "ours": sorted(name for name in loaded if name.startswith("dispatcher."))}))
"""

PACKAGES = {
    "annotated_types",  # pydantic's
    "dispatcher",
    "orjson",
    "phonenumbers",
    "pydantic",
    "pydantic_core",  # pydantic's
    "typing_inspection",  # pydantic's
    "uuid_utils",
}
OURS = {
    "api",
    "asynchronous",
    "broker",
    "config",
    "decisions",
    "errors",
    "failpoint",
    "intake",
    "lead",
    "logs",
    "operating",
    "operator",
    "part",
    "store",
    "wiring",
}


def test_a_producer_loads_only_what_a_submit_needs(environment: Mapping[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PRODUCER],
        env={**clean_environment(), **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = json.loads(done.stdout)

    assert set(loaded["packages"]) == PACKAGES
    assert {name.split(".")[1] for name in loaded["ours"]} == OURS
    of_workers = {name for name in loaded["ours"] if name.startswith(("dispatcher.decisions.", "dispatcher.operator."))}
    assert of_workers == {
        f"dispatcher.{name}" for name in ("decisions.states", "operator.failure_filter", "operator.record")
    }


COMMANDS = """
import json, sys
from dispatcher.cli.commands import PANELS, app
from typer.testing import CliRunner
found = {}
for line in sys.argv[1:]:
    before = set(sys.modules)
    words = line.split()
    if words[0] == "TAB":
        variables = {"_DISPATCHER_COMPLETE": "complete_bash", "COMP_WORDS": f"dispatcher {' '.join(words[1:])}",
                     "COMP_CWORD": str(len(words) - 1)}
        done = CliRunner().invoke(app, [], prog_name="dispatcher", env=variables)
    else:
        done = CliRunner().invoke(app, words, prog_name="dispatcher")
    assert done.exit_code == 0 and done.output.strip(), (line, done.output)
    loaded = set(sys.modules) - before
    found[line] = sorted({name.partition(".")[0] for name in loaded} - sys.stdlib_module_names)
print(json.dumps({"packages": found, "ours": sorted(name for name in sys.modules if name.startswith("dispatcher."))}))
"""

GARBAGE = """
import gc, sys
from dispatcher.__main__ import main
searches = []
gc.callbacks.append(lambda phase, info: searches.append(phase))
sys.argv[:] = ["dispatcher", *sys.argv[1:]]
try:
    main()
except SystemExit as end:
    print(end.code, len(searches), gc.get_threshold()[0], file=sys.stderr)
"""


def garbage_searched(environment: Mapping[str, str], *words: str) -> list[str]:
    """How a command ends, how often it has searched for garbage, and after how many new objects it would."""
    environ = {**clean_environment(), **environment}
    done = subprocess.run(
        [sys.executable, "-c", GARBAGE, *words], env=environ, capture_output=True, text=True, check=False, timeout=60
    )
    return done.stderr.splitlines()[-1].split()


def test_a_short_command_ends_before_it_searches_for_garbage(environment: Mapping[str, str]) -> None:
    assert garbage_searched(environment, "status")[:2] == ["0", "0"]


def test_a_command_that_goes_on_searches_for_garbage() -> None:
    assert garbage_searched({}, "sweep")[::2] == ["1", "50000"]
    goes_on = re.compile("(Serve|Run|Watch|Follow|Repair) ")
    assert {one.name for entries in PANELS.values() for one in entries if goes_on.match(one.short_help)} <= _LASTING


WORKER = """
import gc, json, os, sys
import psutil
from dispatcher.celery import app
app.Worker(concurrency=1)
before, connected = set(sys.modules), len(psutil.Process().net_connections())
sweeps = [child for child in psutil.Process().children() if "sweep" in child.cmdline()]
from dispatcher.worker.deliverer import worker_runtime
runtime = worker_runtime(lambda: False, main_pid=os.getpid())
runtime.deliver("default", 42)
print(json.dumps({"later": sorted(set(sys.modules) - before), "frozen": gc.get_freeze_count(), "connected": connected,
                  "searches": gc.isenabled(), "sweeps": len(sweeps), "before": sorted(before)}))
"""


def test_a_worker_loads_before_it_forks_what_its_children_need_to_deliver(rig: Rig) -> None:
    rig.submit(1)
    done = subprocess.run(
        [sys.executable, "-c", WORKER],
        env={**clean_environment(), **rig.environment},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    found = json.loads(done.stdout.splitlines()[-1])

    assert rig.states() == {"accepted": 1}
    assert [name for name in found["later"] if name.partition(".")[0] not in sys.stdlib_module_names] == []
    assert found["connected"] == 0
    assert found["sweeps"] == 1, "it loads at the same time"
    assert not {"rich", "structlog", "dispatcher.lookup.lookup"} & set(found["before"])
    assert found["searches"]
    assert found["frozen"] > 10_000


HEAVY = {
    "aiohttp", "alembic", "amqp", "billiard", "celery", "jinja2", "kombu", "mako", "prometheus_client", "psycopg",
    "redis", "requests", "sqlalchemy", "starlette", "structlog", "urllib3", "uvicorn", "vine",
}  # fmt: skip
OF_A_HELP = {"cli", "decisions", "errors", "lead", "moments", "operator", "printable", "spreadsheet"}


def loaded_by(*lines: str, environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    environ = {**clean_environment(), **(environment or {})}
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS, *lines], env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("line", ["--help", "--version", "TAB st", "TAB --ver"])
def test_the_list_and_the_completion_of_commands_load_no_command(line: str) -> None:
    printed = ["dispatcher.cli.help", "dispatcher.cli.screen", "dispatcher.printable", "dispatcher.spreadsheet"]
    ours = ["dispatcher.cli", "dispatcher.cli.commands"]
    assert loaded_by(line)["ours"] == [*ours, *(printed if line == "--help" else [])]


def test_a_command_that_only_reads_postgres_loads_nothing_of_redis(environment: Mapping[str, str]) -> None:
    found = loaded_by("status", environment={**environment, "DISPATCHER_RATE_LIMIT": "off"})

    assert set(found["packages"]["status"]) & {*HEAVY, "phonenumbers"} == {"psycopg", "sqlalchemy"}


def test_status_reads_redis_without_the_sdk_of_opentelemetry(environment: Mapping[str, str]) -> None:
    found = loaded_by("status", environment=environment)["packages"]["status"]

    assert "redis" in found
    assert not {"psutil", "phonenumbers"} & set(found), "psutil is the SDK's"


def test_the_help_and_the_completion_of_a_command_load_no_store_and_no_framework() -> None:
    names = [entry.name for entries in PANELS.values() for entry in entries if entry.name != "sandbox"]
    found = loaded_by(*(line for name in names for line in (f"TAB {name} --h", f"{name} --help")))

    assert {line: set(packages) & HEAVY for line, packages in found["packages"].items() if set(packages) & HEAVY} == {}
    assert {name.split(".")[1] for name in found["ours"]} == OF_A_HELP


@pytest.mark.parametrize(
    ("command", "package", "answer"),
    [
        ("metrics", "prometheus_client", "The exporter is an extra: pip install 'voicery-dispatcher[metrics]'.\n"),
        ("console", "starlette", "The console is an extra: pip install 'voicery-dispatcher[console]'.\n"),
        ("health", "prometheus_client", ""),
        ("status", "starlette", ""),
    ],
)
def test_a_missing_extra_is_one_sentence_of_the_command_that_needs_it(
    environment: Mapping[str, str], command: str, package: str, answer: str
) -> None:
    without = f"import sys; sys.modules['{package}'] = None; sys.argv = ['dispatcher', '{command}']"
    done = subprocess.run(
        [sys.executable, "-c", f"{without}\nfrom dispatcher.__main__ import main\nmain()"],
        env={**clean_environment(), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.stderr == answer
    assert answer or done.stdout, "the command ran"
