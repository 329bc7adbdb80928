"""`Dispatcher`: the Python API. Producers, operators, the command line and the console use the same object.

Importing this module loads what a producer's `submit` needs. What only an operator or a worker needs is imported by the
method that uses it, so that a producer starts quickly.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from dispatcher.asynchronous import AsyncProducer, Threads
from dispatcher.config.settings import Settings
from dispatcher.lead.options import DEFAULT_ACCOUNT, BatchResult, Submission
from dispatcher.operating import Operating
from dispatcher.store.database import Database
from dispatcher.wiring import Services

if TYPE_CHECKING:
    from dispatcher.importing.importer import Importer
    from dispatcher.intake.bulk import Bulk
    from dispatcher.intake.joining import Caller
    from dispatcher.lead.candidate import Item
    from dispatcher.lead.lead import Lead


class Dispatcher(AsyncProducer, Operating):
    """The queue of one deployment. Thread-safe and fork-safe; making one connects to nothing.

    Args:
        settings: where the stores and Voicery are; `Settings.from_environment()` reads the variables.
        rehearsing: a dry run. Everything is done in transactions that are rolled back, and no worker is woken, so that
            a refusal is the one that the real call would get.

    Example:
        >>> with_settings = dispatcher.Dispatcher(dispatcher.Settings.from_environment())
        >>> with_settings.overview().counts["pending"].value
        0
        >>> with_settings.close()
    """

    def __init__(self, settings: Settings, *, rehearsing: bool = False) -> None:
        self._services = Services(settings, dry_run=rehearsing)
        self._threads = Threads()

    def warm_up(self, *, connections: int = 1) -> None:
        """Do now what the first `submit` would have to wait for: load the code, and connect to Postgres and Redis.

        For the start of a server; call it in each process, after a fork. From a coroutine:
        `await asyncio.to_thread(dispatcher.warm_up)`. An unreachable Redis is no error.

        Args:
            connections: how many to open to Postgres, 1 to 5: as many `submit` at the same time without connecting.

        Raises:
            ValueError: `connections` is not 1 to 5.
            SchemaOutOfDate: the database lacks this version's tables.
            StoreUnavailable: Postgres cannot be reached.
            NotConfigured: a setting is missing or unusable.

        Example:
            >>> dispatcher.warm_up()
        """
        self._services.warm_up(connections)

    def submit(
        self,
        lead: "Lead | Mapping[str, Any]",
        *,
        id: UUID | str | None = None,
        idempotency_key: str | None = None,
        account: str = DEFAULT_ACCOUNT,
        priority: int = 0,
        not_before: datetime | timedelta | None = None,
        expires_at: datetime | timedelta | None = None,
        session: "Caller | None" = None,
    ) -> Submission:
        """Store a lead durably; a worker delivers it. Returns after the commit, or raises and stores nothing.

        An unreachable Redis is no error: a sweep finds the lead within about a second.

        Args:
            lead: a `Lead`, or a mapping with its fields. Phone numbers are E.164 (ITU-T E.164).
            id: the lead's id, which makes a repetition safe: the same id again is the same submission. Default: a new
                UUIDv7 (RFC 9562).
            idempotency_key: your name for this submission, up to 200 printable characters, unique within the account.
                The same key with the same payload returns the first submission; with another payload it raises.
            account: the Voicery workspace, 1 to 40 of a-z, 0-9 and _.
            priority: 0 to 9; a higher one is delivered first within its campaign.
            not_before: earliest delivery, an aware datetime or a timedelta from the database's now.
            expires_at: latest delivery, in the same form; afterwards the lead fails as `expired`.
            session: whose transaction to join: the lead is stored if you commit. A SQLAlchemy `Session`,
                `scoped_session` or `Connection`, or a connection of psycopg 3; `asubmit` takes an `AsyncSession`. The
                lead is stored in a savepoint, and the call may wait for another uncommitted lead of the same number; a
                serialization failure or a deadlock is raised as SQLAlchemy or psycopg raises it, for you to repeat your
                transaction. Workers are woken after the commit of a session; after that of a connection a sweep finds
                the lead within about a second.

        Returns:
            The id of the lead, whether it was created by this call, and its state: "pending"; or "duplicate" where
            another lead of this campaign already stands for the number (Voicery refuses a second one unless
            `allow_dupplicate` is set, so it would not be called); or "failed" where the person, or a secondary
            contact, must not be called (see `block`).

        Raises:
            InvalidLead: `errors` lists every bad field; nothing was stored.
            IdempotencyConflict: the key or id belongs to a lead with another payload; nothing was stored.
            SchemaOutOfDate: the database lacks this version's tables; nothing was stored.
            StoreUnavailable: Postgres did not confirm the write within 2 seconds. The lead may be stored or not:
                `submit(lead, id=error.lead_id)` repeats it safely.
            NotConfigured: a setting is missing or unusable.

        Example:
            >>> lead = dispatcher.Lead(phone_number="+14155550100", campaign_id=42, variables={"customer_name": "Ada"})
            >>> first = dispatcher.submit(lead, idempotency_key="order-1815")
            >>> first.state, first.created
            ('pending', True)
            >>> again = dispatcher.submit(lead, idempotency_key="order-1815")
            >>> again.id == first.id, again.created
            (True, False)
        """
        options = {
            "id": id,
            "idempotency_key": idempotency_key,
            "priority": priority,
            "not_before": not_before,
            "expires_at": expires_at,
        }
        return self._services.intake.submit(lead, options, account=account, session=session)

    def submit_many(
        self,
        items: "Iterable[Item]",
        *,
        account: str = DEFAULT_ACCOUNT,
        batch_id: UUID | str | None = None,
        session: "Caller | None" = None,
    ) -> BatchResult:
        """Store many leads durably, committed in chunks of 2000. The rules are those of `submit`, in the items' order.

        Args:
            items: any iterable, consumed once, of leads, mappings, or pairs of either and a mapping of the options of
                `submit`.
            account: the Voicery workspace, 1 to 40 of a-z, 0-9 and _.
            batch_id: makes a repetition of the same items safe, also after a crash: those already stored count as
                `repeated`. An item's id is derived from account, batch_id and its index, unless its options name one.
            session: as in `submit`. With psycopg 3 leads are copied, which is faster than with other drivers.

        Returns:
            The numbers of leads stored, of duplicates and of repeated items, and in `rejected` the index and the faults
            of each item that was refused. A bad item never raises.

        Raises:
            StoreUnavailable: the message names the batch id to repeat with; earlier chunks are stored.
            NotConfigured: a setting is missing or unusable.

            An exception of `items` passes through; the chunks before it are stored.

        Example:
            >>> people = [{"phone_number": f"+1415555010{n}", "campaign_id": 42} for n in range(3)]
            >>> result = dispatcher.submit_many([*people, {"phone_number": "12", "campaign_id": 42}])
            >>> result.submitted, result.duplicates, [index for index, faults in result.rejected]
            (3, 0, [3])
        """
        return self.bulk.submit_many(items, account=account, batch_id=batch_id, session=session)

    def importer(self) -> "Importer":
        """Return what imports files of leads.

        Example:
            >>> queue = dispatcher.Dispatcher(dispatcher.Settings.from_environment())
            >>> importer = queue.importer()
        """
        from dispatcher.importing.importer import Importer

        return Importer(self.bulk, self.database, self.settings.rate_limit)

    @property
    def bulk(self) -> "Bulk":
        """What stores batches of leads, chunk by chunk."""
        return self._services.bulk

    @property
    def settings(self) -> Settings:
        """The settings that this was made with."""
        return self._services.settings

    @property
    def database(self) -> Database:
        """The connection pool to Postgres; made once, at the first use."""
        return self._services.database

    def close(self) -> None:
        """Close the connections of this process; the next call opens new ones.

        Example:
            >>> queue = dispatcher.Dispatcher(dispatcher.Settings.from_environment())
            >>> queue.close()
        """
        self._threads.close()
        self._services.close()
