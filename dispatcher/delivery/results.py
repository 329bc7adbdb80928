"""Write the results of attempts, each only while the lead still belongs to that attempt, and log them."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final
from uuid import UUID

import orjson
from sqlalchemy import Connection, text

from dispatcher.decisions.hints import NO_HINTS, RateHints
from dispatcher.decisions.outcome import Kind, Outcome
from dispatcher.decisions.policy import NO_PAST, Move, Past
from dispatcher.decisions.refusal import OF_THE_LEAD
from dispatcher.decisions.reply import CreatedContact
from dispatcher.delivery.claimed import Claimed
from dispatcher.logs import events
from dispatcher.store import encryption
from dispatcher.store.encryption import NO_KEYS, Content, KeyRing
from dispatcher.store.proof import unproven
from dispatcher.store.statement import Call, HotStatement
from dispatcher.store.trouble import StatementRefused


@dataclass(frozen=True, slots=True)
class Finished:
    """One attempt whose exchange with Voicery is over. `started_at` and `ended_at`: seconds on the recorder's clock."""

    claimed: Claimed
    outcome: Outcome
    ended_at: float
    started_at: float
    hints: RateHints = NO_HINTS

    @property
    def slowdown(self) -> tuple[int, float] | None:
        """Return the number of requests left and the seconds they are left for; None if the answer gives no limit."""
        return self.hints.slowdown(throttled=self.outcome.kind is Kind.THROTTLED)


