"""The exceptions of the dispatcher.

DispatcherError
├── InvalidLead            (also ValueError)
├── IdempotencyConflict
├── LeadNotFound
├── NotAllowed
├── StoreUnavailable
├── NotConfigured
├── CannotListen
└── SchemaOutOfDate

Every message says what is wrong and what to do next. None ever carries a phone number, a variable's value or a token.
"""

import errno
from collections.abc import Iterable
from dataclasses import dataclass
from types import FrameType
from typing import NoReturn
from uuid import UUID


class DispatcherError(Exception):
    """Base class of all the dispatcher's exceptions."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, or a signal that ends a command as Ctrl-C does.

    A class of its own because of CPython: where `exec` of a text raised a plain `KeyboardInterrupt`, as it does while a
    dataclass is made, the interpreter ends itself by SIGINT, although the exception was handled and an exit code given.
    """


def interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    """Raise `Interrupted`: a handler for `signal.signal`."""
    raise Interrupted


@dataclass(frozen=True, slots=True)
class FieldError:
    """One fault of one field: the field, the fault and the remedy, never the value, which may be a person's."""

    field: str  # "phone_number", "secondary_contacts[1].variables.email"
    fault: str  # "cannot be a phone number in any country"
    remedy: str  # "write it in E.164 form, e.g. +14155550100"

    def __str__(self) -> str:
        return f"{self.field}: {self.fault}; {self.remedy}"


class InvalidLead(DispatcherError, ValueError):
    """The lead was refused and nothing was stored; `errors` lists every bad field at once."""

    def __init__(self, errors: Iterable[FieldError]) -> None:
        self.errors: tuple[FieldError, ...] = tuple(errors)
        super().__init__("The lead was refused, nothing was stored: " + " · ".join(str(error) for error in self.errors))

    def __reduce__(self) -> tuple[type, tuple[tuple[FieldError, ...]]]:
        return type(self), (self.errors,)


class IdempotencyConflict(DispatcherError):
    """The idempotency key was used before for another payload; `lead_id` is the lead that holds it."""

    def __init__(self, lead_id: UUID) -> None:
        self.lead_id = lead_id
        super().__init__(
            f"The idempotency key belongs to lead {lead_id}, submitted with another payload; "
            "submit a changed lead under a key of its own."
        )


class LeadNotFound(DispatcherError):
    """No lead has this id."""

    def __init__(
        self, lead_id: object, instead: str = "`dispatcher list` has the ids, by a part of one with --id"
    ) -> None:
        self.lead_id = lead_id
        super().__init__(f"No lead has the id {lead_id}; {instead}.")


class NotAllowed(DispatcherError):
    """The lead's state, or what may already have happened to the person, forbids this."""


class StoreUnavailable(DispatcherError):
    """Postgres could not confirm the write; `submit(lead, id=error.lead_id)` repeats it safely.

    connection_lost   the connection ended, or leads to a server that is out of service: another may do
    """

    def __init__(self, message: str, lead_id: UUID | None = None) -> None:
        self.lead_id = lead_id
        self.connection_lost = False
        super().__init__(message)


class NotConfigured(DispatcherError):
    """A setting is missing or unusable; the message names it."""


class CannotListen(DispatcherError):
    """A server cannot have its address: something listens there, or the address is not of this machine."""

    def __init__(self, what: str, host: str, port: int, error: OSError) -> None:
        if error.errno == errno.EADDRINUSE:
            why = "another process listens there. Stop that one, or choose another --port"
        else:
            why = f"{(error.strerror or type(error).__name__).lower()}. Choose another --host or --port"
        super().__init__(f"{what} cannot listen on {host}:{port}: {why}.")


class SchemaOutOfDate(DispatcherError):
    """The database lacks the dispatcher's tables, or has those of another version.

    found      the revision of the database; None without tables
    expected   the revision that this version needs
    remedy     what to do, where `dispatcher migrate` alone does not help
    """

    def __init__(self, found: str | None, expected: str, remedy: str = "Run `dispatcher migrate`.") -> None:
        self.found = found
        self.expected = expected
        self.remedy = remedy
        have = f"is at revision {found}" if found else "has no dispatcher tables yet"
        super().__init__(f"The database {have}, this version needs {expected}. {remedy}")

    def __reduce__(self) -> tuple[type, tuple[str | None, str, str]]:
        return type(self), (self.found, self.expected, self.remedy)
