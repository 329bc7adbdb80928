"""The sweep: the periodic repair that makes every doorbell, worker and message expendable.

It speaks SQL and rings doorbells. Alerts are sent in a thread that no duty waits for. One sweeper at a time does the
work; the others wait for its row.
"""

import time
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Final, TypeAlias
from uuid import UUID

from sqlalchemy import Connection

from dispatcher.alerts import alerts
from dispatcher.alerts.alerting import AlertThread
from dispatcher.broker.doorbell import Bell
from dispatcher.broker.limiter import Rate
from dispatcher.errors import StoreUnavailable
from dispatcher.failpoint import reach
from dispatcher.intake.inbox_taking import InboxThread
from dispatcher.logs import events
from dispatcher.operator.operations import Operations
from dispatcher.operator.retention import Pruning
from dispatcher.store import counters, timeline
from dispatcher.store.counters import RINGS, SWEEPS, Tally
from dispatcher.store.database import Database
from dispatcher.store.trouble import Cancelled, Locked, NotPermitted, StatementRefused, TryAgain
from dispatcher.sweep import clocks, places, repairs
from dispatcher.sweep.rings import Rings
from dispatcher.sweep.timelines import Watch

HOLD_SECONDS: Final = 5.0
"""A sweeper that dies is replaced after this."""

WORKER_SEEN_EVERY_SECONDS: Final = 10.0

PASS_ON_EVERY_SECONDS: Final = 60.0
"""How often duplicates are looked for whose original has ended without a call."""

CLOCKS_SEEN_EVERY_SECONDS: Final = 3600.0
"""How often, and in its first round, a sweep looks whether rows are dated later than now."""

BULK_SECONDS: Final = 0.5
"""Bulk work takes at most this long of a round, and one batch: the other duties do not wait for it."""

PRUNE_SECONDS: Final = 0.25
"""Retention deletes for this long of a round, and ends the slice that it has begun: faster than leads come in, and
most of the time is left to delivery."""

_Find: TypeAlias = Callable[[Connection], list[UUID]]
_Mend: TypeAlias = Callable[[Connection, Sequence[UUID]], int]


