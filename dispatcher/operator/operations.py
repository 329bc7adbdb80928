"""Bulk work: thousands of leads acted on as one stored operation, by the workers, with progress and a stop.

The sweep does a small batch at a time: one transaction acts on the leads and records what became of each, so that a
crash neither repeats nor forgets one. Look-ups need Voicery, so the look-up task does those.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection

from dispatcher.errors import DispatcherError, NotAllowed, StoreUnavailable
from dispatcher.logs import events
from dispatcher.operator import operation_work, preview
from dispatcher.operator.corrections import Corrections
from dispatcher.operator.failures import FailureFilter
from dispatcher.operator.operation_work import Operation, OperationKind
from dispatcher.operator.preview import Preview
from dispatcher.operator.replay import Failures
from dispatcher.store import audit
from dispatcher.store.database import Database
from dispatcher.store.statement import Start

BATCH: Final = 50
"""Leads in one transaction: their rows are locked until it ends."""

LOOKUP_BATCH: Final = 10
_LOOKUP_HOLD_SECONDS: Final = 120.0

LookUp = Callable[[Sequence[UUID]], Sequence[object]]
"""Looks up those of the leads that are in doubt and returns one finding for each of them."""


class Operations:
    """Starts, shows, stops and carries out bulk work. `actor` is who is responsible."""

    def __init__(self, database: Database, failures: Failures) -> None:
        self._database = database
        self._failures = failures
        self._corrections = Corrections(database, failures)

    # For the operator -------------------------------------------------------------------------------------------------

    def preview(
        self,
        kind: OperationKind,
        leads: Sequence[UUID] | FailureFilter,
        *,
        even_if_called: bool = False,
        campaign_id: int | None = None,
    ) -> Preview:
        """What it would do now; changes nothing."""
        with self._database.autocommit() as connection:
            return preview.preview(connection, kind, leads, even_if_called=even_if_called, campaign_id=campaign_id)

    def start(
        self,
        operation_id: UUID,
        kind: OperationKind,
        leads: Sequence[UUID] | FailureFilter,
        *,
        actor: str,
        note: str | None = None,
        even_if_called: bool = False,
        not_before: Start = None,
        per_minute: int | None = None,
        spread: timedelta | None = None,
        campaign_id: int | None = None,
    ) -> Operation:
        """Store the work; the workers do it. The same id again is the same operation, however often it is clicked.

        not_before   it begins then: until then the leads stay as they are, and it can be stopped
        per_minute   at most so many leads a minute
        spread       evenly over so long
        campaign_id  replay the leads in this campaign

        Raises `NotAllowed` for a dismissal without a note, for both paces at once, and for a pace of look-ups.
        """
        if kind is OperationKind.DISMISS and not (note or "").strip():
            raise NotAllowed("A resolution needs a note that says how you know; add one.")
        if spread is not None and per_minute is not None:
            raise NotAllowed("Choose one pace: so many a minute, or spread over a time.")
        if kind is OperationKind.LOOK_UP and (spread is not None or per_minute is not None):
            raise NotAllowed("Look-ups have no pace of their own: they go as fast as the rate limit allows.")
        if kind is not OperationKind.REPLAY and campaign_id is not None:
            raise NotAllowed("Only a replay can move leads to another campaign.")
        filters = leads.as_dict() if isinstance(leads, FailureFilter) else {"leads": len(leads)}
        options: dict[str, Any] = {"note": note, "even_if_called": even_if_called}
        if spread is not None:
            options["spread_seconds"] = spread.total_seconds()
        if campaign_id is not None:
            options["campaign_id"] = campaign_id

        def act(connection: Connection) -> Operation:
            created = operation_work.create(
                connection,
                operation_id,
                kind,
                filters=filters,
                options=options,
                actor=actor,
                per_minute=per_minute,
                not_before=not_before,
                leads=leads,
            )
            operation = self._found(connection, operation_id)
            if created:
                asked: dict[str, Any] = {
                    "kind": kind,
                    "filters": filters,
                    "total": operation.total,
                    "per_minute": per_minute,
                }
                if operation.begins_at is not None:
                    asked["not_before"] = operation.begins_at.isoformat()
                audit.note(connection, actor, "operation", str(operation_id), asked | options)
            return operation

        return self._database.again(act)

    def get(self, operation_id: UUID) -> Operation:
        """One operation. Raises `NotAllowed` if there is none."""
        with self._database.autocommit() as connection:
            return self._found(connection, operation_id)

    def latest(self, *, most: int = 100) -> list[Operation]:
        """The newest first."""
        with self._database.autocommit() as connection:
            return operation_work.latest(connection, most=most)

    def refusals(self, operation_id: UUID, *, most: int = 200) -> list[tuple[UUID, str]]:
        """Leads that were refused, with the reason."""
        with self._database.autocommit() as connection:
            return operation_work.refusals(connection, operation_id, most=most)

    def stop(self, operation_id: UUID, *, actor: str) -> bool:
        """Do no more of it; what is done stays done. False: it was over already."""

        def act(connection: Connection) -> bool:
            stopped = operation_work.stop(connection, operation_id, actor=actor)
            if stopped:
                audit.note(connection, actor, "operation_stop", str(operation_id), {})
            return stopped

        return self._database.again(act)

    # For the workers --------------------------------------------------------------------------------------------------

    def step(self) -> bool:
        """One batch of the operation that has waited longest. False: nothing to do."""
        return self._database.again(self._batch)

    def lookup_accounts(self) -> list[str]:
        """The accounts for which a look-up task has bulk work."""
        with self._database.autocommit() as connection:
            return operation_work.lookup_accounts(connection)

    def look_up(self, account: str, look_up: LookUp, *, stopping: Callable[[], bool] = lambda: False) -> int:
        """One batch of an account's look-ups; returns how many leads were tried. Raises what `look_up` raises."""
        taken = self._database.again(lambda connection: self._take_lookups(connection, account))
        if taken is None:
            return 0
        operation, targets, last = taken
        tried: list[operation_work.Tried] = []
        try:
            for target in targets:
                if stopping():
                    break
                found = look_up([target.lead_id])
                tried.append(operation_work.Tried(target.position, None if found else _NOT_IN_DOUBT))
        finally:
            over = last and len(tried) == len(targets)
            wait = 0.0 if len(tried) == len(targets) else 1.0
            self._database.again(
                lambda connection: operation_work.record(connection, operation.id, tried, over=over, wait_seconds=wait)
            )
        return len(tried)

    # In the transaction -----------------------------------------------------------------------------------------------

    def _batch(self, connection: Connection) -> bool:
        operation = operation_work.take(connection, (OperationKind.REPLAY, OperationKind.DISMISS))
        if operation is None:
            return False
        most, wait_seconds = _pace(operation.pace)
        targets = operation_work.targets(connection, operation.id, most=most)
        # Leads are locked in the order of their ids, as everywhere.
        tried = [
            operation_work.Tried(target.position, self._refusal(connection, operation, target.lead_id))
            for target in sorted(targets, key=lambda one: one.lead_id)
        ]
        over = len(tried) >= operation.left
        operation_work.record(connection, operation.id, tried, over=over, wait_seconds=0.0 if over else wait_seconds)
        refused = sum(one.reason is not None for one in tried)
        events.info("operation.batch", operation_id=str(operation.id), leads=len(tried), refused=refused)
        return True

    def _refusal(self, connection: Connection, operation: Operation, lead_id: UUID) -> str | None:
        """Act on one lead; why it was refused, None if it was not."""
        options: Mapping[str, Any] = operation.options
        try:
            if operation.kind is OperationKind.REPLAY:
                replay = self._failures.replay_within
                if options.get("campaign_id") is not None:
                    replay = partial(self._corrections.move_within, campaign_id=options["campaign_id"])
                replay(
                    connection,
                    lead_id,
                    actor=operation.actor,
                    even_if_called=options.get("even_if_called") is True,
                    note=options.get("note"),
                )
            else:
                self._failures.dismiss_within(connection, lead_id, actor=operation.actor, note=str(options.get("note")))
        except StoreUnavailable:
            raise
        except DispatcherError as refusal:
            return str(refusal)
        return None

    def _take_lookups(
        self, connection: Connection, account: str
    ) -> tuple[Operation, list[operation_work.Target], bool] | None:
        """A batch for one task: the operation rests for the others until the batch is recorded, or given up as lost."""
        operation = operation_work.take(connection, (OperationKind.LOOK_UP,))
        if operation is None:
            return None
        targets = operation_work.targets(connection, operation.id, most=LOOKUP_BATCH, account=account)
        if not targets:
            return None
        operation_work.record(connection, operation.id, (), over=False, wait_seconds=_LOOKUP_HOLD_SECONDS)
        return operation, targets, len(targets) >= operation.left

    def _found(self, connection: Connection, operation_id: UUID) -> Operation:
        operation = operation_work.read(connection, operation_id)
        if operation is None:
            raise NotAllowed(f"There is no operation {operation_id}.")
        return operation


_NOT_IN_DOUBT: Final = "Nothing to look up: whether it reached Voicery is known."


def _pace(per_minute: float | None) -> tuple[int, float]:
    """Leads in the next batch, and the wait after it in seconds."""
    if per_minute is None:
        return BATCH, 0.0
    leads = max(1, min(BATCH, int(per_minute // 60)))
    return leads, leads * 60.0 / per_minute
