"""A receiver of alerts that is slow, silent or dead delays alerts, and nothing else."""

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest

from dispatcher.alerts.alerting import AlertThread, Webhook
from dispatcher.alerts.alerts import Alert, AlertKind
from dispatcher.alerts.signing import Signing
from dispatcher.broker.doorbell import Ring
from dispatcher.broker.envelope import NotADoorbell, read_ring
from dispatcher.config.setting import Secret
from dispatcher.config.urls import normal_database_url
from dispatcher.store.audit import IncidentKind, open_incident
from dispatcher.store.database import Database
from dispatcher.sweep.sweep import Sweep
from tests.support.doubles import Bell, Rate
from tests.voicery.peer import Call, Peer

NOW = datetime(2026, 11, 28, tzinfo=UTC)
ALERT = Alert(7, AlertKind.INCIDENT, None, None, "called_twice", None, 1, NOW, NOW)
FOREVER = b"x" * 100_000


def drip(head: bytes) -> Callable[[Call], None]:
    """Take the request, then send `head` and one byte after the other, for hours if nobody leaves."""

    def script(call: Call) -> None:
        call.read_request()
        call.send(head)
        call.drip(FOREVER, 0.05)

    return script


def posted_to(script: Callable[[Call], None]) -> tuple[str | None, Peer]:
    with Peer(script) as peer:
        return Webhook(Secret(peer.url), Signing(()), deadline_seconds=0.4).post(ALERT), peer


def test_a_status_line_that_drips_ends_at_the_deadline_of_the_whole() -> None:
    assert posted_to(drip(b"HTTP/1.1 200 "))[0] == "deadline"


def test_interim_answers_without_end_end_at_the_deadline_of_the_whole() -> None:
    def script(call: Call) -> None:
        call.read_request()
        while not call.peer.client_left.is_set() and not call.peer.stopped.wait(0.05):
            call.send(b"HTTP/1.1 102 Processing\r\n\r\n")

    assert posted_to(script)[0] == "deadline"


def test_a_silent_receiver_ends_at_the_deadline_of_the_whole() -> None:
    assert posted_to(lambda call: call.hold())[0] in {"deadline", "read_timeout"}


@pytest.mark.parametrize("head", [b"HTTP/1.1 204 No Content\r\nX-Drip: ", b"HTTP/1.1 200 OK\r\n\r\n"])
def test_what_drips_after_the_status_changes_nothing(head: bytes) -> None:
    assert posted_to(drip(head))[0] is None


def test_a_receiver_that_sends_without_end_is_cut_off() -> None:
    def script(call: Call) -> None:
        call.read_request()
        while not call.peer.client_left.is_set() and not call.peer.stopped.is_set():
            call.send(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)

    trouble, _ = posted_to(script)
    assert trouble is not None


def test_the_request_is_one_whole_post_to_the_address_as_written() -> None:
    def script(call: Call) -> None:
        call.read_request()
        call.send(b"HTTP/1.1 204 No Content\r\n\r\n")

    with Peer(script) as peer:
        assert (
            Webhook(Secret(f"{peer.url}?key=a%20b"), Signing((Secret("s" * 20),)), deadline_seconds=5).post(ALERT)
            is None
        )
    (request,) = peer.requests
    head, _, body = request.partition(b"\r\n\r\n")
    assert head.startswith(b"POST /api?key=a%20b HTTP/1.1\r\n")
    assert f"Host: 127.0.0.1:{peer.port}\r\n".encode() in head + b"\r\n"
    assert b"Dispatcher-Signature: t=" in head
    assert body == ALERT.body()


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(normal_database_url(database_url))
    yield database
    database.close()


class Stuck:
    """A receiver that answers only when the test says so."""

    def __init__(self) -> None:
        self.asked = threading.Semaphore(0)
        self.answer = threading.Event()
        self.at_once = 0
        self.most_at_once = 0
        self._counting = threading.Lock()

    def post(self, alert: Alert) -> str | None:
        with self._counting:
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        self.asked.release()
        assert self.answer.wait(60)
        with self._counting:
            self.at_once -= 1
        return None


def incident(database: Database, kind: IncidentKind) -> None:
    with database.transaction() as connection:
        open_incident(connection, kind, None, "No person here.", {})


def sweep_with(database: Database, thread: AlertThread | None, name: str = "one") -> Sweep:
    return Sweep(
        database, Bell(), lambda _: Rate(), name=name, worker=f"{name}:1", settle_seconds=120, interval_seconds=1,
        alerting=thread,
    )  # fmt: skip


def test_a_stuck_receiver_stops_no_duty_of_the_sweep_and_meets_one_run_at_a_time(database: Database) -> None:
    receiver = Stuck()
    thread = AlertThread(database, receiver, quiet_seconds=600)
    sweep = sweep_with(database, thread)
    incident(database, IncidentKind.CALLED_TWICE)
    assert sweep.once()
    assert receiver.asked.acquire(timeout=30)
    for kind in (IncidentKind.LATE_ANSWER, IncidentKind.OPEN_ATTEMPT):
        incident(database, kind)
        assert sweep.once(), "the sweep waits for the receiver"
    assert not thread.start()
    receiver.answer.set()
    sweep.finish()
    assert sweep.once()
    sweep.finish()
    assert receiver.most_at_once == 1
    with database.autocommit() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM dispatcher.alerts WHERE done_at IS NULL").scalar() == 0


def test_a_sweep_that_lost_its_duties_begins_no_further_post(database: Database) -> None:
    receiver = Stuck()
    thread = AlertThread(database, receiver, quiet_seconds=600)
    first, second = sweep_with(database, thread), sweep_with(database, None, "two")
    for kind in IncidentKind:
        incident(database, kind)
    assert first.once()
    assert receiver.asked.acquire(timeout=30)
    with database.autocommit() as connection:
        connection.exec_driver_sql("UPDATE dispatcher.sweeps SET held_until = now() - interval '1 s'")
    assert second.once()
    assert not first.once()
    receiver.answer.set()
    first.finish()
    assert not receiver.asked.acquire(blocking=False), "the next alert was sent by who lost the duties"


def test_no_message_makes_a_worker_send_alerts() -> None:
    forged = Ring("dispatcher.alert", ()).message()  # type: ignore[arg-type]
    with pytest.raises(NotADoorbell):
        read_ring(forged)