_RECORD = HotStatement("""
WITH result AS MATERIALIZED (
    SELECT * FROM jsonb_to_recordset(CAST(:results AS jsonb)) AS result (
        lead_id uuid, attempt_id uuid, account text, campaign_id bigint, phone_number text, state text,
        failure_class text, due_in float8, give_back boolean,
        voicery_lead_id bigint, voicery_status text, message text, outcome text, http_status smallint,
        fingerprint text, response text, evidence jsonb, ended_ago float8, settle float8
    )
), settled AS (
    -- Not from now(): `ended_ago` may be measured after this transaction began, and the attempt would end too early.
    -- A 2xx with an id that another lead of ours holds: Voicery handed back the existing lead. By LATERAL and LIMIT,
    -- because only an index probe a result can answer it; a join is planned over the whole table where statistics are
    -- stale. Only a lead of the same person in the same campaign stands for this one. Against another the answer is
    -- wrong, and the POST still had its effect: accepted, without an id that could be trusted.
    SELECT result.*, clock_timestamp() - make_interval(secs => result.ended_ago) AS ended_at, other.id AS holder,
        CASE WHEN other.campaign_id = result.campaign_id AND other.phone_number = result.phone_number
            THEN other.id END AS held_by
    FROM result LEFT JOIN LATERAL (
        SELECT lead.id, lead.campaign_id, lead.phone_number FROM dispatcher.leads AS lead
        WHERE lead.account = result.account AND lead.voicery_lead_id = result.voicery_lead_id
          AND lead.id <> result.lead_id LIMIT 1
    ) AS other ON true
), final AS (
    SELECT settled.*, CASE WHEN held_by IS NULL THEN settled.state ELSE 'duplicate' END AS entering FROM settled
), moved AS (
    -- `unknown` is left too: the lease ran out, but this is the true outcome of the very attempt that is in doubt.
    UPDATE dispatcher.leads AS lead
    SET state = final.entering,
        failure_class = final.failure_class,
        due_at = CASE final.entering
            WHEN 'pending' THEN now() + make_interval(secs => final.due_in)
            WHEN 'unknown' THEN final.ended_at + make_interval(secs => final.settle)
            ELSE lead.due_at END,
        attempts = lead.attempts - CASE WHEN final.give_back THEN 1 ELSE 0 END,
        lease_until = NULL,
        voicery_lead_id = CASE WHEN final.entering = 'accepted' AND final.holder IS NULL THEN final.voicery_lead_id END,
        voicery_status = CASE WHEN final.entering = 'accepted' THEN final.voicery_status END,
        duplicate_of = CASE WHEN final.entering = 'duplicate' THEN final.held_by END,
        last_error = CASE WHEN final.entering = 'accepted' THEN NULL ELSE final.message END,
        finished_at = CASE WHEN final.entering IN ('accepted', 'duplicate', 'failed') THEN now() END,
        updated_at = now()
    FROM final
    WHERE lead.id = ANY (ARRAY(SELECT lead_id FROM final)) AND lead.id = final.lead_id
      AND lead.attempt_id = final.attempt_id
      -- By the array, and with no partial index that fits, the primary key is the way, however many are in doubt.
      AND (lead.state || '' = 'sending' OR (lead.state || '' = 'unknown' AND final.entering <> 'unknown'))
    RETURNING lead.id, lead.attempt_id, lead.attempts, lead.allow_dupplicate, final.held_by, final.voicery_lead_id,
        final.holder
), surprise AS (
    INSERT INTO dispatcher.incidents (kind, lead_id, message, evidence)
    SELECT 'id_already_held', moved.id,
        CASE WHEN moved.held_by IS NULL THEN 'Voicery answered with the id of another person''s lead.'
            ELSE 'Voicery answered with the id of another lead although duplicates were allowed.' END,
        jsonb_build_object('voicery_lead_id', moved.voicery_lead_id, 'held_by', moved.holder)
    FROM moved WHERE moved.holder IS NOT NULL AND (moved.allow_dupplicate OR moved.held_by IS NULL)
), ended AS (
    UPDATE dispatcher.lead_attempts AS attempt
    SET ended_at = final.ended_at,
        finished_at = CASE WHEN final.entering = 'unknown' THEN NULL ELSE greatest(now(), final.ended_at) END,
        outcome = final.outcome, http_status = final.http_status, error = final.message, response = final.response,
        evidence = attempt.evidence || final.evidence
    FROM final JOIN moved USING (attempt_id)
    WHERE attempt.id = ANY (ARRAY(SELECT attempt_id FROM moved)) AND attempt.id = final.attempt_id
      AND attempt.finished_at IS NULL
    RETURNING attempt.followed AND attempt.finished_at IS NOT NULL AS woke
), failed AS (
    INSERT INTO dispatcher.failed_leads (lead_id, account, campaign_id, phone_number, failure_class, http_status,
        fingerprint, message, response, attempts)
    SELECT final.lead_id, attempt.account, attempt.campaign_id, attempt.phone_number, final.failure_class,
        final.http_status, final.fingerprint, final.message, final.response, moved.attempts
    FROM final JOIN moved USING (attempt_id) JOIN dispatcher.lead_attempts AS attempt ON attempt.id = final.attempt_id
    WHERE final.entering = 'failed'
)
SELECT attempt_id, held_by, (SELECT bool_or(woke) FROM ended) AS woke FROM moved
""")

_NAME_CONTACTS = text("""
UPDATE dispatcher.lead_contacts AS contact
SET voicery_lead_id = created.voicery_lead_id, voicery_status = created.voicery_status
FROM jsonb_to_recordset(CAST(:created AS jsonb)) AS created (
    lead_id uuid, position smallint, voicery_lead_id bigint, voicery_status text
)
CROSS JOIN LATERAL (
    -- Counted among those that were sent: a blocked one may have been left out.
    SELECT sent.position FROM dispatcher.lead_contacts AS sent
    WHERE sent.lead_id = created.lead_id AND sent.dropped_at IS NULL
    ORDER BY sent.position OFFSET created.position LIMIT 1
) AS sent
WHERE contact.lead_id = created.lead_id AND contact.position = sent.position
""")

_CONFIRM = text("""
SELECT result.attempt_id
FROM jsonb_to_recordset(CAST(:results AS jsonb)) AS result (lead_id uuid, attempt_id uuid, outcome text)
JOIN dispatcher.lead_attempts AS attempt ON attempt.id = result.attempt_id
WHERE attempt.outcome = result.outcome AND attempt.error IS DISTINCT FROM 'lease_expired'
""")

