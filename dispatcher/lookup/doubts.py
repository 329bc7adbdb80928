"""Doubts: leads whose POST may have worked, and the statements that store the results of look-ups."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import orjson
from sqlalchemy import Connection, Row, text

from dispatcher.decisions.likeness import Likeness, likeness
from dispatcher.decisions.listing import ListedLead
from dispatcher.decisions.reply import CreatedContact
from dispatcher.decisions.states import State
from dispatcher.delivery.results import name_contacts
from dispatcher.errors import LeadNotFound
from dispatcher.logs import events
from dispatcher.store import encryption
from dispatcher.store.encryption import Content, KeyRing, NotAuthentic, contact_owner
from dispatcher.store.proof import FIRST_IN_QUEUE, PROVEN_AT
from dispatcher.store.schema import LIVE_STRICT

# A look-up covers all its attempts: the smallest watermark and the first start of its attempts in doubt, and the
# last of their ends. Everything that is compared is as it was sent, whatever the lead has been corrected to since.
_DOUBT: Final = """
    lead.id AS lead_id, attempt.id AS attempt_id, attempt.account, attempt.campaign_id, attempt.phone_number,
    lead.state, lead.allow_dupplicate, lead.resends, attempt.outcome, attempt.evidence, attempt.token,
    attempt.reference, coalesce(attempt.ended_at, attempt.started_at) AS ended_at, past.watermark, past.started_at,
    coalesce(
        (SELECT revision.variables FROM dispatcher.lead_revisions AS revision
         WHERE revision.lead_id = lead.id AND revision.replaced_at > attempt.started_at
         ORDER BY revision.revision LIMIT 1), lead.variables) AS variables,
    (SELECT json_agg(json_build_array(contact.position, contact.phone_number) ORDER BY contact.position)
     FROM dispatcher.lead_contacts AS contact
     WHERE contact.lead_id = lead.id AND contact.dropped_at IS NULL) AS contacts
"""

_PAST: Final = """
CROSS JOIN LATERAL (
    SELECT min(past.watermark) AS watermark, min(past.started_at) AS started_at FROM dispatcher.lead_attempts AS past
    WHERE past.lead_id = lead.id AND (past.id = attempt.id OR past.outcome IN ('unknown', 'created_id_unknown'))
) AS past
"""

_TAKE_DUE = text(f"""
WITH due AS MATERIALIZED (
    SELECT id FROM dispatcher.leads
    WHERE state = 'unknown' AND account = :account AND due_at <= now()
    ORDER BY due_at
    LIMIT :most
    FOR UPDATE SKIP LOCKED
), lead AS (
    -- Moved ahead while it is being looked up: another run skips it, and it is due again if this process dies.
    UPDATE dispatcher.leads AS lead SET due_at = now() + make_interval(secs => :hold_seconds)
    FROM due WHERE lead.id = due.id
    RETURNING lead.*
)
SELECT {_DOUBT}, now() AS now FROM lead JOIN dispatcher.lead_attempts AS attempt ON attempt.id = lead.attempt_id
{_PAST}
ORDER BY lead.campaign_id, lead.id
""")

_TAKE_NAMED = text(f"""
SELECT {_DOUBT}, now() AS now
FROM dispatcher.leads AS lead JOIN dispatcher.lead_attempts AS attempt ON attempt.id = lead.attempt_id
{_PAST}
WHERE lead.id = ANY (CAST(:ids AS uuid[]))
  AND (lead.state IN ('unknown', 'duplicate') OR (lead.state = 'failed' AND lead.failure_class = 'outcome_unknown'))
""")

_HOLD = text("""
-- Attempt and lead as they are now, until the transaction ends: a late answer writes the attempt, all else the lead.
SELECT lead.state, lead.resends, attempt.outcome, attempt.evidence
FROM dispatcher.leads AS lead JOIN dispatcher.lead_attempts AS attempt ON attempt.id = lead.attempt_id
WHERE lead.id = :lead_id AND lead.attempt_id = :attempt_id
  AND (lead.state = 'unknown' OR (lead.state = 'failed' AND lead.failure_class = 'outcome_unknown'))
