"""Send due alerts of the outbox to the operator's webhook: at least once each, and at a limited rate a cause."""

import threading
import time
from collections.abc import Callable
from typing import Final, Protocol, cast
from urllib.parse import urlsplit

import requests

from dispatcher.alerts import alerts
from dispatcher.alerts.alerts import Alert
from dispatcher.alerts.signing import Signing
from dispatcher.config.setting import Secret
from dispatcher.errors import DispatcherError
from dispatcher.logs import events
from dispatcher.moments import steady_clock
from dispatcher.store import counters
from dispatcher.store.counters import ALERTS, RUNS, Tally
from dispatcher.store.database import Database
from dispatcher.store.trouble import StatementRefused, TryAgain
from dispatcher.voicery.answer import Answer
from dispatcher.voicery.connection import Origin
from dispatcher.voicery.exchange import Exchange, ExchangeFailed
from dispatcher.voicery.transport import LeanRequest, OriginAdapter

DEADLINE_SECONDS: Final = 10.0
"""The time for one POST as a whole, in seconds: name, connection, TLS, the status and headers of the answer."""

_HEAD_CAP: Final = 64 * 1024  # bytes of an answer's status and headers; its body is not read


class Webhook:
    """The operator's webhook, reached by the transport that reaches Voicery: no redirect, no proxy, no environment.

    Not thread-safe. Raises `NotConfigured` if TLS cannot be set up.
    """

    def __init__(
        self,
        url: Secret,
        signing: Signing,
        *,
        deadline_seconds: float = DEADLINE_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`deadline_seconds`: for one POST as a whole. `clock`: seconds since 1970, for the signatures."""
        self._url = url
        self._signing = signing
        self._deadline_seconds = deadline_seconds
        self._clock = clock
        # No connection is kept: alerts are rare, and receivers close idle ones at their own time.
        self._adapter = OriginAdapter(Origin.of(url.reveal()), idle_seconds=0.0)

    def post(self, alert: Alert) -> str | None:
        """POST the alert. Return None for a 2xx, else the error, without any address. Never raises."""
        try:
            answer = cast("Answer", self._adapter.send(self._request(alert.body(), str(alert.id))).raw)
        except ExchangeFailed as failure:
            return failure.fault.value
        except (requests.RequestException, OSError, ValueError) as error:
            return type(error).__name__
        answer.close()
        return None if 200 <= answer.status <= 299 else f"HTTP {answer.status}"

    def _request(self, body: bytes, alert_id: str) -> LeanRequest:
        url = self._url.reveal()
        headers = {
            "Host": urlsplit(url).netloc,
            "User-Agent": "voicery-dispatcher",
            "Content-Type": "application/json",
            **self._signing.headers(alert_id, int(self._clock()), body),
        }
        request = LeanRequest()
        request.prepare("POST", url, headers=headers, data=body)
        now = steady_clock()
        deadline = now + self._deadline_seconds
        request.exchange = Exchange(now, deadline, deadline, self._deadline_seconds, _HEAD_CAP)
        return request


AT_ONCE: Final = 10
GIVE_UP_AFTER: Final = 30
"""The number of tries; with the waits below they last longer than a day."""

_HOLD_SECONDS: Final = 18 * DEADLINE_SECONDS  # `AT_ONCE` POSTs that all reach their deadline fit
_FIRST_WAIT_SECONDS: Final = 5.0
_LONGEST_WAIT_SECONDS: Final = 3600.0


class Receiver(Protocol):
    """Send one alert; return the error, or None. Never raises."""

    def post(self, alert: Alert) -> str | None: ...


class Alerting:
    """Sends the due alerts. Create one for each run.

    `quiet_seconds`: of one cause, at most one alert in this time. Waits between tries: 5, 10, 20 s … 1 h.
    """

    def __init__(
        self, database: Database, receiver: Receiver, *, quiet_seconds: float, stopping: Callable[[], bool]
    ) -> None:
        self._database = database
        self._receiver = receiver
        self._quiet_seconds = quiet_seconds
        self._stopping = stopping
        self.tally = Tally()
        """The counters of this run."""

    def run(self) -> int:
        """Send the due alerts; return the number that the receiver accepted. No transaction is open during a POST."""
        with self._database.transaction() as connection:
            due = alerts.take(connection, most=AT_ONCE, hold_seconds=_HOLD_SECONDS, quiet_seconds=self._quiet_seconds)
        taken = 0
        for alert in due:
            if self._stopping():
                self._postpone(alert, seconds=0.0)
            else:
                taken += self._send(alert)
        return taken

    def _send(self, alert: Alert) -> bool:
        trouble = self._receiver.post(alert)
        if trouble is None:
            with self._database.transaction() as connection:
                alerts.sent(connection, alert)
            self.tally.add(ALERTS, "sent")
            events.info("alert.sent", alert_id=alert.id, kind=alert.kind.value, count=alert.count)
            return True
        self.tally.add(ALERTS, "not_sent")
        events.warning("alert.not_sent", alert_id=alert.id, kind=alert.kind.value, tries=alert.tries, error=trouble)
        if alert.tries >= GIVE_UP_AFTER:
            with self._database.transaction() as connection:
                alerts.give_up(connection, alert)
        else:
            self._postpone(alert, seconds=wait_seconds(alert.tries))
        return False

    def _postpone(self, alert: Alert, *, seconds: float) -> None:
        with self._database.transaction() as connection:
            alerts.try_again(connection, alert, seconds=seconds)


def wait_seconds(tries: int) -> float:
    """Return the wait after `tries` tries, in seconds."""
    return min(_LONGEST_WAIT_SECONDS, _FIRST_WAIT_SECONDS * 2.0 ** min(tries - 1, 20))


class AlertThread:
    """Sends the due alerts in a thread of its own, one run at a time: a slow receiver delays nothing but alerts.

    Used by the process whose sweep holds the duties, so there is one run in the whole deployment. A run that the next
    holder overlaps, because this process was frozen, sends no alert twice at once: `alerts.take` holds them.
    """

    def __init__(self, database: Database, receiver: Receiver, *, quiet_seconds: float) -> None:
        self._database = database
        self._receiver = receiver
        self._quiet_seconds = quiet_seconds
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> bool:
        """Begin a run and return at once. Return False if one is under way."""
        if self._thread is not None and self._thread.is_alive():
            return False
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, name="dispatcher-alerts", daemon=True)
        self._thread.start()
        return True

    def stop(self) -> None:
        """Let the run begin no further POST, and return at once."""
        self._stopping.set()

    def finish(self) -> None:
        """Wait for the run under way, if any: at most `AT_ONCE` times the deadline of a POST."""
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        alerting = Alerting(
            self._database, self._receiver, quiet_seconds=self._quiet_seconds, stopping=self._stopping.is_set
        )
        try:
            alerting.run()
            alerting.tally.add(RUNS, "alert")
            with self._database.autocommit() as connection:
                counters.add(connection, counters.NO_ACCOUNT, alerting.tally)
        except (DispatcherError, TryAgain, StatementRefused) as error:
            events.warning("alert.run_failed", error=type(error).__name__, consequence="the sweep tries again")
