"""What an operator may ask: one lead, why it is where it is, and the whole queue at a glance."""

from collections.abc import Callable
from dataclasses import replace
from uuid import UUID

from dispatcher.errors import LeadNotFound
from dispatcher.operating.explain import explain
from dispatcher.records.overview import Overview, RateUse
from dispatcher.records.record import LeadRecord
from dispatcher.store import campaigns, leads, overview
from dispatcher.store.database import Database


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
            record = leads.read(connection, lead_id)
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
