"""The transactions of an erasure: what each finds, stops, deletes and notes.

Each works on few rows and is whole by itself: what it has deleted, it has noted in the audit log, so that the report of
an erasure that was interrupted is not lost. While it lasts, a block holds the person's leads back.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, text

from dispatcher.errors import NotAllowed, NotConfigured
from dispatcher.lead.number_forms import REMOVED, NumberForms
from dispatcher.operator import block_list, mentions, person
from dispatcher.operator.mentions import Mention
from dispatcher.store import audit, erased, inbox
from dispatcher.store.pseudonym import Pseudonyms

SOURCE: Final = "an erasure that has not ended"
"""The source of the block that holds the person's leads back meanwhile."""

_REASON: Final = "run `dispatcher erase` again to end it"

_HOLD: Final = (
    # What has ended is of no use any more; what ends soon lasts as long as an erasure may.
    text("DELETE FROM dispatcher.blocks WHERE number = :number AND account IS NULL AND until <= now()"),
    text("""
    UPDATE dispatcher.blocks SET until = greatest(until, now() + interval '1 day')
    WHERE number = :number AND account IS NULL AND until IS NOT NULL
    """),
    text("""
    INSERT INTO dispatcher.blocks (number, reason, source, who) VALUES (:number, :reason, :source, :who)
    ON CONFLICT (number, COALESCE(account, '')) WHERE number IS NOT NULL DO NOTHING
    """),
)

_HELD_BY = text("SELECT id FROM dispatcher.blocks WHERE number = :number AND account IS NULL")

_LET_GO = text("DELETE FROM dispatcher.blocks WHERE number = :number AND account IS NULL AND source = :source")

_NOTED = text("""
SELECT detail FROM dispatcher.audit_log
WHERE subject = 'person' AND action = 'erase' AND detail ->> 'hold' = :hold
  AND id > coalesce((
    SELECT max(id) FROM dispatcher.audit_log
    WHERE subject = 'person' AND action = 'erase' AND detail ->> 'hold' = :hold AND detail ? 'finished'
  ), 0)
ORDER BY id
""")

_ON_ITS_WAY = text("""
SELECT id, state FROM dispatcher.leads
WHERE id = ANY (CAST(:ids AS uuid[])) AND state IN ('sending', 'unknown') ORDER BY id LIMIT 1
""")

_LOCK = text("SELECT id FROM dispatcher.leads WHERE id = ANY (CAST(:ids AS uuid[])) ORDER BY id FOR UPDATE")

_VOICERY_IDS = text(f"""
SELECT account, voicery_lead_id FROM dispatcher.leads
WHERE id = ANY (CAST(:leads AS uuid[])) AND voicery_lead_id IS NOT NULL
UNION
SELECT account, voicery_lead_id FROM dispatcher.lead_contacts
WHERE voicery_lead_id IS NOT NULL AND (
    lead_id = ANY (CAST(:leads AS uuid[])) OR lead_id = ANY (CAST(:beside AS uuid[])) AND {person.OF_CONTACT}
)
""")

_OF_LEADS: Final = (
    # What Voicery showed of the person, and what people wrote about the person's leads.
    "UPDATE dispatcher.incidents SET evidence = '{}' WHERE lead_id = ANY (CAST(:leads AS uuid[])) AND evidence <> '{}'",
    """UPDATE dispatcher.audit_log SET detail = detail || jsonb_build_object('note', CAST(:removed AS text))
       WHERE subject = ANY (CAST(CAST(:leads AS uuid[]) AS text[])) AND detail ->> 'note' IS NOT NULL""",
    "DELETE FROM dispatcher.leads WHERE id = ANY (CAST(:leads AS uuid[]))",
)

_OF_OTHERS: Final = "lead_id = ANY (CAST(:beside AS uuid[]))"

_BESIDE: Final = (
    f"DELETE FROM dispatcher.lead_contacts WHERE {_OF_OTHERS} AND {person.OF_CONTACT}",
    f"DELETE FROM dispatcher.lead_revisions WHERE {_OF_OTHERS} AND phone_number = :phone",
    f"""UPDATE dispatcher.lead_attempts SET phone_number = ''
        WHERE {_OF_OTHERS} AND phone_number = :phone AND finished_at IS NOT NULL""",
    f"UPDATE dispatcher.failed_leads SET phone_number = '' WHERE {_OF_OTHERS} AND phone_number = :phone",
    f"UPDATE dispatcher.lead_attempts SET response = NULL WHERE {_OF_OTHERS} AND response IS NOT NULL",
    f"UPDATE dispatcher.failed_leads SET response = NULL WHERE {_OF_OTHERS} AND response IS NOT NULL",
)

