"""`Dispatcher`: the public API. Producers, operators, the command line and the console use the same object.

Nothing connects before it is used, and everything that connects belongs to one process.
"""

import os
import threading
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection
from sqlalchemy.orm import Session

from dispatcher.broker.connection import connect
from dispatcher.broker.doorbell import Doorbell, Ringer, Silence
from dispatcher.broker.limiter import Limiter, LimiterUnavailable
from dispatcher.config.account import whoami
from dispatcher.config.settings import Settings
from dispatcher.errors import LeadNotFound
from dispatcher.importing.importer import Importer
from dispatcher.intake.bulk import Bulk
from dispatcher.intake.submit import Intake
from dispatcher.lead.candidate import Item
from dispatcher.lead.lead import Lead
from dispatcher.lead.options import DEFAULT_ACCOUNT, BatchResult, Submission
from dispatcher.lead.phone import mask_numbers
from dispatcher.lookup import doubts
from dispatcher.lookup.lookup import Finding
from dispatcher.operator.campaigns import Campaigns
from dispatcher.operator.corrections import Corrections
from dispatcher.operator.erasure import Erasure
from dispatcher.operator.events import Watch
from dispatcher.operator.failures import FailureFilter, FailureGroup
from dispatcher.operator.lead_record import FailedLead, LeadRecord
from dispatcher.operator.leads import Reads
from dispatcher.operator.ledger import Ledgers
from dispatcher.operator.operations import Operations
from dispatcher.operator.overview import Overview, RateUse
from dispatcher.operator.pause import GateKeeper, Resumed
from dispatcher.operator.replay import MOST_LISTED, Failures, Replayed, Resolved
from dispatcher.operator.retention import Pruner
from dispatcher.store.database import Database, Rehearsal
from dispatcher.worker.deliverer import Deliverer, open_store, worker_name

_PRODUCER_CONNECTIONS: Final = 5


