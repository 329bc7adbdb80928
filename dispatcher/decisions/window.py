"""A window: a list, read in one pass from its newest lead back to one that is known. Pure functions.

A list proves that a POST had no effect only as far as it shows what it must show. Read completely, by its own counts,
newest first, back to a lead of ours that was accepted before the attempt was claimed, it must show that lead, at least
one that was accepted after the attempt ended, and every one accepted in between, each under its id and with its number;
and nothing in it may be the lead that is looked for. The list is the campaign's; where no lead of the campaign was
accepted before, it is the account's, back to a lead of any campaign.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Final
from uuid import UUID

from dispatcher.decisions.absence import Doubt, same_nonempty_variables
from dispatcher.decisions.likeness import Likeness, likeness
from dispatcher.decisions.listing import ListedLead, Page

PER_PAGE: Final = 100
PAGES_MOST: Final = 60
"""A window of more pages is not read. The look-ups' share of a small rate ends one sooner (`lookup.window`)."""
_UNORDERED_MOST: Final = 3 * PER_PAGE  # a list in another order is read to its end, if it is as short as this
_UNORDERED: Final = "The list is not in the order of its ids or of its times of creation, the newest first"


@dataclass(frozen=True, slots=True)
class Ours:
    """A lead of ours that Voicery accepted, with the attempt that was answered. The repr names no person.

    `watermark` is the greatest Voicery id that the account had stored when that attempt was claimed: an id that is not
    greater was there before, and shows nothing about the list of now.
    """

    lead_id: UUID
    voicery_lead_id: int
    campaign_id: int
    phone_number: str = field(repr=False)
    started_at: datetime
    accepted_at: datetime
    watermark: int
    token: str | None = None
    reference: str | None = None

    @property
    def created(self) -> bool:
        """Whether Voicery created a lead for it, rather than handing back an older one."""
        return self.voicery_lead_id > self.watermark


@dataclass(frozen=True, slots=True)
class Window:
    """What one pass over a list came to.

    campaign_id   whose list it is; None: the account's
    fault         why it is not to be believed; None if it may be
    """

    campaign_id: int | None
    rows: tuple[ListedLead, ...] = ()
    pages: int = 0
    fault: str | None = None


@dataclass(frozen=True, slots=True)
class Proof:
    """Whether a window proves that an attempt had no effect, and what is missing where it does not.

    possible        a row that may be the lead that is looked for
    by_reference    a lead of ours that was accepted later carries its reference
    before, after   the Voicery ids of the leads of ours that bound the time of the attempt
    """

    proven: bool = False
    missing: str = ""
    by_reference: bool = False
    possible: ListedLead | None = None
    before: int | None = None
    after: int | None = None


