"""The filter of failed leads: as fields, as typed, and as a condition in SQL."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, Final, TypedDict
from uuid import UUID

from dispatcher.decisions.states import FailureClass
from dispatcher.operator.record import for_audit
from dispatcher.store import encryption
from dispatcher.store.reading import ReadConnection

MOST_LISTED: Final = 1000
"""Failures that are listed unless a limit is given."""


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
    """A filter of failures: all conditions given must hold. Times are aware.

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
    attempts_from   the least number of attempts
    replayed_before True: leads that an operator has replayed before, and that failed once more; False: the others
    submitted_since, submitted_before   when the lead was submitted; the first is included, the second is not
    failed_since, failed_before   when it failed, in the same way
    resolved        False: open failures; True: failures already replayed, found or dismissed
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
    def reads_each(self) -> bool:
        """Whether no index answers it alone: the message or the lead of every remaining failure has to be read."""
        return any(getattr(self, name) is not None for name in _BY_READING)

    @classmethod
    def parse(cls, given: Mapping[str, Any]) -> "FailureFilter":
        """Return the filter of these names and values.

        Raises `ValueError` for an unknown name or failure class, and for a time without its zone.
        """
        strangers = sorted(set(given) - set(cls.names()))
        if strangers:
            raise ValueError(f"{strangers[0]} is not a filter; the filters are {', '.join(cls.names())}")
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
        """Return the names of the filters."""
        return tuple(one.name for one in fields(cls))

    def as_dict(self) -> dict[str, Any]:
        """Return the conditions given as JSON takes them, for the audit log; number and variable are masked."""
        return for_audit(self)


class MaskedFilter(FailureFilter):
    """A filter of somebody who sees numbers masked: it finds no more than what such a reader sees.

    Else the number could be found out digit by digit: an ending that is one digit longer than what is shown, or a
    message that goes on with a further digit, matches or does not.
    """

    __slots__ = ()


_BY_READING: Final = frozenset({"text", "variable", "replayed_before", "submitted_since", "submitted_before"})

_TIMES: Final = ("submitted_since", "submitted_before", "failed_since", "failed_before")


def variable_of(text: str) -> tuple[str, str]:
    """Return the name and the value of a text like `plan=pro`. Raises `ValueError`."""
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise ValueError("it is not a variable; write NAME=TEXT, e.g. plan=pro")
    return name.strip(), value.strip()


def ending_of(text: str) -> str:
    """Return the last digits of a number as typed, without spaces and punctuation. Raises `ValueError`."""
    digits = "".join(one for one in text if one.isdecimal() and one.isascii())
    if not 2 <= len(digits) <= 15:
        raise ValueError("it is not the end of a number; write at least two digits, e.g. 0123")
    return ("+" if text.strip().startswith("+") else "") + digits


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
    # Not LIKE: `%` and `_` in the text are ordinary characters.
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


SHOWN_ENDING: Final = (
    "right({phone}, length({ending})) = {ending} AND length({ending}) <= CASE WHEN length({phone}) >= 12 THEN 4"
    " WHEN length({phone}) >= 10 THEN 3 WHEN length({phone}) >= 8 THEN 2 ELSE 0 END"
)
"""The condition that a number ends so, with as many digits as `mask_phone` shows at most."""

WITHOUT_NUMBERS: Final = r"regexp_replace({text}, '\+?\d(?:[ ().\-/]{{0,2}}\d){{6,}}', '•', 'g')"
"""A text without what `mask_numbers` masks, and some more."""

_MASKED_CONDITIONS: Final[Mapping[str, str]] = {
    "phone_number": SHOWN_ENDING.format(phone="failure.phone_number", ending=":phone_number"),
    "text": f"strpos(lower({WITHOUT_NUMBERS.format(text='failure.message')}), lower(:text)) > 0",
}


def where_of(connection: ReadConnection, wanted: FailureFilter) -> tuple[str, dict[str, Any]]:
    """Return the filter as a condition on `failure`, made of constants, and the values to bind.

    Raises `NotAllowed` for a variable where variables are encrypted.
    """
    indexed, read, values = parts_of(connection, wanted)
    return f"{indexed} AND {read}", values


def parts_of(connection: ReadConnection, wanted: FailureFilter) -> tuple[str, str, dict[str, Any]]:
    """Return the condition on what an index has, the one for which each failure is read, and the values of both.

    Raises as `where_of`.
    """
    if wanted.variable is not None:
        encryption.refuse_filter(connection)
    values = {name: value for name in _CONDITIONS if (value := getattr(wanted, name)) is not None}
    openness = "failure.resolved_at IS NOT NULL" if wanted.resolved else "failure.resolved_at IS NULL"
    conditions = _CONDITIONS if not isinstance(wanted, MaskedFilter) else {**_CONDITIONS, **_MASKED_CONDITIONS}
    indexed = " AND ".join([openness, *(conditions[name] for name in values if name not in _BY_READING)])
    read = " AND ".join(["true", *(conditions[name] for name in values if name in _BY_READING)])
    if wanted.variable is not None:
        values["variable_name"], values["variable_value"] = values.pop("variable")
    return indexed, read, values
