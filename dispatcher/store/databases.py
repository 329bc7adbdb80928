"""The databases of one process: the primary, a replica for reading, and each of them confined to some accounts."""

from typing import TYPE_CHECKING, Any

from dispatcher.config.settings import Settings
from dispatcher.errors import NotConfigured
from dispatcher.part import LazyPart
from dispatcher.store.database import Database, Rehearsal
from dispatcher.store.encryption import KeyRing

if TYPE_CHECKING:
    from dispatcher.store.confinement import Confinements
    from dispatcher.store.reading import Reading, Replica


class Databases:
    """Makes them from the settings, when they are first used. Thread-safe and fork-safe.

    name         how Postgres shows the connections (`application_name`)
    connections  that are kept open to each; as many again may be opened for a moment
    dry_run      every transaction is rolled back
    """

    def __init__(self, settings: Settings, *, name: str, connections: int, dry_run: bool) -> None:
        self._settings = settings
        self._name = name
        self._connections = connections
        self._dry_run = dry_run

    @LazyPart
    def primary(self) -> Database:
        """Where everything is decided and written. Raises `NotConfigured`."""
        return self._make(Rehearsal if self._dry_run else Database, self._settings.require_database_url())

    @LazyPart
    def replica(self) -> "Replica | None":
        """The replica of `DATABASE_READ_URL`; None without one, and in a dry run, which reads what it has changed."""
        from dispatcher.store.reading import Replica

        if self._settings.database_read_url is None or self._dry_run:
            return None
        database = self._make(Database, self._replica_url(), read_only=True)
        return Replica(database, self.primary, lag_max_seconds=self._settings.read_lag_max_seconds)

    @LazyPart
    def reading(self) -> "Reading":
        """Where lists are read. What is decided is decided by the primary."""
        from dispatcher.store.reading import Reading

        if self.replica is None:
            return Reading(self.primary)
        return Reading(self.primary, self.replica, self.replica.database)

    def confined(self, accounts: frozenset[str]) -> "tuple[Database, Reading]":
        """Return the primary, and where lists are read, each confined to these accounts."""
        from dispatcher.store.reading import Reading

        primary = self._confinements.to(accounts)
        if self.replica is None:
            return primary, Reading(primary)
        return primary, Reading(primary, self.replica, self._replica_confinements.to(accounts))

    @LazyPart
    def _confinements(self) -> "Confinements":
        """The primary for some accounts alone; they share connections, which no other part uses."""
        from dispatcher.store.confinement import Confinements

        url = self._settings.require_database_url()
        return Confinements(lambda driver: self._make(Database, url, driver=driver))

    @LazyPart
    def _replica_confinements(self) -> "Confinements":
        """The same for the replica."""
        from dispatcher.store.confinement import Confinements

        url = self._replica_url()
        return Confinements(lambda driver: self._make(Database, url, read_only=True, driver=driver))

    def close(self) -> None:
        """Close the connections of this process; the next use opens new ones."""
        replica = self.__dict__.get("replica")
        if replica is not None:
            replica.database.close()
        for name in ("primary", "_confinements", "_replica_confinements"):
            made: Any = self.__dict__.get(name)
            if made is not None:
                made.close()

    def _replica_url(self) -> str:
        if self._settings.database_read_url is None:
            raise NotConfigured("DATABASE_READ_URL is not set.")
        return self._settings.database_read_url.reveal()

    def _make(self, kind: type[Database], url: str, **more: Any) -> Database:  # noqa: ANN401  (arguments of `Database`)
        return kind(
            url,
            name=self._name,
            pool_size=self._connections,
            pooler=self._settings.pooler,
            key_ring=KeyRing.of(self._settings),
            **more,
        )
