"""The failed leads: one row for each failure, its safe actions, and the queries by row and by cause."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Final, assert_never
from uuid import UUID

from sqlalchemy import Connection, TextClause, text

from dispatcher.decisions.states import FailureClass, Resolution, State
from dispatcher.operator.failure_filter import MOST_LISTED, FailureFilter, parts_of, where_of
from dispatcher.operator.overview import Count
from dispatcher.operator.record import FOREIGN_TEXT, PHONE, Record
from dispatcher.store import encryption
from dispatcher.store.encryption import Content, KeyMissing, NotAuthentic
from dispatcher.store.proof import IN_DOUBT_SINCE
from dispatcher.store.reading import ReadConnection

TREND_SLOTS: Final = 12
_SLOT_SECONDS: Final = 86_400 // TREND_SLOTS

MOST_COUNTED: Final = 100_000
MOST_READ: Final = 10_000
"""The most failures counted where an index answers, and the most read for a page or a count where none does."""


@dataclass(frozen=True, slots=True)
class FailedLead(Record):
    """One row of `dispatcher.failed_leads`: why a lead failed, and what an operator did about it."""

    id: int
    lead_id: UUID
    account: str
    campaign_id: int
    phone_number: str = field(repr=False, metadata=PHONE)
    failure_class: FailureClass
    http_status: int | None
    fingerprint: str
    message: str = field(metadata=FOREIGN_TEXT)
    response: str | None = field(repr=False, metadata=FOREIGN_TEXT)
    attempts: int
    failed_at: datetime
    resolved_at: datetime | None = None
    resolution: Resolution | None = None
    resolved_by: str | None = None
    note: str | None = field(default=None, repr=False, metadata=FOREIGN_TEXT)


@dataclass(frozen=True, slots=True)
class FailureGroup(Record):
    """All failures of one cause among those that a filter matches. `message` is that of the latest.

    http_status   what Voicery answered to each of them; None if answers differ, or one had none
    """

    JSON: ClassVar = (
        "fingerprint",
        "failure_class",
        "http_status",
        "message",
        "leads",
        "campaigns",
        "first_at",
        "last_at",
        "advice",
    )

    fingerprint: str
    failure_class: FailureClass
    http_status: int | None
    message: str = field(metadata=FOREIGN_TEXT)
    leads: int
    campaigns: tuple[int, ...]
    first_at: datetime
    last_at: datetime

    @property
    def advice(self) -> str:
        """The safe next action."""
        return advice(self.failure_class)


@dataclass(frozen=True, slots=True)
class LeadSummary(Record):
    """The fields of a lead that a list shows beside its failure."""

    lead_id: UUID
    state: State
    created_at: datetime
    idempotency_key: str | None
    voicery_lead_id: int | None
    batch_id: UUID | None
    touched_by: str | None  # the actor of the latest line in the audit log
    in_doubt: bool  # an earlier POST may have reached the person


@dataclass(frozen=True, slots=True)
class FailurePage:
    """One page of a list.

    more        whether further failures match
    read_until  time and id of the failure where reading ended, because `MOST_READ` had been read; None: all that there
                are were read. Earlier failures may match too
    """

    failures: tuple[FailedLead, ...]
    more: bool
    read_until: tuple[datetime, int] | None = None


def advice(failure_class: FailureClass) -> str:
    """Return the safe next action for a failed lead of this class."""
    match failure_class:
        case FailureClass.REJECTED:
            return "Nobody was called. Correct it and replay it, or replay it once the cause is gone."
        case FailureClass.EXHAUSTED:
            return "It never reached Voicery: replaying is safe."
        case FailureClass.OUTCOME_UNKNOWN:
            return "The person may have been called: look it up before anything else."
        case FailureClass.EXPIRED:
            return "Nobody was called: replay it if it is still wanted."
        case FailureClass.BUG:
            return "Nobody was called. Report it, and replay after an upgrade."
        case FailureClass.BLOCKED:
            return "Nobody was called, and nobody may be: only `dispatcher unblock` makes it replayable."
        case _ as never:
            assert_never(never)


_COLUMNS: Final = (
    "failure.id, failure.lead_id, failure.account, failure.campaign_id, failure.phone_number, failure.failure_class,"
    " failure.http_status, failure.fingerprint, failure.message, failure.response, failure.attempts, failure.failed_at,"
    " failure.resolved_at, failure.resolution, failure.resolved_by, failure.note"
)

_OF_LEAD = text(f"SELECT {_COLUMNS} FROM dispatcher.failed_leads AS failure WHERE lead_id = :lead_id ORDER BY id")

_SUMMARIES = text(f"""
SELECT lead.id AS lead_id, lead.state, lead.created_at, lead.idempotency_key, lead.voicery_lead_id, lead.batch_id,
    (SELECT actor FROM dispatcher.audit_log WHERE subject = CAST(lead.id AS text) ORDER BY id DESC LIMIT 1)
        AS touched_by, {IN_DOUBT_SINCE} IS NOT NULL AS in_doubt
