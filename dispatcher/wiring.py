"""The composition root: every part of the dispatcher, made from `Settings` in one place.

Each part imports its code when it is first used, so that a producer or a command loads only what it needs.
"""

import os
import socket
from collections.abc import Callable, Collection
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from dispatcher.config.settings import Settings
from dispatcher.errors import NotConfigured
from dispatcher.store.database import Database, Rehearsal
from dispatcher.store.encryption import KeyRing

if TYPE_CHECKING:
    from dispatcher.alerts.alerting import AlertThread
    from dispatcher.broker.doorbell import Bell
    from dispatcher.broker.limiter import Limiter, Rate
    from dispatcher.config.account import RateWindow, Token
    from dispatcher.intake.bulk import Bulk
    from dispatcher.intake.submit import Intake
    from dispatcher.operator.blocks import Blocks
    from dispatcher.operator.campaigns import Campaigns
    from dispatcher.operator.corrections import Corrections
    from dispatcher.operator.erasure import Erasure
    from dispatcher.operator.inbox import Inbox
    from dispatcher.operator.leads import Reads
    from dispatcher.operator.operations import Operations
    from dispatcher.operator.overview import Overview, RateUse
    from dispatcher.operator.pause import GateKeeper
    from dispatcher.operator.person import People
    from dispatcher.operator.recovery import Recovery
    from dispatcher.operator.rekey import Rekeying
    from dispatcher.operator.replay import Failures
    from dispatcher.operator.retention import Pruner
    from dispatcher.store.blocks import Screening
    from dispatcher.store.confinement import Confinements
    from dispatcher.store.pseudonym import Pseudonyms
    from dispatcher.store.reading import Reading, Replica
    from dispatcher.sweep.sweep import Sweep
    from dispatcher.voicery.client import VoiceryClient
    from dispatcher.voicery.tokens import Tokens

T = TypeVar("T")

PRODUCER_CONNECTIONS: Final = 5


class _Part(Generic[T]):
    """An attribute of `Services` that is built when it is first read, once, whichever thread reads it.

    Building connects to nothing, so no lock is held, which a fork could copy locked: where two threads build at the
    same time, both get the one that was stored first.
    """

    def __init__(self, build: "Callable[[Services], T]") -> None:
        self._build = build
        self.__doc__ = build.__doc__

    def __set_name__(self, _owner: type, name: str) -> None:
        self._name = name

    def __get__(self, services: "Services", _owner: type) -> T:
        # Stored under its own name, it hides this descriptor from then on.
        stored: T = services.__dict__.setdefault(self._name, self._build(services))
        return stored


