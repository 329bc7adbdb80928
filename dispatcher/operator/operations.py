"""Background operations: a stored action on up to thousands of leads that the workers carry out.

The sweep does one batch at a time: a transaction acts on the leads and records the outcome of each, so that a crash
neither repeats nor loses one. The look-up task does look-ups, because they call Voicery.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from enum import StrEnum
from typing import Any, Final, Protocol
from uuid import UUID

from sqlalchemy import Connection

from dispatcher.decisions.absence import Decision, Step
from dispatcher.errors import LeadNotFound, NotAllowed
from dispatcher.logs import events
from dispatcher.operator import corrections, lead_facts, operation_work, preview, resolve
from dispatcher.operator.lead_facts import LeadFacts
from dispatcher.operator.lead_filter import LeadFilter
from dispatcher.operator.operation_work import Operation, OperationKind, Selection
from dispatcher.operator.preview import Preview
from dispatcher.operator.replay import BATCH, Prepare, ReplayTerms, replay_each
from dispatcher.store import audit
from dispatcher.store.blocks import NO_KEY, Screening
from dispatcher.store.database import Database
from dispatcher.store.statement import Start

LOOKUP_BATCH: Final = 10
_LOOKUP_HOLD_SECONDS: Final = 120.0

_NOT_IN_DOUBT: Final = "Nothing to look up: whether it reached Voicery is known."


class Found(Protocol):
    """What a look-up found out of one lead."""

    @property
    def decision(self) -> Decision:
        """What follows from it."""


LookUp = Callable[[Sequence[UUID]], Sequence[Found]]
"""Looks up the leads that are in doubt, and returns one finding for each of them."""


class Result(StrEnum):
    """What a look-up found out, as an operation keeps it."""

    FOUND = "found"
    ABSENT = "absent"
    HELD = "held"


def _result(found: Found) -> Result:
    if found.decision.step in (Step.ACCEPT, Step.DUPLICATE):
        return Result.FOUND
    return Result.ABSENT if found.decision.proof else Result.HELD


class SelectionChanged(NotAllowed):
    """Another number of leads is selected than the one that was confirmed; nothing was stored."""

    def __init__(self, *, now: int, confirmed: int) -> None:
        super().__init__(f"{now} leads are selected now, and {confirmed} were confirmed: look at the figures again.")


class Operations:
    """Starts, shows, stops and carries out operations. `actor` is written to the audit log."""

    def __init__(self, database: Database, screening: Screening = NO_KEY) -> None:
        self._database = database
        self._screening = screening

    # For the operator -------------------------------------------------------------------------------------------------

    def preview(
        self,
        kind: OperationKind,
        leads: Selection,
        *,
        even_if_called: bool = False,
        campaign_id: int | None = None,
    ) -> Preview:
        """Return what an operation would do now; changes nothing."""
        return self._database.again(
            preview.preview,
            kind,
            leads,
            even_if_called=even_if_called,
            campaign_id=campaign_id,
            screening=self._screening,
        )

    def start(
        self,
        operation_id: UUID,
        kind: OperationKind,
        leads: Selection,
        *,
        actor: str,
        note: str | None = None,
        even_if_called: bool = False,
        not_before: Start = None,
        per_minute: int | None = None,
        spread: timedelta | None = None,
        campaign_id: int | None = None,
        expected: int | None = None,
    ) -> Operation:
        """Store an operation, which the workers do. A repetition with the same id is the same operation.

        not_before   when it begins; until then the leads stay as they are, and it can be stopped
        per_minute   the greatest number of leads per minute
        spread       the time over which the leads are spread evenly
        campaign_id  replay the leads in this campaign
        expected     the number of leads that was confirmed; compared in the transaction that stores them

        Raises `SelectionChanged` if another number is selected; `NotAllowed` for a dismissal without a note, for both
        paces at once, and for a pace of look-ups.
        """
        if kind is OperationKind.DISMISS and not (note or "").strip():
            raise NotAllowed("A resolution needs a note that says how you know; add one.")
        if spread is not None and per_minute is not None:
            raise NotAllowed("Choose one pace: leads per minute, or spread over a time.")
        if kind is OperationKind.LOOK_UP and (spread is not None or per_minute is not None):
            raise NotAllowed("Look-ups have no pace of their own: the rate limit sets it. Leave the pace out.")
        if kind is not OperationKind.REPLAY and campaign_id is not None:
            raise NotAllowed("Only a replay can move leads to another campaign; leave the campaign out.")
        if isinstance(leads, LeadFilter) is not (kind is OperationKind.CANCEL) and not isinstance(leads, Sequence):
            raise NotAllowed("Failures are selected by their own filters, and leads to be cancelled by those of leads.")
        filters = {"leads": len(leads)} if isinstance(leads, Sequence) else leads.as_dict()
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
            operation = _found(connection, operation_id)
            if created and expected not in (None, operation.total):
                raise SelectionChanged(now=operation.total, confirmed=int(expected or 0))
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
        """Return one operation. Raises `NotAllowed` if there is none."""
        return self._database.read(_found, operation_id)

    def latest(self, *, most: int = 100) -> list[Operation]:
        """Return the latest operations, the newest first."""
        return self._database.read(operation_work.latest, most=most)

    def refusals(self, operation_id: UUID, *, most: int = 200) -> list[tuple[UUID, str]]:
        """Return the leads that were refused, with the reason."""
        return self._database.read(operation_work.refusals, operation_id, most=most)

    def results(self, operation_id: UUID, *, most: int = 200) -> tuple[dict[str, int], list[tuple[UUID, str]]]:
        """Return what look-ups found out, by how many leads, and the latest `most` leads with it."""
        return (
            self._database.read(operation_work.results, operation_id),
            self._database.read(operation_work.looked_up, operation_id, most=most),
        )

    def stop(self, operation_id: UUID, *, actor: str) -> bool:
        """End an operation; what is done stays done. Return False if it had ended."""

        def act(connection: Connection) -> bool:
            stopped = operation_work.stop(connection, operation_id, actor=actor)
            if stopped:
                audit.note(connection, actor, "operation_stop", str(operation_id), {})
            return stopped

        return self._database.again(act)

    # For the workers --------------------------------------------------------------------------------------------------

    def step(self) -> bool:
        """Do one batch of the operation that has waited longest. Return False if there is none.

        Raises `TryAgain` where somebody holds a lock: the next round of the sweep tries again.
        """
        with self._database.transaction() as connection:
            return _batch(connection, self._screening)

    def lookup_accounts(self) -> list[str]:
        """Return the accounts whose look-up task has an operation to do."""
        return self._database.read(operation_work.lookup_accounts)

    def look_up(self, account: str, look_up: LookUp, *, stopping: Callable[[], bool] = lambda: False) -> int:
        """Do one batch of an account's look-ups; return the number of leads tried. Raises what `look_up` raises."""
        taken = self._database.again(_take_lookups, account)
        if taken is None:
            return 0
        operation, targets, last = taken
        tried: list[operation_work.Tried] = []
        try:
            for target in targets:
                if stopping():
                    break
                found = look_up([target.lead_id])
                told = operation_work.Tried(target.position, _NOT_IN_DOUBT)
                if found:
                    told = operation_work.Tried(target.position, result=_result(found[0]))
                tried.append(told)
        finally:
            over = last and len(tried) == len(targets)
            wait = 0.0 if len(tried) == len(targets) else 1.0
            self._database.again(operation_work.record, operation.id, tried, over=over, wait_seconds=wait)
        return len(tried)


