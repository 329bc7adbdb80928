"""Leads by any filter, what happened since, and how fast campaigns go."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, text

from dispatcher.records.happening import Happening, ListedLead, Throughput
from dispatcher.records.lead_filter import LeadFilter
from dispatcher.rules.states import State
from dispatcher.store.activity import first_id

_CONDITIONS: Final[Mapping[str, str]] = {
    "states": "state = ANY (CAST(:states AS text[]))",
    "account": "account = :account",
    "campaign_id": "campaign_id = :campaign_id",
    "batch_id": "batch_id = :batch_id",
    "idempotency_key": "id IN (SELECT lead_id FROM dispatcher.idempotency_keys WHERE key = :idempotency_key)",
    "voicery_lead_id": "voicery_lead_id = :voicery_lead_id",
    "phone_number": "right(phone_number, length(:phone_number)) = :phone_number",
    "created_since": "created_at >= :created_since",
    "created_before": "created_at < :created_before",
}
"""One condition for each filter; only these constants ever become SQL."""

_LONGEST_EXCHANGE: Final = timedelta(minutes=15)
"""An attempt that ended just now began at most so long ago, a worker's wrong clock included."""

_HAPPENINGS: Final = text("""
(SELECT 'begun:' || id AS key, started_at AS at, 'sending' AS what, 'attempt ' || number AS detail, lead_id, account,
    campaign_id, phone_number
 FROM dispatcher.lead_attempts WHERE id >= :begun_from AND started_at >= :since ORDER BY started_at DESC LIMIT :most)
UNION ALL
(SELECT 'ended:' || id || ':' || outcome, ended_at, outcome,
    concat_ws(' ', 'HTTP ' || http_status, CASE WHEN outcome <> 'accepted' THEN error END), lead_id, account,
    campaign_id, phone_number
 FROM dispatcher.lead_attempts
 WHERE id >= :begun_from AND ended_at >= :since AND outcome IS NOT NULL ORDER BY ended_at DESC LIMIT :most)
UNION ALL
(SELECT 'lead:' || lead.id || ':' || lead.finished_at, lead.finished_at, 'lead ' || lead.state,
    coalesce(lead.failure_class, 'Voicery id ' || lead.voicery_lead_id), lead.id, lead.account, lead.campaign_id,
    lead.phone_number
 FROM dispatcher.leads AS lead WHERE lead.finished_at >= :since ORDER BY lead.finished_at DESC LIMIT :most)
UNION ALL
(SELECT 'incident:' || id, at, 'incident', message, lead_id, NULL, NULL, NULL
 FROM dispatcher.incidents WHERE at >= :since ORDER BY id DESC LIMIT 100)
UNION ALL
(SELECT 'audit:' || id, at, action, concat_ws(' ', 'by', actor, subject), NULL, NULL, NULL, NULL
 FROM (SELECT * FROM dispatcher.audit_log ORDER BY id DESC LIMIT 1000) AS latest WHERE at >= :since)
ORDER BY at, key
""")

_THROUGHPUT: Final = text("""
SELECT account, campaign_id, count(*) FILTER (WHERE outcome = 'accepted') AS accepted,
    count(*) FILTER (WHERE outcome IN ('rejected', 'duplicate', 'bug')) AS refused,
    count(*) FILTER (WHERE outcome IN ('unknown', 'created_id_unknown')) AS doubtful,
    count(*) FILTER (WHERE outcome NOT IN ('accepted', 'rejected', 'duplicate', 'bug', 'unknown',
                                           'created_id_unknown')) AS held
FROM dispatcher.lead_attempts
WHERE id >= :begun_from AND started_at >= now() - make_interval(secs => :seconds)
GROUP BY account, campaign_id
ORDER BY count(*) DESC
""")


def leads(connection: Connection, wanted: LeadFilter, *, most: int) -> list[ListedLead]:
    """The leads that the filter matches, the newest first (their ids grow with time)."""
    given = {name: getattr(wanted, name) for name in _CONDITIONS}
    values: dict[str, Any] = {name: value for name, value in given.items() if value not in (None, ())}
    if "states" in values:
        values["states"] = [state.value for state in wanted.states]
    where = " AND ".join(_CONDITIONS[name] for name in values) or "true"
    statement = text(f"""
        SELECT id, state, failure_class, account, campaign_id, phone_number, priority, attempts, voicery_lead_id,
            voicery_status, idempotency_key, batch_id, created_at, due_at, finished_at, last_error
        FROM dispatcher.leads WHERE {where} ORDER BY id DESC LIMIT :most
    """)
    rows = connection.execute(statement, {**values, "most": most}).mappings()
    return [ListedLead(**{**row, "state": State(row["state"])}) for row in rows]


def happenings(connection: Connection, since: datetime, *, most: int) -> list[Happening]:
    """What happened since, the earliest first; of each kind the latest `most`."""
    values = {"since": since, "begun_from": first_id(since - _LONGEST_EXCHANGE), "most": most}
    return [Happening(**row) for row in connection.execute(_HAPPENINGS, values).mappings()]


def throughput(connection: Connection, *, seconds: float) -> list[Throughput]:
    """What each campaign sent in the last seconds, the busiest first."""
    begun_from = first_id(datetime.now(UTC) - timedelta(seconds=seconds) - _LONGEST_EXCHANGE)
    rows = connection.execute(_THROUGHPUT, {"begun_from": begun_from, "seconds": seconds}).mappings()
    return [Throughput(**row) for row in rows]
