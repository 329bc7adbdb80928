"""Every command of the deployment files is run, with the environment that they give it."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from packaging.utils import canonicalize_name

from dispatcher.console.auth import hash_password
from dispatcher.embedded.child import Child, Command
from dispatcher.embedded.embedded_server import free_port
from dispatcher.embedded.redis import EmbeddedRedis
from tests.deployment.files import ROOT, commands, compose, dockerfile, example_variables, pins
from tests.support.environment import clean_environment
from tests.support.waiting import wait_until

BIN = Path(sys.executable).parent
COMMANDS = {shlex.join(command): command for command in commands().values()}  # each once, wherever it stands


def kind(command: list[str]) -> str:
    return "sandbox" if "dispatcher.sandbox" in command else "worker" if command[0] == "celery" else command[1]


def of_kind(wanted: str) -> list[str]:
    return [where for where, command in COMMANDS.items() if kind(command) == wanted]


WORKERS, MIGRATIONS, SANDBOXES = of_kind("worker"), of_kind("migrate"), of_kind("sandbox")
CONSOLES, EXPORTERS, INTAKES = of_kind("console"), of_kind("metrics"), of_kind("intake")
USER = f"ada:operator:{hash_password('a password of the tests')}"


def surroundings(environment: Mapping[str, str]) -> dict[str, str]:
    return {**clean_environment(), **environment, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}


@contextmanager
def running(command: list[str], environment: Mapping[str, str], directory: Path) -> Iterator[Child]:
    with Child(
        Command(
            argv=(str(shutil.which(command[0], path=str(BIN))), *command[1:]),
            log_path=directory / "log",
            environment=surroundings(environment),
            directory=directory,
        )
    ) as child:
        yield child


def probe(service: str, environment: Mapping[str, str], replace: tuple[str, str] = ("", "")) -> int:
    """Run the health check of a service of ours; its exit code."""
    marker, *test = compose()["services"][service]["healthcheck"]["test"]
    assert marker == "CMD"
    argv = [part.replace(*replace) if replace[0] else part for part in test]
    return subprocess.run(argv, check=False, env=surroundings(environment), timeout=30, capture_output=True).returncode


def test_every_command_is_one_of_those_that_are_run_here() -> None:
    kinds = (WORKERS, MIGRATIONS, SANDBOXES, CONSOLES, EXPORTERS, INTAKES)
    assert sorted(where for found in kinds for where in found) == sorted(COMMANDS)
    assert all(kinds)


@pytest.mark.parametrize("where", MIGRATIONS)
def test_the_migration_makes_the_schema(where: str, empty_database_url: str) -> None:
    environment = surroundings({"DATABASE_URL": empty_database_url})
    done = subprocess.run(COMMANDS[where], check=False, env=environment, timeout=60, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with psycopg.connect(empty_database_url) as connection:
        assert connection.execute("SELECT count(*) FROM dispatcher.leads").fetchone() == (0,)


@pytest.mark.parametrize("where", WORKERS)
def test_the_worker_starts_and_becomes_healthy(where: str, environment: dict[str, str], tmp_path: Path) -> None:
    assert probe("worker", environment) == 1, "before it runs nobody calls it healthy"
    with running(COMMANDS[where], environment, tmp_path) as worker:
        wait_until(lambda: " ready." in worker.log_tail(), 30, worker.log_tail)
        wait_until(lambda: probe("worker", environment) == 0, 30, worker.log_tail)
        worker.stop()
    assert worker.returncode == 0


@pytest.mark.parametrize("where", CONSOLES + EXPORTERS + INTAKES)
def test_what_is_served_starts_and_becomes_healthy(where: str, environment: dict[str, str], tmp_path: Path) -> None:
    service = kind(COMMANDS[where])
    port, given = str(free_port()), {"console": "8321", "metrics": "9464", "intake": "8322"}[service]
    command = [port if part == given else part for part in COMMANDS[where]]
    command += [] if port in command else ["--port", port]  # it listens where it does by default
    more = {
        "DISPATCHER_CONSOLE_USERS": USER,
        "DISPATCHER_CONSOLE_ORIGIN": "https://leads.example.com",
        "DISPATCHER_METRICS_TOKEN": "a-token-of-a-test",
        "DISPATCHER_INTAKE_TRUSTED_PROXIES": "172.16.0.0/12",
    }
    assert probe(service, environment, (given, port)) != 0, "before it runs nobody calls it healthy"
    with running(command, {**environment, **more}, tmp_path) as server:
        wait_until(lambda: probe(service, environment, (given, port)) == 0, 30, server.log_tail)
        server.stop()
    assert server.returncode in {0, -signal.SIGTERM}


@pytest.mark.parametrize("where", SANDBOXES)
def test_the_sandbox_starts_and_becomes_healthy(where: str, tmp_path: Path) -> None:
    port = str(free_port())
    command = [part.replace("8080", port).replace("/data", str(tmp_path / "data")) for part in COMMANDS[where]]
    with running(command, {}, tmp_path) as sandbox:
        wait_until(lambda: probe("sandbox", {}, ("8080", port)) == 0, 30, sandbox.log_tail)
        assert (tmp_path / "data" / "requests.jsonl").exists()


def test_redis_understands_its_options(server_dir: Path) -> None:
    """By the server of the tests, which need not be the image's version."""
    with EmbeddedRedis(server_dir / "redis-options") as known:
        program = str(known._program)
    _, *options = compose()["services"]["redis"]["command"]
    port = free_port()
    log = server_dir / "redis-options.log"
    with Child(Command(argv=(program, *options, "--port", str(port), "--bind", "127.0.0.1"), log_path=log)) as server:
        wait_until(lambda: "Ready to accept connections" in server.log_tail(), 20, server.log_tail)


