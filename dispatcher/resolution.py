"""Resolution: leads whose POST may have worked are looked up, never simply sent again (design section 7).

One run of `dispatcher.lookup(account)`: probe the gates that are due, then look up the leads that are due, within the
look-ups' share of the rate. Every look-up and every decision is kept as evidence on the attempt.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Protocol
from uuid import UUID

from sqlalchemy import Connection

from dispatcher import events
from dispatcher.answer import match_contacts
from dispatcher.gate import GateLimits, GateState, after_probe
from dispatcher.hints import rate_hints
from dispatcher.limiter import LimiterUnavailable, Permits
from dispatcher.listing import ListedLead, Page, read_page
from dispatcher.outcome import Kind
from dispatcher.reply import Reply
from dispatcher.store import accounts, doubts, gates, incidents
from dispatcher.store.database import Database, StatementRefused
from dispatcher.store.doubts import Control, InDoubt
from dispatcher.store.incidents import IncidentKind
from dispatcher.tally import LOOKUPS, Tally
from dispatcher.verdict import (
    Circumstances,
    Decision,
    Doubt,
    Judgement,
    LookUp,
    OnUnknown,
    Step,
    Verdict,
    decide,
    judge,
)

PER_PAGE: Final = 100
LIST_OFF_SECONDS: Final = 3600.0
"""A list endpoint that is missing (404, 405) is not asked again for this long."""

PAGES_PAY_FROM: Final = 4
"""From so many doubts of one campaign, its newest page is read first: it may prove presence for several at once."""

_HOLD_SECONDS: Final = 120.0
_AT_ONCE: Final = 50


class Client(Protocol):
    """Asks the list endpoint; never raises."""

    def list_leads(self, *, campaign_id: int, phone_number: str | None, page: int, per_page: int) -> Reply: ...


class Rate(Protocol):
    """The look-ups' share of the account's permits. Raises `LimiterUnavailable`."""

    def take_lookup(self, *, leads_wait: bool) -> Permits: ...
    def slow(self, *, remaining: int, reset_seconds: float) -> None: ...


class Bell(Protocol):
    """The doorbells. Never raises."""

    def ring(self, account: str, campaign_id: int) -> bool: ...
    def clear_lookup(self, account: str) -> None: ...


@dataclass(frozen=True, slots=True)
class LookUpTerms:
    """The settings that look-ups depend on; durations in seconds."""

    on_unknown: OnUnknown
    settle_seconds: float
    unknown_for_seconds: float
    reference_variable: str | None
    run_for_seconds: float


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of one look-up."""

    lead_id: UUID
    verdict: Verdict
    decision: Decision
    voicery_lead_id: int | None = None


class NoPermit(Exception):
    """The rate allows no look-up now; `next_in_seconds` from now it may."""

    def __init__(self, next_in_seconds: float) -> None:
        self.next_in_seconds = next_in_seconds
        super().__init__("no permit")


