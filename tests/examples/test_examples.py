"""Each directory of `examples/` does what it says, on real stores, in a process of its own as a user starts it."""

import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from dispatcher.config.urls import normal_database_url
from dispatcher.embedded.child import Child, Command
from dispatcher.embedded.embedded_server import accepts_connections, free_port
from dispatcher.http_intake.keys import Keys, KeyTerms
from dispatcher.intake.inbox_taking import Taking
from dispatcher.store.blocks import NO_KEY
from dispatcher.store.database import Database
from tests.database.queue import Queue
from tests.support.databases import Databases
from tests.support.doubles import Bell
from tests.support.environment import clean_environment
from tests.support.waiting import wait_until

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = sorted(path.name for path in EXAMPLES.iterdir() if path.is_dir() and not path.name.startswith("__"))


@pytest.fixture
def queue(database_url: str) -> Iterator[Queue]:
    database = Database(normal_database_url(database_url))
    yield Queue(database)
    database.close()


class Example:
    """Runs code in the directory of an example."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = {**clean_environment(), **environment, "PYTHONPATH": str(EXAMPLES.parent)}

    def run(self, name: str, *argv: str) -> str:
        done = subprocess.run(
            [sys.executable, "-W", "error::DeprecationWarning:shop", *argv],
            cwd=EXAMPLES / name,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def example(environment: Mapping[str, str]) -> Example:
    return Example(environment)


def orders(queue: Queue) -> list[str]:
    return [row.phone_number for row in queue.rows("SELECT phone_number FROM public.shop_orders ORDER BY id")]


def leads(queue: Queue) -> list[str]:
    rows = queue.rows("SELECT phone_number, idempotency_key FROM dispatcher.leads ORDER BY id")
    return [row.phone_number for row in rows]


def test_every_example_is_run_here() -> None:
    source = Path(__file__).read_text()

    assert NAMES == ["asyncio", "celery", "django", "fastapi", "flask", "http", "script", "sql", "testing"]
    assert [
        name for name in NAMES if f'example.run("{name}"' not in source and f'EXAMPLES / "{name}"' not in source
    ] == []


def test_the_script_submits_once_however_often_it_runs(example: Example, queue: Queue) -> None:
    first, second = example.run("script", "send.py"), example.run("script", "send.py")

    assert first == second
    assert first.endswith(" pending\n")
    assert queue.states() == {"pending": 1}


def test_coroutines(example: Example, queue: Queue) -> None:
    printed = example.run("asyncio", "send.py")

    assert printed == "100 submitted one by one\n100 of the batch are duplicates of these\n"
    assert queue.states() == {"pending": 100, "duplicate": 100}


FASTAPI = """
from fastapi.testclient import TestClient
from shop import app
with TestClient(app) as client:
    for path, number in (("/orders", "+14155550100"), ("/async-orders", "+14155550101")):
        assert client.post(path, params={"phone_number": number}).status_code == 201
        refused = client.post(path, params={"phone_number": "12"})
        assert refused.status_code == 422, refused.text
        assert "phone_number" in refused.text
