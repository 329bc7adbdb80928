"""Read windows: one pass over a campaign's list, used for every doubt of the campaign."""

import time
from collections.abc import Callable, Sequence
from typing import Final

from sqlalchemy import Connection, text

from dispatcher.decisions.window import PAGES_MOST, PER_PAGE, Ours, Pass, Window
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
WHERE attempt.campaign_id = :campaign_id AND attempt.outcome = 'accepted' AND early.finished_at < :started_at
  AND attempt.token IS NOT DISTINCT FROM CAST(:token AS text)
ORDER BY early.voicery_lead_id DESC
LIMIT 1
""")

_OURS = text("""
SELECT lead.id AS lead_id, lead.voicery_lead_id, attempt.campaign_id, attempt.phone_number, attempt.started_at,
    lead.finished_at AS accepted_at, attempt.watermark, attempt.token, attempt.reference
FROM dispatcher.leads AS lead JOIN dispatcher.lead_attempts AS attempt ON attempt.id = lead.attempt_id
WHERE lead.account = :account AND lead.voicery_lead_id >= :back_to AND lead.state || '' = 'accepted'
  AND attempt.campaign_id = :campaign_id AND attempt.outcome = 'accepted'
ORDER BY lead.voicery_lead_id
LIMIT :most
""")


class Windows:
    """The windows of one pass, one for each campaign, read at first use.

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

    def read(self, doubts: Sequence[InDoubt]) -> tuple[Window, Sequence[Ours]]:
        """Read the window that reaches back before all of `doubts`, which are of one campaign.

        Return it with the leads of ours that it must show. Raises `LimiterUnavailable`.
        """
        campaign_id = doubts[0].campaign_id
        with self._database.autocommit() as connection:
            back_to, ours = self._known(connection, doubts)
        if back_to is None:
            return Window(campaign_id, fault="No lead of this campaign was accepted before it with this token"), ours
        if len(ours) > PAGES_MOST * PER_PAGE:
            return Window(campaign_id, fault=f"More than {PAGES_MOST * PER_PAGE} leads have been accepted since"), ours
        reading = Pass(campaign_id, back_to)
        while not reading.over:
            try:
                page = self._list.page(campaign_id, None, page=reading.page, per_page=reading.per_page)
            except NoPermit as refusal:
                if not self._waited(refusal.next_in_seconds):
                    fault = "The list has too many pages for the look-ups' share of the rate"
                    return Window(campaign_id, pages=reading.page - 1, fault=fault), ours
                continue
            self.requests += 1
            reading.add(page)
        return reading.window(), ours

    def _known(self, connection: Connection, doubts: Sequence[InDoubt]) -> tuple[int | None, list[Ours]]:
        where = {"account": self._account, "campaign_id": doubts[0].campaign_id}
        reaches: list[int | None] = [
            connection.execute(
                _BACK_TO,
                where | {"watermark": doubt.watermark, "started_at": doubt.started_at, "token": self._token},
            ).scalar()
            for doubt in doubts
        ]
        known = [reach for reach in reaches if reach is not None]
        if not known:
            return None, []
        most = PAGES_MOST * PER_PAGE + 1
        rows = connection.execute(_OURS, where | {"back_to": min(known), "most": most})
        return min(known), [Ours(**row._mapping) for row in rows]  # noqa: SLF001 - SQLAlchemy's name for a public view

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
