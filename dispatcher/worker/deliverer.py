"""The clock that leases are measured on, in seconds from an arbitrary start."""

import math
import os
import random
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final
from uuid import UUID

from dispatcher.alerts.alerting import Alerting, Webhook
from dispatcher.broker.connection import connect
from dispatcher.broker.doorbell import Doorbell
from dispatcher.broker.limiter import Limiter, LimiterUnavailable, Rate
from dispatcher.config.account import parse_rate_limit, pinned_url
from dispatcher.config.settings import Settings
from dispatcher.decisions.gate import closed
from dispatcher.decisions.outcome import Reason
from dispatcher.decisions.reply import Reply
from dispatcher.delivery import gates
from dispatcher.delivery.delivery import DeliveryRun, Job, Slots
from dispatcher.delivery.recorder import Recorder
from dispatcher.delivery.results import Finished
from dispatcher.errors import NotConfigured
from dispatcher.lead.options import Channel
from dispatcher.logs import events
from dispatcher.lookup.asking import NoPermit
from dispatcher.lookup.lookup import Finding, Resolution
from dispatcher.moments import steady_clock
from dispatcher.operator.operations import Operations
from dispatcher.operator.replay import Failures
from dispatcher.operator.retention import Pruning
from dispatcher.store import accounts, counters
from dispatcher.store.counters import RUNS
from dispatcher.store.database import Database
from dispatcher.sweep import repairs
from dispatcher.sweep.sweep import Sweep
from dispatcher.voicery.client import VoiceryClient

_STORED_SECONDS: Final = 1.0
_STORED_MOST: Final = 1000  # channels that a process remembers