class Resolution:
    """Look-ups of one account. Make one for each run: it remembers, for its pass, what the controls said."""

    def __init__(
        self,
        database: Database,
        client: Client,
        rate: Rate,
        bell: Bell,
        *,
        account: str,
        terms: LookUpTerms,
        limits: GateLimits,
        clock: Callable[[], float],
        stopping: Callable[[], bool],
    ) -> None:
        self._database = database
        self._client = client
        self._rate = rate
        self._bell = bell
        self._account = account
        self._terms = terms
        self._limits = limits
        self._clock = clock
        self._stopping = stopping
        self._leads_wait = True
        self._list_missing = False
        self._watermark_off = False
        self._controls: dict[UUID, tuple[bool, bool]] = {}
        self.tally = Tally()
        """What this pass has counted."""

    def run(self) -> int:
        """Probe gates and look up what is due, for a few seconds. Returns how many leads were looked up."""
        self._bell.clear_lookup(self._account)
        self._look_around()
        ends_at = self._clock() + self._terms.run_for_seconds
        looked_up = 0
        try:
            self._probe_gates()
            while not self._stopping() and self._clock() < ends_at:
                with self._database.transaction() as connection:
                    batch = doubts.take_due(connection, self._account, most=_AT_ONCE, hold_seconds=_HOLD_SECONDS)
                if not batch:
                    break
                looked_up += self._resolve_all(batch, ends_at)
        except (NoPermit, LimiterUnavailable):
            # The sweep rings again; the leads that were taken have been put back.
            return looked_up
        return looked_up

    def look_up(self, ids: Sequence[UUID]) -> list[Finding]:
        """Look these up now, due or not. Raises `LimiterUnavailable` or `NoPermit` where the rate forbids it."""
        self._look_around()
        with self._database.transaction() as connection:
            named = doubts.take_named(connection, ids)
        return [self._resolve(doubt) for doubt in named]

    # A pass -----------------------------------------------------------------------------------------------------------

    def _look_around(self) -> None:
        with self._database.transaction() as connection:
            self._leads_wait = doubts.leads_wait(connection, self._account)
            account = accounts.read(connection, self._account)
        self._list_missing = account.list_off_until is not None
        self._watermark_off = account.watermark_off

    def _resolve_all(self, batch: Sequence[InDoubt], ends_at: float) -> int:
        done = 0
        left = list(batch)
        try:
            pages = self._newest_pages(batch)
            while left and not self._stopping() and self._clock() < ends_at:
                doubt = left[0]
                self._resolve(doubt, pages.get(doubt.campaign_id))
                left.pop(0)
                done += 1
        except (NoPermit, LimiterUnavailable) as refusal:
            wait = refusal.next_in_seconds if isinstance(refusal, NoPermit) else 1.0
            self._put_back(left, seconds=wait)
            raise
        self._put_back(left, seconds=0.0)
        return done

    def _put_back(self, left: Sequence[InDoubt], *, seconds: float) -> None:
        if left:
            with self._database.transaction() as connection:
                doubts.postpone(connection, [doubt.lead_id for doubt in left], seconds=seconds)

    def _newest_pages(self, batch: Sequence[InDoubt]) -> Mapping[int, Page]:
        """For campaigns with several doubts: one page without a number, which can prove presence, never absence."""
        counts: dict[int, int] = {}
        for doubt in batch:
            counts[doubt.campaign_id] = counts.get(doubt.campaign_id, 0) + 1
        pages: dict[int, Page] = {}
        for campaign_id, count in counts.items():
            if count >= PAGES_PAY_FROM and (page := self._newest_page(campaign_id)) is not None:
                pages[campaign_id] = page
        return pages

    def _newest_page(self, campaign_id: int) -> Page | None:
        first = self._list(campaign_id, None)
        if first is None or first.complete or not _oldest_first(first) or first.last_page is None:
            return first
        return self._list(campaign_id, None, page=first.last_page)

    # One lead ---------------------------------------------------------------------------------------------------------

    def _resolve(self, doubt: InDoubt, newest: Page | None = None) -> Finding:
        judgement = self._judge(doubt, newest) if newest is not None else Judgement(Verdict.ABSENT)
        if judgement.verdict is not Verdict.MATCH:
            judgement = self._judge(doubt, self._list(doubt.campaign_id, doubt.phone_number))
        control, control_reference = self._control(doubt) if judgement.verdict is Verdict.ABSENT else (False, False)
        look = LookUp(self._now(doubt), judgement.verdict, control, control_reference)
        decision = decide(look, _earlier(doubt), self._circumstances(doubt))
        self._carry_out(doubt, judgement, look, decision)
        events.note(
            "lookup.finished",
            lead_id=str(doubt.lead_id),
            account=doubt.account,
            campaign_id=doubt.campaign_id,
            verdict=judgement.verdict.value,
            control=control,
            step=decision.step.value,
        )
        self.tally.add(LOOKUPS, judgement.verdict.value)
        found = judgement.row.voicery_lead_id if judgement.row is not None else None
        return Finding(doubt.lead_id, judgement.verdict, decision, found)

    def _judge(self, doubt: InDoubt, page: Page | None) -> Judgement:
        ids = [row.voicery_lead_id for row in page.rows if row.voicery_lead_id is not None] if page is not None else []
        if page is not None and len(ids) < len(page.rows) and not self._watermark_off:
            self._switch_watermark_off("an id at Voicery is no integer")
        with self._database.transaction() as connection:
            bound = doubts.bound(connection, doubt.account, ids, doubt.lead_id)
        return judge(self._as_sent(doubt), page, bound)

    def _as_sent(self, doubt: InDoubt) -> Doubt:
        name = self._terms.reference_variable
        variables = dict(doubt.variables)
        if name is not None:
            variables[name] = str(doubt.lead_id)
        return Doubt(
            campaign_id=doubt.campaign_id,
            phone_number=doubt.phone_number,
            variables=variables,
            watermark=None if self._watermark_off else doubt.watermark,
            reference=None if name is None else (name, str(doubt.lead_id)),
        )

    def _control(self, doubt: InDoubt) -> tuple[bool, bool]:
        """Whether the list shows a lead that it must show; and whether that row carries its own reference."""
        with self._database.transaction() as connection:
            known = doubts.control(connection, doubt, settle_seconds=self._terms.settle_seconds)
        if known is None:
            return False, False
        if known.lead_id not in self._controls:
            self._controls[known.lead_id] = self._ask_for(known)
        if known.voicery_lead_id <= doubt.watermark and not self._watermark_off:
            self._switch_watermark_off("a later lead has a smaller id")
        return self._controls[known.lead_id]

    def _ask_for(self, known: Control) -> tuple[bool, bool]:
        page = self._list(known.campaign_id, known.phone_number)
        for row in page.rows if page is not None else ():
            if row.voicery_lead_id == known.voicery_lead_id:
                return True, self._carries_reference(row, known.lead_id)
        return False, False

    def _carries_reference(self, row: ListedLead, lead_id: UUID) -> bool:
        name = self._terms.reference_variable
        return name is not None and row.variables is not None and row.variables.get(name) == str(lead_id)

    def _switch_watermark_off(self, why: str) -> None:
        self._watermark_off = True
        events.warn("watermark.off", account=self._account, why=why)
        with self._database.transaction() as connection:
            doubts.switch_watermark_off(connection, self._account)

    def _circumstances(self, doubt: InDoubt) -> Circumstances:
        return Circumstances(
            kind=Kind(doubt.outcome),
            on_unknown=self._terms.on_unknown,
            allow_dupplicate=doubt.allow_dupplicate,
            resends=doubt.resends,
            ended_at=doubt.ended_at,
            settle_seconds=self._terms.settle_seconds,
            unknown_for_seconds=self._terms.unknown_for_seconds,
            reference_sent=self._terms.reference_variable is not None,
        )

    def _now(self, doubt: InDoubt) -> datetime:
        """The database's time when the lead was taken: the settle times between look-ups are measured on one clock."""
        return doubt.now

    # Carrying out -----------------------------------------------------------------------------------------------------

    def _carry_out(self, doubt: InDoubt, judgement: Judgement, look: LookUp, decision: Decision) -> None:
        try:
            with self._database.transaction() as connection:
                doubts.note(connection, doubt, _evidence(doubt, judgement, look, decision))
                if judgement.several or judgement.verdict is Verdict.POSSIBLE:
                    self._report(connection, doubt, judgement)
                self._move(connection, doubt, judgement, decision)
        except StatementRefused as refusal:
            # Another lead was bound to this id, or became live for this person, a moment ago: look again.
            events.warn("lookup.overtaken", lead_id=str(doubt.lead_id), constraint=refusal.constraint)
            return
        if decision.step is Step.RESEND:
            self._bell.ring(doubt.account, doubt.campaign_id)
        if decision.step is Step.FAIL:
            events.warn("lead.outcome_unknown", lead_id=str(doubt.lead_id), campaign_id=doubt.campaign_id)

    def _move(self, connection: Connection, doubt: InDoubt, judgement: Judgement, decision: Decision) -> bool:
        match decision.step:
            case Step.ACCEPT if judgement.row is not None and judgement.row.voicery_lead_id is not None:
                contacts, _ = match_contacts(list(judgement.row.contacts), doubt.contacts)
                return doubts.accept(
                    connection,
                    doubt,
                    voicery_lead_id=judgement.row.voicery_lead_id,
                    voicery_status=judgement.row.status,
                    contacts=contacts,
                    why=decision.why,
                )
            case Step.RESEND:
                return doubts.resend(connection, doubt)
            case Step.DUPLICATE:
                return doubts.duplicate(connection, doubt, decision.why)
            case Step.FAIL:
                return doubts.fail(connection, doubt, decision.why, cause=f"{doubt.outcome}:{judgement.verdict}")
            case Step.AGAIN | Step.ACCEPT:
                return doubts.look_again(connection, doubt, seconds=decision.again_in_seconds)

    def _report(self, connection: Connection, doubt: InDoubt, judgement: Judgement) -> None:
        found = judgement.row.voicery_lead_id if judgement.row is not None else None
        if judgement.several:
            kind, message = IncidentKind.CALLED_TWICE, "Voicery holds more than one lead that matches this one."
        else:
            kind, message = IncidentKind.POSSIBLE_MATCH, "Voicery holds a lead of this person that may be this one."
        incidents.open_incident(connection, kind, doubt.lead_id, message, {"voicery_lead_id": found})
        events.alarm(f"incident.{kind.value}", lead_id=str(doubt.lead_id), voicery_lead_id=found)

    # Gates ------------------------------------------------------------------------------------------------------------

    def _probe_gates(self) -> None:
        """Ask the list on behalf of the gates whose wait is over: does Voicery answer this account at all?"""
        with self._database.transaction() as connection:
            waiting = gates.waiting_for_probe(connection, self._account)
            any_campaign = doubts.any_campaign(connection, self._account)
        for campaign_id in waiting:
            ask_about = campaign_id or any_campaign
            answered = ask_about is not None and self._list(ask_about, None) is not None
            with self._database.transaction() as connection:
                gate = gates.lock_one(connection, self._account, campaign_id)
                probed = after_probe(gate, answered=answered, limits=self._limits)
                gates.save(connection, probed)
            events.note("gate.probed", account=self._account, campaign_id=campaign_id, answered=answered)
            if probed.state is GateState.PROBING and ask_about is not None:
                self._bell.ring(self._account, ask_about)

    # The list ---------------------------------------------------------------------------------------------------------

    def _list(self, campaign_id: int, phone_number: str | None, *, page: int = 1) -> Page | None:
        """One page, within the rate; None where the list cannot be had. Raises `NoPermit` or `LimiterUnavailable`."""
        if self._list_missing:
            return None
        permits = self._rate.take_lookup(leads_wait=self._leads_wait)
        if not permits.granted:
            raise NoPermit(permits.next_in_seconds)
        # Digits only: the list matches partially, and may hold numbers with or without their plus.
        digits = None if phone_number is None else phone_number.removeprefix("+")
        reply = self._client.list_leads(campaign_id=campaign_id, phone_number=digits, page=page, per_page=PER_PAGE)
        if reply.status in (404, 405):
            self._list_missing = True
            events.warn("list.missing", account=self._account, http_status=reply.status)
            with self._database.transaction() as connection:
                doubts.switch_list_off(connection, self._account, seconds=LIST_OFF_SECONDS)
        hints = rate_hints(reply, datetime.now(UTC))
        if reply.status == 429:
            self._rate.slow(remaining=0, reset_seconds=hints.retry_after_seconds or 10.0)
        return read_page(reply, per_page=PER_PAGE)


def _earlier(doubt: InDoubt) -> list[LookUp]:
    kept = doubt.evidence.get("lookups", [])
    return [
        LookUp(
            at=datetime.fromisoformat(one["at"]),
            verdict=Verdict(one["verdict"]),
            control=bool(one.get("control")),
            control_reference=bool(one.get("control_reference")),
        )
        for one in kept
    ]


def _evidence(doubt: InDoubt, judgement: Judgement, look: LookUp, decision: Decision) -> dict[str, object]:
    this: dict[str, object] = {
        "at": look.at.isoformat(),
        "verdict": look.verdict.value,
        "control": look.control,
        "control_reference": look.control_reference,
        "step": decision.step.value,
    }
    if judgement.row is not None:
        this["voicery_lead_id"] = judgement.row.voicery_lead_id
        this["by_reference"] = judgement.by_reference
    lookups = [*doubt.evidence.get("lookups", []), this]
    return {"lookups": lookups, "proof": decision.proof, "decision": decision.step.value, "why": decision.why}


def _oldest_first(page: Page) -> bool:
    ids = [row.voicery_lead_id for row in page.rows if row.voicery_lead_id is not None]
    return len(ids) > 1 and ids == sorted(ids)