FROM dispatcher.leads AS lead WHERE lead.id = ANY (CAST(:ids AS uuid[]))
""")


def of_lead(connection: Connection, lead_id: UUID) -> tuple[FailedLead, ...]:
    """Return every failure of one lead, the earliest first."""
    return tuple(_read(connection, connection.execute(_OF_LEAD, {"lead_id": lead_id}).mappings()))


def matching(
    connection: ReadConnection,
    wanted: FailureFilter,
    *,
    limit: int = MOST_LISTED,
    after: tuple[datetime, int] | None = None,
    bound: int | None = None,
) -> list[FailedLead]:
    """Return the failures that the filter matches, the latest first, at most `limit`.

    after   the `failed_at` and `id` of the last one of the page before
    bound   the most failures that are read; None: as many as there are
    """
    source, values = _source(connection, wanted, bound, after)
    # The page is found in the index alone, which has every column that is filtered; only its rows are fetched.
    # Its size is written out: a plan for any size (`plan_cache_mode`) would read all failures for a tenth of them.
    statement = text(f"""
        SELECT {_COLUMNS} FROM dispatcher.failed_leads AS failure
        WHERE failure.id IN (
            SELECT failure.id FROM {source} {_LATEST_FIRST} LIMIT {limit:d}
        )
        {_LATEST_FIRST}
    """)
    return list(_read(connection, connection.execute(statement, values).mappings()))


def page(
    connection: ReadConnection, wanted: FailureFilter, *, limit: int, after: tuple[datetime, int] | None = None
) -> FailurePage:
    """Return the failures that the filter matches, the latest first, at most `limit`; reads `MOST_READ` at most.

    after   as for `matching`
    """
    bound = MOST_READ if wanted.reads_each else None
    found = tuple(matching(connection, wanted, limit=limit + 1, after=after, bound=bound))
    if len(found) > limit:
        return FailurePage(found[:limit], more=True)
    return FailurePage(found, more=False, read_until=_read_until(connection, wanted, bound, after))


_LATEST_FIRST: Final = "ORDER BY failure.failed_at DESC, failure.id DESC"


def _indexed(indexed: str, after: tuple[datetime, int] | None) -> tuple[str, dict[str, Any]]:
    if after is None:
        return f"dispatcher.failed_leads AS failure WHERE {indexed}", {}
    later = "(failure.failed_at, failure.id) < (:after_at, :after_id)"
    return (
        f"dispatcher.failed_leads AS failure WHERE {indexed} AND {later}",
        {"after_at": after[0], "after_id": after[1]},
    )


def _source(
    connection: ReadConnection, wanted: FailureFilter, bound: int | None, after: tuple[datetime, int] | None
) -> tuple[str, dict[str, Any]]:
    """Return what stands between FROM and ORDER BY. With a bound so many failures are read at most, the latest."""
    indexed, read, values = parts_of(connection, wanted)
    source, position = _indexed(indexed, after)
    if bound is None:
        return f"{source} AND {read}", values | position
    # A query of its own, which is not merged with what is around it: the index is read backwards, up to the bound.
    bounded = f"(SELECT failure.* FROM {source} {_LATEST_FIRST} LIMIT :bound) AS failure WHERE {read}"
    return bounded, {**values, **position, "bound": bound}


def _read_until(
    connection: ReadConnection, wanted: FailureFilter, bound: int | None, after: tuple[datetime, int] | None
) -> tuple[datetime, int] | None:
    if bound is None:
        return None
    indexed, _, values = parts_of(connection, wanted)
    source, position = _indexed(indexed, after)
    statement = text(f"SELECT failure.failed_at, failure.id FROM {source} {_LATEST_FIRST} OFFSET :skipped LIMIT 1")
    row = connection.execute(statement, {**values, **position, "skipped": bound - 1}).first()
    return None if row is None else (row.failed_at, row.id)


def _read(connection: ReadConnection, rows: Iterable[Mapping[Any, Any]]) -> Iterator[FailedLead]:
    """Yield the failures of rows. Where the key of an answer is missing, a sentence about that stands in its place."""
    ring = encryption.of(connection)
    for row in rows:
        try:
            yield FailedLead.of(ring.row(row, row["lead_id"], response=Content.RESPONSE))
        except (KeyMissing, NotAuthentic) as error:
            yield FailedLead.of({**row, "response": str(error)})


def leads_matching(connection: Connection, wanted: FailureFilter) -> list[UUID]:
    """Return the ids of all leads whose failures match, the longest failed first."""
    where, values = where_of(connection, wanted)
    statement = text(
        f"SELECT failure.lead_id FROM dispatcher.failed_leads AS failure WHERE {where}"
        " ORDER BY failure.failed_at, failure.id"
    )
    return list(connection.execute(statement, values).scalars())


def count_matching(connection: ReadConnection, wanted: FailureFilter) -> Count:
    """Return the number of failures that match; not exact above `MOST_COUNTED`, or where `MOST_READ` were read."""
    bound = MOST_READ if wanted.reads_each else None
    source, values = _source(connection, wanted, bound, None)
    statement = text(f"SELECT count(*) FROM (SELECT FROM {source} ORDER BY failure.failed_at LIMIT :most) AS counted")
    count = int(connection.execute(statement, {**values, "most": MOST_COUNTED}).scalar() or 0)
    return Count(count, exact=count < MOST_COUNTED and _read_until(connection, wanted, bound, None) is None)


def groups(connection: ReadConnection, wanted: FailureFilter) -> list[FailureGroup]:
    """Return the failures that match by cause, the most frequent first."""
    where, values = where_of(connection, wanted)
    return list(map(FailureGroup.of, connection.execute(_grouped(where), values).mappings()))


def trends(connection: ReadConnection, wanted: FailureFilter) -> Mapping[tuple[str, str], tuple[int, ...]]:
    """Return for each cause, by fingerprint and class, its failures of the last 24 hours in `TREND_SLOTS` slots."""
    where, values = where_of(connection, wanted)
    statement = text(f"""
        SELECT failure.fingerprint, failure.failure_class, count(*) AS leads,
            {TREND_SLOTS - 1} - CAST(floor(extract(epoch FROM now() - failure.failed_at) / {_SLOT_SECONDS}) AS integer)
                AS slot
        FROM dispatcher.failed_leads AS failure
        WHERE {where} AND failure.failed_at > now() - interval '24 hours'
        GROUP BY failure.fingerprint, failure.failure_class, slot
    """)
    found: dict[tuple[str, str], list[int]] = {}
    for row in connection.execute(statement, values):
        counts = found.setdefault((row.fingerprint, row.failure_class), [0] * TREND_SLOTS)
        counts[min(TREND_SLOTS - 1, max(0, row.slot))] += row.leads
    return {cause: tuple(counts) for cause, counts in found.items()}


def summaries(connection: ReadConnection, lead_ids: Sequence[UUID]) -> Mapping[UUID, LeadSummary]:
    """Return what a list shows of these leads."""
    if not lead_ids:
        return {}
    rows = connection.execute(_SUMMARIES, {"ids": list(lead_ids)}).mappings()
    return {row["lead_id"]: LeadSummary.of(row) for row in rows}


def name_matching(connection: Connection, operation_id: UUID, wanted: FailureFilter) -> None:
    """Make the leads whose open failures match those of an operation, the longest failed first."""
    where, values = where_of(connection, wanted)
    statement = text(
        "INSERT INTO dispatcher.operation_leads (operation_id, position, lead_id)"
        " SELECT :operation_id, row_number() OVER (ORDER BY failure.failed_at, failure.id), failure.lead_id"
        f" FROM dispatcher.failed_leads AS failure WHERE {where}"
    )
    given: dict[str, Any] = {**values, "operation_id": operation_id}
    connection.execute(statement, given)


def _grouped(where: str) -> TextClause:
    # Hashed by campaign first, and the message fetched for the latest alone: sorting every message takes seconds.
    return text(f"""
        WITH cause AS MATERIALIZED (
            SELECT failure.fingerprint, failure.failure_class, failure.campaign_id,
                min(failure.http_status) AS least_status, max(failure.http_status) AS most_status,
                count(failure.http_status) AS answered, count(*) AS leads,
                min(failure.failed_at) AS first_at, max(failure.failed_at) AS last_at, max(failure.id) AS latest
            FROM dispatcher.failed_leads AS failure WHERE {where}
            GROUP BY failure.fingerprint, failure.failure_class, failure.campaign_id
        ), grouped AS (
            SELECT fingerprint, failure_class,
                CASE WHEN min(least_status) = max(most_status) AND sum(answered) = sum(leads) THEN max(most_status) END
                    AS http_status,
                CAST(sum(leads) AS bigint) AS leads,
                array_agg(DISTINCT campaign_id) AS campaigns, min(first_at) AS first_at, max(last_at) AS last_at,
                max(latest) AS latest
            FROM cause GROUP BY fingerprint, failure_class
        )
        SELECT grouped.*, failure.message
        FROM grouped JOIN dispatcher.failed_leads AS failure ON failure.id = grouped.latest
        ORDER BY grouped.leads DESC, grouped.last_at DESC
    """)
