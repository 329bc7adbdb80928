"""`dispatcher up`: the right API, the right store, and a clean end."""

import io
import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import psutil
import psycopg
import pytest
from rich.console import Console

from dispatcher.config.settings import Settings
from dispatcher.embedded.stack import Stack
from dispatcher.embedded.up import Extras, is_live, run_up, whom
from dispatcher.errors import NotConfigured
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
def up(
    root: Path,
    environment: dict[str, str],
    seen: Path,
    *,
    extras: Extras = Extras(),  # noqa: B008 - frozen
    stub: str = STUB,
) -> Iterator[io.StringIO]:
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
                extras=extras,
                worker=(sys.executable, "-c", stub, str(seen)),
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
        exports = root / "sandbox" / "env"
        assert f"source {exports}" in printed.getvalue()
        assert exports.stat().st_mode & 0o777 == 0o600
        assert sourced(exports) == seen, "a shell that has sourced it is where the worker is"
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
        assert sourced(root / "live" / "env") == {name: seen[name] for name in ("DATABASE_URL", "REDIS_URL")}
    assert [path.name for path in root.iterdir()] == ["live"]
    assert "a-real-one" not in "".join(path.read_text() for path in root.rglob("*.log"))


def sourced(exports: Path) -> dict[str, str]:
    """The variables that a shell has after `source`, of those that the dispatcher reads."""
    show = f"set -a; . {exports}; exec {sys.executable} -c 'import json, os; print(json.dumps(dict(os.environ)))'"
    done = subprocess.run(["sh", "-c", show], env={}, capture_output=True, text=True, check=True)
    variables = json.loads(done.stdout)
    return {name: variables[name] for name in variables if name.startswith(("VOICERY_", "DATABASE_", "REDIS_"))}


@pytest.mark.parametrize(
    ("environment", "said", "unsaid"),
    [
        ({}, "leads go to Voicery itself, https://app.voicery.ai/api", "up to that server"),
        ({"VOICERY_BASE_URL": "https://app.voicery.ai/api/"}, "leads go to Voicery itself", "up to that server"),
        ({"VOICERY_BASE_URL": "http://127.0.0.1:8080/api"}, "Leads go to http://127.0.0.1:8080/api", "Voicery itself"),
    ],
)
def test_it_says_truly_to_whom_leads_go(environment: dict[str, str], said: str, unsaid: str) -> None:
    sentence = whom(Settings.from_environment({"VOICERY_API_TOKEN": "x", **environment}))

    assert said in sentence
    assert unsaid not in sentence


def test_of_two_accounts_each_is_told() -> None:
    two = {"VOICERY_API_TOKEN": "x", "VOICERY_API_TOKEN__TEST": "y", "VOICERY_BASE_URL__TEST": "http://127.0.0.1:9/api"}
    sentence = whom(Settings.from_environment(two))

    assert "People are called" in sentence
    assert "Leads go to http://127.0.0.1:9/api" in sentence


def test_a_shell_that_has_the_exports_of_the_sandbox_means_the_sandbox(tmp_path: Path) -> None:
    (tmp_path / "sandbox").mkdir()
    (tmp_path / "sandbox" / "sandbox-port").write_text("18000\n")
    exported = {"VOICERY_API_TOKEN": "sandbox-token", "VOICERY_BASE_URL": "http://127.0.0.1:18000/api"}

    assert not is_live(exported, tmp_path)
    assert is_live({**exported, "VOICERY_BASE_URL": "http://127.0.0.1:18001/api"}, tmp_path)


@pytest.mark.parametrize(
    ("environment", "extras", "sentence"),
    [
        ({"DISPATCHER_LEASE": "soon"}, Extras(), "DISPATCHER_LEASE"),
        ({"VOICERY_API_TOKEN_FILE": "/nowhere/token"}, Extras(), "VOICERY_API_TOKEN_FILE: the file cannot be read"),
        ({"VOICERY_API_TOKEN": "x"}, Extras(chaos=0.5), "--chaos and --phone-suffixes are the sandbox's"),
    ],
)
def test_what_a_worker_would_die_of_is_told_before_anything_is_started(
    tmp_path: Path, environment: dict[str, str], extras: Extras, sentence: str
) -> None:
    with pytest.raises(NotConfigured, match=sentence):
        run_up(clean_environment() | environment, Console(file=io.StringIO()), root=tmp_path / "up", extras=extras)

    assert not (tmp_path / "up").exists()


def test_a_worker_that_dies_is_told_with_its_last_words_and_the_console_opens(server_dir: Path, tmp_path: Path) -> None:
    dying = STUB.replace("time.sleep(600)", "print('The lease is\\ntoo short.', flush=True); sys.exit(3)")
    extras = Extras(console=True, chaos=0.25, phone_suffixes=True)
    with up(server_dir / "up-dying", {}, tmp_path / "seen", extras=extras, stub=dying) as printed:
        wait_until(lambda: "too short." in printed.getvalue(), 30, printed.getvalue)
        said = " ".join(printed.getvalue().split())
        assert "worker ended with exit code 3 and is started again; it said: The lease is too short." in said
        assert "It spoils 25% of all requests." in said
        (link,) = re.findall(r"Console: (\S+)", said)
        with urlopen(link) as page:
            assert page.status == 200
        children = [one.cmdline() for one in psutil.Process().children(recursive=True)]
        (sandbox,) = (line for line in children if "dispatcher.sandbox" in line and "--link" not in line)  # the guard
        assert {"--chaos", "0.25", "--phone-suffixes"} <= set(sandbox)
    assert (server_dir / "up-dying" / "sandbox" / "logs" / "console.log").stat().st_mode & 0o777 == 0o600


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