def _batch(connection: Connection, screening: Screening) -> bool:
    operation = operation_work.take(connection, (OperationKind.REPLAY, OperationKind.DISMISS, OperationKind.CANCEL))
    if operation is None:
        return False
    most, wait_seconds = _pace(operation.pace)
    targets = operation_work.targets(connection, operation.id, most=most)
    lead_ids = [target.lead_id for target in targets]
    match operation.kind:
        case OperationKind.REPLAY:
            refused = _replay(connection, lead_ids, operation, screening=screening)
        case OperationKind.DISMISS:
            refused = _dismiss(connection, lead_ids, operation)
        case _:
            refused = _cancel(connection, lead_ids, operation)
    tried = [operation_work.Tried(target.position, refused.get(target.lead_id)) for target in targets]
    over = len(tried) >= operation.left
    operation_work.record(connection, operation.id, tried, over=over, wait_seconds=0.0 if over else wait_seconds)
    events.info("operation.batch", operation_id=str(operation.id), leads=len(tried), refused=len(refused))
    return True


def _take_lookups(connection: Connection, account: str) -> tuple[Operation, list[operation_work.Target], bool] | None:
    """Return a batch for one task, with its operation and whether it is the last.

    No other task takes the operation until the batch is recorded or 120 s have passed.
    """
    operation = operation_work.take(connection, (OperationKind.LOOK_UP,))
    if operation is None:
        return None
    targets = operation_work.targets(connection, operation.id, most=LOOKUP_BATCH, account=account)
    if not targets:
        return None
    operation_work.record(connection, operation.id, (), over=False, wait_seconds=_LOOKUP_HOLD_SECONDS)
    return operation, targets, len(targets) >= operation.left


