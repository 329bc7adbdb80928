"""Erase a person (GDPR, article 17): afterwards no row of the dispatcher contains the phone number, in any form.

What a repetition of an earlier submission would need to be recognised stays, as keyed hashes (`store.pseudonym`): an
erasure never allows a second call. The ids of the leads stay in the audit log. What lies outside of the database is
not reached; `Erased.left` names it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, text

from dispatcher.errors import FieldError, InvalidLead, NotAllowed, NotConfigured
from dispatcher.lead.number_forms import REMOVED, NumberForms
from dispatcher.lead.phone import canonical_phone
from dispatcher.operator import block_list, mentions, person
from dispatcher.operator.mentions import Mention
from dispatcher.operator.person import Known, Left
from dispatcher.store import audit, erased, inbox
from dispatcher.store.database import Database
from dispatcher.store.pseudonym import Pseudonyms

_STATES = text("""
SELECT id, state FROM dispatcher.leads WHERE id = ANY (CAST(:ids AS uuid[])) ORDER BY id FOR UPDATE
""")

_ERASE: Final = (
    "DELETE FROM dispatcher.leads WHERE id = ANY (CAST(:leads AS uuid[]))",
    f"DELETE FROM dispatcher.lead_contacts WHERE {person.OF_CONTACT}",
    "DELETE FROM dispatcher.lead_revisions WHERE phone_number = :phone",
    "UPDATE dispatcher.lead_attempts SET phone_number = '' WHERE phone_number = :phone AND finished_at IS NOT NULL",
    "UPDATE dispatcher.failed_leads SET phone_number = '' WHERE phone_number = :phone",
    "UPDATE dispatcher.lead_attempts SET response = NULL WHERE lead_id = ANY (CAST(:beside AS uuid[]))",
    "UPDATE dispatcher.failed_leads SET response = NULL WHERE lead_id = ANY (CAST(:beside AS uuid[]))",
    # What Voicery showed of the person, and what people wrote about the person's leads.
    "UPDATE dispatcher.incidents SET evidence = '{}' WHERE lead_id = ANY (CAST(:leads AS uuid[]))",
    """UPDATE dispatcher.audit_log SET detail = detail || jsonb_build_object('note', CAST(:removed AS text))
       WHERE subject = ANY (CAST(CAST(:leads AS uuid[]) AS text[])) AND detail ->> 'note' IS NOT NULL""",
)

_HASHES: Final = {
    "idempotency_keys": text("""
        SELECT account, key, payload_hash FROM dispatcher.idempotency_keys
        WHERE lead_id = ANY (CAST(:ids AS uuid[])) FOR UPDATE
    """),
    "leads": text("SELECT id, payload_hash FROM dispatcher.leads WHERE id = ANY (CAST(:ids AS uuid[]))"),
    "lead_revisions": text("""
        SELECT lead_id, revision, payload_hash FROM dispatcher.lead_revisions WHERE lead_id = ANY (CAST(:ids AS uuid[]))
    """),
}

_SEAL: Final = {
    "idempotency_keys": text("""
        UPDATE dispatcher.idempotency_keys SET payload_hash = :sealed WHERE account = :account AND key = :key
    """),
    "leads": text("UPDATE dispatcher.leads SET payload_hash = :sealed WHERE id = :id"),
    "lead_revisions": text("""
        UPDATE dispatcher.lead_revisions SET payload_hash = :sealed WHERE lead_id = :lead_id AND revision = :revision
    """),
}

_REPLACE_KEY = text("""
UPDATE dispatcher.idempotency_keys SET key = :stand_in WHERE account = :account AND key = :key
""")

_FORGET_KEY = text("DELETE FROM dispatcher.idempotency_keys WHERE account = :account AND key = :key")

_ON_ITS_WAY: Final = frozenset({"sending", "unknown"})

_NEEDS_KEY: Final = (
    "This person was called, and without DISPATCHER_PRIVACY_KEY nothing may be kept that recognises a repetition: a "
    "lead submitted again would be called again. Give every process the key (`openssl rand -hex 32` makes one), or "
    "erase with --without-proof."
)

_OTHER_KEY: Final = "Persons are kept by hash under another DISPATCHER_PRIVACY_KEY than this process has; set that one."

_UNPROVEN: Final = Left(
    "a lead of this person, submitted again, is called again",
    "without DISPATCHER_PRIVACY_KEY no keyed hash of the number and its idempotency keys can be kept",
    "keep producers from submitting the person again",
)

_KEYS: Final = mentions.BY_TABLE["idempotency_keys"]


@dataclass(frozen=True, slots=True)
class Erased:
    """What was erased, and what is left.

    leads        the person's own leads
    beside       leads of others that the number was taken out of
    rows         how many rows were changed or deleted, by table
    voicery_ids  (account, id) of what is left to delete at Voicery
    left         what the erasure does not reach
    """

    leads: tuple[UUID, ...] = ()
    beside: tuple[UUID, ...] = ()
    rows: Mapping[str, int] = field(default_factory=dict)
    voicery_ids: tuple[tuple[str, int], ...] = ()
    left: tuple[Left, ...] = ()


class Erasure:
    """Erases people.

    pseudonyms   under whose key what stops a second call is kept
    """

    def __init__(self, database: Database, pseudonyms: Pseudonyms | None = None) -> None:
        self._database = database
        self._pseudonyms = pseudonyms or Pseudonyms(None)

    def erase(self, phone: str, *, actor: str, without_proof: bool = False) -> Erased:
        """Erase the person of this number, in one transaction. `actor` is written to the audit log.

        without_proof   also where no key is set, so that the person, submitted again, would be called again

        Raises `InvalidLead` for an invalid number; `NotAllowed` while a lead that names it is being sent or in doubt:
        its id at Voicery would never be known, so that it could not be deleted there; and `NotConfigured` where what
        stops a second call could not be kept, for want of the key, or because another one is in use.
        """
        number = canonical_phone(phone, "phone_number")
        if isinstance(number, FieldError):
            raise InvalidLead([number])
        return self._database.again(_Erasing(number, self._pseudonyms, actor, without_proof=without_proof).run)


class _Erasing:
    """One erasure; each transaction of it begins anew."""

    def __init__(self, phone: str, pseudonyms: Pseudonyms, actor: str, *, without_proof: bool) -> None:
        self._without_proof = without_proof
        self._phone = phone
        self._forms = NumberForms(phone)
        self._pseudonyms = pseudonyms
        self._actor = actor
        self._rows: dict[str, int] = {}

    def run(self, connection: Connection) -> Erased:
        self._rows = {}
        person.be_patient(connection)
        self._forget_waiting(connection)  # first: while a worker stores one, this waits, and then finds the lead
        known = person.find(connection, self._phone, lock=True)
        _refuse_on_its_way([*known.leads, *known.beside])
        leads = [one.id for one in known.leads]
        found = self._mentions(connection, leads)
        _refuse_on_its_way(_of_others(connection, found, leads))
        files = person.files(connection, leads, found)
        beside = sorted({one.id for one in known.beside} | set(_lead_ids(found, leads)))
        unproven = self._keep_proof(connection, leads)
        self._seal(connection, "idempotency_keys", [*leads, *beside])
        lost_keys = self._replace_keys(connection, found)
        numbered = block_list.forget_number(connection, self._phone, self._pseudonyms)
        if (unproven or lost_keys) and not self._without_proof:
            raise NotConfigured(_NEEDS_KEY)
        self._delete(connection, leads, beside)
        for table in ("leads", "lead_revisions"):
            self._seal(connection, table, beside)
        for mention in self._mentions(connection, ()):
            self._count(mention.place.table, 1)
            mentions.remove(connection, self._forms, mention)
        detail = {"leads": [str(one) for one in leads], "beside": [str(one) for one in beside], "rows": self._rows}
        audit.note(connection, self._actor, "erase", "person", detail)
        left = person.outside(known, self._forms.removed_from(files))
        if numbered:
            left = (_still_blocked(numbered), *left)
        if unproven or lost_keys:
            left = (_UNPROVEN, *left)
        return Erased(tuple(leads), tuple(beside), self._rows, known.voicery_ids, left)

    def _forget_waiting(self, connection: Connection) -> None:
        """Delete the person's rows of the inbox, and take the person out of the contacts of others."""
        for waiting, contacts in mentions.waiting_leads(connection, self._forms, lock=True):
            if contacts:
                inbox.drop_contacts(connection, waiting, contacts)
            else:
                inbox.forget(connection, [waiting])
            self._count("inbox", 1)

    def _keep_proof(self, connection: Connection, leads: Sequence[UUID]) -> bool:
        """Keep what makes a repetition a duplicate; return whether it is needed and cannot be kept."""
        if self._pseudonyms.key_id is None:
            return erased.called(connection, leads) > 0
        if not block_list.keep_key(connection, self._pseudonyms):
            raise NotConfigured(_OTHER_KEY)
        self._count("erased_leads", erased.keep(connection, leads, self._pseudonyms))
        return False

    def _mentions(self, connection: Connection, but_of: Iterable[UUID]) -> list[Mention]:
        """Return the rows that mention the number, but those of these leads."""
        theirs = set(but_of)
        return [
            mention
            for place in mentions.PLACES
            for mention in mentions.find(connection, self._forms, place, lock=True)
            if mention.lead_id not in theirs or mention.lead_id is None
        ]

    def _delete(self, connection: Connection, leads: Sequence[UUID], beside: Sequence[UUID]) -> None:
        values: dict[str, Any] = {
            "phone": self._phone,
            "leads": list(leads),
            "beside": list(beside),
            "removed": REMOVED,
            **person.hidden_contacts(connection, self._phone),
        }
        for statement in _ERASE:
            table = statement.split("dispatcher.")[1].split()[0]
            wanted = {name: value for name, value in values.items() if f":{name}" in statement}
            self._count(table, connection.execute(text(statement), wanted).rowcount)

    def _seal(self, connection: Connection, table: str, ids: Sequence[UUID]) -> None:
        """Put a keyed hash, or without a key none, in the place of a hash of a payload that contained the number."""
        for row in connection.execute(_HASHES[table], {"ids": list(ids)}).mappings().all():
            sealed = self._pseudonyms.sealed(row["payload_hash"])
            if self._pseudonyms.key_id is None:
                sealed = f"erased:{row.get('id') or row.get('lead_id') or ''}"  # equal to no other payload's
            connection.execute(_SEAL[table], {**row, "sealed": sealed})

    def _replace_keys(self, connection: Connection, found: Iterable[Mention]) -> int:
        """Put a keyed hash in the place of each idempotency key with the number; return how many had to be deleted."""
        lost = 0
        for key in (mention.key for mention in found if mention.place is _KEYS):
            stand_in = self._pseudonyms.stand_in(key["key"])
            statement, values = (_FORGET_KEY, {}) if stand_in is None else (_REPLACE_KEY, {"stand_in": stand_in})
            connection.execute(statement, {**key, **values})
            self._count("idempotency_keys", 1)
            lost += stand_in is None
        return lost

    def _count(self, table: str, rows: int) -> None:
        if rows:
            self._rows[table] = self._rows.get(table, 0) + rows


def _lead_ids(found: Iterable[Mention], but: Iterable[UUID]) -> set[UUID]:
    return {mention.lead_id for mention in found if mention.lead_id is not None} - set(but)


def _of_others(connection: Connection, found: Iterable[Mention], but: Iterable[UUID]) -> list[Known]:
    rows = connection.execute(_STATES, {"ids": sorted(_lead_ids(found, but))})
    return [Known(row.id, row.state) for row in rows]


def _refuse_on_its_way(leads: Iterable[Known]) -> None:
    for lead in leads:
        if lead.state in _ON_ITS_WAY:
            raise NotAllowed(
                f"Lead {lead.id}, which names this person, is {lead.state}, and what Voicery makes of it is not known "
                "yet; erase again when it has ended (`dispatcher explain` says when), or resolve it first."
            )


def _still_blocked(kept: int) -> Left:
    return Left(
        f"{kept} blocks keep the number, so that nobody calls it",
        "without the DISPATCHER_PRIVACY_KEY of this database no keyed hash can stand for it",
        "set that key and erase again; or remove the block with `dispatcher unblock`",
    )
