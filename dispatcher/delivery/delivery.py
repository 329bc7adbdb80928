"""Request slots: so many exchanges at a time, all in the thread of the run, and what came of them."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Final, Generic, Protocol, TypeVar

import orjson
import uuid_utils.compat

from dispatcher.broker.doorbell import Bell
from dispatcher.broker.limiter import LimiterUnavailable, Permits, Rate
from dispatcher.config.settings import Settings
from dispatcher.decisions.hints import NO_HINTS, RateHints, rate_hints
from dispatcher.decisions.outcome import Kind, Outcome, Sent, classify
from dispatcher.decisions.reply import Reply, WireFault
from dispatcher.delivery.claimed import Claimed, undecryptable
from dispatcher.delivery.recorder import Recorder, Turn
from dispatcher.delivery.results import Finished
from dispatcher.delivery.width import Width
from dispatcher.errors import StoreUnavailable
from dispatcher.failpoint import reach
from dispatcher.hub import Hub
from dispatcher.lead.options import Channel
from dispatcher.logs import events
from dispatcher.logs.tracing import attempting
from dispatcher.store.counters import Tally

GATHER_SECONDS: Final = 0.002
"""How long a turn waits for more results after the first: a turn costs about the same for one lead as for thirty."""

J = TypeVar("J")
D = TypeVar("D")


class Slots(Generic[J, D]):
    """`width.now` times `work(job)` side by side: it runs in a greenlet, and must not raise.

    One owner feeds and collects, in one thread; while it does other things, answers wait in their sockets.
    """

    def __init__(self, width: Width, work: Callable[[J], D]) -> None:
        self.width = width
        self._work = work
        self._hub = Hub()
        self._done: list[D] = []
        self.busy = 0

    @property
    def free(self) -> int:
        """How many jobs could start at once."""
        return max(0, self.width.now - self.busy)

    def start(self, jobs: Iterable[J]) -> None:
        """Start jobs; the caller keeps to `free`."""
        for job in jobs:
            self.busy += 1
            self._hub.spawn(partial(self._run, job))

    def finished(self, *, timeout_seconds: float, gather_seconds: float = GATHER_SECONDS) -> list[D]:
        """What has been done: waits for the first, then a moment for the others, so that one turn serves several."""
        self._turn(timeout_seconds, enough=1)
        if self._done:
            self._turn(gather_seconds, enough=self.busy)
        done, self._done = self._done, []
        self.busy -= len(done)
        return done

    def close(self) -> None:
        """Give up what still runs."""
        self._hub.close()

    def _turn(self, seconds: float, *, enough: int) -> None:
        """Let the greenlets work until `enough` are done, at most for `seconds`; once in any case."""
        until = time.monotonic() + seconds
        left = seconds
        while len(self._done) < min(enough, self.busy) and left >= 0:
            self._hub.turn(left)
            left = until - time.monotonic()

    def _run(self, job: J) -> None:
        done = self._work(job)
        self._done.append(done)  # not in one line: the list of now, not the one of when the work began


LEASE_MARGIN_SECONDS: Final = 1.0
"""Beyond the deadline of the exchange, so much of the lease must be left when the first byte leaves."""

YIELD_AFTER_SECONDS: Final = 1.0
"""A run makes room after this when another doorbell waits; under a limit after its first leads, so that campaigns that
share one take turns."""

YIELD_TO_OTHERS_SECONDS: Final = 2.0
YIELD_TO_OTHERS_LEADS: Final = 10
"""A run of a campaign whose leads are accepted makes room sooner only for others of that kind: sooner than so many
seconds, or under a limit, where permits are what is short, than so many leads."""

KEEP_RESULTS_SECONDS: Final = 600.0
"""So long are results kept and retried while Postgres is away."""

_STORE_RETRY_SECONDS: Final = 0.5
UNSENT_SECONDS: Final = 5.0
"""How long a worker that was told to stop goes on trying to give back leads that it has not sent."""
_TURN_SECONDS: Final = 0.25


class Client(Protocol):
    """Makes one exchange with Voicery; never raises."""

    def create_lead(self, body: bytes, *, before_write: Callable[[], bool]) -> Reply: ...


@dataclass(frozen=True, slots=True)
class Job:
    """A claimed lead on its way to a slot. The lease is counted from `asked_at`, before the claim was sent."""

    claimed: Claimed
    asked_at: float


class DeliveryRun:
    """One execution of `dispatcher.deliver`. Make one for each; `run` once."""

    def __init__(
        self,
        channel: Channel,
        settings: Settings,
        *,
        recorder: Recorder,
        client: Client,
        rate: Rate,
        bell: Bell,
        other_token: Callable[[], bool] = lambda: False,
        slots_of: Callable[[Callable[[Job], Finished]], Slots[Job, Finished]],
        clock: Callable[[], float],
        stopping: Callable[[], bool],
        yields_to_others_after: float = YIELD_TO_OTHERS_SECONDS,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        """Make one run.

        yields_to_others_after  seconds until a run of an accepting campaign makes room for one that is not
        other_token  is called when Voicery has refused the token that `client` sends; returns whether a later run sends
                     another one, so that no gate need close
        """
        self._channel = channel
        self._settings = settings
        self._rules = settings.rules
        self._recorder = recorder
        self._client = client
        self._rate = rate
        self._bell = bell
        self._other_token = other_token
        self._slots = slots_of(self._exchange)
        self._clock = clock
        self._stopping = stopping
        self._wait = wait
        self._yields_to_others_after = yields_to_others_after
        self._drained = False
        self._claims = 0
        self._rang = False
        self._accepting = False
        self.accepted = False
        """Whether a lead was accepted."""
        self._starved = False
        self.tally = Tally()
        """What this run has counted."""

    def run(self) -> int:
        """Deliver until nothing is due, the time is over, or the process stops. Returns how many leads were claimed."""
        self._accepting = self._bell.clear(self._channel)
        reach("deliver.begin")
        begin = self._clock()
        self._ends_at = begin + self._settings.run_for_seconds
        self._yields_to_others_at = begin + self._yields_to_others_after
        self._yields_at = begin + (0.0 if self._rate.limited else YIELD_AFTER_SECONDS)
        try:
            while not self._over():
                finished = self._collect()
                permits = self._permits()
                asked_at = self._clock()
                turn = self._record_and_claim(finished, permits)
                self._invite_others(turn)
                self._slots.start(Job(claimed, asked_at) for claimed in turn.opened)
                if turn.full and self._slots.free == 0:
                    self._slots.width.filled()
        finally:
            self._slots.close()
        if self._claims:
            self._bell.served(self._channel, accepted=self.accepted)
        if not (self._drained or self._starved):
            self._bell.ring(self._channel)
        return self._claims

    # The steps --------------------------------------------------------------------------------------------------------

    def _over(self) -> bool:
        return self._winding_down() and self._slots.busy == 0 and self._recorder.owes == 0

    def _winding_down(self) -> bool:
        if self._drained or self._stopping():
            return True
        now = self._clock()
        if now >= self._ends_at:
            return True
        if now >= self._yields_at and self._claims:
            self._yields_at = now + (0.0 if self._rate.limited else _TURN_SECONDS)
            if self._bell.waiting(self._channel, accepting_only=self._accepting and not self._had_its_share(now)):
                self._ends_at = now
                return True
        return False

    def _had_its_share(self, now: float) -> bool:
        """Return whether a run of an accepting campaign makes room for any other."""
        return now >= self._yields_to_others_at or (self._rate.limited and self._claims >= YIELD_TO_OTHERS_LEADS)

    def _collect(self) -> list[Finished]:
        finished = self._slots.finished(timeout_seconds=_TURN_SECONDS)
        self._count(finished)
        self._slots.width.heed(finished)
        self._slow_everyone(finished)
        return finished

    def _count(self, finished: Sequence[Finished]) -> None:
        for one in finished:
            if one.outcome.kind is Kind.ACCEPTED:
                self.accepted = self._accepting = True
            self.tally.attempt(one.outcome.kind.value, one.ended_at - one.started_at)

    def _slow_everyone(self, finished: Sequence[Finished]) -> None:
        """Let what these answers said about the rate hold for all; what a stricter one covers needs no telling."""
        told_seconds = 0.0
        try:
            for remaining, reset_seconds in sorted(filter(None, (one.slowdown for one in finished)), key=_strictest):
                if reset_seconds > told_seconds:
                    told_seconds = reset_seconds
                    self._rate.slow(remaining=remaining, reset_seconds=reset_seconds)
        except LimiterUnavailable:
            # The next taking of permits meets the same Redis, and then nothing is sent at all.
            return

    def _permits(self) -> Permits:
        """As many as slots are free; none while winding down, or while Postgres owes us an acknowledgement."""
        if self._winding_down() or self._recorder.owes or self._slots.free == 0:
            return _NONE
        try:
            permits = self._rate.take(self._slots.free)
        except LimiterUnavailable:
            events.warning("limiter.unavailable", consequence="nothing is sent until Redis answers")
            self._ends_at = self._clock()
            self._starved = True
            return _NONE
        if permits.granted == 0 and self._slots.busy == 0:
            self._await_rate(permits.next_in_seconds)
        return permits

    def _await_rate(self, seconds: float) -> None:
        """Nothing may be sent: wait if it is for a moment and nobody needs this process, else let the sweep ring."""
        if self._clock() + seconds < self._ends_at and not self._bell.waiting(self._channel):
            self._wait(min(seconds, _TURN_SECONDS))
        else:
            self._ends_at = self._clock()
            self._starved = True

    def _record_and_claim(self, finished: Sequence[Finished], permits: Permits) -> Turn:
        attempt_ids = [uuid_utils.compat.uuid7() for _ in range(permits.granted)]
        if not finished and not attempt_ids and not self._recorder.owes:
            return Turn()
        try:
            turn = self._recorder.turn(finished, attempt_ids)
        except StoreUnavailable:
            turn = self._survive_without_store()
        self._claims += len(turn.opened)
        self._drained = (self._drained or turn.drained) and not turn.woke
        if permits.granted > len(turn.opened):
            self._rate.give_back(permits, permits.granted - len(turn.opened))
        return turn

    def _survive_without_store(self) -> Turn:
        """Postgres is away: claim nothing more, keep what is known, and try until it can be written."""
        events.warning("store.unavailable", results_kept=self._recorder.owes)
        self._ends_at = self._clock()
        give_up = self._clock() + KEEP_RESULTS_SECONDS
        while self._recorder.owes or self._slots.busy:
            if self._slots.busy == 0:
                self._wait(_STORE_RETRY_SECONDS)
            finished = self._slots.finished(timeout_seconds=_STORE_RETRY_SECONDS)
            self._count(finished)
            try:
                self._recorder.turn(finished, ())
            except StoreUnavailable:
                if self._stopping() and not (self._recorder.keeps_results or self._slots.busy):
                    # Only claims that were never sent: their leases run out, and a look-up finds nothing.
                    give_up = min(give_up, self._clock() + UNSENT_SECONDS)
                if self._clock() >= give_up:
                    self._recorder.abandon()
                    break
        return Turn()

    def _invite_others(self, turn: Turn) -> None:
        """The first claim came back full: there is work for idle workers too, unless a limit binds us all."""
        if turn.full and not self._rang and not self._rate.limited:
            self._rang = True
            self._bell.ring(self._channel)

    # One exchange, in a slot ------------------------------------------------------------------------------------------

    def _exchange(self, job: Job) -> Finished:
        claimed = job.claimed
        with attempting(claimed.lead_id, claimed.attempt_id, claimed.account, claimed.campaign_id) as tell:
            started_at = self._clock()
            if claimed.fault is not None:
                outcome, hints = undecryptable(str(claimed.fault), key_missing=claimed.key_missing), NO_HINTS
                ended_at = self._clock()
            else:
                reply = self._post(job)
                ended_at = self._clock()
                hints = _hints(reply)
                outcome = self._with_other_token(self._classified(claimed, reply))
            tell(outcome.kind.value, outcome.http_status)
        return Finished(job.claimed, outcome, ended_at, started_at, hints)

    def _post(self, job: Job) -> Reply:
        try:
            body = request_body(job.claimed, self._settings.reference_variable)
        except Exception as error:  # noqa: BLE001 - a bug of ours must cost one lead one attempt, not the run
            return Reply(fault=WireFault.BUG, detail=type(error).__name__)
        reach("post.before_connect")
        try:
            reply = self._client.create_lead(body, before_write=lambda: self._lease_suffices(job))
        except Exception as error:  # noqa: BLE001 - nobody knows how far it came
            return Reply(fault=WireFault.BUG, detail=type(error).__name__, written=True)
        reach("post.after_answer")
        return reply

    def _classified(self, claimed: Claimed, reply: Reply) -> Outcome:
        sent = Sent(claimed.campaign_id, claimed.phone_number, [number for number, _ in claimed.contacts])
        try:
            return classify(reply, sent, self._rules)
        except Exception as error:  # noqa: BLE001 - as above; what was sent stays in doubt
            unreadable = Reply(fault=WireFault.BUG, detail=type(error).__name__, written=reply.written)
            return classify(unreadable, sent, self._rules)

    def _with_other_token(self, outcome: Outcome) -> Outcome:
        """End the run where a token is refused and there is another: the lead waits for the run that sends that one.

        Not sent again at once: the attempt names the token that it was made with, and evidence goes by it.
        """
        if outcome.kind is not Kind.UNAUTHORIZED or not self._other_token():
            return outcome
        self._ends_at = self._clock()
        events.warning("token.refused", account=self._channel.account, consequence="the other token is used")
        return replace(outcome, signal=None, message=f"{outcome.message} The account's other token is used next.")

    def _lease_suffices(self, job: Job) -> bool:
        reach("post.before_write")
        left = self._settings.lease_seconds - (self._clock() - job.asked_at)
        return left >= self._settings.deadline_seconds + LEASE_MARGIN_SECONDS


def _strictest(slowdown: tuple[int, float]) -> tuple[int, float]:
    remaining, reset_seconds = slowdown
    return remaining, -reset_seconds


def _hints(reply: Reply) -> RateHints:
    try:
        return rate_hints(reply, datetime.now(UTC))
    except Exception as error:  # noqa: BLE001 - a strange header must not cost the lead its answer
        events.error("hints.unreadable", error=type(error).__name__)
        return NO_HINTS


_NONE: Final = Permits(granted=0, next_in_seconds=0.0)


def request_body(claimed: Claimed, reference_variable: str | None) -> bytes:
    """The body of create-lead. Variables go out as the very text that is stored, unless the reference joins them."""
    variables = claimed.variables
    if reference_variable is not None:
        variables = orjson.dumps(orjson.loads(variables) | {reference_variable: str(claimed.lead_id)}).decode()
    contacts = ",".join(
        f'{{"phone_number":{_quoted(number)},"variables":{its_variables}}}'
        for number, its_variables in claimed.contacts
    )
    secondary = f',"secondary_contacts":[{contacts}]' if contacts else ""
    flag = "true" if claimed.allow_dupplicate else "false"
    return (
        f'{{"phone_number":{_quoted(claimed.phone_number)},"campaign_id":{claimed.campaign_id},'
        f'"variables":{variables},"allow_dupplicate":{flag}{secondary}}}'
    ).encode()


def _quoted(text: str) -> str:
    return orjson.dumps(text).decode()
