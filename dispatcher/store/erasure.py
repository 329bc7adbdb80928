"""Erasing a person: every row that holds the number, and the number wherever a text may repeat it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, text

_LEADS = text("""
-- Read in full: a lead has no index by its number alone, and a person is erased rarely.
SELECT id, state, voicery_lead_id, account FROM dispatcher.leads WHERE phone_number = :phone ORDER BY id FOR UPDATE
""")

_BESIDE = text("""
-- Leads of others that know the number: as a contact, or from before a correction.
SELECT id, state FROM dispatcher.leads
WHERE phone_number <> :phone AND (
    id IN (SELECT lead_id FROM dispatcher.lead_contacts WHERE phone_number = :phone)
    OR id IN (SELECT lead_id FROM dispatcher.lead_revisions WHERE phone_number = :phone)
    OR id IN (SELECT lead_id FROM dispatcher.lead_attempts WHERE phone_number = :phone)
    OR id IN (SELECT lead_id FROM dispatcher.failed_leads WHERE phone_number = :phone)
)
ORDER BY id
FOR UPDATE
""")

_CONTACT_IDS = text("""
SELECT account, voicery_lead_id FROM dispatcher.lead_contacts
WHERE voicery_lead_id IS NOT NULL AND (phone_number = :phone OR lead_id = ANY (CAST(:leads AS uuid[])))
""")

_ERASE: Final = (
    "DELETE FROM dispatcher.leads WHERE id = ANY (CAST(:leads AS uuid[]))",
    "DELETE FROM dispatcher.lead_contacts WHERE phone_number = :phone",
    "DELETE FROM dispatcher.lead_revisions WHERE phone_number = :phone",
    "UPDATE dispatcher.lead_attempts SET phone_number = '' WHERE phone_number = :phone AND finished_at IS NOT NULL",
    "UPDATE dispatcher.failed_leads SET phone_number = '' WHERE phone_number = :phone",
    "UPDATE dispatcher.lead_attempts SET response = NULL WHERE lead_id = ANY (CAST(:beside AS uuid[]))",
    "UPDATE dispatcher.failed_leads SET response = NULL WHERE lead_id = ANY (CAST(:beside AS uuid[]))",
    # What stays of a key refuses whoever submits under it again: nobody is called because of a late repetition.
    "DELETE FROM dispatcher.idempotency_keys WHERE lead_id = ANY (CAST(:leads AS uuid[])) AND strpos(key, :digits) > 0",
    "UPDATE dispatcher.idempotency_keys SET payload_hash = 'erased' WHERE lead_id = ANY (CAST(:leads AS uuid[]))",
    # A refused row is kept as it stood, however the number is written in it.
    """UPDATE dispatcher.import_rejections SET original = ''
       WHERE strpos(regexp_replace(original, '[^0-9]', '', 'g'), :digits) > 0""",
)

_TEXTS: Final = (
    ("audit_log", "detail", "jsonb"),
    ("operations", "filters", "jsonb"),
    ("operations", "options", "jsonb"),
    ("operation_leads", "reason", "text"),
    ("incidents", "message", "text"),
    ("incidents", "evidence", "jsonb"),
    ("gates", "note", "text"),
    ("failed_leads", "note", "text"),
    ("lead_revisions", "note", "text"),
    ("lead_attempts", "evidence", "jsonb"),
    ("leads", "last_error", "text"),
)
"""Where people and machines write freely: what looks like the number is taken out of the text."""


@dataclass(frozen=True, slots=True)
class Known:
    """A lead that holds the number."""

    id: UUID
    state: str


@dataclass(frozen=True, slots=True)
class Person:
    """What is stored of a number. `voicery_ids`: (account, id) of its leads and contacts at Voicery."""

    leads: tuple[Known, ...]
    beside: tuple[Known, ...]
    voicery_ids: tuple[tuple[str, int], ...]


def find(connection: Connection, phone: str) -> Person:
    """Every lead that holds the number, held until the transaction ends."""
    leads = connection.execute(_LEADS, {"phone": phone}).all()
    beside = connection.execute(_BESIDE, {"phone": phone}).all()
    contacts = connection.execute(_CONTACT_IDS, {"phone": phone, "leads": [row.id for row in leads]}).all()
    held = [row for row in [*leads, *contacts] if row.voicery_lead_id is not None]
    return Person(
        leads=tuple(Known(row.id, row.state) for row in leads),
        beside=tuple(Known(row.id, row.state) for row in beside),
        voicery_ids=tuple(sorted({(row.account, row.voicery_lead_id) for row in held})),
    )


def erase(connection: Connection, phone: str, leads: Sequence[UUID], beside: Sequence[UUID]) -> Mapping[str, int]:
    """Delete the leads with all that hangs on them, and the number wherever else it is; how many rows, by table."""
    digits = phone.removeprefix("+")
    values: dict[str, Any] = {"phone": phone, "digits": digits, "leads": list(leads), "beside": list(beside)}
    counts: dict[str, int] = {}
    for statement in _ERASE:
        table = statement.split("dispatcher.")[1].split()[0]
        wanted = {name: value for name, value in values.items() if f":{name}" in statement}
        counts[table] = counts.get(table, 0) + connection.execute(text(statement), wanted).rowcount
    for table, column, kind in _TEXTS:
        cleaned = f"CAST(replace(CAST({column} AS text), :digits, '•••') AS {kind})"
        statement = (
            f"UPDATE dispatcher.{table} SET {column} = {cleaned} WHERE strpos(CAST({column} AS text), :digits) > 0"
        )
        counts[table] = counts.get(table, 0) + connection.execute(text(statement), {"digits": digits}).rowcount
    return {table: count for table, count in counts.items() if count}
