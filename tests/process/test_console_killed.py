"""The console is killed while it imports an uploaded file: the same file again goes on, and nothing is doubled."""

import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psycopg
import pytest
import requests

from dispatcher.console.auth import hash_password
from tests.support.waiting import wait_until

ROWS = 8000
PASSWORD = "correct horse battery"
FILE = "phone_number,campaign_id,allow_dupplicate,name\n" + "".join(
    f"+1202555{number % 10_000:04d},42,true,n{number}\n" for number in range(ROWS)
)


@pytest.fixture
def start(environment: Mapping[str, str], tmp_path: Path) -> Iterator[Callable[[], "Served"]]:
    users = f"olga:operator:{hash_password(PASSWORD)}"
    started: list[Served] = []

    def begin() -> Served:
        started.append(Served({**environment, "DISPATCHER_CONSOLE_USERS": users}, tmp_path))
        return started[-1]

    yield begin
    for one in started:
        one.client.close()
        one.process.kill()
        one.process.wait()


class Served:
    """A console in a process of its own, and a browser that is logged in."""

    def __init__(self, environment: Mapping[str, str], directory: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        command = [sys.executable, "-m", "dispatcher", "console", "--port", str(port)]
        with (directory / "console.log").open("ab") as log:
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        self.base = f"http://127.0.0.1:{port}"
        self.client = requests.Session()
        self.client.trust_env = False
        self.client.headers["origin"] = self.base
        wait_until(self._answers, 30, "the console to answer")
        assert self.client.post(f"{self.base}/login", data={"name": "olga", "password": PASSWORD}).status_code == 200

    def _answers(self) -> bool:
        try:
            return self.client.get(f"{self.base}/login").status_code == 200
        except requests.ConnectionError:
            return False

    def upload(self) -> Any:
        """Upload the file, and return the page of its plan."""
        csrf = value(self.client.get(f"{self.base}/imports/upload").text, "csrf")
        file = {"file": ("leads.csv", FILE.encode())}
        page = self.client.post(f"{self.base}/imports/upload", data={"csrf": csrf}, files=file)
        return self.settled(page.url)

    def begin(self, plan: Any) -> None:
        """Begin the import of a plan."""
        given = {name: value(plan.text, name) for name in ("csrf", "version")}
        assert self.client.post(f"{plan.url}/import", data=given).status_code == 200

    def settled(self, address: str) -> Any:
        """The page once it is not busy."""

        def page() -> Any:
            found = self.client.get(address)
            return found if "data-busy" not in found.text else None

        return wait_until(page, 60, "the file to be read or imported")


def value(page: str, name: str) -> str:
    found = re.search(rf'name="{name}" value="([^"]*)"', page)
    assert found, f"no field {name}"
    return found[1]


def test_a_console_that_is_killed_in_an_import_loses_nothing_and_doubles_nothing(
    start: Callable[[], Served], environment: Mapping[str, str]
) -> None:
    with psycopg.connect(environment["DATABASE_URL"], autocommit=True) as connection:

        def stored() -> tuple[int, int]:
            counted = "SELECT count(*), count(DISTINCT variables ->> 'name') FROM dispatcher.leads"
            found: Any = connection.execute(counted).fetchone()
            return found[0], found[1]

        first = start()
        planned = first.upload()
        assert "Import 8\u202f000 leads" in planned.text
        assert stored() == (0, 0)
        first.begin(planned)
        wait_until(lambda: stored()[0] >= 2000, 60, "a part of the import")
        first.process.kill()
        first.process.wait()
        half = stored()[0]
        assert half == stored()[1]
        assert half % 2000 == 0, "whole chunks"

        second = start()
        assert "not kept here (any more)" in second.client.get(planned.url.replace(first.base, second.base)).text
        again = second.upload()
        assert half < ROWS, "it was killed in the middle"
        assert f"Import {ROWS - half:,} leads".replace(",", "\u202f") in again.text
        second.begin(again)
        assert "The import is done." in second.settled(again.url).text
        assert stored() == (ROWS, ROWS)
