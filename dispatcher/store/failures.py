"""The failed-lead table, read: the rows that a filter matches, or their causes."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, Row, TextClause, text

from dispatcher.records.failure_filter import FailureFilter
from dispatcher.records.failure_group import FailureGroup
from dispatcher.records.record import FailedLead
from dispatcher.rules.states import FailureClass, Resolution

_COLUMNS: Final = (
    "failure.id, failure.lead_id, failure.account, failure.campaign_id, failure.phone_number, failure.failure_class,"
    " failure.http_status, failure.fingerprint, failure.message, failure.response, failure.attempts, failure.failed_at,"
    " failure.resolved_at, failure.resolution, failure.resolved_by, failure.note"
)


def _of_lead_itself(condition: str) -> str:
    # As a value, which Postgres never turns into a join: one probe of the primary key for each failure that is left,
    # ended by the LIMIT of a page. As a join it would read every lead there is.
    return f"(SELECT {condition} FROM dispatcher.leads AS lead WHERE lead.id = failure.lead_id)"


_CONDITIONS: Final[Mapping[str, str]] = {
    "account": "failure.account = :account",
    "campaign_id": "failure.campaign_id = :campaign_id",
    "failure_class": "failure.failure_class = :failure_class",
    "http_status": "failure.http_status = :http_status",
    "fingerprint": "failure.fingerprint = :fingerprint",
    # Not LIKE: what a person types is no pattern.
    "text": "strpos(lower(failure.message), lower(:text)) > 0",
    "phone_number": "right(failure.phone_number, length(:phone_number)) = :phone_number",
    "idempotency_key": (
        "failure.lead_id IN (SELECT lead_id FROM dispatcher.idempotency_keys AS held"
        " WHERE held.account = failure.account AND held.key = :idempotency_key)"
    ),
    "variable": _of_lead_itself("lead.variables ->> :variable_name = :variable_value"),
    "attempts_from": "failure.attempts >= :attempts_from",
    "replayed_before": (
        "EXISTS (SELECT FROM dispatcher.failed_leads AS earlier WHERE earlier.lead_id = failure.lead_id"
        " AND earlier.id < failure.id AND earlier.resolution = 'replayed') = :replayed_before"
    ),
    "submitted_since": _of_lead_itself("lead.created_at >= :submitted_since"),
    "submitted_before": _of_lead_itself("lead.created_at < :submitted_before"),
    "batch_id": "failure.lead_id IN (SELECT id FROM dispatcher.leads WHERE batch_id = :batch_id)",
    "failed_since": "failure.failed_at >= :failed_since",
    "failed_before": "failure.failed_at < :failed_before",
}
"""One condition for each filter; only these constants ever become SQL."""

_OF_LEAD = text(f"SELECT {_COLUMNS} FROM dispatcher.failed_leads AS failure WHERE lead_id = :lead_id ORDER BY id")


def of_lead(connection: Connection, lead_id: UUID) -> tuple[FailedLead, ...]:
    """Every failure of one lead, the earliest first."""
    return tuple(_failed(row) for row in connection.execute(_OF_LEAD, {"lead_id": lead_id}))


def matching(
    connection: Connection, wanted: FailureFilter, *, limit: int, after: tuple[datetime, int] | None = None
) -> list[FailedLead]:
    """The failures that the filter matches, the latest first; `after` goes on behind that `(failed_at, id)`."""
    where, values = where_of(wanted)
    if after is not None:
        where += " AND (failure.failed_at, failure.id) < (:after_at, :after_id)"
        values |= {"after_at": after[0], "after_id": after[1]}
    # The page is found in the index alone, which has every column that is filtered; only its rows are fetched.
    statement = text(f"""
        SELECT {_COLUMNS} FROM dispatcher.failed_leads AS failure
        WHERE failure.id IN (
            SELECT failure.id FROM dispatcher.failed_leads AS failure WHERE {where}
            ORDER BY failure.failed_at DESC, failure.id DESC LIMIT :limit
        )
        ORDER BY failure.failed_at DESC, failure.id DESC
    """)
    return [_failed(row) for row in connection.execute(statement, {**values, "limit": limit})]


def leads_matching(connection: Connection, wanted: FailureFilter) -> list[UUID]:
    """The ids of all leads whose open failure the filter matches, the longest failed first."""
    where, values = where_of(wanted)
    statement = text(
        f"SELECT failure.lead_id FROM dispatcher.failed_leads AS failure WHERE {where}"
        " ORDER BY failure.failed_at, failure.id"
    )
    return [row.lead_id for row in connection.execute(statement, values)]


def count_matching(connection: Connection, wanted: FailureFilter, *, most: int) -> int:
    """How many failures the filter matches; `most` if there are more."""
    where, values = where_of(wanted)
    statement = text(f"""
        SELECT count(*) FROM (
            SELECT FROM dispatcher.failed_leads AS failure WHERE {where}
            ORDER BY failure.failed_at LIMIT :most
        ) AS counted
    """)
    return int(connection.execute(statement, {**values, "most": most}).scalar() or 0)


def name_matching(connection: Connection, operation_id: UUID, wanted: FailureFilter) -> None:
    """Make the leads of the open failures that the filter matches those of an operation, the longest failed first."""
    where, values = where_of(wanted)
    statement = text(
        "INSERT INTO dispatcher.operation_leads (operation_id, position, lead_id)"
        " SELECT :operation_id, row_number() OVER (ORDER BY failure.failed_at, failure.id), failure.lead_id"
        f" FROM dispatcher.failed_leads AS failure WHERE {where}"
    )
    connection.execute(statement, {**values, "operation_id": operation_id})


def groups(connection: Connection, wanted: FailureFilter) -> list[FailureGroup]:
    """The failures that the filter matches by cause, the most frequent first."""
    where, values = where_of(wanted)
    rows = connection.execute(_grouped(where), values)
    return [
        FailureGroup(
            fingerprint=row.fingerprint,
            failure_class=FailureClass(row.failure_class),
            http_status=row.http_status,
            message=row.message,
            leads=row.leads,
            campaigns=tuple(row.campaigns),
            first_at=row.first_at,
            last_at=row.last_at,
        )
        for row in rows
    ]


def _grouped(where: str) -> TextClause:
    # Hashed by campaign first, and the message fetched for the latest alone: sorting every message takes seconds.
    return text(f"""
        WITH cause AS MATERIALIZED (
            SELECT failure.fingerprint, failure.failure_class, failure.campaign_id,
                max(failure.http_status) AS http_status, count(*) AS leads, min(failure.failed_at) AS first_at,
                max(failure.failed_at) AS last_at, max(failure.id) AS latest
            FROM dispatcher.failed_leads AS failure WHERE {where}
            GROUP BY failure.fingerprint, failure.failure_class, failure.campaign_id
        ), grouped AS (
            SELECT fingerprint, failure_class, max(http_status) AS http_status, CAST(sum(leads) AS bigint) AS leads,
                array_agg(DISTINCT campaign_id) AS campaigns, min(first_at) AS first_at, max(last_at) AS last_at,
                max(latest) AS latest
            FROM cause GROUP BY fingerprint, failure_class
        )
        SELECT grouped.*, failure.message
        FROM grouped JOIN dispatcher.failed_leads AS failure ON failure.id = grouped.latest
        ORDER BY grouped.leads DESC, grouped.last_at DESC
    """)


def where_of(wanted: FailureFilter) -> tuple[str, dict[str, Any]]:
    """The filter as a condition on `failure`, made of constants, and the values to bind."""
    values = {name: value for name in _CONDITIONS if (value := getattr(wanted, name)) is not None}
    openness = "failure.resolved_at IS NOT NULL" if wanted.resolved else "failure.resolved_at IS NULL"
    where = " AND ".join([openness, *(_CONDITIONS[name] for name in values)])
    if wanted.variable is not None:
        values["variable_name"], values["variable_value"] = values.pop("variable")
    return where, values


def _failed(row: Row[Any]) -> FailedLead:
    return FailedLead(
        id=row.id,
        lead_id=row.lead_id,
        account=row.account,
        campaign_id=row.campaign_id,
        phone_number=row.phone_number,
        failure_class=FailureClass(row.failure_class),
        http_status=row.http_status,
        fingerprint=row.fingerprint,
        message=row.message,
        response=row.response,
        attempts=row.attempts,
        failed_at=row.failed_at,
        resolved_at=row.resolved_at,
        resolution=None if row.resolution is None else Resolution(row.resolution),
        resolved_by=row.resolved_by,
        note=row.note,
    )
