"""Look up leads of one account; a run of it first probes the closed gates of the account."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import Connection

from dispatcher.broker.doorbell import Bell
from dispatcher.broker.limiter import LimiterUnavailable, Rate
from dispatcher.config.settings import Settings
from dispatcher.decisions.absence import Decision, Doubt, Judgement, LookUp, OnUnknown, Step, Verdict, judge, may_prove
from dispatcher.decisions.listing import ListedLead, Page
from dispatcher.decisions.reply import same_number
from dispatcher.decisions.states import State
from dispatcher.decisions.window import Attempted, Proof, Window, prove
from dispatcher.failpoint import reach
from dispatcher.logs import events
from dispatcher.lookup import doubts
from dispatcher.lookup.asking import Client, LeadList, NoPermit
from dispatcher.lookup.conclusion import Conclusions, Sight, circumstances, earlier_looks
from dispatcher.lookup.doubts import InDoubt
from dispatcher.lookup.probing import probe_gates
from dispatcher.lookup.window import WAIT_SECONDS, Windows
from dispatcher.store import accounts
from dispatcher.store.counters import LOOKUPS, Tally
from dispatcher.store.database import Database

PAGES_PAY_FROM: Final = 4
"""From this number of doubts of one campaign, its newest page is read first: it may prove presence for several."""

_AT_ONCE: Final = 50


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one look-up."""

    lead_id: UUID
    verdict: Verdict
    decision: Decision
    voicery_lead_id: int | None = None


@dataclass(frozen=True, slots=True)
class _Judged:
    """A doubt, and the judgement of the list.

    answered   the list answered, or is known to be missing
    listed     a page of it could be had
    """

    doubt: InDoubt
    asked_at: datetime
    judgement: Judgement
    answered: bool
    listed: bool

    @property
    def missing(self) -> str:
        """Why the list proves nothing, where it showed neither the lead nor all that it has of the number."""
        if self.judgement.verdict is not Verdict.UNAVAILABLE:
            return ""
        return _PARTIAL if self.listed else "The list could not be had"


_PARTIAL: Final = "The list does not say that it shows all leads of the number"


def _seen_in(window: Window, doubt: Doubt, possible: ListedLead, bound: frozenset[int]) -> Judgement:
    """Judge what a window shows of a lead that the search by its number did not find."""
    seen = judge(doubt, Page(window.rows, complete=False), bound)
    return seen if seen.verdict is Verdict.MATCH else Judgement(Verdict.POSSIBLE, possible)


