"""Which failed leads are meant: one filter for listing, grouping and replaying, on the command line and elsewhere."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any
from uuid import UUID

from dispatcher.leads.masking import mask_phone
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
    attempts_from   at least so many attempts
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
    attempts_from: int | None = None
    failed_since: datetime | None = None
    failed_before: datetime | None = None
    resolved: bool = False

    @property
    def narrows(self) -> bool:
        """Whether anything but `resolved` is given: a bulk action on everything deserves a second thought."""
        return any(getattr(self, name) is not None for name in self.names() if name != "resolved")

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
        return tuple(field.name for field in fields(cls))

    def as_dict(self) -> dict[str, Any]:
        """What is given, as JSON takes it: for the audit log."""
        given = {name: getattr(self, name) for name in self.names()}
        given["phone_number"] = None if self.phone_number is None else mask_phone(self.phone_number)
        return {
            name: value if isinstance(value, str | int | bool) else str(value)
            for name, value in given.items()
            if value is not None
        }
