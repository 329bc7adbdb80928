"""What recording tells the log, once it is committed: a value to call then."""

from collections.abc import Callable

from dispatcher.delivery.finished import Finished
from dispatcher.logs import events
from dispatcher.rules.gate import Gate, GateState
from dispatcher.store.results import Result


def attempt(finished: Finished, row: Result) -> Callable[[], None]:
    """The canonical event: one for each attempt, with these keys."""
    return lambda: events.note(
        "attempt.finished",
        lead_id=str(row.lead_id),
        attempt_id=str(row.attempt_id),
        account=row.account,
        campaign_id=finished.claimed.campaign_id,
        attempt=finished.claimed.attempts,
        outcome=row.outcome.value,
        state=row.state.value,
        http_status=row.http_status,
        duration_ms=round((finished.ended_at - finished.started_at) * 1000, 1),
        retry_in_seconds=row.due_in,
        voicery_lead_id=row.voicery_lead_id,
    )


def late(row: Result, *, adopted: bool) -> Callable[[], None]:
    """A result that came after its lease; `adopted`: it was still of use."""
    return lambda: events.warn(
        "lease.lost",
        lead_id=str(row.lead_id),
        attempt_id=str(row.attempt_id),
        outcome=row.outcome.value,
        adopted=adopted,
    )


def gate(gate: Gate) -> Callable[[], None]:
    """A gate that opened, closed or began to probe."""
    tell = events.note if gate.state is GateState.OPEN else events.warn
    return lambda: tell(
        f"gate.{'opened' if gate.state is GateState.OPEN else gate.state.value}",
        account=gate.account,
        campaign_id=gate.campaign_id,
        reason=gate.reason.value if gate.reason else None,
        wait_seconds=gate.wait_seconds,
    )
