"""One signed POST to the operator's webhook. Its address is a secret too: it stays out of every log and error."""

import time
from collections.abc import Callable
from typing import Final

import requests

from dispatcher.config.secret import Secret
from dispatcher.records.alert import ID_HEADER, SIGNATURE_HEADER, Alert, signature

TIMEOUT_SECONDS: Final = 10.0
"""For connecting, and for each piece of the answer's head; the body is not read."""


class Webhook:
    """Where alerts go. Not for several threads at once."""

    def __init__(self, url: Secret, secret: Secret | None, *, clock: Callable[[], float] = time.time) -> None:
        """`clock`: seconds since 1970, for the signature."""
        self._url = url
        self._secret = secret
        self._clock = clock

    def post(self, alert: Alert) -> str | None:
        """Deliver it. None: the receiver took it (2xx); else what went wrong, without any address. Never raises."""
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
                session.trust_env = False  # neither a netrc nor a proxy of the environment may redirect it
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
