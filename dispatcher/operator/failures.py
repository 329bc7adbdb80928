"""The failed-lead table, read: the rows that a filter matches, or their causes."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, Final, TypedDict, assert_never
from uuid import UUID

from sqlalchemy import Connection, Row, TextClause, text

from dispatcher.decisions.states import FailureClass, Resolution
from dispatcher.lead.phone import mask_phone
from dispatcher.operator.lead_record import MASKED, FailedLead

MOST_LISTED: Final = 1000


class FailureFilters(TypedDict, total=False):
    """The filters of `Dispatcher.failed` as keyword arguments; `FailureFilter` says what each means."""

    account: str | None
    campaign_id: int | None
    failure_class: FailureClass | str | None
    http_status: int | None
    fingerprint: str | None
    text: str | None
    phone_number: str | None
    idempotency_key: str | None
    batch_id: UUID | None
    variable: tuple[str, str] | None
    attempts_from: int | None
    replayed_before: bool | None
    submitted_since: datetime | None
    submitted_before: datetime | None
    failed_since: datetime | None
    failed_before: datetime | None
    resolved: bool


@dataclass(frozen=True, slots=True)
class FailureFilter:
    """All that is given must hold (AND). Times are aware; `failed_since` is included, `failed_before` is not.

    account         name of the account
    campaign_id     Voicery's id of the campaign
    failure_class   why the leads failed
    http_status     what Voicery answered
    fingerprint     the cause, as `failed --group` shows it
    text            occurs in the message, in any case
    phone_number    how the number ends: all of it, or the last digits
    idempotency_key the producer's name for the submission
    batch_id        the import or `submit_many` they came with
    variable        name and value of one of the lead's variables; a number or truth value is compared as its text
    attempts_from   at least so many attempts
    replayed_before True: those that an operator has sent again before, and that failed once more; False: the others
    submitted_since, submitted_before   when the lead was submitted, in the same way as the failure
    resolved        False: those still open; True: those already replayed, found or dismissed
    """

    account: str | None = None
    campaign_id: int | None = None
    failure_class: FailureClass | None = None
    http_status: int | None = None
    fingerprint: str | None = None
    text: str | None = None
    phone_number: str | None = None
    idempotency_key: str | None = None
    batch_id: UUID | None = None
    variable: tuple[str, str] | None = field(default=None, repr=False)
    attempts_from: int | None = None
    replayed_before: bool | None = None
    submitted_since: datetime | None = None
    submitted_before: datetime | None = None
    failed_since: datetime | None = None
    failed_before: datetime | None = None
    resolved: bool = False

    @property
    def narrows(self) -> bool:
        """Whether anything but `resolved` is given: a bulk action on everything deserves a second thought."""
        return any(getattr(self, name) is not None for name in self.names() if name != "resolved")

    @property
    def reads_each(self) -> bool:
        """Whether no index alone answers it: the message or the lead of every failure that is left has to be read."""
        by_reading = (self.text, self.variable, self.replayed_before, self.submitted_since, self.submitted_before)
        return any(one is not None for one in by_reading)

    @classmethod
    def parse(cls, given: Mapping[str, Any]) -> "FailureFilter":
        """Return the filter of these names and values.

        Raise `ValueError` for an unknown name or failure class, and for a time without its zone.
        """
        strangers = sorted(set(given) - set(cls.names()))
        if strangers:
            raise ValueError(f"{strangers[0]} is no filter; the filters are {', '.join(cls.names())}")
        failure_class = given.get("failure_class")
        if failure_class is not None and failure_class not in set(FailureClass):
            raise ValueError(f"failure_class is not one of {', '.join(FailureClass)}")
        for name in _TIMES:
            moment = given.get(name)
            if moment is not None and (not isinstance(moment, datetime) or moment.utcoffset() is None):
                raise ValueError(f"{name} is not an aware datetime; pass e.g. datetime.now(UTC) - timedelta(hours=1)")
        return cls(**dict(given) | {"failure_class": None if failure_class is None else FailureClass(failure_class)})

    @classmethod
    def parameters(cls) -> dict[str, tuple[Any, Any]]:
        """Return the annotation and the default of each filter, by name."""
        return {one.name: (FailureFilters.__annotations__[one.name], one.default) for one in fields(cls)}

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """The names of the filters."""
        return tuple(one.name for one in fields(cls))

    def as_dict(self) -> dict[str, Any]:
        """What is given, as JSON takes it: for the audit log."""
        given = {name: getattr(self, name) for name in self.names()}
        given["phone_number"] = None if self.phone_number is None else mask_phone(self.phone_number)
        given["variable"] = None if self.variable is None else f"{self.variable[0]}={MASKED}"
        return {
            name: value if isinstance(value, str | int | bool) else str(value)
            for name, value in given.items()
            if value is not None
        }


_TIMES: Final = ("submitted_since", "submitted_before", "failed_since", "failed_before")


def variable_of(text: str) -> tuple[str, str]:
    """The name and the value of `plan=pro`. Raises `ValueError`."""
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise ValueError("it is no variable; write NAME=TEXT, e.g. plan=pro")
    return name.strip(), value.strip()


def ending_of(text: str) -> str:
    """How a number ends, of what somebody typed: spaces and the like left out. Raises `ValueError`."""
    digits = "".join(one for one in text if one.isdecimal() and one.isascii())
    if not 2 <= len(digits) <= 15:
        raise ValueError("it is no end of a number; write at least two digits, e.g. 0123")
    return ("+" if text.strip().startswith("+") else "") + digits


@dataclass(frozen=True, slots=True)
class FailureGroup:
    """All that a filter matches and that failed for one cause. `message` is that of the latest."""

    fingerprint: str
    failure_class: FailureClass
    http_status: int | None
    message: str
    leads: int
    campaigns: tuple[int, ...]
    first_at: datetime
    last_at: datetime

    @property
    def advice(self) -> str:
        """The safe next action."""
        return advice(self.failure_class)

    def as_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        return {
            "fingerprint": self.fingerprint,
            "failure_class": self.failure_class,
            "http_status": self.http_status,
            "message": self.message,
            "leads": self.leads,
            "campaigns": list(self.campaigns),
            "first_at": self.first_at.isoformat(),
            "last_at": self.last_at.isoformat(),
            "advice": self.advice,
        }


def advice(failure_class: FailureClass) -> str:
    """What may safely be done about a failed lead of this class."""
    match failure_class:
        case FailureClass.REJECTED:
            return "Nobody was called. Submit a corrected lead, or replay once the cause is gone."
        case FailureClass.EXHAUSTED:
            return "It never reached Voicery: replaying is safe."
        case FailureClass.OUTCOME_UNKNOWN:
            return "The person may have been called: look it up before anything else."
        case FailureClass.EXPIRED:
            return "Nobody was called: replay it if it is still wanted."
        case FailureClass.BUG:
            return "Nobody was called. Report it, and replay after an upgrade."
        case _ as never:
            assert_never(never)


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
