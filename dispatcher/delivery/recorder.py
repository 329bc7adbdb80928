"""Record the results of a delivery run and claim the leads it sends next."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final
from uuid import UUID

from sqlalchemy import Connection

from dispatcher.config.settings import Settings
from dispatcher.decisions.gate import GateState
from dispatcher.decisions.outcome import Kind
from dispatcher.decisions.policy import NO_PAST, Past, Standing, Uniform, after_attempt
from dispatcher.decisions.states import FailureClass, State
from dispatcher.delivery import blocked, claims, gates, late_answers, results
from dispatcher.delivery.blocked import end_held
from dispatcher.delivery.claimed import Claimed
from dispatcher.delivery.claims import Claim, Claimer
from dispatcher.delivery.results import Finished, Recorded, Result
from dispatcher.errors import StoreUnavailable
from dispatcher.failpoint import reach
from dispatcher.lead.options import Channel
from dispatcher.logs import events
from dispatcher.store import accounts, timeline
from dispatcher.store.blocks import Screening
from dispatcher.store.database import Database
from dispatcher.store.statement import together
from dispatcher.store.trouble import Locked, NothingDone, StatementRefused, TryAgain

STILL_IN_DOUBT: Final = "But an earlier POST of it, whose outcome is not known, may have worked: look it up."
_TRIES: Final = 5
_PILE_CLAIMS: Final = 8  # of one turn: meanwhile no answer is recorded


@dataclass(frozen=True, slots=True)
class Turn:
    """What one turn did.

    opened    the leads that may be POSTed now
    drained   no lead of the channel is left that is due
    full      at least as many leads as asked for were due
    woke      a lead that was parked behind one of those recorded may be due now
    """

    opened: tuple[Claimed, ...] = ()
    drained: bool = False
    full: bool = False
    woke: bool = False


class Recorder:
    """Records and claims for one delivery run. `clock` counts seconds and does not stand still while suspended."""

    def __init__(
        self,
        database: Database,
        channel: Channel,
        settings: Settings,
        *,
        worker: str,
        uniform: Uniform,
        clock: Callable[[], float],
        pin_to: str | None = None,
        covered: bool = False,
        token: str | None = None,
        screening: Screening | None = None,
    ) -> None:
        """Record and claim for one run.

        pin_to      the base URL that the first acceptance pins the account to; None if it is pinned
        covered     commits wait for a standby: it is asked after each claim whether they still do
        token       the fingerprint of the token that the POSTs carry
        screening   how it is checked who must not be called; that of the settings if not given
        """
        self._screening = screening or Screening.of(settings)
        self._claimer = Claimer(channel, settings, worker, token, self._screening)
        self._pin_to, self._covered = pin_to, covered
        self._database = database
        self._channel = channel
        self._settings = settings
        self._budget = settings.budget
        self._limits = settings.gate_limits
        self._uniform = uniform
        self._clock = clock
        self._kept: list[Finished] = []
        self._unacknowledged: tuple[UUID, ...] = ()
        self._needs_gates = True  # until a claim says otherwise
        self._woke = self._closed = False  # closed: a gate, by what was recorded, so that nothing can be claimed

    @property
    def owes(self) -> int:
        """Attempts that are finished and not yet stored, and claims that may or may not have been committed."""
        return len(self._kept) + len(self._unacknowledged)

    @property
    def keeps_results(self) -> bool:
        """Whether an answer of Voicery is not stored yet."""
        return bool(self._kept)

    def abandon(self) -> None:
        """Drop what could not be stored: its leases run out, and look-ups decide its leads."""
        for finished in self._kept:
            results.log_abandoned(finished.claimed, "store_unavailable")
        if self._unacknowledged:
            events.warning("claim.abandoned", claims=len(self._unacknowledged), account=self._channel.account)
        self._kept.clear()
        self._unacknowledged = ()

    def turn(self, finished: Sequence[Finished], attempt_ids: Sequence[UUID]) -> Turn:
        """Record `finished` and all that is still kept, then claim a lead for each of `attempt_ids`.

        Raises `StoreUnavailable`; what is not recorded is then kept for the next turn, and nothing may be POSTed.
        """
        if self._database.key_ring.key_id is not None:  # Voicery's words are stored encrypted, and nowhere else
            finished = [replace(one, outcome=results.without_words(one.outcome)) for one in finished]
        self._kept.extend(finished)
        self._woke = self._closed = False
        self._settle_unacknowledged()
        claim = self._at_once(attempt_ids)
        if claim is None:
            if self._kept:
                reach("record.before")
                self._record_kept()
                reach("record.after")
            if not attempt_ids:
                return Turn(woke=self._woke)
            if self._closed:
                return Turn(drained=True, woke=self._woke)
            reach("claim.before")
            claim = self._claim(attempt_ids)
        opened, claim = self._past_piles(claim, attempt_ids)
        opened = self._but_hidden(opened, attempt_ids)
        if opened:
            reach("claim.after")
        self._needs_gates = claim.needs_gates
        return Turn(opened, drained=claim.drained, full=claim.met >= len(attempt_ids), woke=self._woke)

    def _at_once(self, attempt_ids: Sequence[UUID]) -> Claim | None:
        """Record and claim in one transaction; None where the claim, or both, must go the long way.

        What was recorded by then is out of `_kept`; a claim that was not acknowledged is in `_unacknowledged`.
        """
        if not attempt_ids or not self._kept or not self._all_plain():
            return None
        rows = [self._result(one, gate_closed=False) for one in self._kept]
        ring = self._database.key_ring
        reach("record.before")
        reach("claim.before")
        try:
            with self._database.autocommit() as connection:
                recording = results.recording(rows, ring)
                claiming = self._claimer.call(attempt_ids, ring)
                recorded, claimed = (cursor.fetchall() for cursor in together(connection, recording, claiming))
            self._settle(rows, results.recorded_of(recorded))
            self._record_kept()
        except (TryAgain, StatementRefused):
            return None
        except NothingDone:
            raise
        except StoreUnavailable:
            self._unacknowledged = tuple(attempt_ids)
            raise
        reach("record.after")
        claim = self._claimer.read(claimed, len(attempt_ids), ring)
        return None if claim.probing and not claim.met else claim

    # Claiming ---------------------------------------------------------------------------------------------------------

    def _past_piles(self, claim: Claim, attempt_ids: Sequence[UUID]) -> tuple[tuple[Claimed, ...], Claim]:
        """Claim again while leads that may not be sent now are in the way. Return all that was opened."""
        claim = self._park(claim)
        self._end_held(claim.held)
        opened = claim.opened
        for _ in range(_PILE_CLAIMS):
            used = {claimed.attempt_id for claimed in opened}
            left = [attempt_id for attempt_id in attempt_ids if attempt_id not in used]
            if not left or not claim.impeded or claim.drained:
                break
            try:
                claim = self._park(self._claim(left, window=claims.PILE_WINDOW))
            except StoreUnavailable:
                self._unacknowledged = tuple(attempt_ids)  # the leads of the first claim are not sent either
                raise
            opened += claim.opened
            self._end_held(claim.held)
        return opened, claim

    def _but_hidden(self, opened: tuple[Claimed, ...], attempt_ids: Sequence[UUID]) -> tuple[Claimed, ...]:
        """Return what may be sent: the commit did not go without its standby, and no hidden contact is blocked."""
        try:
            if opened and self._covered:
                self._database.read(timeline.refuse_uncovered)
            opened, ended = blocked.but_hidden(self._database, self._channel.account, opened, self._screening)
        except (TryAgain, StatementRefused, StoreUnavailable) as error:
            self._unacknowledged = tuple(attempt_ids)  # given back by the next turn: nothing of them was sent
            raise (error if isinstance(error, StoreUnavailable) else Locked()) from None
        self._tell_blocked(ended)
        return opened

    def _park(self, claim: Claim) -> Claim:
        """Have leads wait that cannot be opened now. Where that fails they stay due, and the next claim meets them."""
        if not claim.blocked and not claim.stale:
            return claim
        try:
            with self._database.autocommit() as connection:
                claim = self._claimer.park(connection, claim)
        except (TryAgain, StatementRefused, StoreUnavailable):
            return claim
        self._doubt_again(claim.stale)
        return claim

    def _claim(self, attempt_ids: Sequence[UUID], *, window: int = 0) -> Claim:
        for _ in range(_TRIES):
            try:
                with self._database.autocommit() as connection:
                    claim = self._claimer.claim(connection, attempt_ids, window=window)
                if not claim.probing or claim.met:
                    return claim
                with self._database.transaction() as connection:
                    return self._claim_probe(connection, attempt_ids[:1], window=window)
            except TryAgain:
                continue
            except StatementRefused as refusal:
                # The run ends as if nothing were due, but what is on its way is still recorded.
                events.error("claim.refused", sqlstate=refusal.sqlstate, constraint=refusal.constraint)
                return Claim(needs_gates=True)
            except NothingDone:
                raise
            except StoreUnavailable:
                # Whether it was committed is not known: the next turn asks, and nothing is POSTed before.
                self._unacknowledged = tuple(attempt_ids)
                raise
        raise Locked

    def _claim_probe(self, connection: Connection, attempt_ids: Sequence[UUID], *, window: int = 0) -> Claim:
        """Claim one lead where a gate is probing and no lead of its scope is on its way.

        That of an account is a lead of its likeliest channel, or of any if that one claims none. The gate is locked.
        """
        claims.hold_pauses(connection, self._channel.account)
        pair = gates.lock(connection, self._channel)
        if any(gate.state is GateState.CLOSED for gate in pair):
            return Claim(needs_gates=True)
        account, channel = pair
        if account.state is GateState.PROBING:
            likeliest = gates.likeliest(connection, account.account) == self._channel.campaign_id
            may_probe = likeliest or gates.probes_in_vain(connection, account.account)
            taken = not may_probe or gates.sending(connection, account.account, None)
        else:
            taken = channel.state is GateState.PROBING and gates.sending(connection, *self._channel)
        if taken:
            return Claim(needs_gates=True)
        return self._claimer.claim(connection, attempt_ids, probing=True, window=window)

    def _doubt_again(self, stale: Sequence[UUID]) -> None:
        """Have leads looked up again whose proof no longer holds. The claim has parked them: what fails here waits."""
        for lead_id in stale:
            try:
                with self._database.transaction() as connection:
                    reopened = claims.doubt_again(connection, lead_id)
            except (TryAgain, StatementRefused, StoreUnavailable):
                continue
            if reopened:
                events.info("proof.stale", lead_id=str(lead_id), account=self._channel.account)

    def _end_held(self, held: Sequence[UUID]) -> None:
        """End leads that a block holds back. What fails here stays due, and the next claim meets it again."""
        if not held:
            return
        try:
            with self._database.transaction() as connection:
                ended = end_held(connection, self._channel.account, held, self._screening)
        except (TryAgain, StatementRefused, StoreUnavailable):
            return
        self._tell_blocked(ended)

    def _tell_blocked(self, ended: Iterable[UUID]) -> None:
        for lead_id in ended:
            events.info("lead.blocked", lead_id=str(lead_id), **self._channel._asdict())

    def _settle_unacknowledged(self) -> None:
        """Give back what a claim opened that was not acknowledged: it was not sent, so it is not in doubt."""
        if self._unacknowledged:
            released = self._database.again(lambda connection: claims.release(connection, self._unacknowledged))
            self._unacknowledged = ()
            events.info("claim.released", leads=released)

    # Recording --------------------------------------------------------------------------------------------------------

    def _record_kept(self) -> None:
        """Write all results in one transaction.

        If Postgres refuses one, write them singly; if it still refuses one, write it without any text from Voicery.
        """
        if not self._kept or self._record_plainly():
            return
        if self._attempt_record(self._kept):
            self._kept.clear()
            return
        for finished in list(self._kept):
            plain = replace(finished, outcome=results.without_texts(finished.outcome))
            if not self._attempt_record([finished]) and not self._attempt_record([plain]):
                # Its lease runs out, the sweep makes it unknown, and a look-up finds out what happened.
                results.log_abandoned(finished.claimed, "refused")
            self._kept.remove(finished)

    def _record_plainly(self) -> bool:
        """Write accepted leads in one round trip, where no gate changes by them. Return whether all were written.

        The rest is left to the transaction of `_record`; writing twice has no effect.
        """
        if not self._all_plain():
            return False
        rows = [self._result(one, gate_closed=False) for one in self._kept]
        try:
            with self._database.autocommit() as connection:
                recorded = results.record(connection, rows)
        except (TryAgain, StatementRefused):
            return False
        self._settle(rows, recorded)
        return not self._kept

    def _all_plain(self) -> bool:
        return not self._needs_gates and self._pin_to is None and all(map(results.is_plain, self._kept))

    def _settle(self, rows: Sequence[Result], recorded: Recorded) -> None:
        """Log what is stored, and keep what is not."""
        self._woke = self._woke or recorded.woke
        left = []
        for one, row in zip(self._kept, rows, strict=True):
            if row.claimed.attempt_id in recorded.attempt_ids:
                results.log_attempt(row)
            else:
                left.append(one)
        self._kept = left

    def _attempt_record(self, finished: Sequence[Finished]) -> bool:
        """Return whether Postgres stored them. Raise `StoreUnavailable` if trying again later may help."""
        for _ in range(_TRIES):
            try:
                with self._database.transaction() as connection:
                    notes = self._record(connection, finished)
            except TryAgain:
                continue
            except StatementRefused as refusal:
                events.error("recording.refused", sqlstate=refusal.sqlstate, constraint=refusal.constraint)
                return False
            for tell in notes:
                tell()
            return True
        raise Locked

    def _record(self, connection: Connection, finished: Sequence[Finished]) -> list[Callable[[], None]]:
        """Write gates, then leads, then attempts. Return what to run once this is committed: mostly log events."""
        notes: list[Callable[[], None]] = []
        changes = gates.apply(connection, self._channel, finished, self._limits)
        self._needs_gates = self._needs_gates or changes.needs_gates
        self._closed = changes.closed
        notes.extend(partial(gates.log_moved, gate) for gate in changes.moved)
        rows = [
            self._result(one, gate_closed=changes.closed, past=results.past_of(connection, one)) for one in finished
        ]
        recorded = results.record(connection, rows)
        self._woke = self._woke or recorded.woke
        if self._pin_to is not None and any(one.outcome.kind is Kind.ACCEPTED for one in finished):
            accounts.pin(connection, self._channel.account, self._pin_to)
            notes.append(self._pinned)
        missing = [row for row in rows if row.claimed.attempt_id not in recorded.attempt_ids]
        if missing:
            known = results.already_recorded(connection, missing)
            for row in missing:
                if row.claimed.attempt_id not in known:
                    adopted = late_answers.use(connection, row)
                    notes.append(partial(late_answers.log, row, adopted=adopted))
        notes.extend(partial(results.log_attempt, row) for row in rows)
        return notes

    def _result(self, finished: Finished, *, gate_closed: bool, past: Past = NO_PAST) -> Result:
        """Decide the lead's move. The message of a lead that stays in doubt after this attempt says so."""
        claimed, outcome = finished.claimed, finished.outcome
        standing = Standing(claimed.attempts, claimed.age_seconds, past)
        move = after_attempt(outcome, standing, self._budget, gate_closed=gate_closed, uniform=self._uniform)
        if move.failure_class is FailureClass.OUTCOME_UNKNOWN:
            told = f"{outcome.message} {STILL_IN_DOUBT}"
            outcome = replace(outcome, message=told, fingerprint=f"outcome_unknown:{outcome.fingerprint}")
        retry_after = finished.hints.retry_after_seconds
        if move.due_in_seconds is not None and retry_after is not None:
            move = replace(move, due_in_seconds=max(move.due_in_seconds, retry_after))
        return Result(
            claimed,
            outcome,
            move,
            took=finished.ended_at - finished.started_at,
            ended_ago=max(0.0, self._clock() - finished.ended_at),
            settle=self._settings.settle_seconds if move.state is State.UNKNOWN else 0.0,
        )

    def _pinned(self) -> None:
        self._pin_to = None
