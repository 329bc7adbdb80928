"""Alerts on real Postgres: written with the change itself, sent at least once, folded, tried again, and signed."""

import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from sqlalchemy import text

from dispatcher.alerts import alerts
from dispatcher.alerts.alerting import GIVE_UP_AFTER, Alerting, Webhook
from dispatcher.alerts.alerts import Alert
from dispatcher.alerts.signing import Signing
from dispatcher.config.setting import Secret
from dispatcher.decisions.gate import Gate, GateLimits, closed
from dispatcher.decisions.outcome import Reason
from dispatcher.delivery import gates
from dispatcher.lead.options import Channel
from dispatcher.store.audit import IncidentKind, open_incident
from dispatcher.store.database import Database
from tests.database.queue import Queue

SECRET = "a-secret-of-the-tests"
LIMITS = GateLimits(wait_seconds=5, wait_max_seconds=300, outage_after=5, rejecting_after=10)


class Receiver(BaseHTTPRequestHandler):
    """A webhook's receiver: keeps what came, answers as told."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((dict(self.headers), body))  # type: ignore[attr-defined]
        answers = self.server.answers  # type: ignore[attr-defined]
        status = answers.pop(0) if answers else 204
        self.send_response(status)
        if status == 307:
            self.send_header("Location", "/stolen")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


class Hook:
    """The receiver as a test sees it."""

    def __init__(self) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.answers: list[int] = []
        self._server.got, self._server.answers = self.got, self.answers  # type: ignore[attr-defined]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/hook?token=hidden-in-the-address"

    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.got]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def hook() -> Iterator[Hook]:
    hook = Hook()
    yield hook
    hook.close()


def send(database: Database, hook: Hook, *, quiet_seconds: float = 600.0) -> int:
    webhook = Webhook(Secret(hook.url), Signing((Secret(SECRET),)))
    return Alerting(database, webhook, quiet_seconds=quiet_seconds, stopping=lambda: False).run()


def close_gate(database: Database, reason: Reason, campaign_id: int = 42) -> None:
    with database.transaction() as connection:
        _, channel = gates.lock(connection, Channel("default", campaign_id))
        gates.save(connection, closed(channel, reason, LIMITS, message="Voicery said +12025550101 is odd"))


def incident(database: Database, lead_id: object = None) -> None:
    with database.transaction() as connection:
        open_incident(connection, IncidentKind.CALLED_TWICE, lead_id, "No person here.", {})  # type: ignore[arg-type]


def fail_unknown(queue: Queue, number: int = 0) -> Any:
    lead_id = queue.put(number, "failed", failure_class="outcome_unknown")
    queue.run(
        """
        INSERT INTO dispatcher.failed_leads
            (lead_id, account, campaign_id, phone_number, failure_class, fingerprint, message, attempts)
        SELECT id, account, campaign_id, phone_number, failure_class, 'f', 'A sentence.', 1
        FROM dispatcher.leads WHERE id = :id
        """,
        id=lead_id,
    )
    return lead_id


def open_causes(queue: Queue) -> list[str]:
    return [row.cause for row in queue.rows("SELECT cause FROM dispatcher.alerts WHERE done_at IS NULL ORDER BY id")]


def results(queue: Queue) -> list[str | None]:
    return [row.result for row in queue.rows("SELECT result FROM dispatcher.alerts ORDER BY id")]


def test_a_signed_post_tells_of_each_cause(database: Database, queue: Queue, hook: Hook) -> None:
    lead_id = fail_unknown(queue)
    incident(database, lead_id)
    close_gate(database, Reason.UNAUTHORIZED)

    assert send(database, hook) == 3

    assert [(body["kind"], body["reason"], body["campaign_id"], body["lead_id"]) for body in hook.bodies()] == [
        ("outcome_unknown", "outcome_unknown", 42, str(lead_id)),
        ("incident", "called_twice", None, str(lead_id)),
        ("gate_closed", "unauthorized", 42, None),
    ]
    for headers, body in hook.got:
        timestamp = headers["Dispatcher-Signature"].removeprefix("t=").partition(",")[0]
        mac = hmac.new(SECRET.encode(), f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()
        assert headers["Dispatcher-Signature"] == f"t={timestamp},v1={mac}"
        assert headers["Dispatcher-Alert-Id"] == json.loads(body)["id"]
        assert b"+1202555" not in body
    assert open_causes(queue) == []


@pytest.mark.parametrize("reason", [Reason.PAUSED, Reason.THROTTLED])
def test_a_pause_and_a_rate_limit_are_no_alerts(database: Database, queue: Queue, reason: Reason) -> None:
    close_gate(database, reason)
    assert open_causes(queue) == []


def test_a_gate_that_probes_and_closes_again_is_told_once(database: Database, queue: Queue) -> None:
    close_gate(database, Reason.OUTAGE)
    queue.run("UPDATE dispatcher.gates SET state = 'probing' WHERE campaign_id = 42")
    queue.run("UPDATE dispatcher.gates SET state = 'closed' WHERE campaign_id = 42")
    assert len(open_causes(queue)) == 1


def test_an_alert_is_rolled_back_with_its_change(database: Database, queue: Queue) -> None:
    with database.engine.connect() as connection:
        open_incident(connection, IncidentKind.CALLED_TWICE, None, "No.", {})
        connection.rollback()
    assert open_causes(queue) == []


def test_equal_causes_leave_as_one_and_then_are_silent(database: Database, queue: Queue, hook: Hook) -> None:
    for number in range(5):
        fail_unknown(queue, number)
    assert send(database, hook) == 1
    assert hook.bodies()[0]["count"] == 5
    assert results(queue) == ["sent", "folded", "folded", "folded", "folded"]

    fail_unknown(queue, 6)
    fail_unknown(queue, 7)
    assert send(database, hook) == 0
    held = queue.rows(
        "SELECT DISTINCT due_at > now() + interval '9 min' AS held FROM dispatcher.alerts WHERE result IS NULL"
    )
    assert [row.held for row in held] == [True]

    queue.run("UPDATE dispatcher.alerts SET due_at = now() WHERE done_at IS NULL")
    queue.run("UPDATE dispatcher.alerts SET done_at = now() - interval '1 hour' WHERE done_at IS NOT NULL")
    assert send(database, hook) == 1
    assert hook.bodies()[1]["count"] == 2


def test_what_failed_is_sent_again_later_under_the_same_id(database: Database, queue: Queue, hook: Hook) -> None:
    incident(database)
    hook.answers += [500, 204]
    assert send(database, hook) == 0
    assert send(database, hook) == 0, "it waits"
    assert len(hook.got) == 1

    queue.run("UPDATE dispatcher.alerts SET due_at = now()")
    assert send(database, hook) == 1
    assert len({headers["Dispatcher-Alert-Id"] for headers, _ in hook.got}) == 1
    assert results(queue) == ["sent"]


def test_while_one_waits_for_another_try_new_ones_of_its_cause_wait_too(
    database: Database, queue: Queue, hook: Hook
) -> None:
    incident(database)
    hook.answers.append(503)
    send(database, hook)
    incident(database)
    assert send(database, hook) == 0
    assert len(hook.got) == 1
    assert not queue.rows("SELECT FROM dispatcher.alerts WHERE done_at IS NULL AND due_at <= now()"), (
        "the sweep would ring for it each second"
    )


def test_a_redirect_is_not_followed_and_is_no_success(database: Database, hook: Hook) -> None:
    incident(database)
    hook.answers.append(307)
    assert send(database, hook) == 0
    assert len(hook.got) == 1


def test_nobody_is_tried_for_ever(database: Database, queue: Queue, hook: Hook) -> None:
    incident(database)
    queue.run("UPDATE dispatcher.alerts SET tries = :tries", tries=GIVE_UP_AFTER - 1)
    hook.answers.append(500)
    send(database, hook)
    assert results(queue) == ["given_up"]


def test_an_absent_receiver_is_no_exception_and_its_address_is_in_no_log(
    database: Database, queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    incident(database)
    webhook = Webhook(Secret("http://127.0.0.1:9/hook?token=hidden-in-the-address"), Signing(()))
    assert Alerting(database, webhook, quiet_seconds=600, stopping=lambda: False).run() == 0
    assert "alert.not_sent" in caplog.text
    assert "hidden-in-the-address" not in caplog.text
    assert results(queue) == [None]


def test_two_that_send_at_once_never_take_the_same(database: Database) -> None:
    for _ in range(20):
        incident(database)
    taken: list[Alert] = []
    together = threading.Barrier(4)

    def take() -> None:
        together.wait()
        with database.transaction() as connection:
            taken.extend(alerts.take(connection, most=10, hold_seconds=60, quiet_seconds=600))

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [alert.count for alert in taken] == [20]


def test_what_is_old_is_forgotten(database: Database, queue: Queue) -> None:
    incident(database)
    incident(database)
    queue.run("UPDATE dispatcher.alerts SET at = now() - interval '31 days' WHERE id = 1")
    with database.transaction() as connection:
        alerts.prune(connection)
    assert len(open_causes(queue)) == 1


def test_an_unwanted_alert_costs_the_change_no_wait(database: Database) -> None:
    """Two transactions that alert of one cause: neither waits for the other, since both only insert."""
    with database.transaction() as first:
        open_incident(first, IncidentKind.CALLED_TWICE, None, "No.", {})
        with database.transaction() as second:
            second.execute(text("SET LOCAL lock_timeout = '200ms'"))
            open_incident(second, IncidentKind.CALLED_TWICE, None, "No.", {})


def test_a_gate_value_without_change_alerts_nobody(database: Database, queue: Queue) -> None:
    with database.transaction() as connection:
        gates.lock(connection, Channel("default", 42))
        gates.save(connection, Gate("default", 42))
    assert open_causes(queue) == []
