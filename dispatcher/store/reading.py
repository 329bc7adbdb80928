"""Where lists are read: on a streaming replica while it is near enough, otherwise on the primary. Nothing decides here.

A function may be read from a replica only if it takes a `ReadConnection`. Whatever decides takes a `Connection`, which
the type checker lets nobody pass to `Reading.read`.
"""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec, Protocol, TypeVar

from sqlalchemy import Connection, CursorResult, Executable, text

from dispatcher.errors import StoreUnavailable
from dispatcher.logs import events
from dispatcher.store.database import Database
from dispatcher.store.trouble import Cancelled, StatementRefused, TryAgain

T = TypeVar("T")
P = ParamSpec("P")

MEASURED_SECONDS: Final = 1.0
"""A measured lag counts for this long."""

RETRY_SECONDS: Final = 5.0
"""A replica that failed is not asked again before this time has passed."""


class ReadConnection(Protocol):
    """A connection to the primary or to a replica, whose answers may be old. Every `Connection` is one."""

    def execute(self, statement: Executable, parameters: Mapping[str, Any] | None = None, /) -> CursorResult[Any]:
        """Run a statement that reads."""

    def get_execution_options(self) -> Mapping[str, Any]:
        """Return what the connection carries, e.g. the keys that decrypt."""


ReadQuery = Callable[Concatenate[ReadConnection, P], T]
"""A function that only reads, and that nothing is decided by: it may be given a connection to a replica."""

# Flushed: every commit that was confirmed. What is only inserted may be sent to the standby seconds later.
_PRIMARY: Final = text("""
SELECT CAST(system_identifier AS text) AS cluster, current_database() AS name,
    CAST(pg_current_wal_flush_lsn() AS text) AS written
FROM pg_control_system()
""")

_STANDBY: Final = text("""
SELECT pg_is_in_recovery() AS standby, CAST(system_identifier AS text) AS cluster, current_database() AS name,
    pg_last_wal_replay_lsn() >= CAST(CAST(:written AS text) AS pg_lsn) AS whole,
    CAST(extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()) AS float8) AS seconds
FROM pg_control_system()
""")


@dataclass(frozen=True, slots=True)
class Place:
    """Where lists are read now.

    replica      whether from the replica
    lag_seconds  how old what it shows is; None: from the primary, or not known
    fault        why the replica is not used
    """

    replica: bool
    lag_seconds: float | None = None
    fault: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        return asdict(self)

    @property
    def sentence(self) -> str:
        """What a person is told."""
        if self.replica:
            return f"As of {self.lag_seconds or 0.0:.0f} s ago, from the replica."
        return f"Read from the primary: {self.fault}"


@dataclass(frozen=True, slots=True)
class Lag:
    """What a replica says of itself: how old it is in seconds, or why that is not known."""

    seconds: float | None
    fault: str | None = None


def measure(database: Database, primary: Database) -> Lag:
    """Return how far the replica `database` is behind. Raises what `Database.read` raises for the replica.

    0.0 where everything is replayed that the primary has confirmed; otherwise the age of the last replayed commit, by
    the clocks of both. If the primary cannot be asked, the latter alone counts.
    """
    try:
        source = primary.read(lambda connection: connection.execute(_PRIMARY).one())
    except (StoreUnavailable, TryAgain, StatementRefused):
        source = None
    given = {"written": None if source is None else source.written}
    seen = database.read(lambda connection: connection.execute(_STANDBY, given).one())
    if not seen.standby:
        return Lag(None, "DATABASE_READ_URL leads to no streaming replica; name one, or unset it.")
    if source is not None and (seen.cluster, seen.name) != (source.cluster, source.name):
        return Lag(None, "DATABASE_READ_URL leads to a replica of another database; name one of DATABASE_URL's.")
    if seen.whole:
        return Lag(0.0)
    if seen.seconds is None:
        return Lag(None, "The replica does not say how far it is behind; it has replayed no commit since it started.")
    return Lag(max(0.0, seen.seconds))


