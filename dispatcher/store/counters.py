"""Counters of a process, added to Postgres periodically: for metrics, never for decisions."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, text

from dispatcher.store.reading import ReadConnection
from dispatcher.store.statement import Call, HotStatement

ATTEMPTS: Final = "attempts"  # by outcome
ATTEMPT_SECONDS: Final = "attempt_seconds"  # by upper bound of the bucket, not cumulated
ATTEMPT_SECONDS_SUM: Final = "attempt_seconds_sum"
RUNS: Final = "runs"  # by task
LOOKUPS: Final = "lookups"  # by verdict
SWEEPS: Final = "sweeps"
RINGS: Final = "rings"  # of the sweep, by task
ALERTS: Final = "alerts"  # by result
IMPORT_ROWS: Final = "import_rows"  # by result
REQUESTS: Final = "intake_requests"  # by path and status
REQUEST_SECONDS: Final = "intake_request_seconds"  # by path and upper bound of the bucket, not cumulated
REQUEST_SECONDS_SUM: Final = "intake_request_seconds_sum"  # by path

BUCKETS: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, float("inf"))
"""Upper bounds of the durations of an exchange, in seconds, up to the default deadline."""

REQUEST_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, float("inf"))
"""Upper bounds of the durations of a request to the intake, in seconds."""


@dataclass(frozen=True, slots=True)
class Counted:
    """The value of one counter since the start; `account` is empty if it belongs to no account."""

    name: str
    account: str
    label: str
    value: float


class Tally:
    """Counters by name and label. Not thread-safe."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], float] = {}

    def __iter__(self) -> Iterator[tuple[str, str, float]]:
        """Yield name, label and value of every counter, in a fixed order, so that writers cannot deadlock."""
        return iter(sorted((name, label, value) for (name, label), value in self._counts.items()))

    def __bool__(self) -> bool:
        return bool(self._counts)

    def add(self, name: str, label: str = "", amount: float = 1.0) -> None:
        """Add `amount` to a counter."""
        self._counts[name, label] = self._counts.get((name, label), 0.0) + amount

    def attempt(self, outcome: str, seconds: float) -> None:
        """Count one attempt and the duration of its exchange."""
        self.add(ATTEMPTS, outcome)
        self.add(ATTEMPT_SECONDS, bucket_of(seconds))
        self.add(ATTEMPT_SECONDS_SUM, amount=max(0.0, seconds))

    def request(self, path: str, status: int, seconds: float) -> None:
        """Count one request to the intake; `path` as a template, without anything that a client wrote."""
        self.add(REQUESTS, f"{path} {status}")
        self.add(REQUEST_SECONDS, f"{path} {bucket_of(seconds, REQUEST_BUCKETS)}")
        self.add(REQUEST_SECONDS_SUM, path, max(0.0, seconds))

    def clear(self) -> None:
        """Reset all counters, after they were stored."""
        self._counts.clear()


def bucket_of(seconds: float, bounds: Sequence[float] = BUCKETS) -> str:
    """Return the upper bound of the bucket of `seconds`, as Prometheus writes it."""
    bound = next(bound for bound in bounds if seconds <= bound)
    return "+Inf" if bound == float("inf") else str(bound)


NO_ACCOUNT: Final = ""

_ADD = HotStatement("""
INSERT INTO dispatcher.tallies (name, account, label, value)
SELECT name, CAST(:account AS text), label, value
FROM unnest(CAST(:names AS text[]), CAST(:labels AS text[]), CAST(:values AS float8[])) AS counted (name, label, value)
ORDER BY name, label
ON CONFLICT (name, account, label) DO UPDATE SET value = tallies.value + excluded.value
""")

_READ = text("SELECT name, account, label, value FROM dispatcher.tallies ORDER BY name, account, label")


def add(connection: Connection, account: str, tally: Tally) -> None:
    """Add the counters of one process for an account."""
    if tally:
        statement, parameters = adding(account, tally)
        statement.count(connection, parameters)


def adding(account: str, tally: Tally) -> Call:
    """Return the statement of `add` and its parameters, for a tally that is not empty."""
    names, labels, values = zip(*tally, strict=True)
    return _ADD, {"account": account, "names": list(names), "labels": list(labels), "values": list(values)}


def read(connection: ReadConnection) -> list[Counted]:
    """Return every counter."""
    return [Counted(row.name, row.account, row.label, row.value) for row in connection.execute(_READ)]