class Dispatcher:
    """The public API with explicit settings. Thread-safe, fork-safe, and lazy: making one is free.

    rehearsing   everything is done and rolled back, and nobody is rung: a dry run with the real refusals
    """

    def __init__(self, settings: Settings, *, rehearsing: bool = False) -> None:
        self._settings = settings
        self._rehearsing = rehearsing
        self._lock = threading.Lock()
        self._intake: Intake | None = None
        self._doorbell: Doorbell | None = None
        self._database: Database | None = None

    def submit(
        self,
        lead: Lead | Mapping[str, Any],
        *,
        id: UUID | str | None = None,
        idempotency_key: str | None = None,
        account: str = DEFAULT_ACCOUNT,
        priority: int = 0,
        not_before: datetime | timedelta | None = None,
        expires_at: datetime | timedelta | None = None,
        session: Session | Connection | None = None,
    ) -> Submission:
        """Make a lead durable; a worker delivers it.

        id                makes a repetition of the same submit safe; by default a new UUIDv7
        idempotency_key   your name for this submission, unique per account; the same key and payload returns the first
        priority          0-9, higher first
        not_before, expires_at   aware datetime, or timedelta from the database's now
        session           joins a transaction of yours: stored if you commit. We work in a savepoint, and may wait for
                          another uncommitted lead of the same number. With a `Session` the doorbell rings after its
                          commit; with a `Connection` the sweep rings, within about a second.

        Raises `InvalidLead` (every fault at once, nothing stored), `IdempotencyConflict`, `SchemaOutOfDate` (nothing
        stored either), or `StoreUnavailable`, whose `lead_id` makes `submit(lead, id=error.lead_id)` a safe
        repetition. Redis being down is no error.
        """
        options = {
            "id": id,
            "idempotency_key": idempotency_key,
            "priority": priority,
            "not_before": not_before,
            "expires_at": expires_at,
        }
        return self._taking_in().submit(lead, options, account=account, session=session)

    def submit_many(
        self,
        items: Iterable[Item],
        *,
        account: str = DEFAULT_ACCOUNT,
        batch_id: UUID | str | None = None,
        session: Session | Connection | None = None,
    ) -> BatchResult:
        """Make many leads durable: any iterable, consumed as it goes, committed in chunks of two thousand.

        items      leads, mappings, or pairs (either, mapping of the options of `submit`)
        batch_id   makes a repetition of the same items safe: what is stored already counts as `repeated`, also after a
                   crash. An item's id is derived from account, batch_id and its index, unless its options name one
        session    joins a transaction of yours, as in `submit`; its driver must be psycopg 3

        The rules are those of `submit`, item by item in their order. Never raises for a bad item: those are listed in
        `rejected`, also an idempotency key or id that belongs to another payload. Raises `StoreUnavailable`, which
        names the batch id to go on with, and what your iterable raises; chunks before that are stored.
        """
        return self.bulk.submit_many(items, account=account, batch_id=batch_id, session=session)

    @property
    def bulk(self) -> Bulk:
        """Takes batches in, chunk by chunk."""
        return Bulk(self.database, self._bell())

    def importer(self) -> Importer:
        """Takes files of leads in."""
        return Importer(self.bulk, self.database, self._settings.rate_limit)

    def _taking_in(self) -> Intake:
        if self._intake is None:
            bell = Silence() if self._rehearsing else Ringer(self._bell())
            database = self.database
            with self._lock:
                if self._intake is None:
                    self._intake = Intake(database, bell)
        return self._intake

    def _bell(self) -> Doorbell:
        with self._lock:
            if self._doorbell is None:
                self._doorbell = Doorbell(self._settings.require_redis_url())
            return self._doorbell

    def get(self, id: UUID | str) -> LeadRecord:
        """Everything about one lead. Raises `LeadNotFound`."""
        return self._reads.get(lead_id_of(id))

    def explain(self, id: UUID | str) -> str:
        """In plain words: why this lead is where it is, and what happens next. Raises `LeadNotFound`."""
        return self._reads.explain(lead_id_of(id))

    def overview(self) -> Overview:
        """The whole queue at a glance."""
        return self._reads.overview()

    def failed(self, *, limit: int = MOST_LISTED, **filters: object) -> list[FailedLead]:
        """Open failures, the latest first; the filters are the fields of `FailureFilter`."""
        return self._failures.failed(FailureFilter.parse(filters), limit=limit)

    def failed_groups(self, **filters: object) -> list[FailureGroup]:
        """The same by cause, the most frequent first."""
        return self._failures.groups(FailureFilter.parse(filters))

    def failed_ids(self, **filters: object) -> list[UUID]:
        """The ids of all leads that the filters match, the longest failed first: what `replay_all` takes."""
        return self._failures.leads(FailureFilter.parse(filters))

    def replay(
        self,
        id: UUID | str,
        *,
        even_if_called: bool = False,
        not_before: datetime | timedelta | None = None,
        actor: str | None = None,
        note: str | None = None,
    ) -> None:
        """Send a failed lead again, as if it were new; with `not_before` no earlier, as in `submit`.

        Raises `LeadNotFound`, or `NotAllowed` with the reason: it has not failed, it expires before it may go, another
        live lead stands for its person, or its earlier POST may have worked. The last is overruled by `even_if_called`,
        which is recorded with `actor`, or by a look-up that proved its absence in the last 10 minutes.
        """
        self._failures.replay(
            lead_id_of(id),
            actor=actor or whoami(),
            even_if_called=even_if_called,
            note=note,
            not_before=not_before,
        )

    def replay_all(
        self,
        ids: Iterable[UUID | str],
        *,
        even_if_called: bool = False,
        not_before: datetime | timedelta | None = None,
        actor: str | None = None,
        note: str | None = None,
        dry_run: bool = False,
        progress: Callable[[], None] = lambda: None,
    ) -> Replayed:
        """Replay each by the rules of `replay`; those refused are listed with the reason, none raises."""
        return self._failures.replay_all(
            map(lead_id_of, ids),
            actor=actor or whoami(),
            even_if_called=even_if_called,
            note=note,
            not_before=not_before,
            dry_run=dry_run,
            progress=progress,
        )

    def resolve(self, id: UUID | str, as_: Resolved, note: str, actor: str | None = None) -> None:
        """Decide about a lead: "accepted", Voicery has it (where its outcome is unknown); "dismissed", it is settled.

        Raises `LeadNotFound`, `NotAllowed`.
        """
        self._failures.resolve(lead_id_of(id), as_, note=note, actor=actor or whoami())

    def cancel(self, id: UUID | str, actor: str | None = None) -> None:
        """Withdraw a lead that no worker has claimed yet. Raises `LeadNotFound`, `NotAllowed`."""
        self._failures.cancel(lead_id_of(id), actor=actor or whoami())

    def pause(
        self,
        campaign_id: int | None = None,
        account: str = DEFAULT_ACCOUNT,
        reason: str | None = None,
        actor: str | None = None,
    ) -> int:
        """Hold a campaign back, or the whole account; returns how many leads are still on their way."""
        return GateKeeper(self.database).pause(campaign_id, account, reason=reason, actor=actor or whoami())

    def resume(
        self, campaign_id: int | None = None, account: str = DEFAULT_ACCOUNT, actor: str | None = None
    ) -> Resumed:
        """Open the gate of a campaign, or of the account, whatever had closed it."""
        return GateKeeper(self.database).resume(campaign_id, account, actor=actor or whoami())

    def look_up(self, ids: Iterable[UUID | str] | None = None, *, most: int = 100) -> list[Finding]:
        """Ask Voicery now for leads whose outcome is unknown: these, or the next `most` of all. Needs a token.

        Leads whose outcome is known are left out. Raises `LeadNotFound`, `NotConfigured`, `LimiterUnavailable`,
        `NoPermit`.
        """
        with self.database.autocommit() as connection:
            wanted = doubts.unknown_ids(connection, None, most=most) if ids is None else list(map(lead_id_of, ids))
        by_account: dict[str, list[UUID]] = {}
        for lead_id in wanted:
            by_account.setdefault(self._reads.get(lead_id).account, []).append(lead_id)
        deliverer = Deliverer(self._settings, stopping=lambda: False, worker=worker_name(os.getpid()))
        try:
            return [
                finding for account, its_ids in by_account.items() for finding in deliverer.look_up(account, its_ids)
            ]
        finally:
            deliverer.close()

    @property
    def _failures(self) -> Failures:
        return Failures(self.database, Silence() if self._rehearsing else LazyBell(self._settings))

    @property
    def settings(self) -> Settings:
        """What it was made with."""
        return self._settings

    @property
    def operations(self) -> Operations:
        """Bulk work that is stored and done by the workers."""
        return Operations(self.database, self._failures)

    @property
    def corrections(self) -> Corrections:
        """Correcting a failed lead, and sending it again."""
        return Corrections(self.database, self._failures)

    @property
    def campaigns(self) -> Campaigns:
        """The campaigns and their limits."""
        return Campaigns(self.database)

    @property
    def ledgers(self) -> Ledgers:
        """Incidents, audit log, imports, activity."""
        return Ledgers(self.database)

    @property
    def pruner(self) -> Pruner:
        """Deleting what ended long ago."""
        return Pruner(self.database)

    @property
    def erasure(self) -> Erasure:
        """Erasing a person."""
        return Erasure(self.database)

    @property
    def watch(self) -> Watch:
        """The leads by any filter, and what happens to them."""
        return Watch(self.database)

    @property
    def _reads(self) -> Reads:
        return Reads(self.database, rate_use=self.rate_use)

    def rate_use(self) -> tuple[RateUse, ...] | None:
        """How much of each window of the rate limit is used; empty without a limit, None without Redis."""
        windows, redis_url = self._settings.rate_limit, self._settings.redis_url
        if not windows:
            return ()
        if redis_url is None:
            return None
        limiter = Limiter(connect(redis_url.reveal()))
        try:
            return tuple(
                RateUse(account, use.permits, use.seconds, use.used)
                for account in self._settings.accounts
                for use in limiter.usage(account, windows)
            )
        except LimiterUnavailable:
            return None

    @property
    def database(self) -> Database:
        """The store of this dispatcher."""
        if self._database is None:
            kind = Rehearsal if self._rehearsing else Database
            self._database = open_store(self._settings, "dispatcher-producer", _PRODUCER_CONNECTIONS, kind)
        return self._database

    def close(self) -> None:
        """Close this process's connections; the next call opens new ones."""
        if self._database is not None:
            self._database.close()


class LazyBell:
    """A doorbell that is made when it is first rung: reading and resolving need no Redis, and the sweep rings too."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._doorbell: Doorbell | None = None

    def ring(self, account: str, campaign_id: int) -> bool:
        """Ring for a channel, if there is a Redis."""
        if self._settings.redis_url is None:
            return False
        if self._doorbell is None:
            self._doorbell = Doorbell(self._settings.redis_url.reveal())
        return self._doorbell.ring(account, campaign_id)


def lead_id_of(id: UUID | str) -> UUID:
    """The id of a lead as typed; raises `LeadNotFound` for what is no id."""
    if isinstance(id, UUID):
        return id
    try:
        return UUID(id)
    except (ValueError, AttributeError, TypeError):
        raise LeadNotFound(mask_numbers(str(id))) from None  # somebody may have typed a phone number
