"""The filter of leads in any state: as fields, and as conditions in SQL."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from dispatcher.decisions.states import State
from dispatcher.operator.failure_filter import SHOWN_ENDING, WITHOUT_NUMBERS
from dispatcher.operator.record import for_audit

IN_FLIGHT: Final = frozenset({State.PENDING, State.SENDING, State.UNKNOWN})
"""The states of leads that have not ended; each has an index of its own."""


@dataclass(frozen=True, slots=True)
class LeadFilter:
    """A filter of leads: all conditions given must hold. Times are aware.

    id_part         occurs in the id: the end that lists show, or any other part
    due             True: pending leads whose time has come; False: those that wait for theirs
    phone_number    how the number ends: all of it, or the last digits
    text            occurs in the last error, in any case
    variable        name and value of one of the lead's variables; a number or truth value is compared as its text
    attempts_from   the least number of attempts
    created_since, created_before     when it was submitted; the first is included, the second is not
    finished_since, finished_before   when it ended, in the same way
    """

    states: tuple[State, ...] = ()
    account: str | None = None
    campaign_id: int | None = None
    batch_id: UUID | None = None
    idempotency_key: str | None = None
    voicery_lead_id: int | None = None
    id_part: str | None = None
    due: bool | None = None
    phone_number: str | None = None
    text: str | None = None
    variable: tuple[str, str] | None = field(default=None, repr=False)
    attempts_from: int | None = None
    created_since: datetime | None = None
    created_before: datetime | None = None
    finished_since: datetime | None = None
    finished_before: datetime | None = None

    @property
    def reads_each(self) -> bool:
        """Whether no index answers it alone: each lead that the other conditions leave has to be read."""
        by_reading = (self.id_part, self.phone_number, self.text, self.variable, self.attempts_from)
        if any(one is not None for one in (*by_reading, self.created_since, self.created_before)):
            return True
        if self.in_flight or self.named:
            return False
        return bool(self.states) or self.account is not None or self.campaign_id is not None or self.ended

    @property
    def in_flight(self) -> bool:
        """Whether it matches leads that have not ended only."""
        return self.due is not None or (bool(self.states) and IN_FLIGHT.issuperset(self.states))

    @property
    def named(self) -> bool:
        """Whether it names an import, a reference or an id of Voicery, which have indexes."""
        return any(one is not None for one in (self.batch_id, self.idempotency_key, self.voicery_lead_id))

    @property
    def ended(self) -> bool:
        """Whether it asks when leads ended."""
        return self.finished_since is not None or self.finished_before is not None

    def as_dict(self) -> dict[str, Any]:
        """Return the conditions given as JSON takes them, for the audit log; number and variable are masked."""
        return for_audit(self)


class MaskedLeadFilter(LeadFilter):
    """A filter of somebody who sees numbers masked: it finds no more than what such a reader sees."""

    __slots__ = ()


_INDEXED: Final = {
    "states": "state = ANY (CAST(:states AS text[]))",
    "account": "account = :account",
    "campaign_id": "campaign_id = :campaign_id",
    "batch_id": "batch_id = :batch_id",
    "idempotency_key": "id IN (SELECT lead_id FROM dispatcher.idempotency_keys WHERE key = :idempotency_key)",
    "voicery_lead_id": "voicery_lead_id = :voicery_lead_id",
    "finished_since": "finished_at >= :finished_since",
    "finished_before": "finished_at < :finished_before",
}
_IN_STATE: Final = {
    State.PENDING: "state = 'pending'",
    State.SENDING: "state = 'sending'",
    State.UNKNOWN: "state = 'unknown'",
}
_DUE: Final = {True: "state = 'pending' AND due_at <= now()", False: "state = 'pending' AND due_at > now()"}
# Not bound: a plan that is kept for any state walks the whole table, where one for this state has a partial index.

_READ: Final = {
    # Not LIKE: `%` and `_` in the text are ordinary characters.
    "id_part": "strpos(CAST(id AS text), lower(:id_part)) > 0",
    "phone_number": "right(phone_number, length(:phone_number)) = :phone_number",
    "text": "strpos(lower(last_error), lower(:text)) > 0",
    "variable": "variables ->> :variable_name = :variable_value",
    "attempts_from": "attempts >= :attempts_from",
    "created_since": "created_at >= :created_since",
    "created_before": "created_at < :created_before",
}
"""One condition for each filter, apart by whether an index answers it; only these constants ever become SQL."""

_MASKED: Final = {
    "phone_number": SHOWN_ENDING.format(phone="phone_number", ending=":phone_number"),
    "text": f"strpos(lower({WITHOUT_NUMBERS.format(text='last_error')}), lower(:text)) > 0",
}
_NEEDS_EACH: Final = ("states", "account", "campaign_id")
"""Answered by an index together with a state of `IN_FLIGHT` or a name; else each lead is read."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """A filter in SQL: what an index answers, what each remaining lead is read for, and the values to bind.

    in_flight   for leads that have not ended: the states asked for, each of which has an index; else empty
    """

    indexed: str
    read: str
    values: dict[str, Any]
    in_flight: tuple[str, ...] = ()


def conditions_of(wanted: LeadFilter) -> Conditions:
    """Return the conditions of a filter, made of constants."""
    given = {
        name: value for name in (*_INDEXED, *_READ) if (value := getattr(wanted, name)) is not None and value != ()
    }
    read = {**_READ, **_MASKED} if isinstance(wanted, MaskedLeadFilter) else dict(_READ)
    indexed = dict(_INDEXED)
    in_flight: tuple[str, ...] = ()
    if wanted.in_flight:
        given.pop("states", None)
        in_flight = tuple(_IN_STATE[state] for state in _IN_STATE if state in (wanted.states or (State.PENDING,)))
    elif not wanted.named:
        read |= {name: indexed.pop(name) for name in _NEEDS_EACH}
    values = dict(given)
    if "states" in values:
        values["states"] = [state.value for state in wanted.states]
    if wanted.variable is not None:
        values["variable_name"], values["variable_value"] = values.pop("variable")
    first = [indexed[name] for name in given if name in indexed]
    if wanted.due is not None:
        first.append(_DUE[wanted.due])
    return Conditions(
        " AND ".join(first) or "true",
        " AND ".join(read[name] for name in given if name in read) or "true",
        values,
        in_flight,
    )
