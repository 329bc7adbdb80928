"""The options of one `submit`: when and how urgently to deliver a lead, and how to recognise a repetition."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID

from dispatcher.errors import FieldError, InvalidLead
from dispatcher.lead.fields import NOT_GIVEN, given_fields, known_fields

DEFAULT_ACCOUNT: Final = "default"
MAX_CAMPAIGN_ID: Final = 2**63 - 1
MAX_KEY_LENGTH: Final = 200
LONGEST_DELAY: Final = timedelta(days=3660)

ID_REMEDY: Final = "pass a uuid.UUID, its text, or nothing"
TIME_REMEDY: Final = "pass an aware datetime, e.g. datetime.now(UTC) + timedelta(hours=1), or a timedelta from now"

ACCOUNT_NAME: Final = re.compile(r"[a-z0-9_]{1,40}")

_FIELDS = ("id", "idempotency_key", "priority", "not_before", "expires_at")
_LATEST_YEAR = 9998  # one zone further east, the last day of year 9999 cannot be read back
_OUT_OF_RANGE = f"is not in a year from 2000 to {_LATEST_YEAR}"


class Channel(NamedTuple):
    """A campaign of an account: the unit that is claimed, rung for, rate-limited and held back together."""

    account: str
    campaign_id: int


@dataclass(frozen=True, slots=True, init=False)
class SubmitOptions:
    """Valid by construction: raises `InvalidLead` with every fault.

    id                the lead's id, made by the producer; the same id again is the same submission
    idempotency_key   names the submission within its account, up to 200 printable characters
    priority          0-9, higher first
    not_before        no delivery earlier; a timedelta counts from the database's now
    expires_at        no delivery later; a timedelta counts from the database's now
    """

    id: UUID | None
    idempotency_key: str | None
    priority: int
    not_before: datetime | timedelta | None
    expires_at: datetime | timedelta | None

    def __init__(
        self,
        *,
        id: UUID | str | None = NOT_GIVEN,
        idempotency_key: str | None = NOT_GIVEN,
        priority: int = NOT_GIVEN,
        not_before: datetime | timedelta | None = NOT_GIVEN,
        expires_at: datetime | timedelta | None = NOT_GIVEN,
    ) -> None:
        given = given_fields(
            id=id, idempotency_key=idempotency_key, priority=priority, not_before=not_before, expires_at=expires_at
        )
        _fill(self, given)

    @classmethod
    def parse(cls, value: "SubmitOptions | Mapping[str, Any]") -> "SubmitOptions":
        """Return the options, or those that the mapping describes; an unknown key is a fault."""
        if isinstance(value, SubmitOptions):
            return value
        options = object.__new__(cls)
        _fill(options, value)
        return options

    def __reduce__(self) -> tuple[Any, ...]:  # that of a frozen dataclass takes three times as long
        return _of_fields, (self.id, self.idempotency_key, self.priority, self.not_before, self.expires_at)


def _of_fields(*values: Any) -> SubmitOptions:  # noqa: ANN401 - as they were read
    options = object.__new__(SubmitOptions)
    for name, value in zip(_FIELDS, values, strict=True):
        object.__setattr__(options, name, value)
    return options


def check_account(name: object) -> str:
    """Return the name of an account; raises `InvalidLead` unless it is 1-40 of `a-z`, `0-9` and `_`."""
    if isinstance(name, str) and ACCOUNT_NAME.fullmatch(name):
        return name
    raise InvalidLead([FieldError("account", "is not a name of an account", "use 1 to 40 of a-z, 0-9 and _")])


def _fill(options: SubmitOptions, given: object) -> None:
    faults: list[FieldError] = []
    remedy = "the options of submit are " + ", ".join(_FIELDS)
    fields = known_fields(given, _FIELDS, faults, where="options", otherwise=remedy)
    if fields is None:
        raise InvalidLead(faults)
    lead_id = _read_id(fields.get("id"), faults)
    key = _read_key(fields.get("idempotency_key"), faults)
    priority = _read_priority(fields.get("priority", 0), faults)
    not_before = _read_time("not_before", fields.get("not_before"), faults)
    expires_at = _read_time("expires_at", fields.get("expires_at"), faults)
    _compare(not_before, expires_at, faults)
    if faults:
        raise InvalidLead(faults)
    object.__setattr__(options, "id", lead_id)
    object.__setattr__(options, "idempotency_key", key)
    object.__setattr__(options, "priority", priority)
    object.__setattr__(options, "not_before", not_before)
    object.__setattr__(options, "expires_at", expires_at)


def _read_id(value: object, faults: list[FieldError]) -> UUID | None:
    if value is None or isinstance(value, UUID):
        return value
    if isinstance(value, str):
        try:
            return UUID(value)
        except ValueError:
            pass
    faults.append(FieldError("id", "is not a UUID", ID_REMEDY))
    return None


def _read_key(value: object, faults: list[FieldError]) -> str | None:
    match value:
        case None:
            return None
        case str() if not value.strip():
            fault = "is empty"
        case str() if len(value) > MAX_KEY_LENGTH:
            fault = f"is longer than {MAX_KEY_LENGTH} characters"
        case str() if not value.isprintable():
            fault = "contains characters that cannot be printed"
        case str():
            return str(value)
        case _:
            fault = f"is of type {type(value).__name__}, not text"
    faults.append(FieldError("idempotency_key", fault, "pass the id that your system gave this submission"))
    return None


def _read_priority(value: object, faults: list[FieldError]) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 9:
        return int(value)
    faults.append(FieldError("priority", "is not an integer from 0 to 9", "9 goes first, 0 is the default"))
    return 0


def _read_time(name: str, value: object, faults: list[FieldError]) -> datetime | timedelta | None:
    time = checked_time(name, value)
    if isinstance(time, FieldError):
        faults.append(time)
        return None
    return time


def checked_time(name: str, value: object) -> datetime | timedelta | FieldError | None:
    """Return the time in UTC, the delay, or the fault of `name`.

    In UTC, because two times of one zone compare by their clocks (PEP 495): 02:30 of a night in October is then before
    02:15, although it is half an hour after it. A time that a clock skips in March is read as before the change.
    """
    match value:
        case None:
            return None
        case timedelta() if value < timedelta(0):
            fault = "lies in the past"
        case timedelta() if value > LONGEST_DELAY:
            fault = "lies more than ten years ahead"
        case timedelta():
            return value
        case datetime():
            moment = _in_utc(value)
            if not isinstance(moment, str):
                return moment
            fault = moment
        case _:
            fault = f"is of type {type(value).__name__}, not a time"
    return FieldError(name, fault, TIME_REMEDY)


def _in_utc(moment: datetime) -> datetime | str:
    """Return the same instant in UTC, or why there is none."""
    try:
        if moment.utcoffset() is None:
            return "has no time zone"
        instant = moment.astimezone(UTC)
    except OverflowError:
        return _OUT_OF_RANGE
    except (ValueError, TypeError):  # a zone of the caller's own, or a value such as NaT of pandas
        return "is no time, or has a time zone without an offset"
    return instant if 2000 <= instant.year <= _LATEST_YEAR else _OUT_OF_RANGE


def _compare(not_before: object, expires_at: object, faults: list[FieldError]) -> None:
    """Two times of one kind can be compared here; a moment and a distance only by the database's clock."""
    match not_before, expires_at:
        case (datetime() as earliest, datetime() as latest):
            impossible = latest <= earliest
        case (timedelta() as earliest, timedelta() as latest):
            impossible = latest <= earliest
        case (_, timedelta() as latest):
            impossible = latest == timedelta(0)
        case _:
            return
    if impossible:
        faults.append(FieldError("expires_at", "leaves no time for a delivery", "let it be later than not_before"))


@dataclass(frozen=True, slots=True)
class Submission:
    """The lead is durable. It carries no personal data, so it may be logged.

    id            the lead that stands for this submission
    state         "pending": it will be delivered; "duplicate": another lead already stands for this person; "failed":
                  the person must not be called, see `dispatcher.get(id).failures`
    created       False when the same id or idempotency key was submitted before: then this is that first submission
    duplicate_of  the lead that stands for the person, where state is "duplicate"
    """

    id: UUID
    state: str
    created: bool
    duplicate_of: UUID | None = None


@dataclass(frozen=True, slots=True)
class BatchResult:
    """What `submit_many` did. Nothing is listed but the refused items: a batch may have millions.

    submitted   leads that will be delivered
    duplicates  leads stored as duplicates of another lead
    repeated    items that were submitted before, by the same id or idempotency key
    rejected    (index of the item, its faults); nothing of these is stored
    blocked     leads stored as failed, because somebody of them must not be called
    """

    batch_id: UUID
    submitted: int
    duplicates: int
    repeated: int
    rejected: tuple[tuple[int, tuple[FieldError, ...]], ...] = ()
    blocked: int = 0
