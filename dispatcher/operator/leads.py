"""The leads, read: lists by any filter, and `Reads`, which answers all questions about one lead or the whole queue."""

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, text

from dispatcher.decisions.states import State
from dispatcher.operator import campaigns, lead_record, overview
from dispatcher.operator.explain import explain
from dispatcher.operator.lead_filter import Conditions, LeadFilter, conditions_of
from dispatcher.operator.lead_record import LeadRecord
from dispatcher.operator.overview import Count
from dispatcher.operator.record import FOREIGN_TEXT, PHONE, REFERENCE, Record
from dispatcher.store import encryption
from dispatcher.store.database import Database
from dispatcher.store.reading import ReadConnection


@dataclass(frozen=True, slots=True)
class LeadInList(Record):
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


_COLUMNS: Final = (
    "id, state, failure_class, account, campaign_id, phone_number, priority, attempts, voicery_lead_id,"
    " voicery_status, idempotency_key, batch_id, created_at, due_at, finished_at, last_error"
)

MOST_READ: Final = 50_000
"""The most leads that are read for one page, where no index answers the filter."""

MOST_COUNTED: Final = 100_000
"""Above it a list says that there are more, and does not count them."""


@dataclass(frozen=True, slots=True)
class LeadPage:
    """One page of a list.

    more        whether further leads match
    read_until  where reading ended, because `MOST_READ` leads had been read; None: all that there are were read.
                Leads below this id may match too
    """

    leads: tuple[LeadInList, ...]
    more: bool
    read_until: UUID | None = None


def matching(connection: ReadConnection, wanted: LeadFilter, *, most: int) -> list[LeadInList]:
    """Return all leads that the filter matches, the highest id first, at most `most`. May read every lead there is."""
    statement, values = _listed(connection, wanted, bound=None)
    return list(map(LeadInList.of, connection.execute(text(statement), {**values, "most": most}).mappings()))


def page(connection: ReadConnection, wanted: LeadFilter, *, most: int, after: UUID | None = None) -> LeadPage:
    """Return the leads that the filter matches, the highest id first, at most `most`; reads `MOST_READ` at most.

    after   the last id of the page before
    """
    bound = MOST_READ if wanted.reads_each else None
    statement, values = _listed(connection, wanted, bound=bound, after=after)
    rows = connection.execute(text(statement), {**values, "most": most + 1}).mappings()
    found = tuple(map(LeadInList.of, rows))
    if len(found) > most:
        return LeadPage(found[:most], more=True)
    return LeadPage(found, more=False, read_until=None if bound is None else _read_until(connection, wanted, after))


def count_matching(connection: ReadConnection, wanted: LeadFilter) -> Count:
    """Return the number of leads that match; not exact above `MOST_COUNTED`, or where `MOST_READ` were read."""
    bound = MOST_READ if wanted.reads_each else None
    source, values = _source(connection, wanted, bound=bound)
    statement = text(f"SELECT count(*) FROM (SELECT FROM {source} LIMIT :most) AS counted")
    count = int(connection.execute(statement, {**values, "most": MOST_COUNTED}).scalar() or 0)
    whole = bound is None or _read_until(connection, wanted, None) is None
    return Count(count, exact=whole and count < MOST_COUNTED)


def count_pending(connection: Connection, wanted: LeadFilter) -> int:
    """Return the number of pending leads that match; exact."""
    source, values = _pending(connection, wanted)
    return int(connection.execute(text(f"SELECT count(*) FROM {source}"), values).scalar() or 0)


def name_pending(connection: Connection, operation_id: UUID, wanted: LeadFilter) -> None:
    """Make the pending leads that match those of an operation, the lowest id first."""
    source, values = _pending(connection, wanted)
    statement = text(
        "INSERT INTO dispatcher.operation_leads (operation_id, position, lead_id)"
        f" SELECT :operation_id, row_number() OVER (ORDER BY id), id FROM {source}"
    )
    given: dict[str, Any] = {**values, "operation_id": operation_id}
    connection.execute(statement, given)


def _pending(connection: ReadConnection, wanted: LeadFilter) -> tuple[str, dict[str, Any]]:
    """Return the pending ones of the leads that match, as `_source` does."""
    if wanted.states and State.PENDING not in wanted.states:
        return "(SELECT id FROM dispatcher.leads LIMIT 0) AS none", {}
    return _source(connection, replace(wanted, states=(State.PENDING,)), bound=None)


