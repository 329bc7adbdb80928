"""Submit leads: validate, store without duplicates, and ring the doorbell after the commit."""

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar
from uuid import UUID

import orjson
import uuid_utils.compat
from sqlalchemy import Connection, Row, text

from dispatcher.broker.doorbell import Bell
from dispatcher.errors import FieldError, IdempotencyConflict, InvalidLead, StoreUnavailable
from dispatcher.failpoint import reach
from dispatcher.intake.joining import Caller, Joined, theirs
from dispatcher.lead.lead import Lead
from dispatcher.lead.options import Channel, Submission, SubmitOptions, check_account
from dispatcher.logs.tracing import submitting
from dispatcher.store.blocks import FINGERPRINT, NO_KEY, Screening, hash_of, sentence, words
from dispatcher.store.database import Database, translated
from dispatcher.store.encryption import NO_KEYS, Content, KeyRing, stored_contact
from dispatcher.store.erased import OF_SUBMISSION
from dispatcher.store.migration import check
from dispatcher.store.pseudonym import Pseudonyms
from dispatcher.store.schema import LIVE_STRICT
from dispatcher.store.statement import Call, HotStatement
from dispatcher.store.trouble import NotPermitted, OtherSchema, StatementRefused, TryAgain

_LIVE: Final = f"""
    SELECT id FROM dispatcher.leads
    WHERE NOT :allow_dupplicate AND account = :account AND campaign_id = :campaign_id AND phone_number = :phone_number
      AND {LIVE_STRICT}
    UNION ALL {OF_SUBMISSION}
    LIMIT 1
"""


def _plain(*forbidding: str) -> HotStatement:
    """Return the statement of a lead without key, contacts or times: most leads. None is stored if a query finds a row.

    Nor is a second lead of a person, by the index `leads_one_live`. The other statement says what was met.
    """
    return HotStatement(f"""
INSERT INTO dispatcher.leads
    (id, account, campaign_id, phone_number, variables, allow_dupplicate, state, priority, due_at, payload_hash)
SELECT :id, :account, :campaign_id, :phone_number, CAST(:variables AS jsonb), :allow_dupplicate, 'pending', :priority,
    now(), :payload_hash
WHERE {" AND ".join(f"NOT EXISTS ({query})" for query in forbidding)}
ON CONFLICT DO NOTHING
""")


def _blocks(digest: str) -> str:
    return f"SELECT FROM dispatcher.blocks_of(:account, CAST(:phone_number AS text), {digest})"


_SUBMIT_PLAIN = _plain(_blocks(hash_of("CAST(:phone_number AS text)")), OF_SUBMISSION)
_SUBMIT_PLAIN_WITHOUT_KEY = _plain(_blocks("NULL"))  # such a process recognises nobody by a keyed hash

