"""What `list` and `tail` show: a lead in one line, and one thing that happened."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, text

from dispatcher.decisions.states import State
from dispatcher.lead.phone import mask_phone
from dispatcher.operator import retention
from dispatcher.operator.leads import LeadFilter
from dispatcher.store.database import Database
from dispatcher.store.statement import first_id


@dataclass(frozen=True, slots=True)
class ListedLead:
    """One lead of a list."""

    id: UUID
    state: State
    failure_class: str | None
    account: str
    campaign_id: int
    phone_number: str = field(repr=False)
    priority: int
    attempts: int
    voicery_lead_id: int | None
    voicery_status: str | None
    idempotency_key: str | None = field(repr=False)
    batch_id: UUID | None
    created_at: datetime
    due_at: datetime
    finished_at: datetime | None
    last_error: str | None

    def as_dict(self, *, reveal: bool = False) -> dict[str, Any]:
        """As JSON takes it."""
        return {
            "id": str(self.id),
            "state": self.state,
            "failure_class": self.failure_class,
            "account": self.account,
            "campaign_id": self.campaign_id,
            "phone_number": self.phone_number if reveal else mask_phone(self.phone_number),
            "priority": self.priority,
            "attempts": self.attempts,
            "voicery_lead_id": self.voicery_lead_id,
            "voicery_status": self.voicery_status,
            "idempotency_key": self.idempotency_key,
            "batch_id": None if self.batch_id is None else str(self.batch_id),
            "created_at": self.created_at.isoformat(),
            "due_at": self.due_at.isoformat(),
            "finished_at": None if self.finished_at is None else self.finished_at.isoformat(),
            "last_error": self.last_error,
        }


@dataclass(frozen=True, slots=True)
class Happening:
    """One thing that happened. `key` is equal for the same thing seen twice; `what` is a state, an outcome, an action.

    lead_id, campaign_id, phone_number   None where it is not about a lead
    """

    key: str
    at: datetime
    what: str
    detail: str | None
    lead_id: UUID | None
    account: str | None
    campaign_id: int | None
    phone_number: str | None = field(repr=False)

    def as_dict(self, *, reveal: bool = False) -> dict[str, Any]:
        """As JSON takes it."""
        phone = self.phone_number
        return {
            "at": self.at.isoformat(),
            "what": self.what,
            "lead_id": None if self.lead_id is None else str(self.lead_id),
            "account": self.account,
            "campaign_id": self.campaign_id,
            "phone_number": phone if phone is None or reveal else mask_phone(phone),
            "detail": self.detail,
        }


@dataclass(frozen=True, slots=True)
class Throughput:
    """The attempts of one campaign that began in the last minutes, by how they ended."""

    account: str
    campaign_id: int
    accepted: int
    refused: int
    doubtful: int
    held: int


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


_LATE: Final = timedelta(seconds=10)
"""Rows carry the time at which their transaction began, and are seen when it has ended: so far each look goes back."""

_MOST: Final = 2000


class Watch:
    """Reads only."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def leads(self, wanted: LeadFilter, *, most: int) -> list[ListedLead]:
        """The leads that the filter matches, the newest first."""
        with self._database.transaction() as connection:
            return leads(connection, wanted, most=most)

    def throughput(self, *, seconds: float = 300.0) -> list[Throughput]:
        """What each campaign sent in the last seconds, the busiest first."""
        with self._database.autocommit() as connection:
            return throughput(connection, seconds=seconds)

    def follow(self, back: timedelta, *, wait: Callable[[], bool], most: int = _MOST) -> Iterator[Happening]:
        """What happened in the last `back`, and then what happens, each thing once, until `wait` says False.

        Ordered by time within one look. It never lags: of more than `most` things of a kind in one look, the latest.
        """
        with self._database.autocommit() as connection:
            since = retention.database_now(connection) - back
        told: dict[str, datetime] = {}
        going = True
        while going:
            with self._database.autocommit() as connection:
                seen = happenings(connection, since, most=most)
            for one in seen:
                if one.key not in told:
                    told[one.key] = one.at
                    yield one
            if seen:
                since = max(since, seen[-1].at - _LATE)
                told = {key: at for key, at in told.items() if at >= since}
            going = wait()