class Deliverer:
    """What the tasks of a worker run on: one per process, made after the fork. Thread-safe."""

    def __init__(self, settings: Settings, *, stopping: Callable[[], bool], worker: str) -> None:
        self._settings = settings
        self._stopping = stopping
        self._worker = worker
        redis_url = settings.require_redis_url()
        self._database = open_store(settings, "dispatcher-worker", settings.concurrency + 2)
        self._doorbell = Doorbell(redis_url)
        self._limiter = Limiter(connect(redis_url), history=accounts.history(self._database))
        self._clients: dict[str, VoiceryClient] = {}
        self._stored: dict[Channel, tuple[float, accounts.Account]] = {}
        self._lock = threading.Lock()

    def deliver(self, account: str, campaign_id: int) -> None:
        """One delivery run of a channel."""
        channel = Channel(account, campaign_id)
        stored = self._ready(channel)
        if stored is None:
            return
        settings = self._settings
        own = parse_rate_limit(stored.rate_limit) if stored.rate_limit else ()
        recorder = Recorder(
            self._database,
            channel,
            settings,
            worker=self._worker,
            token=settings.account(account).token_fingerprint(),
            uniform=random.uniform,
            clock=steady_clock,
            pin_to=pinned_url(settings.account(account).base_url) if stored.base_url is None else None,
        )
        run = DeliveryRun(
            channel,
            settings,
            recorder=recorder,
            client=self._client(account),
            rate=Rate(self._limiter, account, settings.rate_limit, campaign_id=campaign_id, campaign_windows=own),
            bell=self._doorbell,
            slots_of=self._slots,
            clock=steady_clock,
            stopping=self._stopping,
        )
        claims = run.run()
        run.tally.add(RUNS, "deliver")
        with self._database.autocommit() as connection:
            repairs.served(connection, channel, self._worker, claims)
            counters.add(connection, account, run.tally)

    def lookup(self, account: str) -> None:
        """One run of look-ups of an account."""
        if self._ready(Channel(account, 0)) is not None:
            resolution = self.resolution(account)
            resolution.run()
            bulk = Operations(self._database, Failures(self._database, self._doorbell))
            with suppress(NoPermit, LimiterUnavailable):  # the sweep rings again
                bulk.look_up(account, resolution.look_up, stopping=self._stopping)
            resolution.tally.add(RUNS, "lookup")
            with self._database.autocommit() as connection:
                counters.add(connection, account, resolution.tally)

    def look_up(self, account: str, ids: Sequence[UUID]) -> list[Finding]:
        """Look these up now. Raises `NotConfigured` where this process must not speak for the account."""
        with self._database.autocommit() as connection:
            fault = self._fault(account, accounts.read(connection, account))
        if fault is not None:
            raise NotConfigured(fault)
        return self.resolution(account).look_up(ids)

    def greet(self, account: str) -> Reply:
        """Ask Voicery's list for one lead of any campaign: harmless, and it tells whether token and address are right.

        Raises `NotConfigured` without a token, `NoPermit` or `LimiterUnavailable` where the rate forbids it.
        """
        self._settings.account(account).read_token()
        permits = Rate(self._limiter, account, self._settings.rate_limit).take_lookup(leads_wait=False)
        if not permits.granted:
            raise NoPermit(permits.next_in_seconds)
        with self._database.autocommit() as connection:
            campaign_id = accounts.any_campaign(connection, account) or 1
        return self._client(account).list_leads(campaign_id=campaign_id, per_page=1)

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
            counters.add(connection, counters.NO_ACCOUNT, alerting.tally)

    def resolution(self, account: str) -> Resolution:
        """Look-ups of one account, for one pass."""
        settings = self._settings
        return Resolution(
            self._database,
            settings,
            self._client(account),
            Rate(self._limiter, account, settings.rate_limit),
            self._doorbell,
            account=account,
            token=settings.account(account).token_fingerprint(),
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

    def _ready(self, channel: Channel) -> accounts.Account | None:
        """What is stored of the account; None, and its gate closed, if this worker must not send for it.

        Read again after a second: a run is over soon, and a campaign's new limit holds from the next one.
        """
        now = steady_clock()
        read_at, stored = self._stored.get(channel, (-math.inf, None))
        if stored is not None and now - read_at < _STORED_SECONDS:
            return stored
        with self._database.autocommit() as connection:
            stored = accounts.read(connection, *channel)
        fault = self._fault(channel.account, stored)
        if fault is None:
            if stored.base_url is not None:  # until it is pinned, each run may be the one that pins it
                self._remember(channel, now, stored)
            return stored
        events.error("account.misconfigured", account=channel.account, fault=fault)
        with self._database.transaction() as connection:
            gate, _ = gates.lock(connection, channel)
            if gate.reason is not Reason.PAUSED:
                gates.save(connection, closed(gate, Reason.MISCONFIGURED, self._settings.gate_limits, message=fault))
        return None

    def _remember(self, channel: Channel, now: float, stored: accounts.Account) -> None:
        if len(self._stored) >= _STORED_MOST:
            self._stored.clear()
        self._stored[channel] = now, stored

    def _fault(self, account: str, stored: accounts.Account) -> str | None:
        try:
            configured = self._settings.account(account)
            configured.read_token()
        except NotConfigured as error:
            return str(error)
        if stored.base_url is not None and stored.base_url != pinned_url(configured.base_url):
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


def worker_runtime(stopping: Callable[[], bool], *, main_pid: int | None = None) -> Deliverer:
    """What the tasks of this worker process run on, from the environment. `main_pid`: of the worker's main process."""
    return Deliverer(Settings.from_environment(), stopping=stopping, worker=worker_name(main_pid or os.getpid()))


def build_sweep(settings: Settings, *, main_pid: int) -> Sweep:
    """The sweep of the worker with this main process."""
    redis_url = settings.require_redis_url()
    worker = worker_name(main_pid)
    database, bell = open_store(settings, "dispatcher-sweep", 1), Doorbell(redis_url)
    limiter = Limiter(connect(redis_url))
    return Sweep(
        database,
        bell,
        lambda account: Rate(limiter, account, settings.rate_limit),
        Operations(database, Failures(database, bell)),
        Pruning(database, settings),
        name=f"{worker}:{os.getpid()}",
        worker=worker,
        settle_seconds=settings.settle_seconds,
        interval_seconds=settings.sweep_interval_seconds,
        alerts=settings.alert_webhook_url is not None,
    )


def worker_name(main_pid: int) -> str:
    """How a worker is called in `workers`, in attempts and in logs."""
    return f"{socket.gethostname()}:{main_pid}"


def open_store(settings: Settings, name: str, connections: int, kind: type[Database] = Database) -> Database:
    """The store that the settings name, for at most about twice so many connections."""
    return kind(settings.require_database_url(), name=name, pool_size=connections, pooler=settings.pooler)
