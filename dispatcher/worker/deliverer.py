"""What the tasks of a worker do: deliver a channel, look up an account."""

import math
import random
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final
from uuid import UUID

from dispatcher.broker.limiter import LimiterUnavailable
from dispatcher.config.account import parse_rate_limit, pinned_url
from dispatcher.config.agreement import drift, stricter, to_state
from dispatcher.config.settings import Settings
from dispatcher.decisions.gate import closed
from dispatcher.decisions.outcome import Reason
from dispatcher.decisions.reply import Reply
from dispatcher.delivery import gates
from dispatcher.delivery.delivery import YIELD_TO_OTHERS_SECONDS, DeliveryRun, Slots
from dispatcher.delivery.recorder import Recorder
from dispatcher.delivery.width import Width
from dispatcher.errors import NotConfigured
from dispatcher.lead.options import Channel
from dispatcher.logs import events
from dispatcher.moments import steady_clock
from dispatcher.store import accounts, counters, encryption, timeline
from dispatcher.store.counters import RUNS
from dispatcher.store.statement import together
from dispatcher.sweep import repairs
from dispatcher.wiring import Services, worker_name

if TYPE_CHECKING:
    from dispatcher.lookup.lookup import Finding, LookUpRun

OTHERS_SHARE: Final = 0.05
"""Of the time of a process, for campaigns without an acceptance, while leads of others are due. Beside it come the
changes of runs."""
_STORED_SECONDS: Final = 1.0
_STORED_MOST: Final = 1000  # channels that a process remembers


class _Others(threading.local):
    """What the runs without an acceptance have taken since the last one with an acceptance, in this thread."""

    took_seconds = 0.0