class Pass:
    """Puts the pages of one pass together, and says which to ask for next.

    Pages differ in size, so that each begins with rows that are known: where it does not, the list has lost rows, or
    moved them, between two pages.
    """

    def __init__(self, campaign_id: int | None, back_to: int) -> None:
        """`back_to`: the Voicery id of the lead that the window must reach."""
        self._campaign_id = campaign_id
        self._back_to = back_to
        self._rows: list[ListedLead] = []
        self._total = self._total_at_first = 0
        self._pages = 0
        self._fault: str | None = None
        self._whole = False

    @property
    def per_page(self) -> int:
        """How many rows to ask for next."""
        return self._next()[1]

    @property
    def page(self) -> int:
        """Which page of that size to ask for next; the first is 1."""
        return self._next()[0]

    def _next(self) -> tuple[int, int]:
        """Return the page and its size that shows the most new rows, of those that begin with a known one."""
        known = len(self._rows) + self._total - self._total_at_first  # what was added stands before them
        sizes = range(PER_PAGE, PER_PAGE // 2, -1)
        return max((((known - 1) // size + 1 if known else 1, size) for size in sizes), key=lambda one: one[0] * one[1])

    @property
    def over(self) -> bool:
        """Whether no further page is needed, or would help."""
        return self._fault is not None or self._whole or self._reached()

    def add(self, page: Page | None) -> None:
        """Add the page that was asked for; None where it could not be had."""
        self._fault = self._added(page)
        self._pages += 1
        if self._fault is None and not self.over and self._pages >= PAGES_MOST:
            self._fault = f"The window would be longer than {PAGES_MOST} pages"

    def window(self) -> Window:
        """What the pass came to."""
        fault = self._fault
        if fault is None and not self._whole and not _newest_first(self._rows):
            fault = _UNORDERED
        return Window(self._campaign_id, tuple(self._rows), self._pages, fault)

    def _added(self, page: Page | None) -> str | None:
        if page is None:
            return "The list could not be had"
        if page.total is None:
            return "The list does not say how many leads it has"
        if page.per_page not in (None, self.per_page) and page.total > len(page.rows) and self._pages:
            return "The list does not heed the size of a page"
        size = self.per_page if page.per_page is None else page.per_page
        start = (self.page - 1) * size
        if len(page.rows) != max(0, min(size, page.total - start)):
            return "The list shows another number of leads than it counts"
        if page.total < self._total:
            return "The list lost leads while it was read"
        ids = [row.voicery_lead_id for row in page.rows]
        if None in ids:
            return "The list has ids that are no integers"
        if len(set(ids)) < len(ids):
            return "The list shows a lead twice"
        return self._joined(page, ids, start)

    def _joined(self, page: Page, ids: Sequence[int | None], start: int) -> str | None:
        known = [row.voicery_lead_id for row in self._rows]
        if not self._pages:
            self._total_at_first = page.total or 0
        # What was added since the first page stands before all that is known.
        grown = (page.total or 0) - self._total_at_first
        overlap = len(known) + grown - start if self._pages else 0
        if overlap < 0 or overlap > len(known) or ids[:overlap] != known[len(known) - overlap :]:
            return "The list moved leads between two of its pages"
        new = page.rows[overlap:]
        if not set(ids[overlap:]).isdisjoint(known):
            return "The list shows a lead twice"
        self._rows.extend(new)
        self._total = page.total or 0
        self._whole = start + len(page.rows) >= self._total
        if not self._whole and not _newest_first(self._rows) and self._total > _UNORDERED_MOST:
            return _UNORDERED
        return None

    def _reached(self) -> bool:
        """Whether all leads since the one to reach have been read.

        Of leads that were created at one time the list may show an older one first: they must have been read too.
        """
        if not self._rows or not _newest_first(self._rows):
            return False
        last = max(_by_creation(self._rows)[-1])
        return last < self._back_to or (last == self._back_to and self._rows[-1].created_at is None)


NOTHING_BEFORE: Final = "No lead was accepted before it with this token"


def before(started_at: datetime, ours: Sequence[Ours], token: str | None) -> Ours | None:
    """Return the lead of ours with the greatest id that was accepted before an attempt was claimed, if there is one."""
    early = [one for one in ours if one.accepted_at < started_at and one.token == token]
    return max(early, key=_by_id, default=None)


@dataclass(frozen=True, slots=True)
class Attempted:
    """The attempt that is looked for, as it was sent."""

    doubt: Doubt
    started_at: datetime
    ended_at: datetime
    token: str | None = None


def prove(attempt: Attempted, window: Window, ours: Sequence[Ours], bound: frozenset[int], token: str | None) -> Proof:
    """Say whether `window` proves that `attempt` had no effect.

    ours    the leads of ours in the window's scope that Voicery accepted, from the one that the window must reach
    bound   the ids in the window that are a lead's, or a contact's, of ours
    token   the fingerprint of the token that the window was read with
    """
    doubt = attempt.doubt
    if window.fault is not None:
        return Proof(missing=window.fault)
    if attempt.token != token:
        return Proof(missing="It was sent with another token than the list is read with")
    if doubt.watermark is None:
        return Proof(missing="Voicery's ids do not grow with time")
    if contradiction := _contradiction(window, ours):
        return Proof(missing=contradiction)
    shown = {row.voicery_lead_id: row for row in window.rows}
    # By the id too: after Postgres' clock was set back, a lead may seem to have been accepted before that came later.
    marked = [one for one in ours if one.voicery_lead_id <= doubt.watermark]
    early = before(attempt.started_at, marked, token)
    if early is None:
        return Proof(missing=NOTHING_BEFORE)
    later = [
        one
        for one in ours
        if one.campaign_id == doubt.campaign_id
        if one.started_at > attempt.ended_at and one.created and one.token == token
        if one.voicery_lead_id > doubt.watermark
    ]
    if not later:
        return Proof(missing="No lead of this campaign has been accepted since")
    newest = max((one for one in shown if one is not None), default=0)
    absent = [
        one.voicery_lead_id
        for one in ours
        if one.created or one is early
        if early.voicery_lead_id <= one.voicery_lead_id <= newest and one.voicery_lead_id not in shown
    ]
    after = min((one for one in later if one.voicery_lead_id in shown), key=_by_id, default=None)
    if absent or after is None:
        hidden = absent[0] if absent else later[0].voicery_lead_id
        return Proof(missing=f"The list does not show lead {hidden}, which Voicery accepted")
    if strange := _strange(doubt, window, bound):
        return strange
    row = shown[after.voicery_lead_id]
    by_reference = after.reference is not None and (row.variables or {}).get(after.reference) == str(after.lead_id)
    return Proof(True, "", by_reference, before=early.voicery_lead_id, after=after.voicery_lead_id)


def _contradiction(window: Window, ours: Sequence[Ours]) -> str:
    """Why the window is not the campaign's list, or not of the workspace that accepted our leads; empty if it is."""
    known: Mapping[int | None, Ours] = {one.voicery_lead_id: one for one in ours}
    for row in window.rows:
        if window.campaign_id is not None and row.campaign_id not in (None, window.campaign_id):
            return "The list does not heed the campaign it is asked for"
        one = known.get(row.voicery_lead_id)
        if one is not None and row.campaign_id not in (None, one.campaign_id):
            return f"The list shows lead {one.voicery_lead_id} in another campaign"
        if one is not None and likeness(row.phone_number, one.phone_number) is Likeness.OTHER:
            return f"The list shows lead {one.voicery_lead_id} with another number"
    return ""


def _strange(doubt: Doubt, window: Window, bound: frozenset[int]) -> Proof | None:
    """Return an unbound row that may be the lead that is looked up; None if there is none."""
    unbound = [row for row in window.rows if row.voicery_lead_id not in bound]
    for row in unbound:
        alike = likeness(row.phone_number, doubt.phone_number)
        carries = doubt.reference is not None and (row.variables or {}).get(doubt.reference[0]) == doubt.reference[1]
        if carries or alike in (Likeness.SAME, Likeness.ALIKE):
            return Proof(missing=f"Lead {row.voicery_lead_id} at Voicery may be it", possible=row)
    for row in unbound:
        if likeness(row.phone_number, doubt.phone_number) is Likeness.UNREADABLE:
            return Proof(missing=f"The number of lead {row.voicery_lead_id} at Voicery cannot be read")
        if same_nonempty_variables(doubt.variables, row.variables):
            return Proof(missing=f"Lead {row.voicery_lead_id} at Voicery has the same variables")
    return None


def _newest_first(rows: Sequence[ListedLead]) -> bool:
    """Whether the ids fall, but for those of leads that were created at one time: a list by time leaves these open."""
    return all(min(group) > max(older) for group, older in pairwise(_by_creation(rows)))


def _by_creation(rows: Sequence[ListedLead]) -> list[list[int]]:
    """Return together the ids of neighbouring rows that show the same time of creation; without a time, each alone."""
    groups: list[list[int]] = []
    at: str | None = None
    for row in rows:
        if row.created_at is None or row.created_at != at:
            groups.append([])
        groups[-1].append(row.voicery_lead_id or 0)
        at = row.created_at
    return groups


def _by_id(one: Ours) -> int:
    return one.voicery_lead_id
