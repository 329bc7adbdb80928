"""The rows of background operations: the action, its leads, its progress, and the outcome of each lead."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar, Final
from uuid import UUID

import orjson
from sqlalchemy import Connection, text

from dispatcher.lead.options import DEFAULT_ACCOUNT
from dispatcher.operator import failures
from dispatcher.operator import leads as lead_list
from dispatcher.operator.failure_filter import FailureFilter
from dispatcher.operator.lead_filter import LeadFilter
from dispatcher.operator.record import FOREIGN_JSON, Record
from dispatcher.store.statement import START, Start, start_values

Selection = Sequence[UUID] | FailureFilter | LeadFilter
"""Leads by their ids, open failures by a filter, or pending leads by a filter."""


class OperationKind(StrEnum):
    """The action on each lead; its rules are those of the single action."""

    REPLAY = "replay"
    DISMISS = "dismiss"
    LOOK_UP = "look_up"
    CANCEL = "cancel"


class OperationState(StrEnum):
    """The states of an operation. The last two are final."""

    QUEUED = "queued"
    RUNNING = "running"
    STOPPED = "stopped"
    FINISHED = "finished"


@dataclass(frozen=True, slots=True)
class Operation(Record):
    """One row of `dispatcher.operations`.

    filters     the filter that selected the leads, or `{"leads": n}` for a selection by id
    options     `note`, `even_if_called`, `spread_seconds`, `campaign_id`: the campaign that replayed leads move to
    per_minute  the greatest number of leads per minute; None: no limit of its own
    next_at     when the next batch may be done
    done        leads acted on; `refused`: leads that the rules of the action refused
    """

    JSON: ClassVar = (
        "id",
        "kind",
        "state",
        "actor",
        "total",
        "done",
        "refused",
        "left",
        "per_minute",
        "begins_at",
        "filters",
        "options",
        "created_at",
        "started_at",
        "finished_at",
        "stopped_by",
    )

    id: UUID
    kind: OperationKind
    state: OperationState
    actor: str
    total: int
    done: int
    refused: int
    created_at: datetime
    next_at: datetime
    per_minute: int | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    stopped_by: str | None = None
    filters: Mapping[str, Any] = field(default_factory=dict, metadata=FOREIGN_JSON)
    options: Mapping[str, Any] = field(default_factory=dict, metadata=FOREIGN_JSON)

    @property
    def left(self) -> int:
        """The number of leads that have not been tried yet."""
        return self.total - self.done - self.refused

    @property
    def open(self) -> bool:
        """Whether leads are still to be tried."""
        return self.state in (OperationState.QUEUED, OperationState.RUNNING)

    @property
    def pace(self) -> float | None:
        """Leads per minute; None: no limit of its own."""
        spread = self.options.get("spread_seconds")
        return self.total * 60.0 / float(spread) if spread else self.per_minute

    @property
    def begins_at(self) -> datetime | None:
        """When it begins, if that is in the future."""
        return self.next_at if self.state is OperationState.QUEUED and self.next_at > self.created_at else None


_COLUMNS: Final = (
    "id, kind, state, filters, options, actor, total, done, refused, per_minute, next_at, created_at, started_at,"
    " finished_at, stopped_by"
)

_CREATE = text(f"""
INSERT INTO dispatcher.operations (id, kind, filters, options, actor, per_minute, next_at, total, accounts)
VALUES (:id, :kind, CAST(:filters AS jsonb), CAST(:options AS jsonb), :actor, :per_minute,
    {START}, 0, string_to_array(nullif(current_setting('dispatcher.accounts', true), ''), ','))
ON CONFLICT (id) DO NOTHING
RETURNING id
""")

_NAME = text("""
INSERT INTO dispatcher.operation_leads (operation_id, position, lead_id)
SELECT :id, given.position, given.lead_id
FROM unnest(CAST(:leads AS uuid[])) WITH ORDINALITY AS given (lead_id, position)
""")

_TOTAL = text("""
UPDATE dispatcher.operations AS operation
SET total = known.leads, state = CASE WHEN known.leads = 0 THEN 'finished' ELSE 'queued' END,
    finished_at = CASE WHEN known.leads = 0 THEN now() END, accounts = coalesce(known.accounts, operation.accounts)