def _replay(
    connection: Connection, lead_ids: Sequence[UUID], operation: Operation, *, screening: Screening
) -> Mapping[UUID, str]:
    """Replay these leads; return why some were refused. The sweep rings for the others."""
    options: Mapping[str, Any] = operation.options
    terms = ReplayTerms(
        operation.actor,
        note=options.get("note"),
        even_if_called=options.get("even_if_called") is True,
        campaign_id=options.get("campaign_id"),
        screening=screening,
    )
    done = replay_each(connection, lead_ids, terms, None if terms.campaign_id is None else _move(terms))
    return {lead_id: str(error) for lead_id, error in done.refused.items()}


def _move(terms: ReplayTerms) -> Prepare:
    """Return what moves a lead to the campaign of these terms; a lead that is there already stays as it is."""

    def move(connection: Connection, facts: LeadFacts) -> None:
        changes = {"campaign_id": terms.campaign_id}
        corrections.change(connection, facts, changes, actor=terms.actor, note=terms.note)

    return move


def _dismiss(connection: Connection, lead_ids: Sequence[UUID], operation: Operation) -> Mapping[UUID, str]:
    """Dismiss these leads; return why some were refused."""
    refused = {lead_id: str(LeadNotFound(lead_id)) for lead_id in lead_ids}
    for facts in lead_facts.read(connection, lead_ids, lock=True):
        del refused[facts.id]
        try:
            resolve.decide(
                connection, facts, "dismissed", note=str(operation.options.get("note")), actor=operation.actor
            )
        except NotAllowed as refusal:
            refused[facts.id] = str(refusal)
    return refused


def _cancel(connection: Connection, lead_ids: Sequence[UUID], operation: Operation) -> Mapping[UUID, str]:
    """Cancel these leads; return why some were refused."""
    refused = {lead_id: str(LeadNotFound(lead_id)) for lead_id in lead_ids}
    for facts in lead_facts.read(connection, lead_ids, lock=True):
        del refused[facts.id]
        try:
            resolve.withdraw(connection, facts, actor=operation.actor, note=operation.options.get("note"))
        except NotAllowed as refusal:
            refused[facts.id] = str(refusal)
    return refused


def _pace(per_minute: float | None) -> tuple[int, float]:
    """Return the number of leads of the next batch, and the wait after it in seconds."""
    if per_minute is None:
        return BATCH, 0.0
    leads = max(1, min(BATCH, int(per_minute // 60)))
    return leads, leads * 60.0 / per_minute


def _found(connection: Connection, operation_id: UUID) -> Operation:
    operation = operation_work.read(connection, operation_id)
    if operation is None:
        raise NotAllowed(f"There is no operation {operation_id}; `dispatcher operations` lists them.")
    return operation