class Sweep:
    """Runs the periodic maintenance. `clock` is monotonic and counts seconds.

    operations  the bulk work that operators have asked for; None: none is done
    pruning     what deletes rows past their retention; None: nothing is deleted
    name        of this sweep
    worker      the worker that this sweep belongs to
    alerting    what sends the alerts that are due; None: no webhook is set
    inbox       what turns leads that were submitted by SQL into leads; None: nothing does
    timelines   what settles a change of Postgres' timeline; None: an operator does, and nothing is claimed before
    """

    def __init__(
        self,
        database: Database,
        bell: Bell,
        rate_of: Callable[[str], Rate],
        operations: Operations | None = None,
        pruning: Pruning | None = None,
        *,
        name: str,
        worker: str,
        settle_seconds: float,
        interval_seconds: float,
        gate_wait_max_seconds: float = 300.0,
        alerting: AlertThread | None = None,
        inbox: InboxThread | None = None,
        timelines: Watch | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._bell = bell
        self._rings = Rings(bell, rate_of)
        self._operations = operations
        self._pruning = pruning
        self._name = name
        self._worker = worker
        self._settle_seconds = settle_seconds
        self._interval_seconds = interval_seconds
        self._gate_wait_max_seconds = gate_wait_max_seconds
        self._alerting = alerting
        self._inbox = inbox
        self._timelines = timelines
        self._tally = Tally()
        self._clock = clock
        self._seen_at = -WORKER_SEEN_EVERY_SECONDS
        self._passed_on_at = -PASS_ON_EVERY_SECONDS
        self._places_before: UUID | None = None
        self._clocks_seen_at = -CLOCKS_SEEN_EVERY_SECONDS
        self._confirmed_at: datetime | None = None  # the last round that this sweep did or saw, by the database's clock
        self._store_was_away = False
        self._clock_back = False
        self._delayed: set[str] = set()  # the duties that wait, and were logged

    def run(self, *, stopping: Callable[[], bool], wait: Callable[[float], None]) -> None:
        """Sweep every interval until `stopping`. Outlives an absent Postgres."""
        while not stopping():
            try:
                self.once()
                self._store_was_away = False
            except StatementRefused as refusal:
                events.error("sweep.refused", duty="round", sqlstate=refusal.sqlstate, constraint=refusal.constraint)
            except NotPermitted as refusal:
                if not self._store_was_away:
                    events.error("sweep.not_permitted", duty="round", right=str(refusal))
                self._store_was_away = True
            except (StoreUnavailable, TryAgain) as error:
                if not self._store_was_away:
                    events.warning("sweep.store_unavailable", error=type(error).__name__, why=str(error))
                self._store_was_away = True
            wait(self._interval_seconds)
        self._release()

    def once(self) -> bool:
        """One round. False: another sweeper is at work."""
        reach("sweep.begin")
        self._duty("worker", self._note_worker)
        hold_seconds = max(HOLD_SECONDS, 3 * self._interval_seconds)
        with self._database.autocommit() as connection:
            duties = repairs.take(connection, self._name, hold_seconds=hold_seconds, confirmed_at=self._confirmed_at)
            if duties is None:
                self._confirmed_at = timeline.swept_at(connection) or self._confirmed_at
        if duties is None:
            self._stop_threads()
            return False
        if duties.timeline_changed and not self._settles_timeline():
            self._send_alerts(duties)
            return True
        self._confirmed_at = duties.timeline_at
        if duties.inbox and self._inbox is not None:
            self._inbox.start()
        self._clock_back = self._clock_back or duties.clock_back or self._sees_later_times()
        if self._clock_back:
            self._duty("clocks", self._mend_clocks)
        if duties.run_out:
            self._repair("leases", repairs.leases_run_out, self._end_leases)
        if duties.expired:
            self._repair("expired", repairs.expired, repairs.expire)
        if duties.gates:
            self._duty("gates", self._reopen_gates)
        if duties.unknown or duties.gates:
            self._duty("lookups", self._ring_lookups)
        if duties.operations and self._operations is not None:
            self._duty("operations", partial(self._do_bulk_work, self._operations))
        if duties.pending:
            self._duty("channels", self._ring_channels)
        self._send_alerts(duties)
        if self._clock() - self._passed_on_at >= PASS_ON_EVERY_SECONDS:
            self._repair("places", places.stranded, places.pass_on)
            self._repair("places", self._stranded_long_ago, places.pass_on)
            self._passed_on_at = self._clock()
        if duties.old and self._pruning is not None:
            self._repair("open_attempts", repairs.left_open, repairs.close_attempts)
            self._duty("retention", partial(self._prune, self._pruning))
        self._tally.add(SWEEPS)
        return True

    def _sees_later_times(self) -> bool:
        """Return whether rows are dated later than now; asked seldom, because it reads every lead that waits.

        What was written while nobody swept is in no sweep's row.
        """
        if self._clock() - self._clocks_seen_at < CLOCKS_SEEN_EVERY_SECONDS:
            return False
        began = self._clock()
        try:
            seen = self._database.at_once(clocks.later_times)
        except Cancelled:
            # It would take as long in each round, and keep the other duties from being done at all.
            events.warning("clock.not_compared", seconds=round(self._clock() - began))
            seen = False
        self._clocks_seen_at = self._clock()
        return seen

    def _mend_clocks(self) -> None:
        """Bound what a clock that was ahead has dated; begun again in the next round where it fails."""
        rows = self._database.again(
            clocks.mend, settle_seconds=self._settle_seconds, gate_wait_max_seconds=self._gate_wait_max_seconds
        )
        self._clock_back = False
        events.warning("clock.set_back", rows=rows)

    def _settles_timeline(self) -> bool:
        """Return whether leads can be claimed on the timeline that Postgres goes on by."""
        return self._timelines is not None and self._timelines.settle(self._confirmed_at)

    def _send_alerts(self, duties: repairs.Duties) -> None:
        if duties.alerts and self._alerting is not None:
            self._alerting.start()

    def _duty(self, name: str, work: Callable[[], object]) -> None:
        """Do one duty. A lock that somebody holds, or a statement that is cancelled, keeps no other from being done."""
        try:
            work()
            self._delayed.discard(name)
        except (TryAgain, Locked, Cancelled) as error:
            if name not in self._delayed:
                events.warning("sweep.delayed", duty=name, why=str(error))
            self._delayed.add(name)

    # Duties -----------------------------------------------------------------------------------------------------------

    def _stranded_long_ago(self, connection: Connection) -> list[UUID]:
        ids, self._places_before = places.stranded_among(connection, self._places_before)
        return ids

    def _end_leases(self, connection: Connection, ids: Sequence[UUID]) -> int:
        reach("sweep.end_leases")
        return repairs.end_leases(connection, ids, settle_seconds=self._settle_seconds)

    def _repair(self, duty: str, find: _Find, mend: _Mend) -> None:
        self._duty(duty, partial(self._mend, duty, find, mend))

    def _mend(self, duty: str, find: _Find, mend: _Mend) -> None:
        """Mend the set; where that fails, row by row, so that one bad or locked row never stops the rest."""
        ids = self._database.at_once(find)
        mended, locked = 0, None
        try:
            mended = self._database.at_once(mend, ids)
        except (StatementRefused, TryAgain) as refusal:
            if isinstance(refusal, StatementRefused):
                events.error("sweep.refused", duty=duty, sqlstate=refusal.sqlstate, constraint=refusal.constraint)
            for one in ids:
                try:
                    mended += self._mend_one(duty, one, mend)
                except TryAgain as error:
                    locked = error
        if mended:
            events.info(f"sweep.{duty}", leads=mended)
        if locked is not None:
            raise locked

    def _mend_one(self, duty: str, one: UUID, mend: _Mend) -> int:
        try:
            with self._database.transaction() as connection:
                repairs.wait_briefly(connection)
                return mend(connection, [one])
        except StatementRefused as refusal:
            events.error("sweep.bad_row", duty=duty, lead_id=str(one), sqlstate=refusal.sqlstate)
            return 0

    def _reopen_gates(self) -> None:
        for account, campaign_id in self._database.at_once(repairs.reopen_throttled):
            events.info("gate.opened", account=account, campaign_id=campaign_id, reason="throttled")

    def _ring_lookups(self) -> None:
        for account in self._database.at_once(repairs.due_lookups):
            if self._bell.ring_lookup(account):
                self._tally.add(RINGS, "lookup")

    def _do_bulk_work(self, operations: Operations) -> None:
        for account in operations.lookup_accounts():
            self._bell.ring_lookup(account)
        until = self._clock() + BULK_SECONDS
        while operations.step() and self._clock() < until:
            pass

    def _prune(self, pruning: Pruning) -> None:
        until = self._clock() + PRUNE_SECONDS
        try:
            pruning.work(lambda: self._clock() < until)
        except StatementRefused as refusal:
            events.error("sweep.refused", duty="retention", sqlstate=refusal.sqlstate, constraint=refusal.constraint)
        except NotPermitted as refusal:
            # Once an hour, as a pass: somebody else may be meant to delete, with `dispatcher prune`.
            events.warning("sweep.not_permitted", duty="retention", right=str(refusal))

    def _ring_channels(self) -> None:
        for _ in range(self._rings.ring(self._database.at_once(repairs.due_channels))):
            self._tally.add(RINGS, "deliver")

    def _note_worker(self) -> None:
        now = self._clock()
        if now - self._seen_at >= WORKER_SEEN_EVERY_SECONDS:
            self._database.at_once(self._note_in_store, now)

    def _note_in_store(self, connection: Connection, now: float) -> None:
        repairs.worker_seen(connection, self._worker)
        self._seen_at = now  # whether the rest succeeds or not
        alerts.prune(connection)
        counters.add(connection, counters.NO_ACCOUNT, self._tally)
        self._tally.clear()

    def finish(self) -> None:
        """Take what waits in the inbox, and wait for the alerts being sent, as long as `AlertThread.finish`."""
        if self._inbox is not None:
            self._inbox.finish()
        if self._alerting is not None:
            self._alerting.finish()

    def _stop_threads(self) -> None:
        for thread in (self._alerting, self._inbox):
            if thread is not None:
                thread.stop()

    def _release(self) -> None:
        self._stop_threads()
        try:
            self._database.at_once(repairs.release, self._name)
        except (StoreUnavailable, TryAgain):
            # It lapses by itself.
            return
