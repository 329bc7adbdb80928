"""The composition root: everything is built here from `Settings`, and nowhere else.

`Dispatcher` is what producers and operators hold; `Deliverer` is what a worker's tasks hold; `build_sweep` is the
worker's sweep. Nothing connects before it is used, and everything that connects belongs to one process.
"""

import getpass
import os
import random
import socket
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import UUID

from sqlalchemy import Connection
from sqlalchemy.orm import Session

from dispatcher import events
from dispatcher.alerting import Alerting
from dispatcher.asking import NoPermit
from dispatcher.base_url import is_loopback
from dispatcher.broker import connect
from dispatcher.bulk import Bulk
from dispatcher.candidate import Item
from dispatcher.channel import ChannelBell, ChannelRate
from dispatcher.conclusion import LookUpTerms
from dispatcher.delivery import DeliveryRun, Job, RunTerms
from dispatcher.doorbell import Doorbell
from dispatcher.errors import LeadNotFound, NotConfigured
from dispatcher.failure_filter import FailureFilter
from dispatcher.failure_group import FailureGroup
from dispatcher.failures import MOST_LISTED, Failures, Replayed, Resolved
from dispatcher.gate import GateLimits, closed
from dispatcher.gates import GateKeeper, Resumed
from dispatcher.intake import Intake
from dispatcher.lead import Lead
from dispatcher.limiter import Limiter, LimiterUnavailable, Permits
from dispatcher.masking import mask_numbers
from dispatcher.operations import Operations
from dispatcher.options import DEFAULT_ACCOUNT
from dispatcher.outcome import Reason, Rules
from dispatcher.overview import Overview, RateUse
from dispatcher.policy import Budget
from dispatcher.rate import RateWindow, parse_rate_limit
from dispatcher.reads import Reads
from dispatcher.record import FailedLead, LeadRecord
from dispatcher.recording import Finished, Recorder, steady_clock
from dispatcher.resolution import Finding, Resolution
from dispatcher.settings import Settings
from dispatcher.slots import Slots
from dispatcher.store import accounts, doubts, gates, sweeps, tallies
from dispatcher.store.claims import ClaimTerms
from dispatcher.store.database import Database
from dispatcher.submission import BatchResult, Submission
from dispatcher.sweep import Sweep
from dispatcher.tally import RUNS
from dispatcher.verdict import OnUnknown
from dispatcher.voicery.client import VoiceryClient
from dispatcher.webhook import Webhook

_PRODUCER_CONNECTIONS: Final = 5