class Replica:
    """A streaming replica and what was last measured of it. Thread-safe.

    database          where it is
    primary           what it is compared with
    lag_max_seconds   while it is further behind, it is not used
    """

    def __init__(
        self,
        database: Database,
        primary: Database,
        *,
        lag_max_seconds: float,
        lag: Callable[[Database, Database], Lag] = measure,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.database = database
        self.lag_max_seconds = lag_max_seconds
        self._primary = primary
        self._lag = lag
        self._clock = clock
        self._lock = threading.Lock()
        self._place = Place(replica=True)
        self._until = float("-inf")
        self._whole_at = float("-inf")

    def place(self) -> Place:
        """Return whether it is used, measured within the last second. Never raises."""
        with self._lock:
            if self._clock() >= self._until:
                self._now(self._measured())
            return self._place

    def failed(self, error: Exception) -> None:
        """Do without it for `RETRY_SECONDS`."""
        with self._lock:
            self._now(Place(replica=False, fault=_words(error)))

    def _measured(self) -> Place:
        begun = self._clock()
        try:
            lag = self._lag(self.database, self._primary)
        except (StoreUnavailable, TryAgain, StatementRefused) as error:
            return Place(replica=False, fault=_words(error))
        if lag.fault is not None or lag.seconds is None:
            return Place(replica=False, fault=lag.fault)
        if lag.seconds == 0.0:
            self._whole_at = begun
        # After an hour without a commit the last one is an hour old, and the replica no older than when it had all.
        behind = min(lag.seconds, self._clock() - self._whole_at)
        if behind > self.lag_max_seconds:
            late = f"the replica is {behind:.0f} s behind, DISPATCHER_READ_LAG_MAX is {self.lag_max_seconds:g} s."
            return Place(replica=False, lag_seconds=behind, fault=late)
        return Place(replica=True, lag_seconds=behind)

    def _now(self, place: Place) -> None:
        if place.replica != self._place.replica:
            if place.replica:
                events.info("replica.used", lag_seconds=place.lag_seconds)
            else:
                events.warning("replica.not_used", lag_seconds=place.lag_seconds, fault=place.fault)
        self._place = place
        self._until = self._clock() + (MEASURED_SECONDS if place.replica else RETRY_SECONDS)


class Reading:
    """Reads lists. Without a replica, or where it is late or fails, from the primary.

    primary    the database that decides; confined where the user is
    replica    None: there is no other place
    elsewhere  the database of the replica: confined to the same accounts as `primary`, if that is
    """

    def __init__(self, primary: Database, replica: Replica | None = None, elsewhere: Database | None = None) -> None:
        self._primary = primary
        self._replica = replica
        self._elsewhere = elsewhere

    @property
    def place(self) -> Place | None:
        """Where it reads now; None: no replica is configured."""
        return None if self._replica is None else self._replica.place()

    @property
    def lag_max_seconds(self) -> float:
        """How old what it shows may be at most; 0.0 without a replica."""
        return 0.0 if self._replica is None else self._replica.lag_max_seconds

    def of_now(self) -> "Reading":
        """Return what reads the same from the primary alone."""
        return Reading(self._primary)

    def read(self, query: ReadQuery[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what `query(connection, …)` returns. See `Database.read`; raises what that raises for the primary."""

        def run(database: Database) -> T:
            return database.read(query, *args, **kwargs)

        return self._either(run, lambda: run(self._primary))

    def survey(self, query: ReadQuery[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Return the same in a transaction, whose plans may read whole tables."""

        def run(database: Database) -> T:
            return database.again(query, *args, **kwargs)

        return self._either(run, lambda: run(self._primary))

    def beside(self, connection: Connection, query: ReadQuery[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Return the same from the replica, otherwise on `connection`, in its transaction on the primary."""

        def run(database: Database) -> T:
            return database.again(query, *args, **kwargs)

        return self._either(run, lambda: query(connection, *args, **kwargs))

    def _either(self, run: Callable[[Database], T], otherwise: Callable[[], T]) -> T:
        if self._replica is None or self._elsewhere is None or not self._replica.place().replica:
            return otherwise()
        try:
            return run(self._elsewhere)
        except Cancelled:
            raise  # it took too long, and would on the primary too
        except (StoreUnavailable, TryAgain, StatementRefused) as error:
            self._replica.failed(error)
        return otherwise()


if TYPE_CHECKING:

    def _refused(reading: Reading, deciding: Callable[[Connection], None]) -> None:
        reading.read(deciding)  # type: ignore[arg-type]  # an unused ignore is an error: this must stay refused
        reading.survey(deciding)  # type: ignore[arg-type]


def _words(error: Exception) -> str:
    """Return the error as a sentence about the replica, without any value."""
    if isinstance(error, StoreUnavailable):
        return str(error).replace("DATABASE_URL", "DATABASE_READ_URL")
    if isinstance(error, TryAgain):
        return "The replica cancelled a query, because it was replaying what the primary had removed."
    return "The replica refused a statement; see `dispatcher doctor`."
