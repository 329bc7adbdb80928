"""Delivery within a test: the code of a worker, run by the test's own thread, against the sandbox."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, Self

from sqlalchemy import text

from dispatcher.config.settings import Settings
from dispatcher.lead.masking import mask_numbers
from dispatcher.lead.options import Channel
from dispatcher.sandbox.fault import FaultName, Rule
from dispatcher.sandbox.log import Effect, Line
from dispatcher.sandbox.server import Sandbox
from dispatcher.testing.stores import Stores
from dispatcher.wiring import Services
from dispatcher.worker.deliverer import Deliverer

_WORKER: Final = "pytest:1"
_PAUSE_SECONDS: Final = 0.02

_DUE: Final = text("""
SELECT DISTINCT account, campaign_id FROM dispatcher.leads WHERE state = 'pending' AND due_at <= now() ORDER BY 1, 2
""")
_STATES: Final = text("SELECT state, count(*) FROM dispatcher.leads GROUP BY state")
_DOUBTFUL: Final = text("SELECT DISTINCT account FROM dispatcher.leads WHERE state = 'unknown' ORDER BY 1")
_UNSETTLED: Final = ("pending", "sending", "unknown")


class VoiceryForTests:
    """The sandbox, what it received, and the delivery to it."""

    def __init__(self, stores: Stores, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.environment = {"VOICERY_BASE_URL": sandbox.base_url, "VOICERY_API_TOKEN": "sandbox-token"}
        settings = Settings.from_environment({**stores.environment, **self.environment})
        self._services = Services(settings, name="dispatcher-testing", bell=_silent())
        self._deliverer = Deliverer(self._services, stopping=lambda: False, worker=_WORKER)
        self._sweep = self._services.sweep(_WORKER)

    @classmethod
    @contextmanager
    def started(cls, stores: Stores) -> Iterator[Self]:
        """Start the sandbox; it ends with the block."""
        with Sandbox() as sandbox:
            voicery = cls(stores, sandbox)
            try:
                yield voicery
            finally:
                voicery._services.close()

    def fail(self, fault: FaultName | str, **conditions: Any) -> None:  # noqa: ANN401 - `Rule` checks them
        """Spoil the next request that matches.

        Args:
            fault: a name of docs/sandbox.md, e.g. "hang", "500", "422" or "late".
            conditions: the other fields of a rule: `phone` (a regular expression), `campaign`, `when`, `nth`, `times`
                (None: until `calm`), `seconds` and so on.

        Raises:
            ValueError: there is no such fault.
            NotConfigured: the conditions contradict each other.
        """
        self.sandbox.faults.add(Rule(fault=FaultName(fault), **conditions))

    def calm(self) -> None:
        """Spoil nothing from now on."""
        self.sandbox.calm()

    def deliver(self) -> None:
        """POST every lead that is due, once, and record what came of it. Returns when the answers are recorded."""
        self._sweep.once()
        with self._services.database.autocommit() as connection:
            due = [Channel(*row) for row in connection.execute(_DUE)]
        for channel in due:
            self._deliverer.deliver(*channel)

    def settle(self, *, timeout_seconds: float = 20.0) -> Counter[str]:
        """Deliver, look up and try again until no lead is pending, sending or unknown; return the states.

        Args:
            timeout_seconds: after which it gives up.

        Raises:
            AssertionError: leads are left after the timeout; the message has their states.
        """
        give_up = time.monotonic() + timeout_seconds
        while True:
            self.deliver()
            with self._services.database.autocommit() as connection:
                doubtful = list(connection.execute(_DOUBTFUL).scalars())
            for account in doubtful:
                self._deliverer.lookup(account)
            states = self.states()
            if not any(states[state] for state in _UNSETTLED):
                return states
            if time.monotonic() >= give_up:
                raise AssertionError(f"Leads are left after {timeout_seconds:g} seconds: {dict(states)}.")
            time.sleep(_PAUSE_SECONDS)

    def states(self) -> Counter[str]:
        """Return how many leads are in each state."""
        with self._services.database.autocommit() as connection:
            return Counter({state: number for state, number in connection.execute(_STATES)})  # noqa: C416

    def calls(self, phone_number: str) -> list[Line]:
        """Return the requests that made Voicery call a number in E.164, i.e. that created a lead."""
        called = (Effect.CREATED, Effect.LATE)
        return [one for one in self._posts(phone_number) if one.effect in called]

    def assert_called_once(self, phone_number: str) -> None:
        """Raise `AssertionError` unless Voicery has exactly one lead of a number in E.164."""
        self._assert_called(phone_number, 1)

    def assert_not_called(self, phone_number: str) -> None:
        """Raise `AssertionError` if Voicery has a lead of a number in E.164."""
        self._assert_called(phone_number, 0)

    def _assert_called(self, phone_number: str, times: int) -> None:
        found, posts = len(self.calls(phone_number)), len(self._posts(phone_number))
        if found != times:
            received = f"the sandbox received {posts} POSTs of it and {len(self.sandbox.log)} requests in all"
            states = f"Leads by state: {dict(self.states())}."
            raise AssertionError(
                f"{mask_numbers(phone_number)} is called {found} times, not {times}; {received}. {states}"
            )

    def _posts(self, phone_number: str) -> list[Line]:
        return [
            one
            for one in self.sandbox.log
            if one.method == "POST" and isinstance(one.body, dict) and one.body.get("phone_number") == phone_number
        ]


def _silent() -> Any:  # noqa: ANN401 - a `Bell`
    from dispatcher.broker.doorbell import NullDoorbell

    return NullDoorbell()