"""


def test_fastapi_commits_an_order_and_its_lead_together(example: Example, queue: Queue) -> None:
    example.run("fastapi", "-c", FASTAPI)

    assert orders(queue) == leads(queue) == ["+14155550100", "+14155550101"]


FLASK = """
from shop import app
client = app.test_client()
assert client.post("/orders", data={"phone_number": "+14155550100"}).status_code == 201
refused = client.post("/orders", data={"phone_number": "12"})
assert refused.status_code == 422
assert "phone_number" in refused.text
"""


def test_flask_commits_an_order_and_its_lead_together(example: Example, queue: Queue) -> None:
    example.run("flask", "-c", FLASK)

    assert orders(queue) == leads(queue) == ["+14155550100"]


DJANGO = """
import shop
from django.test import Client
client = Client()
assert client.post("/orders", {"phone_number": "+14155550100"}).status_code == 201
refused = client.post("/orders", {"phone_number": "12"})
assert refused.status_code == 422
assert "phone_number" in refused.content.decode()
assert client.post("/later-orders", {"phone_number": "+14155550101"}).status_code == 201
"""


def test_django_commits_an_order_and_its_lead_together(example: Example, queue: Queue) -> None:
    example.run("django", "shop.py", "migrate")
    example.run("django", "-c", DJANGO)

    assert orders(queue) == leads(queue) == ["+14155550100", "+14155550101"]


def test_a_task_of_the_applications_own_celery_submits_once(example: Example, queue: Queue, tmp_path: Path) -> None:
    example.run(
        "celery",
        "-c",
        "from shop import order_paid; [order_paid.delay(7, '+14155550100') for _ in range(3)];"
        "order_paid.delay(8, '+14155550101')",
    )
    argv = (sys.executable, "-m", "celery", "-A", "shop", "worker", "--pool", "solo")
    log = tmp_path / "worker.log"
    with Child(Command(argv, log, example.environment, directory=EXAMPLES / "celery")) as worker:
        wait_until(lambda: queue.states() == {"pending": 2}, 60, worker.log_tail)

    assert leads(queue) == ["+14155550100", "+14155550101"]


LANGUAGES = {
    "sh": (["sh"], "curl", "apt-get install curl"),
    "mjs": (["node"], "node", "apt-get install nodejs"),
    "js": (["node"], "node", "apt-get install nodejs"),
    "php": (["php"], "php", "apt-get install php-cli php-curl php-pgsql"),
    "rb": (["ruby"], "ruby", "apt-get install ruby ruby-pg"),
    "go": (["go", "run"], "go", "apt-get install golang-go"),
}
"""By the ending of a file: what runs it, what has to be on PATH, and what brings that."""

OVER_HTTP = sorted(path.name for path in (EXAMPLES / "http").iterdir())
BY_SQL = sorted(path.name for path in (EXAMPLES / "sql").iterdir() if path.suffix != ".sql")
GOPATH_OF_DEBIAN = Path("/usr/share/gocode")
PGX_OF_DEBIAN = GOPATH_OF_DEBIAN / "src/github.com/jackc/pgx/v4"
LIBRARIES = {
    "submit.js": (["node", "-e", "require('pg')"], "`npm install --prefix /usr/local/lib pg` and NODE_PATH"),
    "submit.php": (["php", "-r", "exit(extension_loaded('pdo_pgsql') ? 0 : 1);"], "`apt-get install php-pgsql`"),
    "submit.rb": (["ruby", "-e", "require 'pg'"], "`apt-get install ruby-pg`"),
    "submit.go": (
        ["go", "list", "github.com/jackc/pgx/v5"],
        "`apt-get install golang-github-jackc-pgx-v4-dev`, or a go.mod named by GOFLAGS=-modfile=… that requires it,",
    ),
}


def in_language(name: str) -> list[str]:
    """The command of an example; the test is skipped where its language is missing."""
    command, needed, brings = LANGUAGES[name.rpartition(".")[2]]
    if shutil.which(needed) is None:
        pytest.skip(f"NOT RUN: {name} needs {needed}; `{brings}` brings it")
    return [*command, name]


@pytest.fixture(scope="module")
def served(
    databases: Databases, template_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Mapping[str, str], Queue, Path]]:
    """An intake: the variables for an example, its queue and its log."""
    log = tmp_path_factory.mktemp("intake") / "intake.log"
    with databases.one(template_database) as url, closing(Database(normal_database_url(url))) as database:
        key = Keys(database).create(KeyTerms("shop", "default", (42,)), actor="test").secret
        port = free_port()
        argv = (sys.executable, "-m", "dispatcher", "intake", "--port", str(port))
        environment = {**clean_environment(), "PYTHONPATH": str(EXAMPLES.parent), "DATABASE_URL": url}
        environment["REDIS_URL"] = "redis://127.0.0.1:9"  # nobody listens: the sweep rings
        with Child(Command(argv, log, environment)) as intake:
            wait_until(lambda: accepts_connections(port), 60, intake.log_tail)
            yield {"INTAKE_KEY": key, "INTAKE_URL": f"http://127.0.0.1:{port}"}, Queue(database), log


@pytest.mark.parametrize("name", OVER_HTTP)
def test_another_language_submits_once_over_http(served: tuple[Mapping[str, str], Queue, Path], name: str) -> None:
    variables, queue, log = served
    ids = {
        subprocess.run(
            in_language(name), cwd=EXAMPLES / "http", env={**os.environ, **variables}, capture_output=True, text=True,
            check=True,
        ).stdout
        for _ in range(2)
    }  # fmt: skip
    assert len(ids) == 1
    assert "pending" in ids.pop()
    assert leads(queue) == ["+14155550142"], "the key of the submission is the same in all languages"
    assert variables["INTAKE_KEY"] not in log.read_text()


@pytest.mark.parametrize("name", BY_SQL)
def test_another_language_submits_by_sql(queue: Queue, database_url: str, tmp_path: Path, name: str) -> None:
    command = in_language(name)
    loaded, brings = LIBRARIES[name]
    at: dict[str, Any] = {"cwd": EXAMPLES / "sql", "env": {**os.environ, "DATABASE_URL": database_url}}
    if name == "submit.go" and PGX_OF_DEBIAN.is_dir():
        # The calls of the example are the same in both versions.
        script = (EXAMPLES / "sql" / name).read_text().replace("jackc/pgx/v5", "jackc/pgx/v4")
        (tmp_path / name).write_text(script)
        at = {"cwd": tmp_path, "env": {**at["env"], "GO111MODULE": "off", "GOPATH": str(GOPATH_OF_DEBIAN)}}
    elif subprocess.run(loaded, **at, capture_output=True, check=False).returncode:
        pytest.skip(f"NOT RUN: {name} needs its library; {brings} brings it")
    told = subprocess.run(command, **at, capture_output=True, text=True, check=True)
    Taking(queue.database, Bell(), lambda: NO_KEY).step()
    assert [str(row.id) for row in queue.rows("SELECT id FROM dispatcher.leads")] == [told.stdout.strip()]
    assert leads(queue) == ["+14155550142"]


def test_a_trigger_submits_by_sql_and_the_view_says_what_became_of_it(queue: Queue, database_url: str) -> None:
    """Its files as psql runs them: several statements, without a transaction around them."""
    shop, two_orders = ((EXAMPLES / "sql" / name).read_text() for name in ("shop.sql", "orders.sql"))
    insert, asked = two_orders.split(";\n\n")
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(shop)
        connection.execute(insert)
        assert [row[1] for row in connection.execute(asked)] == ["waiting", "waiting"]
        Taking(queue.database, Bell(), lambda: NO_KEY).step()
        rows = connection.execute(asked).fetchall()

    assert [(number, state) for number, state, _ in rows] == [(1, "pending"), (2, "rejected")]
    assert [reason["field"] for reason in rows[1][2]] == ["phone_number"]


BRIDGE = """
import dispatcher, psycopg2, shop
from django.db import connection, transaction
from dispatcher.broker.doorbell import Doorbell
from dispatcher.django import submit, submit_many
rung = []
Doorbell.ring = lambda bell, channel: rung.append(channel.campaign_id) or True
lead = {"phone_number": "+14155550100", "campaign_id": 42, "secondary_contacts": [{"phone_number": "+14155550109"}]}