_PAST = text(f"""
SELECT count(*) FILTER (WHERE outcome = 'bug') AS bugs,
    coalesce(bool_or(outcome IN ('unknown', 'created_id_unknown')), false) AS in_doubt,
    coalesce(bool_or({unproven("past")}), false) AS unproven
FROM dispatcher.lead_attempts AS past WHERE lead_id = :lead_id AND id <> :attempt_id
""")


@dataclass(frozen=True, slots=True)
class Result:
    """One finished attempt as it is to be written. The repr names no person.

    claimed    the lead and the attempt
    outcome    what the attempt turned out to be
    move       the state that the lead enters
    took       seconds that the exchange with Voicery lasted
    ended_ago  seconds since that exchange ended
    settle     seconds from its end until an unknown lead is first looked up
    """

    claimed: Claimed
    outcome: Outcome
    move: Move
    took: float
    ended_ago: float
    settle: float


@dataclass(frozen=True, slots=True)
class Recorded:
    """What one call of `record` stored.

    attempt_ids  the attempts whose result is now stored
    held_by      by attempt, the lead that already has the id that Voicery gave
    woke         a lead that was parked behind one of these may be due now
    """

    attempt_ids: frozenset[UUID]
    held_by: Mapping[UUID, UUID]
    woke: bool


def record(connection: Connection, results: Sequence[Result]) -> Recorded:
    """Write each result whose attempt still holds its lead, and return which were written."""
    statement, parameters = recording(results, encryption.of(connection))
    recorded = recorded_of(statement.rows(connection, parameters))
    record_contacts(connection, [result for result in results if result.claimed.attempt_id in recorded.attempt_ids])
    return recorded


def recording(results: Sequence[Result], ring: KeyRing = NO_KEYS) -> Call:
    """Return the statement that writes `results`, with its parameters. The ids of contacts are another statement."""
    return _RECORD, {"results": json_text([_row(result, ring) for result in results])}


def recorded_of(rows: Sequence[Any]) -> Recorded:
    """Return what the statement of `recording` stored, from the rows it returned."""
    return Recorded(
        frozenset(row.attempt_id for row in rows),
        {row.attempt_id: row.held_by for row in rows if row.held_by is not None},
        woke=any(row.woke for row in rows),
    )


def record_contacts(connection: Connection, results: Sequence[Result]) -> None:
    """Write the ids that Voicery gave to the secondary contacts of leads that it accepted."""
    created = [(result.claimed.lead_id, contact) for result in results for contact in result.outcome.contacts]
    if created:
        name_contacts(connection, created)


def name_contacts(connection: Connection, created: Iterable[tuple[UUID, CreatedContact]]) -> None:
    """Write the ids of contacts, each with its lead; their positions are those in the request."""
    rows = [
        {
            "lead_id": lead_id,
            "position": contact.position,
            "voicery_lead_id": contact.voicery_lead_id,
            "voicery_status": contact.voicery_status,
        }
        for lead_id, contact in created
    ]
    connection.execute(_NAME_CONTACTS, {"created": json_text(rows)})


def already_recorded(connection: Connection, results: Sequence[Result]) -> frozenset[UUID]:
    """Return those attempts of `results` that already hold this outcome, from a commit that was not acknowledged."""
    rows = [
        {"lead_id": one.claimed.lead_id, "attempt_id": one.claimed.attempt_id, "outcome": one.outcome.kind}
        for one in results
    ]
    return frozenset(row.attempt_id for row in connection.execute(_CONFIRM, {"results": json_text(rows)}))


def past(connection: Connection, lead_id: UUID, attempt_id: UUID) -> Past:
    """Return what the other attempts of this lead say about it."""
    row = connection.execute(_PAST, {"lead_id": lead_id, "attempt_id": attempt_id}).one()
    return Past(row.in_doubt, row.unproven, row.bugs)


