"""The doctor: each thing that can be wrong is found, and comes with what to do."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from typer.testing import CliRunner

from dispatcher.cli.commands import app
from dispatcher.cli.doctor import Check, Grade
from dispatcher.cli.doctor_checks import judge_doorbells, judge_greeting, judge_limits
from dispatcher.decisions.reply import Reply
from dispatcher.operator.health import Heartbeat
from dispatcher.store.postgres import ConnectionUse


@pytest.fixture
def doctor(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Any:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    def run(*options: str) -> dict[str, list[dict[str, str]]]:
        result = CliRunner().invoke(app, ["doctor", "--json", *options])
        found: dict[str, list[dict[str, str]]] = {}
        for check in json.loads(result.stdout)["items"]:
            found.setdefault(check["name"], []).append(check)
        return found

    return run


def test_each_part_is_looked_at(doctor: Any) -> None:
    found = doctor()

    wanted = (
        "Settings Postgres Durability Clock Schema Voicery Connections Bloat Transactions Doorbells Workers Redis Token"
    )
    assert set(wanted.split()) <= set(found)
    assert "Redis memory" in found
    assert "Online" not in found
    assert all(check["advice"] for checks in found.values() for check in checks if check["verdict"] != "good")


@pytest.mark.parametrize(("options", "verdict"), [((), "doubtful"), (("--strict",), "bad")])
def test_a_name_that_is_no_setting_is_an_error_only_if_strict(
    doctor: Any, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], verdict: str
) -> None:
    monkeypatch.setenv("DISPATCHER_LEASSE", "90")

    (check,) = doctor(*options)["Settings"]

    assert check["verdict"] == verdict
    assert "DISPATCHER_LEASE?" in check["found"]


def test_a_server_without_free_connections_is_told() -> None:
    (check,) = judge_limits(ConnectionUse(connections=100, connected=95))

    assert (check.name, check.verdict) == ("Connections", Grade.DOUBTFUL)


@pytest.mark.parametrize(
    ("pulse", "verdict"),
    [
        (Heartbeat(due_age=600, served_age=500, worker_age=3), Grade.BAD),
        (Heartbeat(due_age=600, served_age=None, worker_age=3), Grade.BAD),
        (Heartbeat(due_age=600, served_age=500, worker_age=300), Grade.DOUBTFUL),
        (Heartbeat(due_age=600, served_age=2, worker_age=3), Grade.GOOD),
        (Heartbeat(due_age=600, served_age=500, worker_age=3, sending=1), Grade.GOOD),
        (Heartbeat(due_age=5, served_age=500, worker_age=3), Grade.GOOD),
        (Heartbeat(), Grade.GOOD),
    ],
)
def test_doorbells_are_lost_where_workers_live_and_nobody_comes(pulse: Heartbeat, verdict: Grade) -> None:
    assert judge_doorbells(pulse).verdict is verdict


@contextmanager
def voicery(status: int) -> Iterator[tuple[str, list[str]]]:
    """A server that answers each GET with this status; its address, and the paths that were asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            body = b'{"data": [], "total": 0}'
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{httpd.server_port}/api", asked
        finally:
            httpd.shutdown()
            thread.join()


def test_the_token_is_tried_by_one_harmless_get_and_only_if_asked(doctor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with voicery(401) as (address, asked):
        monkeypatch.setenv("VOICERY_BASE_URL", address)
        doctor()
        assert asked == []
        (check,) = doctor("--online")["Online"]

    assert len(asked) == 1
    assert (check["verdict"], "token" in check["found"]) == ("bad", True)


@pytest.mark.parametrize(
    ("status", "verdict"),
    [(200, Grade.GOOD), (401, Grade.BAD), (403, Grade.BAD), (404, Grade.DOUBTFUL), (503, Grade.DOUBTFUL)],
)
def test_what_voicery_answers_is_judged(status: int, verdict: Grade) -> None:
    check: Check = judge_greeting("Online", Reply(status=status))

    assert check.verdict is verdict
