"""Everything that is held of one person: the leads with the number, what belongs to them, and what mentions it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, text

from dispatcher.errors import FieldError, InvalidLead
from dispatcher.lead.masking import mask_numbers, mask_phone
from dispatcher.lead.number_forms import NumberForms
from dispatcher.lead.phone import canonical_phone
from dispatcher.operator import mentions
from dispatcher.operator.mentions import BY_TABLE, Mention
from dispatcher.store import audit, encryption
from dispatcher.store.database import Database
from dispatcher.store.encryption import Content, NotAuthentic, contact_owner
from dispatcher.store.pseudonym import Pseudonyms, digest_sql

_PATIENCE = text("SET LOCAL statement_timeout = '15min'")

OF_CONTACT: Final = """(phone_number = :phone OR (lead_id, position) IN (
    SELECT * FROM unnest(CAST(:hidden_leads AS uuid[]), CAST(:hidden_places AS smallint[]))
))"""
"""The condition that a secondary contact has the number, in plain or encrypted (`hidden_contacts`)."""

_HIDDEN = text(f"""
SELECT lead_id, position, phone_number FROM dispatcher.lead_contacts
WHERE phone_number LIKE '{encryption.LIKE}'
  AND (CAST(:of_leads AS uuid[]) IS NULL OR lead_id = ANY (CAST(:of_leads AS uuid[])))
""")

_LEADS = text("""
-- Read in full: a lead has no index by its number alone, and a person is looked up rarely.
SELECT id, state, voicery_lead_id, account FROM dispatcher.leads WHERE phone_number = :phone ORDER BY id
""")

_BESIDE = text(f"""
-- Leads of others that know the number: as a contact, or from before a correction.
SELECT id, state FROM dispatcher.leads
WHERE phone_number <> :phone AND (
    id IN (SELECT lead_id FROM dispatcher.lead_contacts WHERE {OF_CONTACT})
    OR id IN (SELECT lead_id FROM dispatcher.lead_revisions WHERE phone_number = :phone)
    OR id IN (SELECT lead_id FROM dispatcher.lead_attempts WHERE phone_number = :phone)
    OR id IN (SELECT lead_id FROM dispatcher.failed_leads WHERE phone_number = :phone)
)
ORDER BY id
""")

_CONTACT_IDS = text(f"""
SELECT account, voicery_lead_id FROM dispatcher.lead_contacts
WHERE voicery_lead_id IS NOT NULL AND ({OF_CONTACT} OR lead_id = ANY (CAST(:leads AS uuid[])))
""")

_FILES = text("""
SELECT DISTINCT file_name FROM dispatcher.imports
WHERE batch_id IN (SELECT batch_id FROM dispatcher.leads WHERE id = ANY (CAST(:leads AS uuid[])))
    OR id = ANY (CAST(:imports AS bigint[]))
ORDER BY file_name
""")

_IMPORTS = text("SELECT import_id FROM dispatcher.import_rejections WHERE id = ANY (CAST(:ids AS bigint[]))")

_OF_A_LEAD: Final = "lead_id = ANY (CAST(:leads AS uuid[]))"

HELD: Final = {
    "leads": "phone_number = :phone",
    "lead_contacts": f"{OF_CONTACT} OR {_OF_A_LEAD}",
    "lead_revisions": f"phone_number = :phone OR {_OF_A_LEAD}",
    "lead_attempts": f"phone_number = :phone OR {_OF_A_LEAD}",
    "failed_leads": f"phone_number = :phone OR {_OF_A_LEAD}",
    "idempotency_keys": _OF_A_LEAD,
    "blocks": f"number = :phone OR number IS NULL AND digest = {digest_sql('CAST(:phone AS text)')}",
    "incidents": _OF_A_LEAD,
    "alerts": _OF_A_LEAD,
    "operation_leads": _OF_A_LEAD,
    "audit_log": "subject = ANY (CAST(CAST(:leads AS uuid[]) AS text[]))",
    "erased_leads": f"person = {digest_sql('CAST(:phone AS text)')}",
    "inbox": "id = ANY (CAST(:waiting AS uuid[])) OR lead_id = ANY (CAST(:leads AS uuid[]))",
    "imports": "batch_id IN (SELECT batch_id FROM dispatcher.leads WHERE id = ANY (CAST(:leads AS uuid[])))",
}
"""The tables with rows of a person or of a person's leads, and the condition for them."""


@dataclass(frozen=True, slots=True)
class Known:
    """A lead that contains the number."""

    id: UUID
    state: str


@dataclass(frozen=True, slots=True)
class Person:
    """The leads of a number.

    voicery_ids  (account, id) of its leads and contacts at Voicery
    unreadable   the names of contacts whose number does not decrypt
    """

    leads: tuple[Known, ...]
    beside: tuple[Known, ...]
    voicery_ids: tuple[tuple[str, int], ...]
    unreadable: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Left:
    """Something outside of the database: what it is, why it is not reached from here, and what to do about it."""

    what: str
    why: str
    todo: str