FOR NO KEY UPDATE
""")

_UNKNOWN_IDS = text("""
SELECT id FROM dispatcher.leads
WHERE state = 'unknown' AND (CAST(:account AS text) IS NULL OR account = :account) ORDER BY due_at LIMIT :most
""")

_ACCOUNTS = text("SELECT id, account FROM dispatcher.leads WHERE id = ANY (CAST(:ids AS uuid[]))")

_POSTPONE = text("""
UPDATE dispatcher.leads SET due_at = now() + make_interval(secs => :seconds)
WHERE id = ANY (CAST(:ids AS uuid[])) AND state = 'unknown'
""")

_BOUND = text("""
SELECT voicery_lead_id, phone_number, CAST(NULL AS uuid) AS lead_id, 0 AS position FROM dispatcher.leads
WHERE account = :account AND voicery_lead_id = ANY (CAST(:ids AS bigint[]))
  AND id IS DISTINCT FROM CAST(:lead_id AS uuid)
UNION ALL
SELECT voicery_lead_id, phone_number, lead_id, position FROM dispatcher.lead_contacts
WHERE account = :account AND voicery_lead_id = ANY (CAST(:ids AS bigint[]))
""")

_NOTE = text("""
UPDATE dispatcher.lead_attempts
SET evidence = evidence || CAST(:evidence AS jsonb)
WHERE id = :attempt_id
""")

_AGAIN = text("""
UPDATE dispatcher.leads SET due_at = now() + make_interval(secs => :seconds), updated_at = now()
WHERE id = :lead_id AND state = 'unknown' AND attempt_id = :attempt_id
""")

_ACCEPT = text("""
WITH moved AS (
    UPDATE dispatcher.leads
    SET state = 'accepted', failure_class = NULL, voicery_lead_id = :voicery_lead_id, voicery_status = :voicery_status,
        last_error = NULL, resolved_at = NULL, finished_at = now(), updated_at = now()
    WHERE id = :lead_id AND attempt_id = :attempt_id
      AND (state = 'unknown' OR (state = 'failed' AND failure_class = 'outcome_unknown'))
    RETURNING id
), closed AS (
    UPDATE dispatcher.lead_attempts AS attempt
    SET finished_at = coalesce(attempt.finished_at, now()), outcome = 'accepted'
    FROM moved WHERE attempt.id = :attempt_id
), found AS (
    UPDATE dispatcher.failed_leads AS failure
    SET resolved_at = now(), resolution = 'found', resolved_by = 'dispatcher', note = :why
    FROM moved WHERE failure.lead_id = moved.id AND failure.resolved_at IS NULL
)
SELECT id FROM moved
""")

_RESEND = text(f"""
WITH moved AS (
    -- What was granted before and only looked up again is the same resend.
    UPDATE dispatcher.leads AS lead
    SET state = 'pending', due_at = {FIRST_IN_QUEUE}, resends = resends + CASE WHEN :granted THEN 0 ELSE 1 END,
        proven_at = CASE WHEN :proven THEN {PROVEN_AT} END, updated_at = now()
    WHERE id = :lead_id AND attempt_id = :attempt_id AND state = 'unknown' AND (resends = 0 OR :granted)
    RETURNING id
)
UPDATE dispatcher.lead_attempts AS attempt SET finished_at = now()
FROM moved WHERE attempt.id = :attempt_id AND attempt.finished_at IS NULL
RETURNING moved.id
""")

_DUPLICATE = text(f"""
WITH moved AS (
    UPDATE dispatcher.leads AS lead
    SET state = 'duplicate', finished_at = now(), updated_at = now(), last_error = :why,
        duplicate_of = (SELECT other.id FROM dispatcher.leads AS other
                        WHERE other.account = lead.account AND other.campaign_id = lead.campaign_id
                          AND other.phone_number = lead.phone_number AND other.id <> lead.id AND {LIVE_STRICT} LIMIT 1)
    WHERE lead.id = :lead_id AND lead.attempt_id = :attempt_id AND lead.state = 'unknown'
    RETURNING lead.id
)
UPDATE dispatcher.lead_attempts AS attempt SET finished_at = now()
FROM moved WHERE attempt.id = :attempt_id AND attempt.finished_at IS NULL
RETURNING moved.id
""")

_FAIL = text("""
WITH moved AS (
    UPDATE dispatcher.leads
    SET state = 'failed', failure_class = 'outcome_unknown', last_error = :why, finished_at = now(), updated_at = now()
    WHERE id = :lead_id AND attempt_id = :attempt_id AND state = 'unknown'
    RETURNING id, account, campaign_id, phone_number, attempts
), closed AS (
    UPDATE dispatcher.lead_attempts AS attempt SET finished_at = now()
    FROM moved WHERE attempt.id = :attempt_id AND attempt.finished_at IS NULL
)
INSERT INTO dispatcher.failed_leads (lead_id, account, campaign_id, phone_number, failure_class, http_status,
    fingerprint, message, response, attempts)
