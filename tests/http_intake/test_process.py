"""`dispatcher intake` as a process: what dies between a commit and its answer, and what SIGTERM leaves."""

import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import requests

from dispatcher.embedded.child import Child, Command
from dispatcher.embedded.embedded_server import accepts_connections, free_port
from tests.http_intake.conftest import Served
from tests.support.environment import clean_environment
from tests.support.waiting import wait_until


def started(url: str, log: Path, **more: str) -> tuple[Child, int]:
    port = free_port()
    environment = {**clean_environment(), "DATABASE_URL": url, "REDIS_URL": "redis://127.0.0.1:1/0", **more}
    return Child(Command((sys.executable, "-m", "dispatcher", "intake", "--port", str(port)), log, environment)), port


def test_an_intake_that_dies_between_commit_and_answer_has_stored_one_lead(
    served: Served, module_database_url: str, key: str, lead: dict[str, Any], campaign: int, tmp_path: Path
) -> None:
    headers = {"Authorization": f"Bearer {key}", "Idempotency-Key": f"killed-{campaign}"}
    log = tmp_path / "log"
    child, port = started(module_database_url, log, DISPATCHER_FAILPOINT="submit.after_commit:1")
    with child:
        wait_until(lambda: accepts_connections(port), 60, child.log_tail)
        with pytest.raises(requests.ConnectionError):
            requests.post(f"http://127.0.0.1:{port}/v1/leads", json=lead, headers=headers, timeout=30)
    again = served.submit(key, lead, f"killed-{campaign}")

    assert (again.status_code, again.json()["created"]) == (200, False)
    count = "SELECT count(*) AS n FROM dispatcher.leads WHERE campaign_id = :campaign"
    assert served.rows.one(count, campaign=campaign).n == 1
    assert key not in log.read_text()


def test_it_counts_what_it_answered_and_ends_by_sigterm(
    served: Served, module_database_url: str, key: str, lead: dict[str, Any], tmp_path: Path
) -> None:
    child, port = started(module_database_url, tmp_path / "log")
    with child:
        wait_until(lambda: accepts_connections(port), 60, child.log_tail)
        answer = requests.post(
            f"http://127.0.0.1:{port}/v1/leads", json=lead, headers={"Authorization": f"Bearer {key}"}, timeout=30
        )
        child.send(signal.SIGTERM)
        wait_until(lambda: not accepts_connections(port), 20, child.log_tail)

        def counted() -> float:
            rows = served.rows.rows("SELECT value FROM dispatcher.tallies WHERE label = '/v1/leads 201'")
            return sum(row.value for row in rows)

        wait_until(lambda: counted() >= 1, 20, child.log_tail)
    assert answer.status_code == 201
