"""One seed: workers, sweep, look-ups, operators and Voicery take steps in a random order, and the promises are checked.

The decisions are the real ones: `classify`, `after_attempt`, the gates, `judge` and `decide`. Only the store, the wire
and the clock are stand-ins.
"""

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random

from dispatcher.config import agreement
from dispatcher.config.settings import Settings
from dispatcher.decisions import absence, gate, window
from dispatcher.decisions.absence import Circumstances, Decision, Doubt, Judgement, LookUp, OnUnknown, Step, Verdict
from dispatcher.decisions.gate import Gate, GateLimits, GateState
from dispatcher.decisions.hints import rate_hints
from dispatcher.decisions.outcome import Kind, Outcome, Reason, Rules, Sent, classify
from dispatcher.decisions.policy import Budget, Past, Standing, after_attempt
from dispatcher.decisions.reply import Reply, WireFault
from dispatcher.decisions.states import FailureClass, State
from dispatcher.decisions.window import Proof
from tests.model.store import Attempt, Broken, Lead, Store
from tests.model.voicery import CAMPAIGN, OTHER_CAMPAIGN, Post, Trouble, Voicery

SETTLE = 10.0
LEASE = 30.0
DEADLINE = 8.0
MARGIN = 1.0
PARK = 5.0
UNKNOWN_FOR = 120.0
HOLD = 12.0
CONCURRENCY = 3
PROOF_FOR = 40.0
BLOCKING = 2
"""Of five seeds, the one in which persons are blocked: what is blocked is not sent, and shows nothing else."""
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
LIMITS = GateLimits(wait_seconds=2.0, wait_max_seconds=16.0, outage_after=5, rejecting_after=10)
BUDGET = Budget(max_attempts=4, retry_for_seconds=200.0, backoff_base_seconds=1.0, backoff_max_seconds=8.0)
IN_DOUBT = (Kind.UNKNOWN, Kind.CREATED_ID_UNKNOWN)
PROVEN_FREE = frozenset(Kind) - {Kind.UNKNOWN, Kind.CREATED_ID_UNKNOWN, Kind.ACCEPTED}
PACES = ((0.1, 1.0, 3.0, SETTLE, LEASE + 1), (0.1, 0.3, 1.0, 2.0))
"""How time passes: in leaps over settle times and leases, or so slowly that much happens within one settle time."""
TROUBLES = tuple(trouble for trouble in Trouble if trouble is not Trouble.NONE)


@dataclass(frozen=True, slots=True)
class Sabotage:
    """What is broken on purpose: each must be noticed."""

    one_open: bool = True
    fenced: bool = True
    heeds_blocks: bool = True
    safe_statuses: frozenset[int] = frozenset()
    lease_ends_in: State = State.UNKNOWN
    settle: float = SETTLE
    proof_for: float = PROOF_FOR
    edit_in_doubt: bool = False
    judge: Callable[[Doubt, object, frozenset[int]], Judgement] | None = None
    decide: Callable[..., Decision] | None = None
    is_of_account: Callable[[Reason, gate.Neighbours], bool] = gate.is_of_account
    prove: Callable[..., Proof] | None = None
    agree: Callable[[Settings, Mapping[str, object]], Settings] = agreement.stricter


SOUND = Sabotage()


@dataclass(slots=True)
class Exchange:
    """A claimed lead on its way through a worker."""

    attempt: Attempt
    asked_at: float
    reply: Reply | None = None
    back_at: float = 0.0


@dataclass(slots=True)
class Worker:
    exchanges: list[Exchange] = field(default_factory=list)
    frozen: bool = False


@dataclass(slots=True)
class Neighbour:
    """Another campaign of the account, which never gets a lead through. `dead`: 404; else it hangs up."""

    gate: Gate
    dead: bool
    failing_since: float | None = None
    until: float = 0.0

    def may_try(self, now: float) -> bool:
        if self.gate.state is GateState.CLOSED and self.until <= now:
            self.gate = gate.after_probe(self.gate, answered=True, limits=LIMITS)
        return self.gate.state is not GateState.CLOSED


@dataclass(slots=True)
class Look:
    """A look-up between its question and its decision. `shell`: made by a process that is no worker."""

    lead: Lead
    attempt: Attempt
    asked_at: float
    judgement: Judgement | None = None
    control: bool = False
    control_reference: bool = False
    shell: bool = False