SELECT moved.id, moved.account, moved.campaign_id, moved.phone_number, 'outcome_unknown', attempt.http_status,
    'outcome_unknown:' || :cause, :why, attempt.response, moved.attempts
FROM moved JOIN dispatcher.lead_attempts AS attempt ON attempt.id = :attempt_id
RETURNING lead_id
""")


@dataclass(frozen=True, slots=True)
class InDoubt:
    """A lead to be looked up, with the attempt that is in doubt, as it was sent. Times are the database's.

    `started_at` and `watermark` are those of the lead's first attempt in doubt. The repr contains no personal data.
    """

    lead_id: UUID
    attempt_id: UUID
    account: str
    campaign_id: int
    phone_number: str = field(repr=False)
    state: State
    variables: Mapping[str, object] = field(repr=False)
    contacts: tuple[str, ...] = field(repr=False)
    allow_dupplicate: bool
    resends: int
    outcome: str
    started_at: datetime
    ended_at: datetime
    watermark: int
    token: str | None
    reference: str | None
    evidence: Mapping[str, Any] = field(repr=False)
    now: datetime

    @property
    def granted(self) -> str | None:
        """Who granted a resend that only waits for a fresh proof: `person` or `policy`; None if it was not granted."""
        return self.evidence.get("granted")


def take_due(connection: Connection, account: str, *, most: int, hold_seconds: float) -> list[InDoubt]:
    """Return unknown leads whose next look-up is due, and reserve them for this run for `hold_seconds`."""
    rows = connection.execute(_TAKE_DUE, {"account": account, "most": most, "hold_seconds": hold_seconds})
    return list(_readable(connection, rows))


def take_named(connection: Connection, ids: Sequence[UUID]) -> list[InDoubt]:
    """Return those of the leads that a look-up applies to.

    In doubt (unknown, or failed as `outcome_unknown`), or refused by Voicery as duplicates.
    """
    return list(_readable(connection, connection.execute(_TAKE_NAMED, {"ids": list(ids)})))


def hold(connection: Connection, doubt: InDoubt) -> InDoubt | None:
    """Return the current doubt, locked until the transaction ends; None if it has been resolved meanwhile."""
    row = connection.execute(_HOLD, _fence(doubt)).first()
    if row is None:
        return None
    return replace(
        doubt,
        state=State(row.state),
        resends=row.resends,
        outcome=row.outcome or "unknown",
        evidence=row.evidence,
    )


def unknown_ids(connection: Connection, account: str | None, *, most: int) -> list[UUID]:
    """Return the ids of unknown leads in the order of their next look-up."""
    return [row.id for row in connection.execute(_UNKNOWN_IDS, {"account": account, "most": most})]


def by_account(connection: Connection, ids: Sequence[UUID]) -> dict[str, list[UUID]]:
    """Return the ids, each once and in their order, by account. Raises `LeadNotFound`."""
    account_of = {row.id: row.account for row in connection.execute(_ACCOUNTS, {"ids": list(ids)})}
    found: dict[str, list[UUID]] = {}
    for lead_id in dict.fromkeys(ids):
        if lead_id not in account_of:
            raise LeadNotFound(lead_id)
        found.setdefault(account_of[lead_id], []).append(lead_id)
    return found


def postpone(connection: Connection, ids: Sequence[UUID], *, seconds: float) -> None:
    """Postpone these look-ups, because the rate allows none now."""
    connection.execute(_POSTPONE, {"ids": list(ids), "seconds": seconds})


def bound(
    connection: Connection, account: str, rows: Iterable[ListedLead], lead_id: UUID | None = None
) -> frozenset[int]:
    """Return the ids of those rows that are a contact, or a lead other than `lead_id`, of ours.

    A row that shows another number is not: contacts may have ids of their own, which are those of leads too.
    """
    shown = {row.voicery_lead_id: row.phone_number for row in rows if row.voicery_lead_id is not None}
    if not shown:
        return frozenset()
    ring = encryption.of(connection)
    found: set[int] = set()
    for row in connection.execute(_BOUND, {"account": account, "ids": list(shown), "lead_id": lead_id}):
        number = row.phone_number
        if row.lead_id is not None:
            try:
                number = ring.decrypted(number, contact_owner(row.lead_id, row.position), Content.CONTACT_NUMBER)
            except NotAuthentic:
                continue
        if likeness(shown[row.voicery_lead_id], number) is not Likeness.OTHER:
            found.add(row.voicery_lead_id)
    return frozenset(found)


def note(connection: Connection, doubt: InDoubt, evidence: Mapping[str, object]) -> None:
    """Store the finding of a look-up and the decision with the attempt."""
    connection.execute(_NOTE, {"attempt_id": doubt.attempt_id, "evidence": orjson.dumps(evidence).decode()})


def look_again(connection: Connection, doubt: InDoubt, *, seconds: float) -> bool:
    """Schedule the next look-up, in seconds from now."""
    return bool(connection.execute(_AGAIN, _fence(doubt) | {"seconds": seconds}).rowcount)


def accept(
    connection: Connection,
    doubt: InDoubt,
    *,
    voicery_lead_id: int,
    voicery_status: str | None,
    contacts: Sequence[CreatedContact],
    why: str,
) -> bool:
    """Accept a lead that was found at Voicery (transitions i and n)."""
    found = {"voicery_lead_id": voicery_lead_id, "voicery_status": voicery_status, "why": why}
    if connection.execute(_ACCEPT, _fence(doubt) | found).first() is None:
        return False
    if contacts:
        name_contacts(connection, [(doubt.lead_id, one) for one in contacts])
    return True


def resend(connection: Connection, doubt: InDoubt, *, proven: bool) -> bool:
    """Return a lead to pending, first in the queue, at most once per lead (transition j). Store the evidence before.

    `proven`: the resend depends on the proof in the evidence, and is made only while that is valid.
    """
    values = _fence(doubt) | {"proven": proven, "granted": doubt.granted is not None}
    return connection.execute(_RESEND, values).first() is not None


def duplicate(connection: Connection, doubt: InDoubt, why: str) -> bool:
    """Mark a lead as duplicate: Voicery has this person, and not provably from us (transition p)."""
    return connection.execute(_DUPLICATE, _fence(doubt) | {"why": why}).first() is not None


def fail(connection: Connection, doubt: InDoubt, why: str, *, cause: str) -> bool:
    """Fail a lead, so that an operator decides (transition k)."""
    return connection.execute(_FAIL, _fence(doubt) | {"why": why, "cause": cause}).first() is not None


def _fence(doubt: InDoubt) -> dict[str, Any]:
    return {"lead_id": doubt.lead_id, "attempt_id": doubt.attempt_id}


def _readable(connection: Connection, rows: Iterable[Row[Any]]) -> Iterator[InDoubt]:
    """Yield the leads that can be decrypted. One that was changed in the database holds no other up."""
    ring = encryption.of(connection)
    for row in rows:
        try:
            yield _in_doubt(row, ring)
        except NotAuthentic as error:
            events.error("lead.undecryptable", lead_id=str(row.lead_id), fault=str(error))


def _in_doubt(row: Row[Any], ring: KeyRing) -> InDoubt:
    return InDoubt(
        lead_id=row.lead_id,
        attempt_id=row.attempt_id,
        account=row.account,
        campaign_id=row.campaign_id,
        phone_number=row.phone_number,
        state=State(row.state),
        variables=ring.decrypted_json(row.variables, row.lead_id, Content.VARIABLES),
        contacts=tuple(
            ring.decrypted(number, contact_owner(row.lead_id, place), Content.CONTACT_NUMBER)
            for place, number in row.contacts or ()
        ),
        allow_dupplicate=row.allow_dupplicate,
        resends=row.resends,
        outcome=row.outcome or "unknown",
        started_at=row.started_at,
        ended_at=row.ended_at,
        watermark=row.watermark,
        token=row.token,
        reference=row.reference,
        evidence=row.evidence,
        now=row.now,
    )