def be_patient(connection: Connection) -> None:
    """Let the statements of this transaction take longer than usual: they read every table in full."""
    connection.execute(_PATIENCE)


def find(connection: Connection, phone: str) -> Person:
    """Return every lead that has the number as its own or a contact's."""
    leads = connection.execute(_LEADS, {"phone": phone}).all()
    unreadable: set[str] = set()
    hidden = hidden_contacts(connection, phone, unreadable=unreadable)
    beside = connection.execute(_BESIDE, {"phone": phone, **hidden}).all()
    values = {"phone": phone, "leads": [row.id for row in leads], **hidden}
    contacts = connection.execute(_CONTACT_IDS, values).all()
    held = [row for row in [*leads, *contacts] if row.voicery_lead_id is not None]
    return Person(
        leads=tuple(Known(row.id, row.state) for row in leads),
        beside=tuple(Known(row.id, row.state) for row in beside),
        voicery_ids=tuple(sorted({(row.account, row.voicery_lead_id) for row in held})),
        unreadable=frozenset(unreadable),
    )


def hidden_contacts(
    connection: Connection,
    phone: str,
    of_leads: Sequence[UUID] | None = None,
    unreadable: set[str] | None = None,
) -> dict[str, Any]:
    """Return what `OF_CONTACT` binds: the secondary contacts with this number that are encrypted.

    of_leads     reads those of these leads only; None: all of them
    unreadable   gets the names of contacts whose number does not decrypt
    """
    ring = encryption.of(connection)
    values = {"of_leads": None if of_leads is None else list(of_leads)}
    found = []
    for row in connection.execute(_HIDDEN, values, execution_options={"stream_results": True, "yield_per": 1000}):
        place = (row.lead_id, row.position)
        try:
            number = ring.decrypted(row.phone_number, contact_owner(*place), Content.CONTACT_NUMBER)
        except NotAuthentic:
            if unreadable is not None:
                unreadable.add(mentions.row_name("lead_contacts", place))
            continue
        if number == phone:
            found.append(place)
    return {"hidden_leads": [lead for lead, _ in found], "hidden_places": [place for _, place in found]}


def files(connection: Connection, leads: Sequence[UUID], found: Iterable[Mention]) -> list[str]:
    """Return the names of the imported files that the person's leads and refused rows are from."""
    refused = [mention.key["id"] for mention in found if mention.place.table == "import_rejections"]
    of_rows = connection.execute(_IMPORTS, {"ids": refused}).scalars().all()
    return list(connection.execute(_FILES, {"leads": list(leads), "imports": list(of_rows)}).scalars())


def outside(person: Person, file_names: Iterable[str]) -> tuple[Left, ...]:
    """Return where else there may be data of the person."""
    at_voicery = [
        Left(
            f"Voicery's copy: lead {voicery_id} of account {account}",
            "it is stored at Voicery, and deleting there may remove the history of its calls too",
            f"DELETE /user/leads/{voicery_id}",
        )
        for account, voicery_id in person.voicery_ids
    ]
    in_files = [
        Left(
            f"the file {name} and its .rejected.csv",
            "files are outside of the database",
            "delete them, or the person's rows, wherever they and their copies are",
        )
        for name in file_names
    ]
    backups = Left(
        "backups of the database, and its write-ahead log",
        "they cannot be changed row by row",
        "let them expire, and erase again after a restore",
    )
    return (*at_voicery, *in_files, backups)


def not_readable(rows: Iterable[str]) -> tuple[Left, ...]:
    """Return the rows of which it is not known whether they name the person."""
    return tuple(
        Left(
            f"the row {row}",
            "a value of it does not decrypt: it was changed in the database, or moved there; it may name this person",
            "restore it from a backup, or delete it; then run this again",
        )
        for row in sorted(rows)
    )


@dataclass(frozen=True, slots=True)
class FoundText:
    """A value elsewhere that mentions the number, with other numbers masked. `where`: a column, and a path in it."""

    table: str
    row: Mapping[str, Any]
    where: str
    value: Any = field(repr=False)