class Simulation:
    """The world of one seed."""

    def __init__(self, seed: int, sabotage: Sabotage = SOUND, *, steps: int = 160) -> None:
        self.seed = seed
        self.dice = Random(seed)
        self.sabotage = sabotage
        self.steps = steps
        self.now = 0.0
        self.store = Store(
            one_open=sabotage.one_open,
            fenced=sabotage.fenced,
            heeds_blocks=sabotage.heeds_blocks,
            proof_for=sabotage.proof_for,
        )
        self.voicery = Voicery(self.dice, SETTLE)
        self.workers = [Worker() for _ in range(self.dice.randint(1, 3))]
        self.looks: list[Look] = []
        self.on_unknown = self.dice.choice((OnUnknown.AUTO, OnUnknown.AUTO, OnUnknown.HOLD, OnUnknown.RESEND))
        self.reference = self.dice.random() < 0.6
        self.watermark_off = self.dice.random() < 0.05
        self.rules = Rules(Settings().duplicate_rule, sabotage.safe_statuses, Settings().balance_rule)
        self.trouble = self.dice.choice((0.0, 0.2, 0.5, 0.9))
        self.persons = [f"+1202555{100 + n:04d}" for n in range(self.dice.randint(2, 6))]
        self.blocks = seed % 5 == BLOCKING
        self.database_up = True
        self.neighbours = [Neighbour(Gate("default", 100 + n), self.dice.random() < 0.5) for n in range(5)]
        self.accepted_at: float | None = None
        self.acceptances: list[float] = []
        self.pace = self.dice.choice(PACES)
        stated = {"on_unknown": self.on_unknown, "settle_seconds": sabotage.settle}
        self.stated = Settings().model_copy(update=stated)
        shell = {
            "on_unknown": self.dice.choice(list(OnUnknown)),
            "settle_seconds": self.dice.choice((0.1, 1.0)) * SETTLE,
        }
        self.shell = self.stated.model_copy(update=shell)

    # The course -------------------------------------------------------------------------------------------------------

    def run(self) -> "Simulation":
        """Steps at random, then all faults heal and everything must come to its end. Raises `Broken`."""
        acts = (
            *((self.pass_time,) * 4),
            *((self.submit,) * 2),
            *((self.claim,) * 4),
            *((self.send,) * 4),
            *((self.receive,) * 4),
            *((self.sweep,) * 2),
            *((self.ask,) * 3),
            *((self.decide,) * 3),
            self.probe,
            self.kill,
            self.freeze,
            self.thaw,
            self.break_list,
            self.fail_database,
            self.operate,
            self.fail_neighbour,
            self.bear_fruit,
            *((self.block,) if self.blocks else ()),
        )
        choose = self.dice.choice
        for _step in range(self.steps):
            choose(acts)()
            self.check()
        self.heal()
        self.check_end()
        return self

    def heal(self) -> None:
        """No more faults: every lead must end within a bound."""
        self.trouble, self.voicery.listing, self.database_up, self.voicery.lie = 0.0, True, True, ""
        for worker in self.workers:
            worker.frozen = False
        for round_ in range(900):
            self.voicery.advance(self.now)
            for act in (
                self.bear_fruit,
                self.sweep,
                self.probe,
                self.claim,
                self.send,
                self.receive,
                self.ask,
                self.decide,
            ):
                act()
            self.check()
            over = not any(lead.state in (State.PENDING, State.SENDING, State.UNKNOWN) for lead in self.store.leads)
            if over and not any(worker.exchanges for worker in self.workers):
                return
            if round_ % 25 == 0 and any(lead.state is State.UNKNOWN for lead in self.store.leads):
                self.submit_control()
            self.now += self.dice.uniform(0.2, 2.0)
        open_ = [(lead.id, lead.state) for lead in self.store.leads if lead.finished_at is None]
        raise Broken(f"I8: after all faults healed these never end: {open_}")

    # Steps ------------------------------------------------------------------------------------------------------------

    def pass_time(self) -> None:
        self.now += self.dice.choice(self.pace)
        self.voicery.advance(self.now)

    def submit(self) -> None:
        if len(self.store.leads) < 24 and self.dice.random() < 0.4:  # ordinary traffic, without which nothing is proven
            self.submit_control()
            return
        phone, flag = self.dice.choice(self.persons), self.dice.random() < 0.5
        live = any(lead.phone == phone and not lead.allow_dupplicate and _is_live(lead) for lead in self.store.leads)
        if len(self.store.leads) < 18 and (flag or not live):
            self.store.leads.append(Lead(len(self.store.leads) + 1, phone, flag, due_at=self.now))

    def submit_control(self) -> None:
        number = len(self.store.leads) + 1
        lead = Lead(number, f"+1206555{number % 100 + 100:04d}{number // 100}", True, due_at=self.now)
        if self.trouble and self.dice.random() < 0.3:
            lead.campaign = OTHER_CAMPAIGN
        self.store.leads.append(lead)

    def claim(self) -> None:
        if not self.database_up:
            return
        worker = self.dice.choice(self.workers)
        free = CONCURRENCY - len(worker.exchanges)
        states = {self.store.account.state, self.store.channel.state}
        if worker.frozen or free <= 0 or GateState.CLOSED in states:
            return
        if GateState.PROBING in states:
            if any(lead.state is State.SENDING for lead in self.store.leads):
                return
            free = 1
        for attempt in self.store.claim(self.now, free, LEASE, PARK):
            worker.exchanges.append(Exchange(attempt, self.now))

    def send(self) -> None:
        worker = self.dice.choice(self.workers)
        waiting = [one for one in worker.exchanges if one.reply is None]
        if worker.frozen or not waiting:
            return
        exchange = waiting[0]
        if LEASE - (self.now - exchange.asked_at) < DEADLINE + MARGIN and self.sabotage.fenced:
            exchange.reply = Reply(fault=WireFault.LEASE)
            exchange.back_at = self.now
            return
        lead = exchange.attempt.lead
        post = Post(lead.id, lead.phone, self._variables(lead), lead.allow_dupplicate, lead.campaign)
        self._check_post(lead, exchange.attempt)
        trouble = self.dice.choice(TROUBLES) if self.dice.random() < self.trouble else Trouble.NONE
        if lead.resends and len(lead.history) == 2 and self.dice.random() < 0.5:
            trouble = Trouble.LOST_BEFORE  # what befell a lead once often befalls it again
        exchange.back_at = self.now + self.dice.uniform(0, self.dice.choice((0.5, DEADLINE)))
        exchange.reply = self.voicery.post(self.now, exchange.back_at, post, trouble)

    def receive(self) -> None:
        worker = self.dice.choice(self.workers)
        back = [one for one in worker.exchanges if one.reply is not None and one.back_at <= self.now]
        if worker.frozen or not back or not self.database_up:
            return
        exchange = back[0]
        worker.exchanges.remove(exchange)
        reply, attempt, lead = exchange.reply, exchange.attempt, exchange.attempt.lead
        assert reply is not None
        outcome = classify(reply, Sent(lead.campaign, lead.phone), self.rules)
        retry_after = rate_hints(reply, EPOCH).retry_after_seconds
        closed = self._heed(outcome, retry_after)
        doubted = [past for past in lead.history if past is not attempt and past.outcome in IN_DOUBT]
        age = self.now - (lead.first_attempt_at or self.now)
        move = after_attempt(
            outcome,
            Standing(lead.attempts, age, Past(bool(doubted), not all(past.proof for past in doubted))),
            BUDGET,
            gate_closed=closed,
            uniform=self.dice.uniform,
        )
        self.store.record(self.now, attempt, outcome, move, exchange.back_at, self.sabotage.settle)

    def sweep(self) -> None:
        if self.database_up:
            self.store.end_leases(self.now, self.sabotage.settle, self.sabotage.lease_ends_in)
            for is_account, until in list(self.store.gate_until.items()):
                a_gate = self.store.account if is_account is None else self.store.channel
                if a_gate.state is GateState.CLOSED and a_gate.reason is Reason.THROTTLED and until <= self.now:
                    self._keep(Gate(a_gate.account, a_gate.campaign_id))

    def probe(self) -> None:
        for a_gate in (self.store.account, self.store.channel):
            due = self.store.gate_until.get(a_gate.campaign_id, 0.0) <= self.now
            if a_gate.state is GateState.CLOSED and a_gate.reason is not Reason.THROTTLED and due:
                self._keep(gate.after_probe(a_gate, answered=self.voicery.listing, limits=LIMITS))

    def ask(self) -> None:
        """Take a lead in doubt and ask the list; the decision comes in a later step."""
        due = [one for one in self.store.leads if one.state is State.UNKNOWN and one.due_at <= self.now]
        shell = self.dice.random() < 0.1
        if shell:  # an operator's look-up: due or not, failed ones too
            due = [one for one in self.store.leads if one.state is State.UNKNOWN or _is_held(one)]
        if not due or not self.database_up:
            return
        lead = self.dice.choice(due)
        lead.due_at = self.now + HOLD if lead.state is State.UNKNOWN else lead.due_at
        attempt = lead.attempt
        assert attempt is not None
        look = Look(lead, attempt, self.now, shell=shell)
        page = self.voicery.page(self.now, attempt.phone)
        bound = frozenset(
            other.voicery_lead_id
            for other in self.store.leads
            if other.voicery_lead_id is not None and other is not lead
        )
        doubt = Doubt(
            lead.campaign,
            attempt.phone,
            self._variables(lead),
            None if self.watermark_off else self._watermark(lead),
            ("ref", _reference(lead)) if self.reference else None,
        )
        judge = self.sabotage.judge or absence.judge
        look.judgement = judge(doubt, page, bound)  # type: ignore[arg-type]
        if look.judgement.verdict is Verdict.ABSENT:
            proof = self._prove(lead, attempt, doubt)
            look.control, look.control_reference = proof.proven, proof.by_reference
            if proof.possible is not None:
                look.judgement = Judgement(Verdict.POSSIBLE, proof.possible)
        self.looks.append(look)

    def decide(self) -> None:
        if not self.looks or not self.database_up:
            return
        look = self.looks.pop(self.dice.randrange(len(self.looks)))
        lead, attempt, judgement = look.lead, look.attempt, look.judgement
        assert judgement is not None
        if lead.attempt is not attempt or not (lead.state is State.UNKNOWN or _is_held(lead)):
            return
        seen = LookUp(_moment(look.asked_at), judgement.verdict, look.control, look.control_reference)
        settings = self.sabotage.agree(self.shell, agreement.terms_of(self.stated)) if look.shell else self.stated
        case = Circumstances(
            kind=attempt.outcome or Kind.UNKNOWN,
            on_unknown=OnUnknown(settings.on_unknown),
            allow_dupplicate=lead.allow_dupplicate,
            resends=lead.resends,
            ended_at=_moment(attempt.ended_at if attempt.ended_at is not None else attempt.started_at),
            settle_seconds=settings.settle_seconds,
            unknown_for_seconds=UNKNOWN_FOR,
            reference_sent=self.reference,
            granted=attempt.granted,
            looked_since=None if attempt.reopened_at is None else _moment(attempt.reopened_at),
        )
        decision = (self.sabotage.decide or absence.decide)(seen, attempt.look_ups, case)
        attempt.look_ups.append(seen)
        attempt.proof = decision.proof
        self._move(lead, attempt, judgement, decision)

    def _move(self, lead: Lead, attempt: Attempt, judgement: Judgement, decision: Decision) -> None:
        if decision.step is Step.ACCEPT and judgement.row is not None:
            found = judgement.row.voicery_lead_id
            if any(other.voicery_lead_id == found for other in self.store.leads if other is not lead):
                lead.due_at = self.now + SETTLE  # the unique index refuses it: look again
                return
            lead.move(State.ACCEPTED)
            lead.voicery_lead_id, lead.failure_class, lead.finished_at = found, None, self.now
            attempt.outcome, attempt.finished_at = Kind.ACCEPTED, attempt.finished_at or self.now
            return
        if lead.state is not State.UNKNOWN:
            return
        match decision.step:
            case Step.RESEND:
                if lead.resends and attempt.granted is None:
                    raise Broken(f"lead {lead.id} would be resent a second time by itself")
                lead.move(State.PENDING)
                lead.resends = lead.resends if attempt.granted else 1
                lead.proven_at = _asked_at(attempt) if decision.proof else None
                backlog = self.dice.choice(
                    (0.0, 0.0, PROOF_FOR * 1.5)
                )  # or a pause: it waits longer than its proof holds
                lead.due_at, attempt.finished_at = self.now + backlog, self.now
            case Step.DUPLICATE:
                lead.move(State.DUPLICATE)
                lead.finished_at = attempt.finished_at = self.now
            case Step.FAIL:
                lead.move(State.FAILED)
                lead.failure_class = FailureClass.OUTCOME_UNKNOWN
                lead.finished_at = attempt.finished_at = self.now
            case _:
                lead.due_at = self.now + max(decision.again_in_seconds, 1.0)

    def kill(self) -> None:
        if self.dice.random() < 0.3:
            worker = self.dice.choice(self.workers)
            worker.exchanges.clear()
            worker.frozen = False

    def freeze(self) -> None:
        if self.dice.random() < 0.3:
            self.dice.choice(self.workers).frozen = True

    def thaw(self) -> None:
        self.dice.choice(self.workers).frozen = False

    def break_list(self) -> None:
        self.voicery.listing = self.dice.random() < 0.7

    def fail_database(self) -> None:
        self.database_up = self.dice.random() < 0.7

    def block(self) -> None:
        """A person is blocked, or unblocked."""
        phone = self.dice.choice(self.persons)
        if self.database_up and self.store.blocked.pop(phone, None) is None:
            self.store.blocked[phone] = self.store.attempts

    def operate(self) -> None:
        """A person replays a failed lead, as `dispatcher replay` allows it."""
        failed = [lead for lead in self.store.leads if lead.state is State.FAILED]
        if not failed or self.dice.random() < 0.5 or not self.database_up:
            return
        lead = self.dice.choice(failed)
        if lead.phone in self.store.blocked:
            return
        live = [other for other in self.store.leads if other is not lead and other.phone == lead.phone]
        if not lead.allow_dupplicate and any(not other.allow_dupplicate and _is_live(other) for other in live):
            return
        doubtful = [past for past in lead.history if past.outcome in IN_DOUBT and not self._is_cleared(lead, past)]
        if self.dice.random() < 0.3:
            self._edit(lead, doubtful)
            return
        if doubtful:
            if self.dice.random() < 0.9:
                return
            lead.overruled = True
        self._replay(lead)

    def _edit(self, lead: Lead, doubtful: list[Attempt]) -> None:
        """A person corrects the number and replays: refused where it would leave a doubt behind."""
        if doubtful and not self.sabotage.edit_in_doubt:
            return
        phone = self.dice.choice(self.persons)
        if phone in self.store.blocked:
            return
        if lead.allow_dupplicate or not any(
            other.phone == phone and not other.allow_dupplicate and _is_live(other) for other in self.store.leads
        ):
            lead.phone = phone
            self._replay(lead)

    def _replay(self, lead: Lead) -> None:
        proofs = [_asked_at(past) for past in lead.history if past.outcome in IN_DOUBT and past.proof]
        lead.proven_at = None if lead.overruled or not proofs else min(proofs)
        lead.replayed = True
        lead.move(State.PENDING)
        lead.failure_class, lead.attempts, lead.first_attempt_at = None, 0, None
        lead.due_at, lead.finished_at = self.now, None

    def _is_cleared(self, lead: Lead, past: Attempt) -> bool:
        fresh = bool(past.look_ups) and _moment(self.now) - past.look_ups[-1].at < timedelta(minutes=10)
        return past.proof and (past is not lead.attempt or fresh)

    def bear_fruit(self) -> None:
        """A POST has its effect long after it was proven to have none: what waited must be looked up before it goes."""
        waits = [
            lead
            for lead in self.store.leads
            if lead.state is State.PENDING
            and lead.proven_at is not None
            and (self.now - lead.proven_at >= PROOF_FOR or self.store.moved_at > lead.proven_at)
            and not self.voicery.holds(lead.id)
        ]
        for lead in waits[:1] if self.dice.random() < 0.5 else []:
            past = next(one for one in lead.history if one.outcome in IN_DOUBT)
            ended = past.ended_at if past.ended_at is not None else past.started_at
            self.voicery.bear(Post(lead.id, past.phone, self._variables(lead), lead.allow_dupplicate), ended)

    # Parts ------------------------------------------------------------------------------------------------------------

    def _variables(self, lead: Lead) -> dict[str, object]:
        variables: dict[str, object] = {"customer_name": f"Person {lead.id}"}
        return variables | {"ref": _reference(lead)} if self.reference else variables

    def _watermark(self, lead: Lead) -> int:
        return min(past.watermark for past in lead.history if past is lead.attempt or past.outcome in IN_DOUBT)

    def _prove(self, lead: Lead, attempt: Attempt, doubt: Doubt) -> Proof:
        """What a window proves, read and judged by the real decisions."""
        ours = [self._ours(other) for other in self.store.leads if other.state is State.ACCEPTED and other.attempt]
        started = min(past.started_at for past in lead.history if past is attempt or past.outcome in IN_DOUBT)
        marked = [one for one in ours if one.voicery_lead_id <= self._watermark(lead)]
        campaign: int | None = lead.campaign
        early = window.before(_moment(started), [one for one in marked if one.campaign_id == campaign], None)
        if early is None:
            campaign, early = None, window.before(_moment(started), marked, None)
        if early is None:
            return Proof()
        reading = window.Pass(campaign, early.voicery_lead_id)
        while not reading.over:
            reading.add(self.voicery.window(self.now, campaign, reading.page, reading.per_page))
        ended = attempt.ended_at if attempt.ended_at is not None else attempt.started_at
        attempted = window.Attempted(doubt, _moment(started), _moment(ended))
        in_scope = [one for one in ours if campaign in (None, one.campaign_id)]
        known = [one for one in in_scope if one.voicery_lead_id >= early.voicery_lead_id]
        bound = frozenset(one.voicery_lead_id for one in ours)
        return (self.sabotage.prove or window.prove)(attempted, reading.window(), known, bound, None)

    def _ours(self, lead: Lead) -> window.Ours:
        assert lead.attempt is not None
        return window.Ours(
            uuid.UUID(int=lead.id),
            lead.voicery_lead_id or 0,
            lead.campaign,
            lead.attempt.phone,
            _moment(lead.attempt.started_at),
            _moment(lead.finished_at or 0),
            lead.attempt.watermark,
            reference="ref" if self.reference else None,
        )

    def fail_neighbour(self) -> None:
        """A lead of another campaign of the account is answered with 404, or hangs up."""
        states = {self.store.account.state}
        neighbour = self.dice.choice(self.neighbours)
        if not self.database_up or states & {GateState.CLOSED, GateState.PROBING} or not neighbour.may_try(self.now):
            return
        reply = Reply(status=404, written=True) if neighbour.dead else Reply(fault=WireFault.CLOSED, written=True)
        outcome = classify(reply, Sent(neighbour.gate.campaign_id or 0, "+12025550199"), self.rules)
        account, neighbour.gate = gate.after_outcome(self.store.account, neighbour.gate, outcome, LIMITS)
        self._keep(account)
        if neighbour.failing_since is None:
            neighbour.failing_since = self.now
        if neighbour.gate.state is not GateState.CLOSED:
            return
        neighbour.until = self.now + (neighbour.gate.wait_seconds or 0.0)
        self._heed_neighbours(neighbour)

    def _heed_neighbours(self, neighbour: "Neighbour") -> None:
        """The account's gate when a channel has closed; I9: it stays open while another channel gets leads through."""
        reason = neighbour.gate.reason
        assert reason is not None
        alike = [one for one in self.neighbours if one.gate.state is GateState.CLOSED and one.gate.reason is reason]
        since = min(one.failing_since or 0.0 for one in alike)
        neighbours = gate.Neighbours(
            closed_alike=len(alike),
            accepted_since=self.accepted_at is not None and self.accepted_at > since,
            untried=self.store.channel == Gate("default", CAMPAIGN)
            and any(one.state in (State.PENDING, State.SENDING) for one in self.store.leads),
        )
        if self.store.account.state is GateState.OPEN and self.sabotage.is_of_account(reason, neighbours):
            self._keep(gate.closed(self.store.account, reason, LIMITS, message="no"))
            if any(moment > since for moment in self.acceptances):
                raise Broken("I9: an account is held back for campaigns of its own although another gets leads through")

    def _heed(self, outcome: Outcome, retry_after: float | None) -> bool:
        account, channel = gate.after_outcome(
            self.store.account, self.store.channel, outcome, LIMITS, retry_after_seconds=retry_after
        )
        if self.store.account.state is GateState.PROBING and outcome.signal is not None:
            refusal = outcome.signal.reason is Reason.REJECTING and self.store.account.reason is not Reason.REJECTING
            if account.state is GateState.PROBING or (account.state is GateState.OPEN and not refusal):
                raise Broken("I10: a failure while an account probes did not close it")
        self._keep(account)
        self._keep(channel)
        if outcome.kind is Kind.ACCEPTED:
            self.accepted_at = self.now
            self.acceptances.append(self.now)
        return GateState.CLOSED in (self.store.account.state, self.store.channel.state)

    def _keep(self, changed: Gate) -> None:
        before = self.store.account if changed.campaign_id is None else self.store.channel
        if changed.state is not before.state:
            self.store.moved_at = self.now
        if changed.campaign_id is None:
            self.store.account = changed
        else:
            self.store.channel = changed
        if changed.wait_seconds is not None and changed != before:
            self.store.gate_until[changed.campaign_id] = self.now + changed.wait_seconds

    # The promises -----------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """After every step."""
        persons = [attempt.phone for attempt in self.store.open_attempts()]
        if len(persons) != len(set(persons)):
            raise Broken("I3: two attempts of one person are open at once")
        for lead in self.store.leads:
            if lead.state in (State.SENDING, State.UNKNOWN) and (
                lead.attempt is None or lead.attempt.finished_at is not None
            ):
                raise Broken(f"I3: lead {lead.id} is {lead.state} and its attempt is over")

    def _check_post(self, lead: Lead, attempt: Attempt) -> None:
        """I2, at the very moment of a POST: each earlier one is proven to have had no effect, and truly had none.

        I11: nobody is called whose block was committed before the claim.
        """
        if attempt.id > self.store.blocked.get(lead.phone, attempt.id):
            raise Broken(f"I11: lead {lead.id} is POSTed although its person was blocked before it was claimed")
        unproven = self.on_unknown is OnUnknown.RESEND and not lead.allow_dupplicate
        if unproven and lead.resends:
            lead.overruled = True  # the explicit setting takes this risk
        if lead.overruled:
            return
        if self.voicery.holds(lead.id):
            raise Broken(f"I2: lead {lead.id} is POSTed again although it is there, or comes: a proof was false")
        *earlier, _present = lead.history
        for past in earlier:
            if past.outcome is Kind.CREATED_ID_UNKNOWN:
                raise Broken(f"I2: lead {lead.id} is POSTed again after Voicery said yes")
            if past.outcome not in PROVEN_FREE and not past.proof:
                raise Broken(f"I2: lead {lead.id} is POSTed again after {past.outcome} without proof")

    def check_end(self) -> None:
        """When all is over."""
        for lead in self.store.leads:
            rows = [row for row in self.voicery.rows if row.post.ref == lead.id]
            if len(rows) > 1 and not lead.overruled:
                raise Broken(f"I2: lead {lead.id} was created {len(rows)} times")
            if lead.state is State.ACCEPTED and lead.voicery_lead_id not in {row.id for row in self.voicery.rows}:
                raise Broken(f"I4: lead {lead.id} is accepted as an id that is not there")
            if lead.attempts > BUDGET.max_attempts + 1 and lead.failure_class is not FailureClass.EXHAUSTED:
                age = self.now - (lead.first_attempt_at or self.now)
                if age >= BUDGET.retry_for_seconds * 3:
                    raise Broken(f"I6: lead {lead.id} had {lead.attempts} attempts")
        held = [lead.voicery_lead_id for lead in self.store.leads if lead.voicery_lead_id is not None]
        if len(held) != len(set(held)):
            raise Broken("I5: one lead of Voicery stands for two of ours")


def _reference(lead: Lead) -> str:
    return str(uuid.UUID(int=lead.id))


def _asked_at(attempt: Attempt) -> float:
    return (attempt.look_ups[-1].at - EPOCH).total_seconds()


def _moment(at: float) -> datetime:
    return EPOCH + timedelta(seconds=at)


def _is_held(lead: Lead) -> bool:
    return lead.state is State.FAILED and lead.failure_class is FailureClass.OUTCOME_UNKNOWN


def _is_live(lead: Lead) -> bool:
    return lead.state in (State.PENDING, State.SENDING, State.UNKNOWN, State.ACCEPTED) or _is_held(lead)
