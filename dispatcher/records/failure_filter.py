"""Which failed leads are meant: one filter for listing, grouping and replaying, on the command line and elsewhere."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any
from uuid import UUID

from dispatcher.leads.masking import mask_phone
from dispatcher.records.record import MASKED
from dispatcher.rules.states import FailureClass


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
        """The filter of these names and values; raises `ValueError` for a name or a failure class that is none."""
        strangers = sorted(set(given) - set(cls.names()))
        if strangers:
            raise ValueError(f"{strangers[0]} is no filter; the filters are {', '.join(cls.names())}")
        failure_class = given.get("failure_class")
        return cls(**dict(given) | {"failure_class": None if failure_class is None else FailureClass(failure_class)})

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
