"""Bulk work as a value: what is done to how many leads, how far it is, who asked for it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID


class OperationKind(StrEnum):
    """What is done to each lead; the rules are those of the single action."""

    REPLAY = "replay"
    DISMISS = "dismiss"
    LOOK_UP = "look_up"


class OperationState(StrEnum):
    """How far an operation is. The last two are final."""

    QUEUED = "queued"
    RUNNING = "running"
    STOPPED = "stopped"
    FINISHED = "finished"


@dataclass(frozen=True, slots=True)
class Operation:
    """One row of `dispatcher.operations`.

    filters     what was meant, as the filter says it, or `{"leads": n}` for a selection
    options     `note`, `even_if_called`, `spread_seconds`, `campaign_id`: the campaign that replayed leads move to
    per_minute  at most so many leads a minute; None: as fast as it goes
    next_at     no batch earlier
    done        leads acted on; `refused` those whose state forbade it
    """

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
    filters: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def left(self) -> int:
        """Leads that have not been tried yet."""
        return self.total - self.done - self.refused

    @property
    def open(self) -> bool:
        """Whether workers still have to do something about it."""
        return self.state in (OperationState.QUEUED, OperationState.RUNNING)

    @property
    def pace(self) -> float | None:
        """Leads a minute; None: as fast as it goes."""
        spread = self.options.get("spread_seconds")
        return self.total * 60.0 / float(spread) if spread else self.per_minute

    @property
    def begins_at(self) -> datetime | None:
        """When it begins, while that is still to come."""
        return self.next_at if self.state is OperationState.QUEUED and self.next_at > self.created_at else None

    def as_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        return {
            "id": str(self.id),
            "kind": self.kind,
            "state": self.state,
            "actor": self.actor,
            "total": self.total,
            "done": self.done,
            "refused": self.refused,
            "left": self.left,
            "per_minute": self.per_minute,
            "begins_at": None if self.begins_at is None else self.begins_at.isoformat(),
            "filters": dict(self.filters),
            "options": dict(self.options),
            "created_at": self.created_at.isoformat(),
            "started_at": None if self.started_at is None else self.started_at.isoformat(),
            "finished_at": None if self.finished_at is None else self.finished_at.isoformat(),
            "stopped_by": self.stopped_by,
        }
