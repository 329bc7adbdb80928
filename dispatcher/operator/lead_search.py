"""The search for a lead by any of its names: id, idempotency key, Voicery's id, phone number."""

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from sqlalchemy import TextClause, text

from dispatcher.decisions.states import State
from dispatcher.errors import FieldError
from dispatcher.lead.phone import canonical_phone
from dispatcher.operator import leads
from dispatcher.operator.failure_filter import ending_of
from dispatcher.operator.lead_filter import LeadFilter, MaskedLeadFilter
from dispatcher.operator.record import Record, mask_reference
from dispatcher.store.reading import ReadConnection
from dispatcher.store.schema import LIVE_STRICT

_MOST: Final = 50
_LONGEST: Final = 200


@dataclass(frozen=True, slots=True)
class FoundLead(Record):
    """A lead that a search found, and by which of its names."""

    lead_id: UUID
    state: State
    campaign_id: int
    by: str


PART_OF_ID: Final = re.compile(r"[0-9a-f-]{4,36}", re.IGNORECASE)
_ENDING: Final = re.compile(r"[+0-9 ().\-/]{4,30}")


_FIND = text("SELECT id AS lead_id, state, campaign_id FROM dispatcher.leads WHERE id = ANY (CAST(:ids AS uuid[]))")

_BY_REFERENCE = text("""
SELECT lead.id AS lead_id, lead.state, lead.campaign_id
FROM (SELECT DISTINCT account FROM dispatcher.channels UNION SELECT 'default') AS known
JOIN dispatcher.idempotency_keys AS held ON held.account = known.account AND held.key = :reference
JOIN dispatcher.leads AS lead ON lead.id = held.lead_id
LIMIT :most
""")

_BY_VOICERY_ID = text("""
SELECT lead.id AS lead_id, lead.state, lead.campaign_id
FROM (SELECT DISTINCT account FROM dispatcher.channels UNION SELECT 'default') AS known
JOIN dispatcher.leads AS lead ON lead.account = known.account AND lead.voicery_lead_id = :voicery_id
LIMIT :most
""")

_BY_PHONE = text(f"""
-- Failed ever, or standing for the person now: both have an index; a lead has no other by its number.
SELECT lead.id AS lead_id, lead.state, lead.campaign_id FROM dispatcher.leads AS lead
WHERE lead.id IN (
    SELECT lead_id FROM dispatcher.failed_leads WHERE phone_number = :phone
    UNION
    SELECT live.id FROM dispatcher.channels AS known
    CROSS JOIN LATERAL (
        SELECT id FROM dispatcher.leads
        WHERE account = known.account AND campaign_id = known.campaign_id AND phone_number = :phone AND {LIVE_STRICT}
    ) AS live
)
LIMIT :most
""")


def phone_in(query: str) -> str | None:
    """Return the whole phone number that a text is; None if it is none."""
    phone = canonical_phone(query.strip()[:_LONGEST], "search")
    return None if isinstance(phone, FieldError) else phone


def ending_in(query: str) -> str | None:
    """Return the end of a phone number that a text may be; None if it is none."""
    with suppress(ValueError):
        if _ENDING.fullmatch(query.strip()):
            return ending_of(query)
    return None


def search(connection: ReadConnection, query: str, *, masked: bool = False) -> list[FoundLead]:
    """Return the leads that a text may name: an id, an idempotency key, Voicery's id, or a phone number.

    A search by a whole phone number finds live leads and leads that have a failure. What names none is looked for as a
    part of an id and as the end of a number, in the first leads by id (`leads.MOST_READ`).

    masked   for a reader who never sees whole numbers: nothing is found by what may be one
    """
    wanted = query.strip()
    if not wanted or len(wanted) > _LONGEST or "\0" in wanted:
        return []
    try:
        return _found(connection, _FIND, {"ids": [UUID(wanted)]}, "id")
    except ValueError:
        found = []
        if not masked or mask_reference(wanted) == wanted:
            found = _found(connection, _BY_REFERENCE, {"reference": wanted, "most": _MOST}, "reference")
    phone = phone_in(wanted)
    if phone is not None:
        if masked:
            return found
        found += _found(connection, _BY_PHONE, {"phone": phone, "most": _MOST}, "number")
    elif wanted.isascii() and wanted.isdecimal() and int(wanted) < 2**63:
        found += _found(connection, _BY_VOICERY_ID, {"voicery_id": int(wanted), "most": _MOST}, "Voicery's id")
    return found or _by_part(connection, wanted, masked=masked)


def _by_part(connection: ReadConnection, wanted: str, *, masked: bool) -> list[FoundLead]:
    """Return the leads of whose number this is the end, and those of whose id it is a part."""
    kind = MaskedLeadFilter if masked else LeadFilter
    asked: dict[str, LeadFilter] = {}
    ending = ending_in(wanted)
    if ending is not None:
        asked["the end of its number"] = kind(phone_number=ending)
    part = wanted.strip("…")
    if PART_OF_ID.fullmatch(part):
        asked["a part of its id"] = kind(id_part=part)
    found: dict[UUID, FoundLead] = {}
    for by, one in asked.items():
        for lead in leads.page(connection, one, most=_MOST).leads:
            found.setdefault(lead.id, FoundLead(lead.id, lead.state, lead.campaign_id, by))
    return list(found.values())[:_MOST]


def _found(connection: ReadConnection, statement: TextClause, values: Mapping[str, Any], by: str) -> list[FoundLead]:
    return [FoundLead.of({**row, "by": by}) for row in connection.execute(statement, values).mappings()]
