"""One lead as it is stored: its row, contacts, attempts and failures."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, text

from dispatcher.decisions.outcome import Kind
from dispatcher.decisions.states import FailureClass, State
from dispatcher.errors import LeadNotFound
from dispatcher.operator import campaigns, failures, overview
from dispatcher.operator.explain import explain
from dispatcher.operator.lead_record import AttemptRecord, ContactRecord, LeadRecord
from dispatcher.operator.overview import Overview, RateUse
from dispatcher.store.database import Database


@dataclass(frozen=True, slots=True)
class LeadFilter:
    """All that is given must hold (AND). Times are aware; `created_since` is included, `created_before` is not.

    phone_number   how the number ends: all of it, or the last digits
    """

    states: tuple[State, ...] = ()
    account: str | None = None
    campaign_id: int | None = None
    batch_id: UUID | None = None
    idempotency_key: str | None = None
    voicery_lead_id: int | None = None
    phone_number: str | None = None
    created_since: datetime | None = None
    created_before: datetime | None = None


_READ = text("""
SELECT lead.id, lead.account, lead.campaign_id, lead.phone_number, lead.variables, lead.allow_dupplicate, lead.state,
    lead.failure_class, lead.priority, lead.due_at, lead.expires_at, lead.attempts, lead.resends, lead.lease_until,
    lead.attempt_id, lead.voicery_lead_id, lead.voicery_status, lead.duplicate_of, lead.idempotency_key, lead.batch_id,
    lead.last_error, lead.created_at, lead.updated_at, lead.finished_at, lead.resolved_at, now() AS read_at,
    -- Whose turn it is among the leads of one person: the one with the open attempt.
    (SELECT ahead.lead_id FROM dispatcher.lead_attempts AS ahead
     WHERE lead.state = 'pending' AND ahead.account = lead.account AND ahead.campaign_id = lead.campaign_id
       AND ahead.phone_number = lead.phone_number AND ahead.finished_at IS NULL AND ahead.lead_id <> lead.id
    ) AS waits_behind
FROM dispatcher.leads AS lead WHERE lead.id = :id
""")

_CONTACTS = text("""
SELECT position, phone_number, variables, voicery_lead_id, voicery_status
FROM dispatcher.lead_contacts WHERE lead_id = :id ORDER BY position
""")

_ATTEMPTS = text("""
SELECT id, number, started_at, ended_at, finished_at, outcome, http_status, error, response, evidence, worker
FROM dispatcher.lead_attempts WHERE lead_id = :id ORDER BY started_at, id
""")


def read(connection: Connection, lead_id: UUID) -> LeadRecord | None:
    """Everything about one lead, as of this transaction; None if there is none."""
    row = connection.execute(_READ, {"id": lead_id}).first()
    if row is None:
        return None
    contacts = tuple(_contact(one) for one in connection.execute(_CONTACTS, {"id": lead_id}))
    history = tuple(_attempt(one) for one in connection.execute(_ATTEMPTS, {"id": lead_id}))
    return LeadRecord(
        id=row.id,
        account=row.account,
        campaign_id=row.campaign_id,
        phone_number=row.phone_number,
        variables=row.variables,
        allow_dupplicate=row.allow_dupplicate,
        state=State(row.state),
        failure_class=None if row.failure_class is None else FailureClass(row.failure_class),
        priority=row.priority,
        due_at=row.due_at,
        expires_at=row.expires_at,
        attempts=row.attempts,
        resends=row.resends,
        lease_until=row.lease_until,
        attempt_id=row.attempt_id,
        voicery_lead_id=row.voicery_lead_id,
        voicery_status=row.voicery_status,
        duplicate_of=row.duplicate_of,
        idempotency_key=row.idempotency_key,
        batch_id=row.batch_id,
        last_error=row.last_error,
        created_at=row.created_at,
        updated_at=row.updated_at,
        finished_at=row.finished_at,
        resolved_at=row.resolved_at,
        read_at=row.read_at,
        waits_behind=row.waits_behind,
        contacts=contacts,
        history=history,
        failures=failures.of_lead(connection, lead_id),
    )


def _contact(row: Row[Any]) -> ContactRecord:
    return ContactRecord(row.position, row.phone_number, row.variables, row.voicery_lead_id, row.voicery_status)


def _attempt(row: Row[Any]) -> AttemptRecord:
    return AttemptRecord(
        id=row.id,
        number=row.number,
        started_at=row.started_at,
        ended_at=row.ended_at,
        finished_at=row.finished_at,
        outcome=None if row.outcome is None else Kind(row.outcome),
        http_status=row.http_status,
        error=row.error,
        response=row.response,
        evidence=row.evidence,
        worker=row.worker,
    )


def _no_limit() -> tuple[RateUse, ...]:
    return ()


class Reads:
    """Reads only. `rate_use` says how much of the rate limit is used; None where Redis cannot be asked."""

    def __init__(self, database: Database, *, rate_use: Callable[[], tuple[RateUse, ...] | None] = _no_limit) -> None:
        self._database = database
        self._rate_use = rate_use

    def get(self, lead_id: UUID) -> LeadRecord:
        """Everything about one lead. Raises `LeadNotFound`."""
        with self._database.transaction() as connection:
            record = read(connection, lead_id)
        if record is None:
            raise LeadNotFound(lead_id)
        return record

    def explain(self, lead_id: UUID) -> str:
        """In plain words: why this lead is where it is, and what happens next. Raises `LeadNotFound`."""
        record = self.get(lead_id)
        with self._database.autocommit() as connection:
            gates = overview.gates_of(connection, record.account, record.campaign_id)
            rate_limit = campaigns.limit_of(connection, record.account, record.campaign_id)
        return explain(record, gates, rate_limit)

    def overview(self) -> Overview:
        """The whole queue at a glance."""
        with self._database.transaction() as connection:
            seen = overview.read(connection)
        return replace(seen, rate=self._rate_use())
