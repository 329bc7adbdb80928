"""A durable, queue-backed lead dispatcher for Voicery: no lead lost, nobody called twice because of us.

    import dispatcher

    lead = dispatcher.Lead(phone_number="+14155550100", campaign_id=42, variables={"customer_name": "Ada"})
    dispatcher.submit(lead)

The functions use one `Dispatcher` built from the environment at their first call; `Dispatcher(settings)` has the same
methods with explicit settings. Importing this opens no socket and configures no logging.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from dispatcher.config.settings import Settings
from dispatcher.errors import (
    DispatcherError,
    FieldError,
    IdempotencyConflict,
    InvalidLead,
    LeadNotFound,
    NotAllowed,
    NotConfigured,
    SchemaOutOfDate,
    StoreUnavailable,
)
from dispatcher.lead.contact import Contact
from dispatcher.lead.lead import Lead
from dispatcher.lead.options import DEFAULT_ACCOUNT, BatchResult, Submission
from dispatcher.operator.lead_record import FailedLead, LeadRecord

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.orm import Session

    from dispatcher.api import Dispatcher
    from dispatcher.lead.candidate import Item
    from dispatcher.operator.pause import Resumed
    from dispatcher.operator.replay import Resolved

__all__ = [
    "BatchResult",
    "Contact",
    "Dispatcher",
    "DispatcherError",
    "FailedLead",
    "FieldError",
    "IdempotencyConflict",
    "InvalidLead",
    "Lead",
    "LeadNotFound",
    "LeadRecord",
    "NotAllowed",
    "NotConfigured",
    "SchemaOutOfDate",
    "Settings",
    "StoreUnavailable",
    "Submission",
    "cancel",
    "failed",
    "get",
    "pause",
    "replay",
    "resolve",
    "resume",
    "submit",
    "submit_many",
]

_default: "Dispatcher | None" = None


def __getattr__(name: str) -> Any:  # noqa: ANN401 - as a module has it
    # Late: the composition root imports SQLAlchemy, Celery and requests, which a reader of `Lead` does not need.
    if name == "Dispatcher":
        from dispatcher.api import Dispatcher

        return Dispatcher
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _dispatcher() -> "Dispatcher":
    global _default  # noqa: PLW0603 - the one default Dispatcher
    if _default is None:
        from dispatcher.api import Dispatcher

        _default = Dispatcher(Settings.from_environment())
    return _default


def submit(
    lead: Lead | Mapping[str, Any],
    *,
    id: UUID | str | None = None,
    idempotency_key: str | None = None,
    account: str = DEFAULT_ACCOUNT,
    priority: int = 0,
    not_before: datetime | timedelta | None = None,
    expires_at: datetime | timedelta | None = None,
    session: "Session | Connection | None" = None,
) -> Submission:
    """Make a lead durable; a worker delivers it. See `Dispatcher.submit`."""
    return _dispatcher().submit(
        lead,
        id=id,
        idempotency_key=idempotency_key,
        account=account,
        priority=priority,
        not_before=not_before,
        expires_at=expires_at,
        session=session,
    )


def submit_many(
    items: "Iterable[Item]",
    *,
    account: str = DEFAULT_ACCOUNT,
    batch_id: UUID | str | None = None,
    session: "Session | Connection | None" = None,
) -> BatchResult:
    """Make many leads durable, in chunks. See `Dispatcher.submit_many`."""
    return _dispatcher().submit_many(items, account=account, batch_id=batch_id, session=session)


def get(id: UUID | str) -> LeadRecord:
    """One lead as it stands, with its contacts, attempts and failures. Raises `LeadNotFound`."""
    return _dispatcher().get(id)


def failed(**filters: Any) -> list[FailedLead]:  # noqa: ANN401 - the fields of a filter
    """Open failures, the latest first. See `Dispatcher.failed`."""
    return _dispatcher().failed(**filters)


def replay(
    id: UUID | str,
    *,
    even_if_called: bool = False,
    not_before: "datetime | timedelta | None" = None,
    actor: str | None = None,
    note: str | None = None,
) -> None:
    """Send a failed lead again, as if it were new. Raises `NotAllowed` with the reason. See `Dispatcher.replay`."""
    _dispatcher().replay(id, even_if_called=even_if_called, not_before=not_before, actor=actor, note=note)


def resolve(id: UUID | str, as_: "Resolved", note: str, actor: str | None = None) -> None:
    """Decide about a lead: "accepted", Voicery has it; "dismissed", it is settled. See `Dispatcher.resolve`."""
    _dispatcher().resolve(id, as_, note, actor)


def cancel(id: UUID | str, actor: str | None = None) -> None:
    """Withdraw a lead that no worker has claimed yet. Raises `LeadNotFound`, `NotAllowed`."""
    _dispatcher().cancel(id, actor)


def pause(
    campaign_id: int | None = None,
    account: str = DEFAULT_ACCOUNT,
    reason: str | None = None,
    actor: str | None = None,
) -> int:
    """Hold a campaign back, or the whole account; returns how many leads are still on their way."""
    return _dispatcher().pause(campaign_id, account, reason, actor)


def resume(campaign_id: int | None = None, account: str = DEFAULT_ACCOUNT, actor: str | None = None) -> "Resumed":
    """Open the gate of a campaign, or of the account, whatever had closed it."""
    return _dispatcher().resume(campaign_id, account, actor)