class Dispatcher:
    """The interface of design section 3, with explicit settings. Thread-safe, fork-safe, and lazy: making one is free."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
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

        Raises `InvalidLead` (every fault at once, nothing stored), `IdempotencyConflict`, or `StoreUnavailable`, whose
        `lead_id` makes `submit(lead, id=error.lead_id)` a safe repetition. Redis being down is no error.
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

    def _taking_in(self) -> Intake:
        bell = self._bell()
        with self._lock:
            if self._intake is None:
                self._intake = Intake(self.database, bell)
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
        self, id: UUID | str, *, even_if_called: bool = False, actor: str | None = None, note: str | None = None
    ) -> None:
        """Send a failed lead again, as if it were new.

        Raises `LeadNotFound`, or `NotAllowed` with the reason: it has not failed, another live lead stands for its
        person, or its earlier POST may have worked. The last is overruled by `even_if_called`, which is recorded with
        `actor`, or by a look-up that proved its absence in the last 10 minutes.
        """
        self._failures.replay(lead_id_of(id), actor=actor or whoami(), even_if_called=even_if_called, note=note)

    def replay_all(
        self,
        ids: Iterable[UUID | str],
        *,
        even_if_called: bool = False,
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

        Leads whose outcome is known are left out. Raises `LeadNotFound`, `NotConfigured`, `LimiterUnavailable`.
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
        return Failures(self.database, LazyBell(self._settings))

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
            self._database = _database(self._settings, "dispatcher-producer", _PRODUCER_CONNECTIONS)
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


class Deliverer:
    """What the tasks of a worker run on: one per process, made after the fork. Thread-safe."""

    def __init__(self, settings: Settings, *, stopping: Callable[[], bool], worker: str) -> None:
        self._settings = settings
        self._stopping = stopping
        self._worker = worker
        redis_url = settings.require_redis_url()
        self._database = _database(settings, "dispatcher-worker", settings.concurrency + 2)
        self._doorbell = Doorbell(redis_url)
        self._limiter = Limiter(connect(redis_url))
        self._clients: dict[str, VoiceryClient] = {}
        self._lock = threading.Lock()

    def deliver(self, account: str, campaign_id: int) -> None:
        """One delivery run of a channel."""
        stored = self._ready(account, campaign_id)
        if stored is None:
            return
        settings = self._settings
        own = parse_rate_limit(stored.rate_limit) if stored.rate_limit else ()
        rate = ChannelRate(self._limiter, account, campaign_id, settings.rate_limit, own)
        binding = binding_of(settings.account(account).base_url)
        recorder = Recorder(
            self._database,
            ClaimTerms(account, campaign_id, self._worker, settings.lease_seconds, settings.park_seconds),
            budget=_budget(settings),
            limits=_gate_limits(settings),
            settle_seconds=settings.settle_seconds,
            uniform=random.uniform,
            clock=steady_clock,
            bind_to=binding if stored.base_url is None else None,
        )
        run = DeliveryRun(
            recorder=recorder,
            client=self._client(account),
            rate=rate,
            bell=ChannelBell(self._doorbell, account, campaign_id),
            slots_of=self._slots,
            terms=RunTerms(
                lease_seconds=settings.lease_seconds,
                deadline_seconds=settings.deadline_seconds,
                run_for_seconds=settings.run_for_seconds,
                rules=Rules(settings.duplicate_rule, settings.safe_statuses),
                reference_variable=settings.reference_variable,
                limited=rate.limited,
            ),
            clock=steady_clock,
            stopping=self._stopping,
        )
        claims = run.run()
        run.tally.add(RUNS, "deliver")
        with self._database.autocommit() as connection:
            sweeps.served(connection, account, campaign_id, self._worker, claims)
            tallies.add(connection, account, run.tally)

    def lookup(self, account: str) -> None:
        """One run of look-ups of an account."""
        if self._ready(account, 0) is not None:
            resolution = self.resolution(account)
            resolution.run()
            bulk = Operations(self._database, Failures(self._database, self._doorbell))
            with suppress(NoPermit, LimiterUnavailable):  # the sweep rings again
                bulk.look_up(account, resolution.look_up, stopping=self._stopping)
            resolution.tally.add(RUNS, "lookup")
            with self._database.autocommit() as connection:
                tallies.add(connection, account, resolution.tally)

    def look_up(self, account: str, ids: Sequence[UUID]) -> list[Finding]:
        """Look these up now. Raises `NotConfigured` where this process must not speak for the account."""
        with self._database.autocommit() as connection:
            fault = self._fault(account, accounts.read(connection, account))
        if fault is not None:
            raise NotConfigured(fault)
        return self.resolution(account).look_up(ids)

    def alert(self) -> None:
        """One run of alerts; nothing where no webhook is set."""
        settings = self._settings
        if settings.alert_webhook_url is None:
            return
        self._doorbell.clear_alerts()
        webhook = Webhook(settings.alert_webhook_url, settings.alert_webhook_secret)
        alerting = Alerting(
            self._database, webhook, quiet_seconds=settings.alert_quiet_seconds, stopping=self._stopping
        )
        alerting.run()
        alerting.tally.add(RUNS, "alert")
        with self._database.autocommit() as connection:
            tallies.add(connection, tallies.NO_ACCOUNT, alerting.tally)

    def resolution(self, account: str) -> Resolution:
        """Look-ups of one account, for one pass."""
        settings = self._settings
        return Resolution(
            self._database,
            self._client(account),
            LookupRate(self._limiter, account, settings.rate_limit),
            self._doorbell,
            account=account,
            terms=LookUpTerms(
                on_unknown=OnUnknown(settings.on_unknown),
                settle_seconds=settings.settle_seconds,
                unknown_for_seconds=settings.unknown_for_seconds,
                reference_variable=settings.reference_variable,
                run_for_seconds=settings.run_for_seconds,
            ),
            limits=_gate_limits(settings),
            clock=steady_clock,
            stopping=self._stopping,
        )

    def close(self) -> None:
        """Give the connections back."""
        self._database.close()
        for client in self._clients.values():
            client.close()

    def _slots(self, work: Callable[[Job], Finished]) -> Slots[Job, Finished]:
        return Slots(self._settings.concurrency, work)

    def _ready(self, account: str, campaign_id: int) -> accounts.Account | None:
        """What is stored of the account; None, and its gate closed, if this worker must not send for it."""
        with self._database.autocommit() as connection:
            stored = accounts.read(connection, account, campaign_id)
        fault = self._fault(account, stored)
        if fault is None:
            return stored
        events.alarm("account.misconfigured", account=account, fault=fault)
        with self._database.transaction() as connection:
            gate, _ = gates.lock(connection, account, campaign_id)
            if gate.reason is not Reason.PAUSED:
                gates.save(connection, closed(gate, Reason.MISCONFIGURED, _gate_limits(self._settings), message=fault))
        return None

    def _fault(self, account: str, stored: accounts.Account) -> str | None:
        try:
            configured = self._settings.account(account)
            configured.read_token()
        except NotConfigured as error:
            return str(error)
        if stored.base_url is not None and stored.base_url != binding_of(configured.base_url):
            return (
                "This worker's VOICERY_BASE_URL is not the one where this account's leads were accepted before; "
                "set that one, or use another database for another Voicery."
            )
        return None

    def _client(self, account: str) -> VoiceryClient:
        with self._lock:
            if account not in self._clients:
                settings, configured = self._settings, self._settings.account(account)
                self._clients[account] = VoiceryClient(
                    base_url=configured.base_url,
                    token=configured.read_token,
                    connect_timeout_seconds=settings.connect_timeout_seconds,
                    read_timeout_seconds=settings.read_timeout_seconds,
                    deadline_seconds=settings.deadline_seconds,
                    proxy=settings.proxy.reveal() if settings.proxy else None,
                    ca_bundle=str(settings.ca_bundle) if settings.ca_bundle else None,
                    allow_http=settings.allow_http,
                )
            return self._clients[account]


class LookupRate:
    """The look-ups' share of an account's permits."""

    def __init__(self, limiter: Limiter, account: str, windows: tuple[RateWindow, ...]) -> None:
        self._limiter = limiter
        self._account = account
        self._windows = windows

    def take_lookup(self, *, leads_wait: bool) -> Permits:
        """One permit for a look-up, or none. Raises `LimiterUnavailable`."""
        return self._limiter.take_lookups(self._account, 1, self._windows, leads_wait=leads_wait)

    def slow(self, *, remaining: int, reset_seconds: float) -> None:
        """Slow all workers of the account. Raises `LimiterUnavailable`."""
        if self._windows:
            self._limiter.slow(self._account, remaining=remaining, reset_seconds=reset_seconds)


class SweepRate:
    """How many requests an account may send now."""

    def __init__(self, limiter: Limiter, windows: tuple[RateWindow, ...]) -> None:
        self._limiter = limiter
        self._windows = windows

    def available(self, account: str) -> int | None:
        """Permits that are free now; None without a limit. Raises `LimiterUnavailable`."""
        if not self._windows:
            return None
        return min(use.permits - use.used for use in self._limiter.usage(account, self._windows))


def worker_runtime(stopping: Callable[[], bool], *, main_pid: int | None = None) -> Deliverer:
    """What the tasks of this worker process run on, from the environment. `main_pid`: of the worker's main process."""
    return Deliverer(Settings.from_environment(), stopping=stopping, worker=worker_name(main_pid or os.getpid()))