def _listed(
    connection: ReadConnection, wanted: LeadFilter, *, bound: int | None, after: UUID | None = None
) -> tuple[str, dict[str, Any]]:
    source, values = _source(connection, wanted, bound=bound, after=after)
    if wanted.in_flight and bound is None:
        # The page is found in the indexes; only its rows are fetched.
        source = f"dispatcher.leads WHERE id = ANY (ARRAY(SELECT id FROM {source} ORDER BY id DESC LIMIT :most))"
    return f"SELECT {_COLUMNS} FROM {source} ORDER BY id DESC LIMIT :most", values


def _source(
    connection: ReadConnection, wanted: LeadFilter, *, bound: int | None, after: UUID | None = None
) -> tuple[str, dict[str, Any]]:
    """Return what stands between FROM and ORDER BY. With a bound so many leads are read at most.

    Of leads that have not ended it gives the ids alone, unless there is a bound.

    Raises `NotAllowed` for a variable where variables are encrypted.
    """
    if wanted.variable is not None:
        encryption.refuse_filter(connection)
    conditions = conditions_of(wanted)
    values = {**conditions.values} | ({} if after is None else {"after": after})
    first = conditions.indexed + ("" if after is None else " AND id < :after")
    if bound is None:
        each = f"{first} AND {conditions.read}"
        return (_in_flight(conditions, each) if conditions.in_flight else f"dispatcher.leads WHERE {each}"), values
    values["bound"] = bound
    if conditions.in_flight:
        ids = f"SELECT id FROM {_in_flight(conditions, first)} ORDER BY id DESC LIMIT :bound"
        return f"dispatcher.leads WHERE id = ANY (ARRAY({ids})) AND {conditions.read}", values
    order = "finished_at" if wanted.ended else "id"
    # A query of its own, which is not merged with what is around it: an index is read backwards, up to the bound.
    return (
        f"(SELECT * FROM dispatcher.leads WHERE {first} ORDER BY {order} DESC LIMIT :bound) AS lead"
        f" WHERE {conditions.read}"
    ), values


def _in_flight(conditions: Conditions, each: str) -> str:
    """Return the ids of leads that have not ended, by the index of each state.

    OFFSET keeps the planner from walking all leads there are by their ids until a page of them is found: cheap while
    those that wait are the youngest, and the whole history where they are old.
    """
    branches = (
        f"(SELECT id FROM dispatcher.leads WHERE {state} AND {each} OFFSET 0)" for state in conditions.in_flight
    )
    return f"({' UNION ALL '.join(branches)}) AS waiting"


def _read_until(connection: ReadConnection, wanted: LeadFilter, after: UUID | None) -> UUID | None:
    conditions = conditions_of(wanted)
    values = {**conditions.values, "after": after, "skipped": MOST_READ - 1}
    first = conditions.indexed + ("" if after is None else " AND id < :after")
    source = _in_flight(conditions, first) if conditions.in_flight else f"dispatcher.leads WHERE {first}"
    order = "finished_at" if wanted.ended and not conditions.in_flight else "id"
    found = connection.execute(
        text(f"SELECT id FROM {source} ORDER BY {order} DESC OFFSET :skipped LIMIT 1"), values
    ).scalar()
    return found if isinstance(found, UUID) else None


class Reads:
    """Reads leads."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, lead_id: UUID) -> LeadRecord:
        """Return everything about one lead. Raises `LeadNotFound`."""
        return self._database.again(lead_record.read, lead_id)

    def listed(self, wanted: LeadFilter, *, most: int) -> list[LeadInList]:
        """Return the leads that the filter matches, the highest id first, at most `most`."""
        return self._database.again(matching, wanted, most=most)

    def explain(self, lead_id: UUID) -> str:
        """Return in plain words why this lead is where it is, and what happens next. Raises `LeadNotFound`."""
        record = self.get(lead_id)
        gates = self._database.read(overview.gates_of, record.account, record.campaign_id)
        rate_limit = self._database.read(campaigns.limit_of, record.account, record.campaign_id)
        return explain(record, gates, rate_limit)
