"""The list of leads: Laravel's pagination over a search, and the ways in which it can lie."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from urllib.parse import urlencode

from dispatcher.sandbox.answer import LeadWriter, SandboxAnswer, invalid, json_answer
from dispatcher.sandbox.book import Invalid, LeadBook, Search, digits_of
from dispatcher.sandbox.fault import FaultName, Rule
from dispatcher.sandbox.lies import Asking, Lies

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


@dataclass(frozen=True, slots=True)
class ListQuery:
    """A valid query; `page` counts from 1."""

    search: Search
    page: int
    per_page: int


def read_list_query(query: Mapping[str, str]) -> ListQuery | Invalid:
    """The query string, checked as Laravel's validator would."""
    errors: dict[str, list[str]] = {}
    per_page = _integer(query, "per_page", 15, errors)
    if "per_page" not in errors and not 1 <= per_page <= 100:
        errors["per_page"] = ["The per page field must be between 1 and 100."]
    campaign_id = _integer(query, "campaign_id", 0, errors) if query.get("campaign_id") else None
    for name in ("date_from", "date_to"):
        if query.get(name) and _DATE.fullmatch(query[name]) is None:
            errors[name] = [f"The {name.replace('_', ' ')} field must match the format Y-m-d."]
    page = _integer(query, "page", 1, {})  # Laravel falls back to the first page
    if errors:
        return Invalid(errors)
    search = Search(
        digits=digits_of(query.get("phone_number", "")),
        status=query.get("status") or None,
        campaign_id=campaign_id,
        date_from=query.get("date_from") or None,
        date_to=query.get("date_to") or None,
    )
    return ListQuery(search, max(1, page), per_page)


def _integer(query: Mapping[str, str], name: str, default: int, errors: dict[str, list[str]]) -> int:
    value = query.get(name) or str(default)
    if re.fullmatch(r"-?[0-9]{1,18}", value) is None:
        errors[name] = [f"The {name.replace('_', ' ')} field must be an integer."]
        return default
    return int(value)


class LeadPages:
    """`url` is that of the list itself, for the links to other pages."""

    def __init__(self, book: LeadBook, writer: LeadWriter) -> None:
        self._lies = Lies(book)
        self._writer = writer

    def answer(self, query: Mapping[str, str], url: str, rule: Rule | None, asking: Asking) -> SandboxAnswer:
        """Return one page. `rule` is the fault that this request meets."""
        asked = read_list_query(query)
        if isinstance(asked, Invalid):
            return invalid(asked)
        if rule is not None and rule.fault is FaultName.FIRST_PAGE_ONLY:
            asked = replace(asked, page=1)
        found = self._lies.search(asked.search, rule, asking)
        start = (asked.page - 1) * asked.per_page
        if rule is not None and rule.fault is FaultName.SHIFTING_PAGES:
            start = max(0, start + rule.rows * (asked.page - 1))
        rows = self._lies.show([self._writer.row(lead) for lead in found[start : start + asked.per_page]], rule)
        last_page = max(1, -(-len(found) // asked.per_page))

        def link(page: int) -> str | None:
            return f"{url}?{urlencode({**query, 'page': page})}" if 1 <= page <= last_page else None

        return json_answer(
            200,
            self._lies.count(
                {
                    "current_page": asked.page,
                    "data": rows,
                    "first_page_url": link(1),
                    "from": start + 1 if rows else None,
                    "last_page": last_page,
                    "last_page_url": link(last_page),
                    "next_page_url": link(asked.page + 1),
                    "path": url,
                    "per_page": asked.per_page,
                    "prev_page_url": link(asked.page - 1),
                    "to": start + len(rows) if rows else None,
                    "total": len(found),
                },
                rule,
            ),
        )
