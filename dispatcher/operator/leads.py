"""The leads, read: lists by any filter, and `Reads`, which answers all questions about one lead or the whole queue."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, text

from dispatcher.decisions.states import State
from dispatcher.operator import campaigns, lead_record, overview
from dispatcher.operator.explain import explain
from dispatcher.operator.lead_record import LeadRecord
from dispatcher.operator.record import FOREIGN_TEXT, PHONE, REFERENCE, Record
from dispatcher.store.database import Database


@dataclass(frozen=True, slots=True)
class LeadFilter:
    """A filter of leads: all conditions given must hold. Times are aware.

    created_since, created_before   when it was submitted; the first is included, the second is not
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


@dataclass(frozen=True, slots=True)
class ListedLead(Record):
    """One lead of a list."""

    id: UUID
    state: State
    failure_class: str | None
    account: str
    campaign_id: int
    phone_number: str = field(repr=False, metadata=PHONE)
    priority: int
    attempts: int
    voicery_lead_id: int | None
    voicery_status: str | None
    idempotency_key: str | None = field(repr=False, metadata=REFERENCE)
    batch_id: UUID | None
    created_at: datetime
    due_at: datetime
    finished_at: datetime | None
    last_error: str | None = field(metadata=FOREIGN_TEXT)


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


def matching(connection: Connection, wanted: LeadFilter, *, most: int) -> list[ListedLead]:
    """Return the leads that the filter matches, the newest first (their ids grow with time), at most `most`."""
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
    return list(map(ListedLead.of, connection.execute(statement, {**values, "most": most}).mappings()))


class Reads:
    """Reads leads."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, lead_id: UUID) -> LeadRecord:
        """Return everything about one lead. Raises `LeadNotFound`."""
        return self._database.again(lead_record.read, lead_id)

    def listed(self, wanted: LeadFilter, *, most: int) -> list[ListedLead]:
        """Return the leads that the filter matches, the newest first, at most `most`."""
        return self._database.again(matching, wanted, most=most)

    def explain(self, lead_id: UUID) -> str:
        """Return in plain words why this lead is where it is, and what happens next. Raises `LeadNotFound`."""
        record = self.get(lead_id)
        gates = self._database.read(overview.gates_of, record.account, record.campaign_id)
        rate_limit = self._database.read(campaigns.limit_of, record.account, record.campaign_id)
        return explain(record, gates, rate_limit)
