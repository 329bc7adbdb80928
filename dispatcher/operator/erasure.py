"""Erase a person (GDPR, article 17): afterwards no row of the dispatcher contains the phone number.

The ids of the leads stay in the audit log, and so do the idempotency keys: a submit repeated under such a key is
refused. A submit without a key is a new lead, and would call the person: no copy of the number, hashed or not, is kept
to prevent that, because a hash of a phone number can be reversed by trying all numbers. The producer keeps the list of
people who must not be called. Logs contain no numbers; backups contain the number until they expire. Voicery's copy
has to be deleted at Voicery.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, text

from dispatcher.errors import FieldError, InvalidLead, NotAllowed
from dispatcher.lead.phone import canonical_phone
from dispatcher.store import audit
from dispatcher.store.database import Database

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
    # The rest of a key refuses a second submit under it, so that a late repetition causes no call.
    "DELETE FROM dispatcher.idempotency_keys WHERE lead_id = ANY (CAST(:leads AS uuid[])) AND strpos(key, :digits) > 0",
    "UPDATE dispatcher.idempotency_keys SET payload_hash = 'erased' WHERE lead_id = ANY (CAST(:leads AS uuid[]))",
    # A rejected row is stored unchanged, so the number may be in it in any notation.
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
"""Columns of free text: matches of the number are removed from the text."""


@dataclass(frozen=True, slots=True)
class Known:
    """A lead that contains the number."""

    id: UUID
    state: str


@dataclass(frozen=True, slots=True)
class Person:
    """What is stored of a number. `voicery_ids`: (account, id) of its leads and contacts at Voicery."""

    leads: tuple[Known, ...]
    beside: tuple[Known, ...]
    voicery_ids: tuple[tuple[str, int], ...]


def find(connection: Connection, phone: str) -> Person:
    """Return every lead that contains the number, locked until the transaction ends."""
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
    """Delete the leads with their dependent rows, and the number elsewhere. Return the number of rows by table."""
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


_ON_ITS_WAY: Final = frozenset({"sending", "unknown"})


@dataclass(frozen=True, slots=True)
class Erased:
    """What was erased: the person's own leads, the rows changed by table, and the ids left to delete at Voicery."""

    leads: tuple[UUID, ...] = ()
    beside: tuple[UUID, ...] = ()
    rows: Mapping[str, int] = field(default_factory=dict)
    voicery_ids: tuple[tuple[str, int], ...] = ()


class Erasure:
    """Erases people. `actor` is written to the audit log."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def erase(self, phone: str, *, actor: str) -> Erased:
        """Erase the person of this number, in one transaction.

        Raises `InvalidLead` for an invalid number, and `NotAllowed` while a lead with it is being sent or in doubt: its
        id at Voicery would never be known, so that it could not be deleted there.
        """
        number = canonical_phone(phone, "phone_number")
        if isinstance(number, FieldError):
            raise InvalidLead([number])

        def act(connection: Connection) -> Erased:
            person = find(connection, number)
            for lead in (*person.leads, *person.beside):
                _refuse_on_its_way(lead)
            leads, beside = tuple(one.id for one in person.leads), tuple(one.id for one in person.beside)
            rows = erase(connection, number, leads, beside)
            detail = {"leads": [str(one) for one in leads], "beside": [str(one) for one in beside], "rows": rows}
            audit.note(connection, actor, "erase", "person", detail)
            return Erased(leads, beside, rows, person.voicery_ids)

        return self._database.again(act)


def _refuse_on_its_way(lead: Known) -> None:
    if lead.state in _ON_ITS_WAY:
        raise NotAllowed(
            f"Lead {lead.id} of this person is {lead.state}, and what Voicery makes of it is not known yet; "
            "erase again when it has ended (`dispatcher explain` says when), or resolve it first."
        )
