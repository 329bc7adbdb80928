"""One page of Voicery's list of leads, read defensively (`voicery-api.md`, sister docs: Laravel pagination)."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from dispatcher.decisions.reply import Reply, is_number, text_of, usable_id

_DIGITS: Final = re.compile(r"\d{1,18}", re.ASCII)


@dataclass(frozen=True, slots=True)
class ListedLead:
    """A row of the list. `voicery_lead_id` None: an id that is no integer. `variables` None: not echoed.

    `phone_number` is empty where the row names none that can be read. `created_at` is as the list shows it, and is only
    compared with others for equality: its form and its time zone are not known.
    """

    voicery_lead_id: int | None
    campaign_id: int | None
    phone_number: str
    status: str | None = None
    variables: Mapping[str, object] | None = None
    contacts: tuple[object, ...] = ()
    created_at: str | None = None

    def __repr__(self) -> str:
        return f"ListedLead(voicery_lead_id={self.voicery_lead_id}, campaign_id={self.campaign_id})"


@dataclass(frozen=True, slots=True)
class Page:
    """`complete`: these are all the rows that the query has, by the list's own counts.

    `last_page` is 1-based; it, `total` and `per_page` are None where they were not said.
    """

    rows: tuple[ListedLead, ...]
    complete: bool
    last_page: int | None = None
    total: int | None = None
    per_page: int | None = None


def read_page(reply: Reply, *, page: int = 1) -> Page | None:
    """The page in a reply to the list endpoint; None unless it is a whole 200 answer that we understand.

    An answer that says it is another page than `page` is none.
    """
    if reply.status != 200 or reply.body_fault is not None:
        return None
    body = reply.body
    envelope: Mapping[str, object] = body if isinstance(body, Mapping) else {}
    rows = body
    if isinstance(rows, Mapping):
        rows = rows.get("data")
    if isinstance(rows, Mapping):
        envelope, rows = rows, rows.get("data")
    if not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
        return None
    meta = envelope.get("meta")
    counts = meta if isinstance(meta, Mapping) else envelope
    if _count(counts.get("current_page")) not in (None, page):
        return None
    return Page(
        tuple(_row(row) for row in rows),
        _is_complete(counts, rows),
        _count(counts.get("last_page")),
        _count(counts.get("total")),
        _count(counts.get("per_page")),
    )


def _is_complete(counts: Mapping[Any, object], rows: Sequence[Mapping[str, object]]) -> bool:
    """Whether the list's own counts say that no further row exists. Without counts nothing is complete."""
    last_page, total = _count(counts.get("last_page")), _count(counts.get("total"))
    if any(
        counts.get(name) is not None and _count(counts[name]) is None for name in ("last_page", "total", "per_page")
    ):
        return False
    if last_page not in (None, 0, 1) or total not in (None, len(rows)):
        return False
    if counts.get("next_page_url") or counts.get("next_cursor"):
        return False
    ids = [str(row.get("id")) for row in rows]
    return (last_page is not None or total is not None) and len(set(ids)) == len(ids)


def _row(row: Mapping[str, object]) -> ListedLead:
    campaign = row.get("campaign")
    nested = campaign.get("id") if isinstance(campaign, Mapping) else None
    number = row.get("phone_number")
    variables, contacts = row.get("variables"), row.get("secondary_contacts")
    return ListedLead(
        voicery_lead_id=usable_id(row.get("id")),
        campaign_id=usable_id(row.get("campaign_id")) or usable_id(nested),
        phone_number=str(number) if is_number(number) else "",
        status=text_of(row.get("status")),
        variables=variables if isinstance(variables, Mapping) else None,
        contacts=tuple(contacts) if isinstance(contacts, list) else (),
        created_at=text_of(row.get("created_at")),
    )


def _count(value: object) -> int | None:
    """A count, also one written as text, as older answers write their ids."""
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