_SUBMIT = HotStatement(f"""
WITH held AS (
    -- As it is today: a duplicate whose original ended without a call may have taken its place.
    SELECT key.lead_id, key.payload_hash, CASE WHEN still.duplicate THEN 'duplicate'
            WHEN key.state = 'failed' AND coalesce(lead.failure_class = 'blocked', lead.id IS NULL) THEN 'failed'
            ELSE 'pending' END AS state,
        CASE WHEN still.duplicate THEN coalesce(lead.duplicate_of, key.duplicate_of) END AS duplicate_of
    FROM dispatcher.idempotency_keys AS key LEFT JOIN dispatcher.leads AS lead ON lead.id = key.lead_id
    CROSS JOIN LATERAL (
        SELECT key.state = 'duplicate' AND coalesce(lead.state = 'duplicate', true) AS duplicate
    ) AS still
    -- Or as a keyed hash, if the key named a person who was erased.
    WHERE key.account = :account AND key.key IN (CAST(:key AS text), CAST(:erased_key AS text))
    ORDER BY key.key = CAST(:key AS text) DESC LIMIT 1
), live AS ({_LIVE}), person AS (
    SELECT CAST(NULL AS bigint) AS position, CAST(:phone_number AS text) AS phone_number
    UNION ALL
    SELECT contact.position, contact.phone_number
    FROM jsonb_array_elements_text(CAST(:contact_numbers AS jsonb)) WITH ORDINALITY AS contact (phone_number, position)
    WHERE NOT CAST(:drops AS boolean)
), block AS (
    SELECT {sentence(words("block", contact="person.position IS NOT NULL"))} AS message
    FROM person CROSS JOIN LATERAL
        dispatcher.blocks_of(:account, person.phone_number, {hash_of("person.phone_number")}) AS block
    ORDER BY person.position NULLS FIRST LIMIT 1
), born AS (
    INSERT INTO dispatcher.leads (id, account, campaign_id, phone_number, variables, allow_dupplicate, state,
        failure_class, last_error, priority, due_at, expires_at, duplicate_of, idempotency_key, payload_hash,
        finished_at)
    SELECT :id, :account, :campaign_id, :phone_number, CAST(:variables AS jsonb), :allow_dupplicate,
        CASE WHEN block.message IS NOT NULL THEN 'failed' WHEN live.id IS NULL THEN 'pending' ELSE 'duplicate' END,
        CASE WHEN block.message IS NOT NULL THEN 'blocked' END, block.message, :priority,
        greatest(now(), coalesce(CAST(:not_before_at AS timestamptz), now() + CAST(:not_before_in AS interval), now())),
        coalesce(CAST(:expires_at AS timestamptz), now() + CAST(:expires_in AS interval)),
        CASE WHEN block.message IS NULL THEN live.id END, CAST(:key AS text), :payload_hash,
        CASE WHEN coalesce(CAST(live.id AS text), block.message) IS NOT NULL THEN now() END
    FROM (SELECT 1) AS one LEFT JOIN live ON true LEFT JOIN block ON true
    WHERE NOT EXISTS (SELECT FROM held)
    -- Also for the id itself: a repeated submit finds its first one below.
    ON CONFLICT DO NOTHING
    RETURNING id, state, duplicate_of
), failed AS (
    INSERT INTO dispatcher.failed_leads
        (lead_id, account, campaign_id, phone_number, failure_class, fingerprint, message, attempts)
    SELECT born.id, :account, :campaign_id, :phone_number, 'blocked', '{FINGERPRINT}', block.message, 0
    FROM born CROSS JOIN block
), kept AS (
    -- No ON CONFLICT: of two at once with one key, the second fails as a whole and then finds the first.
    INSERT INTO dispatcher.idempotency_keys (account, key, lead_id, payload_hash, state, duplicate_of)
    SELECT :account, CAST(:key AS text), born.id, CAST(:sealed_hash AS text), born.state, born.duplicate_of
    FROM born WHERE CAST(:key AS text) IS NOT NULL
), contacts AS (
    INSERT INTO dispatcher.lead_contacts (lead_id, position, account, phone_number, variables)
    SELECT born.id, contact.position, :account, contact.phone_number, contact.variables
    FROM born CROSS JOIN jsonb_to_recordset(CAST(:contacts AS jsonb))
        AS contact (position smallint, phone_number text, variables jsonb)
)
SELECT id AS lead_id, state, duplicate_of, true AS created, :payload_hash AS payload_hash FROM born
UNION ALL
SELECT lead_id, state, duplicate_of, false, payload_hash FROM held
""")

_FIND = text("""
-- As the first submission was answered: a lead that Voicery refused as a duplicate later was born pending. A lead of
-- another account is never this one, whatever it says.
SELECT id AS lead_id, CASE WHEN born_duplicate THEN 'duplicate'
        WHEN failure_class = 'blocked' AND attempt_id IS NULL THEN 'failed' ELSE 'pending' END AS state,
    CASE WHEN born_duplicate THEN duplicate_of END AS duplicate_of, false AS created,
    CASE WHEN account = :account THEN payload_hash ELSE '' END AS payload_hash
FROM dispatcher.leads CROSS JOIN LATERAL (SELECT state = 'duplicate' AND attempt_id IS NULL AS born_duplicate) AS birth
WHERE id = :id
""")

NO_CONTACTS: Final = "[]"


@dataclass(frozen=True, slots=True)
class Entry:
    """A valid lead with all values of its row. The repr contains no personal data."""

    id: UUID
    account: str
    lead: Lead
    options: SubmitOptions

    @property
    def channel(self) -> Channel:
        """The channel of the lead."""
        return Channel(self.account, self.lead.campaign_id)

    @property
    def is_plain(self) -> bool:
        """Whether it has neither a key nor times nor secondary contacts."""
        options = self.options
        extras = (options.idempotency_key, options.not_before, options.expires_at, self.lead.secondary_contacts or None)
        return extras == (None, None, None, None)

    def __repr__(self) -> str:
        return f"Entry(id={self.id}, account={self.account!r}, campaign_id={self.lead.campaign_id})"


@dataclass(frozen=True, slots=True)
class Stored:
    """The row of a submission: a new one, or the earlier one with the same key or id."""

    lead_id: UUID
    state: str
    duplicate_of: UUID | None
    created: bool
    payload_hash: str


