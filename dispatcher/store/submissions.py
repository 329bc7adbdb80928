"""Submissions: one lead becomes durable, or is recognised as one we already have (design sections 3 and 8)."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import orjson
from sqlalchemy import Connection, Row, text

from dispatcher.leads.lead import Lead
from dispatcher.leads.options import SubmitOptions
from dispatcher.store.statement import HotStatement
from dispatcher.tables import LIVE_STRICT

_LIVE: Final = f"""
    SELECT id FROM dispatcher.leads
    WHERE NOT :allow_dupplicate AND account = :account AND campaign_id = :campaign_id AND phone_number = :phone_number
      AND {LIVE_STRICT}
    LIMIT 1
"""

# Most leads have neither a key nor contacts nor times: half the parameters, and a tenth less work for Postgres.
_SUBMIT_PLAIN = HotStatement(f"""
INSERT INTO dispatcher.leads
    (id, account, campaign_id, phone_number, variables, allow_dupplicate, state, priority, due_at, duplicate_of,
    payload_hash, finished_at)
SELECT :id, :account, :campaign_id, :phone_number, CAST(:variables AS jsonb), :allow_dupplicate,
    CASE WHEN live.id IS NULL THEN 'pending' ELSE 'duplicate' END, :priority, now(), live.id,
    :payload_hash, CASE WHEN live.id IS NOT NULL THEN now() END
FROM (SELECT 1) AS one LEFT JOIN ({_LIVE}) AS live ON true
ON CONFLICT DO NOTHING
RETURNING id AS lead_id, state, duplicate_of, true AS created, payload_hash
""")

_SUBMIT = HotStatement(f"""
WITH held AS (
    SELECT key.lead_id, key.payload_hash, key.state, key.duplicate_of FROM dispatcher.idempotency_keys AS key
    WHERE key.account = :account AND key.key = CAST(:key AS text)
), live AS ({_LIVE}), born AS (
    INSERT INTO dispatcher.leads (id, account, campaign_id, phone_number, variables, allow_dupplicate, state, priority,
        due_at, expires_at, duplicate_of, idempotency_key, payload_hash, finished_at)
    SELECT :id, :account, :campaign_id, :phone_number, CAST(:variables AS jsonb), :allow_dupplicate,
        CASE WHEN live.id IS NULL THEN 'pending' ELSE 'duplicate' END, :priority,
        greatest(now(), coalesce(CAST(:not_before_at AS timestamptz), now() + CAST(:not_before_in AS interval), now())),
        coalesce(CAST(:expires_at AS timestamptz), now() + CAST(:expires_in AS interval)),
        live.id, CAST(:key AS text), :payload_hash, CASE WHEN live.id IS NOT NULL THEN now() END
    FROM (SELECT 1) AS one LEFT JOIN live ON true
    WHERE NOT EXISTS (SELECT FROM held)
    -- Also for the id itself: a repeated submit finds its first one below.
    ON CONFLICT DO NOTHING
    RETURNING id, state, duplicate_of
), kept AS (
    -- No ON CONFLICT: of two at once with one key, the second fails as a whole and then finds the first.
    INSERT INTO dispatcher.idempotency_keys (account, key, lead_id, payload_hash, state, duplicate_of)
    SELECT :account, CAST(:key AS text), born.id, :payload_hash, born.state, born.duplicate_of
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
SELECT id AS lead_id, CASE WHEN born_duplicate THEN 'duplicate' ELSE 'pending' END AS state,
    CASE WHEN born_duplicate THEN duplicate_of END AS duplicate_of, false AS created,
    CASE WHEN account = :account THEN payload_hash ELSE '' END AS payload_hash
FROM dispatcher.leads CROSS JOIN LATERAL (SELECT state = 'duplicate' AND attempt_id IS NULL AS born_duplicate) AS birth
WHERE id = :id
""")

NO_CONTACTS: Final = "[]"


@dataclass(frozen=True, slots=True)
class Entry:
    """A valid lead with all that its row needs. The repr names no person."""

    id: UUID
    account: str
    lead: Lead
    options: SubmitOptions

    def __repr__(self) -> str:
        return f"Entry(id={self.id}, account={self.account!r}, campaign_id={self.lead.campaign_id})"


@dataclass(frozen=True, slots=True)
class Stored:
    """The row that stands for a submission: a new one, or the first one of the same key or id."""

    lead_id: UUID
    state: str
    duplicate_of: UUID | None
    created: bool
    payload_hash: str


def submit(connection: Connection, entry: Entry, payload_hash: str) -> Stored | None:
    """Store the lead with its contacts and key, in one statement. None: another one was faster; `find`, then again."""
    parameters = _plain_parameters(entry, payload_hash)
    if _is_plain(entry):
        rows = _SUBMIT_PLAIN.rows(connection, parameters)
    else:
        rows = _SUBMIT.rows(connection, parameters | _other_parameters(entry))
    return _stored(rows[0]) if rows else None


def find(connection: Connection, entry: Entry) -> Stored | None:
    """The row with the submission's own id, if an earlier try of the same submission got through."""
    row = connection.execute(_FIND, {"id": entry.id, "account": entry.account}).first()
    return None if row is None else _stored(row)


def contacts_json(lead: Lead) -> str:
    """The secondary contacts as a JSON array of rows."""
    if not lead.secondary_contacts:
        return NO_CONTACTS
    rows: list[Any] = [
        {"position": position, "phone_number": contact.phone_number, "variables": contact.variables}
        for position, contact in enumerate(lead.secondary_contacts)
    ]
    return orjson.dumps(rows).decode()


def _is_plain(entry: Entry) -> bool:
    options = entry.options
    extras = (options.idempotency_key, options.not_before, options.expires_at, entry.lead.secondary_contacts or None)
    return extras == (None, None, None, None)


def _plain_parameters(entry: Entry, payload_hash: str) -> dict[str, object]:
    lead = entry.lead
    return {
        "id": entry.id,
        "account": entry.account,
        "campaign_id": lead.campaign_id,
        "phone_number": lead.phone_number,
        "variables": orjson.dumps(lead.variables).decode(),
        "allow_dupplicate": lead.allow_dupplicate,
        "priority": entry.options.priority,
        "payload_hash": payload_hash,
    }


def _other_parameters(entry: Entry) -> dict[str, object]:
    options = entry.options
    not_before, expires_at = options.not_before, options.expires_at
    return {
        "not_before_at": not_before if isinstance(not_before, datetime) else None,
        "not_before_in": not_before if isinstance(not_before, timedelta) else None,
        "expires_at": expires_at if isinstance(expires_at, datetime) else None,
        "expires_in": expires_at if isinstance(expires_at, timedelta) else None,
        "key": options.idempotency_key,
        "contacts": contacts_json(entry.lead),
    }


def _stored(row: Row[Any]) -> Stored:
    return Stored(row.lead_id, row.state, row.duplicate_of, row.created, row.payload_hash)
