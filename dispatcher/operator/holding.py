"""Hold leads that may have been sent, in batches: each takes the next leads of one state, by an index of that state."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Final
from uuid import UUID

from sqlalchemy import Connection, RowMapping, TextClause, text

from dispatcher.store.database import Database
from dispatcher.store.reading import ReadConnection

BATCH: Final = 1000

_KNOWN: Final = text("""
-- What POSTs since are compared with: a greater id than any from before, and what the last of these was sent with.
SELECT greatest(
        (SELECT max(voicery_lead_id) FROM dispatcher.leads
         WHERE account = :account AND voicery_lead_id IS NOT NULL AND finished_at < :since),
        (SELECT max(contact.voicery_lead_id) FROM dispatcher.lead_contacts AS contact
         JOIN dispatcher.leads AS lead ON lead.id = contact.lead_id
         WHERE contact.account = :account AND contact.voicery_lead_id IS NOT NULL AND lead.finished_at < :since),
        (SELECT max(watermark) FROM dispatcher.accounts WHERE name = :account), 0
    ) AS watermark, last.token, last.reference
FROM (SELECT) AS one LEFT JOIN LATERAL (
    SELECT attempt.token, attempt.reference
    FROM dispatcher.leads AS lead JOIN dispatcher.lead_attempts AS attempt ON attempt.id = lead.attempt_id
    WHERE lead.account = :account AND lead.voicery_lead_id IS NOT NULL AND lead.state || '' = 'accepted'
      AND attempt.outcome = 'accepted' AND lead.finished_at < :since
    ORDER BY lead.voicery_lead_id DESC LIMIT 1
) AS last ON true
""")

HELD: Final = """
    {attempt}.evidence ->> 'recovered_since' = CAST(:since_text AS text)
    AND {attempt}.evidence ->> 'recovered_on' IS NOT DISTINCT FROM CAST(:here AS text)
"""
"""By this recovery: of the moment `since`, on the timeline `here`, which a restored backup does not share."""

_MEANT: Final = f"""
    lead.account = :account AND lead.created_at <= :before AND NOT EXISTS (
        SELECT FROM dispatcher.lead_attempts AS held WHERE held.lead_id = lead.id AND {HELD.format(attempt="held")}
    )
