"""`dispatcher up`: the right API, the right store, and a clean end."""

import io
import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from rich.console import Console

from dispatcher.embedded.stack import Stack
from dispatcher.embedded.up import is_live, run_up
from tests.support.environment import clean_environment
from tests.support.waiting import wait_until

STUB = """
import json, os, sys, time
from pathlib import Path
seen = {name: value for name, value in os.environ.items() if name.startswith(("VOICERY_", "DATABASE_", "REDIS_"))}
draft = Path(sys.argv[1] + ".new")
draft.write_text(json.dumps(seen))
draft.rename(sys.argv[1])
time.sleep(600)
"""


@contextmanager
def up(root: Path, environment: dict[str, str], seen: Path) -> Iterator[io.StringIO]:
    """Up with a worker that only writes down which environment it was given."""
    printed = io.StringIO()
    stopping = threading.Event()
    failures: list[BaseException] = []

    def run() -> None:
        try:
            run_up(
                clean_environment() | environment,
                Console(file=printed, width=40),
                root=root,
                worker=(sys.executable, "-c", STUB, str(seen)),
                stopping=stopping,
            )
        except BaseException as error:  # noqa: BLE001  the thread's end is the test's business
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        wait_until(
            lambda: failures or (seen.exists() and "Ctrl-C" in printed.getvalue()),
            60,
            lambda: f"the worker to be started; printed so far: {printed.getvalue()}",
        )
        assert not failures
        yield printed
    finally:
        stopping.set()
        thread.join(60)
    assert not thread.is_alive()
    assert not failures


def test_without_a_token_the_api_is_the_sandbox_and_nothing_of_the_real_one_is_passed_on(
    server_dir: Path, tmp_path: Path
) -> None:
    root = server_dir / "up-sandbox"
    real = {"VOICERY_BASE_URL": "https://app.voicery.ai/api", "VOICERY_BASE_URL__SALES": "https://app.voicery.ai/api"}
    with up(root, real, tmp_path / "seen") as printed:
        seen = json.loads((tmp_path / "seen").read_text())
        assert seen["VOICERY_BASE_URL"].startswith("http://127.0.0.1:")
        assert "VOICERY_BASE_URL__SALES" not in seen
        assert "nobody is called" in " ".join(printed.getvalue().split())
        assert f"export DATABASE_URL={seen['DATABASE_URL']}\n" in printed.getvalue()
        with psycopg.connect(seen["DATABASE_URL"]) as connection:
            connection.execute("SELECT FROM dispatcher.leads")
    assert [path.name for path in root.iterdir()] == ["sandbox"]

    with up(root, {}, tmp_path / "seen again"):
        assert json.loads((tmp_path / "seen again").read_text()) == seen, "all addresses are the same the next time"


def test_with_a_token_the_api_is_the_real_one_in_a_store_of_its_own(server_dir: Path, tmp_path: Path) -> None:
    root = server_dir / "up-live"
    with up(root, {"VOICERY_API_TOKEN": "a-real-one"}, tmp_path / "seen") as printed:
        seen = json.loads((tmp_path / "seen").read_text())
        assert seen["VOICERY_API_TOKEN"] == "a-real-one"
        assert "VOICERY_BASE_URL" not in seen
        assert "a-real-one" not in printed.getvalue()
        assert "People are called" in printed.getvalue()
    assert [path.name for path in root.iterdir()] == ["live"]
    assert "a-real-one" not in "".join(path.read_text() for path in root.rglob("*.log"))


@pytest.mark.parametrize(
    ("environment", "live"),
    [
        ({}, False),
        ({"VOICERY_API_TOKEN": " "}, False),
        ({"VOICERY_BASE_URL": "https://app.voicery.ai/api"}, False),
        ({"VOICERY_API_TOKEN": "x"}, True),
        ({"VOICERY_API_TOKEN_FILE": "/run/secrets/voicery"}, True),
        ({"VOICERY_API_TOKEN__SALES": "x"}, True),
    ],
)
def test_any_token_means_the_real_api(environment: dict[str, str], live: bool) -> None:
    assert is_live(environment) is live


def test_what_dies_is_started_again_in_a_stack(server_dir: Path, tmp_path: Path) -> None:
    with Stack(server_dir / "stack", clean_environment(), durable=False) as stack:
        first = stack.run("stub", (sys.executable, "-c", STUB, str(tmp_path / "seen")))
        first.kill()
        stack.redis.kill()
        stack.postgres.kill()
        urls = stack.urls()

        revived = stack.revive()
        wait_until(lambda: "stub" in revived or revived.extend(stack.revive()), describe="the stub to be revived")

        assert sorted(revived) == ["postgres", "redis", "stub"]
        assert stack.urls() == urls
        assert stack.child("stub").pid != first.pid