@dataclass(frozen=True, slots=True)
class Dossier:
    """All that is held of a person; the repr shows nothing of it.

    held        rows by table: the person's leads, all that belongs to them, and rows with the number of leads of others
    mentioned   values in other rows that mention the number
    outside     where else there may be data
    """

    phone_number: str = field(repr=False)
    read_at: datetime
    held: Mapping[str, Sequence[Mapping[str, Any]]] = field(repr=False)
    mentioned: tuple[FoundText, ...] = field(repr=False)
    outside: tuple[Left, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON takes it, for an access request: whole, but for the numbers of other people."""
        return {
            "phone_number": self.phone_number,
            "read_at": self.read_at.isoformat(),
            "held": {table: list(rows) for table, rows in self.held.items()},
            "mentioned": [
                {
                    "table": one.table,
                    "row": {name: str(value) for name, value in one.row.items()},
                    "where": one.where,
                    "value": one.value,
                }
                for one in self.mentioned
            ],
            "outside": [{"what": one.what, "why": one.why, "todo": one.todo} for one in self.outside],
        }


class People:
    """Reads what is held of people.

    pseudonyms   under whose key persons are known whose number is not kept
    """

    def __init__(self, database: Database, pseudonyms: Pseudonyms | None = None) -> None:
        self._database = database
        self._pseudonyms = pseudonyms or Pseudonyms(None)

    def held_of(self, phone: str, *, actor: str) -> Dossier:
        """Return all that is held of the person of this number; the look-up is written to the audit log.

        phone   in any form that `submit` accepts
        actor   who asks, for the audit log

        Raises `InvalidLead` for an invalid number.
        """
        number = canonical_phone(phone, "phone_number")
        if isinstance(number, FieldError):
            raise InvalidLead([number])
        return self._database.again(_read, number, actor, self._pseudonyms)


def _read(connection: Connection, phone: str, actor: str, pseudonyms: Pseudonyms) -> Dossier:
    be_patient(connection)
    forms = NumberForms(phone)
    person = find(connection, phone)
    leads = [one.id for one in person.leads]
    waiting = [one for one, contacts in mentions.waiting_leads(connection, forms) if not contacts]
    values = {"phone": phone, "leads": leads, "waiting": waiting, **pseudonyms.pads()} | hidden_contacts(
        connection, phone
    )
    ring = encryption.of(connection)
    unreadable = set(person.unreadable)
    held: dict[str, list[Mapping[str, Any]]] = {}
    for table, condition in HELD.items():
        wanted = {name: value for name, value in values.items() if f":{name}" in condition}
        # The whole row, so that a column added later is told too.
        statement = text(f"SELECT to_jsonb(held) FROM dispatcher.{table} AS held WHERE {condition}")
        rows = connection.execute(statement, wanted).scalars()
        held[table] = []
        for row in rows:
            read, lost = encryption.readable_row(ring, table, row)
            if lost:
                unreadable.add(mentions.row_name(table, (row[name] for name in encryption.TABLES[table].key)))
            held[table].append(_shown(forms, table, read | dict.fromkeys(lost)))
    known = {(table, _key(table, row)) for table, rows in held.items() if table in BY_TABLE for row in rows}
    elsewhere = [
        mention
        for place in mentions.PLACES
        for mention in mentions.find(connection, forms, place, unreadable)
        if (place.table, _key(place.table, mention.key)) not in known
    ]
    audit.note(connection, actor, "person", "person", {"leads": [str(one) for one in leads]})
    return Dossier(
        phone_number=phone,
        read_at=connection.execute(text("SELECT now()")).scalar_one(),
        held=held,
        mentioned=tuple(found for mention in elsewhere for found in _values(forms, mention)),
        outside=(*not_readable(unreadable), *outside(person, files(connection, leads, elsewhere))),
    )


def _key(table: str, row: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(str(row[name]) for name in BY_TABLE[table].key)


def _values(forms: NumberForms, mention: Mention) -> Iterator[FoundText]:
    """Return the single values that mention the number, not all of a row that is about somebody else."""
    for column, whole in mention.values.items():
        for path, value in _leaves(whole, column):
            if forms.stands_in(value) or forms.stands_in(path):
                where, text = others_masked(forms, path), others_masked(forms, value)
                yield FoundText(mention.place.table, mention.key, where, text)


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:  # noqa: ANN401 - any JSON value
    match value:
        case dict():
            for name, item in value.items():
                yield from _leaves(item, f"{path}.{name}")
        case list():
            for index, item in enumerate(value):
                yield from _leaves(item, f"{path}[{index}]")
        case _:
            yield path, value


def _shown(forms: NumberForms, table: str, row: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a row with the numbers of other people masked, in its free text too."""
    place = BY_TABLE.get(table)
    free = {*place.texts, *place.jsons} if place is not None else set()
    shown = {name: others_masked(forms, value) if name in free else value for name, value in row.items()}
    if shown.get("phone_number") is not None and not forms.stands_in(shown["phone_number"]):
        shown["phone_number"] = mask_phone(shown["phone_number"])
    return shown


def others_masked(forms: NumberForms, value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Return a text or JSON value with every phone number but this one masked."""
    match value:
        case str() if _is_time(value):
            return value
        case str():
            return forms.kept_in(value, mask_numbers)
        case dict():
            return {others_masked(forms, name): others_masked(forms, item) for name, item in value.items()}
        case list():
            return [others_masked(forms, item) for item in value]
        case _:
            return value


def _is_time(value: str) -> bool:
    try:
        datetime.fromisoformat(value)
    except ValueError:
        return False
    return not value.isdecimal()