"""

# One state a query, each in the order of that state's index: finished leads are not read, however many there are.
_WALKS: Final = {
    "lead.state = 'sending'": ("lease_until", "id"),
    "lead.state = 'unknown'": ("due_at", "id"),
    # Parked: it was due before.
    "lead.state = 'pending' AND least(lead.due_at, lead.was_due_at) <= :before": (
        "campaign_id", "priority", "due_at", "id"
    ),
}  # fmt: skip
_BEFORE_ALL: Final[Mapping[str, tuple[str, object]]] = {
    "lease_until": ("timestamptz", "-infinity"),
    "due_at": ("timestamptz", "-infinity"),
    "campaign_id": ("bigint", 0),
    "priority": ("smallint", -1),
    "id": ("uuid", UUID(int=0)),
}

_COUNT: Final = text(
    "SELECT "
    + " + ".join(f"(SELECT count(*) FROM dispatcher.leads AS lead WHERE {state} AND {_MEANT})" for state in _WALKS)
)

_HOLD: Final = """
WITH picked AS MATERIALIZED (
    SELECT lead.* FROM dispatcher.leads AS lead
    WHERE {state} AND ({key}) > ({after}) AND {meant}
    ORDER BY {key} LIMIT :most
    FOR UPDATE
), meant AS (
    SELECT picked.*,
        -- A claim made just before, on the primary that is gone, is sent until its lease ends at the latest.
        greatest(now() + make_interval(secs => :lease_seconds), lease_until) AS until,
        -- One open attempt a person: whose other lead is open is held for a person, by a closed one.
        state = 'pending' AND (
            row_number() OVER (PARTITION BY state, campaign_id, phone_number ORDER BY id) > 1 OR EXISTS (
                SELECT FROM dispatcher.lead_attempts AS open
                WHERE open.account = picked.account AND open.campaign_id = picked.campaign_id
                  AND open.phone_number = picked.phone_number AND open.finished_at IS NULL
            )
        ) AS beside
    FROM picked
), doubted AS (
    -- It may have been sent again since, so earlier look-ups and proofs say nothing any more.
    UPDATE dispatcher.lead_attempts AS attempt
    SET outcome = coalesce(attempt.outcome, 'unknown'), ended_at = meant.until, evidence = attempt.evidence
        || jsonb_build_object('proof', false, 'reopened_at', now(), 'recovered_since', CAST(:since_text AS text),
            'recovered_on', CAST(:here AS text))
    FROM meant WHERE attempt.id = meant.attempt_id AND meant.state <> 'pending'
), opened AS (
    INSERT INTO dispatcher.lead_attempts (id, lead_id, number, account, campaign_id, phone_number, watermark,
        started_at, ended_at, finished_at, outcome, error, token, reference, evidence)
    SELECT gen_random_uuid(), id, attempts + 1, account, campaign_id, phone_number, :watermark,
        CAST(:since AS timestamptz), until, CASE WHEN beside THEN until END, 'unknown', 'recovered',
        CAST(:token AS text), CAST(:reference AS text),
        -- It waited for its POST: to send it, once its absence is proven, uses up no resend.
        jsonb_build_object('granted', 'policy', 'recovered_since', CAST(:since_text AS text),
            'recovered_on', CAST(:here AS text))
    FROM meant WHERE state = 'pending'
    RETURNING id, lead_id
), moved AS (
    UPDATE dispatcher.leads AS lead
    SET state = CASE WHEN meant.beside THEN 'failed' ELSE 'unknown' END,
        failure_class = CASE WHEN meant.beside THEN 'outcome_unknown' END,
        finished_at = CASE WHEN meant.beside THEN now() END, due_at = now(), updated_at = now(),
        attempt_id = coalesce(opened.id, lead.attempt_id), lease_until = NULL, was_due_at = NULL, parked_until = NULL,
        proven_at = NULL, attempts = lead.attempts + CASE WHEN opened.id IS NULL THEN 0 ELSE 1 END,
        first_attempt_at = coalesce(lead.first_attempt_at, now()),
        last_error = 'The database was restored, or a standby promoted: it may have been sent since then.'
            || CASE WHEN meant.beside THEN ' Another lead of this person is looked up; this one is for you to decide.'
                ELSE '' END
    FROM meant LEFT JOIN opened ON opened.lead_id = meant.id
    WHERE lead.id = meant.id
    RETURNING lead.id, lead.account, lead.campaign_id, lead.phone_number, lead.state, lead.last_error, lead.attempts
), failed AS (
    INSERT INTO dispatcher.failed_leads
        (lead_id, account, campaign_id, phone_number, failure_class, fingerprint, message, attempts)
    SELECT id, account, campaign_id, phone_number, 'outcome_unknown', 'outcome_unknown:recovered', last_error, attempts
    FROM moved WHERE state = 'failed'
)
SELECT {columns}, count(*) OVER () AS leads FROM picked ORDER BY {descending} LIMIT 1
"""

_HOLDS: Final = {
    key: text(
        _HOLD.format(
            state=state,
            meant=_MEANT,
            key=", ".join(f"lead.{name}" for name in key),
            after=", ".join(f"CAST(:{name} AS {_BEFORE_ALL[name][0]})" for name in key),
            columns=", ".join(key),
            descending=", ".join(f"{name} DESC" for name in key),
        )
    )
    for state, key in _WALKS.items()
}


def known(connection: ReadConnection, values: Mapping[str, object]) -> Mapping[str, object]:
    """Return what the attempts of unknown outcome are compared with."""
    return dict(connection.execute(_KNOWN, values).mappings().one())


def count(connection: ReadConnection, values: Mapping[str, object]) -> int:
    """Return the number of leads that would be held."""
    leads: int = connection.execute(_COUNT, values).scalar_one()
    return leads


def hold(database: Database, values: Mapping[str, object]) -> Iterator[int]:
    """Hold all that is meant, batch by batch; yield the number of leads of each.

    values   of one account: `account`, `since`, `since_text`, `here`, `before`, `lease_seconds`, and what is `known`
    """
    found = True
    while found:  # what was moved behind a walk, e.g. by another priority, is found by the next one
        found = False
        for key, statement in _HOLDS.items():
            after: Mapping[str, object] = {name: _BEFORE_ALL[name][1] for name in key}
            while last := database.again(partial(_batch, statement, {**values, **after, "most": BATCH})):
                after, found = {name: last[name] for name in key}, True
                yield last["leads"]


def _batch(statement: TextClause, values: Mapping[str, object], connection: Connection) -> RowMapping | None:
    """Hold a batch; return its last row in the order of its index, and its size; None: nothing is left."""
    return connection.execute(statement, values).mappings().first()