def json_text(value: object) -> str:
    """Return `value` as JSON. Raise `StatementRefused`, as Postgres would, for text that JSON cannot hold."""
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError:
        raise StatementRefused("22P05", None) from None


def _row(result: Result, ring: KeyRing) -> dict[str, Any]:
    """Return the columns of the recordset that `_RECORD` reads."""
    claimed, outcome, move = result.claimed, result.outcome, result.move
    return {
        "lead_id": claimed.lead_id,
        "attempt_id": claimed.attempt_id,
        "account": claimed.account,
        "campaign_id": claimed.campaign_id,
        "phone_number": claimed.phone_number,
        "state": move.state,
        "failure_class": move.failure_class,
        "due_in": move.due_in_seconds,
        "give_back": move.give_back,
        "voicery_lead_id": outcome.voicery_lead_id,
        "voicery_status": outcome.voicery_status,
        "message": outcome.message,
        "outcome": outcome.kind,
        "http_status": outcome.http_status,
        "fingerprint": outcome.fingerprint,
        "response": ring.encrypted(outcome.response, claimed.lead_id, Content.RESPONSE) if outcome.response else "",
        "evidence": outcome.evidence,
        "ended_ago": result.ended_ago,
        "settle": result.settle,
    }


def log_attempt(result: Result) -> None:
    """Log the canonical event of an attempt: one for each, with these keys."""
    claimed, outcome, move = result.claimed, result.outcome, result.move
    events.info(
        "attempt.finished",
        lead_id=str(claimed.lead_id),
        attempt_id=str(claimed.attempt_id),
        account=claimed.account,
        campaign_id=claimed.campaign_id,
        attempt=claimed.attempts,
        outcome=outcome.kind.value,
        state=move.state.value,
        http_status=outcome.http_status,
        duration_ms=round(result.took * 1000, 1),
        retry_in_seconds=move.due_in_seconds,
        voicery_lead_id=outcome.voicery_lead_id,
    )


def log_abandoned(claimed: Claimed, reason: str) -> None:
    """Log a result that is given up: `reason` is `refused` or `store_unavailable`. Its lead is looked up."""
    events.error(
        "recording.abandoned",
        lead_id=str(claimed.lead_id),
        attempt_id=str(claimed.attempt_id),
        account=claimed.account,
        campaign_id=claimed.campaign_id,
        reason=reason,
    )


NOTICE: Final = "The answer could not be stored as it came and was replaced by this notice."


def without_texts(outcome: Outcome) -> Outcome:
    """Return `outcome` without any text that came from Voicery: ids and decisions remain."""
    contacts = tuple(replace(contact, voicery_status=None) for contact in outcome.contacts)
    return replace(
        outcome, response=NOTICE, message=NOTICE, fingerprint="", evidence={}, voicery_status=None, contacts=contacts
    )


_TITLED: Final = re.compile(r" titled “[^”]{0,400}” answered")


def without_words(outcome: Outcome) -> Outcome:
    """Return `outcome` with a message that quotes nothing; the answer itself stays in `response`."""
    message = _TITLED.sub(" answered", outcome.message)
    if outcome.words:
        message = message.replace(outcome.words, "its words are in the stored answer.")
    if outcome.named:
        own = outcome.named.partition(".")[0]
        known = own if own in OF_THE_LEAD else "a field"
        message = message.replace(f"refused {outcome.named}:", f"refused {known}:")
    return outcome if message == outcome.message else replace(outcome, message=message, words="", named="")


def is_plain(finished: Finished) -> bool:
    """Return whether it is an acceptance with nothing to store but the lead's own id and status."""
    return finished.outcome.kind is Kind.ACCEPTED and not finished.outcome.contacts


def past_of(connection: Connection, finished: Finished) -> Past:
    """Return what earlier attempts say, read only for outcomes whose move depends on it."""
    if finished.outcome.kind not in (Kind.DUPLICATE, Kind.REJECTED, Kind.NOT_SENT, Kind.BUG):
        return NO_PAST
    return past(connection, finished.claimed.lead_id, finished.claimed.attempt_id)
