"""Send due alerts of the outbox to the operator's webhook: at least once each, and at a limited rate a cause."""

import time
from collections.abc import Callable
from typing import Final, Protocol

import requests

from dispatcher.alerts import alerts
from dispatcher.alerts.alerts import ID_HEADER, SIGNATURE_HEADER, Alert, signature
from dispatcher.config.setting import Secret
from dispatcher.logs import events
from dispatcher.store.counters import ALERTS, Tally
from dispatcher.store.database import Database

TIMEOUT_SECONDS: Final = 10.0
"""The timeout in seconds for connecting and for each read of the answer's headers; the body is not read."""


class Webhook:
    """The operator's webhook. Not thread-safe."""

    def __init__(self, url: Secret, secret: Secret | None, *, clock: Callable[[], float] = time.time) -> None:
        """`clock`: seconds since 1970, for the signature."""
        self._url = url
        self._secret = secret
        self._clock = clock

    def post(self, alert: Alert) -> str | None:
        """POST the alert. Return None for a 2xx, else the error, without any address. Never raises."""
        body = alert.body()
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "voicery-dispatcher",
            ID_HEADER: str(alert.id),
        }
        if self._secret is not None:
            headers[SIGNATURE_HEADER] = signature(self._secret.reveal(), int(self._clock()), body)
        try:
            with requests.Session() as session:
                session.trust_env = False  # no netrc and no proxy of the environment
                with session.post(
                    self._url.reveal(),
                    data=body,
                    headers=headers,
                    timeout=TIMEOUT_SECONDS,
                    allow_redirects=False,
                    stream=True,
                ) as response:
                    return None if 200 <= response.status_code <= 299 else f"HTTP {response.status_code}"
        except (requests.RequestException, OSError, ValueError) as error:
            return type(error).__name__


AT_ONCE: Final = 10
GIVE_UP_AFTER: Final = 30
"""The number of tries; with the waits below they last longer than a day."""

_HOLD_SECONDS: Final = 180.0  # ten POSTs that all time out fit
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
