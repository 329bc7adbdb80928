"""Each route of the console and each command, as the database role that docs/roles.md names, and as one with less.

The cases are compared with the routes and the commands, so that a new one cannot be forgotten.
"""

import re
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dispatcher.cli.commands import PANELS, app
from dispatcher.config.settings import Settings
from dispatcher.config.urls import normal_database_url
from dispatcher.console.routes import ROUTES
from dispatcher.operator import events
from dispatcher.store.rights import Part
from dispatcher.wiring import Services
from tests.security.test_confined_users import GETS, POSTS, Office, Tenant, tenant
from tests.support.databases import Databases
from tests.support.logins import Installation
from tests.support.rows import Rows

P, W, O, R, E = Part.PRODUCER, Part.WORKER, Part.OPERATOR, Part.READER, Part.RETENTION  # noqa: E741
REFUSED = re.compile(r"lacks the right .* \(SQLSTATE 42501\)", re.DOTALL)
NO_VOICERY = "http://127.0.0.1:9/api"
OF_THE_SESSION = {"/mask", "/theme"}
OF_A_FILE = {path for path in POSTS if path.startswith("/imports/upload")}
"""They find no file here; what an import does needs the rights of `dispatcher import`."""
PREVIEWS = {path for path in POSTS if path.endswith("/preview")}
ACTS = sorted(set(POSTS) - OF_THE_SESSION - OF_A_FILE - PREVIEWS)


@dataclass(frozen=True)
class House:
    """A database with roles and one account's things, and the console as the login of a role sees it."""

    url: str
    installed: Installation
    offices: dict[Part, Office]
    own: Tenant

    def url_of(self, part: Part) -> str:
        return self.installed.url(self.url, part)


@pytest.fixture(scope="module")
def house(databases: Databases, installed: Installation) -> Iterator[House]:
    with ExitStack() as stack:
        url = stack.enter_context(databases.one(installed.template))

        def services(address: str) -> Services:
            accounts = {name: {"token": "t" * 40} for name in ("default", "acme")}
            settings = Settings(database_url=normal_database_url(address), rate_limit=(), accounts=accounts)
            return stack.enter_context(closing(Services(settings)))

        full = services(url)
        Rows(full.database).run("UPDATE dispatcher.accounts SET base_url = NULL")
        first = Office(full)
        offices = {part: Office(services(installed.url(url, part)), first.own) for part in (O, R)}
        yield House(url, installed, offices, tenant(full, "default", 5151, "+12025550133", 8_003_303))


# The console ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("user", ["owner", "ada"])
@pytest.mark.parametrize("path", GETS)
def test_an_operator_reads_each_page(house: House, path: str, user: str) -> None:
    office = house.offices[O]
    browser = office.browser(user)
    for address in GETS[path](office.own):
        answer = browser.get(address)
        expected = {409} if path == "/imports/uploads/{id}" else {200, 303}  # no file was uploaded
        assert answer.status_code in expected, f"{address}: {answer.text}"


@pytest.mark.parametrize("path", ACTS)
def test_a_reader_is_refused_each_act_by_a_sentence(house: House, path: str) -> None:
    office = house.offices[R]
    browser = office.browser("owner")
    address, fields = POSTS[path](office.own)
    answer = browser.post(address, {**fields, "total": 1})
    said = answer.text + browser.get("/").text
    assert REFUSED.search(said), f"{answer.status_code}: {said}"


@pytest.mark.parametrize("user", ["ada", "owner"])
@pytest.mark.parametrize("path", POSTS)
def test_an_operator_does_each_act(house: House, path: str, user: str) -> None:
    """Whether the lead is still in the state for it does not matter here: only a missing right does."""
    office = house.offices[O]
    browser = office.browser(user)
    answer = browser.post(*POSTS[path](office.own))
    said = answer.text + browser.get("/").text
    assert "42501" not in said
    assert answer.status_code in {200, 303, 400, 404, 409}, said


def test_every_route_is_asked() -> None:
    assert {route.path for route in ROUTES} == set(GETS) | set(POSTS)
    assert set(ACTS) | OF_THE_SESSION | OF_A_FILE | PREVIEWS == set(POSTS)


# The commands ---------------------------------------------------------------------------------------------------------

