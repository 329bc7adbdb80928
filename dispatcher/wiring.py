"""The composition root: every part of the dispatcher, made from `Settings` in one place.

Each part imports its code when it is first used, so that a producer or a command loads only what it needs.
"""

import os
import socket
from collections.abc import Collection
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from dispatcher.config.settings import Settings
from dispatcher.part import LazyPart
from dispatcher.store.database import Database
from dispatcher.store.databases import Databases

if TYPE_CHECKING:
    from dispatcher.alerts.alerting import AlertThread
    from dispatcher.broker.doorbell import Bell
    from dispatcher.broker.limiter import Limiter, Rate
    from dispatcher.config.account import RateWindow
    from dispatcher.intake.bulk import Bulk
    from dispatcher.intake.submit import Intake
    from dispatcher.intake.together import Together
    from dispatcher.operator.blocks import Blocks
    from dispatcher.operator.campaigns import Campaigns
    from dispatcher.operator.corrections import Corrections
    from dispatcher.operator.erasure import Erasure
    from dispatcher.operator.inbox_list import Inbox
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
    from dispatcher.store.pseudonym import Pseudonyms
    from dispatcher.store.reading import Reading
    from dispatcher.sweep.sweep import Sweep
    from dispatcher.voicery.clients import Clients

PRODUCER_CONNECTIONS: Final = 5


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
        self._confined: dict[frozenset[str], Services] = {}

    # Stores -----------------------------------------------------------------------------------------------------------

    @LazyPart
    def databases(self) -> Databases:
        """Postgres: the primary, a replica, and both for some accounts alone."""
        return Databases(self.settings, name=self._name, connections=self._connections, dry_run=self.dry_run)

    @LazyPart
    def database(self) -> Database:
        """The primary: what is decided is decided here."""
        return self.databases.primary

    @LazyPart
    def reading(self) -> "Reading":
        """Where lists are read."""
        return self.databases.reading

    def confined(self, accounts: frozenset[str]) -> "Services":
        """Return the parts whose reads and writes are confined to these accounts. The same call, the same parts.

        A read finds nothing of other accounts, and a write of theirs raises `OutOfReach`, whatever the statement. For
        faces that act for a person; a worker serves all accounts.
        """
        known = self._confined.get(accounts)
        if known is None:
            database, reading = self.databases.confined(accounts)
            made = Services(self.settings, name=self._name, bell=self._bell, database=database)
            made.__dict__["reading"] = reading
            made.accounts = [name for name in self.settings.accounts if name in accounts]
            known = self._confined.setdefault(accounts, made)
        return known

    @LazyPart
    def bell(self) -> "Bell":
        """The doorbell. Without `REDIS_URL` it does nothing: the sweep rings."""
        from dispatcher.broker.doorbell import Doorbell, NullDoorbell

        if self._bell is not None:
            return self._bell
        if self.dry_run or self.settings.redis_url is None:
            return NullDoorbell()
        return Doorbell(self.settings.redis_url.reveal())

    @LazyPart
    def limiter(self) -> "Limiter":
        """The permits of all accounts."""
        from dispatcher.broker.connection import connect
        from dispatcher.broker.limiter import Limiter
        from dispatcher.store import accounts

        return Limiter(connect(self.settings.require_redis_url()), history=accounts.history(self.database))

    def rate(self, account: str, *, campaign_id: int = 0, campaign_windows: "tuple[RateWindow, ...]" = ()) -> "Rate":
        """Return the rate limit of an account, or of one of its channels with the campaign's own windows."""
        from dispatcher.broker.limiter import Rate

        limit = self.settings.rate_limit
        return Rate(self.limiter, account, limit, campaign_id=campaign_id, campaign_windows=campaign_windows)

    @LazyPart
    def clients(self) -> "Clients":
        """The clients of Voicery, for each account."""
        from dispatcher.voicery.clients import Clients

        return Clients(self.settings)

    @LazyPart
    def pseudonyms(self) -> "Pseudonyms":
        """The keyed hashes of persons. Reads the key, where it is in a file."""
        from dispatcher.store.pseudonym import Pseudonyms

        return Pseudonyms.of(self.settings)

    @LazyPart
    def screening(self) -> "Screening":
        """How it is checked who must not be called."""
        from dispatcher.store.blocks import Screening

        return Screening.of(self.settings, self.pseudonyms)

    # For producers ----------------------------------------------------------------------------------------------------

    @LazyPart
    def intake(self) -> "Intake":
        """Stores single leads; rings in a thread, so that Redis never delays a `submit`."""
        from dispatcher.intake.submit import Intake

        if not self.dry_run:
            self.settings.require_redis_url()
        return Intake(self.database, self.ringer, self.screening)

    @LazyPart
    def together(self) -> "Together":
        """Stores single leads that are submitted at the same moment."""
        from dispatcher.intake.together import Together

        return Together(self.database, self.ringer, self.screening)

    @LazyPart
    def ringer(self) -> "Bell":
        """The doorbell, rung by a thread."""
        from dispatcher.broker.doorbell import NullDoorbell
        from dispatcher.broker.ringer import Ringer

        return NullDoorbell() if self.dry_run else Ringer(self.bell)

    @LazyPart
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

    @LazyPart
    def reads(self) -> "Reads":
        """Single leads and lists of them."""
        from dispatcher.operator.leads import Reads

        return Reads(self.database)

    def overview(self, reading: "Reading | None" = None) -> "Overview":
        """Return the counts and the condition of the whole queue, from the primary or as `reading` has them."""
        from dispatcher.operator import overview

        read = self.database.again(overview.read) if reading is None else reading.survey(overview.read)
        return replace(read, rate=self.rate_use())

    @LazyPart
    def failures(self) -> "Failures":
        """Replaying and resolving failed leads; and cancelling."""
        from dispatcher.operator.replay import Failures

        return Failures(self.database, self.bell, self.screening)

    @LazyPart
    def operations(self) -> "Operations":
        """Bulk work that is stored and done by the workers."""
        from dispatcher.operator.operations import Operations

        return Operations(self.database, self.screening)

    @LazyPart
    def corrections(self) -> "Corrections":
        """Correcting a failed lead, and sending it again."""
        from dispatcher.operator.corrections import Corrections

        return Corrections(self.database, self.screening)

    @LazyPart
    def gates(self) -> "GateKeeper":
        """Pausing and resuming."""
        from dispatcher.operator.pause import GateKeeper

        return GateKeeper(self.database)

    @LazyPart
    def blocks(self) -> "Blocks":
        """The list of persons who must not be called."""
        from dispatcher.operator.blocks import Blocks

        return Blocks(self.database, self.pseudonyms)

    @LazyPart
    def inbox(self) -> "Inbox":
        """What was submitted by SQL and waits, or was rejected."""
        from dispatcher.operator.inbox_list import Inbox

        return Inbox(self.database)

    @LazyPart
    def campaigns(self) -> "Campaigns":
        """The campaigns and their limits."""
        from dispatcher.operator.campaigns import Campaigns

        return Campaigns(self.database)

    @LazyPart
    def pruner(self) -> "Pruner":
        """Deleting leads that ended long ago, on request."""
        from dispatcher.operator.retention import Pruner

        return Pruner(self.database)

    @LazyPart
    def rekeying(self) -> "Rekeying":
        """Encrypting what is stored, under the first key."""
        from dispatcher.operator.rekey import Rekeying

        return Rekeying(self.database)

    @LazyPart
    def recovery(self) -> "Recovery":
        """Holding what may have been sent, after the database has forgotten."""
        from dispatcher.intake.inbox_taking import Taking
        from dispatcher.operator.recovery import Recovery

        def take_inbox() -> None:
            taking = Taking(self.database, self.bell, lambda: self.screening)
            while taking.step().rows:
                pass

        return Recovery(self.database, take_inbox, lease_seconds=self.settings.lease_seconds)

    @LazyPart
    def erasure(self) -> "Erasure":
        """Erasing a person."""
        from dispatcher.operator.erasure import Erasure

        return Erasure(self.database, self.pseudonyms)

    @LazyPart
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

    def sweep(self, worker: str, *, own_process: bool = False) -> "Sweep":
        """Return the sweep of a worker. `own_process`: nothing else runs in it, and a row that hangs may end it."""
        from dispatcher.intake.inbox_taking import PATIENCE_SECONDS, InboxThread, Taking
        from dispatcher.operator.retention import Pruning
        from dispatcher.sweep.sweep import Sweep
        from dispatcher.sweep.timelines import Watch

        self.settings.require_redis_url()
        patience_seconds = PATIENCE_SECONDS if own_process else None
        taking = Taking(self.database, self.bell, lambda: self.screening, patience_seconds=patience_seconds)
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
            inbox=InboxThread(taking),
            timelines=Watch(self.database, self.recovery.recover),
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
        for name in ("database", "databases", "clients"):
            part: Any = self.__dict__.get(name)
            if part is not None:
                part.close()


def worker_name(main_pid: int) -> str:
    """Return the name of a worker in the table `workers`, in attempts and in logs."""
    return f"{socket.gethostname()}:{main_pid}"