def build_sweep(settings: Settings, *, main_pid: int) -> Sweep:
    """The sweep of the worker with this main process."""
    redis_url = settings.require_redis_url()
    worker = worker_name(main_pid)
    database, bell = _database(settings, "dispatcher-sweep", 1), Doorbell(redis_url)
    return Sweep(
        database,
        bell,
        SweepRate(Limiter(connect(redis_url)), settings.rate_limit),
        Operations(database, Failures(database, bell)),
        name=f"{worker}:{os.getpid()}",
        worker=worker,
        settle_seconds=settings.settle_seconds,
        interval_seconds=settings.sweep_interval_seconds,
        alerts=settings.alert_webhook_url is not None,
    )


def whoami() -> str:
    """Who acts, where nobody says so: the user of this process at this machine."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = f"uid{os.getuid()}"  # in a container the user often has no name
    return f"{user}@{socket.gethostname()}"


def lead_id_of(id: UUID | str) -> UUID:
    """The id of a lead as typed; raises `LeadNotFound` for what is no id."""
    if isinstance(id, UUID):
        return id
    try:
        return UUID(id)
    except (ValueError, AttributeError, TypeError):
        raise LeadNotFound(mask_numbers(str(id))) from None  # somebody may have typed a phone number


def worker_name(main_pid: int) -> str:
    """How a worker is called in `workers`, in attempts and in logs."""
    return f"{socket.gethostname()}:{main_pid}"


def _database(settings: Settings, name: str, connections: int) -> Database:
    return Database(settings.require_database_url(), name=name, pool_size=connections)


def _budget(settings: Settings) -> Budget:
    return Budget(
        max_attempts=settings.max_attempts,
        retry_for_seconds=settings.retry_for_seconds,
        backoff_base_seconds=settings.backoff_base_seconds,
        backoff_max_seconds=settings.backoff_max_seconds,
    )


def _gate_limits(settings: Settings) -> GateLimits:
    return GateLimits(
        wait_seconds=settings.gate_wait_seconds,
        wait_max_seconds=settings.gate_wait_max_seconds,
        outage_after=settings.outage_after,
        rejecting_after=settings.rejecting_after,
    )


def binding_of(base_url: str) -> str:
    """The base URL as an account is bound to it. A sandbox may come back on another port of this machine."""
    parts = urlsplit(base_url)
    host = parts.hostname or ""
    where = host if is_loopback(host) else parts.netloc.lower()
    return f"{parts.scheme}://{where}{parts.path.rstrip('/')}"