_KEYS_OF = text("""
SELECT account, key FROM dispatcher.idempotency_keys WHERE lead_id = ANY (CAST(:ids AS uuid[])) ORDER BY account, key
""")

_KEY = text("""
SELECT account, key, payload_hash FROM dispatcher.idempotency_keys WHERE account = :account AND key = :key FOR UPDATE
""")

_HASHES: Final = {
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

_NEEDS_KEY: Final = (
    "This person was called, and without DISPATCHER_PRIVACY_KEY nothing may be kept that recognises a repetition: a "
    "lead submitted again would be called again. Give every process the key (`openssl rand -hex 32` makes one), or "
    "erase with --without-proof."
)

_OTHER_KEY: Final = "Persons are kept by hash under another DISPATCHER_PRIVACY_KEY than this process has; set that one."

_KEYS: Final = mentions.BY_TABLE["idempotency_keys"]


@dataclass(frozen=True, slots=True)
class Scan:
    """Where the number is: rows to work through. No values of them are kept.

    leads      the person's own
    beside     leads of others that know the number
    keys       idempotency keys of all of these, and those that name the person
    elsewhere  rows with free text that mentions the number
    waiting    rows of the inbox
    naming     how many of the keys name the person
    unproven   whether what would stop a second call cannot be kept
    unreadable names of rows with a value that does not decrypt
    """

    leads: Sequence[UUID] = ()
    beside: Sequence[UUID] = ()
    keys: Sequence[tuple[str, str]] = ()
    elsewhere: Sequence[Mention] = ()
    waiting: Sequence[UUID] = ()
    naming: int = 0
    unproven: bool = False
    unreadable: AbstractSet[str] = frozenset()

    @property
    def rows(self) -> int:
        """How many rows name the person, or belong to a lead that does."""
        return len(self.leads) + len(self.beside) + len(self.elsewhere) + len(self.waiting) + self.naming

    @property
    def to_do(self) -> int:
        """How many rows there are to work through."""
        return self.rows - self.naming + len(self.keys)


@dataclass(slots=True)
class Report:
    """What was erased so far, as the audit log notes it, without any number."""

    leads: list[str] = field(default_factory=list)
    beside: list[str] = field(default_factory=list)
    rows: Counter[str] = field(default_factory=Counter)
    voicery_ids: list[tuple[str, int]] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    unproven: bool = False

    def add(self, detail: Mapping[str, Any]) -> None:
        """Add what one entry of the audit log says."""
        self.leads += detail.get("leads", ())
        self.beside += detail.get("beside", ())
        self.rows.update(detail.get("rows", {}))
        self.voicery_ids += [(account, voicery_id) for account, voicery_id in detail.get("voicery_ids", ())]
        self.files += detail.get("files", ())
        self.unproven |= bool(detail.get("unproven"))

    def as_dict(self) -> dict[str, object]:
        """Return what is not empty, as JSON takes it."""
        said = {name: getattr(self, name) for name in ("leads", "beside", "rows", "voicery_ids", "files", "unproven")}
        return {name: value for name, value in said.items() if value}


class Steps:
    """The transactions of one erasure, each of which begins anew when it is repeated.

    holds_claims   False for a rehearsal, whose locks last until it ends: no claim waits for it
    """

    def __init__(
        self, phone: str, pseudonyms: Pseudonyms, actor: str, *, without_proof: bool, holds_claims: bool
    ) -> None:
        self._phone = phone
        self._forms = NumberForms(phone)
        self._pseudonyms = pseudonyms
        self._actor = actor
        self._without_proof = without_proof
        self._holds_claims = holds_claims

    def scan(self, connection: Connection) -> Scan:
        """Find everything; nothing is locked. Raises `NotAllowed` or `NotConfigured` for what cannot be erased now."""
        person.be_patient(connection)
        waiting = [row for row, _ in mentions.waiting_leads(connection, self._forms)]
        known = person.find(connection, self._phone)
        leads, unreadable = [one.id for one in known.leads], set(known.unreadable)
        theirs = set(leads)
        found = [
            replace(mention, values={})
            for place in mentions.PLACES
            for mention in mentions.find(connection, self._forms, place, unreadable)
            if mention.lead_id not in theirs
        ]
        named = {mention.lead_id for mention in found if mention.lead_id is not None}
        beside = sorted({one.id for one in known.beside} | named)
        _refuse_on_its_way(connection, [*leads, *beside])
        named_keys = [(mention.key["account"], mention.key["key"]) for mention in found if mention.place is _KEYS]
        of_leads = connection.execute(_KEYS_OF, {"ids": [*leads, *beside]})
        keys = dict.fromkeys([*((row.account, row.key) for row in of_leads), *named_keys])
        unproven = self._pseudonyms.key_id is None and (bool(named_keys) or erased.called(connection, leads) > 0)
        if unproven and not self._without_proof:
            raise NotConfigured(_NEEDS_KEY)
        elsewhere = [mention for mention in found if mention.place is not _KEYS]
        return Scan(leads, beside, list(keys), elsewhere, waiting, len(named_keys), unproven, unreadable)

    def begin(self, connection: Connection, scan: Scan, first: Sequence[UUID]) -> None:
        """Keep the proof that allows no second call, and hold back all leads of the person until the erasure ends.

        first   leads of others whose contact is taken out at once, so that the block does not stop them
        """
        if self._holds_claims:
            block_list.hold_claims(connection)
        _refuse_on_its_way(connection, [*scan.leads, *scan.beside])
        done = Report(unproven=scan.unproven)
        self._keep_proof(connection, scan.leads, done)
        values = {"number": self._phone, "reason": _REASON, "source": SOURCE, "who": self._actor}
        for statement in _HOLD:
            wanted = {name: value for name, value in values.items() if f":{name}" in statement.text}
            connection.execute(statement, wanted)
        self._take_out(connection, first, done)
        self._note(connection, done)

    def forget_waiting(self, connection: Connection, rows: Sequence[UUID]) -> None:
        """Delete the person's rows of the inbox, and take the person out of the contacts of others.

        While a worker stores one of them as a lead, this waits; the next scan finds the lead.
        """
        done = Report()
        for waiting, contacts in mentions.waiting_leads(connection, self._forms, lock=rows):
            if contacts:
                inbox.drop_contacts(connection, waiting, contacts)
            else:
                inbox.forget(connection, [waiting])
            done.rows["inbox"] += 1
        self._note(connection, done)

    def seal_keys(self, connection: Connection, keys: Sequence[tuple[str, str]]) -> None:
        """Put keyed hashes in the place of the hashes of payloads, and of the keys that name the person."""
        done = Report()
        for account, key in keys:
            row = connection.execute(_KEY, {"account": account, "key": key}).mappings().first()
            if row is None:
                continue
            self._seal(connection, "idempotency_keys", row)
            if self._forms.stands_in(key):
                stand_in = self._pseudonyms.stand_in(key)
                statement, values = (_FORGET_KEY, {}) if stand_in is None else (_REPLACE_KEY, {"stand_in": stand_in})
                connection.execute(statement, {"account": account, "key": key, **values})
                done.rows["idempotency_keys"] += 1
        self._note(connection, done)

    def delete(self, connection: Connection, leads: Sequence[UUID]) -> None:
        """Delete leads of the person with all that hangs on them."""
        person.be_patient(connection)
        self._lock(connection, leads)
        done = Report(leads=[str(one) for one in leads])
        self._keep_proof(connection, leads, done)
        self._find_outside(connection, done, leads=leads)
        for statement in _OF_LEADS:
            self._execute(connection, statement, done, leads=list(leads), removed=REMOVED)
        self._note(connection, done)

    def take_out(self, connection: Connection, beside: Sequence[UUID]) -> None:
        """Take the number out of leads of others."""
        self._lock(connection, beside)
        done = Report()
        self._take_out(connection, beside, done)
        self._note(connection, done)

    def rewrite(self, connection: Connection, elsewhere: Sequence[Mention]) -> None:
        """Take the number out of free text."""
        self._lock(connection, sorted({mention.lead_id for mention in elsewhere if mention.lead_id is not None}))
        done = Report()
        refused = [mention for mention in elsewhere if mention.place.table == "import_rejections"]
        self._find_outside(connection, done, refused=refused)
        for mention in elsewhere:
            held = mentions.held(connection, self._forms, mention)
            if held is not None:
                mentions.remove(connection, self._forms, held)
                done.rows[mention.place.table] += 1
        self._note(connection, done)

    def end(self, connection: Connection) -> tuple[Report, int]:
        """Let go of what held the person's leads back; return the whole report, and how many blocks keep the number."""
        report, hold = Report(), self._hold(connection)
        if hold is not None:
            for detail in connection.execute(_NOTED, {"hold": str(hold)}).scalars():
                report.add(detail)
        connection.execute(_LET_GO, {"number": self._phone, "source": SOURCE})
        numbered = block_list.forget_number(connection, self._phone, self._pseudonyms)
        counted = {"finished": True, "hold": hold, "leads_in_all": len(report.leads), "rows_in_all": report.rows}
        audit.note(connection, self._actor, "erase", "person", counted)
        return report, numbered

    # Parts ------------------------------------------------------------------------------------------------------------

    def _hold(self, connection: Connection) -> int | None:
        found: int | None = connection.execute(_HELD_BY, {"number": self._phone}).scalar()
        return found

    def _note(self, connection: Connection, done: Report) -> None:
        """Note what this transaction has done, for the report of whoever ends the erasure."""
        said = done.as_dict()
        if said:
            detail = {**said, "hold": self._hold(connection)}
            audit.note(connection, self._actor, "erase", "person", detail)

    def _keep_proof(self, connection: Connection, leads: Sequence[UUID], done: Report) -> None:
        if self._pseudonyms.key_id is None:
            return
        if not block_list.keep_key(connection, self._pseudonyms):
            raise NotConfigured(_OTHER_KEY)
        done.rows["erased_leads"] += erased.keep(connection, leads, self._pseudonyms)

    def _lock(self, connection: Connection, leads: Sequence[UUID]) -> None:
        connection.execute(_LOCK, {"ids": list(leads)})
        _refuse_on_its_way(connection, leads)

    def _take_out(self, connection: Connection, beside: Sequence[UUID], done: Report) -> None:
        if not beside:
            return
        self._lock(connection, beside)
        done.beside += [str(one) for one in beside]
        self._find_outside(connection, done, beside=beside)
        hidden = person.hidden_contacts(connection, self._phone, of_leads=beside)
        for statement in _BESIDE:
            self._execute(connection, statement, done, beside=list(beside), phone=self._phone, **hidden)
        for table, hashes in _HASHES.items():
            for row in connection.execute(hashes, {"ids": list(beside)}).mappings().all():
                self._seal(connection, table, row)

    def _find_outside(
        self,
        connection: Connection,
        done: Report,
        *,
        leads: Sequence[UUID] = (),
        beside: Sequence[UUID] = (),
        refused: Iterable[Mention] = (),
    ) -> None:
        """Note what is left elsewhere, before the rows that tell of it are gone."""
        if leads or beside:
            hidden = person.hidden_contacts(connection, self._phone, of_leads=beside)
            values = {"leads": list(leads), "beside": list(beside), "phone": self._phone, **hidden}
            rows = connection.execute(_VOICERY_IDS, values)
            done.voicery_ids += [(row.account, row.voicery_lead_id) for row in rows]
        done.files += self._forms.removed_from(person.files(connection, leads, refused))

    def _seal(self, connection: Connection, table: str, row: Mapping[Any, Any]) -> None:
        """Put a keyed hash, or without a key none, in the place of a hash of a payload that contained the number."""
        sealed = self._pseudonyms.sealed(row["payload_hash"])
        if self._pseudonyms.key_id is None:
            sealed = f"erased:{row.get('id') or row.get('lead_id') or ''}"  # equal to no other payload's
        connection.execute(_SEAL[table], {**row, "sealed": sealed})

    def _execute(self, connection: Connection, statement: str, done: Report, **values: Any) -> None:  # noqa: ANN401
        wanted = {name: value for name, value in values.items() if f":{name}" in statement}
        table = statement.partition("dispatcher.")[2].partition(" ")[0]
        changed = connection.execute(text(statement), wanted).rowcount
        if changed:
            done.rows[table] += changed


def _refuse_on_its_way(connection: Connection, leads: Sequence[UUID]) -> None:
    lead = connection.execute(_ON_ITS_WAY, {"ids": list(leads)}).first()
    if lead is not None:
        raise NotAllowed(
            f"Lead {lead.id}, which names this person, is {lead.state}, and what Voicery makes of it is not known "
            "yet; erase again when it has ended (`dispatcher explain` says when), or resolve it first."
        )