ELSEWHERE = {
    "up": "has its own Postgres: tests/security/test_local_servers.py",
    "demo": "as up",
    "sandbox": "has no database",
    "migrate": "tests/security/test_database_roles.py",
    "doctor": "tests/security/test_database_roles.py",
    "console": "the routes above",
    "metrics": "runs until it is stopped: the flow scrape_and_probe of tests/security/test_database_roles.py",
    "sweep": "runs until it is stopped: the flow sweep of tests/security/test_database_roles.py",
    "intake": "runs until it is stopped; no test has it as the login of its role yet",
    "top": "runs until it is stopped; reads what status reads",
    "tail": "runs until it is stopped: test_tail_reads_as_a_reader",
}

READS: dict[str, list[str]] = {
    "status": [],
    "show": ["{failed}"],
    "explain": ["{failed}"],
    "failed": [],
    "list": ["--state", "failed"],
    "blocked": [],
    "campaigns": [],
    "operations": [],
    "inbox": [],
    "imports": [],
    "incidents": [],
    "audit": [],
    "health": [],
}

# The arguments, and the least role that may.
WRITES: dict[str, tuple[list[str], Part]] = {
    "submit": (["--phone", "+12025550177", "--campaign", "42"], P),
    "import": (["leads.csv"], P),
    "person": (["{phone}", "--json"], O),
    "replay": (["{failed}"], O),
    "edit": (["{failed}", "--set", "campaign_id=43"], O),
    "lookup": (["{doubtful}"], W),
    "resolve": (["{doubtful}", "--as", "dismissed", "--note", "x"], O),
    "cancel": (["{pending}"], O),
    "pause": (["--campaign", "77"], O),
    "resume": (["--campaign", "77"], O),
    "limit": (["--campaign", "77", "5/minute"], O),
    "block": (["+12025550178"], O),
    "unblock": (["+12025550178"], O),
    "keys": (["create", "shop"], O),
    "mapping": (["set", "crm", "--field", "phone_number=phone", "--value", "campaign_id=42"], O),
    "submitters": (["allow", "public", "--account", "default"], O),
    "prune": (["--older-than", "30d", "--failed", "--yes"], E),
    "rekey": (["--dry-run"], E),
    "recover": (["--since", "1h"], W),
    "erase": (["+12025550179", "--without-proof", "--yes"], E),
}


def run(house: House, part: Part, command: str, arguments: list[str], directory: Path) -> tuple[int, str]:
    """The exit code and all that a command says, as the login of a role."""
    one = house.own
    names = {"failed": one.failed, "doubtful": one.doubtful, "pending": one.pending, "phone": one.phone}
    environment = {
        "DATABASE_URL": house.url_of(part),
        "REDIS_URL": "redis://127.0.0.1:1/0",
        "VOICERY_API_TOKEN": "a-token-of-the-tests",
        "VOICERY_BASE_URL": NO_VOICERY,
        "DISPATCHER_RATE_LIMIT": "off",
    }
    if command == "rekey":
        environment["DISPATCHER_ENCRYPTION_KEYS"] = "5e" * 32
    (directory / "leads.csv").write_text("phone_number,campaign_id\n+12025550176,42\n")
    given = [argument.format(**names).replace("leads.csv", str(directory / "leads.csv")) for argument in arguments]
    done = CliRunner().invoke(app, [command, *given], env=environment)
    return done.exit_code, " ".join(f"{done.output} {done.exception or ''}".split())


def test_every_command_has_its_case() -> None:
    commands = {entry.name for entries in PANELS.values() for entry in entries}
    assert commands == {*ELSEWHERE, *READS, *WRITES}
    assert len(commands) == len(ELSEWHERE) + len(READS) + len(WRITES)


@pytest.mark.parametrize("command", READS)
def test_a_reader_runs_each_command_that_reads(house: House, tmp_path: Path, command: str) -> None:
    code, said = run(house, R, command, READS[command], tmp_path)
    assert "42501" not in said
    assert code == 0 or command == "health", said  # which finds that there is no worker


def test_tail_reads_as_a_reader(house: House) -> None:
    with closing(Services(Settings(database_url=normal_database_url(house.url_of(R))))) as services:
        since = datetime.now(UTC) - timedelta(hours=1)
        assert services.database.read(events.since, since, most=10)


@pytest.mark.parametrize("command", WRITES)
def test_a_command_that_acts_is_refused_to_a_reader_and_done_as_its_role(
    house: House, tmp_path: Path, command: str
) -> None:
    arguments, part = WRITES[command]
    code, said = run(house, R, command, arguments, tmp_path)
    assert code != 0
    assert REFUSED.search(said), said
    _, said = run(house, part, command, arguments, tmp_path)
    assert "42501" not in said