def test_what_the_example_says_of_the_sandbox_lets_a_worker_use_it() -> None:
    from dispatcher.config.settings import Settings

    example = {name: example_variables()[name] for name in ("VOICERY_BASE_URL", "DISPATCHER_ALLOW_HTTP")}
    sandbox = compose()["services"]["sandbox"]["command"]
    assert example["VOICERY_BASE_URL"] == f"http://sandbox:{sandbox[sandbox.index('--port') + 1]}/api"
    assert Settings.from_environment(example).accounts["default"].base_url == example["VOICERY_BASE_URL"]


@pytest.mark.slow
def test_the_steps_of_the_dockerfile_make_an_environment_that_works(tmp_path: Path) -> None:
    """Each RUN of the stage `build`, and of the sandbox's, with the image's directories under a temporary one."""
    source = tmp_path / "src"
    source.mkdir()
    ours = False
    for name, rest in dockerfile():
        if name == "FROM":
            ours = rest.endswith((" build", " build-sandbox"))
        elif ours and name == "COPY":
            *what, where = rest.split()
            for each in what:
                target = source / where / (each if where == "./" else "")
                if (ROOT / each).is_dir():
                    shutil.copytree(ROOT / each, target, ignore=shutil.ignore_patterns("__pycache__"))
                else:
                    shutil.copy(ROOT / each, target)
        elif ours and name == "RUN":
            # Only at the start of a word: `pip install /wheels/…`, not a part of some other path.
            moved = re.sub(r"(?<![\w.])/(app|build|wheels)\b", rf"{tmp_path}/\1", rest)
            moved = re.sub(r"^(python|pip) ", rf"{sys.executable} -m \1 ", moved).replace("-m python -m", "-m")
            done = subprocess.run(
                ["sh", "-c", moved], check=False, cwd=source, timeout=300, capture_output=True, text=True
            )
            assert done.returncode == 0, f"{moved}\n{done.stderr}"
    shutil.rmtree(source)
    python = tmp_path / "app" / "bin" / "python"
    asked = (
        "import dispatcher, aiohttp; from dispatcher.store.migration import head;"
        "from dispatcher.embedded.demo import *;"
        "print(dispatcher.__file__, head(), len(list(read_rows(example_file()))))"
    )
    answer = subprocess.run([python, "-c", asked], check=True, cwd=tmp_path, capture_output=True, text=True).stdout
    assert answer.startswith(str(tmp_path / "app"))
    assert answer.endswith("200\n")
    freeze = subprocess.run([python, "-m", "pip", "freeze"], check=True, capture_output=True, text=True).stdout
    installed = {
        canonicalize_name(name): version for name, version in re.findall(r"^(\S+)==(\S+)$", freeze, re.MULTILINE)
    }
    pinned = pins("sandbox")
    assert {name: pinned.get(name) for name in installed} == installed, "the image has the pinned versions"
    for tool in ("pytest", "mypy", "ruff"):
        assert f"\n{tool}==" not in freeze