def submit(
    connection: Connection,
    entry: Entry,
    payload_hash: str,
    screening: Screening = NO_KEY,
    ring: KeyRing = NO_KEYS,
) -> Stored | None:
    """Store the lead with its contacts and key, in one statement; as failed where somebody of it must not be called.

    Return None if a concurrent transaction stored the same id, key or person first; then call `find`, and try again.
    """
    statement, parameters = _plain_call(entry, payload_hash, screening.pseudonyms, ring)
    if entry.is_plain and statement.count(connection, parameters):
        return Stored(entry.id, "pending", None, True, payload_hash)
    parameters |= screening.values() | _other_parameters(entry, payload_hash, screening.pseudonyms, ring)
    rows = _SUBMIT.rows(connection, parameters)
    return _stored(rows[0]) if rows else None


def plain_call(entry: Entry, screening: Screening, ring: KeyRing) -> Call:
    """Return the statement that stores a plain lead, and its parameters: it stores none where `submit` must look."""
    return _plain_call(entry, entry.lead.payload_hash(), screening.pseudonyms, ring)


def find(connection: Connection, entry: Entry) -> Stored | None:
    """Return the row with the submission's own id, if an earlier try of the same submission was committed."""
    row = connection.execute(_FIND, {"id": entry.id, "account": entry.account}).first()
    return None if row is None else _stored(row)


def contacts_json(entry: Entry, ring: KeyRing = NO_KEYS) -> str:
    """Return the secondary contacts as a JSON array of rows, as they are stored."""
    if not entry.lead.secondary_contacts:
        return NO_CONTACTS
    rows: list[Any] = []
    for position, contact in enumerate(entry.lead.secondary_contacts):
        number, variables = stored_contact(
            ring, entry.id, position, contact.phone_number, orjson.dumps(contact.variables).decode()
        )
        rows.append({"position": position, "phone_number": number, "variables": orjson.Fragment(variables)})
    return orjson.dumps(rows).decode()


def _plain_call(
    entry: Entry, payload_hash: str, pseudonyms: Pseudonyms, ring: KeyRing
) -> tuple[HotStatement, dict[str, object]]:
    lead = entry.lead
    statement = _SUBMIT_PLAIN_WITHOUT_KEY if pseudonyms.key_id is None else _SUBMIT_PLAIN
    return statement, {
        "id": entry.id,
        "account": entry.account,
        "campaign_id": lead.campaign_id,
        "phone_number": lead.phone_number,
        "variables": ring.encrypted_json(orjson.dumps(lead.variables).decode(), entry.id, Content.VARIABLES),
        "allow_dupplicate": lead.allow_dupplicate,
        "priority": entry.options.priority,
        "payload_hash": payload_hash,
        **pseudonyms.pads(),
    }


def _other_parameters(entry: Entry, payload_hash: str, pseudonyms: Pseudonyms, ring: KeyRing) -> dict[str, object]:
    options = entry.options
    key = options.idempotency_key
    not_before, expires_at = options.not_before, options.expires_at
    return {
        "not_before_at": not_before if isinstance(not_before, datetime) else None,
        "not_before_in": not_before if isinstance(not_before, timedelta) else None,
        "expires_at": expires_at if isinstance(expires_at, datetime) else None,
        "expires_in": expires_at if isinstance(expires_at, timedelta) else None,
        "key": key,
        "erased_key": None if key is None else pseudonyms.stand_in(key),
        "sealed_hash": pseudonyms.sealed(payload_hash),
        "contacts": contacts_json(entry, ring),
        "contact_numbers": orjson.dumps([one.phone_number for one in entry.lead.secondary_contacts]).decode(),
    }


def _stored(row: Row[Any]) -> Stored:
    return Stored(row.lead_id, row.state, row.duplicate_of, row.created, row.payload_hash)


REPEAT_FOR_SECONDS: Final = 2.0
"""The time in seconds during which a submit is repeated under its own id when its commit was not acknowledged."""

_WAIT_FOR_STANDBY: Final = text("SELECT pg_logical_emit_message(true, 'dispatcher', '')")

_RACES: Final = 5  # two submits of one number meet once; five times in a row is a bug, not a race
_PAUSE_SECONDS: Final = 0.1


T = TypeVar("T")


