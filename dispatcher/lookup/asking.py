"""Query Voicery's list: one page at a time, within the look-ups' share of the rate, unless the list is missing."""

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final, Protocol

from dispatcher.broker.limiter import LimiterUnavailable, Rate
from dispatcher.decisions.hints import rate_hints
from dispatcher.decisions.listing import Page, read_page
from dispatcher.decisions.reply import Reply
from dispatcher.errors import DispatcherError
from dispatcher.logs import events
from dispatcher.store import accounts
from dispatcher.store.database import Database

PER_PAGE: Final = 100
LIST_OFF_SECONDS: Final = 3600.0
"""The time in seconds for which a missing list endpoint (404, 405) is not requested again."""

TOKEN_REFUSED: Final = frozenset({401, 440, 498})
"""The statuses of answers that refuse the token."""
_THROTTLED_SECONDS: Final = 10.0  # after a 429 of the list without a wait


class Client(Protocol):
    """Requests the list endpoint; never raises."""

    def list_leads(self, *, campaign_id: int | None, phone_number: str | None, page: int, per_page: int) -> Reply:
        """Return one page, of one campaign or of all; `per_page` at most 100."""


class NoPermit(DispatcherError):
    """The rate allows no look-up now; the next may be allowed after `next_in_seconds`."""

    def __init__(self, next_in_seconds: float) -> None:
        self.next_in_seconds = next_in_seconds
        super().__init__(f"The rate limit allows no look-up for another {next_in_seconds:.0f} s; ask again then.")


class LeadList:
    """The list of one account, for one pass.

    `missing`: the endpoint does not exist, as far as is known. `down`: the last request got no answer, or a 5xx.
    """

    def __init__(
        self,
        database: Database,
        client: Client,
        rate: Rate,
        *,
        account: str,
        other_client: Callable[[], Client | None] = lambda: None,
    ) -> None:
        """Make the list of one pass.

        other_client  is called when Voicery has refused the token that `client` sends; returns the client of another
        """
        self._database = database
        self._client = client
        self._rate = rate
        self._account = account
        self._other_client = other_client
        self.changed_token = False
        """Whether another token than the first was used: what the pages show together is then no evidence."""
        self.leads_wait = True
        self.missing = False
        self.down = False

    def page(
        self, campaign_id: int | None, phone_number: str | None, *, page: int = 1, per_page: int = PER_PAGE
    ) -> Page | None:
        """Return one page, of one campaign or of all; None if the list is not available.

        Raises `NoPermit` or `LimiterUnavailable`.
        """
        if self.missing:
            return None
        # Digits only: the list matches partially, and may hold numbers with or without their plus.
        digits = None if phone_number is None else phone_number.removeprefix("+")
        reply = self._reply(campaign_id, digits, page, per_page)
        if reply.status in TOKEN_REFUSED and (other := self._other_client()) is not None:
            events.warning("token.refused", account=self._account, consequence="the other token is used")
            self._client, self.changed_token = other, True
            reply = self._reply(campaign_id, digits, page, per_page)
        self.down = reply.status is None or reply.status >= 500
        if reply.status in (404, 405):
            self._note_missing(reply.status)
        self._slow_everyone(reply)
        return read_page(reply, page=page)

    def _reply(self, campaign_id: int | None, digits: str | None, page: int, per_page: int) -> Reply:
        permits = self._rate.take_lookup(leads_wait=self.leads_wait)
        if not permits.granted:
            raise NoPermit(permits.next_in_seconds)
        return self._client.list_leads(campaign_id=campaign_id, phone_number=digits, page=page, per_page=per_page)

    def newest(self, campaign_id: int) -> Page | None:
        """Return the page with the campaign's newest leads, in either order of the list."""
        first = self.page(campaign_id, None)
        if first is None or first.complete or not _oldest_first(first) or first.last_page is None:
            return first
        return self.page(campaign_id, None, page=first.last_page)

    def _slow_everyone(self, reply: Reply) -> None:
        """Apply the rate hints of this answer to all workers of the account, also to deliveries."""
        throttled = reply.status == 429
        slowdown = rate_hints(reply, datetime.now(UTC)).slowdown(throttled=throttled)
        if throttled and (slowdown is None or slowdown[0] > 0 or slowdown[1] <= 0):
            slowdown = 0, _THROTTLED_SECONDS  # refused without a rate hint
        if slowdown is not None:
            remaining, reset_seconds = slowdown
            with suppress(LimiterUnavailable):  # the next permit needs the same Redis; the answer is still used
                self._rate.slow(remaining=remaining, reset_seconds=reset_seconds)

    def _note_missing(self, status: int) -> None:
        self.missing = True
        events.warning("list.missing", account=self._account, http_status=status)
        self._database.again(
            lambda connection: accounts.switch_list_off(connection, self._account, seconds=LIST_OFF_SECONDS)
        )


def _oldest_first(page: Page) -> bool:
    ids = [row.voicery_lead_id for row in page.rows if row.voicery_lead_id is not None]
    return len(ids) > 1 and ids == sorted(ids)