class Services:
    """The parts that one process of one deployment shares. Thread-safe and fork-safe; making it connects to nothing.

    settings     where the stores and Voicery are
    dry_run      every transaction is rolled back and no worker is woken
    name         how Postgres shows the connections (`application_name`)
    connections  that are kept open to Postgres; as many again may be opened for a moment
    bell         what wakes workers, instead of Redis
    database     Postgres, instead of that of the settings

    A part whose setting is missing raises `NotConfigured` when it is first read.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        dry_run: bool = False,
        name: str = "dispatcher-producer",
        connections: int = PRODUCER_CONNECTIONS,
        bell: "Bell | None" = None,
        database: Database | None = None,
    ) -> None:
        self.settings = settings
        self.accounts: Collection[str] = settings.accounts
        if database is not None:
            self.__dict__["database"] = database
        self.dry_run = dry_run
        self._name = name
        self._connections = connections
        self._bell = bell
        self._clients: dict[str, tuple[str, VoiceryClient]] = {}  # the client of the token that was asked for last
        self._tokens: dict[str, Tokens] = {}
        self._confined: dict[frozenset[str], Services] = {}

    # Stores -----------------------------------------------------------------------------------------------------------

    @_Part
    def database(self) -> Database:
        """Postgres."""
        return self._database(Rehearsal if self.dry_run else Database)

    def _database(
        self,
        kind: type[Database],
        url: str | None = None,
        **more: Any,  # noqa: ANN401  (arguments of `Database`)
    ) -> Database:
        return kind(
            url or self.settings.require_database_url(),
            name=self._name,
            pool_size=self._connections,
            pooler=self.settings.pooler,
            key_ring=KeyRing.of(self.settings),
            **more,
        )

    @_Part
    def confinements(self) -> "Confinements":
        """The databases of some accounts alone; they share connections, which no other part uses."""
        from dispatcher.store.confinement import Confinements

        return Confinements(lambda driver: self._database(Database, driver=driver))

    def confined(self, accounts: frozenset[str]) -> "Services":
        """Return the parts whose reads and writes are confined to these accounts. The same call, the same parts.

        A read finds nothing of other accounts, and a write of theirs raises `OutOfReach`, whatever the statement. For
        faces that act for a person; a worker serves all accounts.
        """
        known = self._confined.get(accounts)
        if known is None:
            made = Services(self.settings, name=self._name, bell=self._bell, database=self.confinements.to(accounts))
            made.__dict__["reading"] = self._confined_reading(accounts, made.database)
            made.accounts = [name for name in self.settings.accounts if name in accounts]
            known = self._confined.setdefault(accounts, made)
        return known

    @_Part
    def replica(self) -> "Replica | None":
        """The replica of `DATABASE_READ_URL`; None without one, and in a dry run, which reads what it has changed."""
        from dispatcher.store.reading import Replica

        url = self.settings.database_read_url
        if url is None or self.dry_run:
            return None
        database = self._database(Database, url.reveal(), read_only=True)
        return Replica(database, self.database, lag_max_seconds=self.settings.read_lag_max_seconds)

    @_Part
    def reading(self) -> "Reading":
        """Where lists are read. What is decided is decided by `database`."""
        from dispatcher.store.reading import Reading

        if self.replica is None:
            return Reading(self.database)
        return Reading(self.database, self.replica, self.replica.database)

    @_Part
    def replica_confinements(self) -> "Confinements":
        """The same as `confinements` for the replica."""
        from dispatcher.store.confinement import Confinements

        url = self.settings.database_read_url
        if url is None:
            raise NotConfigured("DATABASE_READ_URL is not set.")
        return Confinements(lambda driver: self._database(Database, url.reveal(), read_only=True, driver=driver))

    def _confined_reading(self, accounts: frozenset[str], primary: Database) -> "Reading":
        from dispatcher.store.reading import Reading

        if self.replica is None:
            return Reading(primary)
        return Reading(primary, self.replica, self.replica_confinements.to(accounts))

    @_Part
    def bell(self) -> "Bell":
        """The doorbell. Without `REDIS_URL` it does nothing: the sweep rings."""
        from dispatcher.broker.doorbell import Doorbell, NullDoorbell

        if self._bell is not None:
            return self._bell
        if self.dry_run or self.settings.redis_url is None:
            return NullDoorbell()
        return Doorbell(self.settings.redis_url.reveal())

    @_Part
    def limiter(self) -> "Limiter":
        """The permits of all accounts."""
        from dispatcher.broker.connection import connect
        from dispatcher.broker.limiter import Limiter
        from dispatcher.store import accounts

        return Limiter(connect(self.settings.require_redis_url()), history=accounts.history(self.database))

    def rate(self, account: str, *, campaign_id: int = 0, campaign_windows: "tuple[RateWindow, ...]" = ()) -> "Rate":
        """Return the rate limit of an account, or of one of its channels with the campaign's own windows."""
        from dispatcher.broker.limiter import Rate

        return Rate(
            self.limiter,
            account,
            self.settings.rate_limit,
            campaign_id=campaign_id,
            campaign_windows=campaign_windows,
        )

    def tokens(self, account: str) -> "Tokens":
        """Return what says which token of the account is used, the same at each call. Raises `NotConfigured`."""
        from dispatcher.voicery.tokens import Tokens

        if account not in self._tokens:
            return self._tokens.setdefault(account, Tokens(self.settings.account(account)))
        return self._tokens[account]

    def client(self, account: str, token: "Token | None" = None) -> "VoiceryClient":
        """Return the client of an account that sends this token, or the current one. Raises `NotConfigured`.

        The same token has the same client, with its connections. Evidence belongs to a token, so none changes within a
        run: what is written into a file meanwhile counts from the next run on.
        """
        from dispatcher.voicery.client import VoiceryClient

        token = token or self.tokens(account).current()
        known = self._clients.get(account)
        if known is None or known[0] != token.fingerprint:
            settings, configured = self.settings, self.settings.account(account)
            client = VoiceryClient(
                base_url=configured.base_url,
                token=token.secret,
                connect_timeout_seconds=settings.connect_timeout_seconds,
                read_timeout_seconds=settings.read_timeout_seconds,
                deadline_seconds=settings.deadline_seconds,
                proxy=settings.proxy.reveal() if settings.proxy else None,
                ca_bundle=str(settings.ca_bundle) if settings.ca_bundle else None,
                allow_http=settings.allow_http,
            )
            if known is not None:
                known[1].close()  # its idle connections: an exchange that runs keeps its own
            known = self._clients[account] = (token.fingerprint, client)
        return known[1]

    @_Part
    def pseudonyms(self) -> "Pseudonyms":
        """The keyed hashes of persons. Reads the key, where it is in a file."""
        from dispatcher.store.pseudonym import Pseudonyms

        return Pseudonyms.of(self.settings)

    @_Part
    def screening(self) -> "Screening":
        """How it is checked who must not be called."""
        from dispatcher.store.blocks import Screening

        return Screening.of(self.settings, self.pseudonyms)

    # For producers ----------------------------------------------------------------------------------------------------

    @_Part
    def intake(self) -> "Intake":
        """Stores single leads; rings in a thread, so that Redis never delays a `submit`."""
        from dispatcher.intake.submit import Intake

        if not self.dry_run:
            self.settings.require_redis_url()
        return Intake(self.database, self.ringer, self.screening)

    @_Part
    def ringer(self) -> "Bell":
        """The doorbell, rung by a thread."""
        from dispatcher.broker.doorbell import NullDoorbell, Ringer

        return NullDoorbell() if self.dry_run else Ringer(self.bell)

    @_Part
    def bulk(self) -> "Bulk":
        """Stores batches of leads, chunk by chunk."""
        from dispatcher.intake.bulk import Bulk

        if not self.dry_run:
            self.settings.require_redis_url()
        return Bulk(self.database, self.ringer, self.screening)

    def warm_up(self, connections: int = 1) -> None:
        """Build what a producer needs and connect it. See `Dispatcher.warm_up`."""
        from dispatcher.lead.lead import Lead
        from dispatcher.store.migration import check

        if not 1 <= connections <= self._connections:
            raise ValueError(f"connections: {connections!r} is not 1 to {self._connections}; choose one of these.")
        _ = self.intake, self.bulk
        Lead.parse({"phone_number": "+12025550123", "campaign_id": 1})  # loads the tables of numbers
        with ExitStack() as stack:
            for _ in range(connections):
                check(stack.enter_context(self.database.autocommit()))
        self.bell.waiting()

    # For operators ----------------------------------------------------------------------------------------------------

    @_Part
    def reads(self) -> "Reads":
        """Single leads and lists of them."""
        from dispatcher.operator.leads import Reads

        return Reads(self.database)

    def overview(self, reading: "Reading | None" = None) -> "Overview":
        """Return the counts and the condition of the whole queue, from the primary or as `reading` has them."""
        from dispatcher.operator import overview

        read = self.database.again(overview.read) if reading is None else reading.survey(overview.read)
        return replace(read, rate=self.rate_use())

    @_Part
    def failures(self) -> "Failures":
        """Replaying and resolving failed leads; and cancelling."""
        from dispatcher.operator.replay import Failures

        return Failures(self.database, self.bell, self.screening)

    @_Part
    def operations(self) -> "Operations":
        """Bulk work that is stored and done by the workers."""
        from dispatcher.operator.operations import Operations

        return Operations(self.database, self.screening)

    @_Part
    def corrections(self) -> "Corrections":
        """Correcting a failed lead, and sending it again."""
        from dispatcher.operator.corrections import Corrections

        return Corrections(self.database, self.screening)

    @_Part
    def gates(self) -> "GateKeeper":
        """Pausing and resuming."""
        from dispatcher.operator.pause import GateKeeper

        return GateKeeper(self.database)

    @_Part
    def blocks(self) -> "Blocks":
        """The list of persons who must not be called."""
        from dispatcher.operator.blocks import Blocks

        return Blocks(self.database, self.pseudonyms)

    @_Part
    def inbox(self) -> "Inbox":
        """What was submitted by SQL and waits, or was rejected."""
        from dispatcher.operator.inbox import Inbox

        return Inbox(self.database)

    @_Part
    def campaigns(self) -> "Campaigns":
        """The campaigns and their limits."""
        from dispatcher.operator.campaigns import Campaigns

        return Campaigns(self.database)

    @_Part
    def pruner(self) -> "Pruner":
        """Deleting leads that ended long ago, on request."""
        from dispatcher.operator.retention import Pruner

        return Pruner(self.database)

    @_Part
    def rekeying(self) -> "Rekeying":
        """Encrypting what is stored, under the first key."""
        from dispatcher.operator.rekey import Rekeying

        return Rekeying(self.database)

    @_Part
    def recovery(self) -> "Recovery":
        """Holding what may have been sent, after the database has forgotten."""
        from dispatcher.intake.inbox import Taking
        from dispatcher.operator.recovery import Recovery

        def take_inbox() -> None:
            taking = Taking(self.database, self.bell, lambda: self.screening)
            while taking.step().rows:
                pass

        return Recovery(self.database, take_inbox, lease_seconds=self.settings.lease_seconds)

    @_Part
    def erasure(self) -> "Erasure":
        """Erasing a person."""
        from dispatcher.operator.erasure import Erasure

        return Erasure(self.database, self.pseudonyms)

    @_Part
    def people(self) -> "People":
        """What is held of a person."""
        from dispatcher.operator.person import People

        return People(self.database, self.pseudonyms)

    def rate_use(self) -> "tuple[RateUse, ...] | None":
        """Return the use of each window of the rate limit; empty without a limit, None without Redis."""
        windows = self.settings.rate_limit
        if not windows:
            return ()
        if self.settings.redis_url is None:
            return None
        from dispatcher.broker.limiter import LimiterUnavailable
        from dispatcher.operator.overview import RateUse

        try:
            return tuple(
                RateUse(account, use.permits, use.seconds, use.used)
                for account in self.accounts
                for use in self.limiter.usage(account, windows)
            )
        except LimiterUnavailable:
            return None

    def held_seconds(self) -> float:
        """Return for how long Redis lets nothing through, of the account where that is longest; 0.0 without Redis."""
        from dispatcher.broker.limiter import LimiterUnavailable

        if not self.settings.rate_limit or self.settings.redis_url is None:
            return 0.0
        try:
            return max(map(self.limiter.held_seconds, self.accounts), default=0.0)
        except LimiterUnavailable:
            return 0.0

    # For the worker ---------------------------------------------------------------------------------------------------

    def sweep(self, worker: str) -> "Sweep":
        """Return the sweep of a worker, which this process does."""
        from dispatcher.intake.inbox import InboxThread, Taking
        from dispatcher.operator.retention import Pruning
        from dispatcher.sweep.sweep import Sweep

        self.settings.require_redis_url()
        return Sweep(
            self.database,
            self.bell,
            self.rate,
            self.operations,
            Pruning(self.database, self.settings),
            name=f"{worker}:{os.getpid()}",
            worker=worker,
            settle_seconds=self.settings.settle_seconds,
            interval_seconds=self.settings.sweep_interval_seconds,
            gate_wait_max_seconds=self.settings.gate_wait_max_seconds,
            alerting=self._alerting(),
            inbox=InboxThread(Taking(self.database, self.bell, lambda: self.screening)),
        )

    def _alerting(self) -> "AlertThread | None":
        """Return what sends alerts; None without a webhook."""
        from dispatcher.alerts.alerting import AlertThread, Webhook
        from dispatcher.alerts.signing import Signing

        settings = self.settings
        if settings.alert_webhook_url is None:
            return None
        secrets = (settings.alert_webhook_secret, settings.alert_webhook_secret_next)
        signing = Signing(
            tuple(secret for secret in secrets if secret is not None), former=settings.alert_headers == "both"
        )
        webhook = Webhook(settings.alert_webhook_url, signing)
        return AlertThread(self.database, webhook, quiet_seconds=settings.alert_quiet_seconds)

    def close(self) -> None:
        """Close the connections of this process; the next use of a part opens new ones."""
        replica = self.__dict__.get("replica")
        if replica is not None:
            replica.database.close()
        for name in ("database", "confinements", "replica_confinements"):
            part: Any = self.__dict__.get(name)
            if part is not None:
                part.close()
        for _, client in tuple(self._clients.values()):
            client.close()


def worker_name(main_pid: int) -> str:
    """Return the name of a worker in the table `workers`, in attempts and in logs."""
    return f"{socket.gethostname()}:{main_pid}"
