"""The ways in which the list of leads can lie: what it searches, which leads it shows, how it shows and counts them."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from dispatcher.sandbox.book import LeadBook, Search, StoredLead, digits_of
from dispatcher.sandbox.fault import FaultName, Rule

Rows = list[dict[str, Any]]

_MASK: Final = "•••"


@dataclass(frozen=True, slots=True)
class Asking:
    """Who asks, and when: the token, and the time in unix seconds."""

    token: str
    now: float


class Lies:
    """Applies the lie of a rule to each step of an answer; without one, the steps change nothing."""

    def __init__(self, book: LeadBook) -> None:
        self._book = book
        self._cached_since: dict[int, float] = {}

    def search(self, search: Search, rule: Rule | None, asking: Asking) -> list[StoredLead]:
        """Return the leads that the list finds, in its order."""
        if rule is None:
            return self._book.search(search)
        found = self._found(search, rule)
        visible = self._visible(rule, asking)
        return _order([lead for lead in found if visible(lead)], rule)

    def show(self, rows: Rows, rule: Rule | None) -> Rows:
        """Return the rows of a page as the list shows them."""
        match rule:
            case Rule(fault=FaultName.OTHER_FORM):
                return [{**row, "phone_number": other_form(row["phone_number"], rule.body)} for row in rows]
            case Rule(fault=FaultName.MASKED_NUMBERS):
                return [{**row, "phone_number": row["phone_number"][:-4] + _MASK} for row in rows]
            case Rule(fault=FaultName.NO_VARIABLES):
                return [{**row, "variables": {}} for row in rows]
            case Rule(fault=FaultName.DOUBLED_ROWS):
                return [row for row in rows for _ in range(2)]
            case Rule(fault=FaultName.SHORT_PAGES):
                return rows[: -rule.rows]
            case _:
                return rows

    def count(self, body: Mapping[str, Any], rule: Rule | None) -> Mapping[str, Any]:
        """Return the whole answer as the list counts it."""
        match rule:
            case Rule(fault=FaultName.BARE_LIST):
                return {"data": body["data"]}
            case Rule(fault=FaultName.DOUBLED_ROWS):
                return {**body, "total": 2 * body["total"], "per_page": 2 * body["per_page"]}
            case Rule(fault=FaultName.WRONG_TOTAL):
                return {**body, "total": body["total"] + rule.rows}
            case _:
                return body

    def _found(self, search: Search, rule: Rule) -> list[StoredLead]:
        if rule.fault is FaultName.FILTER_IGNORED and rule.body == "campaign_id":
            return self._book.search(replace(search, campaign_id=None))
        if rule.fault is FaultName.FILTER_IGNORED:
            return self._book.search(replace(search, digits=""))
        if rule.fault is FaultName.OTHER_FORM:
            found = self._book.search(replace(search, digits=""))
            return [one for one in found if search.digits in digits_of(other_form(one.phone_number, rule.body))]
        return self._book.search(search)

    def _visible(self, rule: Rule, asking: Asking) -> Callable[[StoredLead], bool]:
        match rule.fault:
            case FaultName.STALE:
                horizon = asking.now - rule.seconds_or(60.0)
                return lambda lead: lead.created_at <= horizon
            case FaultName.CACHED_LIST:
                since = self._cached_since.setdefault(id(rule), asking.now)
                return lambda lead: lead.created_at <= since
            case FaultName.MISSING_CONTROLS:
                return lambda lead: not self._book.was_answered(lead)
            case FaultName.HIDDEN_STATUS:
                return lambda lead: self._book.status_of(lead) != (rule.body or "completed")
            case FaultName.OWN_TOKEN:
                return lambda lead: self._book.token_of(lead) == asking.token
            case FaultName.HOLES:
                return lambda lead: lead.id % (rule.rows + 1) != 0
            case _:
                return lambda _lead: True


def other_form(phone_number: str, form: str) -> str:
    """Write a number as another system might: `national`, with a `mobile` prefix, or `spaced`."""
    if form == "mobile":
        return f"{phone_number[:3]}1{phone_number[3:]}"
    if form == "spaced":
        return " ".join(phone_number[at : at + 3] for at in range(0, len(phone_number), 3))
    return "0" + phone_number[3:]


def _order(found: list[StoredLead], rule: Rule) -> list[StoredLead]:
    match rule.fault:
        case FaultName.OLDEST_FIRST:
            return found[::-1]
        case FaultName.SHUFFLED_LIST:
            return random.Random(0).sample(found, len(found))  # noqa: S311 - the same disorder each time
        case FaultName.CUT_LIST:
            return found[: rule.rows]
        case _:
            return found
