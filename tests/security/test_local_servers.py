"""The servers that `dispatcher up` starts know nothing that they need not: no token, and they leave no core dump."""

import os
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import psycopg
import pytest

from dispatcher.config.settings import Settings
from dispatcher.config.urls import normal_database_url
from dispatcher.embedded import system_user
from dispatcher.embedded.application_role import prepared
from dispatcher.embedded.postgres import EmbeddedPostgres
from dispatcher.embedded.redis import EmbeddedRedis
from dispatcher.embedded.system_user import SystemUser
from dispatcher.wiring import Services
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
    assert "supervisor.py" in " ".join(guard.cmdline())
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


# The login of the application ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def prepared_twice(server_dir: Path) -> Iterator[tuple[str, str]]:
    """The URLs of the owner and of the application, in a store that an older version had made."""
    with EmbeddedPostgres(server_dir / "postgres-with-an-application", durable=False) as postgres:
        with psycopg.connect(postgres.url(), autocommit=True) as connection:
            connection.execute("CREATE TABLE public.shop (id bigserial PRIMARY KEY, name text)")
        first = prepared(postgres)
        assert prepared(postgres) == first
        yield postgres.url(), first


@pytest.mark.parametrize(
    "attack",
    [
        "SELECT pg_read_file('/proc/self/environ')",
        "SELECT pg_read_binary_file('/proc/1/environ')",
        "SELECT pg_ls_dir('/')",
        "CREATE TEMP TABLE t (line text); COPY t FROM '/proc/self/environ'",
        "CREATE TEMP TABLE t (line text); COPY t FROM PROGRAM 'env'",
        "COPY (SELECT 1) TO PROGRAM 'cat > /tmp/owned'",
        "SELECT lo_import('/proc/self/environ')",
        "SET session_replication_role = replica",
        "ALTER ROLE dispatcher_application SUPERUSER",
        "SET ROLE dispatcher",
        "GRANT pg_read_server_files TO dispatcher_application",
        "CREATE FUNCTION f() RETURNS int LANGUAGE c AS 'libc', 'getpid'",
        "DELETE FROM dispatcher.audit_log",
        "TRUNCATE dispatcher.leads",
        "ALTER TABLE dispatcher.leads ADD COLUMN mine text",
        "SELECT rolpassword FROM pg_authid",
    ],
)
def test_the_application_is_no_superuser(prepared_twice: tuple[str, str], attack: str) -> None:
    with (
        psycopg.connect(prepared_twice[1]) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute(attack)


def test_the_application_has_what_it_needs(prepared_twice: tuple[str, str]) -> None:
    owner, application = prepared_twice
    with psycopg.connect(application, autocommit=True) as connection:
        connection.execute("INSERT INTO shop (name) VALUES ('from an older version')")
        connection.execute("ALTER TABLE shop ADD COLUMN place text")
        connection.execute("CREATE TABLE orders (id int)")
        assert connection.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone() == (False,)
    settings = Settings(database_url=normal_database_url(application), redis_url="redis://127.0.0.1:1/0")
    with closing(Services(settings)) as services:
        services.intake.submit({"phone_number": "+12025550101", "campaign_id": 42}, {}, account="default")
        services.gates.pause(42, "default", reason="x", actor="ada")
        assert sum(services.pruner.prune(timedelta(days=30), failed=True, actor="ada")) == 0
    assert urlsplit(application).password != urlsplit(owner).password
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(owner.replace(str(urlsplit(owner).password), str(urlsplit(application).password)))