class Intake:
    """Submits leads. `clock` returns monotonic seconds; `wait` sleeps for a number of seconds.

    pseudonyms   under whose key erased persons are recognised
    """

    def __init__(
        self,
        database: Database,
        bell: Bell,
        screening: Screening = NO_KEY,
        *,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self._database = database
        self._bell = bell
        self._screening = screening
        self._clock = clock
        self._wait = wait

    def submit(
        self,
        lead: Lead | Mapping[str, Any],
        options: SubmitOptions | Mapping[str, Any],
        *,
        account: str,
        session: Caller | None = None,
    ) -> Submission:
        """Validate and store a lead, then ring the doorbell. See `Dispatcher.submit` for the contract."""
        return self.store(valid_entry(lead, options, account), session=session)

    def store(self, entry: Entry, *, session: Caller | None = None, repeated: bool = False) -> Submission:
        """Store a valid lead, then ring. `repeated`: it may be stored already, by a commit that nobody confirmed."""
        with submitting(entry.account, entry.lead.campaign_id) as tell:
            if session is None:
                stored = self._store_durably(entry, repeated=repeated)
                reach("submit.after_commit")
                if _is_news(stored):
                    self._bell.ring(entry.channel)
            else:
                joined = Joined.of(session)
                with theirs():
                    stored = self._store(entry, joined.connection, joined.savepoint)
                if _is_news(stored):
                    joined.announce(self._bell, entry.channel)
            tell(stored.lead_id, stored.state)
        return Submission(stored.lead_id, stored.state, stored.created, stored.duplicate_of)

    def _store_durably(self, entry: Entry, *, repeated: bool) -> Stored:
        """Store in a transaction of our own; repeat under the same id while it is not known whether it was committed.

        Raises `SchemaOutOfDate` at once, because nothing was stored then.
        """
        give_up = self._clock() + REPEAT_FOR_SECONDS
        reach("submit.before_commit")
        while True:
            try:
                with self._database.autocommit() as connection:
                    stored = self._store(entry, connection, nullcontext)
                    if repeated:
                        # What is only found is waited for by nobody: a write that comes after it is, with all before.
                        connection.execute(_WAIT_FOR_STANDBY)
                # The id is generated here, so a row that a repetition finds under it is from our own first try.
                ours = repeated and entry.options.id is None and stored.lead_id == entry.id
                return replace(stored, created=True) if ours else stored
            except OtherSchema:
                with self._database.autocommit() as connection:
                    check(connection)
                raise
            except NotPermitted:
                raise
            except StoreUnavailable as error:
                repeated = True
                if self._clock() >= give_up:
                    raise StoreUnavailable(
                        f"{error} The lead may or may not be stored: repeat with submit(lead, id={entry.id}).", entry.id
                    ) from None
                self._wait(_PAUSE_SECONDS)

    def _store(
        self,
        entry: Entry,
        connection: Connection,
        savepoint: Callable[[], AbstractContextManager[Any]],
    ) -> Stored:
        """Store in one statement; repeat only if a concurrent transaction stored the same id, key or person first."""
        payload_hash = entry.lead.payload_hash()
        for _ in range(_RACES):
            try:
                with translated(), savepoint():
                    stored = submit(connection, entry, payload_hash, self._screening, self._database.key_ring)
            except TryAgain:
                continue
            except StatementRefused as refusal:
                if refusal.constraint != "idempotency_keys_pkey":
                    raise StoreUnavailable(f"The lead could not be stored: {refusal}.", entry.id) from None
                continue
            stored = stored or find(connection, entry)
            if stored is not None:
                if not self._screening.pseudonyms.is_of(stored.payload_hash, payload_hash):
                    raise IdempotencyConflict(stored.lead_id)
                return stored
        raise StoreUnavailable("Too many submits of this number at once; submit it again.", entry.id)


def valid_entry(lead: Lead | Mapping[str, Any], options: SubmitOptions | Mapping[str, Any], account: str) -> Entry:
    """Return the lead with its options as an `Entry`. Raises `InvalidLead` with the faults of all three arguments."""
    faults: list[FieldError] = []

    def checked(check: Callable[[Any], T], value: object) -> T | None:
        try:
            return check(value)
        except InvalidLead as refusal:
            faults.extend(refusal.errors)
            return None

    valid_lead = checked(Lead.parse, lead)
    valid_options = checked(SubmitOptions.parse, options)
    valid_account = checked(check_account, account)
    if valid_lead is None or valid_options is None or valid_account is None:
        raise InvalidLead(faults)
    return Entry(valid_options.id or uuid_utils.compat.uuid7(), valid_account, valid_lead, valid_options)


def _is_news(stored: Stored) -> bool:
    return stored.created and stored.state == "pending"
