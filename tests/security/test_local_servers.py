"""The servers that `dispatcher up` starts know nothing that they need not: no token, and they leave no core dump."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from dispatcher.embedded import system_user
from dispatcher.embedded.postgres import EmbeddedPostgres
from dispatcher.embedded.redis import EmbeddedRedis
from dispatcher.embedded.system_user import SystemUser
from tests.embedded.test_up import up

CANARY = "canary-4c1f0e"
SECRETS = {
    "VOICERY_API_TOKEN": CANARY,
    "VOICERY_API_TOKEN__SALES": CANARY,
    "DISPATCHER_METRICS_TOKEN": CANARY,
    "PGPASSWORD": CANARY,
    "AWS_SECRET_ACCESS_KEY": CANARY,
}

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


def environment_of(process: psutil.Process) -> str:
    return Path(f"/proc/{process.pid}/environ").read_text(errors="replace")


def family(pid: int | None) -> Iterator[psutil.Process]:
    """The server, its guard, and its children."""
    server = psutil.Process(pid)
    yield server
    guard = server.parent()
    assert guard is not None
    assert "guard.py" in " ".join(guard.cmdline())
    yield guard
    yield from server.children(recursive=True)


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("secrets")
def test_no_server_inherits_a_token(server_dir: Path) -> None:
    with (
        EmbeddedPostgres(server_dir / "postgres-without-a-token", durable=False) as postgres,
        EmbeddedRedis(server_dir / "redis-without-a-token") as redis,
    ):
        told = [environment_of(process) for server in (postgres, redis) for process in family(server.pid)]
        # The attack itself: a superuser of the database reads the environment of the server's process.
        with psycopg.connect(postgres.url()) as connection:
            row = connection.execute(
                "SELECT encode(pg_read_binary_file('/proc/self/environ', 0, 100000), 'escape')"
            ).fetchone()
    assert row
    told.append(str(row[0]))

    assert len(told) > 5
    assert not [text for text in told if CANARY in text]
    # The guards and Redis show theirs; a process of Postgres writes its title over it.
    assert sum("PATH=" in text for text in told) >= 3


@pytest.mark.usefixtures("secrets")
def test_the_trial_of_a_directory_by_the_servers_user_knows_no_token_either(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given: list[dict[str, str]] = []

    class Answer:
        returncode = 0

    def run(*_: object, env: dict[str, str], **__: object) -> Answer:
        given.append(env)
        return Answer()

    monkeypatch.setattr(system_user.subprocess, "run", run)
    SystemUser(os.getuid(), os.getgid()).can_enter(tmp_path)

    assert CANARY not in str(given)


def test_up_leaves_no_core_dumps(server_dir: Path, tmp_path: Path) -> None:
    """Of a crashed worker a dump would hold the token and people's numbers."""
    before = set(psutil.Process().children(recursive=True))  # the servers of other tests
    with up(server_dir / "up-without-cores", {"VOICERY_API_TOKEN": CANARY}, tmp_path / "seen"):
        children = set(psutil.Process().children(recursive=True)) - before
        limits = [Path(f"/proc/{child.pid}/limits").read_text() for child in children]

    assert len(limits) > 5
    for text in limits:
        (line,) = [line for line in text.splitlines() if line.startswith("Max core file size")]
        assert line.split()[4:6] == ["0", "0"]