class Deliverer:
    """The work of a worker's tasks: one per process, made after the fork. Thread-safe.

    stopping      says whether to begin nothing new
    worker        names this worker in `workers` and in attempts
    states_terms  this is a worker that starts: its settings become those that other processes are compared with
    """

    def __init__(
        self, services: Services, *, stopping: Callable[[], bool], worker: str, states_terms: bool = False
    ) -> None:
        self._states_terms = states_terms
        self._stated: set[str] = set()
        self._timeline_noted = False
        self._drifted: set[str] = set()
        self._services = services
        self._settings = services.settings
        self._database = services.database
        self._stopping = stopping
        self._worker = worker
        self._stored: dict[Channel, tuple[float, accounts.Account]] = {}
        self._widths: dict[Channel, Width] = {}
        self._others = _Others()

    def deliver(self, account: str, campaign_id: int) -> None:
        """Run one delivery run of a channel."""
        begin = steady_clock()
        channel = Channel(account, campaign_id)
        stored = self._ready(channel)
        if stored is None:
            return
        settings = self._agreed(account, stored)
        own = parse_rate_limit(stored.rate_limit) if stored.rate_limit else ()
        tokens = self._services.clients.tokens(account)
        token = tokens.current()
        recorder = Recorder(
            self._database,
            channel,
            settings,
            worker=self._worker,
            token=token.fingerprint,
            screening=self._services.screening,
            uniform=random.uniform,
            clock=steady_clock,
            covered=stored.covered,
            pin_to=pinned_url(settings.account(account).base_url) if stored.base_url is None else None,
        )
        run = DeliveryRun(
            channel,
            settings,
            recorder=recorder,
            client=self._services.clients.client(account, token),
            other_token=partial(tokens.refused, token),
            rate=self._services.rate(account, campaign_id=campaign_id, campaign_windows=own),
            bell=self._services.bell,
            slots_of=partial(Slots, self._width(channel)),
            clock=steady_clock,
            stopping=self._stopping,
            yields_to_others_after=max(YIELD_TO_OTHERS_SECONDS, self._others.took_seconds / OTHERS_SHARE),
        )
        claims = run.run()
        run.tally.add(RUNS, "deliver")
        served = repairs.served(channel, self._worker, claims, accepted=run.accepted)
        with self._database.autocommit() as connection:
            together(connection, served, counters.adding(account, run.tally))
        took = 0.0 if run.accepted else self._others.took_seconds + steady_clock() - begin
        self._others.took_seconds = took

    def lookup(self, account: str) -> None:
        """Run the due look-ups of an account."""
        stored = self._ready(Channel(account, 0))
        if stored is not None:
            from dispatcher.lookup.asking import NoPermit

            resolution = self.resolution(account, stored)
            resolution.run()
            with suppress(NoPermit, LimiterUnavailable):  # the sweep rings again
                self._services.operations.look_up(account, resolution.look_up, stopping=self._stopping)
            resolution.tally.add(RUNS, "lookup")
            with self._database.autocommit() as connection:
                counters.add(connection, account, resolution.tally)

    def look_up(self, account: str, ids: Sequence[UUID]) -> "list[Finding]":
        """Look these leads up now. Raise `NotConfigured` if this process must not send for the account."""
        with self._database.autocommit() as connection:
            stored = accounts.read(connection, account)
        fault = self._fault(account, stored)
        if fault is not None:
            raise NotConfigured(fault)
        return self.resolution(account, stored).look_up(ids)

    def greet(self, account: str) -> Reply:
        """Ask Voicery's list for one lead of any campaign: harmless, and it tells whether token and address are right.

        Raises `NotConfigured` without a token, `NoPermit` or `LimiterUnavailable` where the rate forbids it.
        """
        from dispatcher.lookup.asking import TOKEN_REFUSED, NoPermit

        self._settings.account(account).read_token()
        permits = self._services.rate(account).take_lookup(leads_wait=False)
        if not permits.granted:
            raise NoPermit(permits.next_in_seconds)
        with self._database.autocommit() as connection:
            campaign_id = accounts.any_campaign(connection, account) or 1
        token = self._services.clients.tokens(account).current()
        reply = self._services.clients.client(account, token).list_leads(campaign_id=campaign_id, per_page=1)
        if reply.status in TOKEN_REFUSED and self._services.clients.tokens(account).refused(token):
            return self._services.clients.client(account).list_leads(campaign_id=campaign_id, per_page=1)
        return reply

    def resolution(self, account: str, stored: accounts.Account) -> "LookUpRun":
        """Return the look-ups of one account, for one pass."""
        from dispatcher.lookup.lookup import LookUpRun  # late: a worker that starts looks nothing up

        tokens = self._services.clients.tokens(account)
        token = tokens.current()
        return LookUpRun(
            self._database,
            self._agreed(account, stored),
            self._services.clients.client(account, token),
            self._services.rate(account),
            self._services.bell,
            account=account,
            token=token.fingerprint,
            other_client=lambda: self._services.clients.client(account) if tokens.refused(token) else None,
            clock=steady_clock,
            stopping=self._stopping,
        )

    def close(self) -> None:
        """Close all connections."""
        self._services.close()

    def _width(self, channel: Channel) -> Width:
        """Return what the runs of the channel have learned in this process."""
        if len(self._widths) >= _STORED_MOST:
            self._widths.clear()
        return self._widths.setdefault(channel, Width(self._settings.concurrency))

    def _ready(self, channel: Channel) -> accounts.Account | None:
        """Return what is stored of the account; None, with its gate closed, if this worker must not send for it.

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
            self._register_key(stored)
            self._note_timeline()
            stored = self._state_terms(channel, stored)
            if stored.base_url is not None:  # until it is pinned, each run may be the one that pins it
                self._remember(channel, now, stored)
            return stored
        events.error("account.misconfigured", account=channel.account, fault=fault)
        with self._database.transaction() as connection:
            gate, _ = gates.lock(connection, channel)
            if gate.reason is not Reason.PAUSED:
                gates.save(connection, closed(gate, Reason.MISCONFIGURED, self._settings.gate_limits, message=fault))
        return None

    def _register_key(self, stored: accounts.Account) -> None:
        """Make this worker's key known before a producer's transaction does, which may stay open for long."""
        if self._database.key_ring.key_id not in (None, *stored.encryption_keys):
            with self._database.autocommit() as connection:
                encryption.register(connection, self._database.key_ring)

    def _note_timeline(self) -> None:
        if self._states_terms and not self._timeline_noted:
            with self._database.autocommit() as connection:
                timeline.note_first(connection)
            self._timeline_noted = True

    def _state_terms(self, channel: Channel, stored: accounts.Account) -> accounts.Account:
        """Store this worker's settings once for each account: when it starts, or when a stricter worker has gone."""
        if not self._states_terms or channel.account in self._stated:
            return stored
        with self._database.autocommit() as connection:
            in_use = accounts.terms_in_use(connection, channel.account, self._worker)
            terms = to_state(self._settings, stored.terms, in_use=in_use)
            if terms is None:
                return stored
            accounts.state_terms(connection, channel.account, terms, self._worker)
            self._stated.add(channel.account)
            return accounts.read(connection, *channel)

    def _agreed(self, account: str, stored: accounts.Account) -> Settings:
        """Return the settings, the stricter ones where they differ from those that a worker stored."""
        names = drift(self._settings, stored.terms)
        if names and account not in self._drifted:
            self._drifted.add(account)
            events.warning("settings.drift", account=account, settings=names, stored_by=stored.terms_by)
        return stricter(self._settings, stored.terms)

    def _remember(self, channel: Channel, now: float, stored: accounts.Account) -> None:
        if len(self._stored) >= _STORED_MOST:
            self._stored.clear()
        self._stored[channel] = now, stored

    def _fault(self, account: str, stored: accounts.Account) -> str | None:
        try:
            configured = self._settings.account(account)
            configured.read_token()
            own_key = self._services.screening.pseudonyms.key_id
        except NotConfigured as error:
            return str(error)
        if stored.base_url is not None and stored.base_url != pinned_url(configured.base_url):
            return (
                "This worker's VOICERY_BASE_URL is not the one where this account's leads were accepted before; "
                "set that one, or use another database for another Voicery."
            )
        if stored.key_id not in (None, own_key):
            return (
                "This worker's DISPATCHER_PRIVACY_KEY is not the one that persons are blocked by hash alone with, so "
                "that it cannot tell who they are; set that key."
            )
        held = self._database.key_ring.key_ids
        lacking = [key_id for key_id in stored.encryption_keys if key_id not in held]
        return encryption.missing(lacking) if lacking else None


def worker_runtime(stopping: Callable[[], bool], *, main_pid: int) -> Deliverer:
    """Build what the tasks of this worker process run on, from the environment.

    `main_pid`: of the worker's main process, which names the worker.
    """
    settings = Settings.from_environment()
    settings.require_redis_url()
    services = Services(settings, name="dispatcher-worker", connections=settings.concurrency + 2)
    return Deliverer(services, stopping=stopping, worker=worker_name(main_pid), states_terms=True)


def load_before_fork() -> None:
    """Import what a delivery run uses, so that the children of a prefork pool share it. Connects to nothing.

    The parts import what they are made of when they are built: here they are built from the environment and thrown
    away. Those that read a secret from a file are imported alone; what only look-ups use is left to the first one.
    """
    import dispatcher.store.blocks  # noqa: F401 - imported for the children

    services = Services(Settings.from_environment(), name="dispatcher-worker")
    _ = services.database.engine, services.bell, services.limiter, services.clients