FROM (
    SELECT count(*) AS leads, array_agg(DISTINCT lead.account) FILTER (WHERE lead.account IS NOT NULL) AS accounts
    FROM dispatcher.operation_leads AS target LEFT JOIN dispatcher.leads AS lead ON lead.id = target.lead_id
    WHERE target.operation_id = :id
) AS known
WHERE operation.id = :id
""")

_READ = text(f"SELECT {_COLUMNS} FROM dispatcher.operations WHERE id = :id")

_LATEST = text(f"""
SELECT {_COLUMNS} FROM dispatcher.operations
ORDER BY created_at DESC
LIMIT :most
""")

_REFUSALS = text("""
SELECT lead_id, reason FROM dispatcher.operation_leads
WHERE operation_id = :id AND outcome = 'refused'
ORDER BY position
LIMIT :most
""")

_RESULTS = text("""
SELECT reason, count(*) AS leads FROM dispatcher.operation_leads
WHERE operation_id = :id AND outcome = 'done' AND reason IS NOT NULL
GROUP BY reason
""")

_LOOKED_UP = text("""
SELECT lead_id, reason FROM dispatcher.operation_leads
WHERE operation_id = :id AND outcome = 'done' AND reason IS NOT NULL
ORDER BY position DESC
LIMIT :most
""")

_STOP = text("""
UPDATE dispatcher.operations
SET state = 'stopped', finished_at = now(), stopped_by = :actor
WHERE id = :id AND finished_at IS NULL
RETURNING id
""")

_TAKE = text(f"""
-- One worker at a time has an operation; its row is held until the batch is recorded.
SELECT {_COLUMNS} FROM dispatcher.operations
WHERE finished_at IS NULL AND next_at <= now() AND kind = ANY (CAST(:kinds AS text[]))
ORDER BY next_at
LIMIT 1
FOR UPDATE SKIP LOCKED
""")

_NEXT = text("""
SELECT position, lead_id FROM dispatcher.operation_leads
WHERE operation_id = :id AND outcome IS NULL
  -- A deleted lead has no account left: the task of any account may take it and close it.
  AND coalesce((SELECT account FROM dispatcher.leads WHERE id = lead_id) = CAST(:account AS text), true)
ORDER BY position
LIMIT :most
""")

_RECORD = text("""
WITH tried AS (
    UPDATE dispatcher.operation_leads AS target
    SET outcome = result.outcome, reason = result.reason
    FROM jsonb_to_recordset(CAST(:results AS jsonb)) AS result (position integer, outcome text, reason text)
    WHERE target.operation_id = :id AND target.position = result.position AND target.outcome IS NULL
    RETURNING target.outcome
), counted AS (
    SELECT count(*) FILTER (WHERE outcome = 'done') AS done, count(*) FILTER (WHERE outcome = 'refused') AS refused
    FROM tried
)
UPDATE dispatcher.operations AS operation
SET done = operation.done + counted.done, refused = operation.refused + counted.refused,
    started_at = coalesce(operation.started_at, now()), next_at = now() + make_interval(secs => :wait_seconds),
    state = CASE WHEN :over THEN 'finished' ELSE 'running' END, finished_at = CASE WHEN :over THEN now() END
FROM counted
WHERE operation.id = :id AND operation.finished_at IS NULL
""")

_LOOKUP_ACCOUNTS = text("""
-- The account of the first lead that is left; the other accounts follow when the leads before theirs are done.
SELECT coalesce(lead.account, :otherwise) AS account
FROM (SELECT id FROM dispatcher.operations WHERE finished_at IS NULL AND kind = 'look_up' AND next_at <= now()
      ORDER BY next_at LIMIT 1) AS operation
CROSS JOIN LATERAL (SELECT lead_id FROM dispatcher.operation_leads WHERE operation_id = operation.id
                    AND outcome IS NULL ORDER BY position LIMIT 1) AS target
