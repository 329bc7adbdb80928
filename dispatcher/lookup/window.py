"""Read windows: one pass over a list, used for every doubt of a campaign."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from sqlalchemy import Connection, text

from dispatcher.decisions.window import NOTHING_BEFORE, PAGES_MOST, PER_PAGE, Ours, Pass, Window
from dispatcher.lookup.asking import LeadList, NoPermit
from dispatcher.lookup.doubts import InDoubt
from dispatcher.store.database import Database

WAIT_SECONDS: Final = 20.0
"""The total time in seconds that the windows of a pass may wait for the look-ups' share of the rate."""
_STEP_SECONDS: Final = 0.5

_BACK_TO = text("""
-- Of the leads that were accepted before the attempt was claimed the one with the greatest id: a window must reach it.
SELECT early.voicery_lead_id
FROM (
    SELECT voicery_lead_id, attempt_id, finished_at FROM dispatcher.leads
    WHERE account = :account AND voicery_lead_id <= :watermark AND state || '' = 'accepted'
    ORDER BY voicery_lead_id DESC LIMIT 10000
) AS early JOIN dispatcher.lead_attempts AS attempt ON attempt.id = early.attempt_id
WHERE (CAST(:campaign_id AS bigint) IS NULL OR attempt.campaign_id = :campaign_id)
  AND attempt.outcome = 'accepted' AND early.finished_at < :started_at
  AND attempt.token IS NOT DISTINCT FROM CAST(:token AS text)
ORDER BY early.voicery_lead_id DESC
LIMIT 1
""")

_OURS = text("""
SELECT lead.id AS lead_id, lead.voicery_lead_id, attempt.campaign_id, attempt.phone_number, attempt.started_at,
    lead.finished_at AS accepted_at, attempt.watermark, attempt.token, attempt.reference
FROM dispatcher.leads AS lead JOIN dispatcher.lead_attempts AS attempt ON attempt.id = lead.attempt_id
WHERE lead.account = :account AND lead.voicery_lead_id >= :back_to AND lead.state || '' = 'accepted'
  AND (CAST(:campaign_id AS bigint) IS NULL OR attempt.campaign_id = :campaign_id) AND attempt.outcome = 'accepted'
ORDER BY lead.voicery_lead_id
LIMIT :most
""")


@dataclass(frozen=True, slots=True)
class View:
    """A window, and the leads of ours that it must show."""

    window: Window
    ours: Sequence[Ours] = ()


class Windows:
    """Reads the windows of one pass.

    token   the fingerprint of the token that reads the list
    """

    def __init__(
        self,
        database: Database,
        leads: LeadList,
        *,
        account: str,
        token: str | None,
        stopping: Callable[[], bool],
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self._database = database
        self._list = leads
        self._account = account
        self._token = token
        self._stopping = stopping
        self._wait = wait
        self._waits_for = WAIT_SECONDS
        self.requests = 0
        """The number of pages that have been requested."""

    def read(self, doubts: Sequence[InDoubt]) -> Mapping[UUID, View]:
        """Return a view for each of `doubts`, which are of one campaign, by the ids of their leads.

        One window of the campaign's list serves all but those before which no lead of the campaign was accepted: for
        these, a window of the account's list is read. Raises `LimiterUnavailable`.
        """
        campaign_id = doubts[0].campaign_id
        with self._database.autocommit() as connection:
            reaches = {doubt.lead_id: self._back_to(connection, doubt, campaign_id) for doubt in doubts}
        first = [doubt for doubt in doubts if reaches[doubt.lead_id] is None]
        known = [reach for reach in reaches.values() if reach is not None]
        views: dict[UUID, View] = {}
        if known:
            view = self._view(campaign_id, min(known))
            views = dict.fromkeys(reaches, view)
        if first:
            with self._database.autocommit() as connection:
                found = [self._back_to(connection, doubt, None) for doubt in first]
            known = [reach for reach in found if reach is not None]
            view = self._view(None, min(known)) if known else View(Window(None, fault=NOTHING_BEFORE))
            views |= {doubt.lead_id: view for doubt in first}
        return views

    def _view(self, campaign_id: int | None, back_to: int) -> View:
        with self._database.autocommit() as connection:
            ours = self._ours(connection, campaign_id, back_to)
        if len(ours) > PAGES_MOST * PER_PAGE:
            fault = f"More than {PAGES_MOST * PER_PAGE} leads have been accepted since"
            return View(Window(campaign_id, fault=fault), ours)
        return View(self._pass(campaign_id, back_to), ours)

    def _pass(self, campaign_id: int | None, back_to: int) -> Window:
        reading = Pass(campaign_id, back_to)
        while not reading.over:
            try:
                page = self._list.page(campaign_id, None, page=reading.page, per_page=reading.per_page)
            except NoPermit as refusal:
                if not self._waited(refusal.next_in_seconds):
                    fault = "The list has too many pages for the look-ups' share of the rate"
                    return Window(campaign_id, pages=reading.page - 1, fault=fault)
                continue
            self.requests += 1
            reading.add(page)
        return reading.window()

    def _back_to(self, connection: Connection, doubt: InDoubt, campaign_id: int | None) -> int | None:
        """Return the Voicery id that a window about `doubt` must reach; None if there is none."""
        found = connection.execute(
            _BACK_TO,
            {
                "account": self._account,
                "campaign_id": campaign_id,
                "watermark": doubt.watermark,
                "started_at": doubt.started_at,
                "token": self._token,
            },
        ).scalar()
        return None if found is None else int(found)

    def _ours(self, connection: Connection, campaign_id: int | None, back_to: int) -> list[Ours]:
        """Return the leads of ours from `back_to` on; one more than the greatest number where there are too many."""
        rows = connection.execute(
            _OURS,
            {
                "account": self._account,
                "campaign_id": campaign_id,
                "back_to": back_to,
                "most": PAGES_MOST * PER_PAGE + 1,
            },
        )
        return [Ours(**row._mapping) for row in rows]  # noqa: SLF001 - SQLAlchemy's name for a public view

    def _waited(self, seconds: float) -> bool:
        """Wait for a permit, if one is expected soon and the process is not stopping."""
        if seconds > self._waits_for:
            return False
        self._waits_for -= seconds
        left = seconds
        while left > 0:
            if self._stopping():
                return False
            self._wait(min(left, _STEP_SECONDS))
            left -= _STEP_SECONDS
        return True
