"""Voicery in memory: what it creates, what it answers, what its list shows; and every way in which it may be wrong.

What the dispatcher's promise rests on is kept here too: a lead comes to be within the settle time after its POST ended,
as the worker saw it end; and either its list shows leads within a settle time, or it shows them in the order in which
they came to be.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from random import Random

from dispatcher.decisions.listing import ListedLead, Page
from dispatcher.decisions.reply import BodyFault, Reply, WireFault

CAMPAIGN, OTHER_CAMPAIGN = 42, 43

LIES = ("cut", "form", "frozen", "frozen campaign", "no counts", "doubled")
"""What the list may do beside being late: each hides a lead or shows it so that it is not recognised."""


class Trouble(StrEnum):
    """What befalls one POST."""

    NONE = "none"
    NOT_SENT = "not sent"
    LOST_BEFORE = "lost before"
    LOST_AFTER = "lost after"
    LATE = "late"
    ERROR_BEFORE = "error before"
    ERROR_AFTER = "error after"
    NO_ID = "no id"
    CUT = "cut"
    FALSE_YES = "false yes"
    THROTTLED = "throttled"
    REFUSED = "refused"
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    NO_BALANCE = "no balance"
    MISSING = "missing"
    FALSE_DUPLICATE = "false duplicate"


@dataclass(frozen=True, slots=True)
class Post:
    """One POST as it arrives. `ref` is the truth about whose it is; Voicery does not know it."""

    ref: int
    phone: str
    variables: Mapping[str, object]
    allow_dupplicate: bool
    campaign: int = CAMPAIGN


@dataclass(slots=True)
class Row:
    """A lead at Voicery."""

    id: int
    post: Post
    at: float


class Voicery:
    """`lag`: how old a lead must be to be listed. `echoes`: whether variables that it does not know are kept."""

    def __init__(self, dice: Random, settle: float) -> None:
        self.rows: list[Row] = []
        self.posts: list[tuple[float, Post]] = []
        self.listing = True
        self.enforces = dice.random() < 0.7
        self.echoes = dice.random() < 0.8
        late = dice.random() < 0.5
        self.latest = settle * 0.95 if late else 0.0
        self.lag = dice.uniform(0, settle if late else 20 * settle) if dice.random() < 0.5 else 0.0
        self.lie = dice.choice(("", "", "", "", *LIES))
        self.frozen_at = dice.uniform(0, 60)
        self._dice = dice
        self.coming: list[tuple[float, Post]] = []
        self._next_id = 1000

    def advance(self, now: float) -> None:
        """Late leads come to be."""
        for at, post in sorted(self.coming, key=lambda one: one[0]):
            if at <= now:
                self.coming.remove((at, post))
                self._create(post, at)

    def post(self, now: float, ends_at: float, post: Post, trouble: Trouble) -> Reply:
        """Take one POST; what comes back at `ends_at`."""
        if trouble is not Trouble.NONE and self.latest and self._dice.random() < 0.5:
            trouble = Trouble.LATE  # a slow server is slow for many
        if trouble is Trouble.NOT_SENT:
            return Reply(fault=WireFault.REFUSED)
        self.posts.append((now, post))
        match trouble:
            case Trouble.LOST_BEFORE:
                return Reply(fault=WireFault.READ_TIMEOUT, written=True)
            case Trouble.ERROR_BEFORE:
                return Reply(status=500, written=True)
            case Trouble.LATE:
                self.coming.append((ends_at + self._dice.uniform(0, self.latest), post))
                return Reply(fault=WireFault.CLOSED, written=True)
            case Trouble.THROTTLED:
                return Reply(status=429, headers={"retry-after": "2"}, written=True)
            case Trouble.REFUSED:
                return Reply(status=422, body={"message": "bad number"}, written=True)
            case Trouble.UNAUTHORIZED:
                return Reply(status=401, written=True)
            case Trouble.FORBIDDEN:
                return Reply(status=403, written=True)
            case Trouble.NO_BALANCE:
                return Reply(status=402, written=True)
            case Trouble.MISSING:
                return Reply(status=404, written=True)
            case Trouble.FALSE_DUPLICATE:
                return Reply(status=409, written=True)
            case Trouble.FALSE_YES:
                return Reply(status=200, body={"message": "ok"}, written=True)
            case _:
                return self._answer(post, now, trouble)

    def _answer(self, post: Post, now: float, trouble: Trouble) -> Reply:
        if self.enforces and not post.allow_dupplicate and any(row.post.phone == post.phone for row in self.rows):
            return Reply(status=409, body={"error": "already exists"}, written=True)
        row = self._create(post, now)
        match trouble:
            case Trouble.LOST_AFTER:
                return Reply(fault=WireFault.RESET, written=True)
            case Trouble.ERROR_AFTER:
                return Reply(status=500, written=True)
            case Trouble.NO_ID:
                return Reply(status=200, body={"message": "ok"}, written=True)
            case Trouble.CUT:
                return Reply(status=200, body_fault=BodyFault.TRUNCATED, written=True)
            case _:
                return Reply(status=200, body={"data": {"id": row.id, "status": "created"}}, written=True)

    def holds(self, ref: int) -> bool:
        """Whether a POST of this lead had an effect, or is still to have one."""
        return any(row.post.ref == ref for row in self.rows) or any(post.ref == ref for _, post in self.coming)

    def page(self, now: float, phone: str) -> Page | None:
        """What the list shows of a number; None if it cannot be had."""
        if not self.listing:
            return None
        shown = [] if self.lie == "form" else [row for row in self._shown(now) if row.post.phone == phone]
        return self._page(shown, shown, 100)

    def window(self, now: float, campaign: int | None, page: int, per_page: int) -> Page | None:
        """One page of the campaign's list, or of the account's, the newest lead first; None if it cannot be had."""
        if not self.listing:
            return None
        shown = [row for row in self._shown(now) if campaign in (None, row.post.campaign)]
        return self._page(shown[(page - 1) * per_page : page * per_page], shown, per_page)

    def bear(self, post: Post, at: float) -> None:
        """A POST that was thought to be without effect has one after all."""
        self._create(post, at)

    def _shown(self, now: float) -> list[Row]:
        until = min(now - self.lag, self.frozen_at) if self.lie == "frozen" else now - self.lag
        shown = sorted((row for row in self.rows if row.at <= until), key=lambda row: -row.id)
        if self.lie == "frozen campaign":
            shown = [row for row in shown if row.post.campaign != CAMPAIGN or row.at <= self.frozen_at]
        return shown[:2] if self.lie == "cut" else shown

    def _page(self, rows: list[Row], of: list[Row], per_page: int) -> Page:
        listed = tuple(map(self._listed, rows))
        if self.lie == "doubled":
            listed = tuple(one for one in listed for _ in range(2))
        total = None if self.lie == "no counts" else len(of) * (2 if self.lie == "doubled" else 1)
        complete = self.lie not in ("no counts", "doubled")
        return Page(listed, complete=complete, last_page=1, total=total, per_page=per_page)

    def _create(self, post: Post, at: float) -> Row:
        row = Row(self._next_id, post, at)
        self._next_id += 1
        self.rows.append(row)
        return row

    def _listed(self, row: Row) -> ListedLead:
        variables = dict(row.post.variables)
        if not self.echoes:
            variables.pop("ref", None)
        number = "0" + row.post.phone[2:] if self.lie == "form" else row.post.phone
        return ListedLead(row.id, row.post.campaign, number, "created", variables)