LEFT JOIN dispatcher.leads AS lead ON lead.id = target.lead_id
""")


@dataclass(frozen=True, slots=True)
class Target:
    """A lead that an operation has not tried yet."""

    position: int
    lead_id: UUID


@dataclass(frozen=True, slots=True)
class Tried:
    """The outcome of one lead.

    reason   why it was refused; None if it was done
    result   what a look-up found out
    """

    position: int
    reason: str | None = None
    result: str | None = None


def create(
    connection: Connection,
    operation_id: UUID,
    kind: OperationKind,
    *,
    filters: Mapping[str, Any],
    options: Mapping[str, Any],
    actor: str,
    per_minute: int | None,
    not_before: Start,
    leads: Selection,
) -> bool:
    """Store an operation with the leads that are selected now. Return False if one with this id is stored already."""
    values = {
        "id": operation_id,
        "kind": kind,
        "filters": _json(filters),
        "options": _json(options),
        "actor": actor,
        "per_minute": per_minute,
        **start_values(not_before),
    }
    if connection.execute(_CREATE, values).first() is None:
        return False
    if isinstance(leads, FailureFilter):
        failures.name_matching(connection, operation_id, leads)
    elif isinstance(leads, LeadFilter):
        lead_list.name_pending(connection, operation_id, leads)
    else:
        connection.execute(_NAME, {"id": operation_id, "leads": list(dict.fromkeys(leads))})
    connection.execute(_TOTAL, {"id": operation_id})
    return True


def read(connection: Connection, operation_id: UUID) -> Operation | None:
    """Return one operation; None if there is none."""
    row = connection.execute(_READ, {"id": operation_id}).mappings().first()
    return None if row is None else Operation.of(row)


def latest(connection: Connection, *, most: int) -> list[Operation]:
    """Return the latest operations, the newest first."""
    return list(map(Operation.of, connection.execute(_LATEST, {"most": most}).mappings()))


def refusals(connection: Connection, operation_id: UUID, *, most: int) -> list[tuple[UUID, str]]:
    """Return the leads that were refused, with the reason."""
    return [(row.lead_id, row.reason) for row in connection.execute(_REFUSALS, {"id": operation_id, "most": most})]


def results(connection: Connection, operation_id: UUID) -> dict[str, int]:
    """Return what look-ups found out, and of how many leads."""
    rows = connection.execute(_RESULTS, {"id": operation_id})
    return {row.reason: row.leads for row in rows}


def looked_up(connection: Connection, operation_id: UUID, *, most: int) -> list[tuple[UUID, str]]:
    """Return the leads that were looked up, with what was found out, the latest first."""
    return [(row.lead_id, row.reason) for row in connection.execute(_LOOKED_UP, {"id": operation_id, "most": most})]


def stop(connection: Connection, operation_id: UUID, *, actor: str) -> bool:
    """End an operation, after a batch that is being recorded. Return False if it had ended."""
    return connection.execute(_STOP, {"id": operation_id, "actor": actor}).first() is not None


def take(connection: Connection, kinds: Sequence[OperationKind]) -> Operation | None:
    """Return the open operation of these kinds that has waited longest, and hold it until the transaction ends."""
    row = connection.execute(_TAKE, {"kinds": list(kinds)}).mappings().first()
    return None if row is None else Operation.of(row)


def targets(connection: Connection, operation_id: UUID, *, most: int, account: str | None = None) -> list[Target]:
    """Return the next leads of an operation; with `account`, of that account only."""
    rows = connection.execute(_NEXT, {"id": operation_id, "most": most, "account": account})
    return [Target(row.position, row.lead_id) for row in rows]


def record(
    connection: Connection, operation_id: UUID, results: Sequence[Tried], *, over: bool, wait_seconds: float
) -> None:
    """Write the outcomes of a batch, in the transaction of the batch. `over`: no lead is left."""
    rows = [
        {
            "position": one.position,
            "outcome": "done" if one.reason is None else "refused",
            "reason": one.reason or one.result,
        }
        for one in results
    ]
    connection.execute(
        _RECORD,
        {"id": operation_id, "results": orjson.dumps(rows).decode(), "over": over, "wait_seconds": wait_seconds},
    )


def lookup_accounts(connection: Connection) -> list[str]:
    """Return the accounts whose leads are the next ones of a look-up operation."""
    return [row.account for row in connection.execute(_LOOKUP_ACCOUNTS, {"otherwise": DEFAULT_ACCOUNT})]


def _json(value: Mapping[str, Any]) -> str:
    return orjson.dumps(dict(value)).decode()