def refused(call):
    try:
        call()
    except dispatcher.InvalidLead as refusal:
        return str(refusal)

assert "has no open transaction; begin one: with transaction.atomic(using='default'):" in refused(lambda: submit(lead))
assert not rung
try:
    with transaction.atomic():
        submit(lead)
        raise ZeroDivisionError
except ZeroDivisionError:
    pass
with transaction.atomic():
    with transaction.atomic():
        first = submit(lead, idempotency_key="order-1", not_before=None, priority=2)
    assert submit(lead, idempotency_key="order-1", priority=2).id == first.id
    assert "phone_number" in refused(lambda: submit({"phone_number": "1", "campaign_id": 42}))
    others = [{"phone_number": f"+1415555011{n}", "campaign_id": 43} for n in range(3)]
    assert submit_many([*others, (lead, {"idempotency_key": "order-2"})]).duplicates == 1
    dispatcher._default._services.ringer.flush()
    assert not rung, "not before the commit"
dispatcher._default._services.ringer.flush()
assert set(rung) == {42, 43}, rung
with transaction.atomic():
    driver = connection.connection
    connection.connection = psycopg2.connect(shop.url.geturl())
    assert "uses psycopg2; let Django use psycopg 3" in refused(lambda: submit(lead))
    connection.connection.close()
    connection.connection = driver
connection.vendor = "sqlite"
assert "using: 'default' belongs to sqlite" in refused(lambda: submit(lead))
"""


def test_the_bridge_of_django_joins_what_is_open_and_refuses_the_rest(example: Example, queue: Queue) -> None:
    pytest.importorskip("psycopg2")
    example.run("django", "-c", BRIDGE)

    assert queue.states() == {"pending": 4, "duplicate": 1}


def test_the_tests_of_an_application_run_by_the_plugin(example: Example) -> None:
    """With the servers that the fixtures start, in an environment that names none."""
    for name in ("DATABASE_URL", "REDIS_URL", "VOICERY_API_TOKEN", "VOICERY_BASE_URL"):
        del example.environment[name]
    example.environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # the checkout need not be installed
    plugin = ("-p", "dispatcher.testing.plugin", "-p", "no:cacheprovider")
    printed = example.run("testing", "-m", "pytest", "-q", "-c", os.devnull, "--rootdir", ".", *plugin)

    assert "6 passed" in printed


def test_the_plugin_is_registered_and_loads_nothing_by_itself() -> None:
    project = tomllib.loads((EXAMPLES.parent / "pyproject.toml").read_text())
    (module,) = project["project"]["entry-points"]["pytest11"].values()
    script = (
        "import sys, pytest; before = set(sys.modules); import " + module + "\n"
        "print(sorted(name for name in set(sys.modules) - before))"
    )
    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout

    assert printed.strip() == "['dispatcher', 'dispatcher.testing', 'dispatcher.testing.plugin']"