class LookUpRun:
    """Look-ups of one account. Create one for each run."""

    def __init__(
        self,
        database: Database,
        settings: Settings,
        client: Client,
        rate: Rate,
        bell: Bell,
        *,
        account: str,
        token: str | None = None,
        other_client: Callable[[], Client | None] = lambda: None,
        clock: Callable[[], float],
        stopping: Callable[[], bool],
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        """Make the look-ups of one pass.

        token   the fingerprint of the token that `client` sends; `other_client` makes one of another, if there is one
        clock   returns seconds, and also counts while suspended; `wait` sleeps
        """
        self._database = database
        self._list = LeadList(database, client, rate, account=account, other_client=other_client)
        self._bell = bell
        self._conclusions = Conclusions(database, bell, settings)
        self._account = account
        self._settings = settings
        self._token = token
        # A run ends in time, but for the requests of its last campaign; the leads of a killed run are due again then.
        self._hold_seconds = settings.run_for_seconds + WAIT_SECONDS + 4 * settings.deadline_seconds
        self._clock = clock
        self._stopping = stopping
        self._watermark_off = False
        self._windows = Windows(database, self._list, account=account, token=token, stopping=stopping, wait=wait)
        self._taken_at = 0.0
        self.tally = Tally()
        """The counters of this pass."""

    def run(self) -> int:
        """Probe gates and look up due leads, for a few seconds. Return the number of leads that were looked up."""
        self._bell.clear_lookup(self._account)
        self._look_around()
        ends_at = self._clock() + self._settings.run_for_seconds
        looked_up = 0
        try:
            probe_gates(self._database, self._list, self._bell, self._settings.gate_limits, self._account)
            while not self._stopping() and self._clock() < ends_at:
                batch = self._take(
                    lambda connection: doubts.take_due(
                        connection, self._account, most=_AT_ONCE, hold_seconds=self._hold_seconds
                    )
                )
                if not batch:
                    break
                looked_up += self._resolve_all(batch, ends_at)
        except (NoPermit, LimiterUnavailable):
            # The sweep rings again; the leads that were taken have been released.
            return looked_up
        return looked_up

    def look_up(self, ids: Sequence[UUID]) -> list[Finding]:
        """Look these up now, due or not, one after the other. Leads whose outcome is known are skipped.

        A lead that Voicery refused as a duplicate is looked up too, to find the lead that Voicery has; its state stays.
        Raises `LimiterUnavailable` or `NoPermit` if the rate forbids it.
        """
        self._look_around()
        return [finding for lead_id in ids if (finding := self._look_up(lead_id)) is not None]

    def _look_up(self, lead_id: UUID) -> Finding | None:
        taken = self._take(lambda connection: doubts.take_named(connection, [lead_id]))
        if not taken:
            return None
        if taken[0].state is State.DUPLICATE:
            return self._find_existing(taken[0])
        judged = self._ask(taken[0])
        return self._conclude_all([judged], always=True)[0]

    # A pass -----------------------------------------------------------------------------------------------------------

    def _look_around(self) -> None:
        with self._database.transaction() as connection:
            self._list.leads_wait = accounts.leads_wait(connection, self._account)
            account = accounts.read(connection, self._account)
        self._list.missing = account.list_off_until is not None
        self._watermark_off = account.watermark_off

    def _take(self, take: Callable[[Connection], list[InDoubt]]) -> list[InDoubt]:
        taken = self._database.again(take)
        if taken:
            reach("lookup.taken")
        self._taken_at = self._clock()  # afterwards, so that `_now` is never ahead of the database
        return taken

    def _resolve_all(self, batch: Sequence[InDoubt], ends_at: float) -> int:
        """Look up leads by campaign: first those that are present, which binds their rows, then the absent ones."""
        done = 0
        left = list(batch)
        try:
            pages = self._newest_pages(batch)
            while left and not self._stopping() and self._clock() < ends_at:
                campaign_id = left[0].campaign_id
                absent: list[_Judged] = []
                while left and left[0].campaign_id == campaign_id and not self._stopping() and self._clock() < ends_at:
                    judged = self._ask(left[0], pages.get(campaign_id))
                    if judged.judgement.verdict is Verdict.ABSENT:
                        absent.append(judged)
                    else:
                        self._conclude(judged)
                        done += 1
                    left.pop(0)
                try:
                    done += len(self._conclude_all(absent))
                except BaseException:
                    left = [one.doubt for one in absent] + left
                    raise
        except (NoPermit, LimiterUnavailable) as refusal:
            wait = refusal.next_in_seconds if isinstance(refusal, NoPermit) else 1.0
            self._put_back(left, seconds=wait)
            raise
        self._put_back(left, seconds=0.0)
        return done

    def _put_back(self, left: Sequence[InDoubt], *, seconds: float) -> None:
        if left:
            ids = sorted(doubt.lead_id for doubt in left)
            self._database.again(lambda connection: doubts.postpone(connection, ids, seconds=seconds))

    def _newest_pages(self, batch: Sequence[InDoubt]) -> Mapping[int, Page]:
        """Read one page without a number for campaigns with several doubts; it can prove presence, never absence."""
        counts: dict[int, int] = {}
        for doubt in batch:
            counts[doubt.campaign_id] = counts.get(doubt.campaign_id, 0) + 1
        pages: dict[int, Page] = {}
        for campaign_id, count in counts.items():
            if count >= PAGES_PAY_FROM and (page := self._list.newest(campaign_id)) is not None:
                pages[campaign_id] = page
        return pages

    # One lead ---------------------------------------------------------------------------------------------------------

    def _ask(self, doubt: InDoubt, newest: Page | None = None) -> "_Judged":
        """Request the number in all campaigns, unless the campaign's newest page shows the lead."""
        asked_at = self._now(doubt)
        judgement = Judgement(Verdict.UNAVAILABLE)
        answered = listed = True
        if newest is not None and not doubt.resends:  # after a resend there may be two of it, on different pages
            judgement = self._judge(doubt, newest)
        if judgement.verdict is not Verdict.MATCH:
            page = self._list.page(None, doubt.phone_number)
            listed = page is not None
            answered = listed or self._list.missing
            judgement = self._judge(doubt, page)
        return _Judged(doubt, asked_at, judgement, answered, listed)

    def _conclude_all(self, judged: Sequence["_Judged"], *, always: bool = False) -> list[Finding]:
        """Conclude doubts of one campaign; a window is read for those that it could prove absent.

        always   also if a setting forbids a resend: an operator may replay because of a proof
        """
        provable = [one for one in judged if one.judgement.verdict is Verdict.ABSENT and self._may_prove(one, always)]
        if not provable:
            return [self._conclude(one) for one in judged]
        views = self._windows.read([one.doubt for one in provable])
        if not self._watermark_off and any(
            one.voicery_lead_id <= judged.doubt.watermark and one.started_at > judged.doubt.ended_at
            for judged in provable
            for one in views[judged.doubt.lead_id].ours
        ):
            self._switch_watermark_off("a later lead has a smaller id")
        with self._database.autocommit() as connection:
            rows = [row for view in views.values() for row in view.window.rows]
            bound = doubts.bound(connection, self._account, rows)
        token = "several" if self._list.changed_token else self._token  # pages of two tokens prove nothing together
        findings = []
        for one in judged:
            view, proof = views.get(one.doubt.lead_id), None
            if view is not None:
                attempt = Attempted(self._as_sent(one.doubt), one.doubt.started_at, one.doubt.ended_at, one.doubt.token)
                proof = prove(attempt, view.window, view.ours, bound, token)
            window = view.window if view is not None else None
            if window is None or proof is None or proof.possible is None:
                findings.append(self._conclude(one, window, proof))
                continue
            seen = _seen_in(window, self._as_sent(one.doubt), proof.possible, bound)
            found = Proof() if seen.verdict is Verdict.MATCH else proof
            findings.append(self._conclude(replace(one, judgement=seen), window, found))
        return findings

    def _may_prove(self, judged: "_Judged", always: bool) -> bool:  # noqa: FBT001 - named at each call above
        doubt = judged.doubt
        case = circumstances(doubt, self._settings)
        if not may_prove(earlier_looks(doubt), judged.asked_at, case):
            return False
        if always or case.granted is not None:
            return True
        by_policy = case.on_unknown is not OnUnknown.HOLD and case.resends == 0
        return by_policy and (not case.allow_dupplicate or case.reference_sent)

    def _conclude(self, judged: "_Judged", window: Window | None = None, proof: Proof | None = None) -> Finding:
        doubt, judgement, proof = judged.doubt, judged.judgement, proof or Proof(missing=judged.missing)
        look = LookUp(judged.asked_at, judgement.verdict, proof.proven, proof.by_reference, judged.answered)
        decision = self._conclusions.conclude(doubt, Sight(look, judgement, window, proof))
        events.info(
            "lookup.finished",
            lead_id=str(doubt.lead_id),
            account=doubt.account,
            campaign_id=doubt.campaign_id,
            verdict=judgement.verdict.value,
            control=proof.proven,
            step=decision.step.value,
            missing=proof.missing or None,
        )
        self.tally.add(LOOKUPS, judgement.verdict.value)
        found = judgement.row.voicery_lead_id if judgement.row is not None else None
        return Finding(doubt.lead_id, judgement.verdict, decision, found)

    def _now(self, doubt: InDoubt) -> datetime:
        """Return the database's time: when the lead was taken, plus the time that has passed here since."""
        return doubt.now + timedelta(seconds=max(0.0, self._clock() - self._taken_at))

    def _judge(self, doubt: InDoubt, page: Page | None) -> Judgement:
        rows = page.rows if page is not None else ()
        if any(row.voicery_lead_id is None for row in rows) and not self._watermark_off:
            self._switch_watermark_off("an id at Voicery is no integer")
        with self._database.autocommit() as connection:
            bound = doubts.bound(connection, doubt.account, rows, doubt.lead_id)
        return judge(self._as_sent(doubt), page, bound)

    def _as_sent(self, doubt: InDoubt) -> Doubt:
        name = doubt.reference
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

    def _switch_watermark_off(self, why: str) -> None:
        self._watermark_off = True
        events.warning("watermark.off", account=self._account, why=why)
        self._database.again(lambda connection: accounts.switch_watermark_off(connection, self._account))

    def _find_existing(self, doubt: InDoubt) -> Finding:
        """Find the lead that Voicery has for the person of a duplicate; it is stored as evidence only."""
        page = self._list.page(doubt.campaign_id, doubt.phone_number)
        rows = page.rows if page is not None else ()
        ids = [
            row.voicery_lead_id
            for row in rows
            if row.voicery_lead_id is not None
            and row.campaign_id == doubt.campaign_id
            and same_number(row.phone_number, doubt.phone_number)
        ]
        if page is None:
            return Finding(doubt.lead_id, Verdict.UNAVAILABLE, Decision(Step.STAY, "The list could not be had."))
        if not ids:
            verdict = Verdict.ABSENT if page.complete else Verdict.UNAVAILABLE
            return Finding(doubt.lead_id, verdict, Decision(Step.STAY, "Voicery's list shows no lead of this person."))
        found = min(ids)
        self._database.again(lambda connection: doubts.note(connection, doubt, {"existing_voicery_lead_id": found}))
        why = f"Voicery has this person in this campaign as its lead {found}."
        return Finding(doubt.lead_id, Verdict.POSSIBLE, Decision(Step.STAY, why), found)
